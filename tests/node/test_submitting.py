"""Many transactions in one request or over a WebSocket: each has its answer, and one bad item fails alone."""

import json
import time
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node import intake, runtime, service, submitting
from aitbc.node.routes import stream
from support.chain import Chain
from support.people import ALICE, BOB, EVE

Json = dict[str, Any]


def transfer(chain: Chain, nonce: int, **options: Any) -> Json:
    payload = {"to": BOB.address, "amount": options.pop("amount", 1)}
    return transaction_to_plain(
        chain.sign(options.pop("sender", ALICE), "TRANSFER", payload, nonce=nonce, **options)
    )


def final(node: TestClient, tx_hash: str) -> Json:
    answer: Json = node.get(f"/rpc/getTx/{tx_hash}?wait=final").json()
    return answer


def lines(items: list[Json]) -> bytes:
    return b"\n".join(json.dumps(item).encode() for item in items)


@pytest.mark.parametrize("path", ["/rpc/sendTxs", "/rpc/send_txs"])
@pytest.mark.parametrize("form", ["array", "lines"])
def test_many_at_once_each_with_its_answer(node: TestClient, chain: Chain, path: str, form: str) -> None:
    items = [transfer(chain, nonce) for nonce in range(1, 41)]
    body = json.dumps(items).encode() if form == "array" else lines(items) + b"\n\n"
    answer = node.post(path, content=body)
    assert answer.status_code == 200, answer.text
    view = answer.json()
    assert (view["accepted"], view["refused"], len(view["items"])) == (40, 0, 40)
    assert final(node, view["items"][39]["txHash"])["status"] == "final"
    assert node.get(f"/rpc/getBalance/{ALICE.address}").json()["nonce"] == 40
    again = node.post(path, content=body).json()
    known = [{**item, "known": True} for item in view["items"]]
    assert again == {**view, "items": known}, "the same again is harmless, and said to be so"


def test_what_waits_already_is_said_to_be_known(node: TestClient, chain: Chain) -> None:
    """By which two wallets of one account, which wished the same under one nonce, are told apart."""
    waits = transfer(chain, 2)  # behind a gap
    first = node.post("/rpc/sendTx", json=waits).json()
    assert first == {"txHash": first["txHash"]}
    assert node.post("/rpc/sendTx", json=waits).json() == {**first, "known": True}
    twice = node.post("/rpc/sendTxs", json=[transfer(chain, 3)] * 2).json()
    assert [item.get("known", False) for item in twice["items"]] == [False, True]
    with node.websocket_connect("/rpc/submit") as ws:
        ws.receive_json()
        ws.send_text(json.dumps(waits))
        assert ws.receive_json()["items"] == [{**first, "known": True}]


def test_one_bad_item_fails_alone_and_says_why(node: TestClient, chain: Chain) -> None:
    forged = {**transfer(chain, 2), "sig": "00" * 64}
    items: list[Any] = [
        transfer(chain, 1),
        forged,
        {"type": "TRANSFER"},
        "no transaction",
        {**transfer(chain, 3), "fee": 1.5},
        {key: value for key, value in transfer(chain, 1, sender=EVE).items() if key != "pubkey"},
        transfer(chain, 900),
        transfer(chain, 2),
    ]
    answer = node.post("/rpc/sendTxs", json=items)
    assert "retry-after" not in answer.headers
    view = answer.json()
    codes = [item.get("error", {}).get("code") for item in view["items"]]
    assert codes == [
        None, "bad_signature", "missing_field", "wrong_type", "float_not_allowed", "pubkey_required", "nonce_gap", None,
    ]  # fmt: skip
    assert (view["accepted"], view["refused"]) == (2, 6)
    hashed = [item["txHash"] is not None for item in view["items"]]
    assert hashed == [True, True, False, False, False, False, True, True]
    assert all(item["error"]["fix"] for item in view["items"] if "error" in item)
    assert final(node, view["items"][7]["txHash"])["status"] == "final"


def test_a_line_that_is_no_json_fails_alone(node: TestClient, chain: Chain) -> None:
    body = lines([transfer(chain, 1)]) + b"\n{ nonsense\n" + lines([transfer(chain, 2)])
    view = node.post("/rpc/sendTxs", content=body).json()
    assert [item.get("error", {}).get("code") for item in view["items"]] == [None, "malformed", None]


REFUSED = [
    (b"", 400, "wrong_type"),
    (b"7", 400, "wrong_type"),
    (b"[{]", 400, "malformed"),
    (b"[" * 100_000, 400, "malformed"),
    (b"[" + b"1," * submitting.MAX_ITEMS + b"1]", 413, "too_large"),
    (b"{}\n" * (submitting.MAX_ITEMS + 1), 413, "too_large"),
    (b"[" + b" " * submitting.MAX_BODY_BYTES + b"]", 413, "too_large"),
]


