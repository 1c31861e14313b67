"""`WS /p2p/ws`: what programs and pages that follow a node are told, and what strangers may not do there."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from aitbc.adapters.http import protocol
from aitbc.adapters.http.protocol import BoundedWebSocket
from aitbc.adapters.http.serving import QuietServer, http_settings, listen
from aitbc.client.signing import KeySigner
from aitbc.core.codec.views import transaction_to_plain
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from aitbc.node.routes import follow
from aitbc.node.routes.follow import MAX_ERRORS, MAX_ORDER_BYTES
from aitbc.node.subscriptions import MAX_READERS, MAX_WAITING_BYTES, Ended, Reader, Subscriptions
from aitbc.node.topics import topic_of
from support.chain import Chain
from support.people import ALICE, BOB, HUB, VALIDATOR


def send(node: TestClient, chain: Chain, nonce: int) -> str:
    tx = chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=nonce)
    answer = node.post("/rpc/sendTx", json=transaction_to_plain(tx))
    return str(answer.json()["txHash"])


def begun(node: TestClient) -> None:
    """The chain's first block is an empty one, and comes by itself."""
    until(lambda: node.get("/rpc/getHead").json()["height"] == 1)


def subscriptions_of(node: TestClient) -> Subscriptions:
    return node.app.state.service.runtime.subscriptions  # type: ignore[attr-defined, no-any-return]


def test_a_reader_hears_of_a_transaction_and_of_its_block(node: TestClient, chain: Chain) -> None:
    begun(node)
    with node.websocket_connect("/p2p/ws") as ws:
        hello = ws.receive_json()
        assert (hello["type"], hello["streams"]) == ("hello", ["block", "tx", "peer"])
        assert hello["seq"] == {"block": 1, "tx": 0, "consensus": 0, "peer": 0, "outcome": 0}
        assert hello["head"]["height"] == 1
        tx_hash = send(node, chain, 1)
        told = {event["type"]: event for event in (ws.receive_json(), ws.receive_json())}
    assert told["tx"] == {
        "type": "tx",
        "seq": 1,
        "data": {"txHash": tx_hash, "type": "TRANSFER", "sender": ALICE.address, "nonce": 1, "fee": 100},
    }
    block = node.get("/rpc/getBlock/2").json()
    assert told["block"]["seq"] == 2
    assert told["block"]["data"].pop("txCount") == len(block["txs"]) == 1
    assert told["block"]["data"].items() <= block.items()


def test_a_reader_changes_what_it_follows_and_sees_what_it_missed(node: TestClient, chain: Chain) -> None:
    begun(node)
    with node.websocket_connect("/p2p/ws?streams=") as ws:
        assert ws.receive_json()["streams"] == []
        tx_hash = send(node, chain, 1)
        assert node.get(f"/rpc/getTx/{tx_hash}?wait=final").json()["status"] == "final"
        ws.send_json({"type": "subscribe", "streams": ["block"]})
        answer = ws.receive_json()
        assert (answer["type"], answer["streams"], answer["seq"]["block"]) == ("subscribed", ["block"], 2)
        send(node, chain, 2)
        assert ws.receive_json()["seq"] == 3
        ws.send_json({"type": "unsubscribe", "streams": ["block", "tx"]})
        assert ws.receive_json()["streams"] == []


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ("nonsense", "malformed"),
        ('{"type":"subscribe","streams":["votes"]}', "wrong_type"),
        ('{"type":"publish","streams":["tx"]}', "wrong_type"),
        ('{"type":"subscribe","streams":[]}', "out_of_range"),
        ('{"type":"subscribe","streams":["tx"],"from":1}', "unknown_field"),
        ('{"type":"subscribe","streams":["address:ait1x"]}', "bad_address"),
        ('{"type":"subscribe","streams":["job:"]}', "wrong_type"),
        ('{"type":"subscribe","streams":["tx"],"after":{"tx":1}}', "missing_field"),
        ('{"type":"subscribe","streams":["tx"],"run":"x","after":{"block":1}}', "wrong_type"),
        ('{"type":"subscribe","streams":["tx"],"run":"x","after":{"tx":-1}}', "out_of_range"),
        ('{"type":"subscribe","type":"subscribe","streams":["tx"]}', "duplicate_key"),
        ("[" * MAX_ORDER_BYTES + "[", "too_large"),
    ],
)
def test_an_order_that_cannot_be_obeyed_is_named_and_the_rest_goes_on(
    node: TestClient, order: str, code: str
) -> None:
    with node.websocket_connect("/p2p/ws?streams=peer") as ws:
        ws.receive_json()
        ws.send_text(order)
        error = ws.receive_json()
        assert (error["type"], error["code"]) == ("error", code)
        assert error["fix"]
        ws.send_json({"type": "subscribe", "streams": ["tx"]})
        assert ws.receive_json()["streams"] == ["tx", "peer"]


