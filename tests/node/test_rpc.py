"""The RPC of seed 000 §9 with the seed's payloads (§18) and shapes (§5), and its errors."""

import contextlib
import socket
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import receipt_core_digest, receipt_id_of
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.records import record_from_bytes
from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.ledger.genesis import Authority, ConsensusSettings, GenesisAccount
from aitbc.core.types.amounts import AIT, MAX_SIGNED
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.receipts import ReceiptCore
from aitbc.node import attestations, registry
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app, open_node
from aitbc.ports import StorageError
from support.chain import Chain, genesis
from support.people import ALICE, BOB, EVE, FAUCET, HUB, PROVIDER, SYNTHETIC, VALIDATOR, KeySigner

Json = dict[str, Any]


def send(node: TestClient, chain: Chain, sender: KeySigner, kind: str, payload: Json, **options: Any) -> Json:
    """Submit and wait until final."""
    nonce = node.get(f"/rpc/account/{sender.address}").json()["nextNonce"]
    tx = chain.sign(sender, kind, payload, nonce=nonce, **options)
    answer = node.post("/rpc/sendTx", json=transaction_to_plain(tx))
    assert answer.status_code == 200, answer.text
    return node.get(f"/rpc/getTx/{answer.json()['txHash']}?wait=final&proof=1").json()


def test_a_transfer_in_the_seeds_shape(node: TestClient, chain: Chain) -> None:
    view = transaction_to_plain(chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 12345}, fee=10))
    assert set(view) == {"type", "sender", "nonce", "fee", "payload", "sig", "pubkey"}
    del view["pubkey"]
    tx_hash = node.post("/rpc/sendTx", json=view).json()["txHash"]
    answer = node.get(f"/rpc/getTx/{tx_hash}?wait=final").json()
    assert answer["status"] == "final"
    assert answer["receipt"]["status"] == "ok"
    assert node.get(f"/rpc/getBalance/{BOB.address}").json() == {
        "address": BOB.address,
        "balance": 1_000 * AIT + 12345,
        "nonce": 0,
    }
    again = node.post("/rpc/sendTx", json=view)
    assert again.json() == {"txHash": tx_hash, "known": True}, "sending it again is harmless"


def test_head_and_blocks_in_the_seeds_shape_and_both_spellings(node: TestClient, chain: Chain) -> None:
    answer = send(node, chain, ALICE, "TRANSFER", {"to": BOB.address, "amount": 1})
    head = node.get("/rpc/getHead").json()
    header = node.get("/rpc/get_head").json()
    assert head.items() <= header.items(), "a superset: the block's header (seed 001)"
    assert head["height"] == answer["height"]
    block = node.get(f"/rpc/getBlock/{answer['height']}").json()
    assert (
        block.items()
        >= {name: header[name] for name in ("parent", "stateRoot", "proposer", "txsRoot")}.items()
    )
    assert block == node.get(f"/rpc/getBlock/{block['hash']}").json()
    assert block["txs"] == [answer["txHash"]]
    assert {"parent", "height", "timestamp", "proposer", "txs", "stateRoot", "sig"} <= set(block)
    assert block["proposer"] == VALIDATOR.address
    parent = node.get(f"/rpc/getBlock/{answer['height'] - 1}").json()
    assert block["parent"] == parent["hash"]


def test_two_transfers_of_one_sender_at_once_cannot_double_spend(node: TestClient, chain: Chain) -> None:
    """The public ancestor confirmed both; here the second one waits its turn and fails."""
    views = [
        transaction_to_plain(
            chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 700 * AIT}, nonce=nonce)
        )
        for nonce in (1, 2)
    ]
    same_nonce = transaction_to_plain(
        chain.sign(ALICE, "TRANSFER", {"to": EVE.address, "amount": 800 * AIT}, nonce=1)
    )
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda v=view: answers.append(node.post("/rpc/sendTx", json=v)))
        for view in [*views, same_nonce]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        if answer.status_code == 200:
            node.get(f"/rpc/getTx/{answer.json()['txHash']}?wait=final")
    spent = 1_000 * AIT - node.get(f"/rpc/getBalance/{ALICE.address}").json()["balance"]
    assert spent <= 800 * AIT + 300
    supply = node.get("/rpc/supply").json()
    assert supply["total"] == supply["genesis"] - supply["burned"]


