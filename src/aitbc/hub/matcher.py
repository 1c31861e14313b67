"""First come, first served: gives waiting jobs to providers by the reproducible draw of `core.jobs.draw`.

The queue's order is this file's only policy; the draw is not.
"""

from collections import OrderedDict

import msgspec

from aitbc.core.jobs.draw import draw, ticket_of
from aitbc.hub.providers import Directory, Granted, Inbox


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """A job that waits for a provider."""

    job_id: str
    model: str
    price_per_kilounit: int
    lock: str
    task: int
    attempt: int
    randomness: bytes
    avoid: set[str]
    """Providers that have refused it, failed at it or delivered something false."""
    lost: set[str]
    """Providers that vanished in the middle of it: asked again when nobody else is there."""
    inbox: Inbox


class Matcher:
    """Holds the queue; `match` is called whenever a job came or a provider may have become free."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._waiting: OrderedDict[str, Want] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, want: Want) -> None:
        self._waiting[want.job_id] = want
        self.match()

    def withdraw(self, job_id: str) -> None:
        self._waiting.pop(job_id, None)

    def waiting(self) -> list[Want]:
        """In the order in which they are served."""
        return list(self._waiting.values())

    def feasible(self, model: str, price_per_kilounit: int, avoid: set[str]) -> bool:
        """Is anybody connected who could do it, now or when free?"""
        return any(
            session.address not in avoid and session.models[model].price_per_kilounit <= price_per_kilounit
            for session in self._directory.serving(model)
        )

    def match(self) -> None:
        for want in list(self._waiting.values()):
            granted = self._grant(want)
            if granted is not None:
                del self._waiting[want.job_id]
                want.inbox.put_nowait(granted)

    def _grant(self, want: Want) -> Granted | None:
        """Draw among those who are free; the ones lost earlier only count when nobody else is connected."""
        avoid = want.avoid | want.lost
        if not self.feasible(want.model, want.price_per_kilounit, avoid):
            avoid = want.avoid
        table = self._directory.candidates(
            want.model, quoted_per_kilounit=want.price_per_kilounit, avoid=avoid
        )
        if not table:
            return None
        ticket = ticket_of(lock=want.lock, task=want.task, attempt=want.attempt)
        winner = draw(table=table, ticket=ticket, randomness=want.randomness)
        session = self._directory.get(winner.address)
        assert session is not None, "the table names connected providers"
        task_id = f"{want.job_id}/{want.task}/{want.attempt}"
        session.take_slot(task_id, want.inbox)
        return Granted(session=session, winner=winner, table=table, ticket=ticket, task_id=task_id)
