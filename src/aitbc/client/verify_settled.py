"""What a SETTLE and its RECEIPT_BATCH say of one receipt, from their payloads alone. docs/spec/batches.md

Nothing here asks whether the transactions are signed, in a block or executed: `verify` does.
"""

from typing import Annotated, NamedTuple

import msgspec

from aitbc.core.codec.canonical import parse_json, unhex
from aitbc.core.codec.leaves import LEAF, ROUTED, Leaf, check_leaves, committed_leaves, leaf_bytes_of
from aitbc.core.crypto.merkle import range_root
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.receipts import Attestation
from aitbc.core.types.transactions import Outcome, Transaction

MAX_PAYLOAD = 64 * 1024
"""The chain takes 16 KiB."""
MOST_IN_TABLE = 256

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]


class _Settle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    batch: str
    start: Count
    locks: Annotated[list[str], msgspec.Meta(max_length=MOST_IN_TABLE)]
    providers: Annotated[list[str], msgspec.Meta(max_length=MOST_IN_TABLE)]
    leaves: str
    proof: Annotated[list[str], msgspec.Meta(max_length=40)]


class _Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    root: str
    count: Count


class Settled(NamedTuple):
    """A receipt's leaf in the range that a SETTLE pays."""

    batch: str
    """Id of the RECEIPT_BATCH."""
    place: int
    """In the batch."""
    leaf: Leaf
    lock: str
    provider: str
    committed: list[bytes]
    """What the root covers of the range's leaves."""
    start: int
    proof: list[bytes]

    @property
    def skipped_as(self) -> str:
        """How the key of an event begins that says that this leaf was not paid."""
        return f"{self.place}:"


def settled_leaf(settle: Transaction, receipt_id: str) -> Settled:
    """The leaf of a receipt in a SETTLE; Rejected when it has none, or two."""
    payload = parse_json(settle.payload, _Settle, limit=MAX_PAYLOAD)
    raw = leaf_bytes_of(payload.leaves)
    check_leaves(raw, locks=len(payload.locks), providers=len(payload.providers))
    leaves = [Leaf(*fields) for fields in LEAF.iter_unpack(raw)]
    wanted = unhex(receipt_id.removeprefix("rcpt_"), size=32)
    places = [at for at, leaf in enumerate(leaves) if leaf.receipt == wanted]
    if len(places) != 1:
        raise Rejected(Reason.BAD_PROOF, f"the SETTLE has {len(places)} leaves of this receipt")
    leaf = leaves[places[0]]
    return Settled(
        batch=payload.batch,
        place=payload.start + places[0],
        leaf=leaf,
        lock=payload.locks[leaf.lock],
        provider=payload.providers[leaf.provider],
        committed=committed_leaves(
            raw,
            [unhex(lock, size=32) for lock in payload.locks],
            [provider.encode() for provider in payload.providers],
        ),
        start=payload.start,
        proof=[unhex(node, size=32) for node in payload.proof],
    )


def difference(settled: Settled, attestation: Attestation) -> str:
    """What of the leaf is not what the hub attested; empty when all of it is."""
    leaf = settled.leaf
    pairs = {
        "lock": (settled.lock, attestation.lock),
        "provider": (settled.provider, attestation.provider),
        "task": (leaf.task, attestation.task),
        "attempt": (leaf.attempt, attestation.attempt),
        "routed": (ROUTED[leaf.routed], attestation.routed),
        "units": (leaf.units, attestation.units),
        "price": (leaf.price, attestation.price),
    }
    for name, (paid, attested) in pairs.items():
        if paid != attested:
            return f"{name}: the leaf says {paid!r}, the attestation {attested!r}"
    return ""


def refusal(settled: Settled, outcome: Outcome) -> str:
    """Why the chain skipped this leaf; empty when it paid it."""
    for kind, key, _ in outcome.events:
        if kind == "skipped" and key.startswith(settled.skipped_as):
            return key.removeprefix(settled.skipped_as)
    return ""


def paid_with(settled: Settled, outcome: Outcome) -> int:
    """How many leaves of the range were paid."""
    return len(settled.committed) - sum([kind == "skipped" for kind, _, _ in outcome.events])


def leaves_of(settled: Settled, batch: Transaction) -> int:
    """How many receipts the batch commits to; Rejected when the range is not in its root."""
    payload = parse_json(batch.payload, _Batch, limit=MAX_PAYLOAD)
    root = range_root(settled.committed, start=settled.start, count=payload.count, path=settled.proof)
    if root != unhex(payload.root, size=32):
        raise Rejected(Reason.BAD_PROOF, "the leaf is not under the batch's root")
    return payload.count
