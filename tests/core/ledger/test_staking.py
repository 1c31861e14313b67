"""Stake goes in at once and comes out slowly; what is on its way out still answers. docs/spec/staking.md"""

from collections.abc import Callable
from typing import Any

import pytest

from aitbc.core.ledger.params import Params
from aitbc.core.types.amounts import AIT, MAX_SIGNED, MAX_TOTAL
from aitbc.core.types.reasons import Reason
from aitbc.core.types.records import Bond, Unbonding
from support.ledger import DAY_MS, FEE, MINUTE_MS, Ledger, people
from support.people import ALICE, BOB, EVE, HUB, PROVIDER

UNBONDING_MS = 10 * MINUTE_MS
ROLES = ("validator", "provider", "hub")


@pytest.fixture
def chain() -> Ledger:
    return Ledger(unbonding_ms=UNBONDING_MS)


def empty_bond(**fields: Any) -> Bond:
    return Bond(**{"amount": 0, "unbonding": [], "jailed_until_ms": 0, "epoch": 0, "minted": 0, **fields})


@pytest.mark.parametrize("role", ROLES)
def test_stake_goes_in_waits_and_comes_back(chain: Ledger, role: Any) -> None:
    staked = chain.do(ALICE, "STAKE", {"role": role, "amount": 30 * AIT})
    assert staked.events == [("staked", ALICE.address, 30 * AIT)]
    assert (chain.balance(ALICE), chain.bond(ALICE, role).amount) == (970 * AIT - FEE, 30 * AIT)

    unstaked = chain.do(ALICE, "UNSTAKE", {"role": role, "amount": 10 * AIT})
    assert unstaked.events == [("unstaked", ALICE.address, 10 * AIT)]
    wait_ms = Params().max_lock_ms if role == "hub" else UNBONDING_MS
    on_its_way = Unbonding(amount=10 * AIT, free_ms=chain.now_ms + wait_ms)
    assert chain.bond(ALICE, role) == empty_bond(amount=20 * AIT, unbonding=[on_its_way])
    assert chain.balance(ALICE) == 970 * AIT - 2 * FEE, "it is neither stake nor money for now"

    withdrawn = chain.do(ALICE, "WITHDRAW", {"role": role}, after_ms=wait_ms)
    assert withdrawn.events == [("withdrawn", ALICE.address, 10 * AIT)]
    assert chain.bond(ALICE, role) == empty_bond(amount=20 * AIT)
    assert chain.balance(ALICE) == 980 * AIT - 3 * FEE


def test_one_address_has_a_bond_for_each_role(chain: Ledger) -> None:
    for number, role in enumerate(ROLES, start=1):
        chain.stake(ALICE, number, role)  # type: ignore[arg-type]
    assert [chain.bond(ALICE, role).amount for role in ROLES] == [1, 2, 3]  # type: ignore[arg-type]
    assert chain.said(ALICE, "UNSTAKE", {"role": "validator", "amount": 2}) == "failed insufficient_stake"


def unstake_parts(chain: Ledger, parts: int) -> None:
    chain.stake(ALICE, 100 * AIT)
    for _ in range(parts):
        assert chain.do(ALICE, "UNSTAKE", {"role": "validator", "amount": AIT}).ok


def second_stake(chain: Ledger, amount: int) -> str:
    chain.stake(ALICE, 5 * AIT)
    return chain.said(ALICE, "STAKE", {"role": "validator", "amount": amount})


def unstake(chain: Ledger, amount: int) -> str:
    chain.stake(ALICE, 5 * AIT)
    return chain.said(ALICE, "UNSTAKE", {"role": "validator", "amount": amount})


def unstake_after(chain: Ledger, parts: int) -> str:
    unstake_parts(chain, parts)
    return chain.said(ALICE, "UNSTAKE", {"role": "validator", "amount": AIT})


def withdraw_after(chain: Ledger, after_ms: int) -> str:
    unstake_parts(chain, 1)
    return chain.said(ALICE, "WITHDRAW", {"role": "validator"}, after_ms=after_ms)