def test_the_seeds_faucet_call(node: TestClient) -> None:
    answer = node.post("/admin/mintFaucet", json={"address": EVE.address, "amount": 1_000_000})
    assert answer.status_code == 200
    node.get(f"/rpc/getTx/{answer.json()['txHash']}?wait=final")
    assert node.get(f"/rpc/getBalance/{EVE.address}").json()["balance"] == 1_000_000
    for wish in (
        {"address": EVE.address, "amount": -5},
        {"address": "x", "amount": 5},
        {"address": EVE.address},
    ):
        assert node.post("/admin/mintFaucet", json=wish).status_code == 400
    assert node.get("/rpc/supply").json()["faucet"] == 1_000_000


def test_admin_routes_answer_neither_strangers_nor_web_pages(chain: Chain, tmp_path: Path) -> None:
    config = NodeConfig(genesis=chain.document, data=tmp_path / "n", proposer=VALIDATOR, never_voted=True)
    wish = {"address": EVE.address, "amount": 5}
    with TestClient(create_app(config), client=("10.0.0.7", 50_000)) as stranger:
        assert stranger.post("/admin/mintFaucet", json=wish).json()["code"] == "loopback_only"
    local_url = "http://127.0.0.1:8080"
    with TestClient(create_app(config), base_url=local_url, client=("127.0.0.1", 50_000)) as local:
        page = local.post("/admin/mintFaucet", json=wish, headers={"origin": "http://evil.example"})
        assert page.json()["code"] == "no_browsers"
        assert local.post("/admin/mintFaucet", json=wish).json()["code"] == "not_devnet"


def claim_in_the_seeds_shape(chain: Chain, number: int, nonce: int) -> Json:
    """Seed 000 §18.2: no lock, no attestation; the node asks for it."""
    core = ReceiptCore(
        job_id=f"job_{number}",
        client_addr=ALICE.address,
        miner_addr=PROVIDER.address,
        compute_units=2500,
        price=50_000,
        output_hash="sha256:" + "ab" * 32,
    )
    payload = msgspec.json.decode(jcs(core))
    payload["receipt_id"] = receipt_id_of(core, chain.genesis_hash)
    payload["miner_sig"] = PROVIDER.sign(receipt_core_digest(core, chain.genesis_hash)).hex()
    return transaction_to_plain(chain.sign(PROVIDER, "RECEIPT_CLAIM", payload, nonce=nonce, fee=50))


def test_a_synthetic_claim_as_the_seed_prints_it(node: TestClient, chain: Chain) -> None:
    claim = claim_in_the_seeds_shape(chain, 42, 1)
    assert set(claim["payload"]) == {
        "receipt_id", "job_id", "client_addr", "miner_addr", "compute_units", "price", "output_hash", "miner_sig",
    }  # fmt: skip
    answer = node.post("/rpc/submitReceipt", json=claim)
    assert answer.status_code == 200, answer.text
    final = node.get(f"/rpc/getTx/{answer.json()['txHash']}?wait=final").json()
    assert final["status"] == "final"
    assert final["tx"]["witness"]["attestation"]["routed"] == "synthetic"
    assert node.get(f"/rpc/getBalance/{PROVIDER.address}").json()["balance"] == 2_500_000 - 50
    receipt = node.get(f"/rpc/receipts/{claim['payload']['receipt_id']}").json()
    assert (receipt["units"], receipt["minted"], receipt["hub"]) == (2500, 2_500_000, SYNTHETIC.address)
    second = node.post("/rpc/submitReceipt", json=claim_in_the_seeds_shape(chain, 42, 2))
    assert second.json()["code"] == "receipt_already_claimed"
    unknown = node.post("/rpc/submitReceipt", json=claim_in_the_seeds_shape(chain, 1_000_001, 2))
    assert unknown.json()["code"] == "attestation_missing"


