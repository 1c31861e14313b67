"""Who is connected, what each may be given, and the signals that a provider's work sends to its job.

The directory is memory only: a provider that the hub loses is a provider that reconnects.
"""

import asyncio
import time
from collections import OrderedDict
from typing import Any

import msgspec

from aitbc.core.jobs import link
from aitbc.core.jobs.draw import Candidate
from aitbc.core.jobs.matching import Ask, Facts, ProviderIndex, why_not
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.reputation import Standing

MAX_OUTBOX = 512
"""Messages that wait for a slow provider: more than it has tasks and receipts; then it is disconnected."""

MAX_INBOX = 8_192
"""Signals that wait for one job; twice the events that it may show."""


ROOM_FOR_US = 64
"""Places in an inbox that a provider cannot fill: the hub's own signals always fit."""


PLACE_S = 20.0
"""In a full directory a link has this long to be registered: a countersigned REGISTER takes two blocks."""


ANNOUNCED_S = 30.0
"""A REGISTER that has waited longer than this may never be in a block."""

WEIGHTED, ROUND_ROBIN = "weighted", "round_robin"
"""How a provider is chosen: by the weighted draw, or by turns (seed 003); turns are no draw and mint nothing."""

MAX_REMEMBERED = 10_000
"""Addresses whose failures are remembered when their link is gone, so that a reconnect forgives nothing."""


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """The draw is over: this provider does the next attempt."""

    session: "ProviderSession"
    winner: Candidate
    table: list[Candidate]
    ticket: str
    task_id: str
    inbox: "Inbox"
    """Where the attempt will hear of its provider."""


class FromProvider(msgspec.Struct, frozen=True, kw_only=True):
    """A message about the attempt `task_id`; `data` comes with a result."""

    task_id: str
    message: Any
    data: bytes = b""


class ProviderLost(msgspec.Struct, frozen=True, kw_only=True):
    task_id: str
    message: str


class CancelAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The client wants no more, or another attempt has won."""

    reason: JobReason = JobReason.CANCELED
    bill: bool = False
    """A text of which a part was read ends there and is billed by that part."""
    unread: bool = False
    """Whatever was made, nobody has read it: nobody pays."""

    @property
    def ends_all(self) -> bool:
        """Also what was streamed already."""
        return self.unread or self.reason != JobReason.CANCELED


Signal = FromProvider | ProviderLost | CancelAsked
Inbox = asyncio.Queue[Signal]


class ProviderSession:
    """One authenticated link."""

    def __init__(self, hello: link.Hello, *, auth_key: bytes) -> None:
        self.address = hello.address
        self.pubkey = hello.pubkey
        self.auth_key = auth_key
        self.device = hello.device
        self.slots = hello.slots
        self.models = {model.model: model for model in hello.models}
        self.eligible: frozenset[str] = frozenset()
        """Models whose registration the hub has seen on the chain; tasks come for these only."""
        self.announced: frozenset[str] = frozenset()
        """Models whose registration waits in a block to come; good enough for a quote when nobody else serves."""
        self._announced_until_s = 0.0
        self.since_s = time.monotonic()
        self.recent_failures = 0
        self.standing = Standing()
        self.stake = 0
        """Base units that can be slashed; the chain's RPC does not tell bonds yet."""
        self.exposure = 2**63
        """The dearest part that it may be given: a thin stake covers little."""
        self.region = hello.region
        self.vram_mb = hello.vram_mb
        self.policies = tuple(hello.policies)
        self.countersigned = False
        self.outbox: asyncio.Queue[str | None] = asyncio.Queue(MAX_OUTBOX)
        self.open = True
        self._inboxes: dict[str, Inbox | None] = {}

    def post(self, message: link.FromHub) -> None:
        """Queue a message. A provider that does not read loses its link."""
        if not self.open:
            return
        try:
            self.outbox.put_nowait(link.encode_message(message))
        except asyncio.QueueFull:
            self.shut()

    def shut(self) -> None:
        """End the link after what is queued, at once when nothing more fits."""
        self.open = False
        if self.outbox.full():
            self.outbox.get_nowait()
        self.outbox.put_nowait(None)

    def announce(self, models: frozenset[str]) -> None:
        self.announced, self._announced_until_s = models, time.monotonic() + ANNOUNCED_S

    @property
    def serves(self) -> frozenset[str]:
        """What it is registered for, or is about to be."""
        waiting = self.announced if time.monotonic() < self._announced_until_s else frozenset()
        return self.eligible | waiting

    @property
    def free_slots(self) -> int:
        return self.slots - len(self._inboxes)

    def take_slot(self, task_id: str, inbox: Inbox) -> None:
        assert self.free_slots > 0, "only a free slot is taken"
        self._inboxes[task_id] = inbox

    def deliver(self, task_id: str, message: Any, data: bytes = b"") -> bool:
        """Hand a message to the job it is for; False when this provider has no such task."""
        if task_id not in self._inboxes:
            return False
        inbox = self._inboxes[task_id]
        if inbox is not None:
            if inbox.qsize() >= MAX_INBOX - ROOM_FOR_US:
                raise Refused(JobReason.TOO_MANY_ERRORS, f"more than {MAX_INBOX} messages wait for one job")
            inbox.put_nowait(FromProvider(task_id=task_id, message=message, data=data))
        return True

    def abandon(self, task_id: str) -> None:
        """The job wants nothing more; the slot stays taken until the provider has let go."""
        if task_id in self._inboxes:
            self._inboxes[task_id] = None

    def holds(self, task_id: str) -> bool:
        return task_id in self._inboxes

    def free_slot(self, task_id: str) -> None:
        self._inboxes.pop(task_id, None)

    def lose_all(self, message: str) -> None:
        """The link is gone: tell every job that was waiting."""
        for task_id, inbox in self._inboxes.items():
            if inbox is not None:
                inbox.put_nowait(ProviderLost(task_id=task_id, message=message))
        self._inboxes.clear()


