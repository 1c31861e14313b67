"""What the routes need: the runtime, its configuration and the answers built from both."""

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request

from aitbc.adapters.http.problems import Problem
from aitbc.adapters.storage.rows import MEND, touched
from aitbc.core.codec.canonical import unhex
from aitbc.core.codec.digests import envelope_id
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.views import (
    big_integer,
    block_to_plain,
    header_to_plain,
    transaction_to_plain,
)
from aitbc.core.crypto.address import check_address
from aitbc.core.crypto.merkle import list_root
from aitbc.core.ledger.state import SUPPLY_SINK, SUPPLY_SOURCES, Overlay
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.records import Account, Lock, ReceiptRecord
from aitbc.node.block_proofs import BlockProofs
from aitbc.node.config import NodeConfig
from aitbc.node.history import receipt_view, transaction_view
from aitbc.node.proofs import prove_final, unknown_block, validators_at
from aitbc.node.queues import Gate, Places
from aitbc.node.runtime import MAX_WAITERS, NodeRuntime
from aitbc.ports import StorageError, StoredHead, StoredTransaction

Json = dict[str, Any]

MAX_ASKED = 8
"""Calls to hubs at once: what one node may ask of a hub that others ask too."""
MAX_ASKING = 64
"""Claims that a hub is asked about or that wait for that, three seconds for each hub that does not answer."""


MAX_SENDERS = 64
MAX_SENDERS_AT_OWNER = 8
"""Streams of transactions: each has a frame under way at most, and they take turns."""


MAX_WAITERS_AT_OWNER = 128
"""Requests of one public address that wait for finality: a gateway's, and not a tenth of all."""
WAITERS_RESERVED = 300
"""Of all that may wait: for this machine and its network, so that strangers do not keep its own hub from receipts."""


