"""That a transaction and its outcome are in a block: Merkle proofs, of which each block's nodes are made once. A block
of 9,000 transactions takes 0.4 s to read and hash. docs/spec/rpc.md"""

import asyncio
from collections import OrderedDict
from typing import Any, NamedTuple

from aitbc.adapters.storage.rows import MEND
from aitbc.core.codec.digests import envelope_id, outcome_leaf
from aitbc.core.codec.views import certificate_to_plain, header_to_plain
from aitbc.core.crypto.merkle import ListNodes, ListProof, check_item
from aitbc.node.runtime import NodeRuntime
from aitbc.ports import StorageError, Store, StoredHead, StoredTransaction

Json = dict[str, Any]

MAX_BYTES = 64 * 1024 * 1024
"""Of nodes: 128 bytes for each transaction, so those of fifty blocks of 10,000."""
ENTRY_BYTES = 1024
"""What a block is counted with beside its nodes; one of a single transaction has none."""


class BlockNodes(NamedTuple):
    txs: ListNodes
    outcomes: ListNodes

    @property
    def size(self) -> int:
        return ENTRY_BYTES + self.txs.size + self.outcomes.size


class BlockProofs:
    """Proofs of committed transactions; remembers the nodes of the blocks that were asked for last."""

    def __init__(self, runtime: NodeRuntime) -> None:
        self._runtime = runtime
        self._known: OrderedDict[bytes, BlockNodes] = OrderedDict()
        """By block hash, the one that was not asked for longest first."""
        self._bytes = 0
        self._being_made: dict[bytes, asyncio.Task[BlockNodes]] = {}
        """Who asks for a block that somebody waits for waits with them."""

    async def prove(self, stored: StoredTransaction, head: StoredHead) -> Json:
        """`head`: of the block that the transaction is in. Refused when too many other blocks are being read."""
        nodes = await self._nodes(head.hash)
        wid = envelope_id(stored.outcome.tx_id, stored.tx)
        txs, outcomes = nodes.txs.prove(stored.position), nodes.outcomes.prove(stored.position)
        if not (
            check_item(head.header.txs_root, wid, txs)
            and check_item(head.header.outcomes_root, outcome_leaf(stored.outcome), outcomes)
        ):
            raise _misplaced(stored)
        return {
            "header": header_to_plain(head.header, head.hash),
            "certificate": certificate_to_plain(head.certificate) if head.certificate else None,
            "txProof": _plain(txs),
            "outcomeProof": _plain(outcomes),
        }

    async def _nodes(self, block_hash: bytes) -> BlockNodes:
        known = self._known.get(block_hash)
        if known is not None:
            self._known.move_to_end(block_hash)
            return known
        task = self._being_made.get(block_hash)
        if task is None:
            task = self._being_made[block_hash] = asyncio.create_task(self._make(block_hash))
            task.add_done_callback(lambda _: self._being_made.pop(block_hash))
        return await asyncio.shield(task)

    async def _make(self, block_hash: bytes) -> BlockNodes:
        nodes = await self._runtime.read_much(lambda: make_nodes(self._runtime.store, block_hash))
        self._known[block_hash] = nodes
        self._bytes += nodes.size
        while self._bytes > MAX_BYTES and len(self._known) > 1:
            self._bytes -= self._known.popitem(last=False)[1].size
        return nodes


def make_nodes(store: Store, block_hash: bytes) -> BlockNodes:
    """Reads, checks and hashes a whole block."""
    block = store.block_by_hash(block_hash)
    if block is None or not block.outcomes:
        raise StorageError(f"block {block_hash.hex()} on disk is damaged (its transactions are gone); {MEND}")
    pairs = zip(block.block.txs, block.outcomes, strict=True)
    return BlockNodes(
        ListNodes([envelope_id(outcome.tx_id, tx) for tx, outcome in pairs]),
        ListNodes([outcome_leaf(outcome) for outcome in block.outcomes]),
    )


def _misplaced(stored: StoredTransaction) -> StorageError:
    name = stored.outcome.tx_id.hex()
    return StorageError(
        f"transaction {name} on disk is damaged (block {stored.height} does not have it); {MEND}"
    )


def _plain(proof: ListProof) -> Json:
    return {"index": proof.index, "count": proof.count, "path": [node.hex() for node in proof.path]}
