"""Heads, headers and blocks between nodes that agree by work: asked for, answered and checked. docs/spec/nakamoto.md"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from aitbc.core.chain.builder import has_its_body
from aitbc.core.codec.wire import pack, unpack
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
from aitbc.core.peer.kinds import (
    WORK_BLOCK,
    WORK_HEAD,
    WORK_HEADERS,
    BlockNamed,
    Kind,
    Locator,
    WorkHeaders,
)
from aitbc.core.peer.peers import Heard, Replied, Requested, Unreplied
from aitbc.core.types.blocks import MAX_BLOCK_BYTES, Block, Header
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.work_replica import BlockCame, Input
from aitbc.node.talk.wires import Wires, hash_of
from aitbc.ports import Store

T = TypeVar("T")

MAX_HEADER_BYTES = WORK_HEAD.limit


class Worker(Protocol):
    """A node that agrees by work."""

    def feed_work(self, message: Input) -> None: ...

    def head_header(self) -> Header: ...

    def body_beside(self, block_hash: bytes) -> Block | None:
        """A block that is not on the chain."""
        ...

    @property
    def genesis_hash(self) -> bytes: ...

    async def read_range(self, work: Callable[[Store], T]) -> T: ...


class WorkTalk:
    kinds: tuple[Kind, ...] = (WORK_HEADERS, WORK_BLOCK)

    def __init__(self, wires: Wires, host: Worker) -> None:
        self._wires, self._host = wires, host
        self._asked: dict[int, bytes] = {}
        """Blocks that peers are asked for, by ticket; of headers, nothing."""

    # Heads

    def greet(self, key: bytes) -> None:
        self._host.feed_work(PeerJoined(key.hex()))
        self._say(key, self._host.head_header())

    def part(self, key: bytes) -> None:
        self._host.feed_work(PeerLeft(key.hex()))

    def announce(self, header: Header) -> None:
        """Tell everybody."""
        for key in self._wires.network.peers:
            self._say(key, header)

    def _say(self, key: bytes, header: Header) -> None:
        """Everybody has block 0."""
        if header.height:
            wires = self._wires
            wires.perform(wires.network.say(wires.now(), key, WORK_HEAD, pack(header)))

    def hear(self, effect: Heard) -> None:
        if effect.kind is not WORK_HEAD:
            return
        try:
            header = unpack(effect.message, Header, limit=MAX_HEADER_BYTES)
        except Rejected as rejection:
            self._wires.penalise(effect.key, rejection.message)
            return
        self._host.feed_work(HeaderAnnounced(effect.key.hex(), header))

    # Asking

    def fetch_headers(self, effect: FetchHeaders) -> None:
        key = bytes.fromhex(effect.peer)
        self._wires.ask(key, WORK_HEADERS, Locator(effect.locator), note=lambda _ticket: None)

    def fetch_blocks(self, effect: FetchBlocks) -> None:
        for name in effect.hashes:
            self._fetch_block(bytes.fromhex(effect.peer), name)

    def _fetch_block(self, key: bytes, name: bytes) -> None:
        def note(ticket: int) -> None:
            self._asked[ticket] = name

        self._wires.ask(key, WORK_BLOCK, BlockNamed(name), note=note)

    def unreplied(self, effect: Unreplied) -> None:
        """For headers nothing is said: the engine asks somebody else in time."""
        name = self._asked.pop(effect.ticket, None)
        if name is not None:
            self._host.feed_work(BlockMissed(effect.key.hex(), name, None))

    def replied(self, effect: Replied) -> None:
        name = self._asked.pop(effect.ticket, None)
        if name is not None:
            self._wires.spawn(self._take_block(effect, name))
        else:
            self._take_headers(effect)

    def _take_headers(self, effect: Replied) -> None:
        answer: WorkHeaders = effect.message
        try:
            headers = [unpack(raw, Header, limit=MAX_HEADER_BYTES) for raw in answer.headers]
        except Rejected as rejection:
            self._wires.penalise(effect.key, rejection.message)
            headers = []
        self._host.feed_work(HeadersArrived(effect.key.hex(), answer.meets, headers))

    async def _take_block(self, effect: Replied, name: bytes) -> None:
        """The header has the hash that was asked for, and the transactions are the header's: else it is the teller's
        fault alone."""
        peer, raw = effect.key.hex(), effect.message

        def examine() -> Block:
            block = unpack(raw, Block, limit=MAX_BLOCK_BYTES)
            if hash_of(block) != name or not has_its_body(block, self._host.genesis_hash):
                raise Rejected(Reason.ROOT_MISMATCH, "that is not the block that was asked for")
            return block

        try:
            block = await self._wires.beside(examine)
        except Rejected as rejection:
            self._host.feed_work(BlockMissed(peer, name, rejection.reason))
        else:
            self._host.feed_work(BlockCame(peer, name, block, len(raw)))

    # Answering

    def requested(self, effect: Requested) -> None:
        answer = self._give_headers if effect.kind is WORK_HEADERS else self._give_block
        self._wires.spawn(answer(effect))

    async def _give_headers(self, effect: Requested) -> None:
        locator: Locator = effect.message
        await self._answer(effect, lambda store: headers_after(store, locator.hashes))

    async def _give_block(self, effect: Requested) -> None:
        name: bytes = effect.message.hash
        beside = self._host.body_beside(name)
        if beside is not None:
            self._wires.answer(effect, pack(beside))
            return

        def find(store: Store) -> bytes | None:
            stored = store.block_by_hash(name)
            return None if stored is None else pack(stored.block)

        await self._answer(effect, find)

    async def _answer(self, effect: Requested, work: Callable[[Store], Any]) -> None:
        try:
            answer = await self._host.read_range(work)
        except Rejected:  # it has too much to read, or has stopped
            answer = None
        if answer is None:
            self._wires.refuse(effect)
        else:
            self._wires.answer(effect, answer)


def headers_after(store: Store, locator: list[bytes]) -> WorkHeaders:
    """What follows on the stored chain; cut where it changed while it was read."""
    known = next((head for name in locator if (head := store.head_of(name)) is not None), None)
    if known is None:
        return WorkHeaders(False, [])
    raw: list[bytes] = []
    last = known
    for height in range(known.header.height + 1, known.header.height + 1 + MAX_HEADERS):
        head = store.head_at(height)
        if head is None or head.header.parent != last.hash:
            break
        raw.append(pack(head.header))
        last = head
    return WorkHeaders(True, raw)
