"""What the ledger's stores hold. Each record has one byte form (docs/spec/state.md) that its leaf commits to."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, overload

import msgspec

from aitbc.core.types.amounts import Amount, AmountOrZero, Milliseconds, Units
from aitbc.core.types.blocks import CommittedBlock, Validator

STORES = ("accounts", "receipts", "locks", "validators", "registry", "params")
"""In the order in which `state_root` covers them; `registry` holds providers and hubs."""

LockStatus = Literal["open", "settled", "refunded", "synthetic", "auditing", "disputed", "rejected"]
"""The last three belong to audits, which no transaction starts yet (docs/spec/escrow.md)."""

Role = Literal["validator", "provider", "hub"]


class Account(msgspec.Struct, frozen=True, gc=False):
    balance: int
    nonce: int
    auth: bytes
    """Scheme byte and public key; empty until the account has signed something."""


class Lock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Money a client has set aside for the work of one hub. Key: the id of the JOB_LOCK.

    Fields with a default came with version 2 and are left out of the bytes when they have it; so in every record.
    """

    client: str
    hub: str
    job_id: str
    amount: AmountOrZero
    paid: AmountOrZero
    tasks: int
    """How many tasks it can pay for; each pays once."""
    paid_tasks: str
    """Hexadecimal bit set: bit i is set when task i was paid."""
    request_hash: str
    deliver_by_ms: Milliseconds
    claim_until_ms: Milliseconds
    height: int
    status: LockStatus
    session: bool = False
    """It pays receipts of many jobs; `job_id` is then a label only."""
    closed_ms: Milliseconds = 0
    """Block time at which it was settled or refunded."""


