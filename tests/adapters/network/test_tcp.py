"""Real sockets and people who misuse them. What every transport promises is in tests/contracts/test_transport.py."""

import asyncio
import contextlib
import os
import random
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from aitbc.adapters.network.node_key import load_or_create_node_key
from aitbc.adapters.network.tcp import TcpLimits, TcpTransport, _Connection
from aitbc.core.peer.channel import Channel
from aitbc.core.peer.handshake import Handshake, prologue_of, public_key_of
from aitbc.core.peer.kinds import Lane, Rate
from aitbc.core.peer.links import (
    Clogged,
    Close,
    Dial,
    DialFailed,
    Linked,
    LinkEvent,
    Received,
    Send,
    Unlinked,
)
from aitbc.core.peer.reasons import PeerReason
from aitbc.ports import StorageError

PROLOGUE = prologue_of(chain_id="ait-test", genesis_hash=bytes(32))
BOB_KEY = public_key_of(b"B" * 32)


class Node(TcpTransport):
    """A transport that keeps what it hears."""

    def __init__(
        self, static: bytes, *, listens: bool = True, prologue: bytes = PROLOGUE, **limits: Any
    ) -> None:
        super().__init__(
            static=static,
            prologue=prologue,
            listen=("127.0.0.1", 0) if listens else None,
            limits=TcpLimits(**limits),
        )
        self.events: list[LinkEvent] = []
        self.at = ("", 0)

    async def open(self) -> "Node":
        where = await self.start(self.events.append, lambda _: True)
        host, _, port = where.rpartition(":")
        self.at = (host, int(port or 0))
        return self

    @property
    def where(self) -> str:
        return f"{self.at[0]}:{self.at[1]}"

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def wait(self, kind: type[Any], count: int = 1, seconds: float = 8) -> Any:
        async with asyncio.timeout(seconds):
            while len(self.of(kind)) < count:
                await asyncio.sleep(0.002)
        return self.of(kind)[count - 1]


@contextlib.asynccontextmanager
async def nodes(*them: Node) -> AsyncIterator[None]:
    for node in them:
        await node.open()
    try:
        yield
    finally:
        for node in them:
            await node.stop()


async def until_refused(node: Node, reason: PeerReason, count: int = 1) -> None:
    async with asyncio.timeout(8):
        while node.refused[reason] < count:
            await asyncio.sleep(0.002)