EDGES: list[tuple[str, Callable[[Ledger, int], str], int, str]] = [
    ("everything that is left after the fee", second_stake, 995 * AIT - 2 * FEE, "done"),
    ("a base unit more", second_stake, 995 * AIT - 2 * FEE + 1, "failed insufficient_balance"),
    ("all of the stake", unstake, 5 * AIT, "done"),
    ("a base unit more than the stake", unstake, 5 * AIT + 1, "failed insufficient_stake"),
    ("nothing", unstake, 0, "invalid out_of_range"),
    ("more than a signed number says", unstake, MAX_SIGNED + 1, "invalid out_of_range"),
    ("a sixteenth part", unstake_after, 15, "done"),
    ("a seventeenth part", unstake_after, 16, "failed too_many_unbonding"),
    ("withdrawing a millisecond early", withdraw_after, UNBONDING_MS - 1, "failed nothing_to_withdraw"),
    ("withdrawing in time", withdraw_after, UNBONDING_MS, "done"),
]


@pytest.mark.parametrize(("story", "act", "edge", "outcome"), EDGES, ids=[row[0] for row in EDGES])
def test_each_bound_is_where_the_specification_says(
    chain: Ledger, story: str, act: Callable[[Ledger, int], str], edge: int, outcome: str
) -> None:
    assert act(chain, edge) == outcome


def test_one_withdrawal_takes_every_part_that_is_free_and_no_other(chain: Ledger) -> None:
    chain.stake(ALICE, 10 * AIT)
    for amount in (1, 2, 4):
        assert chain.do(ALICE, "UNSTAKE", {"role": "validator", "amount": amount}, after_ms=MINUTE_MS).ok
    free = chain.bond(ALICE).unbonding[1].free_ms
    outcome = chain.do(ALICE, "WITHDRAW", {"role": "validator"}, after_ms=free - chain.now_ms)
    assert outcome.events == [("withdrawn", ALICE.address, 3)]
    assert [part.amount for part in chain.bond(ALICE).unbonding] == [4]
    assert chain.said(ALICE, "WITHDRAW", {"role": "validator"}) == "failed nothing_to_withdraw"


def test_withdrawing_makes_room_for_the_seventeenth_part(chain: Ledger) -> None:
    unstake_parts(chain, 16)
    assert chain.said(ALICE, "WITHDRAW", {"role": "validator"}, after_ms=UNBONDING_MS) == "done"
    assert chain.said(ALICE, "UNSTAKE", {"role": "validator", "amount": AIT}) == "done"


def test_a_bond_holds_no_more_than_a_signed_number_says() -> None:
    whale = people("whale", 1)[0]
    chain = Ledger(more=[whale])
    chain.endow(whale, 2 * MAX_SIGNED)
    assert chain.supply() < MAX_TOTAL
    chain.stake(whale, MAX_SIGNED)
    assert chain.said(whale, "STAKE", {"role": "validator", "amount": 1}) == "failed out_of_range"
    assert chain.said(whale, "STAKE", {"role": "hub", "amount": 1}) == "done"


def test_a_slash_reaches_what_is_on_its_way_out_and_an_eaten_part_disappears() -> None:
    """Eve unstakes before she is caught; the parts she took out burn like the rest."""
    chain = Ledger(more=[EVE], slash_bp=2_500, unbonding_ms=DAY_MS)
    chain.stake(EVE, 100 * AIT)
    for amount in (40 * AIT, 3, 1):
        assert chain.do(EVE, "UNSTAKE", {"role": "validator", "amount": amount}).ok
    left, supply = chain.bond(EVE).amount, chain.supply()
    outcome = chain.do(ALICE, "EVIDENCE", chain.double_vote(EVE))
    burned = left // 4 + 10 * AIT
    assert outcome.events == [("slashed", EVE.address, burned), ("jailed", EVE.address, 0)]
    assert chain.bond(EVE).amount == left - left // 4
    assert [part.amount for part in chain.bond(EVE).unbonding] == [30 * AIT, 3, 1], "rounded down, for her"
    assert chain.supply() == supply - burned - FEE // 2


def test_a_slash_of_everything_leaves_an_empty_bond() -> None:
    chain = Ledger(more=[EVE], slash_bp=10_000, jail_ms=DAY_MS)
    chain.stake(EVE, 100 * AIT)
    assert chain.do(EVE, "UNSTAKE", {"role": "validator", "amount": 40 * AIT}).ok
    outcome = chain.do(ALICE, "EVIDENCE", chain.double_vote(EVE))
    assert outcome.events[0] == ("slashed", EVE.address, 100 * AIT)
    assert chain.bond(EVE) == empty_bond(jailed_until_ms=chain.now_ms + DAY_MS, offences=1)
    assert (
        chain.said(EVE, "WITHDRAW", {"role": "validator"}, after_ms=20 * DAY_MS)
        == "failed nothing_to_withdraw"
    )