class NodeService:
    """Reads of the head and of stored blocks, in the shapes that the RPC answers."""

    def __init__(self, config: NodeConfig, runtime: NodeRuntime) -> None:
        self.config = config
        self.runtime = runtime
        self.asking = Gate(at_once=MAX_ASKED, most=MAX_ASKING, what="claims that hubs are asked about")
        self.senders = Places(
            most=MAX_SENDERS, most_at_owner=MAX_SENDERS_AT_OWNER, what="streams of transactions"
        )
        """Who submits over a WebSocket."""
        self.waiters = Places(
            most=MAX_WAITERS,
            most_at_owner=MAX_WAITERS_AT_OWNER,
            what="requests that wait for finality",
            reserved=WAITERS_RESERVED,
        )
        self._proofs = BlockProofs(runtime)

    def head(self) -> Json:
        header, block_hash = self.runtime.executor.head.block.header, self.runtime.executor.head.hash
        return {
            "height": header.height,
            "hash": block_hash.hex(),
            "timestampMs": header.timestamp_ms,
            "chainId": header.chain_id,
            "genesisHash": self.runtime.executor.loaded.hash.hex(),
            **self.runtime.standing(header.height),
        }

    def block(self, height_or_hash: str, *, start: int, limit: int) -> Json:
        """A page of a block: as much is read as the page has."""
        store = self.runtime.store
        if height_or_hash.isascii() and height_or_hash.isdigit() and len(height_or_hash) <= 16:
            found = store.head_at(int(height_or_hash))
        else:
            found = store.head_of(unhex(height_or_hash, size=32))
        if found is None:
            raise unknown_block(self.runtime.executor, height_or_hash)
        txs = store.transactions_of(found.header.height, start=start, limit=limit + 1)
        if start == 0 and len(txs) <= limit:
            _check_whole(found, txs)
        ids = [stored.outcome.tx_id for stored in txs[:limit]]
        view = block_to_plain(found.header, found.hash, found.certificate, ids)
        return {
            **view,
            **self.runtime.standing(found.header.height),
            "next": start + limit if len(txs) > limit else None,
        }

    def header(self) -> Json:
        """The newest final block's header, with what `head` says."""
        head = self.runtime.executor.head
        return {**header_to_plain(head.block.header, head.hash), **self.head()}

    def whole_block(self, height_or_hash: str, *, start: int, limit: int) -> tuple[Json, set[str]]:
        """A page of a block with its transactions, and the accounts that they touched."""
        page = self.block(height_or_hash, start=start, limit=limit)
        found = self.runtime.store.transactions_of(page["height"], start=start, limit=limit)
        standing = self.runtime.standing(page["height"])
        page["transactions"] = [transaction_view(stored, standing) for stored in found]
        return page, {name for stored in found for name in touched(stored.tx, stored.outcome)}

    def accounts_after(self, height: int, addresses: set[str]) -> Json:
        """Accounts as a block left them, or as they are now when that is not kept any more; on the loop, which alone
        moves the head."""
        state, head = self.runtime.executor.state, self.runtime.executor.head.block.header.height
        try:
            found = [(name, state.get_before("accounts", name, back=head - height)) for name in addresses]
        except Rejected:
            height, found = head, [(name, state.account(name)) for name in addresses]
        accounts = [
            {"address": name, "balance": big_integer(account.balance), "nonce": account.nonce}
            for name, account in sorted(found, key=lambda pair: pair[0])
            if isinstance(account, Account)
        ]
        return {"accounts": accounts, "accountsAt": height}

    def account(self, address: str) -> Json:
        check_address(address)
        record = self.runtime.executor.state.account(address)
        return {
            "address": address,
            "balance": big_integer(record.balance),
            "nonce": record.nonce,
            "pubkey": key_to_text(record.auth) if record.auth else "",
            "nextNonce": self.runtime.replica.mempool.next_nonce(address),
        }

    def lock(self, key: str) -> Json:
        record = self.runtime.executor.state.get("locks", key)
        if not isinstance(record, Lock):
            raise not_found("unknown_lock", f"no lock {key[:80]}")
        return {"id": key, **msgspec.structs.asdict(record)}

    async def receipt(self, receipt_id: str) -> Json:
        """A paid receipt, also one that has left the state, with the transaction that paid it."""
        stored = await self.runtime.read(lambda: self.runtime.store.receipt(receipt_id))
        if stored is None:
            raise not_found("unknown_receipt", f"receipt {receipt_id[:80]} has not been claimed")
        record = self.runtime.executor.state.get("receipts", receipt_id)
        details = record.details_hash if isinstance(record, ReceiptRecord) else ""
        return {**receipt_view(stored), "details_hash": details}

    async def validators(self, height: int | None) -> Json:
        return await self.runtime.read(
            lambda: validators_at(self.runtime.executor, self.runtime.store, height)
        )

    async def finality(self, height: int) -> Json:
        return await self.runtime.read(lambda: prove_final(self.runtime.executor, self.runtime.store, height))

    def params(self) -> Json:
        plain: Json = msgspec.to_builtins(self.runtime.executor.state.params)
        return plain

    def supply(self) -> Json:
        view = Overlay(self.runtime.executor.state)
        parts = {name: big_integer(view.supply(name)) for name in (*SUPPLY_SOURCES, SUPPLY_SINK)}
        return {"total": big_integer(view.total_supply()), **parts}

    async def transaction(
        self, tx_id: bytes, *, request: Request, wait_s: float, proof: bool, included: bool = False
    ) -> Json:
        """Status and outcome; waits up to `wait_s` seconds for finality, or until it is `included` in a block, which is
        the same where blocks are told once they are final. Who has left is not waited for."""
        if wait_s > 0:
            wait = self.runtime.wait_included if included else self.runtime.wait_final
            owner = self.waiters.take(request.client.host if request.client else "")
            try:
                await while_there(request, wait(tx_id, min(wait_s, self.config.wait_s)))
            finally:
                self.waiters.leave(owner)
        final = await self.runtime.read(lambda: self._final_transaction(tx_id))
        if final is not None:
            return {
                **final.view,
                "proof": await self._proofs.prove(final.stored, final.head) if proof else None,
            }
        waiting = self.runtime.replica.mempool.get(tx_id)
        if waiting is not None:
            return {**_waiting(tx_id, "pending"), "tx": transaction_to_plain(waiting.tx)}
        dropped = self.runtime.dropped.get(tx_id)
        if dropped is not None:
            return {**_waiting(tx_id, "dropped"), "receipt": _dropped(tx_id, dropped)}
        raise not_found("unknown_transaction", f"no transaction {tx_id.hex()}")

    def _final_transaction(self, tx_id: bytes) -> "FinalTransaction | None":
        """As much is read as one transaction and its block's header have."""
        stored = self.runtime.store.transaction(tx_id)
        if stored is None:
            return None
        head = self.runtime.store.head_at(stored.height)
        if head is None:
            raise StorageError(f"block {stored.height} on disk is damaged (it is not there); {MEND}")
        return FinalTransaction(transaction_view(stored, self.runtime.standing(stored.height)), stored, head)


async def while_there(request: Request, work: Coroutine[Any, Any, None]) -> None:
    """Do this until it is done or nobody is there to be answered. The body has been read, or there is none."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait([working, leaving])
    if not working.cancelled():
        working.result()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # the end of a body, or one that nobody asked for


class FinalTransaction(NamedTuple):
    """A transaction that is in a block."""

    view: Json
    stored: StoredTransaction
    head: StoredHead


def _check_whole(head: StoredHead, txs: list[StoredTransaction]) -> None:
    """A page that holds the whole block is what the header commits to."""
    wids = [envelope_id(stored.outcome.tx_id, stored.tx) for stored in txs]
    if list_root(wids) != head.header.txs_root:
        raise StorageError(f"block {head.header.height} on disk is damaged (its transactions differ); {MEND}")


def not_found(code: str, detail: str) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, code, detail, "check the id; it may not be final yet")


def _waiting(tx_id: bytes, status: str) -> Json:
    return {
        "status": status,
        "txHash": tx_id.hex(),
        "height": None,
        "index": None,
        "tx": None,
        "receipt": None,
        "proof": None,
    }


def _dropped(tx_id: bytes, rejection: Rejected) -> Json:
    return {
        "txHash": tx_id.hex(),
        "status": "dropped",
        "reason": str(rejection.reason),
        "message": rejection.message,
        "fee": 0,
        "events": [],
    }
