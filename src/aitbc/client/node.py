"""Talk to a node over its RPC: `NodeClient` and, with the same names, `AsyncNodeClient`.

Each route is one function below that returns a `Call`; the clients only differ in who waits. docs/spec/rpc.md
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from aitbc.client.errors import ApiError, ClientError, Unreachable
from aitbc.client.http import AsyncHttp, Call, SyncHttp
from aitbc.core.codec.canonical import unhex
from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import Transaction

__all__ = ["ApiError", "AsyncNodeClient", "NodeClient", "Unreachable"]

Json = dict[str, Any]

MAX_WAIT_S = 60
"""A node holds a waiting request no longer; ask again for more."""


class SendResult(NamedTuple):
    """What became of one transaction of many."""

    tx_id: str
    """Empty when the node could not even name it."""
    error: ApiError | None
    """None: it waits, or is final."""
    known: bool = False
    """The node had it before."""


class Page(NamedTuple):
    items: list[Json]
    next: str
    """Cursor of the page that follows; empty on the last."""


class OneChain:
    """The chain that a client is for, once it was told or has seen it."""

    expected_chain: bytes | None = None
    """Genesis hash. None: whatever chain the node says it is on."""

    def checked_chain(self, head: Json) -> bytes:
        found = _genesis_hash_of(head)
        if self.expected_chain not in (None, found):
            assert self.expected_chain is not None
            raise ClientError(
                "other_chain",
                f"the node is on the chain with genesis {found.hex()} and not on {self.expected_chain.hex()};"
                " nothing was signed",
                "ask a node of your chain with --rpc",
            )
        return found


class NodeClient(SyncHttp, OneChain):
    """A node's RPC, one method per route. Raises `ApiError` or `Unreachable`."""

    def genesis_hash(self) -> bytes:
        """What signatures are bound to; refuses a node of another chain than `expected_chain`."""
        return self.checked_chain(self.head())

    def health(self) -> Json:
        return self.perform(_health())

    def head(self) -> Json:
        """`height`, `hash`, `timestampMs`, `chainId`, `genesisHash` of the newest final block."""
        return self.perform(head_call())

    def genesis(self) -> Json:
        """The genesis document; its hash names the chain."""
        return self.perform(_genesis())

    def params(self) -> Json:
        return self.perform(_params())

    def supply(self) -> Json:
        return self.perform(_supply())

    def block(self, height_or_hash: int | str) -> Json:
        return self.perform(_block(height_or_hash))

    def account(self, address: str) -> Json:
        """`address`, `balance` and `nonce` as integers, `pubkey` ("" until the account has signed something).

        `nextNonce` is what its next transaction carries: nonce + 1, or more when the node says others wait.
        """
        return self.perform(account_call(address))

    def balance(self, address: str) -> int:
        """In base units."""
        return self.perform(_balance(address))

    def send(self, tx: Transaction) -> str:
        """Submit a transaction; returns its id. Sending the same one again is harmless."""
        return self.submit(tx).tx_id

    def submit(self, tx: Transaction) -> SendResult:
        """`send`, and whether the node had it already."""
        return self.perform(send_call(tx))

    def send_many(self, txs: Sequence[Transaction]) -> list[SendResult]:
        """Submit up to 1,000 at once; each has its answer, in order, and one bad one fails alone."""
        return self.perform(send_many_call(txs))

    def submit_receipt(self, tx: Transaction) -> str:
        """`send` for a RECEIPT_CLAIM: when it has no witness, the node asks the hub for the attestation."""
        return self.perform(send_call(tx, "/rpc/submitReceipt")).tx_id

    def transaction(
        self, tx_id: str, wait: str | None = None, timeout: float = 10, proof: bool = False
    ) -> Json:
        """Its status, outcome and proof; with `wait="final"`, or `"included"`, it answers then or after `timeout` s."""
        return self.perform(transaction_call(tx_id, wait, timeout, proof))

    def account_transactions(self, address: str, cursor: str = "") -> Page:
        """What an account has sent and what names it, the newest first."""
        return self.perform(account_transactions_call(address, cursor))

    def lock(self, lock_id: str) -> Json | None:
        return self.perform(_lock(lock_id))

    def receipt(self, receipt_id: str) -> Json | None:
        """What the chain keeps of a claimed receipt; None while nobody has claimed it."""
        return self.perform(_receipt(receipt_id))

    def registration(self, role: str, address: str) -> Json | None:
        """What an address has registered as a `provider` or a `hub`, or None."""
        return self.perform(_registration(role, address))

    def registry(self, role: str, after: str = "") -> list[Json]:
        """A page of registered providers (`provider`) or hubs (`hub`) in address order, after an address."""
        return self.perform(_registry(role, after))

    def validators(self, height: int | None = None) -> list[Json]:
        """The set that decides the block at a height, by default the next one."""
        return self.perform(_validators(height))

    def consensus(self) -> Json:
        """How agreement goes, as this node sees it."""
        return self.perform(_consensus())

    def peers(self) -> list[Json]:
        """The nodes that this one talks to."""
        return self.perform(_peers())

    def finality(self, height: int) -> Json:
        """Why a block is final; believe it after `aitbc.client.light` has checked it."""
        return self.perform(finality_call(height))

    def estimate_fee(self, type: str, payload: Json, *, pubkey: str = "", witness: Json | None = None) -> int:
        """The least fee, in base units, with which a transaction of this type and payload is accepted.

        `pubkey` (as JSON writes keys) and `witness`: what they cost to check is in it; without them, one Ed25519
        signature and no witness.
        """
        return self.perform(estimate_fee_call(type, payload, pubkey, witness))

    def faucet(self, address: str, amount: int) -> str:
        """Ask a devnet's faucet for base units; returns the id of its transaction."""
        return self.perform(_faucet(address, amount))