def test_the_synthetic_attester_exists_on_a_devnet_only(tmp_path: Path) -> None:
    from support.chain import genesis

    chain = Chain(genesis(devnet=0, faucet="", synthetic_attester=""))
    config = NodeConfig(
        genesis=chain.document,
        data=tmp_path / "n",
        proposer=VALIDATOR,
        never_voted=True,
        synthetic_attester=SYNTHETIC,
    )
    with TestClient(create_app(config), client=("127.0.0.1", 50_000)) as node:
        question = {
            "job_id": "job_42", "client": ALICE.address, "miner": PROVIDER.address, "price": 1,
            "compute_units": 1, "output_hash": "sha256:" + "ab" * 32,
        }  # fmt: skip
        assert node.post("/rpc/attest", json=question).json()["code"] == "synthetic_not_allowed"
        refused = node.post("/rpc/submitReceipt", json=claim_in_the_seeds_shape(chain, 42, 1))
        assert refused.json()["code"] == "attestation_missing"


def test_a_wrong_claim_is_refused_at_the_door_with_its_reason(node: TestClient, chain: Chain) -> None:
    payload, witness = chain.claim_parts(PROVIDER, "00" * 32)
    tx = transaction_to_plain(chain.sign(HUB, "RECEIPT_CLAIM", payload, nonce=1, witness=witness))
    answer = node.post("/rpc/submitReceipt", json=tx)
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_lock")


BAD_BODIES: list[tuple[bytes, str]] = [
    (b"", "malformed"),
    (b"{", "malformed"),
    (b"[]", "wrong_type"),
    (b'{"type":"TRANSFER","type":"TRANSFER"}', "duplicate_key"),
    (b'{"type":"TRANSFER","sender":"x","nonce":1.0,"fee":1,"payload":{},"sig":""}', "float_not_allowed"),
    (b'{"type":"TRANSFER","sender":"x","nonce":1,"fee":1,"payload":{},"sig":"","x":1}', "unknown_field"),
    (b'{"type":"TRANSFER","sender":"x","nonce":1,"fee":1,"payload":{}}', "missing_field"),
    (b'{"type":"TRANSFER","sender":"x","nonce":1,"fee":-1,"payload":{},"sig":""}', "out_of_range"),
    (b'{"type":"TRANSFER","sender":"x","nonce":1,"fee":1,"payload":{},"sig":"ZZ"}', "bad_hex"),
    (b'{"type":"TRANSFER","sender":"x","nonce":1,"fee":1,"payload":{},"sig":"","pubkey":"00"}', "bad_hex"),
    (b'{"type":"T","sender":"","nonce":2,"fee":1,"payload":{},"sig":"","pubkey":"' + b"0" * 64 + b'"}', "unknown_type"),
    (b"[" * 70_000, "too_large"),
    (b"[" * 60_000, "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code"), BAD_BODIES, ids=[f"{i} {row[1]}" for i, row in enumerate(BAD_BODIES)]
)
def test_bad_bodies_are_problem_details_with_a_code_and_a_fix(
    node: TestClient, body: bytes, code: str
) -> None:
    answer = node.post("/rpc/sendTx", content=body)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == code, problem
    assert problem["type"] == f"urn:aitbc:{code}"
    assert problem["status"] == answer.status_code
    assert problem["fix"]


NOT_THERE = [
    ("/rpc/getBlock/99", "unknown_block"),
    ("/rpc/getBlock/" + "00" * 32, "unknown_block"),
    ("/rpc/getBlock/zz", "bad_hex"),
    ("/rpc/getTx/" + "00" * 32, "unknown_transaction"),
    ("/rpc/getTx/xyz", "bad_hex"),
    ("/rpc/getBalance/bob", "bad_address"),
    ("/rpc/lock/" + "00" * 32, "unknown_lock"),
    ("/rpc/receipts/rcpt_00", "unknown_receipt"),
    ("/rpc/nothing", "not_found"),
    ("/rpc/getTx/%2e%2e%2f", "not_found"),
    ("/rpc/getHead/", "not_found"),
    ("/rpc/sendTx", "method_not_allowed"),
    ("/rpc/getTx/" + "00" * 32 + "?timeout=x", "bad_parameter"),
    ("/rpc/getTx/" + "00" * 32 + "?timeout=60", "unknown_transaction"),
    ("/rpc/getTx/" + "00" * 32 + "?timeout=60.1", "bad_parameter"),
    ("/rpc/getTx/" + "00" * 32 + "?timeout=inf", "bad_parameter"),
    ("/rpc/getTx/" + "00" * 32 + "?timeout=nan", "bad_parameter"),
    ("/rpc/getTx/" + "00" * 32 + "?timeout=-1", "bad_parameter"),
]


