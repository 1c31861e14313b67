"""The draw: the same table gives the same winner to every reader, and the wheel is fair."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.core.jobs.draw import (
    Candidate,
    candidate_table,
    candidates_hash,
    draw,
    ticket_of,
)

LOCK = "ab" * 32


def candidate(address: str, weight: int = 1) -> Candidate:
    return Candidate(address=address, weight=weight, price_per_kilounit=1, model_digest="")


def test_published_vector() -> None:
    table = candidate_table([candidate("b", 1), candidate("a", 2), candidate("c", 3)])
    ticket = ticket_of(lock=LOCK, task=0, attempt=1)
    assert [c.address for c in table] == ["a", "b", "c"]
    assert candidates_hash(table) == "sha256:a27b5fbec738b4d01208f801baa51c6ea15dc7d65e4d999f50f57127dbe29f69"
    assert ticket == "sha256:bdb01587a6a636317241d83e27ceb7a7c1072fdccd77a522aac675138a456c28"
    assert draw(table=table, ticket=ticket, randomness=bytes(32)).address == "c"


@given(
    weights=st.lists(st.integers(1, 1_000_000), min_size=1, max_size=20),
    randomness=st.binary(min_size=32, max_size=32),
    shuffle=st.randoms(),
)
def test_the_order_of_asking_does_not_matter(
    weights: list[int], randomness: bytes, shuffle: random.Random
) -> None:
    candidates = [candidate(f"ait1{number:04}", weight) for number, weight in enumerate(weights)]
    shuffled = list(candidates)
    shuffle.shuffle(shuffled)
    ticket = ticket_of(lock=LOCK, task=0, attempt=0)
    first = draw(table=candidate_table(candidates), ticket=ticket, randomness=randomness)
    assert first == draw(table=candidate_table(shuffled), ticket=ticket, randomness=randomness)
    assert first in candidates


def test_the_wheel_is_fair() -> None:
    """10,000 draws: three to one, within five standard deviations."""
    table = candidate_table([candidate("a", 3_000), candidate("b", 1_000)])
    ticket = ticket_of(lock=LOCK, task=0, attempt=0)
    wins = sum(
        draw(table=table, ticket=ticket, randomness=bytes(28) + n.to_bytes(4, "big")).address == "a"
        for n in range(10_000)
    )
    assert abs(wins - 7_500) < 5 * 43


def test_every_attempt_has_a_ticket_of_its_own() -> None:
    tickets = {ticket_of(lock=LOCK, task=task, attempt=attempt) for task in range(4) for attempt in range(4)}
    assert len(tickets) == 16


def test_a_provider_is_on_the_wheel_once() -> None:
    with pytest.raises(AssertionError, match="once"):
        candidate_table([candidate("a"), candidate("a")])
