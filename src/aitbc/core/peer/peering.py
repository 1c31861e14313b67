"""Who we talk to: connections made, introduced, kept alive, judged and ended. docs/spec/p2p.md "Peering"

A machine without hands: facts and the time go in, effects come out. Seed 004's rule holds: never fewer than half of
`max_peers` when more can be found, never more than double; a refused dialler is closed and tries the listed peers.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, assert_never

from aitbc.core.peer.addresses import LOCAL, group_of, join_where, split_where
from aitbc.core.peer.book import BookRecord
from aitbc.core.peer.dialling import Attempt, Connected, Dialler
from aitbc.core.peer.kinds import (
    BYE,
    GET_PEERS,
    HELLO,
    MAX_LISTED,
    PING,
    RECORD_KEY,
    Bye,
    Hello,
    Kind,
    PeerAddress,
    PeerList,
    Ping,
    RecordKey,
    Status,
    Welcome,
    pack_answer,
    pack_message,
)
from aitbc.core.peer.links import (
    Clogged,
    Close,
    DialFailed,
    Linked,
    LinkEvent,
    Received,
    Send,
    Throttle,
    Unlinked,
)
from aitbc.core.peer.messages import Answered, Asked, Held, Item, Said, Session, Unanswered, Wrong
from aitbc.core.peer.peers import (
    ARCHIVE,
    DISCOVERY,
    ConfiguredPeer,
    Heard,
    PeerDown,
    PeerEffect,
    PeerSettings,
    PeerUp,
    PeerView,
    Refusal,
    Replied,
    Requested,
    Unreplied,
)
from aitbc.core.peer.reasons import PeerFault, PeerReason
from aitbc.core.peer.scores import Scores

TICK_MS = 250
"""How often the host calls `tick`; every timer below is checked then."""

ASLEEP_MS = 2_000
"""Who is not called for so long was stopped, or its machine was: eight ticks are missing."""
AWAKE_MS = 10_000
"""What gathered meanwhile is read within this time; until then nobody gives points for what only time makes wrong."""
MAX_CREDIT_MS = 60_000
TIMELY = frozenset(
    {
        PeerReason.RATE_EXCEEDED,
        PeerReason.TOO_MANY_REQUESTS,
        PeerReason.LATE_ANSWER,
        PeerReason.NO_ANSWER,
        PeerReason.DUPLICATE_GOSSIP,
        PeerReason.SLOW_FRAME,
    }
)
"""Wrong only because of when it came."""
HELLO_MS = 5_000
PING_MS = 15_000
MAX_SKEW_MS = 30_000
"""A vote's timestamp rule needs clocks within half a second; one this far off would disturb every round."""
TIE_MS = 10_000
"""Two connections of one pair that are younger than this were opened at the same time, by both."""
FRAME_GRACE_MS = 10_000
MIN_FRAME_RATE = 16 * 1024
"""Bytes a second of a frame that takes longer than the grace: a largest block in four minutes."""
MAX_BUFFERED = 64 * 1024 * 1024
"""Incomplete frames of all peers together: sixteen largest blocks at once."""
MAX_INTRODUCING = 16
"""Links above double the peers: room to tell a newcomer who else there is."""
ASK_PEERS_MS = 10_000
ASK_PEERS_FULL_MS = 300_000
PRUNE_MS = 1_000
PROVE_MS = 20_000
"""So long a newcomer has to tell something that nobody told before: two blocks of an idle chain."""
MAX_TELLERS = 1_024
"""Keys, 100 KB: twenty-five times all peers of a node that are not its own."""
TRIAL_STAY_MS = 30_000
"""Two blocks of an idle chain and the transactions of half a minute: time to tell something first."""
PROTECTED = 4
"""Inbound peers that are not pruned for each of: quick answers, news, age; at most a quarter of the places each."""
THROTTLE_MS = 1_000


class Stage(Enum):
    INTRODUCING = 0
    UP = 1
    ENDING = 2


NAMED = "named"
"""Source, in the address book, of addresses that the operator named."""


class _Link:
    """One connection and what we know of who is behind it."""

    def __init__(self, event: Linked, now_ms: int, attempt: Attempt | None) -> None:
        self.id = event.link
        self.key = event.key
        self.where = event.where
        self.outbound = attempt is not None
        self.attempt = attempt
        self.since_ms = now_ms
        self.last_seen_ms = now_ms
        self.session = Session(now_ms)
        self.stage = Stage.INTRODUCING
        self.hello: Hello | None = None
        self.features: frozenset[str] = frozenset()
        """Of its hello; asked for with every vote."""
        self.status: Status | None = None
        self.skew_ms = 0
        self.latency_ms: int | None = None
        self.news_ms = 0
        """When it last told us something new."""
        self.ping_at_ms = now_ms + PING_MS
        self.missed = 0

    def ending(self) -> bool:
        """We have left it; only the last bytes are on their way."""
        return self.stage is Stage.ENDING