@pytest.mark.parametrize(("path", "code"), NOT_THERE)
def test_what_is_not_there_says_so(node: TestClient, path: str, code: str) -> None:
    answer = node.get(path, follow_redirects=False)
    assert (answer.headers["content-type"], answer.json()["code"]) == ("application/problem+json", code)


def test_fee_params_registry_metrics_and_the_page(node: TestClient, chain: Chain) -> None:
    question = {"type": "TRANSFER", "payload": {"to": BOB.address, "amount": 12345}}
    assert node.post("/rpc/estimateFee", json=question).json() == {"fee": 7}
    assert node.get("/rpc/params").json()["mint_per_unit"] == 1_000
    assert node.get("/rpc/registry?role=provider").json() == {"items": [], "next": None}
    assert node.get("/rpc/validators").json()["items"][0]["address"] == VALIDATOR.address
    assert jcs(msgspec.json.decode(node.get("/rpc/genesis").content)) == chain.document
    send(node, chain, ALICE, "TRANSFER", {"to": BOB.address, "amount": 1})
    metrics = node.get("/rpc/metrics").text
    assert "blockchain_blocks_total" in metrics
    assert "blockchain_transactions_total 1.0" in metrics
    page = node.get("/").text
    assert "AITBC node" in page
    assert "http" not in page.replace("http-equiv", "")
    assert node.get("/health").json()["status"] == "ok"
    assert "/rpc/sendTx" in node.get("/openapi.json").json()["paths"]


def test_a_restart_goes_on_where_it_stopped(chain: Chain, tmp_path: Path) -> None:
    config = NodeConfig(genesis=chain.document, data=tmp_path / "n", proposer=VALIDATOR, never_voted=True)
    heads = []
    for turn in range(3):
        with TestClient(create_app(config)) as node:
            if heads:
                assert node.get(f"/rpc/getBlock/{heads[-1]['height']}").json()["hash"] == heads[-1]["hash"]
            send(node, chain, ALICE, "TRANSFER", {"to": BOB.address, "amount": 1 + turn})
            heads.append(node.get("/rpc/getHead").json())
    assert [head["height"] for head in heads] == [1, 2, 3] or heads[-1]["height"] >= 3


def test_the_second_node_on_a_folder_is_refused(chain: Chain, tmp_path: Path) -> None:
    from aitbc.ports import StorageError

    config = NodeConfig(genesis=chain.document, data=tmp_path / "n", proposer=VALIDATOR, never_voted=True)
    with (
        TestClient(create_app(config)),
        pytest.raises(StorageError, match="another node"),
        TestClient(create_app(config)),
    ):
        pass


def test_a_node_without_a_key_serves_and_refuses_what_it_cannot_include(chain: Chain, tmp_path: Path) -> None:
    config = NodeConfig(genesis=chain.document, data=tmp_path / "node")
    with TestClient(create_app(config)) as node:
        tx = chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1})
        answer = node.post("/rpc/sendTx", json=transaction_to_plain(tx))
        assert (answer.status_code, answer.json()["code"]) == (503, "cannot_include")
        assert node.get("/rpc/getHead").json()["height"] == 0
        assert node.get("/health").status_code == 200


def test_a_lone_validator_without_a_guard_needs_its_operators_word(chain: Chain, tmp_path: Path) -> None:
    """A new machine with the old key would sign the old heights again."""
    first = NodeConfig(genesis=chain.document, data=tmp_path / "node", proposer=VALIDATOR)
    with pytest.raises(StorageError, match="--never-voted"), TestClient(create_app(first)):
        pass
    with TestClient(create_app(msgspec.structs.replace(first, never_voted=True))) as node:
        assert node.get("/rpc/consensus").json()["part"] == "votes"
    with TestClient(create_app(first)) as node:
        assert node.get("/rpc/consensus").json()["part"] == "votes", "asked once: the guard is there now"


def test_one_of_several_validators_without_a_guard_watches(tmp_path: Path) -> None:
    two = [Authority(pubkey=key_to_text(who.auth_key)) for who in (VALIDATOR, EVE)]
    document = jcs(msgspec.structs.replace(genesis(), authorities=two))
    config = NodeConfig(genesis=document, data=tmp_path / "node", proposer=VALIDATOR, peers=("127.0.0.1:1",))
    with TestClient(create_app(config)) as node:
        assert node.get("/rpc/consensus").json()["part"] == "watches"


