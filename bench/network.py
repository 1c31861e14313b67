"""CPU of messages through the whole stack, both ends in one process over loopback TCP: frames, rates, gossip, Noise,
sockets. And of handshakes.

Goal: a 200-byte message ≤ 12 µs of CPU, both sides together.
"""

import asyncio
import os
import time
from collections.abc import Callable

import uvloop
from common import save, spread

from aitbc.adapters.network.tcp import TcpLimits, TcpTransport
from aitbc.core.peer.gossip import Delivered, Verdict
from aitbc.core.peer.handshake import Handshake, prologue_of, public_key_of
from aitbc.core.peer.kinds import CONSENSUS_GET, VOTE, Rate, Status
from aitbc.core.peer.links import Close, Dial, Linked, LinkEvent, Received, Send, Throttle
from aitbc.core.peer.messages import Session
from aitbc.core.peer.network import Network, NetworkEffect
from aitbc.core.peer.peers import PeerSettings, PeerUp, Replied, Requested

PROLOGUE = prologue_of(chain_id="bench", genesis_hash=bytes(32))
STATUS = Status(head_height=1, head_hash=bytes(32), finalised_height=1)
MESSAGES = 3_500
"""Below the burst that one peer may send."""
BATCH = 50
"""Votes that arrive together, as of a committee."""
RUNS = 7
UNBOUND = Rate(10**9, 10**9)


class NoPool:
    def has(self, wid: bytes) -> bool:
        return False

    def get(self, wid: bytes) -> bytes | None:
        return None


