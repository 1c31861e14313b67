"""A paid job on the ledger: escrow, claim, mint; and everything that must not be paid."""

from typing import Any

import pytest

from aitbc.core.codec.records import record_bytes, record_from_bytes
from aitbc.core.types.amounts import AIT, MAX_SIGNED
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import ReceiptRecord
from support.chain import Chain, fresh_root, genesis
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, SYNTHETIC, VALIDATOR

FEE = 100


@pytest.fixture
def chain() -> Chain:
    chain = Chain()
    chain.register(PROVIDER)
    return chain


def test_a_job_is_locked_delivered_paid_and_minted_for(chain: Chain) -> None:
    lock = chain.lock(amount=5 * AIT)
    assert chain.balance(ALICE) == 995 * AIT - FEE
    payload, witness = chain.claim_parts(PROVIDER, lock)
    outcome = chain.do(HUB, "RECEIPT_CLAIM", payload, witness=witness)
    assert outcome.ok
    assert outcome.events == [
        ("paid", PROVIDER.address, 2 * AIT),
        ("returned", ALICE.address, 3 * AIT),
        ("minted", PROVIDER.address, 2 * AIT),
        ("minted", HUB.address, AIT // 10),
    ]
    assert chain.balance(PROVIDER) == 4 * AIT, "2 AIT of price and 2,000 units at 1,000 base units"
    assert chain.balance(ALICE) == 998 * AIT - FEE
    assert chain.balance(HUB) == 10 * AIT + AIT // 10 - FEE
    assert chain.supply() == 2_010 * AIT + 2 * AIT + AIT // 10 - FEE, "two fees, half of each burned"
    assert chain.executor.head.block.header.state_root == fresh_root(chain)


def test_a_provider_without_a_coin_pays_its_claim_out_of_the_proceeds(chain: Chain) -> None:
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    assert chain.balance(PROVIDER) == 0
    assert chain.do(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness).ok
    assert chain.balance(PROVIDER) == 4 * AIT - FEE


def test_a_stranger_may_carry_a_claim_but_the_money_goes_to_the_receipts_addresses(chain: Chain) -> None:
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    assert chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness).ok
    assert chain.balance(PROVIDER) == 4 * AIT
    assert chain.balance(BOB) == 1_000 * AIT - FEE


def test_each_task_of_a_lock_pays_once(chain: Chain) -> None:
    lock = chain.lock(amount=5 * AIT, tasks=2)
    for task in (0, 1):
        payload, witness = chain.claim_parts(PROVIDER, lock, task=task)
        assert chain.do(HUB, "RECEIPT_CLAIM", payload, witness=witness).ok
    record = chain.executor.state.get("locks", lock)
    assert record is not None
    assert (record.status, record.paid) == ("settled", 4 * AIT)  # type: ignore[union-attr]
    assert chain.balance(ALICE) == 996 * AIT - FEE


def test_what_was_not_earned_returns_after_the_claim_time_and_anyone_may_ask(chain: Chain) -> None:
    lock = chain.lock(amount=5 * AIT)
    early = chain.do(EVE_FUNDED(chain), "REFUND", {"lock": lock})
    assert (early.ok, early.reason) == (False, Reason.REFUND_TOO_EARLY)
    assert chain.do(EVE, "REFUND", {"lock": lock}, after_ms=121_000).ok
    assert chain.balance(ALICE) == 1_000 * AIT - FEE
    again = chain.do(EVE, "REFUND", {"lock": lock})
    assert (again.ok, again.reason) == (False, Reason.LOCK_CLOSED)


def EVE_FUNDED(chain: Chain) -> Any:
    assert chain.do(BOB, "TRANSFER", {"to": EVE.address, "amount": AIT}).ok
    return EVE


def test_a_client_without_a_coin_left_gets_its_refund(chain: Chain) -> None:
    lock = chain.lock(amount=1_000 * AIT - FEE)
    assert chain.balance(ALICE) == 0
    assert chain.do(ALICE, "REFUND", {"lock": lock}, after_ms=121_000).ok
    assert chain.balance(ALICE) == 1_000 * AIT - 2 * FEE


