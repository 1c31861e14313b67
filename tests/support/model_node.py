"""A node as an account's sender sees it, slow and obvious: a chain, a pool, and every way to lose something."""

import random
from typing import Any

from aitbc.client.errors import ApiError, Unreachable
from aitbc.client.http import Call
from aitbc.core.codec.digests import transaction_id
from aitbc.core.codec.views import transaction_from_plain, transaction_to_plain
from aitbc.core.types.transactions import Transaction

Json = dict[str, Any]
GENESIS_HASH = b"g" * 32
MAX_PER_SENDER = 8
"""64 of a real node; small, so that tests meet it."""


class ModelNode:
    """One sender's transactions. Nothing happens by itself: `block` includes what is in order."""

    def __init__(self, chance: random.Random, *, knows_many: bool = True) -> None:
        self._chance = chance
        self.chain: list[Transaction] = []
        self.pool: dict[int, Transaction] = {}
        self.knows_many = knows_many
        self.trouble = 0.0
        """How often a request, an answer, or the node itself is lost."""
        self.calls = 0
        self.is_deep = True
        """No other branch can replace the blocks."""

    def perform(self, call: Call[Any]) -> Any:
        """The answer, or an error; in trouble each of them may come from a node that has done it or not."""
        self.calls += 1
        if self._chance.random() < self.trouble:
            raise Unreachable("model", "", "the request is lost")
        answer = self._answer(call)
        if self._chance.random() < self.trouble:
            self.kill()
        if self._chance.random() < self.trouble:
            raise Unreachable("model", "", "the answer is lost")
        return call.read(answer)

    def kill(self) -> None:
        """-9: what waited is gone, what is in a block is not."""
        self.pool.clear()

    def block(self) -> None:
        while (tx := self.pool.pop(len(self.chain) + 1, None)) is not None:
            self.chain.append(tx)
        self.pool = {nonce: tx for nonce, tx in self.pool.items() if nonce > len(self.chain)}

    @property
    def next_nonce(self) -> int:
        nonce = len(self.chain) + 1
        while nonce in self.pool:
            nonce += 1
        return nonce

    def _answer(self, call: Call[Any]) -> Any:
        parts = call.path.split("/")[2:]
        match [call.method, *parts]:
            case ["GET", "getHead"]:
                return {"genesisHash": GENESIS_HASH.hex()}
            case ["GET", "account", _, "transactions"]:
                newest = list(reversed([self._view(tx) for tx in self.chain]))
                start = int(call.query.get("cursor", 0))
                more = start + 5 < len(newest)
                return {"items": newest[start : start + 5], "next": str(start + 5) if more else None}
            case ["GET", "account", address]:
                return {
                    "address": address,
                    "balance": 1,
                    "nonce": len(self.chain),
                    "nextNonce": self.next_nonce,
                }
            case ["GET", "getTx", tx_id]:
                return self._look(tx_id)
            case ["POST", "estimateFee"]:
                return {"fee": 10}
            case ["POST", "sendTx"]:
                return self._take(transaction_from_plain(call.body))
            case ["POST", "sendTxs"] if self.knows_many:
                return {"items": [self._item(transaction_from_plain(body)) for body in call.body]}
        raise ApiError("not_found", call.path, status=404)

    def _item(self, tx: Transaction) -> Json:
        try:
            return self._take(tx)
        except ApiError as error:
            return {"txHash": _id(tx), "error": {"code": error.code, "detail": error.message, "fix": ""}}

    def _take(self, tx: Transaction) -> Json:
        tx_id, held = _id(tx), self.pool.get(tx.nonce)
        if tx_id in [_id(other) for other in (*self.chain, *self.pool.values())]:
            return {"txHash": tx_id, "known": True}
        if b"poor" in tx.payload:
            raise ApiError("fee_not_covered", "no money", status=400)
        if tx.nonce <= len(self.chain):
            raise ApiError("bad_nonce", "used", status=400)
        if held is None and len(self.pool) >= MAX_PER_SENDER:
            raise ApiError("too_many_pending", "full", status=400)
        if tx.nonce > len(self.chain) + MAX_PER_SENDER:
            raise ApiError("nonce_gap", "too far", status=400)
        if held is not None and tx.fee < held.fee * 1.1:
            raise ApiError("replacement_fee_too_low", "held", status=400)
        self.pool[tx.nonce] = tx
        return {"txHash": tx_id}

    def _look(self, tx_id: str) -> Json:
        for tx in self.chain:
            if _id(tx) == tx_id:
                return self._view(tx)
        if tx_id in [_id(tx) for tx in self.pool.values()]:
            return {"txHash": tx_id, "status": "pending"}
        raise ApiError("unknown_transaction", tx_id, status=404)

    def _view(self, tx: Transaction) -> Json:
        view = {"txHash": _id(tx), "tx": transaction_to_plain(tx), "receipt": {}}
        if self.is_deep:
            return {"status": "final", **view}
        return {"status": "included", **view, "final": False, "confirmations": 1}


def _id(tx: Transaction) -> str:
    return transaction_id(tx, GENESIS_HASH).hex()
