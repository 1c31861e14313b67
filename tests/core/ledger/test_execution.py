"""Invalid or failed: what may be in a block, what it costs, and the supply that never drifts."""

import random
from typing import Any

import msgspec
import pytest

from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.types.amounts import AIT, MAX_SIGNED
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import Transaction
from support.chain import Chain, fresh_root, genesis
from support.people import ALICE, BOB, EVE, FAUCET, HUB, PROVIDER

PAY_BOB = {"to": BOB.address, "amount": AIT}

INVALID: list[tuple[str, dict[str, Any], Reason]] = [
    ("nonce used already", {"nonce": 0 + 2}, Reason.BAD_NONCE),
    ("fee below the minimum", {"fee": 1}, Reason.FEE_TOO_LOW),
    ("fee nobody can pay", {"fee": 2_000 * AIT}, Reason.FEE_NOT_COVERED),
]


@pytest.mark.parametrize(("story", "change", "reason"), INVALID, ids=[row[0] for row in INVALID])
def test_an_invalid_transaction_leaves_no_trace(story: str, change: dict[str, Any], reason: Reason) -> None:
    chain = Chain()
    root = chain.executor.state.root()
    built = chain.block(chain.verified(ALICE, "TRANSFER", PAY_BOB, **change))
    assert [refusal.reason for _, refusal in built.refused] == [reason]
    assert built.outcomes == []
    assert chain.executor.state.root() == root
    assert chain.nonce(ALICE) == 0


def test_a_failed_transaction_spends_nonce_and_fee_and_nothing_else() -> None:
    chain = Chain()
    outcome = chain.do(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1_000 * AIT})
    assert (outcome.ok, outcome.reason, outcome.events) == (False, Reason.INSUFFICIENT_BALANCE, [])
    assert (chain.balance(ALICE), chain.nonce(ALICE)) == (1_000 * AIT - 100, 1)
    assert chain.balance(BOB) == 1_000 * AIT


def test_a_key_that_is_not_the_senders() -> None:
    chain = Chain()
    stolen = msgspec.structs.replace(chain.sign(EVE, "TRANSFER", PAY_BOB), sender=ALICE.address, sig=b"")
    from aitbc.core.codec.digests import transaction_id

    signed = msgspec.structs.replace(stolen, sig=EVE.sign(transaction_id(stolen, chain.genesis_hash)))
    built = chain.block(verify_transaction(signed, chain.genesis_hash))
    assert built.refused[0][1].reason == Reason.WRONG_KEY


def altered(tx: Transaction, **change: Any) -> Transaction:
    return msgspec.structs.replace(tx, **change)


def test_what_a_stranger_can_send_is_refused_by_name() -> None:
    chain = Chain()
    good = chain.sign(ALICE, "TRANSFER", PAY_BOB)
    cases = [
        (altered(good, type="MINT_ME"), Reason.UNKNOWN_TYPE),
        (altered(good, sender="bob"), Reason.BAD_ADDRESS),
        (altered(good, nonce=0), Reason.OUT_OF_RANGE),
        (altered(good, fee=MAX_SIGNED + 1), Reason.OUT_OF_RANGE),
        (altered(good, pubkey=b""), Reason.PUBKEY_REQUIRED),
        (altered(good, pubkey=b"\x07" + bytes(32)), Reason.UNKNOWN_SCHEME),
        (altered(good, pubkey=b"\x00" + bytes(31)), Reason.OUT_OF_RANGE),
        (altered(good, sig=good.sig[:-1] + bytes([good.sig[-1] ^ 1])), Reason.BAD_SIGNATURE),
        (altered(good, sig=good.sig[:63]), Reason.BAD_SIGNATURE),
        (altered(good, fee=101), Reason.BAD_SIGNATURE),
        (altered(good, payload=b"{}"), Reason.MISSING_FIELD),
        (altered(good, payload=b'{"amount":1.5,"to":"%s"}' % BOB.address.encode()), Reason.FLOAT),
        (altered(good, payload=b'{"to":"%s","amount":1}' % BOB.address.encode()), Reason.NOT_CANONICAL),
        (altered(good, payload=b'{"amount":1,"amount":1,"to":"x"}'), Reason.NOT_CANONICAL),
        (
            altered(good, payload=b'{"amount":1,"data":"","to":"%s"}' % BOB.address.encode()),
            Reason.NOT_CANONICAL,
        ),
        (altered(good, payload=b'{"amount":0,"to":"%s"}' % BOB.address.encode()), Reason.OUT_OF_RANGE),
        (altered(good, payload=b'{"amount":9007199254740992,"to":"x"}'), Reason.OUT_OF_RANGE),
        (altered(good, payload=b'{"amount":1,"to":"x","memo":"y"}'), Reason.UNKNOWN_FIELD),
        (altered(good, payload=b'{"amount":1,"to":"x"}'), Reason.BAD_ADDRESS),
        (altered(good, payload=b'{"amount":"1","to":"x"}'), Reason.WRONG_TYPE),
        (altered(good, payload=b"[" * 10_000), Reason.WRONG_TYPE),
        (altered(good, payload=b"\xff"), Reason.MALFORMED),
        (altered(good, payload=b" " * 20_000), Reason.TOO_LARGE),
        (altered(good, witness=b"{}"), Reason.UNEXPECTED_WITNESS),
    ]
    for tx, reason in cases:
        with pytest.raises(Rejected) as caught:
            verify_transaction(tx, chain.genesis_hash)
        assert caught.value.reason == reason, (tx, caught.value)


