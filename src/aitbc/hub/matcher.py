"""The waiting parts in memory and the moment in which one is given away: fair order, filters, reproducible draw.

The truth is in the store; this is its index. docs/spec/matching.md
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from aitbc.core.jobs.draw import draw, ticket_of
from aitbc.core.jobs.fairness import FairQueue, Waiting
from aitbc.core.jobs.matching import Ask
from aitbc.hub.providers import MAX_INBOX, WEIGHTED, Directory, Granted, Inbox

LOOK_AHEAD = 32
"""Parts that nobody free may do are stepped over, so many at a time: they do not hold up who comes after them."""

PartKey = tuple[str, int]
"""Job and part."""


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """A part that waits for a provider."""

    key: PartKey
    ask: Ask
    """With everybody who has refused it, failed at it or delivered something false among `used`."""
    lost: frozenset[str]
    """Who vanished in the middle of it: asked again when nobody else is there."""
    lock: str
    task: int
    """Its number in the lock."""
    attempt: int
    randomness: bytes
    job_class: int
    vfinish: int
    seq: int
    cost: int
    granted: Callable[["Want", Granted], None]
    """Called once, at once; it only takes note."""

    @property
    def id(self) -> str:
        return f"{self.key[0]}/{self.task}/{self.attempt}"


class Matcher:
    """Holds the index; `match` is called whenever a part came or a provider may have become free."""

    def __init__(
        self, directory: Directory, *, policy: str = WEIGHTED, hungry: Callable[[], None] = lambda: None
    ) -> None:
        self._directory = directory
        self._policy = policy
        self._hungry = hungry
        """Called when something was given away: the index has room."""
        self._queues: dict[str, FairQueue[Want]] = {}
        self._models: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._models)

    def queue(self, model: str) -> FairQueue[Want]:
        found = self._queues.get(model)
        if found is None:
            found = self._queues[model] = FairQueue()
        return found

    def ask(self, want: Want) -> None:
        self.add(want)
        self.match(want.ask.model)

    def add(self, want: Want) -> None:
        waiting = Waiting(
            key=want.id,
            job_class=want.job_class,
            vfinish=want.vfinish,
            seq=want.seq,
            cost=want.cost,
            item=want,
        )
        self.queue(want.ask.model).push(waiting)
        self._models[want.id] = want.ask.model

    def withdraw(self, want: Want) -> bool:
        """Take it back; False when it has been given away."""
        model = self._models.pop(want.id, None)
        return model is not None and self.queue(model).remove(want.id) is not None

    def waiting(self) -> Counter[str]:
        """How many parts wait in this process, by model."""
        return Counter(self._models.values())

    def models(self) -> set[str]:
        """For which something waits."""
        return set(self._models.values())

    def wants(self, model: str) -> list[Want]:
        return [waiting.item for waiting in self.queue(model).in_order()]

    def feasible(self, want: Want) -> bool:
        """Is anybody connected who could do it, now or when free?"""
        return self._directory.able(want.ask)

    def match(self, model: str) -> None:
        """Give away what can be given away."""
        queue = self.queue(model)
        given = 0
        while queue and self._directory.anybody_free(model) and self._give_one(queue):
            given += 1
        if given:
            self._hungry()

    def _give_one(self, queue: FairQueue[Want]) -> bool:
        for looked, waiting in enumerate(queue.in_order()):
            if looked >= LOOK_AHEAD:
                return False
            granted = self._grant(waiting.item)
            if granted is not None:
                queue.took(waiting)
                self._models.pop(waiting.key)
                waiting.item.granted(waiting.item, granted)
                return True
        return False

    def _grant(self, want: Want) -> Granted | None:
        """Draw among those who are free; the ones lost earlier only count when nobody else is connected."""
        ask = want.ask
        if want.lost:
            stricter = msgspec.structs.replace(ask, used=ask.used | want.lost)
            ask = stricter if self._directory.able(stricter) else ask
        table = self._directory.table(ask, policy=self._policy)
        if not table:
            return None
        ticket = ticket_of(lock=want.lock, task=want.task, attempt=want.attempt)
        winner = draw(table=table, ticket=ticket, randomness=want.randomness)
        session = self._directory.get(winner.address)
        assert session is not None, "the table names connected providers"
        inbox: Inbox = asyncio.Queue(MAX_INBOX)
        session.take_slot(want.id, inbox)
        self._directory.given(ask.model, winner.address)
        self._directory.refresh(session)
        return Granted(
            session=session, winner=winner, table=table, ticket=ticket, task_id=want.id, inbox=inbox
        )


def place_in_line(matcher: Matcher, want: Want) -> dict[str, Any]:
    """What is ahead of a waiting part in this process: units of its class and of higher ones."""
    queue = matcher.queue(want.ask.model)
    return {"waiting": len(queue), "ahead": queue.ahead_of(want.id) if want.id in queue else 0}
