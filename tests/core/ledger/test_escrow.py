"""What a lock pays, to whom, and never more than is in it."""

from typing import Any

import pytest

from aitbc.core.ledger.state import Overlay
from aitbc.core.types.amounts import AIT
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import Lock
from aitbc.core.types.transactions import Outcome
from support.chain import Chain, genesis
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, SYNTHETIC

MINTED = [("minted", PROVIDER.address, 2 * AIT), ("minted", HUB.address, AIT // 10)]


@pytest.fixture
def chain() -> Chain:
    chain = Chain()
    chain.register(PROVIDER)
    return chain


def claim(chain: Chain, lock: str, **fields: Any) -> Outcome:
    payload, witness = chain.claim_parts(PROVIDER, lock, **fields)
    return chain.do(HUB, "RECEIPT_CLAIM", payload, witness=witness)


def lock_record(chain: Chain, lock: str) -> Lock:
    record = chain.executor.state.get("locks", lock)
    assert isinstance(record, Lock)
    return record


def test_a_second_task_gets_what_the_first_left_and_no_more(chain: Chain) -> None:
    lock = chain.lock(amount=3 * AIT, tasks=2)
    assert claim(chain, lock, task=0, price=2 * AIT).events == [("paid", PROVIDER.address, 2 * AIT), *MINTED]
    greedy = claim(chain, lock, task=1, price=AIT + 1)
    assert (greedy.ok, greedy.reason) == (False, Reason.PRICE_ABOVE_ESCROW)
    assert (lock_record(chain, lock).paid, lock_record(chain, lock).status) == (2 * AIT, "open")
    assert claim(chain, lock, task=1, price=AIT).events == [("paid", PROVIDER.address, AIT), *MINTED]
    assert (lock_record(chain, lock).paid, lock_record(chain, lock).status) == (3 * AIT, "settled")


def test_a_lock_that_is_paid_out_whole_returns_nothing_and_says_nothing(chain: Chain) -> None:
    outcome = claim(chain, chain.lock(amount=5 * AIT), price=5 * AIT)
    assert outcome.events == [("paid", PROVIDER.address, 5 * AIT), *MINTED]


def test_a_task_that_was_not_paid_in_time_is_not_paid_from_a_refunded_lock(chain: Chain) -> None:
    lock = chain.lock(amount=5 * AIT, tasks=2)
    assert claim(chain, lock, task=0).ok
    refund = chain.do(BOB, "REFUND", {"lock": lock}, after_ms=121_000)
    assert refund.events == [("refunded", ALICE.address, 3 * AIT)]
    late = claim(chain, lock, task=1)
    assert (late.ok, late.reason, late.events) == (False, Reason.LOCK_CLOSED, [])


def test_price_and_mint_go_where_the_provider_said() -> None:
    chain = Chain()
    chain.register(PROVIDER, payout=EVE.address)
    outcome = claim(chain, chain.lock(amount=2 * AIT), price=2 * AIT)
    assert outcome.events == [
        ("paid", EVE.address, 2 * AIT),
        ("minted", EVE.address, 2 * AIT),
        ("minted", HUB.address, AIT // 10),
    ]
    assert (chain.balance(EVE), chain.balance(PROVIDER)) == (4 * AIT, 0)


@pytest.mark.parametrize(
    ("treasury", "share"),
    [(BOB.address, [("minted", BOB.address, AIT // 5)]), ("", [])],
    ids=["a treasury", "a ratio without a treasury"],
)
def test_the_treasurys_part_is_minted_only_where_there_is_a_treasury(
    treasury: str, share: list[tuple[str, str, int]]
) -> None:
    chain = Chain(genesis(treasury=treasury, treasury_ratio_bp=1_000))
    chain.register(PROVIDER)
    outcome = claim(chain, chain.lock(amount=2 * AIT), price=2 * AIT)
    assert outcome.events == [("paid", PROVIDER.address, 2 * AIT), *MINTED, *share]
    assert Overlay(chain.executor.state).account("").balance == 0


def test_nobody_but_the_labelled_attester_answers_for_synthetic_work(chain: Chain) -> None:
    """Not even the listed hub: synthetic work mints without a lock."""
    parts: dict[str, Any] = {"routed": "synthetic", "job_id": "job_42", "attempt": 0}
    for attester, outcome in [(HUB, (False, Reason.WRONG_HUB)), (SYNTHETIC, (True, ""))]:
        payload, witness = chain.claim_parts(PROVIDER, "", hub=attester, **parts)
        done = chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness)
        assert (done.ok, done.reason) == outcome


def test_a_hub_that_nobody_listed_cannot_vouch_for_a_provider() -> None:
    """Eve registers as a hub and signs with her real key; her word still opens nothing."""
    chain = Chain()
    assert chain.do(ALICE, "TRANSFER", {"to": EVE.address, "amount": AIT}).ok
    assert chain.do(ALICE, "TRANSFER", {"to": PROVIDER.address, "amount": AIT}).ok
    assert chain.do(EVE, "REGISTER", {"role": "hub", "models": []}).ok
    wish, witness = {"role": "provider", "models": []}, chain.countersignature(PROVIDER, EVE)
    with pytest.raises(Rejected) as caught:
        chain.do(PROVIDER, "REGISTER", wish, fee=0, witness=witness)
    assert caught.value.reason == Reason.FEE_TOO_LOW
    paid = chain.do(PROVIDER, "REGISTER", wish, witness=witness)
    assert (paid.ok, paid.reason) == (False, Reason.BAD_COUNTERSIGNATURE)
