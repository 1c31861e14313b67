"""What a node of a chain that agrees by work answers over HTTP: in every view, a block may still be left."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.sync.ranges import SyncState
from aitbc.node.catching_up import SyncView
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from aitbc.node.work_runtime import WorkRuntime
from support.chain import Chain
from support.people import ALICE, BOB, person
from support.work import FAST, work_genesis

Json = dict[str, Any]
DEPTH = 60
"""Blocks, 50 ms each at best: nothing here becomes final while a test looks."""


@contextmanager
def miner(chain: Chain, folder: Path, *, mines: bool = True) -> Iterator[TestClient]:
    config = NodeConfig(
        genesis=chain.document, data=folder, proposer=person("miner"), mining_processes=int(mines)
    )
    with TestClient(
        create_app(config), base_url="http://127.0.0.1:8080", client=("127.0.0.1", 50_000)
    ) as client:
        yield client


@pytest.fixture
def chain() -> Chain:
    return Chain(
        work_genesis(msgspec.structs.replace(FAST, difficulty=2_000, interval_ms=50, finality_depth=DEPTH))
    )


def payment(chain: Chain, nonce: int, amount: int = 1) -> Json:
    return transaction_to_plain(
        chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": amount}, nonce=nonce)
    )


def test_no_view_calls_a_young_block_final(chain: Chain, tmp_path: Path) -> None:
    with (
        miner(chain, tmp_path) as node,
        node.websocket_connect(f"/rpc/ws?streams=address:{BOB.address}") as ws,
    ):
        assert ws.receive_json()["type"] == "hello"
        paid = node.post("/rpc/sendTx?wait=included&timeout=60", json=payment(chain, 1))
        assert (paid.status_code, paid.json()["status"], paid.json()["final"]) == (200, "included", False)
        assert paid.json()["confirmations"] < DEPTH // 2, "it is answered at the first block"
        found = paid.json()
        waits = node.post("/rpc/sendTx?wait=final&timeout=0.2", json=payment(chain, 1))
        assert (waits.status_code, waits.headers["Location"]) == (202, f"/rpc/getTx/{found['txHash']}")
        assert (waits.json()["status"], waits.json()["known"]) == ("included", True)
        views = {
            "told": ws.receive_json()["data"],
            "account": node.get(f"/rpc/account/{BOB.address}/transactions").json()["items"][0],
            "newest": node.get("/rpc/transactions").json()["items"][0],
            "block": node.get(f"/rpc/getBlock/{found['height']}?full=1").json()["transactions"][0],
            "one": node.get(f"/rpc/getTx/{found['txHash']}").json(),
        }
        said = {name: (view["txHash"], view["status"], view["final"]) for name, view in views.items()}
        assert said == dict.fromkeys(views, (found["txHash"], "included", False))
        assert all(view["confirmations"] >= 1 for view in views.values())


def test_a_node_that_is_behind_is_not_ready(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = SyncView(state=SyncState.BLOCKS, height=3, target=900, blocks_per_s=None, eta_s=None)
    with miner(chain, tmp_path, mines=False) as node:
        assert node.get("/health/ready").json() == {"ready": True, "why": ""}
        monkeypatch.setattr(WorkRuntime, "sync_view", lambda _runtime: behind)
        answer = node.get("/health/ready")
        assert (answer.status_code, answer.json()) == (503, {"ready": False, "why": "catches_up"})


def test_its_neighbours_are_counted(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with miner(chain, tmp_path, mines=False) as node:
        assert node.get("/rpc/info").json()["peers"] == 0
        with monkeypatch.context() as patch:
            patch.setattr(WorkRuntime, "neighbours", SimpleNamespace(peers=3))
            assert node.get("/rpc/info").json()["peers"] == 3