class Peering:
    """See the module. `step` takes what the transport tells, `tick` the time; the verbs return what they cause."""

    def __init__(
        self,
        settings: PeerSettings,
        *,
        status: Status,
        secret: bytes,
        book: BookRecord | None = None,
        configured: Sequence[ConfiguredPeer] = (),
    ) -> None:
        """`secret`: 32 random bytes, new at each start."""
        self.settings = settings
        self.status = status
        self.scores = Scores()
        self._dialler = Dialler(settings, scores=self.scores, secret=secret, book=book, configured=configured)
        self._links: dict[int, _Link] = {}
        self._by_key: dict[bytes, _Link] = {}
        self._tellers: dict[bytes, int] = {}
        """Who told something new, and when last, also in earlier connections."""
        self._peers: list[bytes] = []
        """Of links that are up: asked for with every message, so it is kept."""
        self._next_ping = 0
        self._ask_at_ms = 0
        self._prune_at_ms = 0
        self._stopped = False
        self._called_ms = 0
        self._awake_ms = 0
        """Since when this node has run again; 0: it was never stopped."""

    # What the layers above may ask

    @property
    def peers(self) -> list[bytes]:
        """Keys of introduced nodes; not to be changed."""
        return self._peers

    def is_up(self, key: bytes) -> bool:
        link = self._by_key.get(key)
        return link is not None and link.stage is Stage.UP

    def is_configured(self, key: bytes) -> bool:
        return self._dialler.is_configured(key)

    @property
    def needs_more(self) -> bool:
        """Fewer peers than half of the maximum."""
        return self._introduced() < self._wanted()

    def hello_of(self, key: bytes) -> Hello | None:
        link = self._by_key.get(key)
        return link.hello if link else None

    def status_of(self, key: bytes) -> Status | None:
        """How far the peer was when it last said so."""
        link = self._by_key.get(key)
        return link.status if link else None

    def wants(self, key: bytes, feature: str) -> bool:
        link = self._by_key.get(key)
        return link is not None and feature in link.features

    def view(self, now_ms: int) -> list[PeerView]:
        return [self._view(link, now_ms) for link in self._up()]

    def admits(self, where: str, now_ms: int) -> bool:
        """Whether a connection from here is worth a handshake."""
        if self._dialler.expects(where):
            return not self._stopped
        return not self._stopped and not self.scores.banned(now_ms, where=where)

    def held(self) -> Held:
        """What is kept for strangers, and the most of each; of what each link has, the fullest."""
        open_ = [link for link in self._links.values() if not link.ending()]
        result = {**self._dialler.held(), **self.scores.held()}
        dialled = result["dials"][1] + self._wanted()
        result["tellers"] = (len(self._tellers), MAX_TELLERS)
        result["links"] = (len(open_), 2 * self.settings.max_peers + MAX_INTRODUCING + dialled)
        for link in open_:
            for name, (now, most) in link.session.held().items():
                result[name] = (max(now, result.get(name, (0, 0))[0]), most)
        result["all buffered"] = (sum(link.session.buffered for link in open_), MAX_BUFFERED)
        return result

    def configure(self, peers: Sequence[ConfiguredPeer]) -> None:
        """Replace the configured peers, as when the validator set changes; connections stay."""
        self._dialler.configure(peers)

    def record(self) -> BookRecord:
        """The address book with the oldest outbound peers as anchors, to be kept over a restart: at most half of those
        that are wanted, so that who was chosen badly once is not chosen for ever."""
        outbound = sorted((link for link in self._up() if self._chosen(link)), key=lambda link: link.since_ms)
        anchors = {link.where: link.key for link in outbound}
        anchors = anchors | {
            where: key for where, key in self._dialler.anchors.items() if where not in anchors
        }
        kept = [PeerAddress(where, key) for where, key in anchors.items()]
        return self._dialler.book.to_record(kept[: max(1, self._wanted() // 2)])

    # Facts

    def step(self, now_ms: int, event: LinkEvent) -> list[PeerEffect]:
        self._notice_sleep(now_ms)
        match event:
            case Received():
                return self._received(now_ms, event)
            case Linked():
                return self._linked(now_ms, event)
            case DialFailed():
                return self._dial_failed(now_ms, event)
            case Clogged():
                return self._clogged(now_ms, event)
            case Unlinked():
                return self._unlinked(now_ms, event)
            case _:
                assert_never(event)

    def tick(self, now_ms: int) -> list[PeerEffect]:
        """Everything that time alone brings about."""
        self._notice_sleep(now_ms)
        effects: list[PeerEffect] = []
        for link in list(self._links.values()):
            effects += self._check(now_ms, link)
        effects += self._shed_buffers()
        if not self._stopped:
            effects += self._dialler.due(now_ms, self._connected())
            effects += self._prune(now_ms)
            effects += self._end_trials(now_ms)
            effects += self._ask_for_peers(now_ms)
        return effects

    def _notice_sleep(self, now_ms: int) -> None:
        """A process that was stopped, or a machine that slept, finds all at once what came in order: nobody is to blame
        for that. Without this, half a minute of it would ban every honest peer for a day."""
        slept_ms = now_ms - self._called_ms
        if self._called_ms and slept_ms > ASLEEP_MS:
            self._awake_ms = now_ms
            for link in self._links.values():
                link.since_ms += slept_ms
                link.last_seen_ms += slept_ms
                link.session.slept(slept_ms, credit_ms=min(slept_ms, MAX_CREDIT_MS))
        self._called_ms = now_ms

    def _is_drowsy(self, now_ms: int) -> bool:
        return self._awake_ms > 0 and 0 <= now_ms - self._awake_ms < AWAKE_MS

    def stop(self, now_ms: int) -> list[PeerEffect]:
        """Say goodbye to everybody; nothing is dialled or accepted any more."""
        self._stopped = True
        return [
            effect for link in list(self._links.values()) for effect in self._end(link, PeerReason.LEAVING)
        ]

    # Verbs

    def say(self, now_ms: int, key: bytes, kind: Kind, payload: bytes) -> list[PeerEffect]:
        """Send a packed statement; without effect when the peer is gone or would count it as too much."""
        link = self._by_key.get(key)
        if link is None or link.stage is not Stage.UP:
            return []
        data = link.session.say(now_ms, kind, payload)
        if data is None:
            return [Refusal(key, PeerReason.SELF_LIMITED, kind.name)]
        return [Send(link.id, data, kind.lane)]

    def ask(self, now_ms: int, key: bytes, kind: Kind, message: Any, *, ticket: int) -> list[PeerEffect]:
        """Send a request; exactly one `Replied` or `Unreplied` with this ticket follows, now or later."""
        assert ticket >= 0, "negative tickets are our own"
        link = self._by_key.get(key)
        if link is None or link.stage is not Stage.UP:
            return [Unreplied(key, ticket, kind, PeerReason.LOST, "not connected")]
        return self._ask(now_ms, link, kind, message, ticket)

    def answer(self, request: Requested, message: Any) -> list[PeerEffect]:
        """Answer a peer's request; without effect when it has stopped waiting."""
        link = self._links.get(request.link)
        if link is None or link.ending():
            return []
        data = link.session.answer(request.id, pack_answer(request.kind, message))
        return [] if data is None else [Send(link.id, data, request.kind.lane)]

    def refuse(self, request: Requested, reason: PeerReason) -> list[PeerEffect]:
        link = self._links.get(request.link)
        if link is None or link.ending():
            return []
        return [Send(link.id, link.session.refuse(request.id, reason), request.kind.lane)]

    def blame(self, now_ms: int, key: bytes, reason: PeerReason, message: str) -> list[PeerEffect]:
        """A peer did something wrong that only the layers above could see."""
        link = self._by_key.get(key)
        if link is None:
            return [Refusal(key, reason, message)]
        return self._fault(now_ms, link, reason, message)

    @property
    def known(self) -> tuple[int, int]:
        """Addresses in the book, and how many of them answered when they were dialled last."""
        return len(self._dialler.book), self._dialler.book.answering

    def hear_addresses(self, now_ms: int, peers: Sequence[PeerAddress], *, source: str) -> None:
        """Somebody who is no peer told addresses: they count as if a peer of network `source` had."""
        self._note_addresses(now_ms, peers[:MAX_LISTED], source=source, hints=self.needs_more)

    def name(self, now_ms: int, where: str) -> None:
        """The operator wants to talk to a node: it is dialled at the next tick, and its address is kept."""
        self.hear_addresses(now_ms, [PeerAddress(where, b"")], source=NAMED)
        self._dialler.name(where)

    def credit(self, now_ms: int, key: bytes) -> None:
        """A peer told us something new that was good."""
        link = self._by_key.get(key)
        if link is not None and link.news_ms != now_ms:
            link.news_ms = now_ms
            self._tellers.pop(key, None)
            self._tellers[key] = now_ms
            if len(self._tellers) > MAX_TELLERS:
                del self._tellers[next(iter(self._tellers))]

    # Connections begin

    def _linked(self, now_ms: int, event: Linked) -> list[PeerEffect]:
        attempt = None if event.dial is None else self._dialler.take(event.dial)
        link = _Link(event, now_ms, attempt)
        self._links[link.id] = link
        if attempt is not None:
            self._dialler.linked(attempt, link.key)
        refusal = self._refuse_link(now_ms, link)
        if refusal is not None:
            return self._end(link, refusal)
        effects = self._make_room_at_the_door(link)
        if link.ending():
            return effects
        rival = self._by_key.get(link.key)
        if rival is not None:
            loser = self._loser(now_ms, rival, link)
            effects += self._end(loser, PeerReason.DUPLICATE)
            if loser is link:
                return effects
        self._by_key[link.key] = link
        if link.outbound:
            effects += self._ask(now_ms, link, HELLO, self._hello(now_ms), -1)
        return effects

    def _refuse_link(self, now_ms: int, link: _Link) -> PeerReason | None:
        if self._stopped:
            return PeerReason.LEAVING
        if link.key == self.settings.key:
            if link.attempt is not None:
                self._dialler.is_us(link.attempt)
            return PeerReason.SELF
        if self.is_configured(link.key):
            return None
        if self.scores.banned(now_ms, key=link.key, where=link.where):
            return PeerReason.BANNED
        return None

    def _make_room_at_the_door(self, newcomer: _Link) -> list[PeerEffect]:
        """Above the most links the one goes that kept silent longest, of the network with most such: an honest hello
        follows its handshake at once, and who never says one shall not close the door to others."""
        if newcomer.outbound or self.is_configured(newcomer.key):
            return []
        if self._strangers() <= 2 * self.settings.max_peers + MAX_INTRODUCING:
            return []
        silent = [link for link in self._links.values() if link is not newcomer and self._is_silent(link)]
        groups = Counter(group_of(link.where) for link in silent)
        oldest = max(
            silent,
            key=lambda link: (groups[group_of(link.where)], -link.since_ms, -link.id),
            default=newcomer,
        )
        return self._end(oldest, PeerReason.FULL)

    def _is_silent(self, link: _Link) -> bool:
        """Came to us, and has not introduced itself."""
        return link.stage is Stage.INTRODUCING and not link.outbound and not self.is_configured(link.key)

    def _loser(self, now_ms: int, old: _Link, new: _Link) -> _Link:
        """Which of two connections of one pair ends, so that both sides choose alike: opened by both at once, the one
        that the greater key dialled stays out; else the older, whose other end may have restarted."""
        if old.outbound == new.outbound or now_ms - old.since_ms >= TIE_MS:
            return old
        ours_stays = self.settings.key < new.key
        return new if new.outbound != ours_stays else old

    def _hello(self, now_ms: int) -> Hello:
        return Hello(
            version_min=self.settings.version_min,
            version_max=self.settings.version_max,
            settings_hash=self.settings.settings_hash,
            status=self.status,
            clock_ms=now_ms,
            listen=self.settings.listen,
            agent=self.settings.agent,
            features=list(self.settings.features),
        )

    def _misfit(self, now_ms: int, hello: Hello) -> PeerReason | None:
        """Why we cannot talk to such a node at all."""
        ours = self.settings
        if hello.version_max < ours.version_min or hello.version_min > ours.version_max:
            return PeerReason.NO_COMMON_VERSION
        if hello.settings_hash != ours.settings_hash:
            return PeerReason.OTHER_SETTINGS
        if abs(hello.clock_ms - now_ms) > MAX_SKEW_MS:
            return PeerReason.CLOCK_SKEW
        return None

    def _only_asks(self, hello: Hello) -> PeerReason | None:
        """Nobody is the peer of a node that has addresses only: both sides have them after the welcome."""
        if self.settings.lists_only or DISCOVERY in hello.features:
            return PeerReason.DISCOVERY_ONLY
        return None

    def _greeted(self, now_ms: int, link: _Link, id_: int, hello: Hello) -> list[PeerEffect]:
        """An inbound hello: accept or refuse, and tell who else there is."""
        if link.outbound or link.stage is Stage.UP:
            return [
                Send(link.id, link.session.refuse(id_, PeerReason.SECOND_HELLO), HELLO.lane),
                *self._fault(now_ms, link, PeerReason.SECOND_HELLO, "one hello introduces"),
            ]
        reason = self._misfit(now_ms, hello) or self._only_asks(hello)
        room: list[PeerEffect] = []
        if reason is None and not self.is_configured(link.key) and self._inbound() >= self._inbound_places():
            room = self._make_room(link)
            reason = None if room else PeerReason.FULL
        self._note_listen(now_ms, link, hello)
        welcome = Welcome(reason is None, reason or "", self._hello(now_ms), self._list_for(now_ms, link))
        data = link.session.answer(id_, pack_answer(HELLO, welcome))
        assert data is not None, "a hello is answered at once"
        answer: list[PeerEffect] = [*room, Send(link.id, data, HELLO.lane)]
        if reason is not None:
            return [*answer, *self._end(link, reason)]
        return answer + self._introduce(now_ms, link, hello)

    def _welcomed(self, now_ms: int, link: _Link, welcome: Welcome) -> list[PeerEffect]:
        """The answer to our hello."""
        assert link.attempt is not None
        self._dialler.good(link.attempt, link.key, now_ms)
        self._hear_addresses(now_ms, link, welcome.peers, hints=not welcome.accepted)
        reason = self._misfit(now_ms, welcome.hello)
        if not welcome.accepted:
            self._dialler.refused(link.attempt, now_ms)
            return [
                Refusal(link.key, PeerReason.REFUSED, welcome.reason),
                *self._end(link, PeerReason.REFUSED),
            ]
        reason = reason or self._only_asks(welcome.hello)
        if reason is not None:
            self._dialler.refused(link.attempt, now_ms)
            return self._end(link, reason)
        if link.attempt.feeler:
            return self._end(link, PeerReason.FEELER)
        self._dialler.accepted(link.attempt, now_ms)
        return self._introduce(now_ms, link, welcome.hello)

    def _introduce(self, now_ms: int, link: _Link, hello: Hello) -> list[PeerEffect]:
        link.stage = Stage.UP
        link.session.introduced = True
        link.hello, link.status = hello, hello.status
        link.features = frozenset(hello.features)
        link.skew_ms = hello.clock_ms - now_ms
        link.news_ms = self._tellers.get(link.key, 0)
        self._peers = [other.key for other in self._up()]
        return [PeerUp(link.key, hello)]

    def _note_listen(self, now_ms: int, link: _Link, hello: Hello) -> None:
        """Where the newcomer says it can be dialled; it told us itself, so only its own network's buckets take it."""
        seen = split_where(link.where)
        host, _, port = hello.listen.rpartition(":")
        where = (
            hello.listen if host else (join_where(seen[0], int(port)) if seen and port.isdecimal() else "")
        )
        parts, told = split_where(where), PeerAddress(where, link.key)
        is_seen = parts is not None and seen is not None and parts[0] == seen[0]
        if where and self._dialler.book.hear(told, source=group_of(link.where), now_ms=now_ms, seen=is_seen):
            self._dialler.came(where)

    # Bytes

    def _received(self, now_ms: int, event: Received) -> list[PeerEffect]:
        link = self._links.get(event.link)
        if link is None or link.ending():
            return []
        link.last_seen_ms = now_ms
        effects: list[PeerEffect] = []
        try:
            for item in link.session.receive(now_ms, event.data):
                if isinstance(item, Said) and item.kind is not BYE:  # nearly all of what comes
                    effects.append(Heard(link.key, item.kind, item.message))
                    continue
                effects += self._take(now_ms, link, item)
                if link.id not in self._links or link.ending():
                    break
        except PeerFault as fault:
            effects += self._fault(now_ms, link, fault.reason, fault.message)
            effects += self._end(link, fault.reason, fault.message)
        return effects

    def _take(self, now_ms: int, link: _Link, item: Item) -> list[PeerEffect]:
        match item:
            case Said():
                return self._bade_farewell(link, item)
            case Asked():
                return self._asked(now_ms, link, item)
            case Answered():
                return self._answered(now_ms, link, item)
            case Unanswered():
                return self._unanswered(now_ms, link, item)
            case Wrong():
                return self._wrong(now_ms, link, item)
            case _:
                assert_never(item)

    def _bade_farewell(self, link: _Link, item: Said) -> list[PeerEffect]:
        effects: list[PeerEffect] = [Refusal(link.key, PeerReason.LOST, f"it left: {item.message.reason}")]
        return effects + self._end(link, PeerReason.LOST, farewell=False)

    def _asked(self, now_ms: int, link: _Link, item: Asked) -> list[PeerEffect]:
        if item.kind is HELLO:
            return self._greeted(now_ms, link, item.id, item.message)
        if item.kind is GET_PEERS:
            return self._reply(link, item, PeerList(self._list_for(now_ms, link)))
        if item.kind is PING:
            link.status = item.message.status
            return self._reply(link, item, Ping(item.message.number, self.status))
        if item.kind is RECORD_KEY:
            return self._vouch(link, item)
        return [Requested(link.key, link.id, item.id, item.kind, item.message)]

    def _vouch(self, link: _Link, item: Asked) -> list[PeerEffect]:
        """Say whose signature under a node record is ours; who asks needs no introduction."""
        if not self.settings.record_key:
            return [Send(link.id, link.session.refuse(item.id, PeerReason.UNAVAILABLE), RECORD_KEY.lane)]
        return self._reply(link, item, RecordKey(self.settings.record_key))

    def _reply(self, link: _Link, item: Asked, message: Any) -> list[PeerEffect]:
        data = link.session.answer(item.id, pack_answer(item.kind, message))
        assert data is not None, "answered in the step that asked"
        return [Send(link.id, data, item.kind.lane)]

    def _answered(self, now_ms: int, link: _Link, item: Answered) -> list[PeerEffect]:
        kind, message = item.request.kind, item.message
        if item.request.ticket >= 0:
            return [Replied(link.key, item.request.ticket, kind, message)]
        if kind is HELLO:
            return self._welcomed(now_ms, link, message)
        if kind is GET_PEERS:
            self._hear_addresses(now_ms, link, message.peers, hints=self.needs_more)
            return []
        assert kind is PING
        link.latency_ms = now_ms - item.request.sent_ms
        link.missed = 0
        link.status = message.status
        return []

    def _unanswered(self, now_ms: int, link: _Link, item: Unanswered) -> list[PeerEffect]:
        request = item.request
        if request.kind is PING and link.last_seen_ms > request.sent_ms:
            return []  # it lives: the answer waits behind something large
        effects: list[PeerEffect] = []
        if item.reason is not PeerReason.REFUSED:
            effects += self._fault(now_ms, link, item.reason, f"{request.kind.name}: {item.message}")
        if request.ticket >= 0:
            return [*effects, Unreplied(link.key, request.ticket, request.kind, item.reason, item.message)]
        if link.ending():
            return effects
        if request.kind is HELLO:
            if link.attempt is not None:
                self._dialler.failed(link.attempt, now_ms)
            return effects + self._end(link, PeerReason.HELLO_TIMEOUT)
        if request.kind is PING:
            link.missed += 1
            if link.missed >= 2:
                return effects + self._end(link, PeerReason.IDLE)
        return effects

    def _wrong(self, now_ms: int, link: _Link, item: Wrong) -> list[PeerEffect]:
        effects: list[PeerEffect] = []
        if item.refuse is not None:
            data = link.session.refuse(item.refuse, item.fault.reason)
            effects.append(Send(link.id, data, HELLO.lane))
        return effects + self._fault(now_ms, link, item.fault.reason, item.fault.message)

    # Faults and ends

    def _fault(self, now_ms: int, link: _Link, reason: PeerReason, message: str) -> list[PeerEffect]:
        """Count what a peer did; who did too much is banned, or throttled when it is configured."""
        effects: list[PeerEffect] = [Refusal(link.key, reason, message)]
        if reason in TIMELY and self._is_drowsy(now_ms):
            return effects
        if not self.scores.add(link.key, reason, now_ms) or link.ending():
            return effects
        if self.is_configured(link.key):
            self.scores.forgive(link.key)
            return [*effects, Throttle(link.id, THROTTLE_MS)]
        self.scores.ban(link.key, link.where, now_ms)
        return effects + self._end(link, PeerReason.BANNED, f"{reason}: {message}")

    def _end(
        self,
        link: _Link,
        reason: PeerReason,
        message: str = "",
        *,
        farewell: bool = True,
        drop_queue: bool = False,
    ) -> list[PeerEffect]:
        """Leave a peer, telling it why; what was asked of it is answered for."""
        if link.ending():
            return []
        effects = self._lose(link, reason)
        bye = link.session.say(link.last_seen_ms, BYE, pack_message(BYE, Bye(reason, message[:200])))
        return [*effects, Close(link.id, reason, bye if farewell and bye else b"", drop_queue)]

    def _lose(self, link: _Link, reason: PeerReason) -> list[PeerEffect]:
        was_up = link.stage is Stage.UP
        link.stage = Stage.ENDING
        if self._by_key.get(link.key) is link:
            del self._by_key[link.key]
        effects: list[PeerEffect] = [
            Unreplied(link.key, left.request.ticket, left.request.kind, left.reason, left.message)
            for left in link.session.abandon()
            if left.request.ticket >= 0
        ]
        if was_up:
            self._peers = [other.key for other in self._up()]
            effects.append(PeerDown(link.key, reason))
        return effects

    def _unlinked(self, now_ms: int, event: Unlinked) -> list[PeerEffect]:
        link = self._links.pop(event.link, None)
        if link is None or link.ending():
            return []
        if link.attempt is not None and link.stage is Stage.INTRODUCING:
            self._dialler.failed(link.attempt, now_ms)
        if self.scores.add(link.key, event.reason, now_ms) and not self.is_configured(link.key):
            self.scores.ban(link.key, link.where, now_ms)
        return [Refusal(link.key, event.reason, event.message), *self._lose(link, event.reason)]

    def _clogged(self, now_ms: int, event: Clogged) -> list[PeerEffect]:
        link = self._links.get(event.link)
        if link is None or link.ending():
            return []
        effects = self._fault(now_ms, link, PeerReason.SLOW_PEER, "its queue is full or does not move")
        return effects + self._end(link, PeerReason.SLOW_PEER, drop_queue=True)

    def _dial_failed(self, now_ms: int, event: DialFailed) -> list[PeerEffect]:
        attempt = self._dialler.take(event.dial)
        if attempt is None:
            return []
        if event.reason is PeerReason.WRONG_PEER:
            self._dialler.book.mistaken(attempt.where)
        self._dialler.failed(attempt, now_ms)
        return [Refusal(attempt.key, event.reason, f"{attempt.where}: {event.message}")]

    # Time

    def _check(self, now_ms: int, link: _Link) -> list[PeerEffect]:
        effects: list[PeerEffect] = []
        for item in link.session.expire(now_ms):
            effects += self._unanswered(now_ms, link, item)
        if link.ending():
            return effects
        if link.stage is Stage.INTRODUCING and now_ms - link.since_ms >= HELLO_MS:
            return effects + self._end(link, PeerReason.HELLO_TIMEOUT)
        age_ms = link.session.inside_for_ms(now_ms) - FRAME_GRACE_MS
        if age_ms > 0 and link.session.arrived * 1000 < age_ms * MIN_FRAME_RATE:
            effects += self._fault(now_ms, link, PeerReason.SLOW_FRAME, f"{link.session.arrived} bytes")
            return effects + self._end(link, PeerReason.SLOW_FRAME)
        if link.stage is Stage.UP and now_ms >= link.ping_at_ms:
            link.ping_at_ms = now_ms + PING_MS
            self._next_ping = (self._next_ping + 1) % 2**32
            effects += self._ask(now_ms, link, PING, Ping(self._next_ping, self.status), -1)
        return effects

    def _shed_buffers(self) -> list[PeerEffect]:
        """Incomplete frames of all peers together must fit; the largest goes, configured peers last."""
        effects: list[PeerEffect] = []
        open_ = [link for link in self._links.values() if not link.ending()]
        total = sum(link.session.buffered for link in open_)
        for link in sorted(open_, key=lambda link: (self.is_configured(link.key), -link.session.buffered)):
            if total <= MAX_BUFFERED:
                break
            total -= link.session.buffered
            effects += self._end(link, PeerReason.BUFFERS_FULL)
        return effects

    def _prune(self, now_ms: int) -> list[PeerEffect]:
        """When every inbound place is taken, one peer a second goes, so that newcomers find one. Sooner nobody goes:
        where all nodes have as many peers as they want, a newcomer is everybody's youngest, and would be thrown out by
        all of them again and again."""
        too_many = self._inbound() > self._inbound_places()
        if not too_many and (now_ms < self._prune_at_ms or self._inbound() < self._inbound_places()):
            return []
        self._prune_at_ms = now_ms + PRUNE_MS
        victim = self._youngest_silent() if too_many else self._worst_inbound(now_ms)
        return [] if victim is None else self._end(victim, PeerReason.PRUNED)

    def _worst_inbound(self, now_ms: int) -> _Link | None:
        """The youngest of the network with the most; where each has one, the youngest of those that have told nothing
        new. These are given time to do so: who comes back from a restart would find all places taken for ever by others
        who are only there."""
        inbound = [link for link in self._up() if not link.outbound and not self.is_configured(link.key)]
        protected = self._protected(inbound)
        candidates = [link for link in inbound if link.id not in protected]
        groups = Counter(group_of(link.where) for link in inbound)
        if candidates and max(groups[group_of(link.where)] for link in candidates) == 1:
            silent = [link for link in candidates if not link.news_ms]
            proved = [link for link in silent if now_ms - link.since_ms >= PROVE_MS]
            candidates = proved if silent else candidates
        if not candidates:
            return None
        return max(candidates, key=lambda link: (groups[group_of(link.where)], link.since_ms, link.id))

    def _make_room(self, newcomer: _Link) -> list[PeerEffect]:
        """For somebody who told something new in an earlier connection the youngest goes that never did."""
        victim = self._youngest_silent() if newcomer.key in self._tellers else None
        return [] if victim is None or victim.news_ms else self._end(victim, PeerReason.PRUNED)

    def _youngest_silent(self) -> _Link | None:
        """Of the inbound peers; where none is silent, the youngest."""
        inbound = [link for link in self._up() if not link.outbound and not self.is_configured(link.key)]
        return max(inbound, key=lambda link: (not link.news_ms, link.since_ms, link.id), default=None)

    def _end_trials(self, now_ms: int) -> list[PeerEffect]:
        """Of more chosen peers than are wanted, one at a time goes once the youngest had its chance: who told news the
        longest ago, and of several who never did the youngest that is no anchor. So who relays nothing to us loses its
        place to who does."""
        chosen = [link for link in self._up() if self._chosen(link)]
        if len(chosen) <= self._wanted():
            return []
        if now_ms - max(link.since_ms for link in chosen) < TRIAL_STAY_MS:
            return []
        anchors = self._dialler.anchors
        worst = min(chosen, key=lambda link: (link.news_ms, link.where in anchors, -link.since_ms, link.id))
        return self._end(worst, PeerReason.PRUNED)

    def _protected(self, inbound: list[_Link]) -> set[int]:
        """Those who answer quickest, told news last and are here longest: what an attacker cannot be all of cheaply."""
        never = 2**62
        quick = sorted(inbound, key=lambda link: never if link.latency_ms is None else link.latency_ms)
        newsy = sorted((link for link in inbound if link.news_ms), key=lambda link: -link.news_ms)
        old = sorted(inbound, key=lambda link: link.since_ms)
        most = max(1, min(PROTECTED, self._inbound_places() // 4))
        return {link.id for ranking in (quick, newsy, old) for link in ranking[:most]}

    # Finding others

    def _connected(self) -> Connected:
        open_ = [link for link in self._links.values() if not link.ending()]
        chosen = [link for link in open_ if self._chosen(link)]
        return Connected(
            keys=frozenset(self._by_key),
            wheres=frozenset(link.attempt.where for link in open_ if link.attempt),
            groups=frozenset(group_of(link.where) for link in chosen),
            chosen=len(chosen),
            introduced=self._introduced(),
            news_ms=max((link.news_ms for link in chosen), default=0),
        )

    def _ask_for_peers(self, now_ms: int) -> list[PeerEffect]:
        if now_ms < self._ask_at_ms:
            return []
        up = list(self._up())
        if not up:
            return []
        self._ask_at_ms = now_ms + (ASK_PEERS_MS if self.needs_more else ASK_PEERS_FULL_MS)
        return self._ask(now_ms, self._dialler.draws.one_of(up), GET_PEERS, b"", -1)

    def _hear_addresses(self, now_ms: int, link: _Link, peers: list[PeerAddress], *, hints: bool) -> None:
        self._note_addresses(now_ms, peers, source=group_of(link.where), hints=hints)

    def _note_addresses(self, now_ms: int, peers: Sequence[PeerAddress], *, source: str, hints: bool) -> None:
        for peer in peers:
            if peer.key == self.settings.key:
                continue
            if self._dialler.book.hear(peer, source=source, now_ms=now_ms) and hints:
                self._dialler.hint(peer)

    def _list_for(self, now_ms: int, link: _Link) -> list[PeerAddress]:
        """Some of the peers we dialled, then a sample of the book; local addresses only to local nodes."""
        local = group_of(link.where) == LOCAL
        known = [PeerAddress(other.where, other.key) for other in self._up() if other.outbound]
        listed = {peer.where: peer for peer in known[: MAX_LISTED // 2]}
        book, lists_only = self._dialler.book, self.settings.lists_only
        for peer in book.sample(self._dialler.draws, MAX_LISTED, now_ms, but=link.key, living=lists_only):
            listed.setdefault(peer.where, peer)
        return [
            peer
            for peer in listed.values()
            if peer.key != link.key and (local or group_of(peer.where) != LOCAL)
        ][:MAX_LISTED]

    # Counting

    def _up(self) -> Iterator[_Link]:
        return (link for link in self._by_key.values() if link.stage is Stage.UP)

    def _chosen(self, link: _Link) -> bool:
        """Outbound, and not because it was configured."""
        return link.outbound and not link.ending() and not self.is_configured(link.key)

    def _introduced(self) -> int:
        """Peers that count: configured ones have places of their own."""
        return sum(1 for link in self._up() if not self.is_configured(link.key))

    def _inbound(self) -> int:
        return sum(1 for link in self._up() if not link.outbound and not self.is_configured(link.key))

    def _wanted(self) -> int:
        """Peers that this node chooses itself: half of the maximum."""
        return (self.settings.max_peers + 1) // 2

    def _inbound_places(self) -> int:
        """Double the maximum, less the half that we dial ourselves, or more while anchors or a trial are above that."""
        ours = [link for link in self._links.values() if self._chosen(link)]
        chosen = sum(1 for link in ours if link.attempt is not None and not link.attempt.feeler)
        return 2 * self.settings.max_peers - max(self._wanted(), chosen + self._dialler.choosing)

    def _strangers(self) -> int:
        return sum(
            1 for link in self._links.values() if not link.ending() and not self.is_configured(link.key)
        )

    def _ask(self, now_ms: int, link: _Link, kind: Kind, message: Any, ticket: int) -> list[PeerEffect]:
        data = link.session.ask(now_ms, kind, pack_message(kind, message), ticket)
        if data is not None:
            return [Send(link.id, data, kind.lane)]
        if ticket < 0:
            return [Refusal(link.key, PeerReason.SELF_LIMITED, kind.name)]
        return [Unreplied(link.key, ticket, kind, PeerReason.SELF_LIMITED, "too much at once")]

    def _view(self, link: _Link, now_ms: int) -> PeerView:
        assert link.hello is not None and link.status is not None
        return PeerView(
            key=link.key.hex(),
            where=link.where,
            outbound=link.outbound,
            configured=self.is_configured(link.key),
            since_ms=link.since_ms,
            last_seen_ms=link.last_seen_ms,
            latency_ms=link.latency_ms,
            clock_skew_ms=link.skew_ms,
            points=self.scores.points(link.key, now_ms),
            agent=link.hello.agent,
            features=link.hello.features,
            role=ARCHIVE if ARCHIVE in link.hello.features else "",
            head_height=link.status.head_height,
            finalised_height=link.status.finalised_height,
        )
