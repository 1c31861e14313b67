"""Newest first, what waits, a block with its accounts, jobs; and upstream's names for what is here already."""

import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from aitbc.core.chain.mempool import Mempool
from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.types.amounts import AIT
from aitbc.node import history, runtime
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from support.chain import Chain
from support.people import ALICE, BOB, EVE, VALIDATOR

Json = dict[str, Any]


def transfer(chain: Chain, nonce: int, to: str = BOB.address) -> Json:
    return transaction_to_plain(chain.sign(ALICE, "TRANSFER", {"to": to, "amount": 10}, nonce=nonce))


def final(node: TestClient, tx: Json) -> Json:
    answer: Json = node.post("/rpc/sendTx?wait=final", json=tx).json()
    assert answer["status"] == "final"
    return answer


def pages(node: TestClient, path: str, limit: int) -> list[Json]:
    items: list[Json] = []
    cursor = ""
    while True:
        page = node.get(path, params={"limit": limit, "cursor": cursor}).json()
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = page["next"]


def test_newest_blocks_and_transactions_in_pages(node: TestClient, chain: Chain) -> None:
    sent = [final(node, transfer(chain, nonce))["txHash"] for nonce in range(1, 6)]
    height = node.get("/rpc/getHead").json()["height"]
    blocks = pages(node, "/rpc/blocks", 2)
    assert [block["height"] for block in blocks] == list(range(height, -1, -1))
    assert node.get("/rpc/getBlockCount").json() == {"count": height + 1}
    several = [item["txHash"] for item in pages(node, "/rpc/transactions", 2)]
    assert several == sent[::-1]
    middle = node.get("/rpc/blocks-range", params={"start": 1, "end": 3}).json()
    assert [block["height"] for block in middle["items"]] == [1, 2, 3]
    assert node.get("/rpc/blocks-range", params={"start": 0, "end": 100}).json()["code"] == "out_of_range"


def test_transactions_of_one_block_keep_their_order_over_pages(node: TestClient, chain: Chain) -> None:
    txs = [transfer(chain, nonce) for nonce in range(2, 8)]
    hashes = [item["txHash"] for item in node.post("/rpc/sendTxs", json=txs).json()["items"]]
    first = final(node, transfer(chain, 1))
    node.get(f"/rpc/getTx/{hashes[-1]}?wait=final")
    found = [item["txHash"] for item in pages(node, "/rpc/transactions", 2)]
    assert sorted(found) == sorted([first["txHash"], *hashes])
    places = [(-item["height"], item["index"]) for item in pages(node, "/rpc/transactions", 4)]
    assert places == sorted(places)


def test_what_waits_is_listed_by_sender_and_nonce(node: TestClient, chain: Chain) -> None:
    waiting = [transfer(chain, nonce) for nonce in (5, 3, 4)]
    assert node.post("/rpc/sendTxs", json=waiting).json()["accepted"] == 3
    page = node.get("/rpc/mempool").json()
    assert (page["count"], [item["nonce"] for item in page["items"]]) == (3, [3, 4, 5])
    assert page["bytes"] > 300
    assert [item["nonce"] for item in pages(node, "/rpc/mempool", 1)] == [3, 4, 5]
    assert node.get("/rpc/mempool", params={"sender": BOB.address}).json()["items"] == []
    node.post("/rpc/sendTxs", json=[transfer(chain, 1), transfer(chain, 2)])


