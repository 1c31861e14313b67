"""Who proposes: the same list for everybody, everybody's share of the turns, and no gain from coming and going."""

import itertools
import os
import random
import subprocess
import sys
from collections import Counter

import pytest

from aitbc.core.ledger.elector import (
    NEWCOMER,
    TURNS,
    Member,
    Rotation,
    accumulators_after,
    carried_over,
    take_turns,
    weights_of,
)


def members(seed: int) -> list[Member]:
    draw = random.Random(seed)
    return [
        Member(
            address=f"ait1{place:02}",
            stake=draw.randrange(1, 10**12),
            score=draw.choice((0, draw.randrange(10**9))),
        )
        for place in range(draw.randrange(1, 51))
    ]


def equal(count: int, *, score: int = 0) -> list[Member]:
    return [Member(address=f"v{place}", stake=1, score=score) for place in range(count)]


def test_authorities_take_turns_and_each_epoch_begins_one_further() -> None:
    assert [take_turns(4, 0)(slot) for slot in range(1, 9)] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert [take_turns(4, 1)(slot) for slot in range(1, 5)] == [1, 2, 3, 0]
    assert take_turns(1, 7)(10**12) == 0


STORIES = [
    ("stake alone", [(3, 0), (1, 0)], "hybrid", [768, 256]),
    ("no compute anywhere: all alike", [(1, 0), (1, 0)], "cbp", [512, 512]),
    ("compute earns proposing, up to the cap", [(1, 900), (1, 0), (1, 100), (1, 0)], "cbp", [787, 1, 235, 1]),
    (
        "half stake, half compute, that capped at a third",
        [(1, 1), (1, 0), (1, 1), (1, 0)],
        "hybrid",
        [358, 154, 358, 154],
    ),
    ("dust still leads now and then", [(10**15, 0), (1, 0)], "hybrid", [1023, 1]),
]


@pytest.mark.parametrize(("story", "who", "mode", "weights"), STORIES, ids=[row[0] for row in STORIES])
def test_weights(story: str, who: list[tuple[int, int]], mode: str, weights: list[int]) -> None:
    set_ = [Member(address=f"v{place}", stake=stake, score=score) for place, (stake, score) in enumerate(who)]
    found = list(weights_of(set_, mode).values())  # type: ignore[arg-type]
    assert sum(found) == TURNS and max(abs(a - b) for a, b in zip(found, weights, strict=True)) <= 1, found


@pytest.mark.parametrize("seed", range(60))
def test_everybody_gets_exactly_its_turns_and_never_a_whole_turn_more_or_less(seed: int) -> None:
    weights = weights_of(members(seed), "hybrid")
    assert sum(weights.values()) == TURNS and min(weights.values()) >= 1
    order = sorted(weights)
    rotation = Rotation(order, weights, dict.fromkeys(order, 0))
    turns = [order[rotation.leader_of(slot)] for slot in range(1, 2 * TURNS + 1)]
    assert Counter(turns[:TURNS]) == Counter(weights)
    assert Counter(turns[300 : 300 + TURNS]) == Counter(weights)
    had: Counter[str] = Counter()
    for number, leader in enumerate(turns, 1):
        had[leader] += 1
        if number % 97 == 0:
            assert all(abs(had[a] - number * w / TURNS) < 1 for a, w in weights.items())


def test_the_order_of_insertion_does_not_matter() -> None:
    who = members(5)
    weights = weights_of(who, "hybrid")
    assert weights == weights_of(who[::-1], "hybrid")
    order = list(weights)
    a = Rotation(order, weights, dict.fromkeys(order, 0))
    b = Rotation(order, dict(reversed(weights.items())), dict.fromkeys(order[::-1], 0))
    assert [a.leader_of(slot) for slot in range(1, 500)] == [b.leader_of(slot) for slot in range(1, 500)]


def test_a_newcomer_waits_and_then_has_its_share() -> None:
    weights = weights_of(equal(4), "cbp")
    start = carried_over(dict.fromkeys(["v0", "v1", "v2"], 0), weights)
    assert min(start, key=lambda address: start[address]) == "v3"
    assert start["v0"] - start["v3"] == -NEWCOMER and abs(sum(start.values())) < len(start)
    rotation = Rotation(sorted(weights), weights, start)
    turns = [rotation.leader_of(slot) for slot in range(1, 101)]
    assert 3 not in turns[:4] and turns[50:].count(3) in (12, 13)


def test_leaving_and_coming_back_gains_nothing() -> None:
    """v3 leaves after its turn and comes back an epoch later, as often as it likes; v3 that stays leads more often."""
    full, rest = weights_of(equal(4), "cbp"), weights_of(equal(3), "cbp")

    def turns_of_v3(sets: list[dict[str, int]]) -> int:
        accumulators, led = dict.fromkeys(full, 0), 0
        for weights in sets:
            accumulators = carried_over(accumulators, weights)
            rotation = Rotation(sorted(weights), weights, accumulators)
            if "v3" in weights:
                led += sum(rotation.leader_of(slot) == 3 for slot in range(1, 11))
            accumulators = accumulators_after(weights, accumulators, 10)
        return led

    assert turns_of_v3([full, rest] * 20) < turns_of_v3([full, full] * 20) / 2


def test_a_wide_spread_is_scaled_down_and_the_mean_taken_off() -> None:
    weights = weights_of(equal(3), "cbp")
    start = carried_over({"v0": 9_000, "v1": 0, "v2": -9_000}, weights)
    assert max(start.values()) - min(start.values()) <= 2 * TURNS
    assert abs(sum(start.values())) < 3


def test_an_epochs_end_is_the_next_ones_beginning() -> None:
    weights = weights_of(members(8), "hybrid")
    order = sorted(weights)
    whole = Rotation(order, weights, dict.fromkeys(order, 0))
    half = accumulators_after(weights, dict.fromkeys(order, 0), 100)
    rest = Rotation(order, weights, half)
    assert [whole.leader_of(slot) for slot in range(101, 200)] == [
        rest.leader_of(slot) for slot in range(1, 100)
    ]


def test_one_list_under_any_hash_seed() -> None:
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/core/ledger']\n"
        "from test_elector import *\n"
        "w = weights_of(members(3), 'hybrid'); o = sorted(w)\n"
        "r = Rotation(o, w, dict.fromkeys(o, 0)); print([r.leader_of(s) for s in range(1, 300)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(said) == 1


def test_modes_differ_by_their_share_of_compute() -> None:
    who = [Member(address="a", stake=9, score=0), Member(address="b", stake=1, score=5)]
    rows = [weights_of(who, mode)["a"] for mode in ("poa", "hybrid", "cbp")]  # type: ignore[arg-type]
    assert all(earlier > later for earlier, later in itertools.pairwise(rows))
