"""What the hub adds to an answer: OpenAI chat requests at 200 a second against a provider whose work takes no time.

*Overhead* is everything but the engine: from the first byte of a request leaving the client to the last byte of its
answer, with key, reservation, place in a session, draw, dispatch over the provider link, the provider's own receipt and
signature (it is in another process and its engine takes 0 ms), the hub's check, attestation, disk and settlement. So it
is an upper bound of what the gateway adds. The chain is left out: claims are sent to a node that never makes a block.

Requests begin on the clock, whether earlier ones are answered or not. Goal: p50 ≤ 8 ms, p99 ≤ 40 ms at 200 a second.
"""

import asyncio
import json
import multiprocessing
import os
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import uvloop
from common import save
from websockets.asyncio.client import connect

from aitbc.adapters.http.serving import QuietServer, http_settings, listen
from aitbc.client.signing import KeySigner
from aitbc.core.codec.digests import receipt_core_digest, transaction_id
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs import link
from aitbc.core.jobs.receipts import Computed, Delivery, build_core, build_details

PER_SECOND = int(os.environ.get("PER_SECOND", "200"))
SECONDS = int(os.environ.get("SECONDS", "30"))
WARM_UP = int(os.environ.get("WARM_UP", "400"))
"""Requests before measuring: imports, caches, the session."""
IDLE_S = 1.0
"""The server closes a connection that was silent for five seconds."""
DIGEST = hash_text(b"no weights")
PRICE = 1_000_000
HUB, PROVIDER = KeySigner(b"\x01" * 32), KeySigner(b"\x02" * 32)
GENESIS = {"chain_id": "bench", "params": {"hubs": [HUB.address]}}
TEXT = b"an answer of a few words"
BODY = {
    "model": "tiny-lm",
    "messages": [{"role": "user", "content": "a question"}],
    "max_tokens": 16,
    "seed": 1,
}
Json = dict[str, Any]


class QuietChain:
    """Locks are final at once, the provider is registered, claims wait for ever."""

    def __init__(self, genesis_hash: bytes) -> None:
        self._genesis_hash = genesis_hash
        self._sent: dict[str, Json] = {}

    async def genesis(self) -> Json:
        return GENESIS

    async def account(self, _address: str) -> Json:
        return {"balance": 10**15, "nonce": 0, "nextNonce": 1, "pubkey": ""}

    async def send(self, tx: Any) -> str:
        tx_id = transaction_id(tx, self._genesis_hash).hex()
        if tx.type == "JOB_LOCK":
            self._sent[tx_id] = {"type": tx.type, "sender": tx.sender, "payload": json.loads(tx.payload)}
        return tx_id

    async def transaction(
        self, tx_id: str, wait: str | None = None, timeout: float = 10, proof: bool = False
    ) -> Json:
        if tx_id not in self._sent:
            await asyncio.sleep(timeout if wait else 0)
            return {"status": "pending", "tx": None, "receipt": None}
        found = {"header": {"hash": "11" * 32}}
        return {"status": "final", "tx": self._sent[tx_id], "receipt": {"status": "ok"}, "proof": found}

    async def receipt(self, _receipt_id: str) -> None:
        return None

    async def registration(self, _role: str, _address: str) -> Json:
        return {"models": [{"model": "tiny-lm", "price_per_kilounit": PRICE, "digest": DIGEST}]}

    async def estimate_fee(self, _type: str, _payload: Json) -> int:
        return 100

    async def close(self) -> None:
        return None


def hub_process(folder: str, ready: Any) -> None:
    from aitbc.core.codec.canonical import jcs
    from aitbc.core.codec.digests import genesis_hash_of
    from aitbc.hub.config import HubConfig
    from aitbc.hub.link import MAX_FRAME_BYTES
    from aitbc.hub.main import create_app

    async def serve() -> None:
        config = HubConfig(signer=HUB, data_dir=Path(folder), genesis=GENESIS, session_amount=10**14)
        app = create_app(config, chain=QuietChain(genesis_hash_of(jcs(GENESIS))))
        listener = listen("127.0.0.1", 0)
        options = {"ws": "websockets-sansio", "ws_max_size": MAX_FRAME_BYTES, "ws_per_message_deflate": False}
        server = QuietServer(http_settings(app, **options))
        ready.put(listener.getsockname()[1])
        await server.serve(sockets=[listener])

    uvloop.run(serve())


def provider_process(port: int, ready: Any) -> None:
    uvloop.run(provide(port, ready))


