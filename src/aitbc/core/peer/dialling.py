"""Whom to dial next: configured peers always, bootstrap peers while alone, the address book up to half of the maximum,
and now and then an address only to see whether somebody is there. docs/spec/p2p.md "Dialling"
"""

from collections import deque
from collections.abc import Sequence

import msgspec

from aitbc.core.peer.addresses import LOCAL, group_of, numeric_where, split_where
from aitbc.core.peer.book import FULL_MS, MAX_ANCHORS, MAX_ENTRIES, AddressBook, BookRecord, Entry
from aitbc.core.peer.draws import Draws
from aitbc.core.peer.kinds import PeerAddress
from aitbc.core.peer.links import Dial
from aitbc.core.peer.peers import MAX_CONFIGURED, ConfiguredPeer, PeerSettings
from aitbc.core.peer.scores import Scores

MAX_DIALS = 8
"""At once, besides configured peers."""
BACK_OFF_MS = 1_000
MAX_BACK_OFF_MS = 60_000
"""Of configured and bootstrap peers, which are always worth another try."""
FEELER_MS = 120_000
TRIAL_MS = 120_000
"""So often one peer more than wanted is dialled: whose peers were chosen badly gets better ones in time."""
QUIET_TRIAL_MS = 60_000
"""The same while none of the peers that were chosen has told anything new for `QUIET_MS`."""
QUIET_MS = 60_000
"""Blocks without work for anybody come each 10 s; a minute of nothing is a dead network, or one that is kept away."""
ANCHOR_MS = 600_000
"""From the start on: an anchor that has no place, or is away for a restart of its own, is asked again for so long."""
LISTED_MS = 600_000
"""A node that only lists looks after each address so often: 5,120 of them are nine dials a second."""
MAX_HINTS = 32
MAX_OWN = 64
"""Addresses that lead to us: more are made up by somebody who passes connections on."""


class Attempt(msgspec.Struct, frozen=True):
    """A dial under way, and later what a link began as."""

    where: str
    key: bytes
    feeler: bool


class Connected(msgspec.Struct, frozen=True, kw_only=True):
    """What there is already."""

    keys: frozenset[bytes]
    wheres: frozenset[str]
    """Addresses that we dialled and are connected to."""
    groups: frozenset[str]
    """Networks of the peers that we chose."""
    chosen: int
    """Outbound peers that were not configured."""
    introduced: int
    """Peers in and out that were not configured."""
    news_ms: int
    """When one of the peers that we chose told something new last; 0: none has."""


class BackOff(msgspec.Struct):
    failures: int = 0
    next_ms: int = 0


