"""Spot checks: how often, whom, and what a comparison means. Everything is a function of what the log holds, so anybody
who has the log can decide again. docs/spec/audits.md, `compute_market.md` §2.4–2.5
"""

from collections.abc import Sequence
from enum import StrEnum
from math import isqrt
from struct import iter_unpack
from typing import Any, NamedTuple

import msgspec

from aitbc.core.crypto.hashing import tagged
from aitbc.core.jobs.pictures import picture_of
from aitbc.core.jobs.reputation import MILLION, NEWCOMER_JOBS

SAFETY = 2
"""A cheat must lose twice what it gains."""
GAIN_PPM = 800_000
"""What a cheat saves of a job's price at most: nearly all of the work."""
DETECTION_PPM = 980_000
"""How often a check of false work finds it: comparators differ, this is what they are calibrated to."""
FLOOR_PPM = 20_000
"""Nobody is ever checked less than this."""
AUDITORS = 3
"""One, and two fresh ones when the first says no: two of three convict."""


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What the rate depends on; integers that are written down with every decision."""

    price: int
    mint: int = 0
    """What the job would mint beside its price."""
    stake: int = 0
    """What can be slashed."""
    unmatured: int = 0
    """Attested and not yet paid: it can be withheld."""
    streak: int = 0
    """Checks passed in a row."""
    verdicts: int = 0
    """Everything that is known of the provider."""
    drift_milli: int = 0
    """How many standard deviations its speed is off, in thousandths."""


def audit_rate_ppm(exposure: Exposure) -> int:
    """The share of such jobs that is checked: q = clamp(max(q_econ, q_rep, q_anomaly), floor, 1)."""
    at_stake = exposure.stake + exposure.unmatured + exposure.price + exposure.mint
    gain = exposure.price + exposure.mint
    economic = (
        MILLION if not at_stake else _ceil(SAFETY * GAIN_PPM * gain * MILLION, DETECTION_PPM * at_stake)
    )
    streak = exposure.streak
    reputed = MILLION if streak < NEWCOMER_JOBS else max(FLOOR_PPM, _ceil(MILLION, streak))
    anomalous = exposure.drift_milli * exposure.drift_milli // 25
    return min(MILLION, max(FLOOR_PPM, economic, reputed, anomalous))


def most_exposure(exposure: Exposure, rate_ppm: int) -> int:
    """The dearest job, price and mint, that this stake covers at this rate; any, when everything is checked first."""
    if rate_ppm >= MILLION:
        return 2**63
    covered = exposure.stake + exposure.unmatured
    return rate_ppm * DETECTION_PPM * covered // (SAFETY * MILLION * MILLION)


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


# the lottery


def commitment(seed: bytes) -> str:
    """Published before the seed is used; the seed itself when it no longer is."""
    return tagged("aitbc/audit-seed/1", seed).hex()


def is_drawn(*, seed: bytes, receipt_id: str, rate_ppm: int) -> bool:
    """Is this delivery checked? Its provider has signed it and cannot know the seed."""
    wheel = tagged("aitbc/audit/1", seed, receipt_id.encode())
    return int.from_bytes(wheel, "big") * MILLION < rate_ppm << 256


# comparing


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """What of a delivery is compared."""

    kind: str
    data: bytes
    output_hash: str
    transcript_root: str
    counts: dict[str, int]


class Thresholds(NamedTuple):
    """Scores up to `soft` pass, above `hard` they are false, between they say nothing."""

    soft_ppm: int
    hard_ppm: int


EXACT = Thresholds(0, 0)
"""Integer work: the same bytes on every machine."""

THRESHOLDS = {
    "tiny-lm": EXACT,
    "tiny-diffusion": Thresholds(20, 250),
    "tiny-embed": EXACT,
}
"""By model; the others go by kind until they are calibrated.