class Directory:
    """The connected providers by address; one link each, the newest wins. For each model an index of those that are
    free, which `refresh` keeps true."""

    def __init__(self, *, limit: int) -> None:
        self._sessions: dict[str, ProviderSession] = {}
        self._free: dict[str, ProviderIndex] = {}
        self._last: dict[str, str] = {}
        """By model, who was given work last: where round robin goes on."""
        self._limit = limit
        self._failures: OrderedDict[str, int] = OrderedDict()

    def make_room(self, newcomer: ProviderSession) -> bool:
        """Is there a place, if need be that of the link that has been of no use for longest?

        A link without a registration keeps its place for a while only, so that keys, which cost nothing, cannot
        shut out those who have registered.
        """
        if newcomer.address in self._sessions or len(self._sessions) < self._limit:
            return True
        idle = (session for session in self._sessions.values() if not session.serves)
        oldest = min(idle, key=lambda session: session.since_s, default=None)
        if oldest is None or newcomer.since_s - oldest.since_s < PLACE_S:
            return False
        oldest.post(link.LinkError(reason=JobReason.TOO_MANY_PROVIDERS, message="register to keep a place"))
        oldest.shut()
        self.leave(oldest)
        return True

    def join(self, session: ProviderSession) -> ProviderSession | None:
        """Add a link; returns the older link of the same provider, which it replaces."""
        older = self._sessions.get(session.address)
        if older is not None:
            self._remember(older)
        session.recent_failures = self._failures.pop(session.address, 0)
        self._sessions[session.address] = session
        if older is not None:
            self.refresh(older)
            for model in older.models:
                self._free.setdefault(model, ProviderIndex()).remove(older.address)
        self.refresh(session)
        return older

    def leave(self, session: ProviderSession) -> None:
        if self._sessions.get(session.address) is session:
            del self._sessions[session.address]
            self._remember(session)
            self.refresh(session)

    def _remember(self, session: ProviderSession) -> None:
        if session.recent_failures:
            self._failures[session.address] = session.recent_failures
            if len(self._failures) > MAX_REMEMBERED:
                self._failures.popitem(last=False)

    def get(self, address: str) -> ProviderSession | None:
        return self._sessions.get(address)

    def sessions(self) -> list[ProviderSession]:
        return list(self._sessions.values())

    def serving(self, model: str) -> list[ProviderSession]:
        """Everybody who is connected and registered for a model, busy or not; else those who are about to be."""
        registered = [session for session in self._sessions.values() if model in session.eligible]
        return registered or [session for session in self._sessions.values() if model in session.serves]

    def facts(self, model: str) -> list[Facts]:
        """Everybody who serves any model or is about to, as a request for this one sees them."""
        found = []
        for session in self._sessions.values():
            if model in session.serves:
                found.append(_facts(session, model))
            elif session.serves:
                found.append(_facts(session, min(session.serves)))
        return found

    def refresh(self, session: ProviderSession) -> None:
        """Its slots, its standing or its models have changed: whether and how it can be drawn is worked out anew."""
        here = self._sessions.get(session.address) is session
        now_ms = time.time_ns() // 1_000_000
        for model in session.models:
            index = self._free.setdefault(model, ProviderIndex())
            if here and model in session.eligible and session.free_slots > 0 and session.open:
                index.put(_facts(session, model), now_ms=now_ms)
            elif here or session.address not in self._sessions:
                index.remove(session.address)

    def anybody_free(self, model: str) -> bool:
        return bool(self._free.get(model))

    def table(self, ask: Ask, *, policy: str) -> list[Candidate]:
        """The draw's table: who could start now; empty when nobody could."""
        index = self._free.get(ask.model)
        if index is None:
            return []
        if policy == ROUND_ROBIN:
            return index.next_after(ask, self._last.get(ask.model, ""))
        return index.table(ask)

    def given(self, model: str, address: str) -> None:
        self._last[model] = address

    def able(self, ask: Ask) -> bool:
        """Is anybody connected and registered who could do it, now or when free?"""
        return any(why_not(ask, facts) is None for facts in self.facts(ask.model))


def _facts(session: ProviderSession, model: str) -> Facts:
    offer = session.models[model]
    return Facts(
        address=session.address,
        model=model,
        model_digest=offer.digest,
        price_per_kilounit=offer.price_per_kilounit,
        slots=session.slots,
        running=session.slots - session.free_slots,
        region=session.region,
        vram_mb=session.vram_mb,
        policies=session.policies,
        standing=session.standing,
        exposure=session.exposure,
    )
