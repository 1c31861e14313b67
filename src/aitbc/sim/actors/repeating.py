"""Leads with blocks that hold a transaction twice, or one that an earlier block holds."""

from typing import Any

from aitbc.core.types.blocks import Block
from aitbc.sim.actors.invalid_receipt import with_transactions
from aitbc.sim.actors.spoiling import Spoiler


class RepeatingLeader(Spoiler):
    def spoil(self, block: Block) -> Block | None:
        if block.txs and self.cluster.draw.randrange(2):
            return with_transactions(self, block, [*block.txs, block.txs[0]])
        liar: Any = self
        for height in range(liar.height, 0, -1):
            committed = liar.disk.store.block_by_height(height)
            if committed is not None and committed.block.txs:
                return with_transactions(self, block, [*block.txs, committed.block.txs[0]])
        return None
