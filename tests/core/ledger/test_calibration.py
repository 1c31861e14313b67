"""The first coins of a chain that begins with none: work that nobody pays for and nobody could choose.
docs/spec/minting.md"""

from collections.abc import Callable
from typing import Any

import pytest

from aitbc.core.codec.keytext import key_to_text
from aitbc.core.ledger.calibration import calibration_nonce
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.amounts import AIT, MAX_TOTAL
from aitbc.core.types.records import Bond, Registration
from support.ledger import FEE, MINUTE_MS, Ledger
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, VALIDATOR, person

CAROL = person("carol")
LENGTH = 6
BUDGET = 1_000 * AIT
NO_COINS: dict[str, Any] = {
    "accounts": [],
    "epoch_length": LENGTH,
    "devnet": 0,
    "faucet": "",
    "synthetic_attester": "",
    "mint_price_cap_bp": 10_000,
    "calibration_budget": BUDGET,
}


def register_free(chain: Ledger, provider: Any = PROVIDER, hub: Any = HUB) -> None:
    """The hub has sent nothing yet, so its key comes with its word."""
    witness = {**chain.countersignature(provider, hub), "pubkey": key_to_text(hub.auth_key)}
    payload = {"role": "provider", "models": []}
    assert chain.do(provider, "REGISTER", payload, fee=0, witness=witness).ok


def calibrate(chain: Ledger, *, who: Any = PROVIDER, provider: Any = PROVIDER, **fields: Any) -> str:
    payload, witness = chain.calibration(provider, with_key=True, **fields)
    return chain.said(who, "RECEIPT_CLAIM", payload, witness=witness)


@pytest.fixture
def chain() -> Ledger:
    """The second epoch of a chain without a coin, with one provider."""
    chain = Ledger(**NO_COINS)
    register_free(chain)
    chain.close_epoch()
    return chain


