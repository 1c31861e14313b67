"""Leads with blocks in which somebody pays who has not signed, and everything else is right: no state makes that valid,
so it can be proved."""

from typing import Any

import msgspec

from aitbc.core.ledger.admission import check_form
from aitbc.core.types.blocks import Block
from aitbc.sim.actors.spoiling import Spoiler
from aitbc.sim.ledger import CUSTOMERS, HUB, signed


class InvalidTransactionLeader(Spoiler):
    def spoil(self, block: Block) -> Block | None:
        liar: Any = self
        cluster: Any = self.cluster
        payer, to = CUSTOMERS[0], CUSTOMERS[1]
        nonce = cluster.view.account(payer.address).nonce + 1
        payload = {"to": to.address, "amount": 1}
        tx_id, tx = signed(payer, "TRANSFER", nonce, payload, genesis_hash=cluster.genesis_hash)
        forged = msgspec.structs.replace(tx, sig=HUB.sign(tx_id))
        if forged in block.txs:
            return None
        believed = check_form(forged, cluster.genesis_hash).verified(is_good=True)
        spoiled: Block | None = liar.block_with(block, [believed])
        return spoiled