def test_an_empty_bond_leaves_the_state(chain: Ledger) -> None:
    chain.stake(BOB, 1)
    assert chain.do(BOB, "UNSTAKE", {"role": "validator", "amount": 1}).ok
    assert chain.do(BOB, "WITHDRAW", {"role": "validator"}, after_ms=UNBONDING_MS).ok
    assert chain.executor.state.get("registry", f"bond:validator:{BOB.address}") is None


# What a stake has let mint in an epoch.


@pytest.fixture
def minting() -> Ledger:
    """Henry's stake is as much as one receipt mints in an epoch; he has minted it and unstaked everything."""
    chain = Ledger(
        hub_mint_per_bond_bp=10_000, unbonding_ms=MINUTE_MS, max_lock_ms=10 * MINUTE_MS, epoch_length=20
    )
    chain.register(PROVIDER)
    chain.stake(HUB, AIT, "hub")
    assert chain.claim(PROVIDER, chain.lock(), sender=BOB).ok
    assert chain.bond(HUB, "hub").minted == AIT
    assert chain.do(HUB, "UNSTAKE", {"role": "hub", "amount": AIT}).ok
    return chain


def test_who_takes_the_whole_stake_out_and_in_again_mints_no_second_time(minting: Ledger) -> None:
    """The unbonding time may be shorter than an epoch: Henry would begin a new bond, and again, and again."""
    before = minting.number("supply.minted")
    assert minting.do(HUB, "WITHDRAW", {"role": "hub"}, after_ms=10 * MINUTE_MS).ok
    assert minting.bond(HUB, "hub") == empty_bond(minted=AIT), "empty, and remembered"
    minting.stake(HUB, AIT, "hub")
    assert minting.claim(PROVIDER, minting.lock(), sender=BOB).ok
    assert (minting.epoch, minting.number("supply.minted")) == (0, before)


def test_a_bond_that_minted_in_another_epoch_is_forgotten(minting: Ledger) -> None:
    minting.close_epoch()
    assert minting.do(HUB, "WITHDRAW", {"role": "hub"}, after_ms=10 * MINUTE_MS).ok
    assert minting.executor.state.get("registry", f"bond:hub:{HUB.address}") is None


# Under `hybrid` the set follows the stake.

SIX = people("staker", 6)
STAKE = 100 * AIT


def hybrid(*stakes: int, **params: Any) -> Ledger:
    """The first of the six are its authorities, with these stakes."""
    return Ledger(
        mode="hybrid",
        authorities=SIX[: len(stakes)],
        stakes=stakes,
        epoch_length=5,
        more=SIX,
        **{"min_validator_stake": STAKE, "unbonding_ms": UNBONDING_MS, **params},
    )


def powers(chain: Ledger) -> list[int]:
    """Of the six, in their order; 0 for who is not in the set."""
    found = dict(chain.validators())
    return [found.get(who.address, 0) for who in SIX]


def test_genesis_gives_its_authorities_stake_and_as_much_power() -> None:
    chain, without = hybrid(STAKE, 2 * STAKE), Ledger(more=SIX)
    assert chain.validators() == [(SIX[0].address, STAKE), (SIX[1].address, 2 * STAKE)], "in genesis order"
    assert [chain.bond(who) for who in SIX[:2]] == [empty_bond(amount=STAKE), empty_bond(amount=2 * STAKE)]
    assert chain.balance(SIX[0]) == without.balance(SIX[0]), "beside what the account has"
    assert chain.supply() == without.supply() + 3 * STAKE == chain.number("supply.genesis")
    chain.close_epoch()
    assert chain.validators() == [(SIX[1].address, 2 * STAKE), (SIX[0].address, STAKE)]
    assert chain.said(SIX[1], "UNSTAKE", {"role": "validator", "amount": STAKE}) == "done", "it is theirs"


def test_who_has_less_than_a_validator_must_have_does_not_begin() -> None:
    chain = hybrid(STAKE)
    payload = {"role": "validator", "amount": STAKE - 1}
    assert chain.said(SIX[1], "STAKE", payload) == "failed insufficient_stake"


