"""How a provider's work has turned out, and what that makes it weigh: in integers, so that a draw can be repeated.

`rep` is a cautious share of good work: the 10th percentile of Beta(valid + 1, 10 · invalid + timeouts + 1). `health` is
about the last minutes: it falls by a twentieth at a first timeout and to three tenths at each further one, rises with
every success and comes back by itself. docs/spec/matching.md, `compute_market.md` §3.2
"""

from math import isqrt

import msgspec

MILLION = 1_000_000

INVALID_WEIGHT = 10
"""One false delivery counts as ten that were late."""
NEWCOMER_JOBS = 10
"""Below so many verdicts nothing is known of a provider."""
MOST_COUNTED = 10_000
"""Older work fades: beyond this both sides are halved, so that a good past does not cover a bad week for ever."""

HEALTH_FIRST = 950_000
HEALTH_NEXT = 300_000
HEALTH_GAIN = 150_000
HEALTH_HALF_LIFE_MS = 5 * 60_000
"""What is missing of a full health halves in five minutes: an outage is forgiven in half an hour."""
LEAST_HEALTH = 10_000
"""A provider keeps a hundredth, so that it can show it has recovered."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a hub knows of a provider's past work."""

    valid: int = 0
    invalid: int = 0
    """Deliveries that were false, and checks that were failed."""
    timeouts: int = 0
    """Attempts that ended in silence or in an error."""
    streak: int = 0
    """Checks passed since the last one that was failed."""
    health_ppm: int = MILLION
    """At `health_at_ms`."""
    health_at_ms: int = 0
    recent_timeouts: int = 0
    """Since the last success."""
    banned: bool = False
    """It was proven to cheat: it gets no more work."""

    @property
    def newcomer(self) -> bool:
        return self.valid + self.invalid + self.timeouts < NEWCOMER_JOBS


def succeeded(standing: Standing, *, now_ms: int) -> Standing:
    health = min(MILLION, health_ppm(standing, now_ms=now_ms) + HEALTH_GAIN)
    return _faded(
        msgspec.structs.replace(
            standing,
            valid=standing.valid + 1,
            health_ppm=health,
            health_at_ms=now_ms,
            recent_timeouts=0,
        )
    )


def timed_out(standing: Standing, *, now_ms: int) -> Standing:
    """An attempt that came to nothing: silence, a broken link, an error of the engine."""
    factor = HEALTH_FIRST if standing.recent_timeouts == 0 else HEALTH_NEXT
    health = max(LEAST_HEALTH, health_ppm(standing, now_ms=now_ms) * factor // MILLION)
    return _faded(
        msgspec.structs.replace(
            standing,
            timeouts=standing.timeouts + 1,
            health_ppm=health,
            health_at_ms=now_ms,
            recent_timeouts=standing.recent_timeouts + 1,
        )
    )


def was_false(standing: Standing, *, now_ms: int) -> Standing:
    """A delivery that did not fit its offer: worse than none."""
    fallen = timed_out(standing, now_ms=now_ms)
    return msgspec.structs.replace(fallen, timeouts=standing.timeouts, invalid=standing.invalid + 1, streak=0)


def passed_check(standing: Standing) -> Standing:
    return msgspec.structs.replace(standing, streak=standing.streak + 1)


def failed_check(standing: Standing) -> Standing:
    """The work was run again and is not what was delivered: proven, so no more work."""
    return msgspec.structs.replace(standing, invalid=standing.invalid + 1, streak=0, banned=True)


def health_ppm(standing: Standing, *, now_ms: int) -> int:
    """Health now: what is missing halves with every half-life, in straight lines between."""
    missing = MILLION - standing.health_ppm
    elapsed = max(0, now_ms - standing.health_at_ms)
    halvings, rest = divmod(elapsed, HEALTH_HALF_LIFE_MS)
    missing >>= min(halvings, 40)
    missing -= missing * rest // (2 * HEALTH_HALF_LIFE_MS)
    return MILLION - missing


def reputation_ppm(standing: Standing) -> int:
    """10th percentile of the Beta distribution, by its normal approximation, in millionths; at least a hundredth."""
    alpha = standing.valid + 1
    beta = INVALID_WEIGHT * standing.invalid + standing.timeouts + 1
    total = alpha + beta
    mean = MILLION * alpha // total
    deviation = isqrt(MILLION * MILLION * alpha * beta // (total * total * (total + 1)))
    return max(LEAST_HEALTH, mean - 1_282 * deviation // 1_000)


def _faded(standing: Standing) -> Standing:
    if standing.valid + standing.invalid + standing.timeouts <= MOST_COUNTED:
        return standing
    return msgspec.structs.replace(
        standing,
        valid=standing.valid // 2,
        invalid=-(-standing.invalid // 2),
        timeouts=-(-standing.timeouts // 2),
    )