def test_attack_short_pages_of_long_lists_are_read_with_what_is_much(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither holds up the small reads of others, nor sorts what it does not answer."""
    with monkeypatch.context() as patched:
        patched.setattr(runtime, "MAX_READING_MUCH", 0)
        config = NodeConfig(genesis=chain.document, data=tmp_path / "a", proposer=VALIDATOR, never_voted=True)
        with TestClient(create_app(config)) as node:
            for path in ("/rpc/mempool", "/rpc/transactions"):
                assert node.get(path, params={"limit": 1}).json()["code"] == "too_busy"
            assert node.get("/rpc/blocks").status_code == 200
    monkeypatch.setattr(Mempool, "all", None)
    monkeypatch.setattr(history, "MAX_LOOKED", 2)
    config = NodeConfig(genesis=chain.document, data=tmp_path / "b", proposer=VALIDATOR, never_voted=True)
    with TestClient(create_app(config)) as node:
        for nonce in (1, 2, 3):
            final(node, transfer(chain, nonce))
        height = node.get("/rpc/getHead").json()["height"]
        node.post("/rpc/sendTx", json=transfer(chain, 5))
        assert node.get("/rpc/mempool", params={"limit": 1}).json()["count"] == 1
        page = node.get("/rpc/transactions", params={"limit": 9}).json()
        assert (len(page["items"]), page["next"]) == (2, f"{height - 2}.0")


def test_a_block_with_its_transactions_and_the_accounts_that_they_touched(
    node: TestClient, chain: Chain
) -> None:
    """Seed 002: query a single block and return all its transaction data and state."""
    first = final(node, transfer(chain, 1))
    final(node, transfer(chain, 2))
    block = node.get(f"/rpc/getBlock/{first['height']}", params={"full": True}).json()
    assert [item["txHash"] for item in block["transactions"]] == block["txs"] == [first["txHash"]]
    after = {account["address"]: account for account in block["accounts"]}
    assert block["accountsAt"] == first["height"]
    assert after[BOB.address]["balance"] == 1_000 * AIT + 10, "not what came later"
    assert after[ALICE.address]["nonce"] == 1
    now = node.get(f"/rpc/getBalance/{BOB.address}").json()
    assert now["balance"] == 1_000 * AIT + 20


def test_a_block_that_the_state_no_longer_reaches_shows_accounts_of_the_head(
    node: TestClient, chain: Chain
) -> None:
    first = final(node, transfer(chain, 1))
    final(node, transfer(chain, 2))
    node.app.state.service.runtime.executor.state.forget_journal()  # type: ignore[attr-defined]
    block = node.get(f"/rpc/getBlock/{first['height']}", params={"full": True}).json()
    assert block["accountsAt"] == node.get("/rpc/getHead").json()["height"] > first["height"]


def test_accounts_in_address_order(node: TestClient) -> None:
    found, after = [], ""
    while after is not None:
        page = node.get("/rpc/accounts", params={"limit": 2, "after": after}).json()
        found += [account["address"] for account in page["items"]]
        after = page["next"]
    assert found == sorted(found)
    assert {ALICE.address, BOB.address} <= set(found)
    assert page["stateRoot"] == node.get("/rpc/get_head").json()["stateRoot"]
    given = node.get("/rpc/genesis_allocations", params={"limit": 1}).json()
    assert given["next"] == given["items"][0]["address"]


# Upstream


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("/rpc/head", "/rpc/get_head"),
        ("/rpc/blocks/0", "/rpc/getBlock/0"),
        (f"/rpc/accounts/{ALICE.address}", f"/rpc/account/{ALICE.address}"),
        ("/rpc/status", "/rpc/info"),
        ("/rpc/peers", "/p2p/peers"),
        ("/rpc/state/snapshot", "/rpc/accounts"),
    ],
)
def test_upstreams_names_answer_the_same(node: TestClient, theirs: str, ours: str) -> None:
    deadline = time.monotonic() + 5
    while node.get("/rpc/height").json()["height"] < 1:  # the first block comes by itself
        assert time.monotonic() < deadline
    assert node.get(theirs).json() == node.get(ours).json()


def test_a_transaction_in_upstreams_words(node: TestClient, chain: Chain) -> None:
    tx = transfer(chain, 1, EVE.address)
    theirs = {
        "from": tx["sender"], "to": EVE.address, "amount": 10, "fee": tx["fee"], "nonce": 1, "type": "transfer",
        "signature": "0x" + tx["sig"], "pubkey": tx["pubkey"], "chain_id": "ait-test",
    }  # fmt: skip
    answer = node.post("/rpc/transaction", json=theirs)
    assert answer.json()["success"] is True, answer.text
    tx_hash = answer.json()["transaction_hash"]
    assert node.get(f"/rpc/transaction/{tx_hash}", params={"wait": "final"}).json()["status"] == "final"
    other = node.post("/rpc/transaction", json={**theirs, "chain_id": "ait-main"})
    assert other.json()["code"] == "wrong_chain"


def test_probes(node: TestClient) -> None:
    assert node.get("/health/live").json() == {"live": True}
    assert node.get("/health/ready").json() == {"ready": True, "why": ""}
