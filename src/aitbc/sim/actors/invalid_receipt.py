"""Leads with blocks in which a receipt is paid that its provider did not sign."""

from typing import Any

import msgspec

from aitbc.core.codec.digests import wid_of
from aitbc.core.crypto.merkle import list_root
from aitbc.core.types.blocks import Block
from aitbc.core.types.transactions import Transaction
from aitbc.sim.actors.spoiling import Spoiler
from aitbc.sim.clients import claim_of
from aitbc.sim.ledger import HUB, signed


class InvalidReceiptLeader(Spoiler):
    def spoil(self, block: Block) -> Block | None:
        cluster: Any = self.cluster
        locks = cluster.locks()
        if not locks:
            return None
        key, lock = locks[0]
        kind, payload, witness = claim_of(key, lock, cluster.genesis_hash, forged=True)
        nonce = cluster.view.account(HUB.address).nonce + 1
        _, claim = signed(HUB, kind, nonce, payload, genesis_hash=cluster.genesis_hash, witness=witness)
        return with_transactions(self, block, [claim])


def with_transactions(liar: Any, block: Block, txs: list[Transaction]) -> Block:
    """A block of other transactions, whose root at least is theirs."""
    wids = [wid_of(tx, liar.cluster.genesis_hash) for tx in txs]
    return Block(msgspec.structs.replace(block.header, txs_root=list_root(wids)), txs)