class AsyncNodeClient(AsyncHttp, OneChain):
    """`NodeClient` for an event loop: the same names and results, awaitable."""

    async def genesis_hash(self) -> bytes:
        return self.checked_chain(await self.head())

    async def health(self) -> Json:
        return await self.perform(_health())

    async def head(self) -> Json:
        return await self.perform(head_call())

    async def genesis(self) -> Json:
        return await self.perform(_genesis())

    async def params(self) -> Json:
        return await self.perform(_params())

    async def supply(self) -> Json:
        return await self.perform(_supply())

    async def block(self, height_or_hash: int | str) -> Json:
        return await self.perform(_block(height_or_hash))

    async def account(self, address: str) -> Json:
        return await self.perform(account_call(address))

    async def balance(self, address: str) -> int:
        return await self.perform(_balance(address))

    async def send(self, tx: Transaction) -> str:
        return (await self.submit(tx)).tx_id

    async def submit(self, tx: Transaction) -> SendResult:
        return await self.perform(send_call(tx))

    async def send_many(self, txs: Sequence[Transaction]) -> list[SendResult]:
        return await self.perform(send_many_call(txs))

    async def submit_receipt(self, tx: Transaction) -> str:
        return (await self.perform(send_call(tx, "/rpc/submitReceipt"))).tx_id

    async def transaction(
        self, tx_id: str, wait: str | None = None, timeout: float = 10, proof: bool = False
    ) -> Json:
        return await self.perform(transaction_call(tx_id, wait, timeout, proof))

    async def account_transactions(self, address: str, cursor: str = "") -> Page:
        return await self.perform(account_transactions_call(address, cursor))

    async def lock(self, lock_id: str) -> Json | None:
        return await self.perform(_lock(lock_id))

    async def receipt(self, receipt_id: str) -> Json | None:
        return await self.perform(_receipt(receipt_id))

    async def registration(self, role: str, address: str) -> Json | None:
        return await self.perform(_registration(role, address))

    async def registry(self, role: str, after: str = "") -> list[Json]:
        return await self.perform(_registry(role, after))

    async def validators(self, height: int | None = None) -> list[Json]:
        return await self.perform(_validators(height))

    async def consensus(self) -> Json:
        return await self.perform(_consensus())

    async def peers(self) -> list[Json]:
        return await self.perform(_peers())

    async def finality(self, height: int) -> Json:
        return await self.perform(finality_call(height))

    async def estimate_fee(
        self, type: str, payload: Json, *, pubkey: str = "", witness: Json | None = None
    ) -> int:
        return await self.perform(estimate_fee_call(type, payload, pubkey, witness))

    async def faucet(self, address: str, amount: int) -> str:
        return await self.perform(_faucet(address, amount))


