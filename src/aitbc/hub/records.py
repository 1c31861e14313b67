"""What the hub keeps of a job, of its attempts and of its receipts."""

from typing import Any

import msgspec

from aitbc.core.jobs.draw import Candidate
from aitbc.core.jobs.lifecycle import State
from aitbc.core.jobs.receipts import Delivery, Offer
from aitbc.core.types.receipts import SignedAttestation


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub promised; never changes."""

    job_id: str
    token_hash: str
    client: str
    kind: str
    model: str
    request: dict[str, Any]
    request_hash: str
    units: int
    """Worst case."""
    price_per_kilounit: int
    """The dearest provider that may be drawn."""
    price: int
    """Worst case; what the lock must hold."""
    deliver_by_ms: int
    claim_until_ms: int
    expires_ms: int
    created_ms: int
    first_task: int = 0
    """Place in the lock that pays: 0 for a lock of its own, one of many for a session."""
    account: str = ""
    """Whose balance or session pays; empty when the client locks money for this job."""

    def lock_terms(self, hub: str) -> dict[str, Any]:
        """The JOB_LOCK payload for the client to sign. A lock holds at least one base unit."""
        return {
            "hub": hub,
            "job_id": self.job_id,
            "amount": max(1, self.price),
            "request_hash": self.request_hash,
            "deliver_by_ms": self.deliver_by_ms,
            "claim_until_ms": self.claim_until_ms,
        }


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is on disk."""

    quote: Quote
    state: State
    reason: str
    """Why it ended as it did, or why its last attempt failed; a `JobReason` or empty."""
    message: str
    lock: str
    """Empty until a lock was accepted; of a session the job has one place, `quote.first_task`."""
    randomness: bytes
    """Hash of the block that holds the lock."""
    attempts: int
    """How many were begun."""


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt and the draw that chose its provider."""

    offer: Offer
    table: list[Candidate]
    randomness: bytes
    reason: str
    """Why it failed; empty while it runs and when it delivered."""


class ReceiptEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An attested receipt: from here on the provider is owed money."""

    receipt_id: str
    job_id: str
    provider: str
    provider_pubkey: str
    delivery: Delivery
    signed: SignedAttestation
    claim_until_ms: int
    claim_tx: str
    """Id of the newest claim sent; empty before."""
    state: str
    """`attested`, `claimed` (final on the chain) or `lapsed` (claim_until passed first)."""