async def provide(port: int, ready: Any) -> None:
    """Sixty-four places, each task answered in the moment in which it comes."""
    async with connect(
        f"ws://127.0.0.1:{port}{link.PATH}", compression=None, proxy=None, max_queue=256
    ) as socket:
        challenge = link.decode_from_hub(str(await socket.recv()))
        assert isinstance(challenge, link.Challenge)
        genesis_hash = bytes.fromhex(challenge.genesis_hash)
        nonce = secrets.token_hex(32)
        digest = link.hello_digest(
            genesis_hash=genesis_hash,
            hub=challenge.hub,
            nonce=challenge.nonce,
            hello_nonce=nonce,
            provider=PROVIDER.address,
        )
        hello = link.Hello(
            version=link.VERSION,
            address=PROVIDER.address,
            pubkey=key_to_text(PROVIDER.auth_key),
            nonce=nonce,
            sig=PROVIDER.sign(digest).hex(),
            models=[link.LinkModel(model="tiny-lm", kind="chat", digest=DIGEST, price_per_kilounit=PRICE)],
            slots=link.MAX_SLOTS,
            device="none",
        )
        await socket.send(link.encode_message(hello))
        beat = asyncio.create_task(heartbeats(socket))
        async for frame in socket:
            message = link.decode_from_hub(str(frame))
            if isinstance(message, link.Eligible):
                ready.put(message.models)
            elif isinstance(message, link.Task):
                await socket.send(link.encode_message(link.Accepted(task_id=message.task_id)))
                result = deliver(message, genesis_hash)
                await socket.send(link.encode_message(result))
                await socket.send(TEXT)
        beat.cancel()


async def heartbeats(socket: Any) -> None:
    while True:
        await asyncio.sleep(2)
        await socket.send(link.encode_message(link.Heartbeat(running=[])))


def deliver(task: link.Task, genesis_hash: bytes) -> link.Result:
    now_ms = time.time_ns() // 1_000_000
    computed = Computed(
        data=TEXT,
        counts={"in": 2, "out": 6},
        transcript=[bytes(32)],
        notes={},
        started_ms=now_ms,
        finished_ms=now_ms,
        engine_ms=0,
    )
    details = build_details(task.offer, computed)
    core = build_core(task.offer, details)
    sig = PROVIDER.sign(receipt_core_digest(core, genesis_hash)).hex()
    delivery = Delivery(details=details, core=core, sig=sig, media_type="text/plain; charset=utf-8")
    return link.Result(task_id=task.task_id, size=len(TEXT), delivery=delivery)


class Connection:
    """HTTP/1.1 with the least cost, so that the client's own work is no part of the figures."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.used_at = time.monotonic()

    async def open(self) -> "Connection":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def post(self, path: str, token: str, body: Any) -> tuple[int, bytes]:
        raw = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
        )
        self._writer.write(head.encode() + raw)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(answer.partition("content-length: ")[2].partition("\r\n")[0])
        return int(answer.split(" ", 2)[1]), await self._reader.readexactly(length)


async def measure(port: int, token: str, hub: psutil.Process) -> Json:
    connection = await Connection(port).open()
    _, made = await connection.post("/admin/keys", token, {"account": "bench"})
    key = json.loads(made)["api_key"]
    await connection.post("/admin/accounts/bench/credit", token, {"amount": 10**14})
    free: list[Connection] = [connection]
    times: list[float] = []
    wrong: list[tuple[int, bytes]] = []

    async def one(measured: bool) -> None:
        while free and time.monotonic() - free[-1].used_at > IDLE_S:
            free.pop()
        used = free.pop() if free else await Connection(port).open()
        began = time.perf_counter()
        status, answer = await used.post("/v1/chat/completions", key, BODY)
        if measured:
            times.append((time.perf_counter() - began) * 1000)
        if status != 200:
            wrong.append((status, answer[:200]))
        used.used_at = time.monotonic()
        free.append(used)

    async def run(count: int, *, measured: bool) -> None:
        start, asked = time.perf_counter(), []
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / PER_SECOND - time.perf_counter()))
            asked.append(asyncio.create_task(one(measured)))
        await asyncio.gather(*asked)

    await run(WARM_UP, measured=False)
    cpu, began = sum(hub.cpu_times()[:2]), time.perf_counter()
    await run(PER_SECOND * SECONDS, measured=True)
    elapsed_s = time.perf_counter() - began
    assert not wrong, wrong[0]
    cuts = statistics.quantiles(times, n=100)
    return {
        "requests_per_second": round(len(times) / elapsed_s, 1),
        "overhead_ms": {
            "p50": round(cuts[49], 2),
            "p95": round(cuts[94], 2),
            "p99": round(cuts[98], 2),
            "most": round(max(times), 2),
        },
        "hub_cpu_ms_per_request": round((sum(hub.cpu_times()[:2]) - cpu) * 1000 / len(times), 2),
        "connections": len(free),
    }


def main() -> None:
    context = multiprocessing.get_context("spawn")
    ports, eligible = context.Queue(), context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        hub = context.Process(target=hub_process, args=(folder, ports), daemon=True)
        hub.start()
        port = ports.get(timeout=30)
        token = Path(folder, "admin.token")
        while not token.exists() or not token.read_text().strip():
            time.sleep(0.05)
        time.sleep(1)
        provider = context.Process(target=provider_process, args=(port, eligible), daemon=True)
        provider.start()
        while eligible.get(timeout=30) != ["tiny-lm"]:
            pass
        assert hub.pid is not None
        results = uvloop.run(measure(port, token.read_text().strip(), psutil.Process(hub.pid)))
        provider.kill()
        hub.kill()
    save("gateway", "p50 <= 8 ms, p99 <= 40 ms at 200 requests/s", results)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
