"""What the hub keeps of a job, of its parts, of their attempts and of their receipts."""

from typing import Any

import msgspec

from aitbc.core.jobs.draw import Candidate
from aitbc.core.jobs.fairness import JobClass
from aitbc.core.jobs.lifecycle import State
from aitbc.core.jobs.matching import NO_WISHES, Wishes
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
    parts: list[dict[str, Any]] = []
    """The requests of its parts, when there are several; else `request` is its only one."""
    job_class: int = JobClass.NORMAL
    wishes: Wishes = NO_WISHES
    weight_milli: int = 1_000
    """The client's share of the queue."""
    account: str = ""
    """Whose balance or session pays; empty when the client locks money for this job."""
    calibrates: bool = False
    """Drawn by the chain for one provider: no lock, no price, and the claim mints from the calibration budget."""

    @property
    def payer(self) -> str:
        """Whose share of the queue it takes."""
        return self.account or self.client

    @property
    def requests(self) -> list[dict[str, Any]]:
        """Of its parts, in order."""
        return self.parts or [self.request]

    def lock_terms(self, hub: str) -> dict[str, Any]:
        """The JOB_LOCK payload for the client to sign. A lock holds at least one base unit."""
        terms = {
            "hub": hub,
            "job_id": self.job_id,
            "amount": max(1, self.price),
            "request_hash": self.request_hash,
            "deliver_by_ms": self.deliver_by_ms,
            "claim_until_ms": self.claim_until_ms,
        }
        return {**terms, "tasks": len(self.parts)} if self.parts else terms


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is on disk."""

    quote: Quote
    state: State
    reason: str
    """Why it ended as it did, or why its last attempt failed; a `JobReason` or empty."""
    message: str
    lock: str
    """Empty until a lock was accepted."""
    first_task: int
    """The number in the lock of this job's first part: 0, but for jobs that share a session's lock."""
    randomness: bytes
    """Hash of the block that holds the lock."""
    attempts: int
    """How many were begun, at most, for one of its parts."""


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a job that is to be queued."""

    part: int
    cap: str
    """Who can do it: the model."""
    job_class: int
    vfinish: int
    """Its place within the class, `core.jobs.fairness`."""
    units: int


class NewReservation(msgspec.Struct, frozen=True, kw_only=True):
    """A quote whose money is set aside: from here on the job waits for providers."""

    job_id: str
    lock: str
    first_task: int
    randomness: bytes
    tasks: list[NewTask]
    deliver_by_ms: int
    owner: str
    """The process that has it in its index; empty: whoever asks."""
    at_ms: int


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a job as it is on disk."""

    seq: int
    job_id: str
    part: int
    cap: str
    job_class: int
    vfinish: int
    state: State
    reason: str
    message: str
    attempts: int
    """How many were begun: the number of the next one, and its fencing token."""
    units: int


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt and the draw that chose its provider."""

    offer: Offer
    part: int
    table: list[Candidate]
    randomness: bytes
    reason: str
    """Why it failed; empty while it runs and when it delivered."""


class NewAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """A lease: written down before the provider hears of it."""

    record: AttemptRecord
    owner: str
    at_ms: int
    hedge: bool = False
    """A second attempt beside one that runs."""


class TaskChange(msgspec.Struct, frozen=True, kw_only=True):
    """Where something that happened leaves a part, and its job."""

    job_id: str
    part: int
    owner: str
    state: State
    job_state: State | None
    """None: what all its parts make of it."""
    at_ms: int
    reason: str = ""
    message: str = ""
    ended_attempt: int = -1
    """The attempt that failed; −1: none did."""


class ReceiptEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An attested receipt: from here on the provider is owed money."""

    receipt_id: str
    job_id: str
    part: int
    provider: str
    provider_pubkey: str
    delivery: Delivery
    signed: SignedAttestation
    claim_until_ms: int
    claim_tx: str
    """Id of the newest claim or settlement sent; empty before."""
    state: str
    """`attested`, `claimed` (final on the chain) or `lapsed` (claim_until passed first)."""
    batch: str = ""
    """Id of the RECEIPT_BATCH that commits to it; empty: it is claimed alone."""
    leaf: int = 0
    """Its place in that batch."""


class NewDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A checked and attested delivery with its bytes."""

    entry: ReceiptEntry
    data: bytes
    owner: str
    attempt: int
    job_state: State | None
    at_ms: int