def _health() -> Call[Json]:
    return Call(method="GET", path="/health", read=_object)


def head_call() -> Call[Json]:
    return Call(method="GET", path="/rpc/getHead", read=_object)


def _genesis() -> Call[Json]:
    return Call(method="GET", path="/rpc/genesis", read=_object)


def _params() -> Call[Json]:
    return Call(method="GET", path="/rpc/params", read=_object)


def _supply() -> Call[Json]:
    return Call(method="GET", path="/rpc/supply", read=_object)


def _block(height_or_hash: int | str) -> Call[Json]:
    return Call(method="GET", path=f"/rpc/getBlock/{_segment(height_or_hash)}", read=_object)


def account_call(address: str) -> Call[Json]:
    return Call(method="GET", path=f"/rpc/account/{_segment(address)}", read=_account_of)


def _balance(address: str) -> Call[int]:
    return Call(
        method="GET", path=f"/rpc/getBalance/{_segment(address)}", read=lambda answer: int(answer["balance"])
    )


def send_call(tx: Transaction, path: str = "/rpc/sendTx") -> Call[SendResult]:
    return Call(
        method="POST",
        path=path,
        body=transaction_to_plain(tx),
        read=lambda answer: SendResult(_tx_hash(answer), None, _is_known(answer)),
    )


def send_many_call(txs: Sequence[Transaction]) -> Call[list[SendResult]]:
    return Call(
        method="POST",
        path="/rpc/sendTxs",
        body=[transaction_to_plain(tx) for tx in txs],
        read=lambda answer: _results(answer, len(txs)),
    )


def account_transactions_call(address: str, cursor: str) -> Call[Page]:
    query: dict[str, str | int] = {"limit": 100, **({"cursor": cursor} if cursor else {})}
    return Call(
        method="GET",
        path=f"/rpc/account/{_segment(address)}/transactions",
        query=query,
        read=lambda answer: Page(_items(answer), str(answer["next"] or "")),
    )


def _results(answer: Any, count: int) -> list[SendResult]:
    items = _items(answer)
    if len(items) != count:
        raise ValueError(f"{len(items)} answers to {count} transactions")
    return [
        SendResult(str(item.get("txHash") or ""), _refusal(item.get("error")), _is_known(item))
        for item in items
    ]


def _is_known(item: Json) -> bool:
    """A node that does not say so is taken at its word that it is new."""
    return item.get("known") is True


def _refusal(error: Any) -> ApiError | None:
    if error is None:
        return None
    return ApiError(
        str(error["code"]), str(error.get("detail") or error["code"]), str(error.get("fix") or ""), 400
    )


def transaction_call(tx_id: str, wait: str | None, timeout: float, proof: bool) -> Call[Json]:
    query: dict[str, str | int] = {}
    timeout = min(timeout, MAX_WAIT_S)
    if wait:
        query.update(wait=wait, timeout=f"{timeout:.3f}")
    if proof:
        query["proof"] = 1
    path = f"/rpc/getTx/{_segment(tx_id)}"
    return Call(method="GET", path=path, query=query, extra_s=timeout if wait else 0, read=_object)


