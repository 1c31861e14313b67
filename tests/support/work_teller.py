"""A node's answers about a chain that agrees by work, without HTTP; `twist` makes it tell something else."""

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

from aitbc.client.errors import ApiError
from aitbc.core.codec.canonical import unhex
from aitbc.core.types.blocks import Block
from aitbc.node.block_proofs import make_nodes
from aitbc.node.history import MAX_PAGE, blocks_between, transaction_view
from aitbc.node.proofs import prove_ancestor, prove_record
from support.work_host import Host

Json = dict[str, Any]
Twist = Callable[[str, Json], Any]


class WorkTeller:
    """What `SyncHttp.perform` gets from a node that has these blocks."""

    def __init__(
        self, document: bytes, blocks: Sequence[Block], twist: Twist = lambda _, answer: answer
    ) -> None:
        self.host = Host(document)
        self.twist = twist
        self.asked: list[str] = []
        self.take(blocks)

    def take(self, blocks: Sequence[Block]) -> None:
        self.host.show(*blocks)

    def perform(self, call: Any) -> Any:
        self.asked.append(call.path)
        parts = [unquote(part) for part in call.path.split("/")[2:]]
        answer = json.loads(json.dumps(self._answer(parts, call.query)))
        return call.read(self.twist(call.path, copy.deepcopy(answer)))

    def _answer(self, parts: list[str], query: Any) -> Json:
        executor, store = self.host.executor, self.host.store
        match parts:
            case ["blocks-range"]:
                start, end = query["start"], query["end"]
                assert 0 <= end - start < MAX_PAGE
                return blocks_between(store, start, min(end, self.host.head.height))
            case ["proof", "history", height]:
                return prove_ancestor(executor, store, int(height))
            case ["proof", name, key]:
                return prove_record(executor, store, name, key, query.get("height"))
            case ["getTx", tx_id]:
                return self._transaction(unhex(tx_id))
        raise AssertionError(parts)

    def _transaction(self, tx_id: bytes) -> Json:
        stored = self.host.store.transaction(tx_id)
        if stored is None:
            if self.host.replica.mempool.get(tx_id) is not None:
                return {"status": "pending", "txHash": tx_id.hex(), "proof": None}
            raise ApiError("unknown_transaction", tx_id.hex(), status=404)
        (block,) = blocks_between(self.host.store, stored.height, stored.height)["items"]
        nodes = make_nodes(self.host.store, bytes.fromhex(block["hash"]))
        places = {
            name: {
                "index": proof.index,
                "count": proof.count,
                "path": [node.hex() for node in proof.path],
            }
            for name, proof in (
                ("txProof", nodes.txs.prove(stored.position)),
                ("outcomeProof", nodes.outcomes.prove(stored.position)),
            )
        }
        return {**transaction_view(stored, {}), "proof": {"header": block, "certificate": None, **places}}


class AsyncWorkTeller(WorkTeller):
    async def perform(self, call: Any) -> Any:  # type: ignore[override]
        return super().perform(call)