def test_a_genesis_with_two_authorities_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    two = [Authority(pubkey=key_to_text(who.auth_key)) for who in (VALIDATOR, EVE)]
    document = jcs(msgspec.structs.replace(genesis(), authorities=two))
    config = NodeConfig(genesis=document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True)
    with pytest.raises(StorageError, match="2 validators"), TestClient(create_app(config)):
        pass


@pytest.mark.parametrize(
    ("times", "plus", "why"),
    [
        (1, 25 * 3600, r"that is \d{4}-\d\d-\d\d \d\d:\d\d UTC"),
        (1000, 0, "that looks like milliseconds; it is in seconds"),
    ],
)
def test_a_chain_whose_clock_would_stand_still_is_not_started(
    tmp_path: Path, times: int, plus: int, why: str
) -> None:
    timestamp = int(time.time()) * times + plus
    document = Chain(msgspec.structs.replace(genesis(), timestamp=timestamp)).document
    config = NodeConfig(genesis=document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True)
    with pytest.raises(Rejected, match=rf"{timestamp} is more than a day ahead \({why}\)"):
        open_node(config)
    assert not (tmp_path / "node" / "chain.db").exists()


def test_a_chain_may_be_started_a_day_before_it_begins(tmp_path: Path) -> None:
    tomorrow = msgspec.structs.replace(genesis(), timestamp=int(time.time()) + 24 * 3600)
    config = NodeConfig(
        genesis=Chain(tomorrow).document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True
    )
    open_node(config).close()


def test_a_block_that_was_damaged_on_disk_is_an_error_with_a_name(chain: Chain, tmp_path: Path) -> None:
    config = NodeConfig(genesis=chain.document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True)
    with TestClient(create_app(config), raise_server_exceptions=False) as node:
        height = send(node, chain, ALICE, "TRANSFER", {"to": BOB.address, "amount": 1})["height"]
        with sqlite3.connect(tmp_path / "node" / "chain.db") as database:
            database.execute("UPDATE tx SET id = ?", (b"\xff" * 32,))
        answer = node.get(f"/rpc/getTx/{'ff' * 32}")
        assert (answer.status_code, answer.json()["code"]) == (500, "storage_damaged")
        with sqlite3.connect(tmp_path / "node" / "chain.db") as database:
            database.execute("DELETE FROM tx")
        answer = node.get(f"/rpc/getBlock/{height}")
        assert (answer.status_code, answer.json()["code"]) == (500, "storage_damaged")