WRONG_CLAIMS: list[tuple[str, dict[str, Any], Reason]] = [
    ("the hub's signature is Eve's", {"attester": EVE}, Reason.BAD_ATTESTATION_SIGNATURE),
    ("the attestation is by a hub the lock does not name", {"hub": EVE}, Reason.WRONG_HUB),
    ("the provider's signature is Eve's", {"forge": True}, Reason.BAD_PROVIDER_SIGNATURE),
    ("the provider never registered", {"provider": EVE}, Reason.UNKNOWN_PROVIDER),
    ("the lock does not exist", {"lock": "00" * 32}, Reason.UNKNOWN_LOCK),
    ("the job is another one", {"job_id": "job-2"}, Reason.WRONG_JOB),
    ("the client is another one", {"client": BOB}, Reason.WRONG_CLIENT),
    ("the lock has no such task", {"task": 1}, Reason.UNKNOWN_TASK),
    ("the price is more than the escrow", {"price": 6 * AIT}, Reason.PRICE_ABOVE_ESCROW),
]


@pytest.mark.parametrize(("story", "change", "reason"), WRONG_CLAIMS, ids=[row[0] for row in WRONG_CLAIMS])
def test_a_wrong_claim_fails_with_its_own_reason_and_costs_the_fee(
    chain: Chain, story: str, change: dict[str, Any], reason: Reason
) -> None:
    lock = chain.lock(amount=5 * AIT)
    change = dict(change)
    provider = change.pop("provider", PROVIDER)
    attester, forge = change.pop("attester", None), change.pop("forge", False)
    payload, witness = chain.claim_parts(provider, change.pop("lock", lock), **change)
    if attester is not None:
        witness["sig"] = attester.sign(bytes(32)).hex()
    if forge:
        payload["miner_sig"] = EVE.sign(bytes(32)).hex()
    before = {who: chain.balance(who) for who in (ALICE, BOB, PROVIDER, HUB)}
    outcome = chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness)
    assert (outcome.ok, outcome.reason) == (False, reason), outcome.message
    after = {who: chain.balance(who) for who in (ALICE, BOB, PROVIDER, HUB)}
    assert after == {**before, BOB: before[BOB] - FEE}


def test_a_claim_twice_and_a_second_receipt_for_a_paid_task(chain: Chain) -> None:
    lock = chain.lock(tasks=2)
    payload, witness = chain.claim_parts(PROVIDER, lock)
    assert chain.do(HUB, "RECEIPT_CLAIM", payload, witness=witness).ok
    again = chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness)
    assert (again.ok, again.reason) == (False, Reason.RECEIPT_ALREADY_CLAIMED)
    other, witness = chain.claim_parts(PROVIDER, lock, nonce="11" * 16)
    second = chain.do(BOB, "RECEIPT_CLAIM", other, witness=witness)
    assert (second.ok, second.reason) == (False, Reason.TASK_ALREADY_PAID)


def test_a_claim_after_its_time(chain: Chain) -> None:
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    late = chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness, after_ms=121_000)
    assert (late.ok, late.reason) == (False, Reason.CLAIM_TOO_LATE)


INVALID_CLAIMS: list[tuple[str, dict[str, Any], Reason]] = [
    ("more units than attested", {"attested": {"units": 1_999}}, Reason.UNITS_ABOVE_ATTESTED),
    ("fewer units than attested", {"attested": {"units": 2_001}}, Reason.ATTESTATION_MISMATCH),
    ("another price than attested", {"attested": {"price": 1}}, Reason.ATTESTATION_MISMATCH),
    (
        "another output than attested",
        {"attested": {"output_hash": "sha256:" + "00" * 32}},
        Reason.ATTESTATION_MISMATCH,
    ),
    ("synthetic, but with a lock", {"routed": "synthetic"}, Reason.ATTESTATION_MISMATCH),
]


@pytest.mark.parametrize(
    ("story", "change", "reason"), INVALID_CLAIMS, ids=[row[0] for row in INVALID_CLAIMS]
)
def test_a_claim_that_contradicts_its_attestation_is_invalid(
    chain: Chain, story: str, change: dict[str, Any], reason: Reason
) -> None:
    payload, witness = chain.claim_parts(PROVIDER, chain.lock(), **change)
    with pytest.raises(Rejected) as caught:
        chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness)
    assert caught.value.reason == reason


