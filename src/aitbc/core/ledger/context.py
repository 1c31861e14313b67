"""What a transaction may know while it executes: the block it is in and the chain's parameters. No clock."""

from collections.abc import Callable, Sequence

import msgspec

from aitbc.core.crypto.schemes import verify
from aitbc.core.ledger.params import Params
from aitbc.core.types.amounts import MAX_SIGNED

Verifier = Callable[[bytes, bytes, bytes], bool]
"""(auth key, digest, signature) → is it good. A host may pass one that remembers."""
ManyVerifier = Callable[[Sequence[tuple[bytes, bytes, bytes]]], Sequence[bool]]
"""The same of many at once, in their order."""


class BlockContext(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    """Of the protocol, at this height."""
    chain_id: str
    genesis_hash: bytes
    height: int
    timestamp_ms: int
    """Of the block being executed; deadlines compare with this and nothing else."""
    proposer: str
    parent: bytes
    """Hash of the parent block."""
    epoch_length: int
    params: Params
    block_reward: int | None = None
    """Base units to the author, by the height alone; None on a chain without block rewards, the only kind whose
    receipts mint."""
    verify: Verifier = verify

    @property
    def epoch(self) -> int:
        """Number of the epoch that the block is in; block 1 begins epoch 0."""
        return self.epoch_of(self.height)

    def epoch_of(self, height: int) -> int:
        return (height - 1) // self.epoch_length

    def after(self, wait_ms: int) -> int:
        """Block time so much later; never more than a record can hold."""
        return min(self.timestamp_ms + wait_ms, MAX_SIGNED)

    @property
    def closes_epoch(self) -> bool:
        """Is this the last block of its epoch?"""
        return self.height % self.epoch_length == 0
