"""A whole market for stories: a real ledger, the real hub behind a real server, real providers with real children."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import msgspec
import uvicorn

from aitbc.adapters.http.serving import QuietServer, listen
from aitbc.client.errors import ApiError, Unreachable
from aitbc.client.http import Call
from aitbc.client.signing import KeySigner
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import Transaction
from aitbc.hub.config import HubConfig
from aitbc.hub.link import MAX_FRAME_BYTES
from aitbc.hub.main import create_app
from aitbc.provider.config import ProviderConfig
from aitbc.provider.provider import Provider
from support.small_network import Refusal, SmallNode

Json = dict[str, Any]

TESTS = Path(__file__).resolve().parents[1]
STORY_TELLER = "hub.odd_engines:StoryTeller"
PAINTER = "hub.odd_engines:Painter"


class LedgerNode(SmallNode):
    """A node whose blocks can be held back, and which can be out of reach."""

    def __init__(self, genesis: Callable[[Any], Any] = lambda devnet: devnet) -> None:
        super().__init__(genesis)
        self.hold: Callable[[Transaction], bool] = lambda _tx: False
        """Which transactions stay pending."""
        self.reachable = True
        self._held: dict[str, Transaction] = {}

    def submit(self, tx: Transaction) -> str:
        if self.hold(tx):
            tx_id = transaction_hash(tx, self.genesis_hash)
            self._held[tx_id] = tx
            return tx_id
        return super().submit(tx)

    def release(self) -> None:
        """Put what was held back into blocks."""
        self.hold = lambda _tx: False
        held, self._held = self._held, {}
        for tx in held.values():
            super().submit(tx)

    def transaction(self, tx_id: str, *, proof: bool) -> Json:
        if tx_id in self._held:
            tx = transaction_to_plain(self._held[tx_id])
            return {"status": "pending", "txHash": tx_id, "tx": tx, "receipt": None, "proof": None}
        return super().transaction(tx_id, proof=proof)

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        if (method, path) == ("GET", "/rpc/registry"):
            records = self.executor.state.items("registry")
            items = [{"address": key.split(":")[1], **msgspec.to_builtins(record)} for key, record in records]
            wanted = query.get("address")
            return {
                "items": [
                    item
                    for item in items
                    if item["role"] == query["role"] and wanted in (None, item["address"])
                ],
                "next": None,
            }
        if path.startswith("/rpc/getTx/") and query.get("wait") == "final":
            return self._wait_final(path, query)
        return super().answer(method, path, query, body)

    def _wait_final(self, path: str, query: dict[str, str]) -> Any:
        deadline = time.monotonic() + float(query.get("timeout", "10"))
        while True:
            view = super().answer("GET", path, query, b"")
            if view["status"] != "pending" or time.monotonic() >= deadline:
                return view
            time.sleep(0.005)

    def minted_for(self, receipt_id: str) -> Any:
        """Its record; of a settled one what the history keeps."""
        return self.executor.state.get("receipts", receipt_id) or self.paid.get(receipt_id)


def transaction_hash(tx: Transaction, genesis_hash: bytes) -> str:
    from aitbc.core.codec.digests import transaction_id

    return transaction_id(tx, genesis_hash).hex()


class MemoryChain:
    """`AsyncNodeClient` without the network: the same methods, the same errors."""

    def __init__(self, node: LedgerNode) -> None:
        self.node = node
        self.calls: list[str] = []

    async def _ask(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Any = None
    ) -> Any:
        self.calls.append(path)
        if not self.node.reachable:
            raise Unreachable("http://memory", "start it", "nothing listens there")
        raw = json.dumps(body).encode() if body is not None else b""
        try:
            return await asyncio.to_thread(self.node.answer, method, path, query or {}, raw)
        except Refusal as refusal:
            raise ApiError(refusal.body["code"], refusal.body["detail"], "", refusal.status) from None
        except Rejected as rejected:
            raise ApiError(str(rejected.reason), rejected.message, "", 400) from None

    async def genesis(self) -> Json:
        return await self._ask("GET", "/rpc/genesis")

    async def head(self) -> Json:
        return await self._ask("GET", "/rpc/getHead")

    async def account(self, address: str) -> Json:
        return await self._ask("GET", f"/rpc/account/{address}")

    async def send(self, tx: Transaction) -> str:
        answer = await self._ask("POST", "/rpc/sendTx", body=transaction_to_plain(tx))
        return str(answer["txHash"])

    async def transaction(
        self, tx_id: str, wait: str | None = None, timeout: float = 10, proof: bool = False
    ) -> Json:
        deadline = time.monotonic() + (timeout if wait else 0)
        while True:
            view: Json = await self._ask("GET", f"/rpc/getTx/{tx_id}", {"proof": "1"} if proof else {})
            if view["status"] != "pending" or time.monotonic() >= deadline:
                return view
            await asyncio.sleep(0.005)

    async def lock(self, lock_id: str) -> Json | None:
        return await self._or_none(f"/rpc/lock/{lock_id}")

    async def receipt(self, receipt_id: str) -> Json | None:
        return await self._or_none(f"/rpc/receipts/{receipt_id}")

    async def registration(self, role: str, address: str) -> Json | None:
        answer = await self._ask("GET", "/rpc/registry", {"role": role, "address": address})
        return next(iter(answer["items"]), None)

    async def estimate_fee(self, type: str, payload: Json) -> int:
        return int(
            (await self._ask("POST", "/rpc/estimateFee", body={"type": type, "payload": payload}))["fee"]
        )

    async def perform(self, call: Call[Any]) -> Any:
        query = {name: str(value) for name, value in call.query.items()}
        return call.read(await self._ask(call.method, call.path, query, call.body))

    async def close(self) -> None:
        pass

    async def _or_none(self, path: str) -> Json | None:
        try:
            return await self._ask("GET", path)
        except ApiError as error:
            if error.status != 404:
                raise
            return None


@contextmanager
def served(node: LedgerNode) -> Iterator[str]:
    """The node over real HTTP, for hubs and providers in processes of their own; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, answer = 200, None
            try:
                answer = node.answer(method, parts.path, query, body)
            except Refusal as refusal:
                status, answer = refusal.status, refusal.body
            except Rejected as rejected:
                status, answer = 400, {"code": str(rejected.reason), "detail": rejected.message, "fix": ""}
            raw = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class Market:
    """One hub on a port of this loop, and whoever joins it."""

    def __init__(self, folder: Path, *, node: LedgerNode | None = None, **hub_options: Any) -> None:
        self.folder = folder
        self.node = node or LedgerNode()
        self.chain = MemoryChain(self.node)
        self.hub_options = hub_options
        self.providers: list[Provider] = []
        self.signers = self.node.signers
        self._server: QuietServer | None = None

    # the hub

    async def open_hub(self) -> None:
        options: Json = {
            "lock_wait_s": 2,
            "heartbeat_ms": 300,
            "claim_retry_least_s": 0.05,
            **self.hub_options,
        }
        config = HubConfig(signer=self.signers["hub"], data_dir=self.folder / "hub", **options)
        config.data_dir.mkdir(parents=True, exist_ok=True)
        self.app = create_app(config, chain=self.chain)
        listener = listen("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        settings = uvicorn.Config(
            self.app,
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            ws_max_size=MAX_FRAME_BYTES,
            timeout_graceful_shutdown=1,
        )
        self._server = QuietServer(settings)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        self.http = httpx2.AsyncClient(base_url=self.url, timeout=10)
        await until(lambda: self._server is not None and self._server.started)

    async def close_hub(self) -> None:
        assert self._server is not None
        await self.http.aclose()
        await self.app.state.hub.close_streams()
        self._server.should_exit = True
        await self._serving
        self._server = None

    @property
    def hub(self) -> Any:
        return self.app.state.hub

    # providers

    async def add_provider(
        self,
        name: str = "provider",
        *,
        engines: tuple[str, ...] = (STORY_TELLER,),
        wait: bool = True,
        **options: Any,
    ) -> Provider:
        signer = self.signers.get(name) or KeySigner(name.encode().ljust(32, b"\x07"))
        defaults: Json = {"claim_after_s": 60, "claim_poll_s": 0.05, "reconnect_most_s": 0.2}
        config = ProviderConfig(
            signer=signer,
            data_dir=self.folder / name,
            hub_url=self.url,
            engines=engines,
            **{**defaults, **options},
        )
        config.data_dir.mkdir(parents=True, exist_ok=True)
        provider = Provider(config, self.chain)
        await provider.start()
        self.providers.append(provider)
        if wait:
            await until(lambda: sorted(provider.eligible) == sorted(provider.engine.cards))
        return provider

    async def drop(self, provider: Provider) -> None:
        """The provider is gone from one moment to the next."""
        self.providers.remove(provider)
        await provider.stop()

    # the client

    async def quote(
        self, prompt: str = "a tale", *, kind: str = "chat", who: str = "alice", **fields: Any
    ) -> Json:
        response = await self.ask_quote(prompt, kind=kind, who=who, **fields)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def ask_quote(
        self, prompt: str = "a tale", *, kind: str = "chat", who: str = "alice", **fields: Any
    ) -> httpx2.Response:
        body = {"client": self.signers[who].address, "kind": kind, "request": {"prompt": prompt, **fields}}
        return await self.http.post("/v1/quotes", json=body)

    async def lock(self, quote: Json, *, who: str = "alice", **changes: Any) -> str:
        return await asyncio.to_thread(self.node.send, who, "JOB_LOCK", {**quote["lock"], **changes})

    async def start(self, quote: Json, lock: str) -> httpx2.Response:
        body = {"job_id": quote["job_id"], "lock": lock}
        return await self.http.post("/v1/jobs", json=body, headers=bearer(quote))

    async def begin(self, prompt: str = "a tale", **fields: Any) -> Json:
        """Quote, lock, start."""
        quote = await self.quote(prompt, **fields)
        response = await self.start(quote, await self.lock(quote))
        assert response.status_code == 202, response.text
        return quote

    async def status(self, quote: Json) -> Json:
        return dict((await self.http.get(f"/v1/jobs/{quote['job_id']}", headers=bearer(quote))).json())

    async def result(self, quote: Json) -> httpx2.Response:
        return await self.http.get(f"/v1/jobs/{quote['job_id']}/result", headers=bearer(quote))

    async def events(self, quote: Json) -> list[Json]:
        """All events to the end of the stream."""
        found: list[Json] = []
        path = f"/v1/jobs/{quote['job_id']}/events"
        async with self.http.stream("GET", path, headers=bearer(quote)) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    found.append(json.loads(line[6:]))
        return found

    async def until_state(self, quote: Json, *states: str, within: float = 10) -> Json:
        deadline = time.monotonic() + within
        while True:
            status = await self.status(quote)
            if status["state"] in states:
                return status
            assert time.monotonic() < deadline, f"wanted {states}, it is {status}"
            await asyncio.sleep(0.02)

    # accounts

    async def admin(self, method: str, path: str, body: Json | None = None) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.hub.admin_token}"}
        return await self.http.request(method, path, json=body, headers=headers)

    async def key(self, *, credit: int = 10_000_000, account: str = "", **wanted: Any) -> str:
        """An API key of an account with money on it."""
        made = (await self.admin("POST", "/admin/keys", {"account": account, **wanted})).json()
        if credit:
            path = f"/admin/accounts/{made['key']['account']}/credit"
            assert (await self.admin("POST", path, {"amount": credit})).status_code == 200
        return str(made["api_key"])

    async def sum_of_books(self) -> Json:
        """Balances, after a look whether they are right: each is the sum of its postings, together they are nothing,
        and no payer owes."""
        store, db = self.hub.accounts.store, self.hub.accounts.db
        assert await db(store.audit) == []
        return dict(await db(store.balances))

    def balance(self, name: str) -> int:
        return int(self.node.account(self.signers[name].address)["balance"])


def bearer(quote: Json) -> dict[str, str]:
    return {"authorization": f"Bearer {quote['job_token']}"}


@asynccontextmanager
async def market(folder: Path, **options: Any) -> AsyncIterator[Market]:
    """An open market, closed at the end whatever happened."""
    place = Market(folder, **options)
    await place.open_hub()
    try:
        yield place
    finally:
        for provider in place.providers:
            await provider.stop()
        if place._server is not None:
            await place.close_hub()


def inbox_of(place: Market, quote: Json) -> Any:
    """Where the running attempt at a job hears of its provider."""
    part = place.hub.jobs.live(quote["job_id"]).parts[0]
    (attempt,) = part.running.values()
    return attempt.granted.inbox


async def until(holds: Callable[[], Any], *, within: float = 10) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


__all__ = [
    "PAINTER",
    "STORY_TELLER",
    "TESTS",
    "LedgerNode",
    "Market",
    "MemoryChain",
    "inbox_of",
    "jcs",
    "market",
    "served",
    "until",
]