def _lock(lock_id: str) -> Call[Json | None]:
    absent = frozenset({"unknown_lock"})
    return Call(method="GET", path=f"/rpc/lock/{_segment(lock_id)}", absent=absent, read=_object_or_none)


def _receipt(receipt_id: str) -> Call[Json | None]:
    absent = frozenset({"unknown_receipt"})
    return Call(
        method="GET", path=f"/rpc/receipts/{_segment(receipt_id)}", absent=absent, read=_object_or_none
    )


def _registration(role: str, address: str) -> Call[Json | None]:
    query = {"role": role, "address": address}
    return Call(method="GET", path="/rpc/registry", query=query, read=_first_item)


def _registry(role: str, after: str) -> Call[list[Json]]:
    query = {"role": role, "after": after} if after else {"role": role}
    return Call(method="GET", path="/rpc/registry", query=query, read=_items)


def _validators(height: int | None) -> Call[list[Json]]:
    query = {} if height is None else {"height": height}
    return Call(method="GET", path="/rpc/validators", query=query, read=_items)


def _consensus() -> Call[Json]:
    return Call(method="GET", path="/rpc/consensus", read=_object)


def _peers() -> Call[list[Json]]:
    return Call(method="GET", path="/p2p/peers", read=lambda answer: [_object(item) for item in answer])


def finality_call(height: int) -> Call[Json]:
    return Call(method="GET", path=f"/rpc/finality/{height}", read=_object)


def headers_call(start: int, end: int) -> Call[Json]:
    return Call(method="GET", path="/rpc/blocks-range", query={"start": start, "end": end}, read=_object)


def state_proof_call(store: str, key: str, height: int | None) -> Call[Json]:
    query = {} if height is None else {"height": height}
    path = f"/rpc/proof/{_segment(store)}/{_segment(key)}"
    return Call(method="GET", path=path, query=query, read=_object)


def history_proof_call(height: int) -> Call[Json]:
    return Call(method="GET", path=f"/rpc/proof/history/{height}", read=_object)


def estimate_fee_call(type: str, payload: Json, pubkey: str, witness: Json | None) -> Call[int]:
    body: Json = {"type": type, "payload": payload}
    if pubkey:
        body["pubkey"] = pubkey
    if witness is not None:
        body["witness"] = witness
    return Call(method="POST", path="/rpc/estimateFee", body=body, read=lambda answer: int(answer["fee"]))


def _faucet(address: str, amount: int) -> Call[str]:
    body = {"address": address, "amount": amount}
    return Call(method="POST", path="/admin/mintFaucet", body=body, read=_tx_hash)


def _segment(value: int | str) -> str:
    return quote(str(value), safe="")


def _genesis_hash_of(head: Json) -> bytes:
    text = head.get("genesisHash")
    try:
        return unhex(text if isinstance(text, str) else "", size=32)
    except Rejected:
        raise ClientError(
            "bad_answer", "the node names no chain; nothing was signed", "use another node with --rpc"
        ) from None


def _object(answer: Any) -> Json:
    if not isinstance(answer, dict):
        raise TypeError("not a JSON object")
    return answer


def _object_or_none(answer: Any) -> Json | None:
    return None if answer is None else _object(answer)


def _items(answer: Any) -> list[Json]:
    return [_object(item) for item in answer["items"]]


def _first_item(answer: Any) -> Json | None:
    return next(iter(_items(answer)), None)


def _tx_hash(answer: Any) -> str:
    tx_id = answer["txHash"]
    if not isinstance(tx_id, str):
        raise TypeError("txHash is no text")
    return tx_id


def _account_of(answer: Any) -> Json:
    """Amounts above 2^53 - 1 come as text; here they are integers again."""
    view = _object(answer)
    nonce = int(view["nonce"])
    next_nonce = int(view.get("nextNonce", nonce + 1))
    return {**view, "balance": int(view["balance"]), "nonce": nonce, "nextNonce": next_nonce}