def test_another_chains_signature_is_no_good_here() -> None:
    here, there = Chain(), Chain(genesis(base_fee=3))
    with pytest.raises(Rejected) as caught:
        verify_transaction(there.sign(ALICE, "TRANSFER", PAY_BOB), here.genesis_hash)
    assert caught.value.reason == Reason.BAD_SIGNATURE


def test_the_faucet_exists_on_a_devnet_only_and_for_its_key_only() -> None:
    devnet, mainnet = Chain(), Chain(genesis(devnet=0, faucet="", synthetic_attester=""))
    wish = {"to": EVE.address, "amount": AIT}
    assert devnet.do(FAUCET, "FAUCET", wish, fee=0).ok
    assert devnet.balance(EVE) == AIT
    assert devnet.do(ALICE, "FAUCET", wish).reason == Reason.NOT_FAUCET
    assert devnet.do(FAUCET, "FAUCET", {**wish, "amount": 1_001 * AIT}, fee=0).reason == Reason.FAUCET_LIMIT
    assert mainnet.do(ALICE, "FAUCET", wish).reason == Reason.NOT_DEVNET


def test_a_free_registration_needs_a_listed_hubs_word() -> None:
    chain = Chain()
    with pytest.raises(Rejected) as caught:
        chain.do(PROVIDER, "REGISTER", {"role": "provider", "models": []}, fee=0)
    assert caught.value.reason == Reason.FEE_TOO_LOW
    chain.register(PROVIDER)
    with pytest.raises(Rejected) as caught:
        chain.register(PROVIDER)
    assert caught.value.reason == Reason.FEE_TOO_LOW, "only the first one is free"


def test_random_transactions_never_make_or_lose_a_coin() -> None:
    """Valid and wrong transactions in random order; supply and root are recounted from scratch after each block."""
    rng = random.Random(7)
    chain = Chain()
    chain.register(PROVIDER)
    locks: list[str] = []
    people = (ALICE, BOB, HUB, PROVIDER, EVE)
    for _ in range(120):
        who = rng.choice(people)
        kind = rng.choice(["TRANSFER", "JOB_LOCK", "RECEIPT_CLAIM", "REFUND", "FAUCET"])
        payload, witness = random_payload(chain, rng, kind, locks)
        fee = rng.choice([0, 50, 100, 100, 100, 5_000 * AIT])
        signer = FAUCET if kind == "FAUCET" and rng.random() < 0.8 else who
        tx = chain.verified(signer, kind, payload, fee=fee, witness=witness)
        built = chain.block(tx, after_ms=rng.choice([1_000, 30_000, 100_000]))
        if kind == "JOB_LOCK" and built.outcomes and built.outcomes[0].ok:
            locks.append(tx.id.hex())
        assert chain.executor.head.block.header.state_root == fresh_root(chain)


def random_payload(
    chain: Chain, rng: random.Random, kind: str, locks: list[str]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    match kind:
        case "TRANSFER":
            return {
                "to": rng.choice((ALICE, BOB, EVE)).address,
                "amount": rng.choice([1, AIT, 2_000 * AIT]),
            }, None
        case "FAUCET":
            return {"to": EVE.address, "amount": rng.choice([1, AIT, 2_000 * AIT])}, None
        case "REFUND":
            return {"lock": rng.choice([*locks, "00" * 32])}, None
        case "JOB_LOCK":
            return {
                "hub": rng.choice([HUB.address, EVE.address]),
                "job_id": "job-1",
                "amount": rng.choice([1, 5 * AIT, 9_000 * AIT]),
                "request_hash": "sha256:" + "00" * 32,
                "deliver_by_ms": chain.now_ms + 60_000,
                "claim_until_ms": chain.now_ms + rng.choice([60_000, 120_000]),
                "tasks": rng.choice([2, 3]),
            }, None
    client = rng.choice((ALICE, BOB))
    return chain.claim_parts(
        PROVIDER,
        rng.choice([*locks, "00" * 32]),
        client=client,
        task=rng.choice([0, 1, 2]),
        price=rng.choice([0, AIT]),
    )
