"""What happens at a boundary and nowhere else: budget and scale, scores, validators, the seed. docs/spec/epochs.md,
docs/spec/minting.md"""

from typing import Any

import pytest

from aitbc.core.codec.digests import compute_for_digest, validators_hash
from aitbc.core.ledger.params import Params
from aitbc.core.ledger.validators import validators_of
from aitbc.core.types.amounts import AIT, MAX_SIGNED
from aitbc.core.types.records import Param, Registration, Score
from aitbc.core.types.transactions import Outcome
from support.ledger import DAY_MS, FEE, MINUTE_MS, Batches, Ledger, Work, people
from support.people import ALICE, BOB, HUB, PROVIDER, VALIDATOR

SCALE = 10**9
LENGTH = 10


def market(**params: Any) -> Ledger:
    """A chain with one registered provider."""
    chain = Ledger(**{"epoch_length": LENGTH, **params})
    chain.register(PROVIDER)
    return chain


def earn(chain: Ledger, *, units: int = 2_000, price: int = 2 * AIT, **fields: Any) -> Outcome:
    """A paid job, from lock to claim."""
    lock = chain.lock(amount=max(price, 1))
    outcome = chain.claim(PROVIDER, lock, sender=BOB, compute_units=units, price=price, **fields)
    assert outcome.ok, outcome
    return outcome


def minted(outcome: Outcome) -> list[tuple[str, int]]:
    return [(key, amount) for kind, key, amount in outcome.events if kind == "minted"]


# The budget.


def budgeted(**params: Any) -> Ledger:
    """A chain in its second epoch, with a day's budget of 8,640 AIT: a tenth of an AIT accrues in a second."""
    chain = market(**{"mint_budget_per_day": 8_640 * AIT, **params})
    chain.close_epoch()
    return chain


def test_in_its_first_epoch_a_chain_with_a_budget_mints_nothing() -> None:
    chain = market(mint_budget_per_day=8_640 * AIT)
    outcome = earn(chain)
    assert [kind for kind, _, _ in outcome.events] == ["paid"], "the price is paid in full"
    assert chain.number("mint.claimed") == 21 * AIT // 10, "and the claim counts for the next scale"


