"""So many are served, so many wait, the next is refused at once; and what is refused says why."""

import asyncio
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node import runtime
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from aitbc.node.queues import Gate
from aitbc.node.routes import chain as chain_routes
from support.chain import Chain
from support.people import ALICE, BOB, VALIDATOR


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
