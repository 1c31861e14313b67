"""The dial-back over real sockets: who is there, and what they say of the record's key."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aitbc.adapters.network.tcp import TcpLimits, TcpTransport
from aitbc.core.peer.handshake import prologue_of
from aitbc.core.peer.kinds import Status
from aitbc.core.peer.peers import PeerSettings
from aitbc.core.peer.records import Endpoint
from aitbc.discovery import probe
from aitbc.discovery.probe import call_back
from aitbc.node.network import NodeNetwork
from aitbc.node.runtime import SystemClock
from support.listed_nodes import CHAIN, GENESIS, ListedNode

ANN, EVE = ListedNode(1), ListedNode(2)
PROLOGUE = prologue_of(chain_id=CHAIN, genesis_hash=bytes.fromhex(GENESIS))


def play(story: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(story(), 10))  # type: ignore[arg-type]


def transport_of(node: ListedNode, prologue: bytes = PROLOGUE) -> TcpTransport:
    return TcpTransport(static=node.secret, prologue=prologue, listen=("127.0.0.1", 0))


async def call(address: str, who: ListedNode = ANN) -> bytes | None:
    host, _, port = address.rpartition(":")
    return await call_back(who.record(), Endpoint(host=host, port=int(port)))


async def called_at_a_node(
    record_key: str, *, who: ListedNode = ANN, prologue: bytes = PROLOGUE
) -> bytes | None:
    """Call Ann's endpoint, where `who` runs a whole node's network that names this record key."""
    transport = transport_of(who, prologue)
    settings = PeerSettings(
        key=transport.key, settings_hash=bytes(32), agent="test", record_key=bytes.fromhex(record_key)
    )
    network = NodeNetwork(
        host=None,  # type: ignore[arg-type]
        transport=transport,
        settings=settings,
        status=Status(0, bytes(32), 0),
        clock=SystemClock(),
    )
    await network.start()
    try:
        return await call(network.address)
    finally:
        await network.stop()


def test_a_node_names_its_record_key_to_whoever_reaches_it() -> None:
    assert play(lambda: called_at_a_node(ANN.record_key)) == bytes.fromhex(ANN.record_key)


def test_a_node_that_announces_nothing_names_none() -> None:
    assert play(lambda: called_at_a_node("")) == b""


def test_attack_another_node_answers_at_the_claimed_endpoint() -> None:
    assert play(lambda: called_at_a_node(EVE.record_key, who=EVE)) is None


def test_a_node_of_another_chain_is_not_the_one() -> None:
    other = prologue_of(chain_id="other", genesis_hash=bytes.fromhex(GENESIS))
    assert play(lambda: called_at_a_node(ANN.record_key, prologue=other)) is None


def test_nobody_is_there() -> None:
    assert play(lambda: call("127.0.0.1:1")) is None


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x60" + bytes(96)])
def test_attack_an_endpoint_that_never_answers_or_talks_nonsense(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "LIMITS", TcpLimits(dial_s=0.3, handshake_s=0.3, linger_s=0.1))

    async def story() -> tuple[bytes | None, float]:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(said)
            await asyncio.sleep(5)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await call(f"{host}:{port}")
        server.close()
        return found, loop.time() - began

    found, seconds = play(story)
    assert found is None
    assert seconds < 1


def test_attack_a_node_that_shakes_hands_and_then_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CALL_S", 0.3)

    async def story() -> bytes | None:
        transport = transport_of(ANN)
        address = await transport.start(lambda _: None, lambda _: True)
        try:
            return await call(address)
        finally:
            await transport.stop()

    assert play(story) == b""


def test_a_call_has_time_for_the_slowest_connection_and_handshake() -> None:
    assert probe.LIMITS.dial_s + probe.LIMITS.handshake_s <= probe.CALL_S
