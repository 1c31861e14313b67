"""The node among others: agreement's messages, transactions and blocks over the peer-to-peer network.

One loop, no threads but for decoding and checking. What peers send is checked here and fed to the runtime; what the
replica wants told goes out from here. docs/spec/p2p.md
"""

import asyncio
import contextlib
import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import count
from typing import Any, Protocol, TypeVar

import msgspec

from aitbc.core.chain.builder import has_its_body
from aitbc.core.codec.digests import header_hash, wid_of
from aitbc.core.codec.wire import pack, unpack
from aitbc.core.consensus.simplex.messages import (
    Message,
    Proposal,
    Status,
    Verified,
    VerifiedProposal,
    Vote,
    check,
)
from aitbc.core.consensus.simplex.rules import Simplex
from aitbc.core.executor import Executor
from aitbc.core.peer import kinds
from aitbc.core.peer.compact import (
    CompactBlock,
    Puzzle,
    ascending,
    block_of,
    can_be_asked,
    check_compact,
    compacted,
    filled,
    pieced_together,
)
from aitbc.core.peer.gossip import AGAIN_MS
from aitbc.core.peer.kinds import (
    CANDIDATE,
    CERTIFICATE,
    CONSENSUS_GET,
    CONSENSUS_STATUS,
    ENDS,
    FILL,
    HEADERS,
    SEARCH_BLOCK,
    SEARCH_TRANSACTION,
    VOTE,
    Kind,
)
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
    Verdict,
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
from aitbc.core.peer.reasons import PeerReason
from aitbc.core.sync.ranges import Apply
from aitbc.core.types.blocks import MAX_BLOCK_BYTES, Block, Certificate
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from aitbc.node.catching_up import SYNC_KINDS, CatchUp
from aitbc.node.ranges import read_blocks, read_ends, read_headers
from aitbc.node.subscriptions import Subscriptions
from aitbc.ports import Clock, Store, Transport

T = TypeVar("T")

log = logging.getLogger("aitbc.node")

MAX_CHECKING = 1_024
"""Messages of agreement between arrival and verdict."""
MAX_TOLD = 1_024
"""Some seconds of a busy agreement of 50."""
MAX_BLOCKS_ANSWERED = 128
MAX_PARTS = 16
"""Blocks that are pieced together: those of the slots that may be voted for, and some that nobody asks about."""
MAX_WHOLE = 64
"""Names of blocks that need not be pieced together again: some seconds of the highest pace."""
MAX_PARKED = 64
"""Questions about them that wait until they are whole here."""
MAX_PARKED_OF_PEER = 4
MAX_LATER = 1_000
MAX_TRIES = 3
"""A transaction of a peer is offered to so many heads: peers are a block or two apart."""
MAX_ENVELOPE_BYTES = 64 * 1024


class BlockRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A block by its hash, and its ancestors above a height."""

    hash: bytes
    above: int


class BlockAnswer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The block first, then parent after parent, as many as fit."""

    blocks: list[bytes]


class Offer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A proposal with its block told by names, when the teller has it."""

    proposal: Proposal
    block: CompactBlock | None


class Part(msgspec.Struct):
    """A proposal whose block is not whole yet."""

    teller: bytes
    proposal: VerifiedProposal
    puzzle: Puzzle
    asked: bool = False
    """Its teller was asked for the rest, which happens once."""


class Host(Protocol):
    """What the network asks of the node's loop."""

    subscriptions: Subscriptions

    def engine(self) -> Simplex: ...

    def hear(self, peer: str, message: Verified, block: Block | None) -> None: ...

    def blocks_came(self, blocks: Sequence[tuple[bytes, Block]]) -> None: ...

    async def take_transactions(self, txs: Sequence[Transaction]) -> list[Rejected | None]:
        """Offer a peer's transactions; what became of each."""
        ...

    async def read_range(self, work: Callable[[Store], T]) -> T:
        """Do work that reads much of the disk. Raises `too_busy` and `node_stopped`."""
        ...

    @property
    def executor(self) -> Executor: ...

    async def write_range(self, work: Apply) -> int | None: ...

    async def read_blocks(self, block_hash: bytes, above: int, *, most: int) -> list[Block]:
        """The block and its ancestors above a height, newest first; empty when it is not here. Raises `too_busy` and
        `node_stopped`."""
        ...

    @property
    def genesis_hash(self) -> bytes: ...

    def envelopes(self) -> list[VerifiedTransaction]:
        """All that are known here; called on any thread."""
        ...

    def wids(self, block_hash: bytes) -> list[bytes] | None:
        """Of an undecided block's transactions, when they are known."""
        ...

    def has_transaction(self, wid: bytes) -> bool: ...

    def transaction(self, wid: bytes) -> bytes | None: ...


