"""Leads with blocks that are larger than a block may be, but not too large for a message."""

from aitbc.core.types.blocks import MAX_BLOCK_BYTES, Block
from aitbc.core.types.transactions import Transaction
from aitbc.sim.actors.invalid_receipt import with_transactions
from aitbc.sim.actors.spoiling import Spoiler
from aitbc.sim.ledger import HUB

HUGE = Transaction("TRANSFER", HUB.address, 1, 0, b" " * MAX_BLOCK_BYTES, HUB.auth_key, b"")


class OversizeLeader(Spoiler):
    def spoil(self, block: Block) -> Block | None:
        return None if HUGE in block.txs else with_transactions(self, block, [*block.txs, HUGE])
