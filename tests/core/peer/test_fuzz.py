"""Changed frames of every kind, in pieces of any size, thrown at the whole machine: no exception, bounded tables, and
an honest peer that is heard all the while."""

import random
import time

import pytest

from aitbc.core.peer.frames import Type, frame
from aitbc.core.peer.gossip import Delivered
from aitbc.core.peer.kinds import (
    ANNOUNCE,
    BLOCKS,
    BYE,
    CANDIDATE,
    CERTIFICATE,
    CONSENSUS_GET,
    CONSENSUS_STATUS,
    ENDS,
    FILL,
    GET_PEERS,
    HEADERS,
    HELLO,
    KINDS,
    PING,
    PULL,
    RECORD_KEY,
    SEARCH_BLOCK,
    SEARCH_TRANSACTION,
    VOTE,
    WORK_BLOCK,
    WORK_HEAD,
    WORK_HEADERS,
    BlockNamed,
    BlockRange,
    Bye,
    EndsAsked,
    Fill,
    Hello,
    Kind,
    Locator,
    Ping,
    Search,
    Status,
    Wids,
    pack_message,
)
from aitbc.core.peer.links import Linked, Received, Unlinked
from aitbc.core.peer.network import Examine, LookUp, Network
from aitbc.core.peer.peers import PeerSettings
from aitbc.core.peer.reasons import PeerReason
from support.village import SETTINGS_HASH, START_MS, STATUS, PoolOf

HI = Hello(2, 2, SETTINGS_HASH, STATUS, START_MS, ":7070", "fuzz", ["votes"])
QUESTION = Search(bytes(16), bytes(32), 3)
GOOD: dict[Kind, object] = {
    HELLO: HI,
    GET_PEERS: b"",
    PING: Ping(7, Status(1, bytes(32), 1)),
    BYE: Bye("leaving", "good night"),
    RECORD_KEY: b"",
    ANNOUNCE: Wids([bytes(32), b"w" * 32]),
    PULL: Wids([bytes(32), b"w" * 32]),
    CANDIDATE: b"a candidate",
    VOTE: b"a vote",
    CERTIFICATE: b"a certificate",
    CONSENSUS_STATUS: b"far",
    CONSENSUS_GET: bytes(36),
    ENDS: EndsAsked(3),
    HEADERS: BlockRange(1, 9),
    FILL: Fill(bytes(32), [1, 2]),
    BLOCKS: BlockRange(1, 9),
    WORK_HEAD: b"a header",
    WORK_HEADERS: Locator([bytes(32)]),
    WORK_BLOCK: BlockNamed(bytes(32)),
    SEARCH_BLOCK: QUESTION,
    SEARCH_TRANSACTION: QUESTION,
}


def test_every_kind_is_changed_here() -> None:
    assert set(GOOD) == set(KINDS)


def changed(draw: random.Random, data: bytes) -> bytes:
    """A few bytes other, more, fewer, or none of it."""
    result = bytearray(data)
    for _ in range(draw.choice((0, 1, 1, 2, 8))):
        place = draw.randrange(len(result) + 1)
        match draw.randrange(4):
            case 0 if place < len(result):
                result[place] = draw.randrange(256)
            case 1:
                result[place:place] = draw.randbytes(draw.choice((1, 4, 40)))
            case 2:
                del result[place : place + draw.choice((1, 3, 30))]
            case _:
                result[place : place + 4] = draw.choice((b"\xff" * 4, bytes(4), b"\xdd\xff\xff\xff"))
    return bytes(result)


def noise(draw: random.Random, kind: Kind, number: int) -> bytes:
    """A frame of this kind with something changed: its payload, its head, its type, or everything."""
    payload = pack_message(kind, GOOD[kind])
    if draw.randrange(3):
        payload = changed(draw, payload)
    type_ = draw.choice((Type.REQUEST if kind.asks else Type.PLAIN,) * 6 + tuple(Type))
    name = kind.wire if type_ < Type.ANSWER else b""
    data = frame(type_, draw.choice((number, 1, draw.randrange(300))), name, payload)
    return changed(draw, data) if draw.randrange(8) == 0 else data


class Target:
    """A node with an honest friend, and somebody who is never the same for long."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.now_ms = START_MS
        settings = PeerSettings(
            key=b"t" * 32, settings_hash=SETTINGS_HASH, agent="t", max_peers=8, features=("votes",)
        )
        self.network = Network(settings, status=STATUS, pool=PoolOf(), secret=bytes(32))
        self.heard = 0
        self.links = 0
        self.friend = self.join(b"f" * 32)

    def join(self, key: bytes) -> int:
        self.links += 1
        self.perform(
            self.network.step(self.now_ms, Linked(self.links, key, f"30.{self.links % 250}.0.1:1", None))
        )
        hello = frame(Type.REQUEST, 1, HELLO.wire, pack_message(HELLO, HI))
        self.perform(self.network.step(self.now_ms, Received(self.links, hello)))
        return self.links

    def leave(self, link: int) -> None:
        self.perform(self.network.step(self.now_ms, Unlinked(link, PeerReason.LOST, "")))

    def perform(self, effects: list[object]) -> None:
        for effect in effects:
            match effect:
                case Delivered():
                    self.heard += effect.payload.startswith(b"honest")
                case LookUp():
                    self.perform([*self.network.looked(self.now_ms, effect.id, None)])
                case Examine():
                    self.perform([*self.network.examined(self.now_ms, effect.ticket, good=False)])
                case _:
                    pass

    def receive(self, link: int, data: bytes) -> None:
        self.perform([*self.network.step(self.now_ms, Received(link, data))])


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 60))]
)
def test_changed_frames_of_every_kind_hurt_nobody(seed: int) -> None:
    target = Target(seed)
    draw, started = target.draw, time.process_time()
    for number in range(150):
        key = draw.randbytes(32)
        link = target.join(key)
        if draw.randrange(2):  # questions of ours wait for its answers
            for kind in (CONSENSUS_GET, BLOCKS, PING):
                target.perform([*target.network.ask(target.now_ms, key, kind, GOOD[kind], ticket=number)])
        stream = b"".join(
            noise(draw, draw.choice(KINDS), place) for place in range(2, 2 + draw.choice((1, 5, 20)))
        )
        while stream:
            piece = draw.choice((1, 7, 100, 65_519))
            target.receive(link, stream[:piece])
            stream = stream[piece:]
        target.now_ms += draw.choice((1, 50, 400))
        target.perform([*target.network.tick(target.now_ms)])
        if number % 10 == 0:
            target.receive(target.friend, frame(Type.PLAIN, 9, VOTE.wire, b"honest %d" % number))
        target.leave(link)
        over = {name: held for name, held in target.network.held().items() if held[0] > held[1]}
        assert not over
    assert target.heard == 15, "the friend was heard every time"
    assert b"f" * 32 in target.network.peers
    assert time.process_time() - started < 20
