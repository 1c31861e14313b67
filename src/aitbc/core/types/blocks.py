"""Headers, blocks, votes and finality certificates. docs/spec/blocks.md, docs/spec/finality.md"""

import msgspec

from aitbc.core.types.transactions import Outcome, Transaction

PROTOCOL_VERSION = 2
"""The newest that this release knows; which one a height has is in the parameters (`activations`)."""
MAX_EXTRA_BYTES = 256
"""ccoin's block data."""
MAX_BLOCK_TXS = 20_000
MAX_BLOCK_BYTES = 4 * 1024 * 1024
ZERO_HASH = bytes(32)


class Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A block's header; its hash covers every field."""

    version: int
    chain_id: str
    height: int
    parent: bytes
    timestamp_ms: int
    proposer: str
    """Address; empty in the genesis header only."""
    txs_root: bytes
    outcomes_root: bytes
    state_root: bytes
    """After this block's transactions."""
    next_validators_hash: bytes
    history_root: bytes
    """Merkle mountain range over the headers 0 … height − 1."""
    extra: bytes
    seal: bytes
    """Empty under Simplex."""


class Block(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    header: Header
    txs: list[Transaction]


class Candidate(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A leader's proposal for one slot; the block itself does not know its slot."""

    epoch: int
    slot: int
    parent_slot: int
    parent_id: bytes
    block_hash: bytes


class Certificate(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Votes of a quorum for one statement about one candidate."""

    kind: str
    """`notar`, `skip` or `final`."""
    candidate: Candidate
    bitmap: int
    """Bit i: validator i of the epoch's set, in set order, has signed."""
    signatures: list[bytes]
    """In set order, one for each bit."""


class Validator(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    address: str
    auth_key: bytes
    power: int
    """Votes; compute never votes."""


class CommittedBlock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A finalised block with everything a store keeps of it. The genesis block has no certificate."""

    block: Block
    hash: bytes
    outcomes: list[Outcome]
    certificate: Certificate | None
