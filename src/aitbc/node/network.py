"""The node among others: agreement's messages, transactions and blocks over the peer-to-peer network.

One loop, no threads but for decoding and checking. What peers send is checked here and fed to the runtime; what the
replica wants told goes out from here. docs/spec/p2p.md
"""

import asyncio
import contextlib
import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import count
from typing import Any, Protocol

import msgspec

from aitbc.core.codec.digests import header_hash
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
from aitbc.core.peer import kinds
from aitbc.core.peer.gossip import AGAIN_MS
from aitbc.core.peer.kinds import CANDIDATE, CERTIFICATE, CONSENSUS_GET, CONSENSUS_STATUS, VOTE, Kind
from aitbc.core.peer.links import Close, Dial, LinkEvent, Send, Throttle
from aitbc.core.peer.network import Delivered, Network, NetworkEffect, TransactionsCame, Verdict, Wake
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
from aitbc.core.types.blocks import MAX_BLOCK_BYTES, Block, Certificate
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import Transaction
from aitbc.node.subscriptions import Subscriptions
from aitbc.ports import Clock, Transport

log = logging.getLogger("aitbc.node")

MAX_CHECKING = 1_024
"""Messages of agreement between arrival and verdict."""
MAX_TOLD = 1_024
"""Some seconds of a busy agreement of 50."""
MAX_BLOCKS_ANSWERED = 128
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
    """A proposal with its block, when the teller has it."""

    proposal: Proposal
    block: Block | None


class Host(Protocol):
    """What the network asks of the node's loop."""

    subscriptions: Subscriptions

    def engine(self) -> Simplex: ...

    def hear(self, peer: str, message: Verified, block: Block | None) -> None: ...

    def blocks_came(self, blocks: Sequence[tuple[bytes, Block]]) -> None: ...

    async def take_transactions(self, txs: Sequence[Transaction]) -> list[Rejected | None]:
        """Offer a peer's transactions; what became of each."""
        ...

    async def read_blocks(self, block_hash: bytes, above: int, *, most: int) -> list[Block]:
        """The block and its ancestors above a height, newest first; empty when it is not here. Raises `too_busy` and
        `node_stopped`."""
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
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="check")
        self._checking = 0
        self.refused: Counter[str] = Counter()
        """What peers sent and was not taken, by reason."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._tickets = count(1)
        self._next_peer = 0
        self._asked: dict[int, tuple[BlockRequest, int]] = {}
        """What is asked of peers now, by ticket, and how many others may be asked for it."""
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

    async def stop(self) -> None:
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

    def set_status(self, *, height: int, head_hash: bytes) -> None:
        self._network.set_status(kinds.Status(height, head_hash, height))
        if self._later:
            self._spawn(self._offer_again())

    def tell(self, message: Message, peer: str | None, block: Block | None) -> None:
        """Everybody, or one peer: by the name under which it was heard, or by a validator's address. Validators have
        no connections of their own name, so what is meant for one is told to all."""
        kind, payload = _encoded(message, block)
        now_ms = self._now()
        key = _key_of(peer)
        if key is not None:
            self._perform(self._network.say(now_ms, key, kind, payload))
        elif kind is CONSENSUS_STATUS:
            for other in self._network.peers:
                self._perform(self._network.say(now_ms, other, kind, payload))
        elif self._is_news(now_ms, payload):
            self._perform(self._network.publish(now_ms, kind, payload))

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
        """Ask the next peer in turn, and when it has nothing the one after it, until all were asked once."""
        self._ask_for(BlockRequest(block_hash, above), len(self._network.peers))

    def _ask_for(self, request: BlockRequest, tries: int) -> None:
        peers = self._network.peers
        if not peers or not tries:
            return
        self._next_peer += 1
        key, ticket = peers[self._next_peer % len(peers)], next(self._tickets)
        self._asked[ticket] = (request, tries - 1)
        self._perform(self._network.ask(self._now(), key, CONSENSUS_GET, pack(request), ticket=ticket))

    def _ask_another(self, ticket: int) -> None:
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
                case Requested():
                    self._spawn(self._answer(effect))
                case Replied():
                    self._spawn(self._take_blocks(effect))
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

        def examine() -> tuple[Verified, Block | None]:
            message, block = _decoded(effect.kind, effect.payload)
            verified = check(message, epoch, horizon=horizon)
            beside = isinstance(verified, VerifiedProposal) and block is not None
            if beside and _hash_of(block) != verified.candidate.block_hash:  # type: ignore[arg-type, union-attr]
                raise Rejected(Reason.MALFORMED, "the block beside a proposal is another")
            return verified, block

        self._checking += 1
        try:
            verified, block = await asyncio.get_running_loop().run_in_executor(self._checker, examine)
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
        self._host.hear(effect.key.hex(), verified, block)

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


def _hash_of(block: Block) -> bytes:
    """Raises Rejected for a header that has no bytes."""
    try:
        return header_hash(block.header)
    except (OverflowError, UnicodeEncodeError):
        raise Rejected(Reason.OUT_OF_RANGE, "a field of a header has no bytes") from None


def _encoded(message: Message, block: Block | None) -> tuple[Kind, bytes]:
    match message:
        case Vote():
            return VOTE, pack(message)
        case Proposal():
            return CANDIDATE, pack(Offer(message, block))
        case Certificate():
            return CERTIFICATE, pack(message)
        case Status():
            return CONSENSUS_STATUS, pack(message)


def _decoded(kind: Kind, payload: bytes) -> tuple[Message, Block | None]:
    """Raises Rejected."""
    if kind is CANDIDATE:
        offer = unpack(payload, Offer, limit=kind.limit)
        return offer.proposal, offer.block
    form: type[Vote] | type[Certificate] = Vote if kind is VOTE else Certificate
    message: Message = unpack(payload, form, limit=kind.limit)
    return message, None
