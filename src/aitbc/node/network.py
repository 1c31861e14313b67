"""The node among others: the peer-to-peer network on one loop. What is said lies in `node.talk`, by subject.

No threads but for decoding and checking. What peers send is checked there and fed to the runtime; what the replica
wants told goes out from here. docs/spec/p2p.md
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aitbc.core.consensus.simplex.messages import Message
from aitbc.core.peer import kinds
from aitbc.core.peer.kinds import Kind
from aitbc.core.peer.links import Close, Dial, LinkEvent, Send, Throttle
from aitbc.core.peer.network import (
    Delivered,
    Examine,
    Found,
    LookUp,
    Network,
    NetworkEffect,
    NotFound,
    TransactionsCame,
    Wake,
)
from aitbc.core.peer.peering import TICK_MS
from aitbc.core.peer.peers import (
    ConfiguredPeer,
    Heard,
    PeerDown,
    PeerSettings,
    PeerUp,
    PeerView,
    Refusal,
    Replied,
    Requested,
    Unreplied,
)
from aitbc.core.types.blocks import Block
from aitbc.node.book import FIRST_SAVE_S, SAVE_EVERY_S, BookKeeper
from aitbc.node.catching_up import CatchUp, Writer
from aitbc.node.subscriptions import Subscriptions
from aitbc.node.talk.agreement import Agreement, Voter
from aitbc.node.talk.blocks import Blocks
from aitbc.node.talk.puzzles import Puzzles, Shelf
from aitbc.node.talk.ranges import RangeReader, Ranges
from aitbc.node.talk.searches import Keeper, Searches
from aitbc.node.talk.transactions import Taker, Transactions
from aitbc.node.talk.wires import Subject, Wires, key_of
from aitbc.ports import Clock, Transport

log = logging.getLogger("aitbc.node")


class PeerHost(Shelf, Keeper, Taker, Protocol):
    """What any network asks of the node's loop."""

    subscriptions: Subscriptions

    def has_transaction(self, wid: bytes) -> bool: ...

    def fail(self, error: BaseException) -> None:
        """A bug in the network: whoever goes on would be there for others and hear nobody."""
        ...


class Host(Voter, PeerHost, RangeReader, Writer, Protocol):
    """What the network asks of a node that agrees by votes."""

    def blocks_came(self, blocks: Sequence[tuple[bytes, Block]]) -> None: ...


