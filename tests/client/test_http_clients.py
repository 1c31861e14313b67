"""Node clients: the same calls waiting and on an event loop, and every way in which no answer comes."""

import asyncio
import contextlib
import inspect
import json
import socket
import threading
import time
from typing import Any

import httpx2
import pytest

from aitbc.client.errors import ApiError, TimedOut, Unreachable
from aitbc.client.hub import HubClient, event_data
from aitbc.client.node import AsyncNodeClient, NodeClient
from aitbc.client.transactions import prepare_transaction, transfer_payload
from support.small_network import SmallNetwork, serving


def test_both_clients_have_the_same_methods() -> None:
    def signatures(client: type) -> dict[str, str]:
        members = {**vars(client.__mro__[1]), **vars(client)}
        own = {name: member for name, member in members.items() if not name.startswith("_")}
        return {
            name: str(inspect.signature(member)).replace("Async", "")
            for name, member in own.items()
            if inspect.isfunction(member)
        }

    assert signatures(AsyncNodeClient) == signatures(NodeClient)


def test_both_clients_read_the_same_chain(network: SmallNetwork) -> None:
    alice = network.node.signers["alice"].address

    async def ask() -> list[Any]:
        async with AsyncNodeClient(network.rpc_url) as node:
            return [await node.head(), await node.genesis(), await node.account(alice), await node.lock("00")]

    with NodeClient(network.rpc_url) as node:
        assert asyncio.run(ask()) == [node.head(), node.genesis(), node.account(alice), None]
        assert node.balance(alice) == 1_000_000_000_000
        assert node.receipt("rcpt_00") is None
        assert node.registry("provider") == []
        assert node.validators()[0]["power"] == 1
        assert node.params()["devnet"] == 1
        assert node.block(0)["height"] == 0
        assert node.estimate_fee("TRANSFER", {"to": alice, "amount": 1}) > 0


def test_a_transfer_sent_twice_happens_once(network: SmallNetwork) -> None:
    alice, bob = network.node.signers["alice"], network.node.signers["bob"]
    with NodeClient(network.rpc_url) as node:
        before = node.balance(bob.address)
        tx = prepare_transaction(node, "TRANSFER", transfer_payload(to=bob.address, amount=25), signer=alice)
        assert node.send(tx) == node.send(tx)
        assert node.balance(bob.address) == before + 25


def test_a_refusal_has_code_message_and_fix(network: SmallNetwork) -> None:
    with NodeClient(network.rpc_url) as node, pytest.raises(ApiError) as refused:
        node.transaction("00" * 32)
    error = refused.value
    assert (error.code, error.status, error.message) == (
        "unknown_transaction",
        404,
        f"no transaction {'00' * 32}",
    )


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:1", "nothing listens there"),
        ("ftp://127.0.0.1", "this is no HTTP URL"),
        ("127.0.0.1:8080", "this is no HTTP URL"),
        ("http://", "this is no HTTP URL"),
        ("http://127.0.0.1:99999", "this is no HTTP URL"),
        ("http://[oops", "this is no HTTP URL"),
    ],
)
def test_an_unreachable_node_is_one_error(url: str, told: str) -> None:
    with pytest.raises(Unreachable, match=told) as unreachable:
        NodeClient(url).head()
    assert unreachable.value.fix


def test_a_silent_server_is_given_up_on() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unreachable, match=r"no answer in 0\.2 s"):
            NodeClient(url, timeout=0.2).head()


ANSWERS = [
    (httpx2.Response(200, content=b"<html>"), "bad_answer"),
    (httpx2.Response(200, content=b"[]"), "bad_answer"),
    (httpx2.Response(200, content=b"\xff" * 10), "bad_answer"),
    (httpx2.Response(302, headers={"location": "http://169.254.169.254/"}), "bad_answer"),
    (httpx2.Response(500, content=b"Internal Server Error"), "http_500"),
    (httpx2.Response(404, content=b'{"code": 7}'), "http_404"),
    (httpx2.Response(400, content=b'{"code": "bad_nonce", "title": "t"}'), "bad_nonce"),
    (httpx2.Response(400, content=b"[" * 100_000), "http_400"),
]


@pytest.mark.parametrize(("response", "code"), ANSWERS)
def test_what_is_no_answer_is_an_error(response: httpx2.Response, code: str) -> None:
    transport = httpx2.MockTransport(lambda _request: response)
    with pytest.raises(ApiError) as error:
        NodeClient("http://node", transport=transport).head()
    assert error.value.code == code


def test_amounts_above_2_53_come_as_integers() -> None:
    body = json.dumps({"address": "a", "balance": str(2**60), "nonce": 3, "pubkey": ""}).encode()
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(200, content=body))
    node = NodeClient("http://node", transport=transport)
    assert node.balance("a") == 2**60
    assert node.account("a") == {"address": "a", "balance": 2**60, "nonce": 3, "nextNonce": 4, "pubkey": ""}


def test_an_endless_answer_is_cut_off() -> None:
    def endless(_method: str, _path: str, _query: dict[str, str], _body: bytes) -> bytes:
        return b"[" + b"0," * (33 * 1024 * 1024)

    with serving(endless) as url, pytest.raises(ApiError, match="sent more than"):
        NodeClient(url, timeout=30).head()


STREAM = b': hello\n\ndata: {"a":\ndata: 1}\n\nevent: x\ndata: {"b":2}\r\n\r\ndata: unfinished'


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_come_out_whole_however_they_come_in(size: int) -> None:
    pieces = [STREAM[i : i + size] for i in range(0, len(STREAM), size)]
    assert list(event_data("url", pieces)) == [b'{"a":\n1}', b'{"b":2}']


def test_an_endless_event_is_cut_off() -> None:
    with pytest.raises(ApiError, match="an event of more than"):
        list(event_data("url", iter([b"data: "] + [b"x" * 65536] * 100)))


def test_a_hub_that_only_comments_does_not_keep_anybody_waiting() -> None:
    """Keep-alive comments come on time for ever, an event never does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=comment, args=(server,), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        started = time.monotonic()
        with HubClient(url) as hub, pytest.raises(TimedOut, match="has not ended after 1 s"):
            list(hub.events("job_1", "token", timeout=1))
        assert time.monotonic() - started < 3


def comment(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            while True:
                connection.sendall(b": still here\n\n")
                time.sleep(0.1)
