"""What nodes that agree by work say to each other: what is answered, what is passed to the engine, who is blamed."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.wire import pack
from aitbc.core.consensus.nakamoto.engine import (
    MAX_HEADERS,
    BlockMissed,
    FetchBlocks,
    FetchHeaders,
    HeaderAnnounced,
    HeadersArrived,
    PeerJoined,
    PeerLeft,
)
from aitbc.core.consensus.nakamoto.rules import LOOKAHEAD
from aitbc.core.consensus.nakamoto.tree import MAX_AHEAD
from aitbc.core.peer.kinds import (
    MAX_LOCATOR,
    MAX_WORK_HEADERS,
    WORK_BLOCK,
    WORK_HEAD,
    WORK_HEADERS,
    BlockNamed,
    Kind,
    Locator,
    WorkHeaders,
    pack_answer,
)
from aitbc.core.peer.peers import Heard, Replied, Requested, Unreplied
from aitbc.core.peer.reasons import PeerReason
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.blocks import MAX_EXTRA_BYTES, Block, Header
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.work_replica import BlockCame, Input
from aitbc.node.talk.work import WorkTalk, headers_after
from support.chain import Chain
from support.people import ALICE, BOB, EVE
from support.work import work_genesis
from support.work_host import Host, Maker

PEER = b"p" * 32
NAME = PEER.hex()


class Wires:
    """Notes what is said; work beside the loop is done at once."""

    def __init__(self) -> None:
        self.network = self
        self.peers = [PEER]
        self.said: list[tuple[Kind, bytes]] = []
        self.asked: list[tuple[Kind, Any, int]] = []
        self.answers: list[Any] = []
        self.blamed: list[str] = []

    def now(self) -> int:
        return 0

    def perform(self, _effects: object) -> None:
        pass

    def say(self, _now_ms: int, _key: bytes, kind: Kind, payload: bytes) -> None:
        self.said.append((kind, payload))

    def ask(self, _key: bytes, kind: Kind, message: Any, *, note: Callable[[int], None]) -> None:
        note(len(self.asked))
        self.asked.append((kind, message, len(self.asked)))

    def answer(self, _request: Requested, message: Any) -> None:
        self.answers.append(message)

    def refuse(self, _request: Requested) -> None:
        self.answers.append(None)

    def penalise(self, _key: bytes, message: str) -> None:
        self.blamed.append(message)

    async def beside(self, work: Callable[[], Any]) -> Any:
        return work()

    def spawn(self, work: Any) -> None:
        asyncio.run(work)


class Node:
    def __init__(self, store: MemoryStore, head: Header, genesis_hash: bytes) -> None:
        self.store, self.head, self.genesis_hash = store, head, genesis_hash
        self.heard: list[Input] = []
        self.beside: dict[bytes, Block] = {}
        self.is_busy = False

    def feed_work(self, message: Input) -> None:
        self.heard.append(message)

    def head_header(self) -> Header:
        return self.head

    def body_beside(self, block_hash: bytes) -> Block | None:
        return self.beside.get(block_hash)

    async def read_range(self, work: Callable[[MemoryStore], Any]) -> Any:
        if self.is_busy:
            raise Rejected(Reason.TOO_BUSY, "too much is read")
        return work(self.store)


@pytest.fixture(scope="module")
def maker() -> Maker:
    maker = Maker()
    signer = Chain(work_genesis())
    maker.extend([signer.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5})])
    maker.grow(4)
    return maker


def talk_of(maker: Maker) -> tuple[WorkTalk, Wires, Node]:
    host = Host(maker.document)
    host.show(*maker.blocks)
    wires, node = Wires(), Node(host.store, host.head, host.executor.loaded.hash)
    return WorkTalk(wires, node), wires, node  # type: ignore[arg-type]


def hashes(blocks: Sequence[Block]) -> list[bytes]:
    return [header_hash(block.header) for block in blocks]


def test_limits_of_the_kinds_are_those_of_the_engine() -> None:
    assert MAX_WORK_HEADERS == MAX_HEADERS
    assert (64 + MAX_AHEAD + LOOKAHEAD).bit_length() + 2 <= MAX_LOCATOR
    largest = msgspec.structs.replace(
        Maker().executor.head.block.header,
        version=MAX_SIGNED,
        chain_id="x" * 64,
        height=MAX_SIGNED,
        timestamp_ms=MAX_SIGNED,
        proposer="y" * 90,
        extra=bytes(MAX_EXTRA_BYTES),
        seal=bytes(72),
    )
    assert len(pack(largest)) <= WORK_HEAD.limit
    assert pack_answer(WORK_HEADERS, WorkHeaders(True, [pack(largest)] * MAX_HEADERS))


def test_a_new_peer_is_met_and_told_the_head(maker: Maker) -> None:
    talk, wires, node = talk_of(maker)
    talk.greet(PEER)
    talk.part(PEER)
    assert node.heard == [PeerJoined(NAME), PeerLeft(NAME)]
    assert wires.said == [(WORK_HEAD, pack(maker.blocks[-1].header))]
    talk.announce(maker.blocks[0].header)
    assert wires.said[1:] == [(WORK_HEAD, pack(maker.blocks[0].header))]


def test_block_0_is_nobodys_news() -> None:
    maker = Maker()
    talk, wires, node = talk_of(maker)
    talk.greet(PEER)
    assert (wires.said, node.heard) == ([], [PeerJoined(NAME)])


def test_a_head_that_is_heard_is_passed_on_and_nonsense_is_blamed(maker: Maker) -> None:
    talk, wires, node = talk_of(maker)
    talk.hear(Heard(PEER, WORK_HEAD, pack(maker.blocks[0].header)))
    assert node.heard == [HeaderAnnounced(NAME, maker.blocks[0].header)]
    for nonsense in (b"", b"\xff", pack([1, 2]), pack(maker.blocks[0].header)[:-1], pack(maker.blocks[0])):
        talk.hear(Heard(PEER, WORK_HEAD, nonsense))
    assert len(wires.blamed) == 5
    assert len(node.heard) == 1


@pytest.mark.parametrize(
    ("known", "meets", "first"), [([3], True, 4), ([1], True, 2), ([4, 2], True, 5), ([5], True, 6)]
)
def test_headers_after_what_both_know(maker: Maker, known: list[int], meets: bool, first: int) -> None:
    _, _, node = talk_of(maker)
    locator = [bytes(32), *[header_hash(maker.blocks[height - 1].header) for height in known]]
    answer = headers_after(node.store, locator)
    assert answer == WorkHeaders(meets, [pack(block.header) for block in maker.blocks[first - 1 :]])


def test_a_chain_that_changes_while_it_is_read_is_cut(maker: Maker) -> None:
    _, _, node = talk_of(maker)
    strange = maker.blocks[3]

    class Changing(MemoryStore):
        def __init__(self) -> None:
            self._inner = node.store

        def head_of(self, block_hash: bytes) -> Any:
            return self._inner.head_of(block_hash)

        def head_at(self, height: int) -> Any:
            found = self._inner.head_at(height)
            if height < 4 or found is None:
                return found
            header = msgspec.structs.replace(strange.header, parent=bytes(32))
            return msgspec.structs.replace(found, header=header)

    answer = headers_after(Changing(), [header_hash(maker.blocks[0].header)])
    assert answer.headers == [pack(block.header) for block in maker.blocks[1:3]]


def test_questions_are_answered_from_disk_and_from_beside_the_chain(maker: Maker) -> None:
    talk, wires, node = talk_of(maker)
    names = hashes(maker.blocks)
    branch = maker.after(maker.blocks[:2])
    aside = branch.extend(after_ms=1_500)
    node.beside[header_hash(aside.header)] = aside

    def ask(kind: Kind, message: Any) -> Any:
        talk.requested(Requested(PEER, 1, 1, kind, message))
        return wires.answers[-1]

    assert ask(WORK_HEADERS, Locator([names[3]])) == WorkHeaders(True, [pack(maker.blocks[4].header)])
    assert ask(WORK_HEADERS, Locator([bytes(32)])) == WorkHeaders(False, [])
    assert ask(WORK_BLOCK, BlockNamed(names[0])) == pack(maker.blocks[0])
    assert ask(WORK_BLOCK, BlockNamed(header_hash(aside.header))) == pack(aside)
    assert ask(WORK_BLOCK, BlockNamed(bytes(32))) is None
    node.is_busy = True
    assert ask(WORK_BLOCK, BlockNamed(names[0])) is None
    assert ask(WORK_HEADERS, Locator([names[0]])) is None


def test_answers_come_back_under_the_name_that_was_asked_for(maker: Maker) -> None:
    talk, wires, node = talk_of(maker)
    names = hashes(maker.blocks)
    talk.fetch_headers(FetchHeaders(NAME, names[:1]))
    talk.fetch_blocks(FetchBlocks(NAME, names[:2]))
    assert [(kind, message) for kind, message, _ in wires.asked] == [
        (WORK_HEADERS, Locator(names[:1])),
        (WORK_BLOCK, BlockNamed(names[0])),
        (WORK_BLOCK, BlockNamed(names[1])),
    ]
    headers = [block.header for block in maker.blocks[1:]]
    talk.replied(Replied(PEER, 0, WORK_HEADERS, WorkHeaders(True, [pack(header) for header in headers])))
    raw = pack(maker.blocks[0])
    talk.replied(Replied(PEER, 1, WORK_BLOCK, raw))
    talk.unreplied(Unreplied(PEER, 2, WORK_BLOCK, PeerReason.HELLO_TIMEOUT, "late"))
    talk.unreplied(Unreplied(PEER, 9, WORK_HEADERS, PeerReason.HELLO_TIMEOUT, "late"))
    assert node.heard == [
        HeadersArrived(NAME, True, headers),
        BlockCame(NAME, names[0], maker.blocks[0], len(raw)),
        BlockMissed(NAME, names[1], None),
    ]


def test_a_block_with_other_transactions_is_the_tellers_fault_alone(maker: Maker) -> None:
    """Attack 11 of seed 002: the hash there did not cover them."""
    talk, _, node = talk_of(maker)
    first, second = maker.blocks[:2]
    name = header_hash(first.header)
    stolen = Chain(work_genesis()).sign(ALICE, "TRANSFER", {"to": EVE.address, "amount": 5}, nonce=1)
    lies = [
        pack(Block(first.header, [])),
        pack(Block(first.header, [stolen])),
        pack(second),
        b"",
        b"\x92\x00",
    ]
    for lie in lies:
        talk.fetch_blocks(FetchBlocks(NAME, [name]))
        ticket = max(talk._asked)
        talk.replied(Replied(PEER, ticket, WORK_BLOCK, lie))
    missed = [message for message in node.heard if isinstance(message, BlockMissed)]
    assert [message.hash for message in missed] == [name] * 5
    assert [message.reason for message in missed[:3]] == [Reason.ROOT_MISMATCH] * 3
    assert all(message.reason is not None for message in missed)


def test_headers_that_are_none_are_blamed_and_owed_no_more(maker: Maker) -> None:
    talk, wires, node = talk_of(maker)
    talk.fetch_headers(FetchHeaders(NAME, hashes(maker.blocks)[:1]))
    talk.replied(Replied(PEER, 0, WORK_HEADERS, WorkHeaders(True, [b"nonsense"])))
    assert len(wires.blamed) == 1
    assert node.heard == [HeadersArrived(NAME, True, [])]
