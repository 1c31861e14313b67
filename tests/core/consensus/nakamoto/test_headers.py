"""Whose turn it is, and what makes a header a child of its parent: one table of lies, each with its reason."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.core.codec.digests import header_hash
from aitbc.core.consensus.nakamoto.authors import Schedule, Turn
from aitbc.core.consensus.nakamoto.headers import HeaderRules, Link, genesis_link
from aitbc.core.consensus.nakamoto.work import work_of
from aitbc.core.types.blocks import Header
from aitbc.core.types.nakamoto import NakamotoSettings
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.sim.nakamoto.blocks import CHAIN_ID, genesis_header, miner_named, sealed, template, verify

MINERS = [miner_named(name) for name in ("alice", "bob", "carol")]
TURNS = NakamotoSettings(
    miners=["alice", "bob", "carol"],
    difficulty=4,
    least_difficulty=2,
    min_interval_ms=100,
    interval_ms=1_000,
    max_interval_ms=60_000,
    take_over_ms=500,
    max_ahead_ms=100,
)
OPEN = NakamotoSettings(difficulty=4, least_difficulty=2, empty_blocks=False)
GENESIS = genesis_header(0)


def rules_of(settings: NakamotoSettings) -> HeaderRules:
    miners = MINERS if settings.miners else []
    return HeaderRules(settings, chain_id=CHAIN_ID, miners=miners, verify=verify)


def header_in_turn(timestamp_ms: int = 200, *, author: str = "alice", body: bytes = b"tx") -> Header:
    return template(GENESIS, body, timestamp_ms=timestamp_ms, author=author)


# Turns


@pytest.mark.parametrize(
    ("timestamp_ms", "parent_author", "leader"),
    [
        (1, "", "alice"),
        (1_499, "", "alice"),
        (1_500, "", "bob"),
        (1_999, "", "bob"),
        (2_000, "", "carol"),
        (2_500, "", "alice"),
        (1_000_000_000, "", "alice"),
        (1, "alice", "bob"),
        (1_500, "alice", "carol"),
        (1, "carol", "alice"),
        (1, "nobody listed", "alice"),
    ],
)
def test_who_leads(timestamp_ms: int, parent_author: str, leader: str) -> None:
    schedule = Schedule(MINERS, TURNS)
    found = schedule.leader_at(timestamp_ms, parent_author=parent_author, parent_ms=0)
    assert found.address == leader


@pytest.mark.parametrize(
    ("address", "from_ms", "turn"),
    [
        ("alice", 0, Turn(0, 1_500)),
        ("alice", 1_499, Turn(0, 1_500)),
        ("alice", 1_500, Turn(2_500, 3_000)),
        ("bob", 0, Turn(1_500, 2_000)),
        ("carol", 2_499, Turn(2_000, 2_500)),
        ("mallory", 0, None),
    ],
)
def test_when_the_next_turn_is(address: str, from_ms: int, turn: Turn | None) -> None:
    schedule = Schedule(MINERS, TURNS)
    assert schedule.turn_of(address, from_ms=from_ms, parent_author="", parent_ms=0) == turn


@given(st.integers(1, 20_000), st.sampled_from(["", "alice", "bob", "carol"]))
def test_at_every_time_one_miner_leads_and_its_turn_says_so(timestamp_ms: int, parent_author: str) -> None:
    schedule = Schedule(MINERS, TURNS)
    leader = schedule.leader_at(timestamp_ms, parent_author=parent_author, parent_ms=0)
    for miner in MINERS:
        turn = schedule.turn_of(miner.address, from_ms=timestamp_ms, parent_author=parent_author, parent_ms=0)
        assert turn is not None and turn.end_ms > timestamp_ms
        assert (turn.begin_ms <= timestamp_ms) == (miner == leader)


# Headers


def test_a_header_in_turn_becomes_a_link() -> None:
    rules = rules_of(TURNS)
    root = genesis_link(GENESIS, TURNS)
    header = sealed(header_in_turn(), root.child_target, auth_key=MINERS[0].auth_key)
    assert rules.check(header, root) == Link(
        hash=header_hash(header),
        height=1,
        timestamp_ms=200,
        author="alice",
        weight=work_of(root.child_target),
        child_target=root.child_target,
    )


Change = Callable[[Header], Header]


def with_(**fields: object) -> Change:
    return lambda header: msgspec.structs.replace(header, **fields)


LIES: list[tuple[str, Change, Reason]] = [
    ("another chain", with_(chain_id="ait-other"), Reason.WRONG_CHAIN),
    ("a version without bytes", with_(version=-1), Reason.OUT_OF_RANGE),
    ("a version of nine bytes", with_(version=2**64), Reason.OUT_OF_RANGE),
    ("no height", with_(height=0), Reason.OUT_OF_RANGE),
    ("a height above", with_(height=2), Reason.WRONG_HEIGHT),
    ("another parent", with_(parent=bytes(32)), Reason.WRONG_PARENT),
    ("half a hash", with_(state_root=bytes(16)), Reason.MALFORMED),
    ("too much to say", with_(extra=bytes(257)), Reason.TOO_LARGE),
    ("a long name", with_(proposer="a" * 91), Reason.TOO_LARGE),
    ("before all time", with_(timestamp_ms=-1), Reason.BAD_TIMESTAMP),
    ("after all time", with_(timestamp_ms=2**53), Reason.BAD_TIMESTAMP),
    ("backdated", with_(timestamp_ms=0), Reason.BAD_TIMESTAMP),
    ("too soon", with_(timestamp_ms=99), Reason.BAD_TIMESTAMP),
    ("too late", with_(timestamp_ms=60_001), Reason.BAD_TIMESTAMP),
    ("empty too soon", with_(txs_root=GENESIS.txs_root), Reason.BAD_TIMESTAMP),
    ("not listed", with_(proposer="mallory"), Reason.WRONG_PROPOSER),
    ("not its turn", with_(proposer="bob"), Reason.WRONG_PROPOSER),
    ("its turn is over", with_(timestamp_ms=1_500), Reason.WRONG_PROPOSER),
]


@pytest.mark.parametrize(("what", "change", "reason"), LIES, ids=[lie[0] for lie in LIES])
def test_a_lie_is_refused_for_its_reason(what: str, change: Change, reason: Reason) -> None:
    """With all the work and a good signature: nothing else is wrong."""
    root = genesis_link(GENESIS, TURNS)
    lie = change(header_in_turn())
    header = lie
    if reason is not Reason.OUT_OF_RANGE and lie.timestamp_ms >= 0:
        header = sealed(lie, root.child_target, auth_key=MINERS[0].auth_key)
    with pytest.raises(Rejected) as rejected:
        rules_of(TURNS).check(header, root)
    assert rejected.value.reason == reason


def test_work_is_checked_before_the_signature() -> None:
    asked: list[bytes] = []

    def note(key: bytes, digest: bytes, signature: bytes) -> bool:
        asked.append(digest)
        return False

    hard = msgspec.structs.replace(TURNS, difficulty=2**40)
    rules = HeaderRules(hard, chain_id=CHAIN_ID, miners=MINERS, verify=note)
    header = sealed(header_in_turn(), 2**256 - 1, auth_key=MINERS[0].auth_key)
    with pytest.raises(Rejected) as rejected:
        rules.check(header, genesis_link(GENESIS, hard))
    assert (rejected.value.reason, asked) == (Reason.NOT_ENOUGH_WORK, [])


def test_the_leader_signs_itself() -> None:
    root = genesis_link(GENESIS, TURNS)
    forged = sealed(header_in_turn(), root.child_target, auth_key=MINERS[1].auth_key)
    with pytest.raises(Rejected) as rejected:
        rules_of(TURNS).check(forged, root)
    assert rejected.value.reason == Reason.BAD_SIGNATURE


def test_anyone_authors_under_pow_but_not_nothing() -> None:
    rules, root = rules_of(OPEN), genesis_link(GENESIS, OPEN)
    full = sealed(header_in_turn(1, author="anyone"), root.child_target)
    assert rules.check(full, root).author == "anyone"
    empty = sealed(header_in_turn(1, author="anyone", body=b""), root.child_target)
    with pytest.raises(Rejected) as rejected:
        rules.check(empty, root)
    assert rejected.value.reason == Reason.EMPTY_BLOCK


def test_an_old_genesis_does_not_make_the_second_block_easy() -> None:
    """The time from the genesis block to the first one is nobody's work."""
    settings = NakamotoSettings(difficulty=4, difficulty_rule="adjusting")
    rules, root = rules_of(settings), genesis_link(GENESIS, settings)
    month_ms = 30 * 24 * 3_600_000
    first = sealed(header_in_turn(month_ms), root.child_target)
    link = rules.check(first, root)
    assert link.child_target == root.child_target
    second = sealed(template(first, b"", timestamp_ms=month_ms + 1, author="b"), link.child_target)
    assert rules.check(second, link).child_target < link.child_target


@given(st.lists(st.integers(1, 5_000), min_size=12, max_size=30))
def test_time_that_moves_forward_is_above_the_median_of_eleven(gaps: list[int]) -> None:
    """Our rule is the stricter one, so no node needs to keep eleven ancestors."""
    times = [sum(gaps[: count + 1]) for count in range(len(gaps))]
    for place in range(11, len(times)):
        assert times[place] > sorted(times[place - 11 : place])[5]