tiny-embed computes in integers. tiny-lm's float32 differs between BLAS kernels in the last bits, which has turned no
token yet (tests/hub/test_honest_noise.py). tiny-diffusion's latents differ on every other kernel and its pictures in
single samples by one: 1 ppm at most; one step fewer of twenty makes 950 ppm, a fifth fewer of fifty 490. `soft` is
twenty times the noise, `hard` the middle between it and the least degraded.
"""
BY_KIND = {
    "chat": Thresholds(0, 500_000),
    "image": Thresholds(8_000, 40_000),
    "embedding": Thresholds(1_000, 10_000),
}
"""Uncalibrated: honest noise passes, other work does not, and what is in between convicts nobody."""


REPLAYED = Thresholds(0, 20_000)
"""Seeded replay of a text, by a hub that can run the model: honest machines differ in no token, weights of eight bits
in 41,000 ppm at least, another seed in 125,000. `hard` is the middle."""


def replay_ppm(*, tokens: int, differing: int) -> int:
    """The share of tokens that differ; a single one, which a rounding may have turned, convicts nobody."""
    score = MILLION * differing // max(1, tokens)
    return min(score, REPLAYED.hard_ppm) if differing <= 1 else score


def thresholds_of(model: str, kind: str) -> Thresholds:
    return THRESHOLDS.get(model, BY_KIND.get(kind, EXACT))


def score_ppm(claimed: Delivered, again: Delivered, *, exact: bool) -> int:
    """How far the claimed work is from the work done again: 0 is the same, 1,000,000 nothing alike."""
    if claimed.output_hash == again.output_hash and claimed.transcript_root == again.transcript_root:
        return 0
    if exact or claimed.counts != again.counts:
        return MILLION
    match claimed.kind:
        case "chat":
            return _text_distance(claimed.data, again.data)
        case "embedding":
            return _cosine_distance(claimed.data, again.data)
        case "image":
            return _picture_distance(claimed.data, again.data)
        case _:
            return MILLION


def _text_distance(claimed: bytes, again: bytes) -> int:
    """Seeded replay: the share of the text after the first difference. Noise flips a token late, another model soon."""
    longest = max(len(claimed), len(again), 1)
    same = next((at for at, pair in enumerate(zip(claimed, again, strict=False)) if pair[0] != pair[1]), None)
    common = min(len(claimed), len(again)) if same is None else same
    return MILLION * (longest - common) // longest


def _cosine_distance(claimed: bytes, again: bytes) -> int:
    """1 − cosine of the worst vector would need its length; of all of them together it needs nothing."""
    if len(claimed) != len(again) or len(claimed) % 4 or not claimed:
        return MILLION
    try:
        left = [int(value * (1 << 24)) for (value,) in iter_unpack("<f", claimed)]
        right = [int(value * (1 << 24)) for (value,) in iter_unpack("<f", again)]
    except (ValueError, OverflowError):
        return MILLION  # not numbers at all
    norm = isqrt(sum([a * a for a in left]) * sum([b * b for b in right]))
    if not norm:
        return 0 if left == right else MILLION
    cosine = sum([a * b for a, b in zip(left, right, strict=True)]) * MILLION // norm
    return max(0, min(MILLION, MILLION - cosine))


def _picture_distance(claimed: bytes, again: bytes) -> int:
    """Mean difference of the samples, relative to their range; of files only what they show counts."""
    left, right = picture_of(claimed), picture_of(again)
    if left is None or right is None or left[:2] != right[:2]:
        return MILLION
    total = sum([abs(a - b) for a, b in zip(left.samples, right.samples, strict=True)])
    return -(-MILLION * total // (255 * len(left.samples)))


# the verdict


class Verdict(StrEnum):
    PASSED = "passed"
    FALSE = "false"
    """Two of three found other work: it is not paid, and its provider is excluded."""
    UNCLEAR = "unclear"
    """Paid, and no step towards fewer checks."""


class Step(StrEnum):
    """What to do next."""

    ASK_ONE = "ask_one"
    ASK_TWO_MORE = "ask_two_more"
    DONE = "done"


def next_step(scores: Sequence[int], thresholds: Thresholds) -> tuple[Step, Verdict]:
    """Three stages: one auditor; when it says no, two more that had no part in it; the verdict of two of three."""
    if not scores:
        return Step.ASK_ONE, Verdict.UNCLEAR
    against = sum([score > thresholds.hard_ppm for score in scores])
    if scores[0] <= thresholds.soft_ppm:
        return Step.DONE, Verdict.PASSED
    if scores[0] <= thresholds.hard_ppm:
        return Step.DONE, Verdict.UNCLEAR
    if len(scores) < AUDITORS:
        return Step.ASK_TWO_MORE, Verdict.UNCLEAR
    if against >= 2:
        return Step.DONE, Verdict.FALSE
    agree = sum([score <= thresholds.soft_ppm for score in scores])
    return Step.DONE, Verdict.PASSED if agree >= 2 else Verdict.UNCLEAR


# the log


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the audit log: everything that a decision was made of."""

    what: str
    """`committed`, `revealed` (a seed), `decided` (checked or not), `judged`."""
    at_ms: int
    commitment: str
    seed: str = ""
    job_id: str = ""
    part: int = 0
    receipt_id: str = ""
    provider: str = ""
    exposure: Exposure | None = None
    rate_ppm: int = 0
    most_ppm: int = MILLION
    """The operator's bound on the rate."""
    drawn: bool = False
    auditors: list[str] = []
    scores: list[int] = []
    thresholds: tuple[int, int] = (0, 0)
    verdict: str = ""


def replay(log: Sequence[AuditEntry]) -> list[str]:
    """Decide everything again; what differs, in words. Draws whose seed is not revealed yet are taken as they are."""
    seeds = {entry.commitment: bytes.fromhex(entry.seed) for entry in log if entry.what == "revealed"}
    committed = {entry.commitment for entry in log if entry.what == "committed"}
    wrong = [f"seed of {name} is another" for name, seed in seeds.items() if commitment(seed) != name]
    wrong += [f"{name} was never committed to" for name in seeds if name not in committed]
    for entry in log:
        wrong += _differences(entry, seeds)
    return wrong


def _differences(entry: AuditEntry, seeds: dict[str, bytes]) -> list[str]:
    wrong: list[str] = []
    if entry.what == "decided":
        assert entry.exposure is not None, "a decision has its reasons"
        rate = min(audit_rate_ppm(entry.exposure), entry.most_ppm)
        if rate != entry.rate_ppm:
            wrong.append(f"{entry.receipt_id}: rate {entry.rate_ppm}, the formula says {rate}")
        seed = seeds.get(entry.commitment)
        if seed is not None:
            drawn = is_drawn(seed=seed, receipt_id=entry.receipt_id, rate_ppm=rate)
            if drawn != entry.drawn:
                wrong.append(f"{entry.receipt_id}: drawn {entry.drawn}, the seed says {drawn}")
    if entry.what == "judged":
        _, verdict = next_step(entry.scores, Thresholds(*entry.thresholds))
        if verdict != entry.verdict:
            wrong.append(f"{entry.receipt_id}: verdict {entry.verdict}, the scores say {verdict}")
    return wrong


def compared(kind: str, data: bytes, details: Any) -> Delivered:
    """Of a delivery with its details (`ReceiptDetails`)."""
    return Delivered(
        kind=kind,
        data=data,
        output_hash=details.output_hash,
        transcript_root=details.transcript_root,
        counts=details.counts,
    )
