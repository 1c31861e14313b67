"""So many are served, so many wait, the next is refused at once; and what is refused says why."""

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node import runtime, service
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from aitbc.node.queues import Gate, Places
from aitbc.node.routes import chain as chain_routes
from support.chain import Chain
from support.people import ALICE, BOB, VALIDATOR
from support.served import served


def test_one_is_through_the_gate_one_waits_and_one_is_refused() -> None:
    through: list[str] = []

    async def story() -> None:
        gate, leave = Gate(at_once=1, most=2, what="calls"), asyncio.Event()

        async def call(name: str) -> None:
            async with gate.passed():
                through.append(name)
                await leave.wait()

        calls = [asyncio.create_task(call(name)) for name in ("first", "second")]
        await asyncio.sleep(0.01)
        assert through == ["first"]
        with pytest.raises(Rejected) as caught:
            await call("third")
        assert (caught.value.reason, caught.value.message) == (
            Reason.TOO_BUSY,
            "2 calls are under way already",
        )
        leave.set()
        await asyncio.gather(*calls)
        await call("fourth")

    asyncio.run(story())
    assert through == ["first", "second", "fourth"]


def test_a_busy_node_says_so_and_when_to_ask_again(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing about fees: a read has none."""
    monkeypatch.setattr(runtime, "MAX_READING", 0)
    config = NodeConfig(genesis=chain.document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True)
    with TestClient(create_app(config)) as node:
        answer = node.get("/rpc/getBlock/0")
        assert (answer.status_code, answer.json()["code"]) == (503, "too_busy")
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["fix"] == "try again in a second; nothing is wrong with the request"


def test_large_blocks_wait_apart_from_small_ones(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that asks for more than a usual one, of a block that has more."""
    monkeypatch.setattr(runtime, "MAX_READING_MUCH", 0)
    monkeypatch.setattr(chain_routes, "MAX_PAGE", 1)
    config = NodeConfig(genesis=chain.document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True)
    with TestClient(create_app(config)) as node:
        sent = []
        for nonce in (3, 2, 1, 4):  # the first leaves with the two that waited for it, the fourth by itself
            tx = chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=nonce)
            sent.append(node.post("/rpc/sendTx", json=transaction_to_plain(tx)).json()["txHash"])
            if nonce == 1:
                large = node.get(f"/rpc/getTx/{sent[0]}?wait=final").json()["height"]
        small = node.get(f"/rpc/getTx/{sent[3]}?wait=final").json()["height"]
        assert node.get(f"/rpc/getBlock/{small}").json()["txs"] == sent[3:]
        assert node.get(f"/rpc/getBlock/{large}?limit=1").json()["next"] == 1
        assert node.get(f"/rpc/getBlock/{large}").json()["code"] == "too_busy"


def test_a_node_that_has_stopped_itself_says_so_to_everybody(node: TestClient, chain: Chain) -> None:
    node.app.state.service.runtime.stopped.set()  # type: ignore[attr-defined]
    tx = transaction_to_plain(chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}))
    answers = [
        node.get("/rpc/getBlock/0"),
        node.get(f"/rpc/getTx/{'00' * 32}?wait=final"),
        node.get(f"/rpc/proof/accounts/{ALICE.address}"),
        node.post("/rpc/sendTx", json=tx),
    ]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "node_stopped")}
    assert all("retry-after" not in answer.headers for answer in answers)


# Waiting for finality


def test_strangers_leave_places_for_this_machine_and_for_each_other() -> None:
    places = Places(most=5, most_at_owner=2, what="waits", reserved=2)
    for host in ("8.8.8.8", "8.8.8.8", "9.9.9.9"):
        places.take(host)
    for host, detail in (("8.8.8.8", "there are 3 waits already"), ("1.1.1.1", "there are 3 waits already")):
        with pytest.raises(Rejected, match=detail):
            places.take(host)
    assert places.take("127.0.0.1") == places.take("10.0.0.7") == ""
    with pytest.raises(Rejected, match="there are 5 waits already"):
        places.take("127.0.0.1")
    places.leave("")
    places.leave("")
    places.leave("9.9.9.9")
    with pytest.raises(Rejected, match=r"2 waits at 8\.8\.8\.8"):
        places.take("8.8.8.8")


def test_attack_one_address_takes_no_more_than_its_share_of_the_waits(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_WAITERS_AT_OWNER", 0)
    config = NodeConfig(genesis=chain.document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True)
    app = create_app(config)
    tx = transaction_to_plain(chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}))
    with TestClient(app, client=("8.8.8.8", 1)) as far:
        unknown = f"/rpc/getTx/{'00' * 32}"
        for wait in ("final", "included"):
            answer = far.get(f"{unknown}?wait={wait}&timeout=0.01")
            assert (answer.status_code, answer.json()["code"]) == (503, "too_busy")
        assert far.post("/rpc/sendTx?wait=final", json=tx).json()["code"] == "too_busy"
        assert far.get(unknown).json()["code"] == "unknown_transaction"
        near = TestClient(app, client=("127.0.0.1", 1))
        assert near.get(f"{unknown}?wait=final&timeout=0.01").json()["code"] == "unknown_transaction"
        assert len(app.state.service.waiters) == 0


def test_attack_waits_do_not_outlive_their_connections(chain: Chain, tmp_path: Path) -> None:
    config = NodeConfig(genesis=chain.document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True)
    app = create_app(config)
    with served(app) as url:
        waiters = app.state.service.waiters
        request = f"GET /rpc/getTx/{'00' * 32}?wait=final&timeout=60 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        sockets = [socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) for _ in range(20)]
        for connection in sockets:
            connection.sendall(request)
        until(lambda: len(waiters) == 20)
        for connection in sockets[1:]:
            connection.close()
        until(lambda: len(waiters) == 1)
        assert app.state.service.runtime.queues()["waiting_for_finality"] == 1
        sockets[0].close()
        until(lambda: len(waiters) == 0)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)