def test_power_comes_at_a_boundary_and_by_a_third_of_the_set() -> None:
    chain = hybrid(STAKE, STAKE, STAKE)
    chain.stake(SIX[3], STAKE)
    chain.stake(SIX[0], STAKE)
    assert powers(chain) == [STAKE, STAKE, STAKE, 0, 0, 0], "not before the boundary"
    chain.close_epoch()
    assert powers(chain) == [STAKE * 3 // 2, STAKE, STAKE, STAKE // 2, 0, 0], "who grows and who comes alike"
    chain.close_epoch()
    assert powers(chain) == [2 * STAKE, STAKE, STAKE, STAKE, 0, 0]


def test_who_buys_a_hundred_times_what_everybody_has_must_wait_for_it() -> None:
    """Eve has all the money in the world. Each boundary lets in a third of the power before it, and in the end all."""
    chain = hybrid(STAKE, STAKE, STAKE)
    whole = 3 * STAKE
    chain.endow(SIX[5], 100 * whole)
    chain.stake(SIX[5], 100 * whole)
    total, epochs = whole, 0
    while powers(chain)[5] < 100 * whole:
        before = powers(chain)[5]
        chain.close_epoch()
        assert powers(chain)[:5] == [STAKE, STAKE, STAKE, 0, 0]
        assert 0 < powers(chain)[5] - before <= total // 3
        total, epochs = sum(powers(chain)), epochs + 1
        assert epochs > 3 or 3 * powers(chain)[5] < 2 * total, "no quorum before anybody could leave"
    assert (powers(chain)[5], epochs) == (100 * whole, 17)


def test_newcomers_share_the_room_in_proportion_to_what_they_bring() -> None:
    chain = hybrid(3 * STAKE, 3 * STAKE, 3 * STAKE)
    chain.stake(SIX[3], 8 * STAKE)
    chain.stake(SIX[4], 4 * STAKE)
    chain.close_epoch()
    assert powers(chain)[3:] == [2 * STAKE, STAKE, 0], "of a room of 3"
    chain.close_epoch()
    assert powers(chain)[3:] == [2 * STAKE + 6 * 4 * STAKE // 9, STAKE + 3 * 4 * STAKE // 9, 0], "of one of 4"


def test_who_shrinks_shrinks_at_once() -> None:
    """While somebody else grows, too: what leaves makes no room beyond the third."""
    chain = hybrid(6 * STAKE, 3 * STAKE, 3 * STAKE)
    assert leave(chain, SIX[0], 4 * STAKE) == "done"
    chain.stake(SIX[3], 9 * STAKE)
    chain.close_epoch()
    assert powers(chain) == [2 * STAKE, 3 * STAKE, 3 * STAKE, 4 * STAKE, 0, 0]


def test_the_greatest_powers_make_the_set_and_the_address_breaks_a_tie() -> None:
    chain = hybrid(2 * STAKE, 3 * STAKE, 2 * STAKE, 2 * STAKE, STAKE, max_validators=3)
    chain.close_epoch()
    tied = sorted([SIX[0].address, SIX[2].address, SIX[3].address])
    assert chain.validators() == [
        (SIX[1].address, 3 * STAKE),
        (tied[0], 2 * STAKE),
        (tied[1], 2 * STAKE),
    ]
    positions = [record.position for _, record in chain.executor.state.items("validators", "ait1")]
    assert sorted(positions) == [0, 1, 2]
    assert chain.count("validators") == 3, "who left the set left the store"


def test_in_a_full_set_a_newcomer_displaces_who_has_less_than_its_share() -> None:
    chain = hybrid(6 * STAKE, 3 * STAKE, 2 * STAKE, max_validators=3)
    chain.stake(SIX[3], 5 * STAKE // 2)
    chain.close_epoch()
    assert powers(chain) == [6 * STAKE, 3 * STAKE, 0, 5 * STAKE // 2, 0, 0], "there was room for all of it"
    chain.stake(SIX[4], 9 * STAKE)
    chain.stake(SIX[5], 3 * STAKE)
    room = (6 * STAKE + 3 * STAKE + 5 * STAKE // 2) // 3
    chain.close_epoch()
    assert powers(chain) == [6 * STAKE, 3 * STAKE, 0, 0, 9 * STAKE * room // (12 * STAKE), 0]


def test_who_is_not_among_the_greatest_stakes_takes_nobodys_room() -> None:
    """Four come, and of five stakes three are heard."""
    chain = hybrid(3 * STAKE, max_validators=3)
    for who, amount in zip(SIX[1:5], (4, 3, 2, 2), strict=True):
        chain.stake(who, amount * STAKE)
    chain.close_epoch()
    assert powers(chain) == [3 * STAKE, 4 * STAKE // 7, 3 * STAKE // 7, 0, 0, 0]


def test_a_jailed_staker_is_out_until_its_time_is_over_and_comes_back_like_a_newcomer() -> None:
    chain = hybrid(STAKE, STAKE, jail_ms=MINUTE_MS, slash_bp=0)
    assert chain.do(ALICE, "EVIDENCE", chain.double_vote(SIX[0])).ok
    assert powers(chain)[:2] == [STAKE, STAKE], "until the boundary"
    chain.close_epoch()
    assert powers(chain)[:2] == [0, STAKE]
    chain.block(after_ms=MINUTE_MS)
    chain.close_epoch()
    assert powers(chain)[:2] == [STAKE // 3, STAKE]


def test_when_every_staker_is_jailed_the_set_stays() -> None:
    chain = hybrid(STAKE, slash_bp=0)
    assert chain.do(ALICE, "EVIDENCE", chain.double_vote(SIX[0])).ok
    chain.close_epoch()
    assert chain.validators() == [(SIX[0].address, STAKE)]


def leave(chain: Ledger, who: Any, amount: int) -> str:
    return chain.said(who, "UNSTAKE", {"role": "validator", "amount": amount})


def test_at_most_a_third_of_the_power_leaves_in_an_epoch() -> None:
    chain = hybrid(2 * STAKE, 2 * STAKE, 2 * STAKE)
    assert leave(chain, SIX[0], 2 * STAKE) == "done"
    assert leave(chain, SIX[1], 1) == "failed leaving_too_fast"
    chain.close_epoch()
    assert leave(chain, SIX[1], 4 * STAKE // 3 + 1) == "failed leaving_too_fast"
    assert leave(chain, SIX[1], 4 * STAKE // 3) == "failed insufficient_stake", "less than a validator has"
    assert chain.number("epoch.leaving") == 0
    assert leave(chain, SIX[1], STAKE) == "done"
    assert chain.number("epoch.leaving") == STAKE
    chain.close_epoch()
    assert chain.number("epoch.leaving") == 0


LEAVERS: list[tuple[str, str, Any, str, str]] = [
    ("a member", "hybrid", SIX[0], "validator", "failed leaving_too_fast"),
    ("somebody who waits to be one", "hybrid", SIX[1], "validator", "done"),
    ("a member's other stake", "hybrid", SIX[0], "hub", "done"),
    ("an authority of a chain without stakes", "poa", SIX[0], "validator", "done"),
]


@pytest.mark.parametrize(
    ("story", "mode", "who", "role", "outcome"), LEAVERS, ids=[row[0] for row in LEAVERS]
)
def test_only_voting_stake_is_held_back(story: str, mode: str, who: Any, role: Any, outcome: str) -> None:
    chain = Ledger(
        mode=mode,
        authorities=[SIX[0]],
        stakes=[STAKE] if mode == "hybrid" else [],
        epoch_length=5,
        more=SIX,
        min_validator_stake=STAKE,
        max_validators=1,
        unbonding_ms=UNBONDING_MS,
    )
    for one, amount in ((SIX[0], 2 * STAKE), (SIX[1], STAKE)):
        chain.stake(one, amount)
        chain.stake(one, amount, "hub")
    chain.close_epoch()
    assert chain.said(who, "UNSTAKE", {"role": role, "amount": STAKE}) == outcome


def test_a_slash_is_not_held_back_by_the_pace() -> None:
    chain = hybrid(STAKE, STAKE, STAKE, slash_bp=10_000)
    for who in SIX[:2]:
        assert chain.do(ALICE, "EVIDENCE", chain.double_vote(who)).ok
    chain.close_epoch()
    assert chain.validators() == [(SIX[2].address, STAKE)]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("STAKE", {"role": "miner", "amount": 1}),
        ("UNSTAKE", {"role": "", "amount": 1}),
        ("WITHDRAW", {"role": "Validator"}),
    ],
)
def test_a_role_that_does_not_exist(chain: Ledger, kind: str, payload: dict[str, Any]) -> None:
    assert chain.said(ALICE, kind, payload) == f"invalid {Reason.WRONG_TYPE}"


# What stake costs everybody else.


def test_a_genesis_with_the_longest_unbonding_time_can_be_lived_with() -> None:
    """params.md: 0 … 2^53 - 1."""
    chain = Ledger(unbonding_ms=MAX_SIGNED)
    chain.stake(ALICE, 5 * AIT)
    assert chain.said(ALICE, "UNSTAKE", {"role": "validator", "amount": AIT}) == "done"
    assert chain.said(ALICE, "UNSTAKE", {"role": "validator", "amount": AIT}) == "done"