def run(story: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await story
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(bounded())


async def link(alice: Node, bob: Node) -> tuple[int, int]:
    alice.dial(Dial(1, bob.where, b""))
    return (await alice.wait(Linked)).link, (await bob.wait(Linked)).link


def test_another_chains_node_is_found_out_in_the_handshake() -> None:
    async def story() -> None:
        other = prologue_of(chain_id="ait-other", genesis_hash=bytes(32))
        alice, bob = Node(b"A" * 32, listens=False, prologue=other), Node(b"B" * 32)
        async with nodes(alice, bob):
            alice.dial(Dial(1, bob.where, BOB_KEY))
            failed = await alice.wait(DialFailed)
            assert failed.reason is PeerReason.DECRYPTION_FAILED
            await until_refused(bob, PeerReason.LOST)
            assert bob.events == []

    run(story())


@pytest.mark.parametrize(
    "words", [b"", b"\x00", b"\x00\x20" + b"x" * 31], ids=["nothing", "a byte", "nearly all"]
)
def test_who_does_not_finish_the_handshake_in_time_is_cut_off(words: bytes) -> None:
    async def story() -> None:
        bob = Node(b"B" * 32, handshake_s=0.2)
        async with nodes(bob):
            reader, writer = await asyncio.open_connection(*bob.at)
            writer.write(words)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            await until_refused(bob, PeerReason.HANDSHAKE_TIMEOUT)
            assert bob.events == []

    run(story())


def test_a_listener_that_never_answers_is_given_up() -> None:
    async def story() -> None:
        alice = Node(b"A" * 32, listens=False, handshake_s=0.2)
        silent = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        async with nodes(alice):
            port = silent.sockets[0].getsockname()[1]
            alice.dial(Dial(3, f"127.0.0.1:{port}", b""))
            failed = await alice.wait(DialFailed)
            assert (failed.dial, failed.reason) == (3, PeerReason.HANDSHAKE_TIMEOUT)
        silent.close()

    run(story())


def test_made_up_bytes_end_in_a_named_refusal_or_silence() -> None:
    async def story() -> None:
        bob = Node(b"B" * 32, handshake_s=1.0)
        draw = random.Random(7)
        async with nodes(bob):
            for number in range(200):
                _, writer = await asyncio.open_connection(*bob.at)
                noise = draw.randbytes(draw.randrange(1, 200))
                writer.write(b"\x00\x20" + noise if number % 2 else noise)
                await asyncio.sleep(0)
                writer.close()
            async with asyncio.timeout(8):
                while sum(bob.refused.values()) < 200:
                    await asyncio.sleep(0.01)
            assert bob.events == []
            assert set(bob.refused) <= {
                PeerReason.BAD_HANDSHAKE_LENGTH,
                PeerReason.BAD_KEY,
                PeerReason.DECRYPTION_FAILED,
                PeerReason.HANDSHAKE_TIMEOUT,
                PeerReason.LOST,
            }
            alice = Node(b"A" * 32, listens=False)
            async with nodes(alice):
                await link(alice, bob)

    run(story())


def test_changed_bytes_after_the_handshake_end_the_link_by_name() -> None:
    async def story() -> None:
        bob = Node(b"B" * 32)
        async with nodes(bob):
            reader, writer = await asyncio.open_connection(*bob.at)
            mallory = Channel(
                Handshake(initiator=True, prologue=PROLOGUE, static=b"M" * 32, ephemeral=os.urandom(32))
            )
            writer.write(mallory.outgoing())
            mallory.receive(await reader.readexactly(98))
            writer.write(mallory.outgoing() + mallory.seal(b"honest"))
            assert (await bob.wait(Received)).data == b"honest"
            writer.write(b"\x00\x20" + bytes(32))
            assert (await bob.wait(Unlinked)).reason is PeerReason.DECRYPTION_FAILED
            writer.close()

    run(story())


def test_one_address_has_so_many_sockets_and_no_more() -> None:
    async def story() -> None:
        bob = Node(b"B" * 32, sockets_per_local_address=4)
        people = [Node(bytes([number]) * 32, listens=False) for number in range(1, 7)]
        async with nodes(bob, *people):
            for person in people:
                person.dial(Dial(1, bob.where, BOB_KEY))
                await asyncio.sleep(0.1)
            assert sum(len(person.of(Linked)) for person in people) == 4
            assert bob.refused[PeerReason.TOO_MANY_SOCKETS] == 2
            await people[0].stop()
            await bob.wait(Unlinked)
            people[5].dial(Dial(2, bob.where, BOB_KEY))
            await people[5].wait(Linked)

    run(story())


def test_half_open_connections_make_room_for_honest_ones() -> None:
    async def story() -> None:
        bob = Node(b"B" * 32, half_open=16)
        alice = Node(b"A" * 32, listens=False)
        async with nodes(bob, alice):
            idle = [await asyncio.open_connection(*bob.at) for _ in range(40)]
            await until_refused(bob, PeerReason.HALF_OPEN, 24)
            assert len(bob._connections) <= 16
            await link(alice, bob)
            for _, writer in idle:
                writer.close()

    run(story())


class Socket(asyncio.Transport):
    """Nothing but where it comes from."""

    def __init__(self, host: str) -> None:
        super().__init__({"peername": (host, 7)})
        self.is_over = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        self.is_over = True

    close = abort


def test_all_addresses_of_one_ipv6_house_are_counted_together() -> None:
    """Whoever has a /64 has more addresses than there are sockets."""

    async def story() -> None:
        bob = TcpTransport(static=b"B" * 32, prologue=PROLOGUE, listen=None)
        await bob.start(lambda _: None, lambda _: True)
        honest = Socket("2a02:1::1")
        _Connection(bob, None).connection_made(honest)
        house = [Socket(f"2600:1406:1:2::{number:x}") for number in range(300)]
        for one in house:
            _Connection(bob, None).connection_made(one)
        assert not honest.is_over
        assert sum(not one.is_over for one in house) == bob.limits.sockets_per_address

    run(story())


FLOOD = """
import resource, socket, sys
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = []
for number in range(int(sys.argv[2])):
    one = socket.socket()
    one.bind((f"127.{1 + number % 50}.0.2", 0))
    one.connect(("127.0.0.1", int(sys.argv[1])))
    if number % 2:
        one.send(bytes([0, 32]) + b"half a handshake")
    held.append(one)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_half_open_connections_do_not_stop_an_honest_peer(count: int) -> None:
    """Another process opens them as fast as it can and says nothing or half a handshake; Alice comes and goes."""
    permitted = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 100
    if permitted < count:
        pytest.skip(f"this machine permits {permitted} sockets, not {count}")

    async def story() -> None:
        bob = Node(b"B" * 32)
        alice = Node(b"A" * 32, listens=False)
        async with nodes(bob, alice):
            flood = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                FLOOD,
                str(bob.at[1]),
                str(count),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert flood.stdout is not None and flood.stdin is not None
            held = asyncio.ensure_future(flood.stdout.readline())
            most, tries, came = 0, 0, 0
            while not held.done():
                tries += 1
                alice.dial(Dial(tries, bob.where, BOB_KEY))
                async with asyncio.timeout(10):
                    while len(alice.of(Linked)) + len(alice.of(DialFailed)) < tries:
                        await asyncio.sleep(0.002)
                        most = max(most, len(bob._connections))
                for linked in alice.of(Linked)[came:]:
                    alice.close(Close(linked.link, PeerReason.LEAVING))
                came = len(alice.of(Linked))
            assert held.result() == b"held\n"
            assert most <= bob.limits.half_open + 600 + came, "one burst of the listener above the bound"
            alice.dial(Dial(tries + 1, bob.where, BOB_KEY))
            newest = await alice.wait(Linked, came + 1)
            alice.send(Send(newest.link, b"still here", Lane.URGENT))
            assert (await bob.wait(Received)).data == b"still here"
            assert came >= tries * 9 // 10, f"{came} of {tries} while the flood came in"
            flood.stdin.close()
            await flood.wait()

    run(story())


def test_handshakes_wait_for_their_turn() -> None:
    async def story() -> None:
        bob = Node(b"B" * 32, handshakes=Rate(50, 2))
        people = [Node(bytes([number]) * 32, listens=False) for number in range(1, 9)]
        async with nodes(bob, *people):
            started = asyncio.get_running_loop().time()
            for person in people:
                person.dial(Dial(1, bob.where, BOB_KEY))
            await bob.wait(Linked, 8)
            assert asyncio.get_running_loop().time() - started >= 0.05

    run(story())


def test_a_flood_of_bytes_is_read_at_a_bounded_rate() -> None:
    async def story() -> None:
        bob = Node(b"B" * 32, read=Rate(1_000_000, 500_000))
        alice = Node(b"A" * 32, listens=False)
        async with nodes(alice, bob):
            ours, _ = await link(alice, bob)
            started = asyncio.get_running_loop().time()
            for _ in range(30):
                alice.send(Send(ours, bytes(100_000), Lane.BULK))
            while sum(len(event.data) for event in bob.of(Received)) < 3_000_000:
                await asyncio.sleep(0.01)
            assert asyncio.get_running_loop().time() - started >= 1.2

    run(story())


def test_a_reader_that_is_stuck_is_named_although_its_queue_is_not_full() -> None:
    async def story() -> None:
        alice = Node(b"A" * 32, listens=False, stuck_s=0.3)
        bob = Node(b"B" * 32)
        async with nodes(alice, bob):
            ours, theirs = await link(alice, bob)
            bob._links[theirs].hold("test", 5)
            await asyncio.sleep(0.01)
            for _ in range(80):
                alice.send(Send(ours, bytes(100_000), Lane.BULK))
            assert (await alice.wait(Clogged)).link == ours

    run(story())


def test_a_port_in_use_is_one_line_that_says_what_to_do() -> None:
    async def story() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            bob = TcpTransport(static=b"B" * 32, prologue=PROLOGUE, listen=taken.getsockname())
            with pytest.raises(StorageError, match="choose another port"):
                await bob.start(lambda _: None, lambda _: True)
            await bob.stop()

    run(story())


def test_ipv6_works_where_the_machine_has_it() -> None:
    async def story() -> None:
        bob = TcpTransport(static=b"B" * 32, prologue=PROLOGUE, listen=("::1", 0))
        try:
            where = await bob.start(lambda _: None, lambda _: True)
        except StorageError:
            pytest.skip("no IPv6 here")
        alice = Node(b"A" * 32, listens=False)
        async with nodes(alice):
            alice.dial(Dial(1, where, BOB_KEY))
            assert (await alice.wait(Linked)).where == where
        await bob.stop()

    run(story())


# The node key


def test_a_node_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    key = load_or_create_node_key(path)
    assert len(key) == 32 and load_or_create_node_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_node_key(tmp_path / "other.key") != key


def test_a_node_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    load_or_create_node_key(path)
    path.chmod(0o644)
    with pytest.raises(StorageError, match="chmod 600"):
        load_or_create_node_key(path)


@pytest.mark.parametrize(
    "content", ["", "abc", "zz" * 32, "00" * 31], ids=["empty", "odd", "no hex", "short"]
)
def test_a_damaged_node_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "node.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(StorageError, match=r"node\.key"):
        load_or_create_node_key(path)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        load_or_create_node_key(tmp_path / "missing" / "node.key")