def test_a_claim_without_attestation_or_with_another_id_is_invalid(chain: Chain) -> None:
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    with pytest.raises(Rejected) as caught:
        chain.do(BOB, "RECEIPT_CLAIM", payload)
    assert caught.value.reason == Reason.ATTESTATION_MISSING
    with pytest.raises(Rejected) as caught:
        chain.do(BOB, "RECEIPT_CLAIM", {**payload, "compute_units": 2_001}, witness=witness)
    assert caught.value.reason == Reason.RECEIPT_ID_MISMATCH


def test_only_routed_work_of_listed_hubs_mints() -> None:
    cases = [({}, "random", 2 * AIT), ({}, "chosen", 0), ({"hubs": []}, "random", 0)]
    for params, routed, minted in cases:
        chain = Chain(genesis(**params))
        if params:
            assert chain.do(HUB, "REGISTER", {"role": "hub", "models": []}).ok
            assert chain.do(ALICE, "TRANSFER", {"to": PROVIDER.address, "amount": AIT}).ok
            assert chain.do(PROVIDER, "REGISTER", {"role": "provider", "models": []}).ok
        else:
            chain.register(PROVIDER)
        payload, witness = chain.claim_parts(PROVIDER, chain.lock(), routed=routed)
        outcome = chain.do(HUB, "RECEIPT_CLAIM", payload, witness=witness)
        assert outcome.ok
        provider_mint = [e[2] for e in outcome.events if e[:2] == ("minted", PROVIDER.address)]
        assert sum(provider_mint) == minted, (params, routed)


def test_the_price_caps_the_mint_where_the_cap_is_on() -> None:
    chain = Chain(genesis(mint_price_cap_bp=5_000))
    chain.register(PROVIDER)
    payload, witness = chain.claim_parts(PROVIDER, chain.lock(), price=AIT)
    outcome = chain.do(HUB, "RECEIPT_CLAIM", payload, witness=witness)
    assert ("minted", PROVIDER.address, AIT // 2) in outcome.events


def test_a_mint_is_never_more_than_a_signed_number_can_say() -> None:
    """Otherwise the receipt's record could not be read again after a restart."""
    chain = Chain(genesis(mint_per_unit=10_000))
    chain.register(PROVIDER)
    payload, witness = chain.claim_parts(
        PROVIDER, "", hub=SYNTHETIC, routed="synthetic", job_id="7", compute_units=10**12, attempt=0
    )
    assert chain.do(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness).ok
    record = chain.executor.state.get("receipts", payload["receipt_id"])
    assert record is not None and record_from_bytes("receipts", "rcpt_", record_bytes(record)) == record
    assert isinstance(record, ReceiptRecord) and record.minted == MAX_SIGNED


def test_free_jobs_mint_nothing(chain: Chain) -> None:
    payload, witness = chain.claim_parts(PROVIDER, chain.lock(), price=0)
    outcome = chain.do(HUB, "RECEIPT_CLAIM", payload, witness=witness)
    assert outcome.ok
    assert [kind for kind, _, _ in outcome.events] == ["paid", "returned"]


def synthetic(chain: Chain, job_id: str) -> Any:
    payload, witness = chain.claim_parts(
        PROVIDER, "", hub=SYNTHETIC, routed="synthetic", job_id=job_id, attempt=0, nonce="", details_hash=""
    )
    return chain.do(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness)


def test_synthetic_jobs_mint_once_on_a_devnet(chain: Chain) -> None:
    assert synthetic(chain, "job_42").ok
    assert chain.balance(PROVIDER) == 2 * AIT - FEE
    again = synthetic(chain, "42")
    assert (again.ok, again.reason) == (False, Reason.TASK_ALREADY_PAID)
    assert synthetic(chain, "job_1000001").reason == Reason.UNKNOWN_SYNTHETIC_JOB


def test_synthetic_jobs_are_impossible_elsewhere() -> None:
    chain = Chain(genesis(devnet=0, faucet="", synthetic_attester=""))
    chain.register(PROVIDER)
    assert chain.do(ALICE, "TRANSFER", {"to": PROVIDER.address, "amount": AIT}).ok
    outcome = synthetic(chain, "job_42")
    assert (outcome.ok, outcome.reason) == (False, Reason.SYNTHETIC_NOT_ALLOWED)


def test_fees_are_half_burned_and_half_the_proposers(chain: Chain) -> None:
    before = chain.supply()
    assert chain.do(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, fee=1_001).ok
    assert chain.balance(VALIDATOR) == 501
    assert before - chain.supply() == 500
