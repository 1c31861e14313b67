"""How often is checked, who is drawn, what a comparison means; and a simulation of those who try their luck."""

import random
import struct
import zlib
from typing import Any

import msgspec
import pytest

from aitbc.core.jobs.audits import (
    FLOOR_PPM,
    AuditEntry,
    Delivered,
    Exposure,
    Step,
    Thresholds,
    Verdict,
    audit_rate_ppm,
    commitment,
    is_drawn,
    most_exposure,
    next_step,
    replay,
    score_ppm,
)
from aitbc.core.jobs.reputation import MILLION

PRICE = 1_000
TRUSTED = 10**6
"""A streak so long that only the stake counts."""


@pytest.mark.parametrize(
    ("stake_in_prices", "share"), [(0, 1.0), (1, 0.82), (5, 0.27), (10, 0.15), (50, 0.032), (100, 0.02)]
)
def test_the_rate_falls_with_the_stake(stake_in_prices: int, share: float) -> None:
    """The study's table, but for its floor of 2 %."""
    rate = audit_rate_ppm(Exposure(price=PRICE, stake=stake_in_prices * PRICE, streak=TRUSTED))
    assert rate / MILLION == pytest.approx(share, abs=0.006)


@pytest.mark.parametrize(
    ("streak", "share"), [(0, 1.0), (9, 1.0), (10, 0.1), (25, 0.04), (50, 0.02), (5_000, 0.02)]
)
def test_the_rate_falls_with_the_streak(streak: int, share: float) -> None:
    rate = audit_rate_ppm(Exposure(price=PRICE, stake=10**9, streak=streak))
    assert rate == share * MILLION


def test_what_is_odd_is_looked_at() -> None:
    calm = Exposure(price=PRICE, stake=10**9, streak=TRUSTED)
    rates = [audit_rate_ppm(msgspec.structs.replace(calm, drift_milli=z * 1_000)) for z in (0, 1, 3, 5, 9)]
    assert rates == [FLOOR_PPM, 40_000, 360_000, MILLION, MILLION]


def test_a_thin_stake_covers_little() -> None:
    thin = Exposure(price=0, stake=100_000)
    assert most_exposure(thin, MILLION) == 2**63, "what is checked before it is paid needs no stake"
    assert most_exposure(thin, 20_000) == 980


def test_the_draw_is_fair_and_only_the_seed_decides() -> None:
    ids = [f"rcpt_{number:064x}" for number in range(20_000)]
    for rate in (20_000, 250_000, MILLION):
        drawn = sum([is_drawn(seed=b"s" * 32, receipt_id=each, rate_ppm=rate) for each in ids])
        share = rate / MILLION
        assert abs(drawn - len(ids) * share) <= 3 * (len(ids) * share * (1 - share)) ** 0.5
    one = [is_drawn(seed=b"s" * 32, receipt_id=each, rate_ppm=500_000) for each in ids[:100]]
    other = [is_drawn(seed=b"t" * 32, receipt_id=each, rate_ppm=500_000) for each in ids[:100]]
    assert one != other
    assert not any(is_drawn(seed=b"s" * 32, receipt_id=each, rate_ppm=0) for each in ids)


SOFT_AND_HARD = Thresholds(100, 1_000)


@pytest.mark.parametrize(
    ("scores", "step", "verdict"),
    [
        ([], "ask_one", "unclear"),
        ([0], "done", "passed"),
        ([100], "done", "passed"),
        ([101], "done", "unclear"),
        ([1_000], "done", "unclear"),
        ([1_001], "ask_two_more", "unclear"),
        ([1_001, 5_000], "ask_two_more", "unclear"),
        ([1_001, 5_000, 0], "done", "false"),
        ([1_001, 0, 0], "done", "passed"),
        ([1_001, 0, 500], "done", "unclear"),
        ([MILLION] * 3, "done", "false"),
    ],
)
def test_three_stages(scores: list[int], step: str, verdict: str) -> None:
    assert next_step(scores, SOFT_AND_HARD) == (Step(step), Verdict(verdict))


def work(kind: str, data: bytes, **changes: Any) -> Delivered:
    fields: dict[str, Any] = {"output_hash": data.hex(), "transcript_root": "r", "counts": {"out": 3}}
    return Delivered(kind=kind, data=data, **{**fields, **changes})


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def picture(*grey: int, level: int = 6) -> bytes:
    """One row of grey pixels as a PNG."""
    row = b"\x00" + b"".join([bytes([value] * 3) for value in grey])
    return chunks(
        (b"IHDR", struct.pack(">II", len(grey), 1) + bytes([8, 2, 0, 0, 0])),
        (b"IDAT", zlib.compress(row, level)),
        (b"IEND", b""),
    )


def chunks(*parts: tuple[bytes, bytes]) -> bytes:
    made = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", 0) for kind, data in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