def test_a_hub_that_drips_its_answer_does_not_hold_a_claim(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes in time, the whole does not."""
    monkeypatch.setattr(attestations, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        config = NodeConfig(
            genesis=chain.document,
            data=tmp_path / "node",
            proposer=VALIDATOR,
            never_voted=True,
            attest_urls=(url,),
        )
        with TestClient(create_app(config)) as node:
            payload, _ = chain.claim_parts(PROVIDER, "ab" * 32)
            tx = transaction_to_plain(chain.sign(PROVIDER, "RECEIPT_CLAIM", payload))
            started = time.monotonic()
            answer = node.post("/rpc/submitReceipt", json=tx)
            assert answer.json()["code"] == "attestation_missing"
            assert "no whole answer in 0.5 s" in answer.json()["detail"]
            assert time.monotonic() - started < 3


def drip(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b" ")
            time.sleep(0.1)


def test_the_registry_is_read_one_page_at_a_time_or_one_address_at_once(
    node: TestClient, chain: Chain
) -> None:
    for who in (ALICE, BOB, HUB):
        send(node, chain, who, "REGISTER", {"role": "provider", "models": []})
    send(node, chain, ALICE, "REGISTER", {"role": "hub", "models": []})
    everybody = sorted(who.address for who in (ALICE, BOB, HUB))
    first = node.get("/rpc/registry?role=provider&limit=2").json()
    assert [item["address"] for item in first["items"]] == everybody[:2]
    second = node.get(f"/rpc/registry?role=provider&limit=2&after={first['next']}").json()
    assert ([item["address"] for item in second["items"]], second["next"]) == (everybody[2:], None)
    whole = node.get("/rpc/registry").json()
    assert (len(whole["items"]), whole["next"]) == (3, None)
    one = node.get(f"/rpc/registry?role=hub&address={ALICE.address}").json()
    assert [(item["address"], item["role"]) for item in one["items"]] == [(ALICE.address, "hub")]
    assert node.get(f"/rpc/registry?role=hub&address={BOB.address}").json()["items"] == []
    for limit in (0, 101):
        assert node.get(f"/rpc/registry?limit={limit}").json()["code"] == "bad_parameter"


def test_a_page_of_the_registry_is_taken_apart_beside_the_loop(
    node: TestClient, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred records of 16 KB: reading them would hold every other request."""
    threads = []

    def watched(*args: Any) -> Any:
        threads.append(threading.current_thread().name.partition("_")[0])
        return record_from_bytes(*args)

    send(node, chain, ALICE, "REGISTER", {"role": "provider", "models": []})
    monkeypatch.setattr(registry, "record_from_bytes", watched)
    assert len(node.get("/rpc/registry").json()["items"]) == 1
    assert threads == ["read"]


def test_a_node_that_has_stopped_itself_does_not_call_itself_healthy(node: TestClient) -> None:
    assert node.get("/health").json()["status"] == "ok"
    node.app.state.service.runtime.stopped.set()  # type: ignore[attr-defined]
    answer = node.get("/health")
    assert (answer.status_code, answer.json()["status"], answer.json()["authoring"]) == (
        503,
        "stopped",
        False,
    )


def test_a_faucet_key_opens_no_faucet_outside_a_devnet(tmp_path: Path) -> None:
    """An operator who starts a real chain with `faucet=` still in the configuration."""
    document = Chain(genesis(devnet=0, faucet="", synthetic_attester="")).document
    config = NodeConfig(
        genesis=document,
        data=tmp_path / "node",
        proposer=VALIDATOR,
        never_voted=True,
        faucet=FAUCET,
        admin_token="the token",
    )
    with TestClient(create_app(config), base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)) as node:
        answer = node.post(
            "/admin/mintFaucet",
            json={"address": EVE.address, "amount": 5},
            headers={"authorization": "Bearer the token"},
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "not_devnet")
        assert node.get(f"/rpc/account/{FAUCET.address}").json()["nextNonce"] == 1


def test_a_node_does_not_author_with_a_key_that_is_no_authoritys(chain: Chain, tmp_path: Path) -> None:
    config = NodeConfig(genesis=chain.document, data=tmp_path / "node", proposer=EVE, never_voted=True)
    with (
        pytest.raises(StorageError, match=f"{EVE.address}'s, which is not an authority"),
        TestClient(create_app(config)),
    ):
        pass


def test_numbers_that_javascript_would_round_are_answered_as_text(chain: Chain, tmp_path: Path) -> None:
    """2^53 - 1 is the last number that every JSON reader keeps."""
    rich = [
        GenesisAccount(address=who.address, balance=balance, pubkey=key_to_text(who.auth_key))
        for who, balance in ((ALICE, MAX_SIGNED), (BOB, MAX_SIGNED), (HUB, 0))
    ]
    settings = ConsensusSettings(block_time_ms=0, idle_ms=600_000)
    chain = Chain(msgspec.structs.replace(genesis(), accounts=rich, consensus=settings))
    config = NodeConfig(genesis=chain.document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True)
    with TestClient(create_app(config)) as node:
        balance = f"/rpc/getBalance/{BOB.address}"
        assert node.get(balance).json()["balance"] == MAX_SIGNED
        assert send(node, chain, ALICE, "TRANSFER", {"to": BOB.address, "amount": 1})["status"] == "final"
        assert node.get(balance).json()["balance"] == "9007199254740992"
        assert node.get(f"/rpc/account/{BOB.address}").json()["balance"] == "9007199254740992"
        supply = node.get("/rpc/supply").json()
        assert supply == {
            "total": str(2 * MAX_SIGNED - 50),
            "genesis": str(2 * MAX_SIGNED),
            "minted": 0,
            "faucet": 0,
            "rewards": 0,
            "burned": 50,
        }