class Host:
    """The smallest loop around a network: what a node does, without a node."""

    def __init__(self, static: bytes, *, listens: bool, bootstrap: tuple[str, ...] = ()) -> None:
        self.heard = 0
        self.replies = 0
        self.up = asyncio.Event()
        self.done: Callable[[], None] = lambda: None
        limits = TcpLimits(read=UNBOUND)
        self.transport = TcpTransport(
            static=static, prologue=PROLOGUE, listen=("127.0.0.1", 0) if listens else None, limits=limits
        )
        settings = PeerSettings(
            key=public_key_of(static),
            settings_hash=bytes(32),
            agent="bench",
            bootstrap=bootstrap,
            features=("votes",),
        )
        self.network = Network(settings, status=STATUS, pool=NoPool(), secret=os.urandom(32))

    def hear(self, event: LinkEvent) -> None:
        self.perform(self.network.step(self.now_ms(), event))

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    def perform(self, effects: list[NetworkEffect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self.transport.send(effect)
                case Delivered():
                    self.heard += 1
                    self.perform(self.network.judge(self.now_ms(), effect.id, Verdict.ACCEPT))
                    self.done()
                case Requested():
                    self.perform(self.network.answer(effect, effect.message))
                case Replied():
                    self.replies += 1
                    self.done()
                case PeerUp():
                    self.up.set()
                case Dial():
                    self.transport.dial(effect)
                case Close():
                    self.transport.close(effect)
                case Throttle():
                    self.transport.throttle(effect)
                case _:
                    pass


async def connected() -> tuple[Host, Host]:
    bob = Host(b"B" * 32, listens=True)
    where = await bob.transport.start(bob.hear, lambda _: True)
    alice = Host(b"A" * 32, listens=False, bootstrap=(where,))
    await alice.transport.start(alice.hear, lambda _: True)
    alice.perform(alice.network.tick(alice.now_ms()))
    await asyncio.wait_for(asyncio.gather(alice.up.wait(), bob.up.wait()), 5)
    return alice, bob


async def votes(batch: int) -> float:
    """Microseconds of CPU per message that Alice publishes and Bob judges, `batch` at a time."""
    alice, bob = await connected()
    payloads = [number.to_bytes(8, "big") + bytes(192) for number in range(MESSAGES)]
    arrived = asyncio.Event()
    started = time.process_time()
    for start in range(0, MESSAGES, batch):
        until = start + batch
        arrived.clear()
        bob.done = lambda until=until: arrived.set() if bob.heard >= until else None  # type: ignore[misc]
        for payload in payloads[start:until]:
            alice.perform(alice.network.publish(alice.now_ms(), VOTE, payload))
        await arrived.wait()
    spent = time.process_time() - started
    assert bob.heard == MESSAGES
    await alice.transport.stop()
    await bob.transport.stop()
    return spent / MESSAGES * 1e6


async def statements() -> float:
    """Microseconds of CPU per statement from session to session: frames, rates and Noise over TCP, no gossip."""
    bob = TcpTransport(static=b"B" * 32, prologue=PROLOGUE, listen=("127.0.0.1", 0))
    alice = TcpTransport(static=b"A" * 32, prologue=PROLOGUE, listen=None)
    sessions = (Session(0), Session(0))
    for session in sessions:
        session.introduced = True
    arrived = asyncio.Event()
    linked: asyncio.Queue[LinkEvent] = asyncio.Queue()
    heard = 0

    def hear(event: LinkEvent) -> None:
        nonlocal heard
        if isinstance(event, Received):
            for _ in sessions[1].receive(0, event.data):
                heard += 1
            if heard % BATCH == 0:
                arrived.set()

    where = await bob.start(hear, lambda _: True)
    await alice.start(linked.put_nowait, lambda _: True)
    alice.dial(Dial(1, where, b""))
    event = await linked.get()
    assert isinstance(event, Linked)
    link = event.link
    payload = bytes(200)
    started = time.process_time()
    for _ in range(0, MESSAGES, BATCH):
        arrived.clear()
        for _ in range(BATCH):
            data = sessions[0].say(0, VOTE, payload)
            assert data is not None
            alice.send(Send(link, data, VOTE.lane))
        await arrived.wait()
    spent = time.process_time() - started
    assert heard == MESSAGES
    await alice.stop()
    await bob.stop()
    return spent / MESSAGES * 1e6


async def questions(size: int, count: int) -> float:
    """Microseconds of CPU per request and its answer of the same size, one after another."""
    alice, bob = await connected()
    (key,) = alice.network.peers
    answered = asyncio.Event()
    alice.done = answered.set
    started = time.process_time()
    for ticket in range(count):
        answered.clear()
        alice.perform(alice.network.ask(alice.now_ms(), key, CONSENSUS_GET, bytes(size), ticket=ticket))
        await answered.wait()
    spent = time.process_time() - started
    assert alice.replies == count
    await alice.transport.stop()
    await bob.transport.stop()
    return spent / count * 1e6


def handshake() -> float:
    """Microseconds of CPU of one handshake, both sides."""
    started = time.process_time()
    for _ in range(200):
        alice = Handshake(initiator=True, prologue=PROLOGUE, static=b"A" * 32, ephemeral=os.urandom(32))
        bob = Handshake(initiator=False, prologue=PROLOGUE, static=b"B" * 32, ephemeral=os.urandom(32))
        bob.read(alice.write())
        alice.read(bob.write())
        bob.read(alice.write())
        alice.split(), bob.split()
    return (time.process_time() - started) / 200 * 1e6


def main() -> None:
    results = {
        "statements_of_200_bytes_50_at_once_us": spread([asyncio.run(statements()) for _ in range(RUNS)], 2),
        "uvloop_statements_of_200_bytes_50_at_once_us": spread(
            [uvloop.run(statements()) for _ in range(RUNS)], 2
        ),
        "votes_of_200_bytes_50_at_once_us": spread([asyncio.run(votes(BATCH)) for _ in range(RUNS)], 2),
        "votes_of_200_bytes_one_at_a_time_us": spread([asyncio.run(votes(1)) for _ in range(RUNS)], 2),
        "uvloop_votes_of_200_bytes_50_at_once_us": spread([uvloop.run(votes(BATCH)) for _ in range(RUNS)], 2),
        "uvloop_votes_of_200_bytes_one_at_a_time_us": spread([uvloop.run(votes(1)) for _ in range(RUNS)], 2),
        "uvloop_question_and_answer_of_200_bytes_us": spread(
            [uvloop.run(questions(200, 90)) for _ in range(RUNS)], 2
        ),
        "handshake_us": spread([handshake() for _ in range(RUNS)], 0),
    }
    save("network", "a 200-byte message <= 12 us of CPU, both sides together", results)


if __name__ == "__main__":
    main()
