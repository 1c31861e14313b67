"""Disks that tear and lose what was not safe: the log and the signer guard, and beside them what was committed."""

import random

from aitbc.core.consensus.simplex.guard import HALF_BYTES, Guard, encode_half
from aitbc.core.consensus.simplex.wal import MARK_BYTES, log_head
from aitbc.sim.blocks import GENESIS, GENESIS_BLOCK_HASH, OpaqueBlock, Stored

MARK = bytes(range(256 - MARK_BYTES, 256))
"""Of every log: nobody here tries to write another's frames."""


class Disk:
    """Outlives its node. What is `safe` survives a crash; the rest of the log survives in part, or not."""

    def __init__(self, genesis_hash: bytes) -> None:
        self.log = log_head(genesis_hash, MARK)
        self.safe = len(self.log)
        self.guard: list[bytes] = [encode_half(Guard(genesis_hash=genesis_hash))] * 2

    @property
    def guard_file(self) -> bytes:
        return self.guard[0].ljust(HALF_BYTES, b"\0") + self.guard[1].ljust(HALF_BYTES, b"\0")

    def sync(self) -> None:
        self.safe = len(self.log)

    def crash(self, draw: random.Random) -> None:
        """Of what was not safe, any first part is left."""
        self.log = self.log[: draw.randrange(self.safe, len(self.log) + 1)]
        self.safe = len(self.log)

    def tear(self, half: int, new: bytes, draw: random.Random) -> None:
        """A write of half the guard that did not come to its end."""
        old = self.guard[half].ljust(len(new), b"\0")
        cut = draw.randrange(len(new))
        self.guard[half] = new[:cut] + old[cut:]


class ChainDisk(Disk):
    """With opaque blocks, and the chain of those that are final."""

    def __init__(self, genesis_hash: bytes) -> None:
        super().__init__(genesis_hash)
        self.blocks: dict[bytes, OpaqueBlock] = {}
        self.chain: list[Stored] = [Stored(GENESIS, GENESIS_BLOCK_HASH, None)]
