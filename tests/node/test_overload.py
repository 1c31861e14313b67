"""More than a node can take: it says so early and says when to come back, keeps making blocks, and recovers. Readers
that do not read are told and dropped, however many."""

import asyncio
import json
import resource
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import psutil
import pytest

from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.ledger.genesis import ConsensusSettings, GenesisAccount
from aitbc.core.types.amounts import AIT
from aitbc.node import intake
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from aitbc.node.routes import follow
from support.chain import Chain, genesis
from support.people import BOB, VALIDATOR, KeySigner, person
from support.served import served

BATCH = 250


def crowd(count: int) -> tuple[Chain, list[KeySigner]]:
    """A chain on which so many people have money, with a block every quarter of a second."""
    people = [person(f"crowd {i}") for i in range(count)]
    accounts = [
        GenesisAccount(address=who.address, balance=AIT, pubkey=key_to_text(who.auth_key)) for who in people
    ]
    chain = Chain(genesis(accounts=accounts, consensus=ConsensusSettings(block_time_ms=250, idle_ms=1_000)))
    return chain, people


def batches(chain: Chain, people: list[KeySigner], each: int) -> list[bytes]:
    signed = [
        transaction_to_plain(chain.sign(who, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=nonce))
        for nonce in range(1, each + 1)
        for who in people
    ]
    return [msgspec.json.encode(signed[start : start + BATCH]) for start in range(0, len(signed), BATCH)]


def test_at_five_times_what_it_can_take_it_refuses_early_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bound on what is under way is made small, so that this machine's senders are too many for it."""
    monkeypatch.setattr(intake, "MAX_VERIFYING", 2 * BATCH)
    chain, people = crowd(100)
    bodies = batches(chain, people, 25)
    config = NodeConfig(genesis=chain.document, data=tmp_path, proposer=VALIDATOR, never_voted=True)
    app = create_app(config)
    refusals: list[float] = []
    taken: list[int] = []

    async def send(client: httpx2.AsyncClient, body: bytes) -> None:
        """As a client should: come back when told to, until everything is in."""
        while True:
            began = time.monotonic()
            answer = await client.post("/rpc/sendTxs", content=body)
            if answer.status_code == 200 and answer.json()["refused"] == 0:
                taken.append(answer.json()["accepted"])
                return
            refusals.append(time.monotonic() - began)
            assert answer.status_code in (200, 503), answer.text
            assert answer.headers["retry-after"] == "1", answer.text
            await asyncio.sleep(0.2)

    async def flood(url: str) -> None:
        limits = httpx2.Limits(max_connections=32)
        async with httpx2.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            await asyncio.gather(*[send(client, body) for body in bodies])

    with served(app) as url, httpx2.Client(base_url=url, timeout=30) as client:
        before = client.get("/rpc/getHead").json()["height"]
        asyncio.run(flood(url))
        assert refusals, "it was not too much"
        assert sum(taken) == len(bodies) * BATCH
        assert sorted(refusals)[len(refusals) // 2] < 5.0, "refused before it is looked at"
        began = time.monotonic()
        total = len(bodies) * BATCH
        while client.get(f"/rpc/getBalance/{BOB.address}").json()["balance"] < total:
            assert time.monotonic() - began < 30, "it does not recover"
            time.sleep(0.05)
        assert client.get("/rpc/getHead").json()["height"] > before + 1, "blocks went on"
        assert client.get("/health/ready").json()["ready"] is True
        assert app.state.service.runtime.queues()["verifying"] == 0


# Readers that do not read


def slow_reader(port: int) -> socket.socket:
    """Opens a WebSocket with small buffers and then does nothing."""
    stranger = socket.socket()
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    stranger.connect(("127.0.0.1", port))
    stranger.sendall(
        b"GET /rpc/ws?streams=peer HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return stranger


def play_slow_readers(folder: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from websockets.sync.client import connect

    monkeypatch.setattr(follow, "SEND_S", 2.0)
    chain, _ = crowd(1)
    app = create_app(NodeConfig(genesis=chain.document, data=folder, proposer=VALIDATOR, never_voted=True))
    with served(app, send_buffer=16_384, ws_ping_interval=None) as url:
        port = int(url.rpartition(":")[2])
        subscriptions: Any = app.state.service.runtime.subscriptions
        readers = [slow_reader(port) for _ in range(count)]
        with connect(f"ws://127.0.0.1:{port}/rpc/ws?streams=peer,new_blocks") as good:
            assert json.loads(good.recv(30))["type"] == "hello"
            until(lambda: len(subscriptions) == count + 1)
            memory = psutil.Process().memory_info().rss
            told = tell(app, 1_500, "x" * 1_000)
            seen, heights = 0, []
            while seen < told:
                event = json.loads(good.recv(60))
                seen += event["type"] == "peer"
                if event["type"] == "new_blocks":
                    heights.append(event["data"]["height"])
            until(lambda: len(subscriptions) == 1)
            grown = psutil.Process().memory_info().rss - memory
            assert grown < 64 * 1024 * 1024 + count * 256 * 1024, f"{grown} bytes for {count} readers"
            assert subscriptions.dropped == {"too_slow": count}
            with httpx2.Client(base_url=url) as client:
                assert client.get("/health/ready").json()["ready"] is True
        for reader in readers:
            reader.close()


def tell(app: Any, count: int, text: str) -> int:
    """So many events on the node's loop, a few at a time, as they would come."""
    service = app.state.service
    loop = app.state.loop
    done = threading.Event()

    async def story() -> None:
        for number in range(count):
            service.runtime.subscriptions.peer_joined(bytes(32), text)
            if number % 20 == 0:
                await asyncio.sleep(0.005)
        done.set()

    asyncio.run_coroutine_threadsafe(story(), loop)
    assert done.wait(120)
    return count


def until(what: Any) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def test_slow_readers_are_told_and_dropped_and_hold_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_slow_readers(tmp_path, 40, monkeypatch)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_thousand_slow_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4_096:
        pytest.skip("this machine gives a process too few files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4_096), hard))
    try:
        play_slow_readers(tmp_path, 1_000, monkeypatch)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