class PeerNetwork:
    """Peers, transactions and searches; what agreement says is added by who inherits. Everything is called on one
    event loop."""

    def __init__(
        self,
        *,
        host: PeerHost,
        transport: Transport,
        settings: PeerSettings,
        status: kinds.Status,
        clock: Clock,
        configured: Sequence[ConfiguredPeer] = (),
        book: BookKeeper | None = None,
        secret: bytes = b"",
    ) -> None:
        """`configured`: nodes to stay connected to. `book`: keeps addresses over a restart; None: nothing does.
        `secret`: 32 bytes that nobody can foresee, for whoever must; empty: they are drawn."""
        self._peer_host = host
        self._book = book
        self._transport = transport
        self._network = Network(
            settings,
            status=status,
            pool=_Pool(host),
            secret=secret or os.urandom(32),
            book=book.load() if book else None,
            configured=configured,
        )
        self.wires = Wires(self._network, clock=clock, perform=self._perform)
        self.transactions = Transactions(self.wires, host)
        self.searches = Searches(
            self.wires, host, transactions=self.transactions, blocks_came=self._blocks_came
        )
        self._subjects: dict[bytes, Subject] = {}
        self._wake: asyncio.TimerHandle | None = None
        self._ticker: asyncio.Task[None] | None = None
        self.address = ""
        """Where others can connect; empty for a node that only dials."""

    def _speak(self, *subjects: Subject) -> None:
        """Requests and answers of these subjects' kinds go to them."""
        self._subjects = {kind.wire: subject for subject in subjects for kind in subject.kinds}

    # What agreement adds

    @property
    def checking(self) -> int:
        """Messages of agreement between arrival and verdict."""
        return 0

    def _blocks_came(self, blocks: Sequence[tuple[bytes, Block]]) -> None:
        """Blocks that this node searched for."""
        raise NotImplementedError

    def _delivered(self, effect: Delivered) -> None:
        """Something that is flooded."""
        raise NotImplementedError

    def _heard(self, effect: Heard) -> None:
        """A statement of a peer."""
        raise NotImplementedError

    def _greet(self, key: bytes) -> None:
        """A peer joined."""
        raise NotImplementedError

    def _parted(self, key: bytes) -> None:
        """A peer left."""

    def _tick(self) -> None:
        """Every so often."""

    async def start(self) -> None:
        """Raises StorageError when the port cannot be had."""
        self.address = await self._transport.start(
            self._step, lambda where: self._network.admits(where, self.wires.now())
        )
        self._ticker = asyncio.get_running_loop().create_task(self._tick_for_ever())
        self._ticker.add_done_callback(self.wires.done)
        if self._book is not None:
            self.wires.spawn(self._save_for_ever(self._book))

    async def stop(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        if self._book is not None:
            self._book.save(self._network.record())
        if self._wake is not None:
            self._wake.cancel()
        self._perform(self._network.stop(self.wires.now()))
        await self._transport.stop()
        await self.wires.stop()

    # What is seen from outside

    @property
    def peers(self) -> int:
        return len(self._network.peers)

    @property
    def known(self) -> tuple[int, int]:
        """Addresses, and how many of them answered when they were dialled last."""
        return self._network.known

    @property
    def refused(self) -> dict[str, int]:
        """What peers sent and was not taken, by reason."""
        return self.wires.refused

    @property
    def needs_more(self) -> bool:
        """Fewer peers than half of the maximum."""
        return self._network.needs_more

    def view(self) -> list[PeerView]:
        return self._network.view(self.wires.now())

    # What the node wants

    def hear_addresses(self, peers: Sequence[kinds.PeerAddress], *, source: str) -> None:
        """Addresses that a discovery service told; `source`: the network it is in."""
        self._network.hear_addresses(self.wires.now(), peers, source=source)

    def name_peer(self, where: str) -> None:
        """A node that the operator wants to talk to: dialled within a tick."""
        self._network.name(self.wires.now(), where)

    def took(self, wids: Sequence[bytes]) -> None:
        """These transactions wait here now."""
        self.transactions.took(wids)

    def penalise(self, peer: str, message: str) -> None:
        key = key_of(peer)
        if key is not None:
            self.wires.penalise(key, message)

    # The loop

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_MS / 1000)
            try:
                self._perform(self._network.tick(self.wires.now()))
                self._tick()
            except Exception as error:
                self._peer_host.fail(error)

    async def _save_for_ever(self, book: BookKeeper) -> None:
        pause_s = FIRST_SAVE_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = SAVE_EVERY_S
            record = self._network.record()
            await asyncio.get_running_loop().run_in_executor(None, book.save, record)

    def _step(self, event: LinkEvent) -> None:
        try:
            self._perform(self._network.step(self.wires.now(), event))
        except Exception as error:
            self._peer_host.fail(error)

    def _perform(self, effects: Sequence[NetworkEffect]) -> None:
        for effect in effects:
            match effect:
                case Dial():
                    self._transport.dial(effect)
                case Send():
                    self._transport.send(effect)
                case Close():
                    self._transport.close(effect)
                case Throttle():
                    self._transport.throttle(effect)
                case Wake():
                    self._set_wake(effect)
                case Delivered():
                    self._delivered(effect)
                case Heard():
                    self._heard(effect)
                case TransactionsCame():
                    self.wires.spawn(self.transactions.take(effect))
                case LookUp():
                    self.wires.spawn(self.searches.look_up(effect))
                case Examine():
                    self.wires.spawn(self.searches.examine(effect))
                case Found():
                    self.wires.spawn(self.searches.take(effect))
                case NotFound():
                    log.debug("nobody has %s", effect.hash.hex(), extra={"component": "p2p"})
                case Requested():
                    self._requested(effect)
                case Replied():
                    self._subjects[effect.kind.wire].replied(effect)
                case Unreplied():
                    self._count(effect)
                    self._subjects[effect.kind.wire].unreplied(effect)
                case Refusal():
                    self._count(effect)
                case PeerUp():
                    self._joined(effect)
                case PeerDown():
                    self._left(effect)

    def _requested(self, effect: Requested) -> None:
        subject = self._subjects.get(effect.kind.wire)
        if subject is None:
            self.wires.refuse(effect)
        else:
            subject.requested(effect)

    def _count(self, effect: Unreplied | Refusal) -> None:
        self.wires.refused[str(effect.reason)] += 1
        log.debug("%s: %s", effect.reason, effect.message, extra={"component": "p2p"})

    def _joined(self, effect: PeerUp) -> None:
        log.info("peer joined", extra={"component": "p2p", "event": "up", "peer": effect.key.hex()[:16]})
        self._peer_host.subscriptions.peer_joined(effect.key, effect.hello.agent)
        self._greet(effect.key)

    def _left(self, effect: PeerDown) -> None:
        self._peer_host.subscriptions.peer_left(effect.key, effect.reason)
        self._parted(effect.key)
        log.info(
            "peer left: %s",
            effect.reason,
            extra={"component": "p2p", "event": "down", "peer": effect.key.hex()[:16]},
        )

    def _set_wake(self, effect: Wake) -> None:
        if self._wake is not None:
            self._wake.cancel()
        delay = max(0, effect.at_ms - self.wires.now()) / 1000
        self._wake = asyncio.get_running_loop().call_later(delay, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self._perform(self._network.tick(self.wires.now()))


class NodeNetwork(PeerNetwork):
    """Of a node that agrees by votes."""

    def __init__(
        self,
        *,
        host: Host,
        transport: Transport,
        settings: PeerSettings,
        status: kinds.Status,
        clock: Clock,
        configured: Sequence[ConfiguredPeer] = (),
        book: BookKeeper | None = None,
        secret: bytes = b"",
    ) -> None:
        super().__init__(
            host=host,
            transport=transport,
            settings=settings,
            status=status,
            clock=clock,
            configured=configured,
            book=book,
            secret=secret,
        )
        self._host = host
        self.puzzles = Puzzles(self.wires, host, fetch_whole=self._fetch_whole)
        self.agreement = Agreement(self.wires, host, puzzles=self.puzzles)
        self.blocks = Blocks(self.wires, host, came=self._blocks_came, search=self.searches.begin)
        self.ranges = Ranges(self.wires, host)
        self.catching_up = CatchUp(host, self, clock.now_ms)
        self._speak(self.puzzles, self.blocks, self.ranges)

    async def stop(self) -> None:
        await self.catching_up.stop()
        await super().stop()

    @property
    def checking(self) -> int:
        return self.agreement.checking

    def finals(self) -> dict[bytes, int]:
        """Peers, and the height that each says is final."""
        statuses = {key: self._network.status_of(key) for key in self._network.peers}
        return {key: status.finalised_height for key, status in statuses.items() if status is not None}

    def ask_of(self, key: bytes, kind: Kind, message: Any, done: Callable[[Any], None]) -> None:
        """Ask a peer about a range of the chain; `done` hears the answer, or None when there will be none."""
        self.ranges.ask(key, kind, message, done)

    def set_status(self, *, height: int, head_hash: bytes) -> None:
        """The head has moved."""
        self._network.set_status(kinds.Status(height, head_hash, height))
        self.puzzles.head_moved(height)
        self.transactions.head_moved()

    def tell(self, message: Message, peer: str | None, block: Block | None) -> None:
        """Everybody, or one peer: by the name under which it was heard, or by a validator's address."""
        self.agreement.tell(message, peer, block)

    def fetch(self, block_hash: bytes, above: int) -> None:
        """What a block that was told by names lacks is asked of its teller; any other block is asked of all in turn."""
        if not self.puzzles.fill(block_hash, above):
            self._fetch_whole(block_hash, above)

    def _fetch_whole(self, block_hash: bytes, above: int) -> None:
        self.blocks.fetch(block_hash, above)

    def _blocks_came(self, blocks: Sequence[tuple[bytes, Block]]) -> None:
        self._host.blocks_came(blocks)
        for name, _ in blocks:
            self.puzzles.settle(name)

    def _delivered(self, effect: Delivered) -> None:
        self.agreement.deliver(effect)

    def _heard(self, effect: Heard) -> None:
        self.agreement.hear(effect)

    def _greet(self, key: bytes) -> None:
        self.agreement.greet(key)

    def _tick(self) -> None:
        self.catching_up.tick()


class _Pool:
    """The mempool as gossip reads it."""

    def __init__(self, host: PeerHost) -> None:
        self._host = host

    def has(self, wid: bytes) -> bool:
        return self._host.has_transaction(wid)

    def get(self, wid: bytes) -> bytes | None:
        return self._host.transaction(wid)
