"""What every transport promises, whichever it is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from aitbc.adapters.network.memory import MemorySwitch, MemoryTransport
from aitbc.adapters.network.tcp import TcpTransport
from aitbc.core.peer.handshake import prologue_of, public_key_of
from aitbc.core.peer.kinds import Lane
from aitbc.core.peer.links import (
    Clogged,
    Close,
    Dial,
    DialFailed,
    Linked,
    LinkEvent,
    Received,
    Send,
    Throttle,
    Unlinked,
)
from aitbc.core.peer.reasons import PeerReason
from aitbc.ports import Transport

E = TypeVar("E")
Story = Callable[[Any], Coroutine[Any, Any, None]]
PROLOGUE = prologue_of(chain_id="ait-test", genesis_hash=bytes(32))
ALICE, BOB = (name * 32 for name in (b"A", b"B"))
ALICE_KEY, BOB_KEY = public_key_of(ALICE), public_key_of(BOB)


class Ear:
    """Keeps what a transport tells, and what was left out."""

    def __init__(self) -> None:
        self.events: list[LinkEvent] = []

    def hear(self, event: LinkEvent) -> None:
        self.events.append(event)

    async def wait(self, kind: type[E], *, count: int = 1) -> E:
        """The count-th event of a kind."""
        async with asyncio.timeout(8):
            while True:
                found = [event for event in self.events if isinstance(event, kind)]
                if len(found) >= count:
                    return found[count - 1]
                await asyncio.sleep(0.002)

    async def data(self, size: int) -> bytes:
        """Everything received, once there is so much."""
        async with asyncio.timeout(15):
            while True:
                data = b"".join(event.data for event in self.events if isinstance(event, Received))
                if len(data) >= size:
                    return data
                await asyncio.sleep(0.005)


class Pair:
    """Alice, who dials, and Bob, who listens."""

    def __init__(self, alice: Transport, bob: Transport) -> None:
        self.alice, self.bob = alice, bob
        self.alice_ear, self.bob_ear = Ear(), Ear()
        self.where = ""

    async def link(self) -> tuple[int, int]:
        self.alice.dial(Dial(1, self.where, BOB_KEY))
        ours = await self.alice_ear.wait(Linked)
        theirs = await self.bob_ear.wait(Linked)
        return ours.link, theirs.link


@asynccontextmanager
async def pair(kind: str, *, admits: Callable[[str], bool] = lambda _: True) -> AsyncIterator[Pair]:
    if kind != "memory":
        alice: Transport = TcpTransport(static=ALICE, prologue=PROLOGUE, listen=None)
        bob: Transport = TcpTransport(static=BOB, prologue=PROLOGUE, listen=("127.0.0.1", 0))
    else:
        loop = asyncio.get_running_loop()
        switch = MemorySwitch(lambda delay_ms, action: loop.call_later(delay_ms / 1000, action) and None)
        alice = MemoryTransport(switch, key=ALICE_KEY, where="10.0.0.1:7070", listens=False)
        bob = MemoryTransport(switch, key=BOB_KEY, where="10.0.0.2:7070")
    two = Pair(alice, bob)
    assert await alice.start(two.alice_ear.hear, lambda _: True) == ""
    two.where = await bob.start(two.bob_ear.hear, admits)
    try:
        yield two
    finally:
        await alice.stop()
        await bob.stop()


@pytest.fixture(params=["tcp", "tcp on uvloop", "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(story: Coroutine[Any, Any, None], kind: str) -> None:
    """Every story ends, and leaves no task behind."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await story
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, others

    if kind == "tcp on uvloop":
        pytest.importorskip("uvloop").run(bounded())
    else:
        asyncio.run(bounded())