class Dialler:
    """Decides and remembers; the peering machine tells it what became of each attempt."""

    def __init__(
        self,
        settings: PeerSettings,
        *,
        scores: Scores,
        secret: bytes,
        book: BookRecord | None,
        configured: Sequence[ConfiguredPeer],
    ) -> None:
        self.draws = Draws(secret)
        self.book = AddressBook.from_record(book) if book else AddressBook(secret)
        self._settings = settings
        self._scores = scores
        self._configured: tuple[ConfiguredPeer, ...] = ()
        self._keys: frozenset[bytes] = frozenset()
        self._hosts: frozenset[str] = frozenset()
        self._leads: dict[str, bytes] = {}
        """Which node answers at a fixed address, so that it is not dialled while it is connected to us."""
        self._back_off: dict[str, BackOff] = {}
        self.anchors = {peer.where: peer.key for peer in (book.anchors if book else ())}
        """Peers of the last life, by address with their keys, for some minutes: a node that is restarted again and
        again does not lose them."""
        self._began_ms = 0
        """When it was asked first whom to dial."""
        self.configure(configured)
        self._attempts: dict[int, Attempt] = {}
        self._next = 1
        self._own: dict[str, None] = {}
        """Addresses that turned out to be ours."""
        self._hints: deque[PeerAddress] = deque(maxlen=MAX_HINTS)
        """To be tried before the rest of the book: what refusing nodes listed."""
        self._named: deque[str] = deque(maxlen=MAX_HINTS)
        """Addresses that the operator wants to be dialled now, once."""
        self._feeler_at_ms = 0
        self._tried_ms = 0

    def configure(self, peers: Sequence[ConfiguredPeer]) -> None:
        assert len(peers) <= MAX_CONFIGURED
        self._configured = tuple(peers)
        fixed = {*self._settings.bootstrap, *(peer.where for peer in peers)}
        self._leads = {where: key for where, key in self._leads.items() if where in fixed}
        fixed |= self.anchors.keys()
        self._back_off = {where: delay for where, delay in self._back_off.items() if where in fixed}
        self._find_keys()
        parts = [split_where(peer.where) for peer in peers]
        self._hosts = frozenset(part[0] for part in parts if part)

    def is_configured(self, key: bytes) -> bool:
        return key in self._keys

    def _find_keys(self) -> None:
        """Keys that were given, and for addresses without one the key that answered there last."""
        named = (peer.key or self._leads.get(peer.where, b"") for peer in self._configured)
        self._keys = frozenset(key for key in named if key)

    @property
    def choosing(self) -> int:
        """Dials under way that may become peers of our own choice."""
        return sum(
            1
            for attempt in self._attempts.values()
            if not attempt.feeler and not self._is_fixed(attempt.where)
        )

    def expects(self, where: str) -> bool:
        """Whether a configured peer may come from here."""
        parts = split_where(where)
        return parts is not None and parts[0] in self._hosts

    def held(self) -> dict[str, tuple[int, int]]:
        """What is kept, and the most of each."""
        most_dials = MAX_DIALS + len(self._configured) + len(self._settings.bootstrap)
        return {
            "dials": (len(self._attempts), most_dials),
            "own": (len(self._own), MAX_OWN),
            "hints": (len(self._hints), MAX_HINTS),
            "named": (len(self._named), MAX_HINTS),
            "book": (len(self.book), MAX_ENTRIES),
        }

    # What became of attempts

    def take(self, dial: int) -> Attempt | None:
        """An attempt that is over, for good or ill."""
        return self._attempts.pop(dial, None)

    def linked(self, attempt: Attempt, key: bytes) -> None:
        """A node with this key is there, whatever it will say."""
        if self._is_fixed(attempt.where):
            self._leads[attempt.where] = key
            self._find_keys()
        self.book.proved(attempt.where, key)

    def is_us(self, attempt: Attempt) -> None:
        self._own[attempt.where] = None
        if len(self._own) > MAX_OWN:
            del self._own[next(iter(self._own))]
        self.book.forget(attempt.where)

    def good(self, attempt: Attempt, key: bytes, now_ms: int) -> None:
        """It is there, and speaks our language."""
        self.book.answered(attempt.where, key, now_ms)

    def accepted(self, attempt: Attempt, now_ms: int) -> None:
        """It has a place for us; an anchor may take it back a moment later, when others want it too."""
        if attempt.where in self.anchors:
            self.failed(attempt, now_ms)
        else:
            self._back_off.pop(attempt.where, None)

    def refused(self, attempt: Attempt, now_ms: int) -> None:
        """It is there, and has no place for us."""
        self.book.refused(attempt.where, now_ms, for_ms=LISTED_MS if self._settings.lists_only else FULL_MS)
        self.failed(attempt, now_ms)

    def failed(self, attempt: Attempt, now_ms: int) -> None:
        """Wait twice as long as the last time; addresses of the book keep count themselves."""
        if self._is_fixed(attempt.where) or attempt.where in self.anchors:
            delay = self._back_off.setdefault(attempt.where, BackOff())
            delay.next_ms = now_ms + min(MAX_BACK_OFF_MS, BACK_OFF_MS << min(delay.failures, 6))
            delay.failures += 1

    def hint(self, peer: PeerAddress) -> None:
        """An address of the book that is worth a try before the others."""
        where = numeric_where(peer.where)
        if where is not None:
            self._hints.append(PeerAddress(where, peer.key))

    def name(self, where: str) -> None:
        """Dial it at the next tick, whether or not there are enough peers."""
        if where not in self._named:
            self._named.append(where)

    def came(self, where: str) -> None:
        """The node at this address came to us: it need not be dialled at once."""
        self._hints = deque((hint for hint in self._hints if hint.where != where), maxlen=MAX_HINTS)

    # Whom to dial

    def due(self, now_ms: int, there: Connected) -> list[Dial]:
        self._began_ms = self._began_ms or now_ms
        return [
            *self._by_name(there),
            *self._fixed(now_ms, there),
            *self._old_friends(now_ms, there),
            *self._more(now_ms, there),
        ]

    def _by_name(self, there: Connected) -> list[Dial]:
        named = list(self._named)
        self._named.clear()
        return [
            self._dial(where, b"", feeler=False)
            for where in named
            if where not in self._own and not self._reaching(where, there)
        ]

    def _old_friends(self, now_ms: int, there: Connected) -> list[Dial]:
        """Anchors, whatever else there is: who fills all our places first after a start must not keep them away. There
        may be a few peers too many then, of which the worst are left."""
        if now_ms >= self._began_ms + ANCHOR_MS:
            self.anchors.clear()
        half = (self._settings.max_peers + 1) // 2
        dials = [
            self._dial_fixed(now_ms, there, where, key)
            for where, key in self.anchors.items()
            if not self._scores.banned(now_ms, key=key, where=where)
            and there.chosen + self.choosing < half + MAX_ANCHORS
        ]
        return [dial for dial in dials if dial is not None]

    def _fixed(self, now_ms: int, there: Connected) -> list[Dial]:
        dials = [
            self._dial_fixed(now_ms, there, peer.where, peer.key) for peer in self._configured if peer.where
        ]
        if not there.keys:  # whatever else is being dialled: a book may be full of the dead
            dials += [self._dial_fixed(now_ms, there, where, b"") for where in self._settings.bootstrap]
        return [dial for dial in dials if dial is not None]

    def _dial_fixed(self, now_ms: int, there: Connected, where: str, key: bytes) -> Dial | None:
        delay = self._back_off.get(where)
        waits = delay is not None and now_ms < delay.next_ms
        expected = key or self._leads.get(where, b"")
        if waits or where in self._own or expected == self._settings.key or expected in there.keys:
            return None
        if self._reaching(where, there):
            return None
        return self._dial(where, key, feeler=False)

    def _more(self, now_ms: int, there: Connected) -> list[Dial]:
        dials: list[Dial] = []
        under_way = [attempt for attempt in self._attempts.values() if not self._is_fixed(attempt.where)]
        half = (self._settings.max_peers + 1) // 2
        missing = half - there.chosen - sum(1 for attempt in under_way if not attempt.feeler)
        for _ in range(min(missing, MAX_DIALS - len(under_way))):
            entry = self._candidate(now_ms, there, few=there.introduced < half)
            if entry is None:
                break
            dials.append(self._dial_entry(entry, now_ms, feeler=False))
        if dials or len(under_way) >= MAX_DIALS:
            return dials
        if missing <= 0 and self._is_time_for_trial(now_ms, there):
            entry = self._candidate(now_ms, there, few=False)
            return [] if entry is None else [self._dial_entry(entry, now_ms, feeler=False)]
        if now_ms >= self._feeler_at_ms:
            self._feeler_at_ms = now_ms + FEELER_MS
            feeler = self.book.pick_feeler(
                self.draws, now_ms, lambda entry: self._reachable(entry, now_ms, there)
            )
            if feeler is not None:
                dials.append(self._dial_entry(feeler, now_ms, feeler=True))
        return dials

    def _is_time_for_trial(self, now_ms: int, there: Connected) -> bool:
        """Whether to dial one more than wanted, to see if it has more to tell than those that are there."""
        if self._settings.lists_only:
            return False
        is_quiet = now_ms - max(there.news_ms, self._began_ms) >= QUIET_MS
        wait_ms = QUIET_TRIAL_MS if is_quiet else TRIAL_MS
        if now_ms < max(self._tried_ms, self._began_ms) + wait_ms:
            return False
        self._tried_ms = now_ms
        return True

    def _candidate(self, now_ms: int, there: Connected, *, few: bool) -> Entry | None:
        """Each from another network. While there are few peers, every other one is a hint: a node that refuses may
        help, but not choose all our peers."""
        groups = there.groups | {group_of(attempt.where) for attempt in self._attempts.values()}

        def fits(entry: Entry) -> bool:
            group = group_of(entry.where)
            return (group == LOCAL or group not in groups) and self._reachable(entry, now_ms, there)

        while self._hints and few and self.draws.below(2):
            entry = self.book.get(self._hints.popleft().where)
            if entry is not None and entry.ready(now_ms) and fits(entry):
                return entry
        return self.book.pick(self.draws, now_ms, fits)

    def _reachable(self, entry: Entry, now_ms: int, there: Connected) -> bool:
        return not (
            self._reaching(entry.where, there)
            or entry.where in self._own
            or entry.sure_key in (*there.keys, self._settings.key)
            or self._scores.banned(now_ms, key=entry.sure_key, where=entry.where)
        )

    def _reaching(self, where: str, there: Connected) -> bool:
        """Whether a connection to this address is open or being opened."""
        return where in there.wheres or any(attempt.where == where for attempt in self._attempts.values())

    def _is_fixed(self, where: str) -> bool:
        return where in self._settings.bootstrap or any(peer.where == where for peer in self._configured)

    def _dial_entry(self, entry: Entry, now_ms: int, *, feeler: bool) -> Dial:
        self.book.attempted(entry.where, now_ms)
        return self._dial(entry.where, entry.sure_key, feeler=feeler)

    def _dial(self, where: str, key: bytes, *, feeler: bool) -> Dial:
        dial = self._next
        self._next += 1
        self._attempts[dial] = Attempt(where, key, feeler)
        return Dial(dial, where, key)
