"""Blocks as agreement sees them: a hash, a parent, a height, a time, and whether they are valid."""

from hashlib import sha256

import msgspec

from aitbc.core.types.blocks import ZERO_HASH, Certificate
from aitbc.core.types.reasons import Reason

START_MS = 1_760_000_000_000


class OpaqueBlock(msgspec.Struct, frozen=True, array_like=True):
    parent: bytes
    height: int
    timestamp_ms: int
    proposer: str
    txs: tuple[int, ...]
    is_valid: bool
    """What execution will say: the ledger of this world."""

    @property
    def hash(self) -> bytes:
        return sha256(msgspec.msgpack.encode(self)).digest()


GENESIS = OpaqueBlock(ZERO_HASH, 0, START_MS, "", (), True)
GENESIS_BLOCK_HASH = GENESIS.hash


class Stored(msgspec.Struct, frozen=True):
    """A block on disk; without a certificate of its own when a descendant's made it final."""

    block: OpaqueBlock
    hash: bytes
    certificate: Certificate | None


def judge(block: OpaqueBlock, parent: OpaqueBlock, parent_hash: bytes) -> Reason | None:
    """Why a block is no valid child of its parent."""
    if block.parent != parent_hash:
        return Reason.WRONG_PARENT
    if block.height != parent.height + 1:
        return Reason.WRONG_HEIGHT
    if block.timestamp_ms <= parent.timestamp_ms:
        return Reason.BAD_TIMESTAMP
    return None if block.is_valid else Reason.ROOT_MISMATCH
