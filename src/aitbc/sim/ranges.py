"""How a simulated whole node catches up: the real machine of `core.sync.ranges`, its questions and answers as messages
that get lost like all others, and every peer's word on how far it is. docs/spec/sync.md

What `aitbc.node.catching_up` and `aitbc.node.talk.ranges` do with tasks and links.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from aitbc.adapters.storage.ranges import read_blocks, read_ends, read_headers
from aitbc.core.ledger.validators import validators_of
from aitbc.core.peer.kinds import HEADERS, BlockRange, EndsAsked
from aitbc.core.sync.answers import Chain
from aitbc.core.sync.ranges import Apply, Ask, Blame, RangeSync, Sizes, SyncEffect, SyncState
from aitbc.core.types.reasons import Rejected
from aitbc.sim.process import Envelope

if TYPE_CHECKING:
    from aitbc.sim.whole import Whole

HEIGHT_MS = 1_000
"""So often a node says how far it is even when that is nothing new."""
PEER_GONE_MS = 4_000
"""Who said nothing of its height for so long is not connected."""

LOST_MS = 2_500
"""A message that is lost here is a link that broke there, which a node hears of sooner than of a peer that is slow."""


class Height(msgspec.Struct, frozen=True):
    """The newest final block that a peer says it has."""

    height: int
    teller: int
    """Twins have one address."""
    life: int
    """Of its process: a new one knows of no question."""


class RangeAsk(msgspec.Struct, frozen=True):
    asker: int
    """Twins have one address and hear each other's answers."""
    kind: str
    ticket: int
    message: EndsAsked | BlockRange


class RangeAnswer(msgspec.Struct, frozen=True):
    asker: int
    ticket: int
    answer: Any


class Fact(NamedTuple):
    """Something that happens to this part of a node, as the heap of events carries it."""

    what: str
    about: Any = None


class Ranges:
    """One life's."""

    def __init__(self, node: Whole, *, sizes: Sizes, tick_ms: int) -> None:
        self._node = node
        self._tick_ms, self._sizes = tick_ms, sizes
        self._told = (-1, 0)
        """The height that it said last, and when."""
        self._open: dict[int, str] = {}
        """Ticket → who was asked."""
        self._lives: dict[int, int] = {}
        """Node → its life."""
        self._said: dict[str, tuple[int, int]] = {}
        """Peer → the height that it told last, and when."""
        loaded = node.executor.loaded
        height, block_hash, validators = self._head()
        self._sync = RangeSync(
            chain=Chain(
                loaded.genesis.chain_id,
                loaded.hash,
                loaded.genesis.consensus.epoch_length,
                node.executor.verifier,
            ),
            height=height,
            block_hash=block_hash,
            validators=validators,
            sizes=sizes,
        )
        self._after(0, Fact("tick"))

    def _height(self) -> Envelope:
        return Envelope(Height(self._node.height, self._asker, self._node.life))

    @property
    def _asker(self) -> int:
        return next(number for number, node in enumerate(self._node.cluster.nodes) if node is self._node)

    def _head(self) -> Any:
        """Height and hash, and the set of the block after it."""
        executor = self._node.executor
        return executor.head.block.header.height, executor.head.hash, validators_of(executor.state)

    def _after(self, delay_ms: int, fact: Fact) -> None:
        self._node.cluster.after(delay_ms, self._node, "catch_up", fact)

    @property
    def is_fetching(self) -> bool:
        """Agreement rests."""
        return self._sync.state is SyncState.BLOCKS

    # Facts

    def happen(self, fact: Fact) -> None:
        match fact:
            case Fact("tick"):
                self._tick()
            case Fact("no answer", ticket):
                self._give_up(ticket)
            case _:
                raise AssertionError(f"no such fact: {fact}")

    def _now(self) -> int:
        return self._node.now_ms()

    def _tick(self) -> None:
        node = self._node
        self._after(self._tick_ms, Fact("tick"))
        height, at = self._told
        if node.height != height or node.cluster.now - at >= HEIGHT_MS:
            self._told = (node.height, node.cluster.now)
            node.cluster.broadcast(node, self._height())
        if not self.is_fetching and node.height != self._sync.height:
            self._sync.moved(*self._head())
        self._perform(self._sync.tick(self._now(), self._finals()))

    def _finals(self) -> dict[bytes, int]:
        oldest = self._node.cluster.now - PEER_GONE_MS
        return {peer.encode(): height for peer, (height, at) in self._said.items() if at >= oldest}

    def hear(self, sender: str, message: Height | RangeAsk | RangeAnswer) -> None:
        match message:
            case Height():
                self._said[sender] = (message.height, self._node.cluster.now)
                if self._lives.setdefault(message.teller, message.life) != message.life:
                    self._lives[message.teller] = message.life
                    self._link_broke(sender)
                if self._node.height - message.height >= self._sizes.min_behind:
                    self._node.cluster.send(
                        self._node, sender, self._height()
                    )  # as a new link's greeting does
            case RangeAsk():
                self._node.answer_range(sender, message)
            case RangeAnswer() if message.asker == self._asker:
                self._take(message)
            case RangeAnswer():
                return

    def _link_broke(self, peer: str) -> None:
        for ticket in [ticket for ticket, asked in self._open.items() if asked == peer]:
            self._give_up(ticket)

    def _give_up(self, ticket: int) -> None:
        self._open.pop(ticket, None)
        self._perform(self._sync.unanswered(self._now(), ticket))

    def _take(self, message: RangeAnswer) -> None:
        self._open.pop(message.ticket, None)
        work = self._sync.checker(message.ticket, message.answer)
        if work is None:
            self._perform(self._sync.tick(self._now(), self._finals()))
            return
        try:
            result = work()
        except Rejected as rejection:
            self._perform(self._sync.lied(self._now(), message.ticket, rejection.message))
        else:
            self._perform(self._sync.take(self._now(), message.ticket, result))

    def applied(self, height: int) -> None:
        self._perform(self._sync.applied(self._now(), height))
        if not self.is_fetching:
            self._node.cluster.note(self._node, f"has caught up to {height}")

    def wrong_body(self, height: int) -> None:
        self._perform(self._sync.wrong_body(self._now(), height))

    # Effects

    def _perform(self, effects: Sequence[SyncEffect]) -> None:
        node = self._node
        for effect in effects:
            match effect:
                case Ask():
                    asked = RangeAsk(self._asker, effect.kind.name, effect.ticket, effect.message)
                    self._open[effect.ticket] = effect.key.decode()
                    node.cluster.send(node, effect.key.decode(), Envelope(asked))
                    self._after(LOST_MS, Fact("no answer", effect.ticket))
                case Apply():
                    first, last = effect.blocks[0].block.header.height, effect.blocks[-1].block.header.height
                    node.cluster.note(node, f"is to write {first} to {last}")
                    node.to_commit(effect)
                case Blame():
                    node.cluster.note(node, f"blames {effect.key.decode()}: {effect.message}")
                    node.cluster.checks.on_blame(node, effect.key.decode(), effect.message)


def answer_of(node: Whole, asked: RangeAsk) -> Any:
    """What an honest node tells of its chain."""
    store, message = node.disk.store, asked.message
    if isinstance(message, EndsAsked):
        length = node.executor.loaded.genesis.consensus.epoch_length
        return read_ends(store, above=message.above, epoch_length=length, height=node.height)
    read = read_headers if asked.kind == HEADERS.name else read_blocks
    return read(store, start=message.start, count=message.count)
