"""A job and its parts in memory: what this process has taken from the queue or has just been given."""

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from aitbc.core.jobs.lifecycle import FINAL_STATES, Event, State, advance, job_state
from aitbc.core.jobs.reasons import JobReason
from aitbc.hub.events import EventLog
from aitbc.hub.records import JobRecord, Quote, ReceiptEntry, TaskRecord

if TYPE_CHECKING:
    from aitbc.hub.attempts import Attempt
    from aitbc.hub.matcher import Want
    from aitbc.hub.providers import CancelAsked

RETRY_ELSEWHERE = frozenset({JobReason.PROVIDER_GONE, JobReason.PROVIDER_SILENT, JobReason.HUB_RESTARTED})
"""Failures that say nothing against the provider: it may be asked again when nobody else is there."""


class Failure(NamedTuple):
    """Why an attempt ended without a delivery."""

    reason: JobReason
    message: str
    retry_useful: bool = True


class Part:
    """One part of a job that this process owns."""

    def __init__(self, job: "Job", record: TaskRecord, cost: int) -> None:
        self.job = job
        self.index = record.part
        self.state = record.state
        self.reason = record.reason
        self.message = record.message
        self.attempts = record.attempts
        self.seq = record.seq
        self.vfinish = record.vfinish
        self.cost = cost
        self.units = record.units
        self.progress: tuple[int, int] = (0, 0)
        self.avoid: set[str] = set()
        self.lost: set[str] = set()
        self.streamed = ""
        """Text that the client has been shown, over all attempts."""
        self.retry_until_ms: int | None = None
        self.running: dict[int, Attempt] = {}
        """By number; two while a straggler is hedged."""
        self.want: Want | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def task(self) -> int:
        """Its number in the lock."""
        return self.job.first_task + self.index

    @property
    def request(self) -> dict[str, Any]:
        return self.job.quote.requests[self.index]

    @property
    def over(self) -> bool:
        return self.state in FINAL_STATES or self.state == State.DELIVERED

    def enter(self, event: Event, *, reason: str = "", message: str = "") -> State:
        """Move on. Only the table decides where to."""
        state = advance(self.state, event)
        assert state is not None, f"{event} cannot happen to a part that is {self.state}"
        self.state, self.reason, self.message = state, reason, message
        return state

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Job:
    """A job under way, in memory. Its state is what its parts make of it."""

    def __init__(self, record: JobRecord, *, event_limit: int) -> None:
        self.quote: Quote = record.quote
        self.lock = record.lock
        self.first_task = record.first_task
        self.randomness = record.randomness
        self.parts: dict[int, Part] = {}
        self.state = record.state
        self.reason = record.reason
        self.message = record.message
        self.log = EventLog(limit=event_limit)
        self.is_read = False
        """Somebody follows its events."""
        self.stop_asked: CancelAsked | None = None
        """The client wants no more of it; attempts that begin from now on hear it first."""
        self.receipts: list[ReceiptEntry] = []
        """What this process has attested of it."""
        self.bytes_out = 0
        self.began_ms = record.quote.created_ms

    @property
    def id(self) -> str:
        return self.quote.job_id

    @property
    def split(self) -> bool:
        return bool(self.quote.parts)

    @property
    def receipt(self) -> ReceiptEntry | None:
        """Of a job of one part."""
        return self.receipts[0] if self.receipts else None

    @property
    def outcome(self) -> str:
        """How it ended, in a word: of one part the status of what was delivered."""
        if self.receipts and not self.split:
            return self.receipts[0].delivery.details.status
        return "complete" if self.receipts and self.state == State.DELIVERED else str(self.state)

    @property
    def attempts(self) -> int:
        return max([part.attempts for part in self.parts.values()], default=0)

    @property
    def streamed(self) -> bool:
        return any(part.streamed for part in self.parts.values())

    @property
    def progress(self) -> tuple[int, int]:
        """(done, total): of the only part, or of how many parts are done."""
        if not self.split:
            return next(iter(self.parts.values())).progress if self.parts else (0, 0)
        return sum([part.over for part in self.parts.values()]), len(self.quote.parts)

    @property
    def over(self) -> bool:
        """Nothing of it is left to do in this process."""
        return all(part.over for part in self.parts.values())

    def known_state(self) -> State | None:
        """For the store: what its only part makes of it; None: the store looks at all parts."""
        return None if self.split else next(iter(self.parts.values())).state

    def follow(self, part: Part) -> None:
        """A part has moved: so may the job."""
        before = self.state
        self.state = part.state if not self.split else job_state([part.state for part in self.parts.values()])
        self.reason, self.message = part.reason, part.message
        if not self.split or self.state != before or part.reason:
            self.show_state(part)

    def show(self, event: dict[str, Any], part: Part) -> None:
        if not self.log.full:
            self.log.append({**event, "part": part.index} if self.split else event)

    def show_state(self, part: Part | None = None, **more: str) -> None:
        event: dict[str, Any] = {"state": self.state, **more}
        if self.reason:
            event.update(reason=self.reason, message=self.message)
            if self.split and part is not None:
                event["part"] = part.index
        self.log.append(event)