def test_from_no_coin_at_all_to_the_first_paid_job() -> None:
    chain = Ledger(**NO_COINS)
    assert (chain.supply(), chain.count("accounts")) == (0, 0)

    register_free(chain)
    assert (chain.supply(), chain.balance(PROVIDER), chain.nonce(PROVIDER)) == (0, 0, 1)

    chain.close_epoch()
    payload, witness = chain.calibration(PROVIDER, with_key=True, compute_units=10_000)
    outcome = chain.do(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness)
    assert outcome.events == [
        ("minted", PROVIDER.address, 10 * AIT),
        ("minted", HUB.address, AIT // 2),
    ]
    assert chain.balance(PROVIDER) == 10 * AIT - FEE, "the fee came out of the proceeds"
    assert chain.balance(VALIDATOR) == FEE // 2
    assert chain.supply() == 10 * AIT + AIT // 2 - FEE // 2
    assert chain.number("calibration.minted") == 10 * AIT + AIT // 2

    assert chain.do(PROVIDER, "TRANSFER", {"to": ALICE.address, "amount": 6 * AIT}).ok
    assert chain.balance(ALICE) == 6 * AIT

    lock = chain.lock(ALICE, amount=5 * AIT)
    assert chain.balance(ALICE) == AIT - FEE

    claim, attested = chain.claim_parts(PROVIDER, lock, price=3 * AIT, compute_units=2_000)
    attested["pubkey"] = key_to_text(HUB.auth_key)
    before = chain.balance(PROVIDER)
    paid = chain.do(PROVIDER, "RECEIPT_CLAIM", claim, witness=attested)
    assert paid.events == [
        ("paid", PROVIDER.address, 3 * AIT),
        ("returned", ALICE.address, 2 * AIT),
        ("minted", PROVIDER.address, 2 * AIT),
        ("minted", HUB.address, AIT // 10),
    ]
    assert chain.balance(PROVIDER) - before == 5 * AIT - FEE

    assert chain.view.account(HUB.address).auth == b"", "the hub has not sent anything yet"
    assert chain.do(HUB, "RECEIPT_BATCH", {"root": "ab" * 32, "count": 1}).ok
    burned = 5 * FEE // 2
    assert chain.view.supply("burned") == burned, "of five paid transactions"
    assert chain.supply() == 10 * AIT + AIT // 2 + 2 * AIT + AIT // 10 - burned
    assert chain.view.supply("genesis") == chain.view.supply("faucet") == 0


def test_what_a_calibration_leaves_on_the_chain(chain: Ledger) -> None:
    payload, witness = chain.calibration(PROVIDER, with_key=True, compute_units=1)
    assert chain.do(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness).ok
    record = chain.view.receipt(payload["receipt_id"])
    assert record is not None
    assert (record.lock, record.price, record.minted, record.job_id) == (
        "",
        0,
        1_000,
        f"calibration:1:{PROVIDER.address}",
    )
    registration = chain.executor.state.get("registry", f"provider:{PROVIDER.address}")
    assert isinstance(registration, Registration) and registration.calibrated_epoch == 1


def test_each_epoch_one_and_no_more(chain: Ledger) -> None:
    assert calibrate(chain) == "done"
    assert calibrate(chain, compute_units=5) == "failed already_calibrated"
    chain.close_epoch()
    assert calibrate(chain) == "done"
    assert chain.number("calibration.minted") == 2 * 2_100_000


def test_the_same_receipt_twice(chain: Ledger) -> None:
    payload, witness = chain.calibration(PROVIDER, with_key=True)
    assert chain.said(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness) == "done"
    assert chain.said(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness) == "failed receipt_already_claimed"


def test_a_receipt_of_the_epoch_before_is_nothing_now(chain: Ledger) -> None:
    """Paula kept one for later; its nonce was drawn for another epoch."""
    payload, witness = chain.calibration(PROVIDER, with_key=True)
    chain.close_epoch()
    assert chain.said(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness) == "invalid wrong_calibration"


def test_the_draw_follows_from_the_chain_and_the_provider(chain: Ledger) -> None:
    seed = chain.executor.state.get("params", "epoch.seed").value  # type: ignore[union-attr]
    nonces = {
        calibration_nonce(genesis, epoch, text, who)
        for genesis in (chain.genesis_hash, bytes(32))
        for epoch in (1, 2)
        for text in (seed, "")
        for who in (PROVIDER.address, CAROL.address)
    }
    assert len(nonces) == 16


def carried_by_another(chain: Ledger) -> str:
    """Bob has no coins, and the claim pays him nothing."""
    return calibrate(chain, who=BOB)


def with_a_price(chain: Ledger) -> str:
    return calibrate(chain, price=1)


def before_it_counts(chain: Ledger) -> str:
    """Carol registers in this epoch and would have her receipt in it."""
    register_free(chain, CAROL)
    return calibrate(chain, who=CAROL, provider=CAROL)


def without_registration(chain: Ledger) -> str:
    return calibrate(chain, who=CAROL, provider=CAROL)


def by_a_hub_that_nobody_lists(chain: Ledger) -> str:
    return calibrate(chain, hub=EVE)


def without_the_hubs_key(chain: Ledger) -> str:
    payload, witness = chain.calibration(PROVIDER)
    return chain.said(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness)


def under_another_key(chain: Ledger) -> str:
    """Eve signs the attestation in the hub's name and offers her own key for it."""
    payload, witness = chain.calibration(PROVIDER)
    forged = chain.calibration(PROVIDER, hub=EVE)[1]["sig"]
    return chain.said(
        PROVIDER,
        "RECEIPT_CLAIM",
        payload,
        witness={**witness, "sig": forged, "pubkey": key_to_text(EVE.auth_key)},
    )


def under_a_key_that_is_none(chain: Ledger) -> str:
    payload, witness = chain.calibration(PROVIDER)
    return chain.said(PROVIDER, "RECEIPT_CLAIM", payload, witness={**witness, "pubkey": "nobody's"})


def with_a_lock(chain: Ledger) -> str:
    return calibrate(chain, lock="00" * 32)


WRONG: list[tuple[Callable[[Ledger], str], str]] = [
    (calibrate, "done"),
    (carried_by_another, "invalid fee_not_covered"),
    (with_a_price, "invalid wrong_calibration"),
    (lambda chain: calibrate(chain, job_id="calibration:1"), "invalid wrong_calibration"),
    (lambda chain: calibrate(chain, job_id=f"calibration:2:{PROVIDER.address}"), "invalid wrong_calibration"),
    (lambda chain: calibrate(chain, nonce="00" * 32), "invalid wrong_calibration"),
    (lambda chain: calibrate(chain, nonce=""), "invalid wrong_calibration"),
    (before_it_counts, "invalid wrong_calibration"),
    (without_registration, "invalid unknown_provider"),
    (by_a_hub_that_nobody_lists, "invalid wrong_hub"),
    (without_the_hubs_key, "invalid bad_attestation_signature"),
    (under_another_key, "invalid wrong_key"),
    (under_a_key_that_is_none, "invalid bad_hex"),
    (with_a_lock, "invalid attestation_mismatch"),
]


@pytest.mark.parametrize(
    ("act", "outcome"), WRONG, ids=[f"{at}-{row[0].__name__}" for at, row in enumerate(WRONG)]
)
def test_who_has_no_coins_and_no_right_leaves_no_trace(
    chain: Ledger, act: Callable[[Ledger], str], outcome: str
) -> None:
    supply = chain.supply()
    assert act(chain) == outcome
    assert (chain.supply() > supply) == (outcome == "done")


def test_in_its_first_epoch_nobody_is_drawn() -> None:
    chain = Ledger(**NO_COINS)
    register_free(chain)
    assert calibrate(chain) == "invalid wrong_calibration"


def test_who_registers_in_the_last_block_of_an_epoch_is_drawn_in_the_next(chain: Ledger) -> None:
    while chain.height % LENGTH != LENGTH - 1:
        chain.block()
    register_free(chain, CAROL)
    assert chain.height % LENGTH == 0
    assert calibrate(chain, who=CAROL, provider=CAROL) == "done"


def test_registering_again_gives_no_second_receipt(chain: Ledger) -> None:
    assert calibrate(chain) == "done"
    payload = {"role": "provider", "models": [], "endpoint": "https://again"}
    assert chain.do(PROVIDER, "REGISTER", payload).ok
    assert calibrate(chain, compute_units=9) == "failed already_calibrated"


# The budget and its end.

UNITS: list[tuple[str, dict[str, Any], int, list[int]]] = [
    ("what was done", {}, 300, [300_000, 15_000]),
    ("no more than is counted", {"calibration_units": 200}, 300, [200_000, 10_000]),
    ("with a treasury", {"treasury": BOB.address, "treasury_ratio_bp": 100}, 300, [300_000, 15_000, 3_000]),
    ("of a budget that is almost spent", {"calibration_budget": 31_500}, 300, [30_000, 1_500]),
    ("of a budget that is spent with it", {"calibration_budget": 315_000}, 300, [300_000, 15_000]),
    ("under a price cap", {"mint_price_cap_bp": 1}, 300, [300_000, 15_000]),
    ("under a mint budget", {"mint_budget_per_day": 1}, 300, [300_000, 15_000]),
    ("by a hub without its bond", {"hub_bond": AIT}, 300, [300_000, 15_000]),
    ("by a hub with a bound", {"hub_mint_per_bond_bp": 1}, 300, [300_000, 15_000]),
    ("at a rate of nothing", {"mint_per_unit": 0}, 300, []),
]


@pytest.mark.parametrize(("story", "params", "units", "mints"), UNITS, ids=[row[0] for row in UNITS])
def test_what_a_calibration_mints(story: str, params: dict[str, Any], units: int, mints: list[int]) -> None:
    chain = Ledger(**{**NO_COINS, "base_fee": 0, "fee_per_kib": 0, **params})
    register_free(chain)
    chain.close_epoch()
    payload, witness = chain.calibration(PROVIDER, with_key=True, compute_units=units)
    outcome = chain.do(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness, fee=0)
    assert [amount for kind, _, amount in outcome.events] == mints
    assert chain.number("calibration.minted") == sum(mints) == chain.supply()


ENDS: list[tuple[str, dict[str, Any], int, str]] = [
    ("no budget", {"calibration_budget": 0}, 0, "invalid calibration_over"),
    ("a budget of one base unit", {"calibration_budget": 1}, 0, "invalid fee_not_covered"),
    ("at its last millisecond", {"until": 0}, 0, "done"),
    ("a millisecond after its time", {"until": 0}, 1, "invalid calibration_over"),
]


@pytest.mark.parametrize(("story", "params", "late_ms", "outcome"), ENDS, ids=[row[0] for row in ENDS])
def test_when_calibration_is_over(story: str, params: dict[str, Any], late_ms: int, outcome: str) -> None:
    base = {**NO_COINS, **{name: value for name, value in params.items() if name != "until"}}
    probe = Ledger(**base)
    until_ms = probe.now_ms + 10 * MINUTE_MS
    if "until" in params:
        base["calibration_until_ms"] = until_ms
    chain = Ledger(**base)
    register_free(chain)
    chain.close_epoch()
    payload, witness = chain.calibration(PROVIDER, with_key=True)
    wait = until_ms - chain.now_ms + late_ms
    assert chain.said(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness, after_ms=wait) == outcome


def test_the_budget_is_never_passed_and_ends_calibration() -> None:
    """A budget of 5.25 AIT for receipts of 2.1 AIT."""
    chain = Ledger(**{**NO_COINS, "calibration_budget": 5_250_000})
    register_free(chain)
    sums = []
    for _ in range(4):
        chain.close_epoch()
        before = chain.number("calibration.minted")
        last = calibrate(chain)
        sums.append(chain.number("calibration.minted") - before)
    assert sums == [2_100_000, 2_100_000, 1_050_000, 0]
    assert last == "failed calibration_over"


def test_a_receipt_whose_parts_are_rounded_to_nothing_writes_no_counter() -> None:
    """One base unit is left. state.md: a counter exists from its first change on."""
    chain = Ledger(**{**NO_COINS, "base_fee": 0, "fee_per_kib": 0, "calibration_budget": 1})
    register_free(chain)
    chain.close_epoch()
    payload, witness = chain.calibration(PROVIDER, with_key=True)
    assert chain.do(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness, fee=0).events == []
    assert chain.executor.state.get("params", "calibration.minted") is None


@pytest.mark.parametrize(("room", "outcome"), [(2_100_000, "done"), (2_099_999, "failed supply_exhausted")])
def test_calibration_stops_at_the_bound_of_the_supply(chain: Ledger, room: int, outcome: str) -> None:
    chain.endow(PROVIDER, AIT)
    chain.endow(person("whale"), MAX_TOTAL - chain.supply() - room)
    assert calibrate(chain) == outcome


def test_a_jailed_hub_or_provider_calibrates_nothing(chain: Ledger) -> None:
    for role, who, reason in (("hub", HUB, "wrong_hub"), ("provider", PROVIDER, "unknown_provider")):
        for jailed_until_ms in (chain.now_ms + MINUTE_MS, 0):
            for node in (chain.executor, chain.second):
                overlay = Overlay(node.state)
                bond = Bond(amount=0, unbonding=[], jailed_until_ms=jailed_until_ms, epoch=0, minted=0)
                overlay.put_bond(role, who.address, bond)  # type: ignore[arg-type]
                node.state.stage(overlay.writes)
                node.state.publish()
            if jailed_until_ms:
                assert calibrate(chain) == f"invalid {reason}"
    assert calibrate(chain) == "done"
