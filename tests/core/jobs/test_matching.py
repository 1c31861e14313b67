"""Who may do a part, who is drawn for it, and what a client is told when nobody may."""

from collections import Counter
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from aitbc.core.jobs.draw import draw, ticket_of
from aitbc.core.jobs.matching import BEST, Ask, Facts, ProviderIndex, Wishes, explain, quality_ppm, why_not
from aitbc.core.jobs.reputation import (
    MILLION,
    Standing,
    failed_check,
    health_ppm,
    passed_check,
    reputation_ppm,
    succeeded,
    timed_out,
    was_false,
)

KNOWN = Standing(valid=100)


def facts(name: str = "ait1a", **changes: Any) -> Facts:
    fields: dict[str, Any] = {
        "address": name,
        "model": "m",
        "model_digest": "d",
        "price_per_kilounit": 100,
        "slots": 4,
        "region": "eu",
        "vram_mb": 8_000,
        "policies": ("no-log",),
        "standing": KNOWN,
    }
    return Facts(**{**fields, **changes})


def ask(**changes: Any) -> Ask:
    wished = {name: changes.pop(name) for name in list(changes) if name in Wishes.__struct_fields__}
    fields: dict[str, Any] = {"model": "m", "price_per_kilounit": 100, "client": "ait1client"}
    return Ask(**{**fields, **changes}, **({"wishes": Wishes(**wished)} if wished else {}))


@pytest.mark.parametrize(
    ("wanted", "has", "removed_by"),
    [
        ({}, {}, None),
        ({"model": "other"}, {}, "model"),
        ({}, {"standing": Standing(banned=True)}, "banned"),
        ({}, {"price_per_kilounit": 101}, "price"),
        ({"min_vram_mb": 8_000}, {}, None),
        ({"min_vram_mb": 8_001}, {}, "vram"),
        ({"regions": ["us", "eu"]}, {}, None),
        ({"regions": ["us"]}, {}, "region"),
        ({"policies": ["no-log"]}, {}, None),
        ({"policies": ["no-log", "gdpr"]}, {}, "policy"),
        ({"allow": ["ait1b"]}, {}, "not_allowed"),
        ({"deny": ["ait1a"]}, {}, "denied"),
        ({"client": "ait1a"}, {}, "own_work"),
        ({"used": frozenset({"ait1a"})}, {}, "used_before"),
        ({"price": 50}, {"exposure": 49}, "exposure"),
        ({"model": "other", "regions": ["us"]}, {"price_per_kilounit": 999}, "model"),
    ],
)
def test_the_first_filter_that_removes_a_provider_is_named(
    wanted: dict[str, Any], has: dict[str, Any], removed_by: str | None
) -> None:
    assert why_not(ask(**wanted), facts(**has)) == removed_by


def test_the_table_has_the_best_and_a_twentieth_for_newcomers() -> None:
    index = ProviderIndex()
    for number in range(50):
        index.put(facts(f"ait1old{number:02}", standing=Standing(valid=20 + number)), now_ms=0)
    for number in range(3):
        index.put(facts(f"ait1new{number}", standing=Standing()), now_ms=0)
    table = index.table(ask())
    best = [candidate for candidate in table if "old" in candidate.address]
    assert [candidate.address for candidate in best] == [f"ait1old{number}" for number in range(42, 50)]
    newcomers = sum([candidate.weight for candidate in table if "new" in candidate.address])
    assert newcomers / sum([candidate.weight for candidate in table]) == pytest.approx(0.05, abs=0.001)
    assert len(best) == BEST


def test_only_newcomers_is_no_reason_to_wait() -> None:
    index = ProviderIndex()
    index.put(facts(standing=Standing()), now_ms=0)
    (only,) = index.table(ask())
    assert only.weight > 1_000


def test_draws_follow_the_weights_and_can_be_repeated() -> None:
    index = ProviderIndex()
    index.put(facts("ait1half", price_per_kilounit=50), now_ms=0)
    index.put(facts("ait1full"), now_ms=0)
    index.put(facts("ait1shaky", standing=timed_out(timed_out(KNOWN, now_ms=0), now_ms=0)), now_ms=0)
    table = index.table(ask())
    tickets = [ticket_of(lock="ab" * 32, task=task, attempt=0) for task in range(4_000)]
    randomness = sha256(b"block").digest()
    won = Counter([draw(table=table, ticket=ticket, randomness=randomness).address for ticket in tickets])
    total = sum([candidate.weight for candidate in table])
    for candidate in table:
        share = candidate.weight / total
        sigma = (4_000 * share * (1 - share)) ** 0.5
        assert abs(won[candidate.address] - 4_000 * share) < 4 * sigma
    weights = {candidate.address: candidate.weight for candidate in table}
    assert weights["ait1half"] == pytest.approx(2 * weights["ait1full"], rel=0.01)
    assert weights["ait1shaky"] < weights["ait1full"] // 3