def test_what_accrues_is_counted_from_genesis_on() -> None:
    """0.1 AIT a second; the first epoch is mintless, because a budget is released at boundaries, and not lost."""
    chain = budgeted()
    assert (chain.number("mint.budget"), chain.number("mint.scale")) == (LENGTH * AIT // 10, SCALE)
    assert chain.number("mint.accrued_ms") == chain.now_ms
    chain.close_epoch()
    assert chain.number("mint.budget") == 2 * LENGTH * AIT // 10
    chain.block(after_ms=DAY_MS)
    chain.close_epoch()
    assert chain.number("mint.budget") == 8_640 * AIT + 29 * AIT // 10


def test_within_the_budget_everything_is_minted_and_taken_off() -> None:
    chain = budgeted()
    chain.block(after_ms=DAY_MS)
    chain.close_epoch()
    before = chain.number("mint.budget")
    assert minted(earn(chain)) == [(PROVIDER.address, 2 * AIT), (HUB.address, AIT // 10)]
    assert before - chain.number("mint.budget") == chain.number("mint.claimed") == 21 * AIT // 10


def test_the_scale_of_an_epoch_is_budget_by_claims_of_the_one_before() -> None:
    """4 × 2.1 AIT were asked for and 1 AIT has accrued: 119047619 / 10^9."""
    chain = budgeted()
    for _ in range(4):
        earn(chain)
    chain.close_epoch()
    budget = chain.number("mint.budget")
    assert budget == AIT
    assert chain.number("mint.scale") == budget * SCALE // (4 * 21 * AIT // 10) == 119_047_619
    assert chain.number("mint.claimed") == 0
    allowed = 21 * AIT // 10 * 119_047_619 // SCALE
    parts = [(PROVIDER.address, 2 * AIT * allowed), (HUB.address, AIT // 10 * allowed)]
    assert minted(earn(chain)) == [(who, part // (21 * AIT // 10)) for who, part in parts]
    assert chain.number("mint.budget") == budget - allowed, "what rounding loses comes into being nowhere"


def test_what_is_left_of_the_budget_is_a_hard_stop() -> None:
    """A quiet epoch leaves a scale of 1; then everybody comes at once."""
    chain = budgeted()
    assert (chain.number("mint.budget"), chain.number("mint.scale")) == (AIT, SCALE)
    first = earn(chain, units=500, price=AIT)
    assert minted(first) == [(PROVIDER.address, AIT // 2), (HUB.address, AIT // 40)]
    left = AIT - AIT // 2 - AIT // 40
    second = earn(chain)
    assert sum(amount for _, amount in minted(second)) <= left
    assert chain.number("mint.budget") == 0
    assert minted(earn(chain)) == [], "the third earns its price and nothing else"


def test_a_settlement_is_scaled_like_the_claims_it_stands_for() -> None:
    chain = budgeted()
    for _ in range(4):
        earn(chain)
    chain.close_epoch()
    scale = chain.number("mint.scale")
    lock = chain.lock(tasks=3, session=True)
    works = [Work(lock, PROVIDER.address, task=n, units=700, price=AIT) for n in range(3)]
    outcome = chain.do(BOB, "SETTLE", Batches(works).send(chain).settle())
    full = 2_100_000 + 105_000
    allowed = full * scale // SCALE
    assert minted(outcome) == [
        (PROVIDER.address, 2_100_000 * allowed // full),
        (HUB.address, 105_000 * allowed // full),
    ]
    assert chain.number("mint.claimed") == full


def test_the_supply_never_grows_by_more_than_has_accrued() -> None:
    """Two days of a market that always asks for more than there is."""
    chain = budgeted()
    start_ms, before = chain.number("mint.accrued_ms"), chain.view.supply("minted")
    for _ in range(60):
        earn(chain, units=10**6, price=AIT)
        chain.block(after_ms=48 * MINUTE_MS)
        accrued = 8_640 * AIT * (chain.now_ms - start_ms) // DAY_MS
        assert chain.view.supply("minted") - before <= accrued
    assert chain.view.supply("minted") - before > accrued // 2, "and it is not stingy either"


def test_without_a_budget_the_counters_do_not_exist() -> None:
    chain = market()
    earn(chain)
    chain.close_epoch()
    counters = [key for key, _ in chain.executor.state.items("params", "mint.")]
    assert counters == ["mint.accrued_ms"]


# Shares, caps, bonds.

SHARES: list[tuple[str, dict[str, Any], dict[str, Any], list[int]]] = [
    ("units at their rate", {}, {}, [2 * AIT, AIT // 10]),
    ("with a treasury", {"treasury": BOB.address, "treasury_ratio_bp": 1}, {}, [2 * AIT, AIT // 10, 200]),
    ("a ratio without a treasury", {"treasury_ratio_bp": 5_000}, {}, [2 * AIT, AIT // 10]),
    ("a treasury without a ratio", {"treasury": BOB.address}, {}, [2 * AIT, AIT // 10]),
    ("no share for the hub", {"coordinator_ratio_bp": 0}, {}, [2 * AIT, 0]),
    ("capped by the price", {"mint_price_cap_bp": 10_000}, {"price": AIT}, [AIT, AIT // 20]),
    ("capped by a part of it", {"mint_price_cap_bp": 1}, {"price": AIT}, [100, 5]),
    ("capped to nothing", {"mint_price_cap_bp": 1}, {"price": 9_999}, []),
    ("shares of almost nothing", {"mint_price_cap_bp": 1}, {"price": 190_000}, [19, 0]),
    ("a rate of nothing", {"mint_per_unit": 0}, {}, []),
    ("for nothing", {}, {"price": 0}, []),
    ("chosen by the client", {}, {"routed": "chosen"}, []),
]


@pytest.mark.parametrize(("story", "params", "job", "mints"), SHARES, ids=[row[0] for row in SHARES])
def test_what_a_receipt_mints(
    story: str, params: dict[str, Any], job: dict[str, Any], mints: list[int]
) -> None:
    outcome = earn(market(**params), **job)
    assert [amount for _, amount in minted(outcome)] == mints


BONDS: list[tuple[str, dict[str, Any], int, int]] = [
    ("no bond is asked for", {}, 0, 2_100_000),
    ("a bond of just enough", {"hub_bond": AIT}, AIT, 2_100_000),
    ("a base unit too little", {"hub_bond": AIT}, AIT - 1, 0),
    ("a bound of the whole stake", {"hub_mint_per_bond_bp": 10_000}, 3 * AIT, 2_100_000),
    ("a bound of half the stake", {"hub_mint_per_bond_bp": 5_000}, 3 * AIT, 1_499_999),
    ("a bound without a stake", {"hub_mint_per_bond_bp": 10_000}, 0, 0),
]


@pytest.mark.parametrize(("story", "params", "stake", "total"), BONDS, ids=[row[0] for row in BONDS])
def test_a_hub_answers_for_what_it_lets_mint(
    story: str, params: dict[str, Any], stake: int, total: int
) -> None:
    chain = market(**params)
    if stake:
        chain.stake(HUB, stake, "hub")
    assert sum(amount for _, amount in minted(earn(chain))) == total


def test_stake_on_its_way_out_does_not_count() -> None:
    chain = market(hub_bond=AIT)
    chain.stake(HUB, AIT, "hub")
    assert chain.do(HUB, "UNSTAKE", {"role": "hub", "amount": 1}).ok
    assert minted(earn(chain)) == []


def test_the_bound_of_a_hub_is_for_an_epoch() -> None:
    """1.5 AIT in an epoch: a claim takes 1 AIT and a bit, the next what is left, the third nothing."""
    chain = market(hub_mint_per_bond_bp=5_000, epoch_length=20)
    chain.stake(HUB, 3 * AIT, "hub")
    sums = [sum(amount for _, amount in minted(earn(chain, units=1_000))) for _ in range(3)]
    assert sums[0] == 1_050_000
    assert 449_998 <= sums[1] <= 450_000, "scaled down, each part rounded"
    assert sums[2] == 0
    assert chain.bond(HUB, "hub").minted == 1_500_000
    chain.close_epoch()
    assert sum(amount for _, amount in minted(earn(chain, units=1_000))) == 1_050_000
    assert (chain.bond(HUB, "hub").epoch, chain.bond(HUB, "hub").minted) == (1, 1_050_000)


def test_the_bond_bounds_what_the_budget_would_allow_and_the_budget_keeps_the_rest() -> None:
    chain = budgeted(hub_mint_per_bond_bp=10_000)
    chain.stake(HUB, AIT, "hub")
    chain.block(after_ms=DAY_MS)
    chain.close_epoch()
    before = chain.number("mint.budget")
    earn(chain)
    assert before - chain.number("mint.budget") == AIT
    assert chain.number("mint.claimed") == AIT, "what the bond let through presses on the scale, no more"


def jail(chain: Ledger, role: str) -> None:
    """A bond of a jailed one: the hub by its own two signatures, a provider as a later release may do it."""
    who = {"hub": HUB, "provider": PROVIDER}[role]
    for node in (chain.executor, chain.second):
        overlay = type(chain.view)(node.state)
        bond = type(chain.bond(who))(
            amount=0, unbonding=[], jailed_until_ms=chain.now_ms + MINUTE_MS, epoch=0, minted=0
        )
        overlay.put_bond(role, who.address, bond)  # type: ignore[arg-type]
        node.state.stage(overlay.writes)
        node.state.publish()


@pytest.mark.parametrize("role", ["hub", "provider"])
def test_the_receipts_of_who_is_jailed_are_paid_and_mint_nothing(role: str) -> None:
    chain = market()
    locks = [chain.lock(amount=2 * AIT) for _ in range(3)]
    batch = Batches([Work(locks[2], PROVIDER.address)]).send(chain)
    jail(chain, role)
    outcome = chain.claim(PROVIDER, locks[0], sender=BOB)
    assert outcome.events == [("paid", PROVIDER.address, 2 * AIT)]
    assert chain.do(BOB, "SETTLE", batch.settle()).events == [("paid", PROVIDER.address, 2 * AIT)]
    chain.block(after_ms=MINUTE_MS)
    assert minted(chain.claim(PROVIDER, locks[1], sender=BOB)) != [], "until its time is over"


# Scores.

KEEPER = people("keeper", 1)[0]
"""Runs a validator that providers count for."""


def scored(**params: Any) -> Ledger:
    chain = Ledger(**{"epoch_length": LENGTH, "more": [PROVIDER], **params})
    outcome = chain.do(
        PROVIDER,
        "REGISTER",
        {"role": "provider", "models": [], "validator": VALIDATOR.address},
        witness=chain.countersigned(PROVIDER, VALIDATOR),
    )
    assert outcome.ok, outcome
    return chain


def score(chain: Ledger) -> tuple[int, int]:
    found = chain.view.score(VALIDATOR.address)
    return found.score, found.units


def test_compute_counts_for_the_validator_that_the_provider_chose() -> None:
    chain = scored()
    earn(chain, units=1_000)
    earn(chain, units=500)
    assert score(chain) == (0, 1_500)
    assert chain.executor.state.get("validators", f"score:{VALIDATOR.address}") == Score(score=0, units=1_500)
    chain.close_epoch()
    assert score(chain) == (1_500, 0)
    earn(chain, units=40)
    chain.close_epoch()
    assert score(chain) == (1_500 * 7 // 8 + 40, 0)
    assert chain.validators() == [(VALIDATOR.address, 1)], "a score is no vote"


def test_a_score_that_decays_to_nothing_is_forgotten() -> None:
    chain = scored(score_decay_bp=1_000)
    earn(chain, units=100)
    sizes = []
    for _ in range(4):
        chain.close_epoch()
        sizes.append(score(chain)[0])
    assert sizes == [100, 10, 1, 0]
    assert chain.count("validators", "score:") == 0


NOT_COUNTED: list[tuple[str, dict[str, Any]]] = [
    ("free work", {"price": 0}),
    ("work for its own client", {"routed": "chosen"}),
]


@pytest.mark.parametrize(("story", "job"), NOT_COUNTED, ids=[row[0] for row in NOT_COUNTED])
def test_what_may_not_mint_does_not_count(story: str, job: dict[str, Any]) -> None:
    chain = scored()
    earn(chain, **job)
    assert score(chain) == (0, 0)


def test_a_hub_without_good_standing_counts_for_nobody() -> None:
    chain = scored(hub_bond=AIT)
    earn(chain)
    assert score(chain) == (0, 0)


def test_a_scaled_down_mint_counts_in_full() -> None:
    """In the first epoch of a budget nothing is minted; the work was done all the same."""
    chain = scored(mint_budget_per_day=1)
    earn(chain, units=77)
    assert score(chain) == (0, 77)


def test_one_provider_counts_no_more_than_its_bound_in_an_epoch() -> None:
    chain = scored(score_units_per_provider=1_000)
    earn(chain, units=700)
    earn(chain, units=700)
    lock = chain.lock(tasks=2, session=True)
    works = [Work(lock, PROVIDER.address, task=n, units=700, price=AIT) for n in range(2)]
    assert chain.do(BOB, "SETTLE", Batches(works).send(chain).settle()).ok
    assert score(chain) == (0, 1_000)
    record = chain.executor.state.get("registry", f"provider:{PROVIDER.address}")
    assert isinstance(record, Registration) and record.epoch_units == 1_000
    chain.close_epoch()
    earn(chain, units=999)
    assert score(chain) == (1_000, 999)


def test_a_settlement_adds_up_what_each_provider_did() -> None:
    chain = scored()
    lock = chain.lock(tasks=4, session=True)
    works = [
        Work(lock, PROVIDER.address, task=0, units=10, price=1),
        Work(lock, PROVIDER.address, task=1, units=100, price=1, routed=0),
        Work(lock, PROVIDER.address, task=2, units=1_000, price=0),
        Work(lock, PROVIDER.address, task=3, units=5, price=1),
    ]
    assert chain.do(BOB, "SETTLE", Batches(works).send(chain).settle()).ok
    assert score(chain) == (0, 15)


def test_registering_again_does_not_start_the_count_anew() -> None:
    """Paula hopes that a new registration gives her a new bound."""
    chain = scored(score_units_per_provider=1_000)
    earn(chain, units=1_000)
    again = {"role": "provider", "models": [], "endpoint": "https://paula", "validator": VALIDATOR.address}
    assert chain.do(PROVIDER, "REGISTER", again).ok, "the validator's word is not asked for twice"
    earn(chain, units=1_000)
    assert score(chain) == (0, 1_000)
    record = chain.executor.state.get("registry", f"provider:{PROVIDER.address}")
    assert isinstance(record, Registration) and record.height == 1, "it keeps its first height"


COUNTERSIGNED: list[tuple[str, str, tuple[Any, Any] | None, str]] = [
    ("a validator that says so", VALIDATOR.address, (VALIDATOR, PROVIDER), "done"),
    ("a validator that nobody asked", VALIDATOR.address, None, "invalid bad_countersignature"),
    ("somebody else's word", VALIDATOR.address, (BOB, PROVIDER), "invalid bad_countersignature"),
    ("its word for another", VALIDATOR.address, (VALIDATOR, BOB), "invalid bad_countersignature"),
    ("who is no validator", ALICE.address, (ALICE, PROVIDER), "failed unknown_validator"),
    ("who has stake enough to be one", KEEPER.address, (KEEPER, PROVIDER), "done"),
]
"""(story, validator named, who signed for whom, outcome)"""


@pytest.mark.parametrize(
    ("story", "validator", "word", "outcome"), COUNTERSIGNED, ids=[row[0] for row in COUNTERSIGNED]
)
def test_compute_counts_only_for_a_validator_that_agrees(
    story: str, validator: str, word: tuple[Any, Any] | None, outcome: str
) -> None:
    chain = Ledger(more=[PROVIDER, KEEPER], min_validator_stake=AIT)
    chain.stake(KEEPER, AIT)
    digest = compute_for_digest((word or (0, PROVIDER))[1].address, validator, chain.genesis_hash)
    witness = {"validator_sig": word[0].sign(digest).hex()} if word else None
    payload = {"role": "provider", "models": [], "validator": validator}
    assert chain.said(PROVIDER, "REGISTER", payload, witness=witness) == outcome


def test_a_score_stays_a_number_that_every_language_reads() -> None:
    """Henry, who is listed, settles receipts of 10^12 units for a base unit each: 44 transactions of 988."""
    chain = scored(epoch_length=1_000, mint_price_cap_bp=1)
    lock = chain.lock(amount=4_000, tasks=4_096, session=True)
    for _ in range(3):
        works = [Work(lock, PROVIDER.address, task=n, units=10**12, price=1) for n in range(3_200)]
        batch = Batches(works).send(chain)
        for start in range(0, 3_200, 200):
            assert chain.do(BOB, "SETTLE", batch.settle(start, start + 200), fee=1_100).ok
        lock = chain.lock(amount=4_000, tasks=4_096, session=True)
    assert sum(score(chain)) <= MAX_SIGNED


def test_by_default_a_listed_hub_without_stake_does_not_double_its_money_again_and_again() -> None:
    """Henry is client, hub and provider at once: he locks all he has, settles it to himself, and is minted as much
    again. Ten rounds of three cheap transactions make a thousand times his money."""
    bound = Params().hub_mint_per_bond_bp
    chain = Ledger(
        devnet=0, faucet="", synthetic_attester="", mint_price_cap_bp=10_000, hub_mint_per_bond_bp=bound
    )
    assert chain.do(HUB, "REGISTER", {"role": "provider", "models": []}).ok
    before = chain.balance(HUB)
    for _ in range(10):
        amount = chain.balance(HUB) - 10 * FEE
        lock = chain.lock(HUB, amount=amount)
        batch = Batches([Work(lock, HUB.address, units=10**12, price=amount)]).send(chain)
        assert chain.do(HUB, "SETTLE", batch.settle()).ok
    assert chain.balance(HUB) < 10 * before


def test_a_hub_that_may_not_mint_does_not_spoil_the_scale_for_those_who_may() -> None:
    """Rita's hub is listed and has no stake; she pays herself 500 AIT, three times an epoch."""
    rita = people("rita", 1)[0]
    chain = budgeted(
        hub_mint_per_bond_bp=10_000, mint_price_cap_bp=10_000, hubs=[HUB.address, rita.address], more=[rita]
    )
    chain.block(after_ms=DAY_MS // 100)
    chain.close_epoch()
    assert chain.do(rita, "REGISTER", {"role": "provider", "models": []}).ok
    for _ in range(3):
        lock = chain.lock(rita, hub=rita.address, amount=500 * AIT)
        claim = {"client": rita, "hub": rita, "price": 500 * AIT, "compute_units": 10**6}
        outcome = chain.claim(rita, lock, sender=rita, **claim)
        assert outcome.ok and minted(outcome) == []
    chain.close_epoch()
    assert chain.number("mint.scale") == SCALE


# The boundary itself.


def test_the_seed_of_an_epoch_is_the_parent_of_the_block_that_closed_the_one_before() -> None:
    chain = Ledger(epoch_length=4)
    hashes = [chain.executor.head.hash]
    for _ in range(9):
        chain.block()
        hashes.append(chain.executor.head.hash)
    assert chain.executor.state.get("params", "epoch.seed") == Param(value=hashes[7].hex())


@pytest.mark.parametrize("length", [1, 2, 7])
def test_epochs_of_any_length(length: int) -> None:
    chain = Ledger(epoch_length=length, mint_budget_per_day=MAX_SIGNED)
    changed = []
    for _ in range(15):
        before = chain.executor.state.get("params", "epoch.seed")
        chain.block()
        if chain.executor.state.get("params", "epoch.seed") != before:
            changed.append(chain.height)
    assert changed == [height for height in range(1, 16) if height % length == 0]


def test_the_closing_block_itself_runs_under_the_old_rules_and_shows_the_new_set() -> None:
    """Its fees are paid as they were; its header names who decides next."""
    chain = Ledger(epoch_length=3, base_fee=2)
    chain.block()
    assert chain.change(set={"fee_burn_bp": 0, "base_fee": 50}) == "done"
    burned = chain.view.supply("burned")
    assert chain.do(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, fee=40).ok
    assert chain.view.supply("burned") == burned + 20
    assert (chain.param("fee_burn_bp"), chain.param("base_fee")) == (0, 50)
    header = chain.executor.head.block.header
    assert header.next_validators_hash == validators_hash(validators_of(chain.executor.state))
    assert chain.said(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, fee=40) == "invalid fee_too_low"


def test_compute_backed_proof_keeps_one_vote_for_each_authority() -> None:
    two = people("authority", 2)
    chain = Ledger(mode="cbp", authorities=two, more=[two[0]], epoch_length=3)
    chain.stake(two[0], 100 * AIT)
    chain.close_epoch()
    assert chain.validators() == [(one.address, 1) for one in two]


def test_nothing_is_written_when_nothing_changes() -> None:
    """A quiet boundary writes the seed, the time of the budget and nothing else."""
    chain = Ledger(epoch_length=2)
    chain.close_epoch()
    chain.block()
    built = chain.block()
    assert sorted((change.store, change.key) for change in built.changes) == [
        ("params", "epoch.seed"),
        ("params", "mint.accrued_ms"),
    ]


def test_fees_and_mints_of_one_block_count_before_its_boundary() -> None:
    chain = market(mint_budget_per_day=8_640 * AIT, epoch_length=4)
    lock = chain.lock()
    chain.block()
    payload, witness = chain.claim_parts(PROVIDER, lock)
    assert chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness, fee=FEE).ok
    assert chain.height == 4
    assert chain.number("mint.claimed") == 0, "counted, then used for the scale and set back"
    budget = chain.number("mint.budget")
    assert 0 < chain.number("mint.scale") == budget * SCALE // (21 * AIT // 10) < SCALE
