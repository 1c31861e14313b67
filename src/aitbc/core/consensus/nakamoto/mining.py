"""A node's own block: when it may be made, from which template, and when a template is made anew.

docs/spec/nakamoto.md "Mining". It keeps what is under way; the engine carries out what follows.
"""

from typing import NamedTuple

import msgspec

from aitbc.core.consensus.nakamoto.headers import HeaderRules, Link, earliest_child_ms
from aitbc.core.consensus.nakamoto.work import seal_of, search_digest, template_digest
from aitbc.core.types.blocks import Header

REFRESH_MS = 2_000
"""New transactions make a new template at most so often: each costs the execution of a block."""
TEMPLATE_MS = 30_000
"""A template is made anew at the latest, so that a block's timestamp is near its time."""


class Chance(NamedTuple):
    """When this node may make a block on the head: timestamps from `begin_ms` on, below `end_ms` (None: no end)."""

    begin_ms: int
    end_ms: int | None


class Template(NamedTuple):
    header: Header
    """Without its seal."""
    digest: bytes
    signature: bytes = b""
    search: bytes = b""
    """What the nonce is searched for; empty: it is not signed yet."""


class Mining:
    """One node's template, and the one that is being made to replace it."""

    def __init__(self, address: str, rules: HeaderRules) -> None:
        self._address = address
        self._rules = rules
        self._settings = rules.settings
        self.parent = b""
        """What both stand on; empty: nothing is under way."""
        self._searched: Template | None = None
        self._is_building = False
        self._unsigned: Template | None = None
        self._asked_ms = 0
        self._few_from_ms = 0
        """From which timestamp on a template may hold fewer than `min_transactions`."""
        self._has_news = False
        """Transactions have come since a template was asked for."""
        self._few_on = self._empty_on = b""
        """The parent on which a template held few, or nothing, whatever waits."""

    @property
    def is_searching(self) -> bool:
        return self._searched is not None

    def chance(self, now_ms: int, head: Link, *, transactions_wait: int) -> Chance | None:
        """The first from now on; None: not on this head, or not without a transaction."""
        settings = self._settings
        earliest = earliest_child_ms(head.timestamp_ms, settings)
        if not settings.empty_blocks and (not transactions_wait or self._empty_on == head.hash):
            return None
        if transactions_wait < settings.min_transactions or self._few_on == head.hash:
            earliest = max(earliest, head.timestamp_ms + settings.interval_ms)
        if not settings.max_interval_ms:
            return self._in_turn(max(now_ms, earliest), head)
        end = head.timestamp_ms + settings.max_interval_ms + 1
        if now_ms >= end:
            return self._overdue(earliest, end, head)
        chance = self._in_turn(max(now_ms, earliest), head)
        if chance is None or chance.begin_ms < end:
            return chance
        return Chance(end, None)

    def _overdue(self, earliest_ms: int, end_ms: int, head: Link) -> Chance | None:
        """A chain that slept longer than its greatest interval goes on where it stopped, in a turn that is past; its
        time lags behind for a while."""
        for since in (end_ms - 1, earliest_ms):
            chance = self._in_turn(since, head)
            if chance is not None and chance.begin_ms < end_ms:
                return Chance(chance.begin_ms, None)
        return None

    def _in_turn(self, begin_ms: int, head: Link) -> Chance | None:
        if self._rules.schedule is None:
            return Chance(begin_ms, None)
        turn = self._rules.schedule.turn_of(
            self._address, from_ms=begin_ms, parent_author=head.author, parent_ms=head.timestamp_ms
        )
        return Chance(max(begin_ms, turn.begin_ms), turn.end_ms) if turn else None

    # The life of a template

    def renew_at_ms(self) -> int | None:
        """When a template is to be asked for; None: one is under way."""
        if self._is_building or self._unsigned is not None:
            return None
        if self._searched is None:
            return self._asked_ms
        return self._asked_ms + (REFRESH_MS if self._has_news else TEMPLATE_MS)

    def begin(self, now_ms: int, head: Link) -> None:
        """A template is asked for; the one that is searched stays until the new one can be."""
        self.parent, self._asked_ms = head.hash, now_ms
        self._is_building, self._has_news = True, False
        self._few_from_ms = head.timestamp_ms + self._settings.interval_ms

    def stop(self) -> None:
        self.parent, self._is_building = b"", False
        self._searched = self._unsigned = None

    def note_transactions(self) -> None:
        self._has_news = True
        self._few_on = self._empty_on = b""

    def built(self, header: Header, transactions: int) -> bytes | None:
        """What the miner signs; None for a template that is of no use, which one with few transactions may be."""
        if not self._is_building or header.parent != self.parent:
            return None
        self._is_building = False
        if not transactions:
            self._empty_on = header.parent
            if not self._settings.empty_blocks:
                return None
        if transactions < self._settings.min_transactions:
            self._few_on = header.parent
            if header.timestamp_ms < self._few_from_ms:
                return None
        self._unsigned = Template(header, template_digest(header))
        return self._unsigned.digest

    def signed(self, digest: bytes, signature: bytes) -> bytes | None:
        """What is searched from now on; None: not the newest template's signature."""
        template = self._unsigned
        if template is None or template.digest != digest:
            return None
        search = search_digest(digest, signature)
        self._searched = template._replace(signature=signature, search=search)
        self._unsigned = None
        return search

    def found(self, search: bytes, nonce: int) -> tuple[bytes, Header] | None:
        """The template's digest and its header with the seal; None for a search that is over."""
        template = self._searched
        if template is None or search != template.search:
            return None
        self.stop()
        seal = seal_of(nonce, template.signature)
        return template.digest, msgspec.structs.replace(template.header, seal=seal)
