"""Seals, targets, difficulty and reward: small rules, each with its table."""

from decimal import Decimal, getcontext

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.core.consensus.nakamoto.work import (
    MAX_TARGET,
    is_enough,
    next_target,
    open_seal,
    seal_of,
    search_digest,
    target_of,
    template_digest,
    work_hash,
    work_of,
)
from aitbc.core.types.nakamoto import (
    NakamotoSettings,
    RewardSettings,
    WorkMode,
    check_settings,
    reward_at,
)
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.sim.nakamoto.blocks import genesis_header, search, template

ADJUSTING = NakamotoSettings(
    difficulty=2**20, difficulty_rule="adjusting", block_time_ms=60_000, half_life_ms=3_600_000
)
TARGET = target_of(2**20)


# The seal and the hash that is searched


def test_the_hash_that_is_searched_stays_what_it_is() -> None:
    """Figures that were worked out from the chapter with hashlib alone."""
    header = template(genesis_header(1_000), b"body", timestamp_ms=2_000, author="ait1miner")
    digest = template_digest(header)
    found = search(search_digest(digest, b""), target_of(256))
    assert digest.hex() == "813d62d085d7a38a67895780687c20072f65c42d99eb9458322125b181bf097e"
    assert found == 191
    assert (
        work_hash(search_digest(digest, b""), found).hex()
        == "008663a7d1fce6b0ecf1c3e740301aab9e2d8c13ab71c4dbe1ca8af13fe9e186"
    )


@pytest.mark.parametrize(
    "field", [name for name in msgspec.structs.asdict(genesis_header(0)) if name != "seal"]
)
def test_the_template_covers_every_field_but_the_seal(field: str) -> None:
    header = template(genesis_header(1_000), b"body", timestamp_ms=2_000, author="ait1miner")
    value = getattr(header, field)
    other = value + 1 if isinstance(value, int) else value + (b"x" if isinstance(value, bytes) else "x")
    assert template_digest(msgspec.structs.replace(header, **{field: other})) != template_digest(header)
    assert template_digest(msgspec.structs.replace(header, seal=b"x")) == template_digest(header)


def test_another_signature_is_another_search() -> None:
    """Otherwise a miner could make many blocks, and low hashes among them, from one piece of work."""
    assert search_digest(bytes(32), bytes(64)) != search_digest(bytes(32), b"\1" + bytes(63))


@pytest.mark.parametrize("nonce", [0, 1, 2**64 - 1])
def test_a_seal_is_opened_as_it_was_made(nonce: int) -> None:
    assert open_seal(seal_of(nonce, b""), is_signed=False) == (nonce, b"")
    assert open_seal(seal_of(nonce, bytes(64)), is_signed=True) == (nonce, bytes(64))


@pytest.mark.parametrize(
    ("length", "is_signed"),
    [(0, False), (7, False), (9, False), (72, False), (8, True), (71, True), (73, True)],
)
def test_a_seal_has_one_length(length: int, is_signed: bool) -> None:
    with pytest.raises(Rejected) as rejected:
        open_seal(bytes(length), is_signed=is_signed)
    assert rejected.value.reason == Reason.MALFORMED


# Targets