class NodeNetwork:
    """Everything is called on one event loop."""

    def __init__(
        self,
        *,
        host: Host,
        transport: Transport,
        settings: PeerSettings,
        status: kinds.Status,
        clock: Clock,
        configured: Sequence[ConfiguredPeer] = (),
    ) -> None:
        """`configured`: nodes to stay connected to."""
        self._host = host
        self._transport = transport
        self._clock = clock
        self._network = Network(
            settings, status=status, pool=_Pool(host), secret=os.urandom(32), configured=configured
        )
        self.catching_up = CatchUp(host, self, clock.now_ms)
        self._range_tickets: dict[int, Callable[[Any], None]] = {}
        """Who waits for an answer about ranges of the chain."""
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="check")
        self._checking = 0
        self.refused: Counter[str] = Counter()
        """What peers sent and was not taken, by reason."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._tickets = count(1)
        self._next_peer = 0
        self._asked: dict[int, tuple[BlockRequest, int]] = {}
        """What is asked of peers now, by ticket, and how many others may be asked for it."""
        self._parts: OrderedDict[bytes, Part] = OrderedDict()
        """Blocks that are being pieced together, by hash; the first teller's list counts."""
        self._whole: OrderedDict[bytes, None] = OrderedDict()
        """Blocks that became whole out of lists."""
        self._filling: dict[int, tuple[BlockRequest, Part]] = {}
        """Missing transactions that their teller is asked for, by ticket."""
        self._parked: list[Requested] = []
        """Questions of peers about blocks that are not whole here either."""
        self._later: dict[bytes, bytes] = {}
        """Transactions that were refused, to be offered again with the next head."""
        self._tries: OrderedDict[bytes, int] = OrderedDict()
        """How often each was refused."""
        self._told: OrderedDict[bytes, int] = OrderedDict()
        """What all peers have heard from here, and when."""
        self._wake: asyncio.TimerHandle | None = None
        self._ticker: asyncio.Task[None] | None = None
        self.address = ""
        """Where others can connect; empty for a node that only dials."""

    async def start(self) -> None:
        """Raises StorageError when the port cannot be had."""
        self.address = await self._transport.start(
            self._step, lambda where: self._network.admits(where, self._now())
        )
        self._ticker = asyncio.get_running_loop().create_task(self._tick_for_ever())
        self._ticker.add_done_callback(self._done)

    async def stop(self) -> None:
        await self.catching_up.stop()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._wake is not None:
            self._wake.cancel()
        self._perform(self._network.stop(self._now()))
        await self._transport.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._checker.shutdown(wait=True)

    # What the node wants

    @property
    def peers(self) -> int:
        return len(self._network.peers)

    @property
    def checking(self) -> int:
        """Messages of agreement between arrival and verdict."""
        return self._checking

    @property
    def needs_more(self) -> bool:
        """Fewer peers than half of the maximum."""
        return self._network.needs_more

    def hear_addresses(self, peers: Sequence[kinds.PeerAddress], *, source: str) -> None:
        """Addresses that a discovery service told; `source`: the network it is in."""
        self._network.hear_addresses(self._now(), peers, source=source)

    def view(self) -> list[PeerView]:
        return self._network.view(self._now())

    def finals(self) -> dict[bytes, int]:
        """Peers, and the height that each says is final."""
        statuses = {key: self._network.status_of(key) for key in self._network.peers}
        return {key: status.finalised_height for key, status in statuses.items() if status is not None}

    def ask_of(self, key: bytes, kind: Kind, message: Any, done: Callable[[Any], None]) -> None:
        """Ask a peer about a range of the chain; `done` hears the answer, or None when there will be none."""
        ticket = next(self._tickets)
        self._range_tickets[ticket] = done
        self._perform(self._network.ask(self._now(), key, kind, message, ticket=ticket))

    def _range_answered(self, ticket: int, answer: Any) -> None:
        done = self._range_tickets.pop(ticket, None)
        if done is not None:
            done(answer)

    def set_status(self, *, height: int, head_hash: bytes) -> None:
        self._network.set_status(kinds.Status(height, head_hash, height))
        for name, part in list(self._parts.items()):
            if part.puzzle.header.height <= height:
                self._settle(name)
        if self._later:
            self._spawn(self._offer_again())

    def tell(self, message: Message, peer: str | None, block: Block | None) -> None:
        """Everybody, or one peer: by the name under which it was heard, or by a validator's address. Validators have
        no connections of their own name, so what is meant for one is told to all."""
        now_ms = self._now()
        kind, payload = _encoded(message, self._compacted(now_ms, block))
        key = _key_of(peer)
        if key is not None:
            self._perform(self._network.say(now_ms, key, kind, payload))
        elif kind is CONSENSUS_STATUS:
            for other in self._network.peers:
                self._perform(self._network.say(now_ms, other, kind, payload))
        elif self._is_news(now_ms, payload):
            self._perform(self._network.publish(now_ms, kind, payload))

    def _compacted(self, now_ms: int, block: Block | None) -> CompactBlock | None:
        if block is None:
            return None
        name = _hash_of(block)
        wids = self._host.wids(name) or [wid_of(tx, self._host.genesis_hash) for tx in block.txs]
        return compacted(block, name, wids=wids, fresh=self._network.fresh(now_ms))

    def _is_news(self, now_ms: int, payload: bytes) -> bool:
        """A certificate for three validators is told to all once: a peer holds it against us to hear it again."""
        name = sha256(payload).digest()
        told_ms = self._told.get(name)
        if told_ms is not None and 0 <= now_ms - told_ms < AGAIN_MS:
            return False
        self._told[name] = now_ms
        self._told.move_to_end(name)
        if len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)
        return True

    def took(self, wids: Sequence[bytes]) -> None:
        """These transactions wait here now."""
        self._perform(self._network.took(self._now(), wids))

    def fetch(self, block_hash: bytes, above: int) -> None:
        """What a block that was told by names lacks is asked of its teller. Else, and when that leads nowhere, ask the
        next peer in turn, and when it has nothing the one after it; when all were asked once, search among theirs."""
        request, part = BlockRequest(block_hash, above), self._parts.get(block_hash)
        if part is not None and not part.asked and can_be_asked(part.puzzle):
            self._ask_to_fill(request, part)
        else:
            self._ask_for(request, len(self._network.peers))

    def _ask_to_fill(self, request: BlockRequest, part: Part) -> None:
        part.asked = True
        ticket = next(self._tickets)
        self._filling[ticket] = (request, part)
        question = kinds.Fill(request.hash, part.puzzle.missing)
        self._perform(self._network.ask(self._now(), part.teller, FILL, question, ticket=ticket))

    def _ask_for_the_whole(self, request: BlockRequest, part: Part) -> None:
        """Its teller could not help; unless the block has come another way meanwhile."""
        if self._parts.get(request.hash) is part:
            self._ask_for(request, len(self._network.peers))

    def _ask_for(self, request: BlockRequest, tries: int) -> None:
        peers = self._network.peers
        if not peers:
            return
        if not tries:
            self._perform(self._network.search(self._now(), SEARCH_BLOCK, request.hash))
            return
        self._next_peer += 1
        key, ticket = peers[self._next_peer % len(peers)], next(self._tickets)
        self._asked[ticket] = (request, tries - 1)
        self._perform(self._network.ask(self._now(), key, CONSENSUS_GET, pack(request), ticket=ticket))

    def _ask_another(self, ticket: int) -> None:
        filling = self._filling.pop(ticket, None)
        if filling is not None:
            self._ask_for_the_whole(*filling)
        asked = self._asked.pop(ticket, None)
        if asked is not None:
            self._ask_for(*asked)

    def penalise(self, peer: str, message: str) -> None:
        key = _key_of(peer)
        if key is not None:
            self._perform(self._network.blame(self._now(), key, PeerReason.INVALID, message))

    # The loop

    def _now(self) -> int:
        return self._clock.now_ms()

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_MS / 1000)
            self._perform(self._network.tick(self._now()))
            self.catching_up.tick()

    def _step(self, event: LinkEvent) -> None:
        self._perform(self._network.step(self._now(), event))

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
                    self._spawn(self._check(effect))
                case TransactionsCame():
                    self._spawn(self._take_transactions(effect))
                case Requested() if effect.kind is FILL:
                    self._spawn(self._answer_fill(effect))
                case Requested():
                    self._spawn(self._answer(effect))
                case Replied() if effect.kind in SYNC_KINDS:
                    self._range_answered(effect.ticket, effect.message)
                case Unreplied() if effect.kind in SYNC_KINDS:
                    self._range_answered(effect.ticket, None)
                case Replied() if effect.kind is FILL:
                    self._spawn(self._take_filled(effect))
                case Replied():
                    self._spawn(self._take_blocks(effect))
                case LookUp():
                    self._spawn(self._look_up(effect))
                case Examine():
                    self._spawn(self._examine(effect))
                case Found():
                    self._spawn(self._take_found(effect))
                case NotFound():
                    log.debug("nobody has %s", effect.hash.hex(), extra={"component": "p2p"})
                case Heard():
                    self._hear(effect)
                case PeerUp():
                    self._greet(effect)
                case PeerDown():
                    self._host.subscriptions.peer_left(effect.key, effect.reason)
                    log.info(
                        "peer left: %s",
                        effect.reason,
                        extra={"component": "p2p", "event": "down", "peer": effect.key.hex()[:16]},
                    )
                case Unreplied() | Refusal():
                    if isinstance(effect, Unreplied):
                        self._ask_another(effect.ticket)
                    self.refused[str(effect.reason)] += 1
                    log.debug("%s: %s", effect.reason, effect.message, extra={"component": "p2p"})

    def _set_wake(self, effect: Wake) -> None:
        if self._wake is not None:
            self._wake.cancel()
        delay = max(0, effect.at_ms - self._now()) / 1000
        self._wake = asyncio.get_running_loop().call_later(delay, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self._perform(self._network.tick(self._now()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("a mistake of this program", exc_info=task.exception(), extra={"component": "p2p"})

    # Hearing

    def _greet(self, effect: PeerUp) -> None:
        log.info("peer joined", extra={"component": "p2p", "event": "up", "peer": effect.key.hex()[:16]})
        self._host.subscriptions.peer_joined(effect.key, effect.hello.agent)
        status = self._host.engine().status()
        self._perform(self._network.say(self._now(), effect.key, CONSENSUS_STATUS, pack(status)))

    def _hear(self, effect: Heard) -> None:
        if effect.kind is not CONSENSUS_STATUS:
            return
        try:
            status = unpack(effect.message, Status, limit=CONSENSUS_STATUS.limit)
            verified = check(status, self._host.engine().epoch, horizon=0)
        except Rejected as rejection:
            self.penalise(effect.key.hex(), rejection.message)
            return
        self._host.hear(effect.key.hex(), verified, None)

    async def _check(self, effect: Delivered) -> None:
        if self._checking >= MAX_CHECKING:
            self.refused["too_many"] += 1
            self._perform(self._network.judge(self._now(), effect.id, Verdict.IGNORE))
            return
        engine = self._host.engine()
        epoch, horizon = engine.epoch, engine.horizon

        def examine() -> tuple[Verified, Puzzle | None, Block | None]:
            message, compact = _decoded(effect.kind, effect.payload)
            verified = check(message, epoch, horizon=horizon)
            if not isinstance(verified, VerifiedProposal) or compact is None:
                return verified, None, None
            puzzle = self._piece_together(verified, compact)
            return verified, puzzle, None if puzzle is None else block_of(puzzle)

        self._checking += 1
        try:
            verified, puzzle, block = await asyncio.get_running_loop().run_in_executor(self._checker, examine)
        except Rejected as rejection:
            self.refused[str(rejection.reason)] += 1
            log.info(
                "refused: %s",
                rejection,
                extra={"component": "consensus", "event": "refused", "kind": effect.kind.name},
            )
            self._perform(self._network.judge(self._now(), effect.id, Verdict.REJECT))
            return
        finally:
            self._checking -= 1
        verdict = Verdict.ACCEPT if self._is_of_use(verified) else Verdict.IGNORE
        if verdict is Verdict.ACCEPT:
            self._is_news(self._now(), effect.payload)  # it goes on to all others now
        self._perform(self._network.judge(self._now(), effect.id, verdict))
        if isinstance(verified, VerifiedProposal) and puzzle is not None and verdict is Verdict.ACCEPT:
            self._note_part(effect.key, verified, puzzle, block)
        self._host.hear(effect.key.hex(), verified, block)

    def _piece_together(self, proposal: VerifiedProposal, compact: CompactBlock) -> Puzzle | None:
        """None for a block that is here or being pieced together: whoever passes lists on can change them as often as
        they like, and each would cost as much as the first. Raises Rejected for what the teller could see itself to be
        wrong."""
        check_compact(compact)
        if _hash_of(compact) != proposal.candidate.block_hash:
            raise Rejected(Reason.MALFORMED, "the block beside a proposal is another")
        if proposal.candidate.block_hash in self._parts or proposal.candidate.block_hash in self._whole:
            return None
        return pieced_together(
            compact,
            proposal.candidate.block_hash,
            known=self._host.envelopes(),
            genesis_hash=self._host.genesis_hash,
        )

    def _note_part(
        self, teller: bytes, proposal: VerifiedProposal, puzzle: Puzzle, block: Block | None
    ) -> None:
        """Nothing is asked for yet: that is for agreement to say, with `fetch`."""
        name = proposal.candidate.block_hash
        if block is not None:
            self._note_whole(name)
        elif name not in self._parts:
            self._parts[name] = Part(teller, proposal, puzzle)
            if len(self._parts) > MAX_PARTS:
                self._settle(next(iter(self._parts)))

    def _note_whole(self, block_hash: bytes) -> None:
        self._whole[block_hash] = None
        if len(self._whole) > MAX_WHOLE:
            self._whole.popitem(last=False)
        self._settle(block_hash)

    def _settle(self, block_hash: bytes) -> None:
        """It is whole, or nobody waits for it any more: who asked about it is answered as well as may be."""
        self._parts.pop(block_hash, None)
        waiting = [request for request in self._parked if request.message.hash == block_hash]
        if waiting:
            self._parked = [request for request in self._parked if request.message.hash != block_hash]
        for request in waiting:
            self._spawn(self._answer_fill(request))

    def _is_of_use(self, message: Verified) -> bool:
        """What the engine would drop now may be told again later."""
        return self._host.engine().keeps(message)

    async def _take_transactions(self, effect: TransactionsCame) -> None:
        await self._offer(effect.txs)

    async def _offer(self, packed: Sequence[tuple[bytes, bytes]]) -> None:
        txs: list[Transaction] = []
        read: list[tuple[bytes, bytes]] = []
        for wid, raw in packed:
            try:
                txs.append(unpack(raw, Transaction, limit=MAX_ENVELOPE_BYTES))
                read.append((wid, raw))
            except Rejected as rejection:
                self._not_taken(wid, rejection)
        for (wid, raw), verdict in zip(read, await self._host.take_transactions(txs), strict=True):
            if verdict is not None:
                self._not_taken(wid, verdict)
                self._keep_for_later(wid, raw)

    def _not_taken(self, wid: bytes, rejection: Rejected) -> None:
        self._network.refused(self._now(), [wid])
        log.debug("not taken: %s", rejection, extra={"component": "mempool"})

    def _keep_for_later(self, wid: bytes, raw: bytes) -> None:
        """Who told of it may be a block ahead: what depends on that block is offered again when it is here."""
        tries = self._tries.pop(wid, 0) + 1
        if tries >= MAX_TRIES:
            return
        self._tries[wid] = tries
        self._later[wid] = raw
        while len(self._tries) > MAX_LATER:
            oldest, _ = self._tries.popitem(last=False)
            self._later.pop(oldest, None)

    async def _offer_again(self) -> None:
        later, self._later = self._later, {}
        await self._offer(list(later.items()))

    # Blocks

    async def _answer(self, effect: Requested) -> None:
        if effect.kind in SYNC_KINDS:
            await self._answer_range(effect)
            return
        if effect.kind is not CONSENSUS_GET:
            self._perform(self._network.refuse(effect))
            return
        try:
            request = unpack(effect.message, BlockRequest, limit=CONSENSUS_GET.limit)
        except Rejected as rejection:
            self._perform(self._network.refuse(effect))
            self.penalise(effect.key.hex(), rejection.message)
            return
        try:
            blocks = await self._host.read_blocks(request.hash, request.above, most=MAX_BLOCKS_ANSWERED)
        except Rejected as rejection:
            log.debug("%s", rejection.message, extra={"component": "p2p"})
            blocks = []
        if not blocks:
            self._perform(self._network.refuse(effect))
            return
        room, raw = CONSENSUS_GET.answer_limit - 1_024, []
        for block in blocks:
            packed = pack(block)
            room -= len(packed) + 5
            if room < 0:
                break
            raw.append(packed)
        self._perform(self._network.answer(effect, pack(BlockAnswer(raw))))

    async def _answer_range(self, effect: Requested) -> None:
        executor, message = self._host.executor, effect.message
        length, height = executor.loaded.genesis.consensus.epoch_length, executor.head.block.header.height

        def work(store: Store) -> Any:
            if effect.kind is ENDS:
                return read_ends(store, epoch=message.epoch, epoch_length=length, height=height)
            read = read_headers if effect.kind is HEADERS else read_blocks
            return read(store, start=message.start, count=message.count)

        try:
            answer = await self._host.read_range(work)
        except Rejected as rejection:
            log.debug("%s", rejection.message, extra={"component": "p2p"})
            self._perform(self._network.refuse(effect))
        else:
            self._perform(self._network.answer(effect, answer))

    async def _answer_fill(self, effect: Requested) -> None:
        """A peer lacks some transactions of a block. Its list may have been changed on the way, so a place that the
        block does not have is no fault of its own."""
        fill: kinds.Fill = effect.message
        if not ascending(fill.places):
            self._perform(self._network.refuse(effect))
            self.penalise(effect.key.hex(), "places that are not in order")
            return
        try:
            blocks = await self._host.read_blocks(fill.hash, 0, most=1)
        except Rejected as rejection:
            log.debug("%s", rejection.message, extra={"component": "p2p"})
            blocks = []
        if blocks and fill.places[-1] < len(blocks[0].txs):
            txs = blocks[0].txs
            answer = kinds.Filled([pack(txs[place]) for place in fill.places])
            self._perform(self._network.answer(effect, answer))
        elif not blocks and fill.hash in self._parts and self._has_room_to_park(effect.key):
            self._parked.append(effect)
        else:
            self._perform(self._network.refuse(effect))

    def _has_room_to_park(self, key: bytes) -> bool:
        of_peer = sum(request.key == key for request in self._parked)
        return len(self._parked) < MAX_PARKED and of_peer < MAX_PARKED_OF_PEER

    async def _take_filled(self, effect: Replied) -> None:
        """Too few or too many transactions, or what is none, is the teller's fault; that others than those of the list
        came may be the fault of whoever it had the list from."""
        request, part = self._filling.pop(effect.ticket)

        def decode() -> Block | None:
            raw: list[bytes] = effect.message.txs
            if len(raw) != len(part.puzzle.missing):
                raise Rejected(Reason.MALFORMED, f"{len(raw)} of {len(part.puzzle.missing)} transactions")
            txs = [unpack(one, Transaction, limit=MAX_ENVELOPE_BYTES) for one in raw]
            return block_of(filled(part.puzzle, txs, genesis_hash=self._host.genesis_hash))

        try:
            block = await asyncio.get_running_loop().run_in_executor(self._checker, decode)
        except Rejected as rejection:
            self.penalise(effect.key.hex(), rejection.message)
            block = None
        if block is None:
            self.refused["not_the_block"] += 1
            self._ask_for_the_whole(request, part)
            return
        self._host.hear(effect.key.hex(), part.proposal, block)
        self._note_whole(request.hash)

    async def _take_blocks(self, effect: Replied) -> None:
        self._asked.pop(effect.ticket, None)

        def decode() -> list[tuple[bytes, Block]]:
            answer = unpack(effect.message, BlockAnswer, limit=CONSENSUS_GET.answer_limit)
            blocks = [
                unpack(raw, Block, limit=MAX_BLOCK_BYTES) for raw in answer.blocks[:MAX_BLOCKS_ANSWERED]
            ]
            return [(_hash_of(block), block) for block in blocks]

        try:
            blocks = await asyncio.get_running_loop().run_in_executor(self._checker, decode)
        except Rejected as rejection:
            self.penalise(effect.key.hex(), rejection.message)
            return
        self._host.blocks_came(blocks)
        for name, _ in blocks:
            self._settle(name)

    # Searching

    async def _look_up(self, effect: LookUp) -> None:
        content: bytes | None
        if effect.kind is SEARCH_TRANSACTION:
            content = self._host.transaction(effect.hash)
        else:
            content = await self._packed_block(effect.hash)
        self._perform(self._network.looked(self._now(), effect.id, content))

    async def _packed_block(self, block_hash: bytes) -> bytes | None:
        try:
            blocks = await self._host.read_blocks(block_hash, 0, most=1)
        except Rejected as rejection:
            log.debug("%s", rejection.message, extra={"component": "p2p"})
            return None
        if not blocks:
            return None
        loop, genesis_hash = asyncio.get_running_loop(), self._host.genesis_hash
        # A fetched body that was not executed yet may be another's: who passes that on is blamed.
        whole = await loop.run_in_executor(self._checker, has_its_body, blocks[0], genesis_hash)
        return pack(blocks[0]) if whole else None

    async def _examine(self, effect: Examine) -> None:
        """Both a block's header and its transactions, so that who passes it on can vouch for it."""

        def examine() -> bool:
            try:
                if effect.kind is SEARCH_TRANSACTION:
                    tx = unpack(effect.content, Transaction, limit=MAX_ENVELOPE_BYTES)
                    return wid_of(tx, self._host.genesis_hash) == effect.hash
                block = unpack(effect.content, Block, limit=MAX_BLOCK_BYTES)
                return _hash_of(block) == effect.hash and has_its_body(block, self._host.genesis_hash)
            except Rejected:
                return False

        good = await asyncio.get_running_loop().run_in_executor(self._checker, examine)
        self._perform(self._network.examined(self._now(), effect.ticket, good=good))

    async def _take_found(self, effect: Found) -> None:
        if effect.kind is SEARCH_TRANSACTION:
            await self._offer([(effect.hash, effect.content)])
            return
        loop = asyncio.get_running_loop()
        block = await loop.run_in_executor(
            self._checker, lambda: unpack(effect.content, Block, limit=MAX_BLOCK_BYTES)
        )
        self._host.blocks_came([(effect.hash, block)])
        self._settle(effect.hash)


class _Pool:
    """The mempool as gossip reads it."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def has(self, wid: bytes) -> bool:
        return self._host.has_transaction(wid)

    def get(self, wid: bytes) -> bytes | None:
        return self._host.transaction(wid)


def _key_of(peer: str | None) -> bytes | None:
    """The node key that a peer's name is; None for a validator's address."""
    if peer is None or len(peer) != 64:
        return None
    with contextlib.suppress(ValueError):
        return bytes.fromhex(peer)
    return None


def _hash_of(block: Block | CompactBlock) -> bytes:
    """Raises Rejected for a header that has no bytes."""
    try:
        return header_hash(block.header)
    except (OverflowError, UnicodeEncodeError):
        raise Rejected(Reason.OUT_OF_RANGE, "a field of a header has no bytes") from None


def _encoded(message: Message, block: CompactBlock | None) -> tuple[Kind, bytes]:
    match message:
        case Vote():
            return VOTE, pack(message)
        case Proposal():
            return CANDIDATE, pack(Offer(message, block))
        case Certificate():
            return CERTIFICATE, pack(message)
        case Status():
            return CONSENSUS_STATUS, pack(message)


def _decoded(kind: Kind, payload: bytes) -> tuple[Message, CompactBlock | None]:
    """Raises Rejected."""
    if kind is CANDIDATE:
        offer = unpack(payload, Offer, limit=kind.limit)
        return offer.proposal, offer.block
    form: type[Vote] | type[Certificate] = Vote if kind is VOTE else Certificate
    message: Message = unpack(payload, form, limit=kind.limit)
    return message, None
