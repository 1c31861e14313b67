"""Leads with blocks in which somebody pays who has not signed: no state makes that valid, so it can be proved."""

from typing import Any

import msgspec

from aitbc.core.types.blocks import Block
from aitbc.sim.actors.invalid_receipt import with_transactions
from aitbc.sim.actors.spoiling import Spoiler
from aitbc.sim.ledger import CUSTOMERS, HUB, signed


class InvalidTransactionLeader(Spoiler):
    def spoil(self, block: Block) -> Block | None:
        cluster: Any = self.cluster
        who, to = CUSTOMERS[0], CUSTOMERS[1]
        nonce = cluster.view.account(who.address).nonce + 1
        payload = {"to": to.address, "amount": 1}
        tx_id, tx = signed(who, "TRANSFER", nonce, payload, genesis_hash=cluster.genesis_hash)
        forged = msgspec.structs.replace(tx, sig=HUB.sign(tx_id))
        return None if forged in block.txs else with_transactions(self, block, [*block.txs, forged])
