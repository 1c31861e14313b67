"""The life of a job as data: (state, event) → state. Every state but an end has one timer and a way out.

Hub code asks `advance` and never writes a state itself, so a late or doubled message cannot revive a job.
docs/spec/jobs.md, `compute_market.md` §6.4
"""

from collections.abc import Sequence
from enum import StrEnum

MAX_ATTEMPTS = 3


class State(StrEnum):
    QUOTED = "quoted"
    """A price was named; nothing is promised."""
    RESERVED = "reserved"
    """The lock is final and matches the quote: the money is set aside."""
    QUEUED = "queued"
    """Waits for a provider with a free place."""
    LEASED = "leased"
    """Sent to a provider that has not yet said that it works on it."""
    RUNNING = "running"
    AUDITING = "auditing"
    """Delivered, and drawn for a check: nothing is attested before somebody else has done it again."""
    DELIVERED = "delivered"
    """Checked and attested; the claim is on its way to the chain."""
    SETTLED = "settled"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELED = "canceled"


class Event(StrEnum):
    LOCK_CONFIRMED = "lock_confirmed"
    ENQUEUED = "enqueued"
    DISPATCHED = "dispatched"
    STARTED = "started"
    ATTEMPT_FAILED = "attempt_failed"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    CHECK_BEGUN = "check_begun"
    CHECK_FAILED = "check_failed"
    """The delivery is false; somebody else must do the work."""
    ATTESTED = "attested"
    CLAIMED = "claimed"
    CANCEL_ASKED = "cancel_asked"
    TIMER_FIRED = "timer_fired"
    """The timer of the state the job is in."""
    DEADLINE_PASSED = "deadline_passed"
    """The lock's deliver_by: it ends every state before delivery."""


class Timer(StrEnum):
    """What ends a state when nothing else does."""

    QUOTE = "quote"
    """`quote_s` after the quote."""
    DELIVER_BY = "deliver_by"
    """The lock's deadline."""
    ACCEPT = "accept"
    """The provider must say that it has begun."""
    LEASE = "lease"
    """The provider must show progress."""
    CHECK = "check"
    """A check without a verdict in time counts for the provider: it has delivered."""
    CLAIM_UNTIL = "claim_until"
    """The lock's last moment for claims; afterwards anybody may refund it."""


INITIAL = State.QUOTED
FINAL_STATES = frozenset({State.SETTLED, State.FAILED, State.EXPIRED, State.CANCELED})

TIMERS: dict[State, Timer] = {
    State.QUOTED: Timer.QUOTE,
    State.RESERVED: Timer.DELIVER_BY,
    State.QUEUED: Timer.DELIVER_BY,
    State.LEASED: Timer.ACCEPT,
    State.RUNNING: Timer.LEASE,
    State.AUDITING: Timer.CHECK,
    State.DELIVERED: Timer.CLAIM_UNTIL,
}

TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.QUOTED, Event.LOCK_CONFIRMED): State.RESERVED,
    (State.QUOTED, Event.CANCEL_ASKED): State.CANCELED,
    (State.QUOTED, Event.TIMER_FIRED): State.EXPIRED,
    (State.RESERVED, Event.ENQUEUED): State.QUEUED,
    (State.RESERVED, Event.CANCEL_ASKED): State.CANCELED,
    (State.RESERVED, Event.TIMER_FIRED): State.EXPIRED,
    (State.RESERVED, Event.DEADLINE_PASSED): State.EXPIRED,
    (State.QUEUED, Event.DISPATCHED): State.LEASED,
    (State.QUEUED, Event.ATTEMPTS_EXHAUSTED): State.FAILED,
    (State.QUEUED, Event.CANCEL_ASKED): State.CANCELED,
    (State.QUEUED, Event.TIMER_FIRED): State.EXPIRED,
    (State.QUEUED, Event.DEADLINE_PASSED): State.EXPIRED,
    (State.LEASED, Event.STARTED): State.RUNNING,
    (State.LEASED, Event.ATTEMPT_FAILED): State.QUEUED,
    (State.LEASED, Event.ATTEMPTS_EXHAUSTED): State.FAILED,
    (State.LEASED, Event.CANCEL_ASKED): State.CANCELED,
    (State.LEASED, Event.TIMER_FIRED): State.QUEUED,
    (State.LEASED, Event.DEADLINE_PASSED): State.EXPIRED,
    (State.RUNNING, Event.ATTESTED): State.DELIVERED,
    (State.RUNNING, Event.ATTEMPT_FAILED): State.QUEUED,
    (State.RUNNING, Event.ATTEMPTS_EXHAUSTED): State.FAILED,
    (State.RUNNING, Event.CANCEL_ASKED): State.CANCELED,
    (State.RUNNING, Event.TIMER_FIRED): State.QUEUED,
    (State.RUNNING, Event.DEADLINE_PASSED): State.EXPIRED,
    (State.RUNNING, Event.CHECK_BEGUN): State.AUDITING,
    (State.AUDITING, Event.ATTESTED): State.DELIVERED,
    (State.AUDITING, Event.TIMER_FIRED): State.DELIVERED,
    (State.AUDITING, Event.CHECK_FAILED): State.QUEUED,
    (State.AUDITING, Event.ATTEMPTS_EXHAUSTED): State.FAILED,
    (State.DELIVERED, Event.CLAIMED): State.SETTLED,
    (State.DELIVERED, Event.TIMER_FIRED): State.EXPIRED,
}


def advance(state: State, event: Event) -> State | None:
    """The next state, or None when the event means nothing in this state and must be ignored."""
    return TRANSITIONS.get((state, event))


_WORKING = frozenset({State.LEASED, State.RUNNING, State.AUDITING})
_DONE = frozenset({State.DELIVERED, State.SETTLED})


def job_state(parts: Sequence[State]) -> State:
    """What its parts make of a job: it runs while any part may still come to something, then it is what was delivered
    of it; with nothing delivered it ended as its first part did."""
    assert parts, "a job has a part"
    if len(parts) == 1:
        return parts[0]
    if any(part not in FINAL_STATES and part != State.DELIVERED for part in parts):
        if any(part in (State.RUNNING, State.AUDITING) or part in _DONE for part in parts):
            return State.RUNNING
        return State.LEASED if any(part in _WORKING for part in parts) else State.QUEUED
    if State.DELIVERED in parts:
        return State.DELIVERED
    return State.SETTLED if State.SETTLED in parts else parts[0]


def after_failed_attempt(*, attempts_made: int, retry_useful: bool) -> Event:
    """Whether a job whose attempt failed goes back to the queue or ends."""
    if retry_useful and attempts_made < MAX_ATTEMPTS:
        return Event.ATTEMPT_FAILED
    return Event.ATTEMPTS_EXHAUSTED
