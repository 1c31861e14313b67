"""What the ledger's stores hold. Each record has one byte form (docs/spec/state.md) that its leaf commits to."""

from typing import Literal

import msgspec

from aitbc.core.types.amounts import Amount, AmountOrZero, Milliseconds, Units
from aitbc.core.types.blocks import CommittedBlock

STORES = ("accounts", "receipts", "locks", "validators", "registry", "params")
"""In the order in which `state_root` covers them; `registry` holds providers and hubs."""


class Account(msgspec.Struct, frozen=True):
    balance: int
    nonce: int
    auth: bytes
    """Scheme byte and public key; empty until the account has signed something."""


class Lock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Money a client has set aside for the work of one hub. Key: the id of the JOB_LOCK."""

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
    status: Literal["open", "settled", "refunded", "synthetic"]


class ReceiptRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


class ModelOffer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model a provider serves and its asking price in base units for 1,000 compute units."""

    model: str
    kind: str
    price_per_kilounit: AmountOrZero
    digest: str = ""


class Registration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider or a hub. Key: `<role>:<address>`."""

    role: Literal["provider", "hub"]
    models: list[ModelOffer]
    endpoint: str
    payout: str
    """Where the price and the mint go; the provider's own address unless it says otherwise."""
    validator: str
    """The validator its compute counts for; empty for none."""
    height: int


class ValidatorRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member of the validator set. Key: its address."""

    auth_key: str
    power: Amount
    position: int
    """Order in the set."""


class Param(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One chain parameter or counter. Totals can exceed 2^53 − 1, so every value is text."""

    value: str


Record = Account | Lock | ReceiptRecord | Registration | ValidatorRecord | Param


class Change(msgspec.Struct, frozen=True):
    """A record after a block, for the store to write."""

    store: str
    index: int
    """Position of its leaf in the store's tree."""
    key: str
    record: Record
    data: bytes
    """The record's canonical bytes."""


class StoredChain(msgspec.Struct, frozen=True, kw_only=True):
    """What a store knows when a node starts: the state at `head` and where it stopped."""

    genesis_hash: bytes
    head: CommittedBlock
    history_peaks: list[tuple[int, bytes]]
    records: dict[str, list[tuple[int, str, bytes]]]
    """Per store name: (index in the tree, key, record bytes), ordered by index."""