@pytest.mark.parametrize(
    ("difficulty", "target"),
    [(1, MAX_TARGET), (2, 2**255 - 1), (16**5, 2**236 - 1), (3, 2**256 // 3 - 1)],
)
def test_a_difficulty_is_the_number_of_hashes_it_takes(difficulty: int, target: int) -> None:
    assert target_of(difficulty) == target
    assert work_of(target) == difficulty


def test_the_target_itself_is_enough_and_one_more_is_not() -> None:
    assert is_enough((5).to_bytes(32, "big"), 5)
    assert not is_enough((6).to_bytes(32, "big"), 5)


# Difficulty


def test_fixed_stays() -> None:
    fixed = msgspec.structs.replace(ADJUSTING, difficulty_rule="fixed")
    assert next_target(fixed, target=TARGET, solve_ms=10**9) == TARGET


def test_a_block_in_time_changes_nothing() -> None:
    assert next_target(ADJUSTING, target=TARGET, solve_ms=60_000) == TARGET


@given(st.integers(1, 400_000), st.integers(2**100, 2**235))
def test_the_step_is_two_to_the_lateness_in_half_lives(solve_ms: int, target: int) -> None:
    """Against 2^x in fifty digits: the cubic is good to 0.013 %, the exponent to 1/65,536."""
    getcontext().prec = 50
    late = Decimal(min(solve_ms, 360_000) - 60_000) / 3_600_000
    exact = target * Decimal(2) ** late
    assert abs(next_target(ADJUSTING, target=target, solve_ms=solve_ms) / exact - 1) < Decimal("0.0002")


@given(st.integers(1, 10**12), st.integers(1, MAX_TARGET))
def test_the_step_is_bounded(solve_ms: int, target: int) -> None:
    """However late a block is, the next is at most 2^(5/60) times as easy; and at most 2^(1/60) times as hard."""
    moved = next_target(ADJUSTING, target=target, solve_ms=solve_ms)
    assert 1 <= moved <= MAX_TARGET
    assert moved <= target * 1_060 // 1_000 + 1
    assert moved >= target * 988 // 1_000


def test_no_block_is_easier_than_the_least_difficulty() -> None:
    floor = msgspec.structs.replace(ADJUSTING, least_difficulty=2**20 - 1)
    assert next_target(floor, target=TARGET, solve_ms=360_000) == target_of(2**20 - 1)


@pytest.mark.parametrize("hashes_per_second", [1_000, 17_476, 1_000_000])
def test_difficulty_finds_the_miners_that_there_are(hashes_per_second: int) -> None:
    """With blocks exactly as fast as the work allows, the time between them ends near the block time."""
    target, solve_ms = TARGET, 0
    for _ in range(2_000):
        solve_ms = max(1, work_of(target) * 1_000 // hashes_per_second)
        target = next_target(ADJUSTING, target=target, solve_ms=solve_ms)
    assert abs(solve_ms - 60_000) < 600


# Reward


@pytest.mark.parametrize(
    ("settings", "height", "reward"),
    [
        (RewardSettings(), 1, 0),
        (RewardSettings(initial=100), 1, 100),
        (RewardSettings(initial=100), 10**9, 100),
        (RewardSettings(initial=100, era_blocks=10), 10, 100),
        (RewardSettings(initial=100, era_blocks=10), 11, 50),
        (RewardSettings(initial=100, era_blocks=10), 21, 25),
        (RewardSettings(initial=100, era_blocks=10), 31, 12),
        (RewardSettings(initial=100, era_blocks=10), 71, 0),
        (RewardSettings(initial=100, era_blocks=10), 2**53 - 1, 0),
        (RewardSettings(initial=1_000, era_blocks=1, kept=9_000), 3, 810),
        (RewardSettings(initial=7, era_blocks=5, kept=0), 6, 0),
    ],
)
def test_reward(settings: RewardSettings, height: int, reward: int) -> None:
    assert reward_at(settings, height) == reward


# Settings that contradict themselves


@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        ("pow", {"difficulty": 4, "least_difficulty": 5}),
        ("pow", {"difficulty_rule": "adjusting", "half_life_ms": 1_000, "block_time_ms": 101}),
        ("pow", {"min_interval_ms": 2, "interval_ms": 1}),
        ("pow", {"min_transactions": 3, "max_transactions": 2}),
        ("pow", {"miners": ["a"]}),
        ("pow", {"block_time_ms": 3_999, "max_ahead_ms": 2_000}),
        ("poa-pow", {}),
        ("poa-pow", {"miners": ["a", "b", "a"]}),
        ("poa-pow", {"miners": ["a"], "max_ahead_ms": 2_501}),
        ("poa-pow", {"miners": ["a", "b"], "max_interval_ms": 9_999}),
    ],
)
def test_a_contradiction_is_refused(mode: WorkMode, changes: dict[str, object]) -> None:
    with pytest.raises(Rejected) as rejected:
        check_settings(msgspec.structs.replace(NakamotoSettings(), **changes), mode=mode)
    assert rejected.value.reason == Reason.BAD_GENESIS


def test_plain_settings_are_good() -> None:
    check_settings(NakamotoSettings(), mode="pow")
    check_settings(NakamotoSettings(miners=["a", "b"], max_interval_ms=10_000), mode="poa-pow")