@pytest.mark.parametrize(
    ("claimed", "again", "exact", "score"),
    [
        (work("chat", b"same"), work("chat", b"same"), True, 0),
        (work("chat", b"same"), work("chat", b"same", transcript_root="q"), True, MILLION),
        (work("chat", b"same!"), work("chat", b"same?"), True, MILLION),
        (work("chat", b"four five"), work("chat", b"four 5ive"), False, 444_444),
        (work("chat", b"ab"), work("chat", b"abcd"), False, 500_000),
        (work("chat", b"ab"), work("chat", b"ab", transcript_root="q", counts={"out": 4}), False, MILLION),
        (work("embedding", floats(1, 2)), work("embedding", floats(1.0001, 2)), False, 1),
        (work("embedding", floats(1, 0)), work("embedding", floats(0, 1)), False, MILLION),
        (work("embedding", floats(1, 0)), work("embedding", floats(-1, 0)), False, MILLION),
        (work("embedding", floats(1, 0)), work("embedding", floats(1)), False, MILLION),
        (work("embedding", floats(float("nan"), 0)), work("embedding", floats(1, 0)), False, MILLION),
        (work("embedding", floats(float("inf"), 0)), work("embedding", floats(1, 0)), False, MILLION),
        (work("embedding", floats(0, 0)), work("embedding", floats(0, 1)), False, MILLION),
        (work("image", picture(0, 0)), work("image", picture(0, 0x33)), False, 100_000),
        (work("image", picture(7, 7)), work("image", picture(7, 7, level=0)), False, 0),
        (work("image", picture(0)), work("image", picture(0, 0)), False, MILLION),
        (work("image", b"\x00"), work("image", b""), False, MILLION),
        (work("sound", b"a"), work("sound", b"b"), False, MILLION),
    ],
)
def test_how_far_apart_two_works_are(claimed: Delivered, again: Delivered, exact: bool, score: int) -> None:
    assert score_ppm(claimed, again, exact=exact) == score


def entry(what: str, **fields: Any) -> AuditEntry:
    return AuditEntry(what=what, at_ms=1, commitment=commitment(b"s" * 32), **fields)


EXPOSURE = Exposure(price=PRICE, stake=10**9, streak=20)
LOG = [
    entry("committed"),
    *[
        entry(
            "decided",
            receipt_id=f"rcpt_{number}",
            exposure=EXPOSURE,
            rate_ppm=50_000,
            drawn=is_drawn(seed=b"s" * 32, receipt_id=f"rcpt_{number}", rate_ppm=50_000),
        )
        for number in range(40)
    ],
    entry("judged", receipt_id="rcpt_1", scores=[5, 5, 0], thresholds=(0, 0), verdict="false"),
    entry("revealed", seed=(b"s" * 32).hex()),
]


def test_the_log_can_be_decided_again() -> None:
    assert any(each.drawn for each in LOG)
    assert replay(LOG) == []
    assert replay(LOG[:-1]) == [], "before the seed is revealed the draws are taken as they are"


@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        (1, {"drawn": not LOG[1].drawn}, "rcpt_0: drawn"),
        (2, {"rate_ppm": 20_000}, "rcpt_1: rate 20000, the formula says 50000"),
        (41, {"scores": [0, 5, 5]}, "rcpt_1: verdict false, the scores say passed"),
        (42, {"seed": (b"t" * 32).hex()}, "seed of"),
    ],
)
def test_a_log_that_was_changed_shows_it(place: int, change: dict[str, Any], words: str) -> None:
    log = list(LOG)
    log[place] = msgspec.structs.replace(log[place], **change)
    assert any(line.startswith(words) for line in replay(log)), replay(log)


def test_a_seed_that_was_chosen_afterwards_is_no_seed() -> None:
    assert replay(LOG[1:])[0].endswith("was never committed to")


def play(
    rng: random.Random, *, honest_first: int, cheats: float, jobs: int, detection: float = 0.98
) -> tuple[int, int, bool]:
    """One provider's life under the rule: (checks, false jobs paid, caught). A check of false work finds it mostly."""
    streak = checks = paid = 0
    for number in range(jobs):
        false = number >= honest_first and rng.random() < cheats
        rate = audit_rate_ppm(Exposure(price=PRICE, stake=200 * PRICE, streak=streak))
        drawn = rng.random() * MILLION < rate
        checks += drawn
        if drawn and false and rng.random() < detection:
            return checks, paid, True
        streak += drawn
        paid += false
    return checks, paid, False


def test_the_honest_are_checked_at_the_floor() -> None:
    checks, _, caught = play(random.Random(1), honest_first=20_000, cheats=0, jobs=20_000)
    assert not caught
    assert checks < 0.03 * 20_000


@pytest.mark.parametrize(
    ("honest_first", "cheats"), [(0, 1.0), (0, 0.1), (500, 1.0), (2_000, 1.0), (2_000, 0.05)], ids=str
)
def test_cheats_are_caught_at_the_formulas_rate(honest_first: int, cheats: float) -> None:
    """However long it was honest and however rarely it cheats, what it gets away with is what the rate allows."""
    lives = 400
    rng = random.Random(7)
    loot = [play(rng, honest_first=honest_first, cheats=cheats, jobs=10**6)[1] for _ in range(lives)]
    mean = sum(loot) / lives
    floor = FLOOR_PPM / MILLION * 0.98
    if honest_first == 0 and cheats == 1:
        assert mean < 0.05, "a newcomer is checked every time"
        return
    if honest_first >= 2_000:
        expected = (1 - floor) / floor
        deviation = (1 - floor) ** 0.5 / floor / lives**0.5
        assert abs(mean - expected) <= 3 * deviation, (mean, expected)
    else:
        assert mean <= (1 - floor) / floor
