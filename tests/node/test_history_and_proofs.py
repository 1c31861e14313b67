"""What happened, in pages, and what is, with proofs that a stranger's code checks."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from aitbc.client.state_proofs import BadProof, check_ancestor, check_state_proof
from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.types.amounts import AIT
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from support.chain import Chain
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, VALIDATOR

Json = dict[str, Any]


@pytest.fixture
def config(chain: Chain, tmp_path: Path) -> NodeConfig:
    return NodeConfig(genesis=chain.document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True)


@pytest.fixture
def node(config: NodeConfig) -> Iterator[TestClient]:
    with TestClient(create_app(config)) as client:
        yield client


def send(node: TestClient, chain: Chain, *args: Any, **options: Any) -> Json:
    """Submit and wait; the local chain only signs."""
    tx = chain.sign(*args, **options)
    tx_id = node.post("/rpc/sendTx", json=transaction_to_plain(tx)).json()["txHash"]
    answer = node.get(f"/rpc/getTx/{tx_id}", params={"wait": "final", "timeout": 20}).json()
    assert answer["status"] == "final", answer
    return dict(answer)


def pages(node: TestClient, path: str, **query: Any) -> list[list[Json]]:
    found, cursor = [], ""
    while True:
        answer = node.get(path, params={**query, "cursor": cursor}).json()
        found.append(answer["items"])
        if answer["next"] is None:
            return found
        cursor = answer["next"]


def test_an_accounts_history_comes_in_pages_the_newest_first(node: TestClient, chain: Chain) -> None:
    sent = [
        send(node, chain, ALICE, "TRANSFER", {"to": EVE.address, "amount": n}, nonce=n)["txHash"]
        for n in range(1, 6)
    ]
    history = f"/rpc/account/{EVE.address}/transactions"
    got = pages(node, history, limit=2)
    assert [len(page) for page in got] == [2, 2, 1]
    assert [item["txHash"] for page in got for item in page] == sent[::-1]
    assert got[0][0]["tx"]["payload"]["amount"] == 5
    assert pages(node, f"/rpc/account/{BOB.address}/transactions") == [[]]
    for cursor in ("x", "1", "1.2.3", "-1.0", "1." + "9" * 40):
        assert node.get(history, params={"cursor": cursor}).json()["code"] == "malformed"


def paid_receipt(node: TestClient, chain: Chain) -> Json:
    """A provider registers, Alice locks, the hub attests, Bob claims."""
    payload = {"role": "provider", "models": []}
    send(node, chain, PROVIDER, "REGISTER", payload, fee=0, witness=chain.countersignature(PROVIDER, HUB))
    now = node.get("/rpc/getHead").json()["timestampMs"]
    lock = {
        "hub": HUB.address,
        "job_id": "job-1",
        "amount": 5 * AIT,
        "request_hash": "sha256:" + "cd" * 32,
        "deliver_by_ms": now + 60_000,
        "claim_until_ms": now + 120_000,
    }
    locked = send(node, chain, ALICE, "JOB_LOCK", lock)
    claim, witness = chain.claim_parts(PROVIDER, locked["txHash"])
    return send(node, chain, BOB, "RECEIPT_CLAIM", claim, witness=witness)


def test_receipts_are_found_by_provider_client_and_job(node: TestClient, chain: Chain) -> None:
    claim = paid_receipt(node, chain)
    receipt_id = claim["tx"]["payload"]["receipt_id"]
    one = node.get(f"/rpc/receipts/{receipt_id}").json()
    assert (one["txHash"], one["height"], one["minted"]) == (claim["txHash"], claim["height"], 2 * AIT)
    for query in ({"provider": PROVIDER.address}, {"client": ALICE.address}, {"job": "job-1"}):
        (items,) = pages(node, "/rpc/receipts", **query)
        assert [item["receipt_id"] for item in items] == [receipt_id]
    assert pages(node, "/rpc/receipts", provider=BOB.address) == [[]]
    for query in ({}, {"provider": PROVIDER.address, "job": "job-1"}):
        assert node.get("/rpc/receipts", params=query).json()["code"] == "missing_field"


def test_a_record_and_its_absence_are_proved_to_a_stranger(node: TestClient, chain: Chain) -> None:
    send(node, chain, ALICE, "TRANSFER", {"to": EVE.address, "amount": 7})
    here = node.get(f"/rpc/proof/accounts/{EVE.address}").json()
    value = check_state_proof(here, here["header"]["stateRoot"], store="accounts", key=EVE.address)
    assert value is not None and int.from_bytes(value[:8], "big") == 7
    absent = node.get(f"/rpc/proof/registry/provider:{EVE.address}").json()
    assert (
        check_state_proof(
            absent, absent["header"]["stateRoot"], store="registry", key=f"provider:{EVE.address}"
        )
        is None
    )
    here["leaf"]["value"] = (8).to_bytes(8, "big").hex() + here["leaf"]["value"][16:]
    with pytest.raises(BadProof):
        check_state_proof(here, here["header"]["stateRoot"], store="accounts", key=EVE.address)


def test_the_past_is_proved_as_far_as_the_journal_reaches(node: TestClient, chain: Chain) -> None:
    heights = {
        amount: send(node, chain, ALICE, "TRANSFER", {"to": EVE.address, "amount": amount}, nonce=amount)[
            "height"
        ]
        for amount in (1, 2, 3)
    }
    for amount, balance in ((1, 1), (2, 3), (3, 6)):
        proof = node.get(f"/rpc/proof/accounts/{EVE.address}", params={"height": heights[amount]}).json()
        assert proof["header"]["height"] == heights[amount]
        root = node.get(f"/rpc/getBlock/{heights[amount]}").json()["stateRoot"]
        value = check_state_proof(proof, root, store="accounts", key=EVE.address)
        assert value is not None and int.from_bytes(value[:8], "big") == balance
    before = node.get(f"/rpc/proof/accounts/{EVE.address}", params={"height": heights[1] - 1}).json()
    assert check_state_proof(before, before["header"]["stateRoot"], store="accounts", key=EVE.address) is None
    above = node.get(f"/rpc/proof/accounts/{EVE.address}", params={"height": 10**6})
    assert (above.status_code, above.json()["code"]) == (400, "out_of_range")


def test_after_a_restart_only_the_head_is_proved(config: NodeConfig, chain: Chain) -> None:
    with TestClient(create_app(config)) as node:
        height = send(node, chain, ALICE, "TRANSFER", {"to": EVE.address, "amount": 7})["height"]
    with TestClient(create_app(config)) as node:
        head = node.get(f"/rpc/proof/accounts/{EVE.address}").json()
        root = head["header"]["stateRoot"]
        assert check_state_proof(head, root, store="accounts", key=EVE.address) is not None
        old = node.get(f"/rpc/proof/accounts/{EVE.address}", params={"height": height - 1})
        assert old.json()["code"] == "out_of_range" and "older states are not kept" in old.json()["detail"]


def test_an_old_block_is_proved_to_be_an_ancestor_of_the_head(node: TestClient, chain: Chain) -> None:
    for nonce in range(1, 6):
        send(node, chain, ALICE, "TRANSFER", {"to": EVE.address, "amount": 1}, nonce=nonce)
    head = node.get("/rpc/getHead").json()["height"]
    for height in range(head):
        proof = node.get(f"/rpc/proof/history/{height}").json()
        assert proof["header"]["height"] == height
        check_ancestor(proof, proof["head"]["historyRoot"])
        proof["header"]["timestampMs"] += 1
        with pytest.raises(BadProof):
            check_ancestor(proof, proof["head"]["historyRoot"])
    assert node.get(f"/rpc/proof/history/{head + 5}").json()["code"] == "out_of_range"


def test_a_block_comes_in_pages(node: TestClient, chain: Chain) -> None:
    sent = [
        node.post(
            "/rpc/sendTx",
            json=transaction_to_plain(
                chain.sign(ALICE, "TRANSFER", {"to": EVE.address, "amount": n}, nonce=n)
            ),
        ).json()["txHash"]
        for n in range(1, 6)
    ]
    last = node.get(f"/rpc/getTx/{sent[-1]}", params={"wait": "final", "timeout": 20}).json()
    whole = node.get(f"/rpc/getBlock/{last['height']}").json()
    assert whole["next"] is None and whole["txs"][-1] == sent[-1]
    got, start = [], 0
    while start is not None:
        page = node.get(f"/rpc/getBlock/{whole['hash']}", params={"start": start, "limit": 2}).json()
        got, start = got + page["txs"], page["next"]
    assert got == whole["txs"]


def test_what_waited_at_the_end_waits_again_at_the_beginning(config: NodeConfig, chain: Chain) -> None:
    """Nonce 2 waits for nonce 1, over a restart."""
    late = chain.sign(ALICE, "TRANSFER", {"to": EVE.address, "amount": 2}, nonce=2)
    with TestClient(create_app(config)) as node:
        late_id = node.post("/rpc/sendTx", json=transaction_to_plain(late)).json()["txHash"]
        assert node.get(f"/rpc/getTx/{late_id}").json()["status"] == "pending"
    with TestClient(create_app(config)) as node:
        send(node, chain, ALICE, "TRANSFER", {"to": EVE.address, "amount": 1}, nonce=1)
        answer = node.get(f"/rpc/getTx/{late_id}", params={"wait": "final", "timeout": 20}).json()
        assert answer["status"] == "final"


def test_the_lines_of_the_howto_check_this_node(
    node: TestClient, chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(1, 4):
        send(node, chain, ALICE, "TRANSFER", {"to": EVE.address, "amount": n}, nonce=n)
    page = (Path(__file__).parents[2] / "docs" / "howto" / "check-a-node.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    code = re.sub(r'alice = "ait1\w+"', f'alice = "{ALICE.address}"', code)
    base = "http://127.0.0.1:8080"
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda url: io.BytesIO(node.get(url.removeprefix(base)).content)
    )
    exec(code, {})
    balance = node.get(f"/rpc/account/{ALICE.address}").json()["balance"]
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("alice has ") and int(said[0].split()[-1]) > balance
    assert said[1] == "block 1 is " + node.get("/rpc/getBlock/1").json()["hash"]