class ReceiptRecord(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A receipt that was claimed. Key: its `receipt_id`."""

    job_id: str
    client: str
    provider: str
    hub: str
    units: Units
    price: AmountOrZero
    output_hash: str
    details_hash: str
    lock: str
    task: int
    attempt: int
    minted: AmountOrZero
    """To the provider, in base units."""
    height: int
    claimed_ms: Milliseconds = 0
    """Block time of the claim."""


class Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A hub's word for many receipts at once. Key, in the store of receipts: `batch:<id of the RECEIPT_BATCH>`."""

    hub: str
    root: str
    """Hexadecimal `list_root` over the receipts' leaves."""
    count: int
    height: int
    expires_ms: Milliseconds
    """Nothing of it is settled after this block time."""


class ModelOffer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model a provider serves and its asking price in base units for 1,000 compute units."""

    model: str
    kind: str
    price_per_kilounit: AmountOrZero
    digest: str = ""


class Registration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A provider or a hub. Key: `<role>:<address>`."""

    role: Literal["provider", "hub"]
    models: list[ModelOffer]
    endpoint: str
    payout: str
    """Where the price and the mint go; the provider's own address unless it says otherwise."""
    validator: str
    """The validator its compute counts for; empty for none."""
    height: int
    epoch: int = 0
    """The epoch that `epoch_units` counts."""
    epoch_units: int = 0
    """Compute units that have counted for the validator in that epoch."""
    calibrated_epoch: int = 0
    """The epoch of its latest calibration receipt; 0 for none."""


class Unbonding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stake on its way out; it can still be slashed."""

    amount: Amount
    free_ms: Milliseconds
    """WITHDRAW pays it out at this block time or later."""


class Bond(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a validator, provider or hub answers with. Key, in the registry: `bond:<role>:<address>`."""

    amount: AmountOrZero
    unbonding: list[Unbonding]
    jailed_until_ms: Milliseconds
    """Until this block time: no member of the validator set, no mint for its receipts."""
    epoch: int
    """The epoch that `minted` counts."""
    minted: int
    """Base units minted in that epoch on a hub's word."""
    offences: int = 0
    """How often its owner was punished."""


class OldKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str
    """Key text."""
    until_height: int
    """The height of the KEY_ROTATE: locks up to this height know this key."""
    until_ms: Milliseconds
    """Its block time: when no lock of that time can be open any more, the key is forgotten."""


class KeyHistory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys that an account has had, the oldest first. Key, in the registry: `keys:<address>`."""

    keys: list[OldKey]


class Offence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was punished, so that it is punished once. Key, in the registry: `offence:<hash of what was done>`."""

    offender: str
    height: int
    expires_ms: Milliseconds
    """After this block time nobody can bring it up again; 0: the mark stays."""


class ValidatorRecord(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A member of the validator set. Key: its address."""

    auth_key: str
    power: AmountOrZero
    """Votes; 0: jailed, keeps its place."""
    position: int
    """Order in the set."""
    turns: int = 0
    """Where it stands among those who take weighed turns to propose, when the epoch began (elector.py)."""


class Score(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compute that counts for a validator. Key, in the store of validators: `score:<address>`."""

    score: int
    """Of closed epochs, decayed at each boundary."""
    units: int
    """Of the running epoch."""


class Param(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One chain parameter or counter. Totals can exceed 2^53 − 1, so every value is text."""

    value: str


Record = (
    Account
    | ReceiptRecord
    | Batch
    | Lock
    | ValidatorRecord
    | Score
    | Registration
    | Bond
    | KeyHistory
    | Offence
    | Param
)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a block did to one record: made, changed or removed it."""

    store: str
    key: str
    index: int
    """Place of its leaf in the store's tree; of a removed record, the place it had."""
    record: Record | None
    """None: removed."""
    data: bytes
    """The record's canonical bytes; empty when removed."""
    before: bytes | None
    """Its bytes before the block; None: it was not there."""


class HistoryNode(msgspec.Struct, frozen=True, array_like=True):
    """A node of the mountain range over header hashes: node `position` of `level` covers the heights
    position · 2^level … (position + 1) · 2^level − 1."""

    level: int
    position: int
    hash: bytes


class PaidReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt that a block paid, alone or out of a batch: history for readers, not part of the state."""

    receipt_id: str
    tx_position: int
    """Position in the block of the transaction that paid it."""
    job_id: str
    client: str
    provider: str
    hub: str
    units: Units
    price: AmountOrZero
    minted: AmountOrZero
    """To the provider, in base units."""
    output_hash: str
    """Empty for a receipt of a batch: its leaf does not carry it."""
    provider_sig: str
    """Hexadecimal; empty for a receipt of a batch."""
    lock: str
    task: int
    attempt: int


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One block with everything that a store writes of it."""

    block: CommittedBlock
    changes: list[Change]
    history: list[HistoryNode]
    """Nodes that became complete by appending the parent's hash."""
    receipts: list[PaidReceipt]
    validators: list[Validator]
    """The set after this block, when it is another than before it; else empty."""


class StoredRows(Sequence[tuple[int, str, bytes]]):
    """(slot in the tree, key, record bytes) of one store, ordered by slot.

    Kept in columns, so that a million rows are not a million tuples beside the state that is made of them.
    """

    def __init__(self, rows: Iterable[tuple[int, str, bytes]] = ()) -> None:
        self._slots, self._keys, self._values = array("q"), list[str](), list[bytes]()
        for slot, key, value in rows:
            self._slots.append(slot)
            self._keys.append(key)
            self._values.append(value)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[tuple[int, str, bytes]]:
        return zip(self._slots, self._keys, self._values, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, at: int) -> tuple[int, str, bytes]: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[tuple[int, str, bytes]]: ...

    def __getitem__(self, at: int | slice) -> tuple[int, str, bytes] | Sequence[tuple[int, str, bytes]]:
        if isinstance(at, int):
            return self._slots[at], self._keys[at], self._values[at]
        return list(zip(self._slots[at], self._keys[at], self._values[at], strict=True))


class StoredChain(msgspec.Struct, frozen=True, kw_only=True):
    """What a store knows when a node starts: the state at `head` and where it stopped."""

    genesis_hash: bytes
    head: CommittedBlock
    history_peaks: list[tuple[int, bytes]]
    records: dict[str, StoredRows]
    """By store name."""
    before_head: list[tuple[str, str, bytes | None]]
    """(store, key, record bytes before the head's block; None: not there) of what that block changed."""