def test_a_provider_leaves_the_index_when_it_is_full() -> None:
    index = ProviderIndex()
    index.put(facts(), now_ms=0)
    index.put(facts(running=2), now_ms=0)
    assert len(index) == 1, "what is known of it was replaced"
    index.remove("ait1a")
    index.remove("ait1a")
    assert (len(index), index.table(ask())) == (0, [])


def test_what_weighs() -> None:
    full = quality_ppm(facts(), now_ms=0)
    assert quality_ppm(facts(warm=False), now_ms=0) == full * 3 // 10
    assert quality_ppm(facts(running=3), now_ms=0) == full // 2, "the root of a quarter"
    assert quality_ppm(facts(speed_ppm=MILLION // 2), now_ms=0) == full // 2
    assert quality_ppm(facts(running=4), now_ms=0) == 1


@pytest.mark.parametrize(
    ("valid", "invalid", "timeouts"), [(0, 0, 0), (9, 0, 0), (100, 0, 5), (50, 3, 2), (1_000, 1, 0)]
)
def test_reputation_is_near_the_tenth_percentile(valid: int, invalid: int, timeouts: int) -> None:
    """Against the distribution itself, integrated by hand."""
    alpha, beta = valid + 1, 10 * invalid + timeouts + 1
    points = [(step + 0.5) / 20_000 for step in range(20_000)]
    density = [point ** (alpha - 1) * (1 - point) ** (beta - 1) for point in points]
    total, below, place = sum(density), 0.0, 0
    while below < 0.1:
        below += density[place] / total
        place += 1
    got = reputation_ppm(Standing(valid=valid, invalid=invalid, timeouts=timeouts)) / MILLION
    assert got == pytest.approx(points[place - 1], abs=0.04)


def test_health_falls_fast_and_comes_back_by_itself() -> None:
    once = timed_out(KNOWN, now_ms=0)
    twice = timed_out(once, now_ms=0)
    assert (once.health_ppm, twice.health_ppm) == (950_000, 285_000)
    assert health_ppm(twice, now_ms=5 * 60_000) == 642_500
    assert health_ppm(twice, now_ms=10 * 3_600_000) == MILLION
    better = succeeded(twice, now_ms=0)
    assert (better.health_ppm, better.recent_timeouts) == (435_000, 0)
    worst = KNOWN
    for _ in range(50):
        worst = timed_out(worst, now_ms=0)
    assert worst.health_ppm == 10_000, "enough to be asked again one day"


def test_what_is_false_weighs_ten_times_and_what_is_proven_ends_it() -> None:
    assert reputation_ppm(was_false(KNOWN, now_ms=0)) < reputation_ppm(timed_out(KNOWN, now_ms=0))
    streak = passed_check(passed_check(KNOWN))
    assert (streak.streak, was_false(streak, now_ms=0).streak) == (2, 0)
    cheat = failed_check(streak)
    assert (cheat.banned, cheat.streak, cheat.invalid) == (True, 0, 1)


def test_an_old_past_fades() -> None:
    standing = Standing(valid=10_000)
    assert succeeded(standing, now_ms=0).valid == 5_000


def test_an_explanation_names_who_was_removed_by_what_and_what_would_fit() -> None:
    everybody = [
        facts("ait1dear", price_per_kilounit=150),
        facts("ait1dearer", price_per_kilounit=170),
        facts("ait1far", region="us"),
        facts("ait1far and dear", region="us", price_per_kilounit=120),
        facts("ait1other", model="n"),
        facts("ait1banned", standing=Standing(banned=True)),
    ]
    found = explain(ask(regions=["eu"]), everybody, units_ahead=0, units=10)
    assert msgspec.to_builtins(found) == {
        "feasible": False,
        "connected": 6,
        "able": 0,
        "free": 0,
        "removed": {"banned": 1, "model": 1, "price": 3, "region": 1},
        "named": {
            "banned": ["ait1banned"],
            "model": ["ait1other"],
            "price": ["ait1dear", "ait1dearer", "ait1far and dear"],
            "region": ["ait1far"],
        },
        "nearest": {"model": ["n"], "price_per_kilounit": 150, "regions": ["us"]},
        "wait_ms": None,
    }


def test_an_explanation_says_how_long_it_will_be() -> None:
    busy = [facts("ait1a", running=4), facts("ait1b", running=4)]
    found = explain(ask(), busy, units_ahead=39_000, units=1_000)
    assert (found.feasible, found.able, found.free, found.wait_ms) == (True, 2, 0, 5_000)
    assert explain(ask(), [facts()], units_ahead=0, units=1_000).wait_ms == 0