def test_both_learn_who_the_other_is(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            await two.link()
            ours, theirs = await two.alice_ear.wait(Linked), await two.bob_ear.wait(Linked)
            assert (ours.key, ours.dial, ours.where) == (BOB_KEY, 1, two.where)
            assert (theirs.key, theirs.dial) == (ALICE_KEY, None)

    run(story(), kind)


def test_what_is_sent_arrives_in_order_and_whole(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            link, back = await two.link()
            frames = [bytes([number % 256]) * (number * 977 % 9_000 + 1) for number in range(200)]
            for frame in frames:
                two.alice.send(Send(link, frame, Lane.URGENT))
            two.bob.send(Send(back, b"and back", Lane.BULK))
            assert await two.bob_ear.data(sum(map(len, frames))) == b"".join(frames)
            assert await two.alice_ear.data(8) == b"and back"

    run(story(), kind)


def test_a_large_frame_arrives(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            link, _ = await two.link()
            frame = bytes(range(256)) * 16_000
            two.alice.send(Send(link, frame, Lane.BULK))
            assert await two.bob_ear.data(len(frame)) == frame

    run(story(), kind)


def test_what_is_urgent_overtakes_what_has_not_begun(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            link, _ = await two.link()
            for _ in range(4):
                two.alice.send(Send(link, b"b" * 1_000_000, Lane.BULK))
            two.alice.send(Send(link, b"V" * 100, Lane.URGENT))
            data = await two.bob_ear.data(4_000_100)
            assert data.count(b"V" * 100) == 1
            assert data.index(b"V") <= 1_000_000, "after the frame that had begun at most"
            assert data.replace(b"V" * 100, b"") == b"b" * 4_000_000

    run(story(), kind)


def test_the_last_words_arrive(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            link, _ = await two.link()
            two.alice.send(Send(link, b"queued ", Lane.BULK))
            two.alice.close(Close(link, PeerReason.PRUNED, b"farewell"))
            two.alice.send(Send(link, b"too late", Lane.URGENT))
            assert await two.bob_ear.data(15) == b"queued farewell"
            assert (await two.alice_ear.wait(Unlinked)).reason is PeerReason.PRUNED
            assert (await two.bob_ear.wait(Unlinked)).reason is PeerReason.LOST

    run(story(), kind)


def test_a_farewell_alone(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            link, back = await two.link()
            two.bob.throttle(Throttle(back, 300))
            await asyncio.sleep(0.02)
            for _ in range(8):
                two.alice.send(Send(link, b"x" * 1_000_000, Lane.BULK))
            await asyncio.sleep(0.02)
            two.alice.close(Close(link, PeerReason.SLOW_PEER, b"farewell", drop_queue=True))
            await two.bob_ear.wait(Unlinked)
            data = await two.bob_ear.data(8)
            assert data.endswith(b"farewell") and len(data) % 1_000_000 == 8, "after whole frames"
            assert len(data) < 8_000_000

    run(story(), kind)


def test_the_last_words_survive_what_was_not_read(kind: str) -> None:
    """A socket that is closed with bytes unread is torn up, and what it said last with it."""

    async def story() -> None:
        async with pair(kind) as two:
            link, back = await two.link()
            two.alice.throttle(Throttle(link, 2_000))
            await asyncio.sleep(0.02)
            two.bob.send(Send(back, bytes(3_000_000), Lane.BULK))
            await asyncio.sleep(0.05)
            two.bob.throttle(Throttle(back, 200))
            await asyncio.sleep(0.02)
            two.alice.close(Close(link, PeerReason.PRUNED, b"farewell"))
            assert await two.bob_ear.data(8) == b"farewell"

    run(story(), kind)


def test_a_link_ends_once_and_nothing_comes_after(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            link, back = await two.link()
            two.alice.close(Close(link, PeerReason.LEAVING))
            two.bob.close(Close(back, PeerReason.LEAVING))
            await two.alice_ear.wait(Unlinked)
            await two.bob_ear.wait(Unlinked)
            two.alice.send(Send(link, b"?", Lane.URGENT))
            two.alice.close(Close(link, PeerReason.LEAVING))
            two.alice.throttle(Throttle(link, 10))
            await asyncio.sleep(0.05)
            for ear in (two.alice_ear, two.bob_ear):
                assert [type(event) for event in ear.events] == [Linked, Unlinked]

    run(story(), kind)


def test_who_reads_too_slowly_is_named_and_what_was_queued_is_lost(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            link, back = await two.link()
            two.bob.throttle(Throttle(back, 1_500))
            await asyncio.sleep(0.02)
            for _ in range(64):
                two.alice.send(Send(link, bytes(1_000_000), Lane.BULK))
            assert await two.alice_ear.wait(Clogged) == Clogged(link)
            await asyncio.sleep(0.02)
            two.alice.close(Close(link, PeerReason.SLOW_PEER, b"bye", drop_queue=True))
            assert (await two.alice_ear.wait(Unlinked)).reason is PeerReason.SLOW_PEER
            assert [type(event) for event in two.alice_ear.events] == [Linked, Clogged, Unlinked]

    run(story(), kind)


def test_a_throttled_link_goes_on_later(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            link, back = await two.link()
            two.bob.throttle(Throttle(back, 200))
            await asyncio.sleep(0.02)
            two.alice.send(Send(link, b"patience", Lane.URGENT))
            await asyncio.sleep(0.1)
            assert not any(isinstance(event, Received) for event in two.bob_ear.events)
            assert await two.bob_ear.data(8) == b"patience"

    run(story(), kind)


def test_nobody_there(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            host = two.where.rpartition(":")[0]
            two.alice.dial(Dial(7, f"{host}:9", b""))
            failed = await two.alice_ear.wait(DialFailed)
            assert (failed.dial, failed.reason) == (7, PeerReason.DIAL_FAILED)

    run(story(), kind)


def test_somebody_else_there(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            two.alice.dial(Dial(7, two.where, ALICE_KEY))
            failed = await two.alice_ear.wait(DialFailed)
            assert (failed.dial, failed.reason) == (7, PeerReason.WRONG_PEER)
            two.alice.dial(Dial(8, two.where, b""))
            assert (await two.alice_ear.wait(Linked)).key == BOB_KEY

    run(story(), kind)


def test_who_is_not_admitted_gets_no_handshake(kind: str) -> None:
    async def story() -> None:
        asked: list[str] = []

        def nobody(where: str) -> bool:
            asked.append(where)
            return False

        async with pair(kind, admits=nobody) as two:
            two.alice.dial(Dial(7, two.where, b""))
            assert (await two.alice_ear.wait(DialFailed)).reason is PeerReason.LOST
            assert len(asked) == 1 and two.bob_ear.events == []

    run(story(), kind)


def test_a_node_that_stops_says_nothing_more_and_the_others_notice(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            await two.link()
            await two.bob.stop()
            heard = len(two.bob_ear.events)
            assert (await two.alice_ear.wait(Unlinked)).reason is PeerReason.LOST
            two.alice.dial(Dial(9, two.where, b""))
            assert (await two.alice_ear.wait(DialFailed)).reason is PeerReason.DIAL_FAILED
            assert len(two.bob_ear.events) == heard

    run(story(), kind)


def test_who_hears_may_act_at_once(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            keep = two.bob_ear.hear

            def hear(event: LinkEvent) -> None:
                keep(event)
                if isinstance(event, Linked):
                    two.bob.send(Send(event.link, b"welcome", Lane.URGENT))
                if isinstance(event, Received):
                    two.bob.close(Close(event.link, PeerReason.LEAVING, b" goodbye"))

            await two.bob.stop()
            two.where = await two.bob.start(hear, lambda _: True)
            link, _ = await two.link()
            assert await two.alice_ear.data(7) == b"welcome"
            two.alice.send(Send(link, b"thanks", Lane.URGENT))
            assert await two.alice_ear.data(15) == b"welcome goodbye"

    run(story(), kind)


def test_a_dialler_that_stops_is_noticed_too(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            await two.link()
            await two.alice.stop()
            assert (await two.bob_ear.wait(Unlinked)).reason is PeerReason.LOST

    run(story(), kind)


def test_nothing_is_heard_from_inside_a_call(kind: str) -> None:
    async def story() -> None:
        async with pair(kind) as two:
            link, _ = await two.link()
            before = len(two.alice_ear.events)
            two.alice.dial(Dial(5, "no address", b""))
            two.alice.send(Send(link, bytes(9_000_000), Lane.BULK))
            two.alice.send(Send(link, bytes(9_000_000), Lane.BULK))
            two.alice.close(Close(link, PeerReason.LEAVING))
            assert len(two.alice_ear.events) == before

    run(story(), kind)