def test_attack_who_makes_too_many_mistakes_is_told_and_left(node: TestClient) -> None:
    with node.websocket_connect("/p2p/ws?streams=tx") as ws:
        ws.receive_json()
        for _ in range(MAX_ERRORS):
            ws.send_bytes(b"\x00")
        codes = [ws.receive_json()["code"] for _ in range(MAX_ERRORS + 1)]
        assert codes == ["wrong_type"] * MAX_ERRORS + ["too_many_mistakes"]
        with pytest.raises(WebSocketDisconnect) as caught:
            ws.receive_json()
        assert caught.value.code == follow.CLOSE_POLICY
    assert len(subscriptions_of(node)) == 0


def test_attack_a_flood_of_orders_is_a_row_of_mistakes(node: TestClient) -> None:
    with node.websocket_connect("/p2p/ws?streams=") as ws:
        for _ in range(follow.ORDERS.burst + MAX_ERRORS):
            ws.send_json({"type": "subscribe", "streams": ["peer"]})
        types = [ws.receive_json()["type"] for _ in range(1 + follow.ORDERS.burst + MAX_ERRORS + 1)]
        assert types == ["hello", *["subscribed"] * follow.ORDERS.burst, *["error"] * (MAX_ERRORS + 1)]


def denied(node: TestClient, path: str = "/p2p/ws", **options: Any) -> tuple[int, str]:
    with (
        pytest.raises(WebSocketDenialResponse) as caught,
        node.websocket_connect(path, **options) as ws,
    ):
        ws.receive_json()
    return caught.value.status_code, caught.value.json()["code"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver.evil.example", "//["])
def test_attack_a_page_from_elsewhere_cannot_follow(node: TestClient, origin: str) -> None:
    assert denied(node, headers={"origin": origin}) == (403, "no_browsers")


def test_the_nodes_own_page_may_follow(node: TestClient) -> None:
    with node.websocket_connect("/p2p/ws", headers={"origin": "http://testserver"}) as ws:
        assert ws.receive_json()["type"] == "hello"


def test_an_unknown_stream_is_refused_before_anything_is_opened(node: TestClient) -> None:
    assert denied(node, "/p2p/ws?streams=block,votes") == (400, "wrong_type")


def test_attack_there_is_an_end_to_readers(node: TestClient) -> None:
    hub = subscriptions_of(node)
    taken = [hub.join([], host="127.0.0.1") for _ in range(MAX_READERS)]
    assert denied(node) == (503, "too_busy")
    hub.leave(taken[0])
    with node.websocket_connect("/p2p/ws") as ws:
        assert ws.receive_json()["type"] == "hello"


# Over sockets


class Served:
    """A node on a port of its own, and its loop."""

    def __init__(self, app: Any, port: int) -> None:
        self.server: Any = None
        self.app = app
        self.port = port
        self.url = f"ws://127.0.0.1:{port}/p2p/ws?streams=peer"
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def hub(self) -> Subscriptions:
        return self.app.state.service.runtime.subscriptions  # type: ignore[no-any-return]

    def say(self, what: Callable[[], None]) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(what)


@pytest.fixture
def served(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(protocol, "WRITE_S", 0.3)
    app = create_app(
        NodeConfig(genesis=chain.document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True)
    )
    listener = listen("127.0.0.1", 0)
    node = Served(app, listener.getsockname()[1])
    settings = http_settings(
        app,
        timeout_graceful_shutdown=1,
        ws=BoundedWebSocket,
        ws_max_size=MAX_ORDER_BYTES,
        ws_ping_interval=0.5,
        ws_ping_timeout=0.5,
    )
    node.server = server = QuietServer(settings)

    async def serve() -> None:
        node.loop = asyncio.get_running_loop()
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    while not server.started:
        assert thread.is_alive(), "it could not start"
        time.sleep(0.01)
    yield node
    server.should_exit = True
    thread.join(10)
    listener.close()


def until(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 5
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def raw_reader(port: int) -> socket.socket:
    """Somebody who opens a WebSocket and then does nothing, not even read."""
    stranger = socket.socket()
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    stranger.connect(("127.0.0.1", port))
    stranger.sendall(
        b"GET /p2p/ws?streams=peer HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return stranger


def test_attack_a_reader_that_never_reads_holds_nobody_up_and_loses_its_socket(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "SEND_S", 0.3)
    with connect(served.url) as good, raw_reader(served.port) as stuck:
        json.loads(good.recv(5))
        until(lambda: len(served.hub) == 2)
        for number in range(600):
            served.say(lambda: served.hub.peer_joined(bytes(32), "x" * 10_000))
            assert json.loads(good.recv(5))["seq"] == number + 1
        until(lambda: len(served.hub) == 1)
        stuck.settimeout(5)
        with suppress(ConnectionError):
            while stuck.recv(65_536):
                pass  # what was in the sockets; then it is over


def test_attack_a_flood_of_pings_piles_up_no_answers(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "WRITE_S", 5)
    pings = (b"\x89\xfd" + bytes(4) + bytes(125)) * 1_000
    with raw_reader(served.port) as stranger:
        until(lambda: len(served.hub) == 1)
        (connection,) = served.server.server_state.connections
        stranger.settimeout(0.1)
        with suppress(OSError):
            for _ in range(80):
                stranger.sendall(pings)
        assert connection.transport.get_write_buffer_size() < 1024 * 1024


def test_a_silent_connection_is_pinged_and_left(served: Served) -> None:
    with raw_reader(served.port):
        until(lambda: len(served.hub) == 1)
        until(lambda: len(served.hub) == 0)


def test_attack_an_oversized_order_ends_the_connection_before_it_is_in_memory(served: Served) -> None:
    with connect(served.url) as reader:
        reader.recv(5)
        reader.send("x" * (MAX_ORDER_BYTES + 1))
        with pytest.raises(ConnectionClosed) as caught:
            reader.recv(5)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009
    until(lambda: len(served.hub) == 0)


def test_a_refusal_is_a_problem_document_and_no_error_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidStatus) as caught, connect(served.url, origin=Origin("https://evil.example")):
        pass
    assert caught.value.response.status_code == 403
    assert json.loads(caught.value.response.body or b"")["code"] == "no_browsers"
    with connect(served.url) as reader:
        reader.recv(5)  # what there was to log has been logged
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_who_follows_a_node_that_stops_is_told(served: Served) -> None:
    with connect(served.url) as reader:
        reader.recv(5)
        served.say(served.hub.stop)
        error = json.loads(reader.recv(5))
        assert (error["type"], error["code"]) == ("error", "node_stopped")
        with pytest.raises(ConnectionClosed):
            reader.recv(5)


# Accounts, jobs, and coming back


def test_both_seeds_words_for_a_stream_and_upstreams_paths(node: TestClient, chain: Chain) -> None:
    begun(node)
    with (
        node.websocket_connect("/rpc/ws") as none,
        node.websocket_connect("/rpc/blocks") as blocks,
        node.websocket_connect("/rpc/ws?streams=block,consensus_events") as both,
    ):
        assert none.receive_json()["streams"] == []
        assert blocks.receive_json()["streams"] == ["new_blocks"]
        assert both.receive_json()["streams"] == ["block", "consensus_events"]
        send(node, chain, 1)
        new, old = blocks.receive_json(), both.receive_json()
        assert (new.pop("type"), old.pop("type")) == ("new_blocks", "block")
        assert new == old


def test_an_account_hears_what_it_sent_and_what_it_got(node: TestClient, chain: Chain) -> None:
    begun(node)
    with node.websocket_connect(f"/rpc/ws?streams=address:{BOB.address}") as ws:
        assert ws.receive_json()["streams"] == [f"address:{BOB.address}"]
        tx_hash = send(node, chain, 1)
        told = ws.receive_json()
    answer = node.get(f"/rpc/getTx/{tx_hash}").json()
    assert (told["type"], told["key"], told["seq"]) == ("address", BOB.address, 1)
    assert told["data"].items() <= answer.items()
    assert told["data"]["status"] == "final"


def test_who_comes_back_is_told_what_it_missed(node: TestClient, chain: Chain) -> None:
    begun(node)
    with node.websocket_connect("/rpc/ws?streams=new_blocks") as ws:
        run = ws.receive_json()["run"]
    for nonce in (1, 2, 3):
        tx_hash = send(node, chain, nonce)
        assert node.get(f"/rpc/getTx/{tx_hash}?wait=final").json()["status"] == "final"
    missed = {"new_blocks": 2, f"address:{ALICE.address}": 1}
    with node.websocket_connect("/rpc/ws") as ws:
        ws.receive_json()
        ws.send_json({"type": "subscribe", "streams": list(missed), "run": run, "after": missed})
        assert ws.receive_json()["seq"] == {"block": 4, "tx": 3, "consensus": 0, "peer": 0, "outcome": 3}
        told = [ws.receive_json() for _ in range(4)]
        assert sorted((event["type"], event["seq"]) for event in told) == [
            ("address", 2), ("address", 3), ("new_blocks", 3), ("new_blocks", 4),
        ]  # fmt: skip
        ws.send_json({"type": "subscribe", "streams": ["new_blocks"], "run": run, "after": {"new_blocks": 9}})
        assert ws.receive_json()["type"] == "subscribed"
        assert ws.receive_json()["code"] == "out_of_range"


def test_attack_an_order_counts_for_each_stream_that_it_wants_again(
    node: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    again = Subscriptions.again
    monkeypatch.setattr(
        Subscriptions,
        "again",
        lambda hub, topic, run, after: asked.append(topic.name) or again(hub, topic, run, after),
    )
    begun(node)
    topics = [f"address:{KeySigner(bytes([number]) * 32).address}" for number in range(1, 17)]
    with node.websocket_connect("/rpc/ws") as ws:
        run = ws.receive_json()["run"]
        order = {"type": "subscribe", "streams": topics, "run": run, "after": dict.fromkeys(topics, 0)}
        ws.send_json(order)
        assert ws.receive_json()["type"] == "subscribed"
        ws.send_json(order)
        assert ws.receive_json()["code"] == "too_busy"
    assert asked == topics


def test_a_reader_that_has_ended_is_told_no_more_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was let go in the middle of what it wanted again; the rest is not even written."""
    written: list[int] = []

    def again(*_: Any) -> Iterator[str]:
        for number in range(10_000):
            written.append(number)
            yield "x" * 1_024

    reader = Reader((), owner="")
    hub = SimpleNamespace(again=again)
    service: Any = SimpleNamespace(runtime=SimpleNamespace(subscriptions=hub, now_ms=lambda: 0))
    nobody: Any = None
    follow._Follower(service, nobody, reader)._tell_again(topic_of("block"), "run", 0)
    assert reader.ended is Ended.TOO_SLOW
    assert len(written) == MAX_WAITING_BYTES // 1_024 + 2


def test_numbers_of_another_run_are_too_old(node: TestClient) -> None:
    begun(node)
    with node.websocket_connect("/rpc/ws") as ws:
        ws.receive_json()
        ws.send_json({"type": "subscribe", "streams": ["block"], "run": "before", "after": {"block": 1}})
        assert ws.receive_json()["streams"] == ["block"]
        gone = ws.receive_json()
        assert (gone["code"], gone["stream"], gone["oldest"]) == ("too_old", "block", 1)
        assert gone["fix"]


def test_a_job_is_followed_from_its_lock_on(node: TestClient, chain: Chain) -> None:
    begun(node)
    now_ms = int(time.time() * 1000)
    payload = {
        "hub": HUB.address, "job_id": "job-7", "amount": 5, "request_hash": "sha256:" + "cd" * 32,
        "deliver_by_ms": now_ms + 60_000, "claim_until_ms": now_ms + 120_000,
    }  # fmt: skip
    with node.websocket_connect("/rpc/ws?streams=job:job-7") as ws:
        ws.receive_json()
        send(node, chain, 1)
        tx = chain.sign(ALICE, "JOB_LOCK", payload, nonce=2)
        lock = node.post("/rpc/sendTx", json=transaction_to_plain(tx)).json()["txHash"]
        told = ws.receive_json()
    assert (told["type"], told["key"], told["data"]["txHash"]) == ("job", "job-7", lock)
