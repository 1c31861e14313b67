"""Every state has one timer and a way out; nothing comes back from an end. All pairs are tried."""

import itertools

import pytest

from aitbc.core.jobs.lifecycle import (
    FINAL_STATES,
    INITIAL,
    MAX_ATTEMPTS,
    TIMERS,
    TRANSITIONS,
    Event,
    State,
    advance,
    after_failed_attempt,
)

ACTIVE = [state for state in State if state not in FINAL_STATES]


@pytest.mark.parametrize("state", ACTIVE)
def test_a_state_that_is_no_end_has_one_timer_which_moves_it(state: State) -> None:
    assert state in TIMERS
    assert advance(state, Event.TIMER_FIRED) not in (None, state)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(sorted(FINAL_STATES), Event)))
def test_an_end_is_an_end(state: State, event: Event) -> None:
    assert advance(state, event) is None
    assert state not in TIMERS


@pytest.mark.parametrize("state", ACTIVE)
def test_an_end_can_be_reached_from_everywhere(state: State) -> None:
    seen, frontier = {state}, [state]
    while frontier:
        here = frontier.pop()
        for event in Event:
            there = advance(here, event)
            if there is not None and there not in seen:
                seen.add(there)
                frontier.append(there)
    assert seen & FINAL_STATES


def test_every_state_can_be_reached_from_a_quote() -> None:
    seen, frontier = {INITIAL}, [INITIAL]
    while frontier:
        for event in Event:
            there = advance(frontier[-1], event)
            if there is not None and there not in seen:
                seen.add(there)
                frontier.insert(0, there)
        frontier.pop()
    assert seen == set(State)


def test_only_a_lock_leads_to_work_and_only_an_attestation_to_money() -> None:
    assert [key for key, to in TRANSITIONS.items() if to == State.RESERVED] == [
        (State.QUOTED, Event.LOCK_CONFIRMED)
    ]
    assert [key for key, to in TRANSITIONS.items() if to == State.DELIVERED] == [
        (State.RUNNING, Event.ATTESTED),
        (State.AUDITING, Event.ATTESTED),
        (State.AUDITING, Event.TIMER_FIRED),
    ]
    assert [key for key, to in TRANSITIONS.items() if to == State.SETTLED] == [
        (State.DELIVERED, Event.CLAIMED)
    ]


def test_the_deadline_ends_everything_between_lock_and_delivery() -> None:
    for state in (State.RESERVED, State.QUEUED, State.LEASED, State.RUNNING):
        assert advance(state, Event.DEADLINE_PASSED) == State.EXPIRED
    assert advance(State.DELIVERED, Event.DEADLINE_PASSED) is None


@pytest.mark.parametrize(
    ("made", "useful", "event"),
    [
        (1, True, Event.ATTEMPT_FAILED),
        (MAX_ATTEMPTS - 1, True, Event.ATTEMPT_FAILED),
        (MAX_ATTEMPTS, True, Event.ATTEMPTS_EXHAUSTED),
        (1, False, Event.ATTEMPTS_EXHAUSTED),
    ],
)
def test_three_attempts(made: int, useful: bool, event: Event) -> None:
    assert after_failed_attempt(attempts_made=made, retry_useful=useful) == event
