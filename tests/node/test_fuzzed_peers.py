"""What a stranger says to a real node's network in every kind, changed in a few places: named refusals, and no mistake
of this program."""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from aitbc.adapters.network.memory import MemoryTransport
from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core.codec.wire import pack
from aitbc.core.consensus.simplex.messages import Status, Vote
from aitbc.core.peer.compact import compacted
from aitbc.core.peer.frames import FrameReader, Type, frame
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
    Blocks,
    Bye,
    Ends,
    EndsAsked,
    Fill,
    Filled,
    Headers,
    Hello,
    Kind,
    Locator,
    Ping,
    Search,
    Transactions,
    Wids,
    WorkHeaders,
)
from aitbc.core.peer.kinds import Status as PeerStatus
from aitbc.core.peer.links import Dial, Linked, LinkEvent, Received, Send
from aitbc.core.types.blocks import Candidate, Certificate
from aitbc.node.runtime import SystemClock
from aitbc.node.talk.agreement import Offer
from aitbc.node.talk.blocks import BlockAnswer, BlockRequest
from support.circle import Circle, Friend, until
from support.mutation import mutate_bytes, mutate_msgpack
from support.people import ALICE, BOB

Words = tuple[dict[Kind, bytes], dict[Kind, bytes]]
FAR = PeerStatus(9, bytes(32), 9)


def good(circle: Circle) -> Words:
    """A message of each kind, and an answer of each that is a question."""
    payload = {"to": BOB.address, "amount": 1}
    tx = circle.chain.verified(ALICE, "TRANSFER", payload, nonce=1)
    built = circle.chain.block(tx)
    name, wids = built.hash, [tx.wid]
    offer = Offer(circle.proposal(name), compacted(built.block, name, wids=wids, fresh=set(wids)))
    candidate = Candidate(0, 1, 0, bytes(32), name)
    hello = Hello(2, 2, bytes(32), FAR, SystemClock().now_ms(), "", "fuzz", ["votes"])
    search = Search(bytes(16), bytes(32), 1)
    said: dict[Kind, Any] = {
        HELLO: hello,
        PING: Ping(1, FAR),
        BYE: Bye("", ""),
        ANNOUNCE: Wids(wids),
        PULL: Wids(wids),
        CANDIDATE: offer,
        VOTE: Vote("final", 0, 1, name, 0, bytes(64)),
        CERTIFICATE: Certificate("final", candidate, 1, [bytes(64)]),
        CONSENSUS_STATUS: Status(0, 0, 1),
        CONSENSUS_GET: BlockRequest(name, 0),
        ENDS: EndsAsked(0),
        HEADERS: BlockRange(1, 9),
        FILL: Fill(name, [0]),
        BLOCKS: BlockRange(1, 9),
        WORK_HEAD: built.block.header,
        WORK_HEADERS: Locator([name]),
        WORK_BLOCK: BlockNamed(name),
        SEARCH_BLOCK: search,
        SEARCH_TRANSACTION: search,
    }
    answered: dict[Kind, Any] = {
        PING: Ping(1, FAR),
        PULL: Transactions([pack(tx.tx)]),
        CONSENSUS_GET: BlockAnswer([pack(built.block)]),
        ENDS: Ends([pack(built.block.header)]),
        HEADERS: Headers([pack(built.block.header)], [b""]),
        FILL: Filled([pack(tx.tx)]),
        BLOCKS: Blocks([pack(built.block)]),
        WORK_HEADERS: WorkHeaders(True, [pack(built.block.header)]),
        WORK_BLOCK: built.block,
        SEARCH_BLOCK: built.block,
        SEARCH_TRANSACTION: tx.tx,
    }
    packed = {kind: pack(message) for kind, message in said.items()}
    return packed | {GET_PEERS: b"", RECORD_KEY: b""}, {
        kind: pack(answer) for kind, answer in answered.items()
    }


class Speaker:
    """Says hello, then changed messages; answers every question with changed answers."""

    def __init__(self, circle: Circle, number: int, draw: random.Random, words: Words) -> None:
        self.draw = draw
        self.said, self.answers = words
        self.links: list[int] = []
        loop = asyncio.get_running_loop()
        key = number.to_bytes(32, "big")
        self.transport = MemoryTransport(
            circle.switch, key=key, where=f"90.{number % 250}.0.1:1", listens=False
        )
        self.reader = FrameReader(lambda _: None)
        self.transport.start_now(lambda event: loop.call_soon(self.hear, event) and None, lambda _: True)

    def hear(self, event: LinkEvent) -> None:
        if isinstance(event, Linked):
            self.links.append(event.link)
            hello = frame(Type.REQUEST, 1, HELLO.wire, self.said[HELLO])
            self.transport.send(Send(event.link, hello, HELLO.lane))
        elif isinstance(event, Received):
            for head, _ in self.reader.feed(event.data):
                if head.type == Type.REQUEST:
                    kind = next(kind for kind in KINDS if kind.wire == head.kind)
                    answer = self.changed(self.answers.get(kind, b""))
                    self.send(kind, frame(Type.ANSWER, head.id, b"", answer))

    def send(self, kind: Kind, data: bytes) -> None:
        for link in self.links:
            self.transport.send(Send(link, data, kind.lane))

    def say(self, kind: Kind, number: int) -> None:
        payload = self.changed(self.said[kind])[: kind.limit]
        self.send(kind, frame(Type.REQUEST if kind.asks else Type.PLAIN, number, kind.wire, payload))

    def changed(self, payload: bytes) -> bytes:
        change: Callable[[random.Random, bytes], bytes]
        change = self.draw.choice((lambda _, raw: raw, mutate_msgpack, mutate_msgpack, mutate_bytes))
        return change(self.draw, payload)


def complete(friend: Friend) -> None:
    """What this node's network asks of its host and the circle's stories never needed."""
    store = MemoryStore(friend.genesis_hash)
    store.commit(friend.executor.loaded.first)

    async def read_range(work: Callable[[Any], Any]) -> Any:
        return work(store)

    friend.read_range = read_range  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 30))])
def test_changed_messages_of_every_kind_find_no_mistake(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        draw = random.Random(seed)
        async with Circle({"a": "", "b": "a"}) as circle:
            target = circle["a"]
            complete(target)
            words = good(circle)
            for number in range(1, 60):
                speaker = Speaker(circle, number + 1_000 * seed, draw, words)
                speaker.transport.dial(Dial(1, target.network.address, b""))
                await asyncio.sleep(0.015)
                kinds = draw.sample([kind for kind in KINDS if kind not in (HELLO, BYE)], 5)
                for place, kind in enumerate(kinds):
                    speaker.say(kind, place + 2)
                if draw.randrange(3) == 0:
                    target.network.fetch(draw.randbytes(32), 0)
                await asyncio.sleep(0.02)
                speaker.transport.stop_now()
            await until(lambda: not target.network._network.held()["undecided bytes"][0])
            assert circle["b"].key in target.network._network.peers and circle["b"].points == 0
            assert len(target.network.refused) > 3, "they were refused by name"

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