@pytest.mark.parametrize(
    ("body", "status", "code"), REFUSED, ids=[f"{i} {row[2]}" for i, row in enumerate(REFUSED)]
)
def test_attack_a_body_that_is_refused_as_a_whole(
    node: TestClient, body: bytes, status: int, code: str
) -> None:
    answer = node.post("/rpc/sendTxs", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["fix"]


def test_an_empty_batch_is_nothing(node: TestClient) -> None:
    assert node.post("/rpc/sendTxs", content=b"[]").json() == {"accepted": 0, "refused": 0, "items": []}


def test_attack_more_than_the_node_can_look_at_is_refused_early_with_a_time_to_come_back(
    node: TestClient, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_VERIFYING", 3)
    items = [transfer(chain, nonce) for nonce in range(1, 5)]
    answer = node.post("/rpc/sendTxs", json=items)
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (
        503,
        "too_busy",
        "1",
    )
    assert node.post("/rpc/sendTxs", json=items[:3]).json()["accepted"] == 3


def test_what_passes_is_said_to_pass(node: TestClient, chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(self: runtime.NodeRuntime, txs: Any) -> list[bytes | Rejected]:
        return [Rejected(Reason.MEMPOOL_FULL, "full") for _ in txs]

    monkeypatch.setattr(runtime.NodeRuntime, "submit_all", full)
    answer = node.post("/rpc/sendTxs", json=[transfer(chain, 1)])
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["items"][0]["error"]["code"] == "mempool_full"


# Waiting


@pytest.mark.parametrize("wait", ["included", "final"])
def test_a_sender_may_wait_for_the_block(node: TestClient, chain: Chain, wait: str) -> None:
    answer = node.post(f"/rpc/sendTx?wait={wait}&timeout=20", json=transfer(chain, 1))
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["receipt"]["status"]) == ("final", "ok")


def test_when_the_time_is_over_it_says_where_to_look(node: TestClient, chain: Chain) -> None:
    answer = node.post("/rpc/sendTx?wait=final&timeout=0", json=transfer(chain, 5))
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert node.get(answer.headers["location"]).json()["status"] == "pending"


@pytest.mark.parametrize(
    "query",
    ["wait=soon", "wait=final&timeout=61", "wait=final&timeout=x", "timeout=nan&wait=final", "proof=1"],
)
def test_a_wrong_wish_is_named(node: TestClient, chain: Chain, query: str) -> None:
    answer = node.post(f"/rpc/sendTx?{query}", json=transfer(chain, 1))
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_parameter")


# As a stream


def test_a_stream_of_frames_each_answered_in_turn(node: TestClient, chain: Chain) -> None:
    with node.websocket_connect("/rpc/submit") as ws:
        hello = ws.receive_json()
        assert (hello["type"], hello["genesisHash"]) == ("hello", chain.genesis_hash.hex())
        assert (hello["maxItems"], hello["maxBytes"]) == (submitting.MAX_ITEMS, stream.MAX_FRAME_BYTES)
        ws.send_text(json.dumps(transfer(chain, 1)))
        ws.send_text(json.dumps([transfer(chain, 2), {"type": "x"}]))
        first, second = ws.receive_json(), ws.receive_json()
        assert (first["type"], first["frame"], first["accepted"]) == ("submitted", 1, 1)
        assert (second["frame"], second["accepted"], second["refused"]) == (2, 1, 1)
        ws.send_text("[]{")
        error = ws.receive_json()
        assert (error["type"], error["frame"], error["code"]) == ("error", 3, "malformed")
        assert "retryAfter" not in error
        assert final(node, second["items"][0]["txHash"])["status"] == "final"
    assert len(node.app.state.service.senders) == 0  # type: ignore[attr-defined]


def test_a_busy_node_says_when_to_send_the_frame_again(
    node: TestClient, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_VERIFYING", 0)
    with node.websocket_connect("/rpc/submit") as ws:
        ws.receive_json()
        for _ in range(stream.MAX_ERRORS + 1):
            ws.send_text(json.dumps(transfer(chain, 1)))
            error = ws.receive_json()
            assert (error["code"], error["retryAfter"]) == ("too_busy", 1)


def test_attack_who_sends_nonsense_only_is_left(node: TestClient) -> None:
    with node.websocket_connect("/rpc/submit") as ws:
        ws.receive_json()
        for _ in range(stream.MAX_ERRORS):
            ws.send_bytes(b"\x00")
            assert ws.receive_json()["code"] == "wrong_type"
        with pytest.raises(WebSocketDisconnect) as caught:
            ws.receive_json()
        assert caught.value.code == stream.CLOSE_POLICY


def test_attack_there_is_an_end_to_streams(node: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    places = node.app.state.service.senders  # type: ignore[attr-defined]
    for _ in range(service.MAX_SENDERS):
        places.take("127.0.0.1")
    with pytest.raises(WebSocketDenialResponse) as caught, node.websocket_connect("/rpc/submit"):
        pass
    assert (caught.value.status_code, caught.value.json()["code"]) == (503, "too_busy")
    for origin in ("https://evil.example", "null"):
        with (
            pytest.raises(WebSocketDenialResponse) as page,
            node.websocket_connect("/rpc/submit", headers={"origin": origin}),
        ):
            pass
        assert page.value.json()["code"] == "no_browsers"


def test_a_thousand_in_one_request_are_verified_together(node: TestClient, chain: Chain) -> None:
    """Sixteen senders' lanes of 60: everything is final, nothing is lost, nothing comes twice."""
    from support.people import person

    people = [person(f"batch {i}") for i in range(16)]
    funding = [
        transaction_to_plain(
            chain.sign(ALICE, "TRANSFER", {"to": who.address, "amount": 1_000_000}, nonce=i + 1)
        )
        for i, who in enumerate(people)
    ]
    hashes = [item["txHash"] for item in node.post("/rpc/sendTxs", json=funding).json()["items"]]
    assert final(node, hashes[-1])["status"] == "final"
    items = [transfer(chain, nonce, sender=who) for nonce in range(1, 61) for who in people]
    view = node.post("/rpc/sendTxs", json=items).json()
    assert (view["accepted"], view["refused"]) == (960, 0)
    deadline = time.monotonic() + 20
    while any(node.get(f"/rpc/getBalance/{who.address}").json()["nonce"] < 60 for who in people):
        assert time.monotonic() < deadline
    before = 1_000 * 1_000_000
    assert node.get(f"/rpc/getBalance/{BOB.address}").json()["balance"] == before + 960
