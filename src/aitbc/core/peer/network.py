"""A node's whole part in the network behind one object: peering, gossip, requests. docs/spec/p2p.md"""

from collections.abc import Sequence
from typing import Any

from aitbc.core.peer.book import BookRecord
from aitbc.core.peer.gossip import (
    PULL_TICKET,
    Delivered,
    Gossip,
    GossipEffect,
    Pool,
    TransactionsCame,
    Undelivered,
    Verdict,
    Wake,
)
from aitbc.core.peer.kinds import (
    ANNOUNCE,
    CANDIDATE,
    CERTIFICATE,
    PULL,
    SEARCH_BLOCK,
    SEARCH_TRANSACTION,
    VOTE,
    Kind,
    PeerAddress,
    Status,
)
from aitbc.core.peer.links import LinkEvent
from aitbc.core.peer.messages import Held
from aitbc.core.peer.peering import TICK_MS, Peering
from aitbc.core.peer.peers import (
    ConfiguredPeer,
    Heard,
    PeerDown,
    PeerSettings,
    PeerView,
    Replied,
    Requested,
    Unreplied,
)
from aitbc.core.peer.reasons import PeerReason
from aitbc.core.peer.search import SEARCH_TICKET, Examine, Found, LookUp, NotFound, SearchEffect, Searching

__all__ = [
    "Delivered",
    "Examine",
    "Found",
    "LookUp",
    "Network",
    "NetworkEffect",
    "NotFound",
    "TransactionsCame",
    "Verdict",
    "Wake",
]

FLOODED = (CANDIDATE, VOTE, CERTIFICATE)
FLOODED_NAMES = frozenset(kind.wire for kind in FLOODED)
SEARCHES = (SEARCH_BLOCK, SEARCH_TRANSACTION)
FOR_GOSSIP = (Heard, Requested, Replied, Unreplied, Undelivered)

NetworkEffect = GossipEffect | SearchEffect


