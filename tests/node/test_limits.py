"""Rate limits, CORS and Origin: what one address may ask, who may ask more, and whose pages may read."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from aitbc.adapters.http.limits import MAX_OWNERS, RateLimit, owner_at
from aitbc.core.codec.views import transaction_to_plain
from aitbc.node.config import NodeConfig
from aitbc.node.limits import BAD_SIGNATURE_COST, WRONG_KEYS, Limits
from aitbc.node.main import create_app
from support.chain import Chain
from support.people import ALICE, BOB, EVE, VALIDATOR


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_bucket_says_how_long_to_wait() -> None:
    clock = Clock()
    limit = RateLimit(2, 3, monotonic=clock)
    assert [limit.wait_s("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.wait_s("b") == 0
    clock.now_s = 0.5
    assert limit.wait_s("a") == 0
    assert limit.wait_s("a", 3) == 1.5
    clock.now_s = 2.0
    assert limit.wait_s("a", 30) == 0, "more than a bucket waits for a full one"
    assert limit.wait_s("a") == 14
    assert RateLimit(0, 0, monotonic=clock).wait_s("a", 10**9) == 0


def test_attack_a_million_addresses_take_bounded_memory() -> None:
    limit = RateLimit(1, 1, monotonic=Clock())
    for number in range(MAX_OWNERS + 100):
        limit.wait_s(str(number))
    assert len(limit._buckets) == MAX_OWNERS


def test_an_address_counts_for_its_owner() -> None:
    assert owner_at("127.0.0.1") == owner_at("10.0.0.7") == ""
    assert owner_at("8.8.8.8") == "8.8.8.8"
    assert owner_at("2a00:1::1") == owner_at("2a00:1::ffff") != owner_at("2a00:1:0:1::1")


def app_of(chain: Chain, folder: Path, clock: Clock, **options: Any) -> Any:
    app = create_app(
        NodeConfig(genesis=chain.document, data=folder, proposer=VALIDATOR, never_voted=True, **options)
    )
    limits = Limits(requests=(1, 3), transactions=(1, 40), keys={"gold": 10}, monotonic=clock)
    app.state.limits, app.guard = limits, limits.guard
    return app


def test_who_asks_too_often_is_told_when_to_come_back(chain: Chain, tmp_path: Path) -> None:
    clock = Clock()
    app = app_of(chain, tmp_path, clock)
    with TestClient(app, client=("8.8.8.8", 1)) as node:
        for path in ("/rpc/getHead", "/rpc/sendTx", "/nowhere"):
            assert node.get(path).status_code != 429
        refused = node.get("/rpc/getHead")
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert refused.headers["retry-after"] == "1"
        assert node.get("/health/live").status_code == 200, "probes are not counted"
        other = TestClient(app, client=("9.9.9.9", 1))
        assert other.get("/rpc/getHead").status_code == 200, "others do not wait for it"
        assert node.get("/rpc/getHead", headers={"x-api-key": "gold"}).status_code == 200
        assert node.get("/rpc/getHead", headers={"x-api-key": "brass"}).json()["code"] == "bad_token"
        clock.now_s = 1.0
        assert node.get("/rpc/getHead").status_code == 200
        near = TestClient(app, client=("127.0.0.1", 1))
        assert {near.get("/rpc/getHead").status_code for _ in range(10)} == {200}


def test_transactions_are_counted_however_they_are_sent(chain: Chain, tmp_path: Path) -> None:
    clock = Clock()
    txs = [
        transaction_to_plain(chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=nonce))
        for nonce in range(1, 60)
    ]
    app = app_of(chain, tmp_path, clock)
    with TestClient(app, client=("8.8.8.8", 1)) as node:
        assert node.post("/rpc/sendTxs", json=txs[:40]).json()["accepted"] == 40
        assert node.post("/rpc/sendTx", json=txs[40]).json()["code"] == "rate_limited"
        with node.websocket_connect("/rpc/submit") as ws:
            ws.receive_json()
            ws.send_json(txs[40])
            error = ws.receive_json()
            assert (error["code"], error["retryAfter"]) == ("rate_limited", 1)


def test_attack_wrong_signatures_cost_their_sender_what_they_cost_the_node(
    chain: Chain, tmp_path: Path
) -> None:
    clock = Clock()
    tx = transaction_to_plain(chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=1))
    forged = {**tx, "sig": "00" * 64}
    app = app_of(chain, tmp_path, clock)
    with TestClient(app, client=("8.8.8.8", 1)) as node:
        assert node.post("/rpc/sendTx", json=forged).json()["code"] == "bad_signature"
        assert node.post("/rpc/sendTxs", json=[forged]).json()["refused"] == 1
        refused = node.post("/rpc/sendTx", json=tx)
        assert refused.json()["code"] == "rate_limited"
        assert int(refused.headers["retry-after"]) == 1 + 2 * BAD_SIGNATURE_COST - 40


def test_every_way_to_send_one_transaction_is_counted(chain: Chain, tmp_path: Path) -> None:
    plain = transaction_to_plain(chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=1))
    upstream = {
        "from": plain["sender"], "nonce": 1, "fee": plain["fee"], "payload": plain["payload"],
        "signature": "00" * 64, "pubkey": plain["pubkey"],
    }  # fmt: skip
    payload, witness = chain.claim_parts(EVE, "00" * 32)
    claim = transaction_to_plain(chain.sign(ALICE, "RECEIPT_CLAIM", payload, nonce=1, witness=witness))
    bodies = {
        "/rpc/sendTx": {**plain, "sig": "00" * 64},
        "/rpc/transaction": upstream,
        "/rpc/submitReceipt": {**claim, "sig": "00" * 64},
    }
    for number, (path, body) in enumerate(bodies.items()):
        app = app_of(chain, tmp_path / str(number), Clock())
        with TestClient(app, client=("8.8.8.8", 1)) as node:
            codes = [node.post(path, json=body).json()["code"] for _ in range(3)]
            assert codes == ["bad_signature", "bad_signature", "rate_limited"], path
            app.state.limits = Limits(requests=(1, 3), transactions=(1, 1), keys={}, monotonic=Clock())
            app.guard = app.state.limits.guard
            codes = [node.post(path, json={**body, "fee": 0}).json()["code"] for _ in range(2)]
            assert codes[1] == "rate_limited" != codes[0], path


def test_attack_keys_are_not_guessed_without_end(chain: Chain, tmp_path: Path) -> None:
    clock = Clock()
    app = app_of(chain, tmp_path, clock)
    app.state.limits = limits = Limits(
        requests=(1_000, 1_000), transactions=(1, 40), keys={"gold": 10}, monotonic=clock
    )
    app.guard = limits.guard
    with TestClient(app, client=("8.8.8.8", 1)) as node:

        def ask(key: str) -> tuple[int, str]:
            answer = node.get("/rpc/getHead", headers={"x-api-key": key})
            return answer.status_code, answer.json().get("code", "ok")

        for number in range(WRONG_KEYS[1]):
            assert ask(f"guess {number}") == (401, "bad_token")
        assert ask("guess again") == (429, "rate_limited")
        assert ask("gold") == (429, "rate_limited"), "nor is a right one told from a wrong one"
        assert node.get("/rpc/getHead").status_code == 200
        other = TestClient(app, client=("9.9.9.9", 1))
        assert other.get("/rpc/getHead", headers={"x-api-key": "gold"}).status_code == 200
        clock.now_s = 10.0
        assert ask("gold") == (200, "ok")


def test_opening_a_websocket_is_a_request(chain: Chain, tmp_path: Path) -> None:
    with TestClient(app_of(chain, tmp_path, Clock()), client=("8.8.8.8", 1)) as node:
        for path in ("/rpc/ws", "/rpc/submit", "/rpc/ws"):
            with node.websocket_connect(path) as ws:
                assert ws.receive_json()["type"] == "hello"
        with pytest.raises(WebSocketDenialResponse) as refused, node.websocket_connect("/rpc/ws"):
            pass
        assert (refused.value.status_code, refused.value.json()["code"]) == (429, "rate_limited")
        assert node.get("/rpc/getHead").status_code == 429


def test_each_port_takes_what_it_is_for(chain: Chain, tmp_path: Path) -> None:
    """A page of figures is given to a monitor on another machine; nobody expects transactions there."""
    config = NodeConfig(genesis=chain.document, data=tmp_path, rpc_port=80, ws_port=81, metrics_port=82)
    app = create_app(config)
    with TestClient(app, base_url="http://127.0.0.1:80"):
        for port, path, opens in (
            (80, "/rpc/ws", True),
            (80, "/rpc/submit", True),
            (81, "/rpc/ws", True),
            (82, "/rpc/ws", False),
            (82, "/rpc/submit", False),
            (82, "/metrics", False),
        ):
            node = TestClient(app, base_url=f"http://127.0.0.1:{port}")
            if opens:
                with node.websocket_connect(f"ws://127.0.0.1:{port}{path}") as ws:
                    assert ws.receive_json()["type"] == "hello"
                continue
            with (
                pytest.raises(WebSocketDenialResponse) as refused,
                node.websocket_connect(f"ws://127.0.0.1:{port}{path}"),
            ):
                pass
            assert (refused.value.status_code, refused.value.json()["code"]) == (404, "not_found")
        assert TestClient(app, base_url="http://127.0.0.1:81").get("/rpc/getHead").status_code == 404


# Browsers


PAGE = "https://wallet.example"


def test_pages_of_allowed_origins_may_read_and_others_may_not(chain: Chain, tmp_path: Path) -> None:
    app = create_app(NodeConfig(genesis=chain.document, data=tmp_path, cors_origins=(PAGE,)))
    with TestClient(app, base_url="http://127.0.0.1:8080", client=("127.0.0.1", 1)) as node:
        for path, status in (("/rpc/getHead", 200), ("/rpc/sendTx", 405), ("/nowhere", 404)):
            answer = node.get(path, headers={"origin": PAGE})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
            assert answer.headers["vary"] == "origin"
        stranger = node.get("/rpc/getHead", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers
        ask = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        allowed = node.options("/rpc/sendTx", headers={"origin": PAGE, **ask})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (204, PAGE)
        assert "content-type" in allowed.headers["access-control-allow-headers"]
        refused = node.options("/rpc/sendTx", headers={"origin": "null", **ask})
        assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (403, False)
        with node.websocket_connect("/rpc/ws", headers={"origin": PAGE}) as ws:
            assert ws.receive_json()["type"] == "hello"


@pytest.mark.parametrize("path", ["/rpc/getHead", "/rpc/sendTx"])
def test_without_allowed_origins_nothing_is_added(node: TestClient, path: str) -> None:
    assert "access-control-allow-origin" not in node.get(path, headers={"origin": PAGE}).headers