class Network:
    """What a host calls, and what it performs.

    It feeds every event of its `Transport` to `step`, calls `tick` each `TICK_MS` and when a `Wake` asks for it, and
    passes `admits` to the transport. All methods are synchronous, from one thread, with the time as argument, and
    return effects to be performed in order. The time is the wall clock's at the start plus what a monotonic clock has
    counted since: a clock that jumps would make everybody idle at once.

    * `Dial`, `Send`, `Close`, `Throttle`: the transport's method of that name.
    * `Wake`: call `tick` at that time.
    * `PeerUp`, `PeerDown`: who may be talked to; keys are node keys.
    * `Delivered`: a vote, candidate or certificate that nobody told before: check it on a worker, then `judge`.
    * `TransactionsCame`: decode, compare hashes, verify; then `took`, `refused`, or `mistaken` and `blame`.
    * `LookUp`: `looked` says whether the node has it; `Examine`: `examined` says whether it is what its hash names.
    * `Found`, `NotFound`: at most one for each `search`.
    * `Requested`: somebody asks: `answer` or `refuse` it within the kind's timeout.
    * `Replied`, `Unreplied`: exactly one for each `ask`.
    * `Heard`: a statement of a kind that is neither flooded nor ours.
    * `Refusal`: something was not taken; count it by its reason, log it at debug level.

    Validators name each other with `configure`, publish votes with `publish`, and keep `status` up to date. `record`
    at shutdown and every few minutes, written to disk, is the address book of the next start.
    """

    def __init__(
        self,
        settings: PeerSettings,
        *,
        status: Status,
        pool: Pool,
        secret: bytes,
        book: BookRecord | None = None,
        configured: Sequence[ConfiguredPeer] = (),
    ) -> None:
        """`secret`: 32 random bytes, new at each start; `book`: what `record` returned before."""
        self._peering = Peering(settings, status=status, secret=secret, book=book, configured=configured)
        self._gossip = Gossip(self._peering, pool)
        self._searching = Searching(self._peering, secret=secret)
        self._full_tick_ms = 0

    # Facts

    def step(self, now_ms: int, event: LinkEvent) -> list[NetworkEffect]:
        return self._pass_on(now_ms, self._peering.step(now_ms, event))

    def tick(self, now_ms: int) -> list[NetworkEffect]:
        effects: list[NetworkEffect] = []
        if now_ms >= self._full_tick_ms or now_ms < self._full_tick_ms - TICK_MS:
            self._full_tick_ms = now_ms + TICK_MS
            effects += self._pass_on(now_ms, self._peering.tick(now_ms))
            effects += self._searching.tick(now_ms)
        return effects + self._pass_on(now_ms, self._gossip.tick(now_ms))

    def stop(self, now_ms: int) -> list[NetworkEffect]:
        """Say goodbye to all; the host then stops the transport, which waits a second for the last words."""
        return self._pass_on(now_ms, self._peering.stop(now_ms))

    # What is asked

    @property
    def peers(self) -> list[bytes]:
        return self._peering.peers

    def view(self, now_ms: int) -> list[PeerView]:
        """The peer table, for `/p2p/peers` and people."""
        return self._peering.view(now_ms)

    def status_of(self, key: bytes) -> Status | None:
        """How far a peer was when it last said so."""
        return self._peering.status_of(key)

    def admits(self, where: str, now_ms: int) -> bool:
        """Whether a connection from this address is worth a handshake."""
        return self._peering.admits(where, now_ms)

    def bans(self, now_ms: int) -> dict[bytes | str, int]:
        return self._peering.scores.bans(now_ms)

    def held(self) -> Held:
        """Every table that strangers can fill: how much is in it, and the most that may be."""
        return {**self._peering.held(), **self._gossip.held(), **self._searching.held()}

    def record(self) -> BookRecord:
        return self._peering.record()

    # What the node wants

    def set_status(self, status: Status) -> None:
        """How far this node is; heartbeats tell it."""
        self._peering.status = status

    @property
    def needs_more(self) -> bool:
        """Fewer peers than half of the maximum."""
        return self._peering.needs_more

    @property
    def known(self) -> tuple[int, int]:
        """Addresses in the book, and how many of them answered when they were dialled last."""
        return self._peering.known

    def hear_addresses(self, now_ms: int, peers: Sequence[PeerAddress], *, source: str) -> None:
        """Addresses that no peer told, such as a discovery service's; `source`: the network of who did."""
        self._peering.hear_addresses(now_ms, peers, source=source)

    def name(self, now_ms: int, where: str) -> None:
        """A node that the operator wants to talk to: dialled at the next tick."""
        self._peering.name(now_ms, where)

    def configure(self, peers: Sequence[ConfiguredPeer]) -> None:
        """Replace the peers that are always dialled and never banned: the other validators."""
        self._peering.configure(peers)

    def publish(self, now_ms: int, kind: Kind, payload: bytes) -> list[NetworkEffect]:
        """Tell the network something of our own, of a kind in `FLOODED`."""
        assert kind in FLOODED
        return [*self._gossip.publish(now_ms, kind, payload)]

    def judge(self, now_ms: int, id_: bytes, verdict: Verdict) -> list[NetworkEffect]:
        """What the node thinks of something `Delivered`: passed on, dropped, or held against its senders."""
        return self._pass_on(now_ms, self._gossip.judge(now_ms, id_, verdict))

    def took(self, now_ms: int, wids: Sequence[bytes]) -> list[NetworkEffect]:
        """Transactions that wait here now, ours or others': they are announced."""
        return [*self._gossip.took(now_ms, wids)]

    def fresh(self, now_ms: int) -> set[bytes]:
        """Wids of transactions that began their way here so shortly ago that no peer has them."""
        return self._gossip.fresh(now_ms)

    def refused(self, now_ms: int, wids: Sequence[bytes]) -> None:
        """Transactions that came and were not taken, for whatever reason."""
        self._gossip.refused(now_ms, wids)

    def mistaken(self, now_ms: int, wids: Sequence[bytes]) -> list[NetworkEffect]:
        """What came under these hashes is something else, or nothing: who else announced them is asked."""
        return self._pass_on(now_ms, self._gossip.mistaken(now_ms, wids))

    def say(self, now_ms: int, key: bytes, kind: Kind, payload: bytes) -> list[NetworkEffect]:
        """Tell one peer something."""
        return [*self._peering.say(now_ms, key, kind, payload)]

    def ask(self, now_ms: int, key: bytes, kind: Kind, message: Any, *, ticket: int) -> list[NetworkEffect]:
        """Ask one peer; the ticket, below 2^61, comes back with the answer or with the reason why there is none."""
        assert ticket < SEARCH_TICKET < PULL_TICKET
        return self._pass_on(now_ms, self._peering.ask(now_ms, key, kind, message, ticket=ticket))

    def search(self, now_ms: int, kind: Kind, hash_: bytes) -> list[NetworkEffect]:
        """Ask the peers of peers, when nobody nearer has it; a kind in `SEARCHES`."""
        assert kind in SEARCHES
        return self._pass_on(now_ms, self._searching.begin(now_ms, kind, hash_))

    def looked(self, now_ms: int, id_: bytes, content: bytes | None) -> list[NetworkEffect]:
        """The answer to a `LookUp`; None: it is not here."""
        return self._pass_on(now_ms, self._searching.looked(now_ms, id_, content))

    def examined(self, now_ms: int, ticket: int, *, good: bool) -> list[NetworkEffect]:
        """The answer to an `Examine`."""
        return self._pass_on(now_ms, self._searching.examined(now_ms, ticket, good=good))

    def answer(self, request: Requested, message: Any) -> list[NetworkEffect]:
        return [*self._peering.answer(request, message)]

    def refuse(self, request: Requested, reason: PeerReason = PeerReason.UNAVAILABLE) -> list[NetworkEffect]:
        return [*self._peering.refuse(request, reason)]

    def blame(self, now_ms: int, key: bytes, reason: PeerReason, message: str) -> list[NetworkEffect]:
        """A peer did something wrong that only the node could see."""
        return self._pass_on(now_ms, self._peering.blame(now_ms, key, reason, message))

    # Between peering and gossip

    def _pass_on(self, now_ms: int, effects: Sequence[NetworkEffect]) -> list[NetworkEffect]:
        """Give gossip and search what is their own; their effects may be more of the same."""
        result: list[NetworkEffect] = []
        for effect in effects:
            own = self._gossiped(now_ms, effect) if isinstance(effect, FOR_GOSSIP) else None
            if own is None:
                result.append(effect)
            elif len(own) == 1 and isinstance(
                own[0], Delivered
            ):  # nearly all of what comes; nobody's but the host's
                result.append(own[0])
            elif own:
                result += self._pass_on(now_ms, own)
            if isinstance(effect, PeerDown):
                result += self._pass_on(now_ms, self._gossip.left(now_ms, effect.key))
        return result

    def _gossiped(self, now_ms: int, effect: NetworkEffect) -> Sequence[NetworkEffect] | None:
        """What gossip or search makes of an effect; None when it is none of their business."""
        match effect:
            case Heard() if effect.kind.wire in FLOODED_NAMES:
                return self._gossip.heard(now_ms, effect.key, effect.kind, effect.message)
            case Heard() if effect.kind is ANNOUNCE:
                return self._gossip.announced(now_ms, effect.key, effect.message)
            case Requested() if effect.kind is PULL:
                return self._gossip.pulled(effect)
            case Replied() if effect.kind is PULL:
                return self._gossip.delivered(now_ms, effect)
            case Unreplied() if effect.kind is PULL:
                return self._gossip.not_delivered(now_ms, effect)
            case Undelivered():
                return [
                    found
                    for wid in effect.wids
                    for found in self._searching.begin(now_ms, SEARCH_TRANSACTION, wid)
                ]
            case Requested() if effect.kind in SEARCHES:
                return self._searching.asked(now_ms, effect)
            case Replied() if effect.kind in SEARCHES:
                return self._searching.replied(now_ms, effect)
            case Unreplied() if effect.kind in SEARCHES:
                return self._searching.unreplied(now_ms, effect)
            case _:
                return None
