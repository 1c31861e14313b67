"""The witness is not signed by the sender: what is wrong with it costs the sender nothing, and what it takes to check
is paid for. docs/spec/execution.md, step 3; docs/spec/fees.md, the other keys; docs/spec/registry.md"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import compute_for_digest, countersignature_digest
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.ledger.fees import required_fee, signature_fee
from aitbc.core.ledger.params import Params
from aitbc.core.types.amounts import AIT
from support.ledger import FEE, Ledger
from support.other_keys import multisig_key
from support.people import ALICE, BOB, EVE, FAUCET, HUB, PROVIDER, SYNTHETIC, VALIDATOR, KeySigner, person

Parts = tuple[str, dict[str, Any], dict[str, Any] | None]
"""Type, payload, witness."""
HEAVY = multisig_key("heavy")
DEAR = signature_fee(Params(), HEAVY.auth_key)
NEW = {"role": "provider", "models": []}


def market(**params: Any) -> Ledger:
    chain = Ledger(more=[PROVIDER, EVE], **params)
    chain.register(PROVIDER)
    return chain


# Whoever passes a transaction on can put another witness there.


def spoiled_attestation(chain: Ledger) -> Parts:
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    return "RECEIPT_CLAIM", payload, {**witness, "sig": "00" * 64}


def attestation_of_a_stranger(chain: Ledger) -> Parts:
    """Whose key nobody knows, and who offers none."""
    return "RECEIPT_CLAIM", *chain.claim_parts(PROVIDER, chain.lock(), hub=person("stranger"))


def receipt_that_the_provider_did_not_sign(chain: Ledger) -> Parts:
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    return "RECEIPT_CLAIM", {**payload, "miner_sig": payload["miner_sig"][::-1]}, witness


def claim_from_no_lock_with_a_spoiled_attestation(chain: Ledger) -> Parts:
    payload, witness = chain.claim_parts(PROVIDER, "00" * 32)
    return "RECEIPT_CLAIM", payload, {**witness, "sig": "00" * 64}


def spoiled_word_of_a_hub(chain: Ledger) -> Parts:
    return "REGISTER", NEW, {**chain.countersignature(EVE, HUB), "sig": "00" * 64}


def word_of_a_hub_that_nobody_lists(chain: Ledger) -> Parts:
    return "REGISTER", NEW, chain.countersignature(EVE, BOB)


def spoiled_word_of_a_validator(chain: Ledger) -> Parts:
    return "REGISTER", {**NEW, "validator": VALIDATOR.address}, {"validator_sig": "00" * 64}


def missing_word_of_a_validator(chain: Ledger) -> Parts:
    return "REGISTER", {**NEW, "validator": VALIDATOR.address}, None


def hubs_word_where_the_validators_is_asked_for(chain: Ledger) -> Parts:
    """The validator is a hub, too, and signed no more than that the provider may come without coins."""
    digest = countersignature_digest(EVE.address, VALIDATOR.address, chain.genesis_hash)
    word = {"validator_sig": VALIDATOR.sign(digest).hex()}
    return "REGISTER", {**NEW, "validator": VALIDATOR.address}, word


def spoiled_approval(chain: Ledger) -> Parts:
    payload, witness = chain.update({"set": {"base_fee": 3}}, VALIDATOR)
    return "PARAM_UPDATE", payload, {**witness, "sigs": ["00" * 64]}


def spoiled_approval_of_an_update_with_another_number(chain: Ledger) -> Parts:
    payload, witness = chain.update({"set": {"base_fee": 3}, "number": 7}, VALIDATOR)
    return "PARAM_UPDATE", payload, {**witness, "sigs": ["00" * 64]}


SPOILED: list[tuple[Callable[[Ledger], Parts], str, str]] = [
    (spoiled_attestation, "bad_attestation_signature", "failed"),
    (attestation_of_a_stranger, "bad_attestation_signature", "failed wrong_hub"),
    (receipt_that_the_provider_did_not_sign, "bad_provider_signature", "failed"),
    (claim_from_no_lock_with_a_spoiled_attestation, "bad_attestation_signature", "failed unknown_lock"),
    (spoiled_word_of_a_hub, "bad_countersignature", "failed"),
    (word_of_a_hub_that_nobody_lists, "bad_countersignature", "failed"),
    (spoiled_word_of_a_validator, "bad_countersignature", "invalid not_active"),
    (missing_word_of_a_validator, "bad_countersignature", "done"),
    (hubs_word_where_the_validators_is_asked_for, "bad_countersignature", "invalid not_active"),
    (spoiled_approval, "bad_approval", "invalid not_active"),
    (spoiled_approval_of_an_update_with_another_number, "bad_approval", "invalid not_active"),
]
"""(what is sent, the reason for which it is invalid, what it was on a chain of version 1)"""


@pytest.mark.parametrize(("make", "reason", "before"), SPOILED, ids=[row[0].__name__ for row in SPOILED])
@pytest.mark.parametrize("version", [1, 2])
def test_a_witness_that_is_not_good_makes_the_transaction_invalid(
    version: int, make: Callable[[Ledger], Parts], reason: str, before: str
) -> None:
    chain = market(version=version)
    kind, payload, witness = make(chain)
    coins, nonce = chain.balance(EVE), chain.nonce(EVE)
    said = chain.said(EVE, kind, payload, witness=witness)
    if version == 1:
        assert said == (f"failed {reason}" if before == "failed" else before)
        return
    assert said == f"invalid {reason}"
    assert (chain.balance(EVE), chain.nonce(EVE)) == (coins, nonce)


def test_a_witness_is_asked_after_the_fee_and_before_the_money() -> None:
    """So nobody has signatures checked for less than the least fee."""
    chain = market()
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    spoiled = {**witness, "sig": "00" * 64}
    assert chain.said(EVE, "RECEIPT_CLAIM", payload, witness=spoiled, fee=9) == "invalid fee_too_low"
    update, approvals = chain.update({"set": {"base_fee": 3}}, VALIDATOR)
    for witness, reason in ((approvals, "fee_not_covered"), ({**approvals, "sigs": ["00"]}, "bad_approval")):
        assert chain.said(person("poor"), "PARAM_UPDATE", update, witness=witness) == f"invalid {reason}"


def test_the_first_transaction_of_a_provider_may_be_its_claim() -> None:
    """Nobody knows Paula's key before; it comes with the transaction. The seed's devnet begins like this."""
    chain = Ledger()
    payload, witness = chain.claim_parts(PROVIDER, "", hub=SYNTHETIC, routed="synthetic", job_id="7")
    assert chain.said(BOB, "RECEIPT_CLAIM", payload, witness=witness) == "invalid bad_provider_signature"
    assert chain.said(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness) == "done"
    assert chain.view.account(PROVIDER.address).auth == PROVIDER.auth_key


def test_what_is_refused_leaves_no_account_behind() -> None:
    chain = Ledger()
    root = chain.executor.state.root()
    payload, witness = chain.claim_parts(PROVIDER, "", hub=SYNTHETIC, routed="synthetic", job_id="no number")
    assert chain.said(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness) == "invalid unknown_synthetic_job"
    with_a_fee = chain.said(PROVIDER, "REGISTER", NEW)
    assert with_a_fee == "invalid fee_not_covered"
    assert chain.executor.state.root() == root


# Who names a validator.


def with_word(chain: Ledger, signer: KeySigner = VALIDATOR, validator: KeySigner = VALIDATOR) -> Parts:
    digest = compute_for_digest(EVE.address, validator.address, chain.genesis_hash)
    return (
        "REGISTER",
        {**NEW, "validator": validator.address},
        {"validator_sig": signer.sign(digest).hex()},
    )


def test_a_word_that_is_not_needed_must_be_good_as_well() -> None:
    chain = market()
    kind, payload, word = with_word(chain)
    assert chain.said(EVE, kind, payload, witness=word) == "done"
    assert chain.said(EVE, kind, payload) == "done", "once said, it holds"
    assert chain.said(EVE, kind, payload, witness=word) == "done"
    spoiled = {"validator_sig": "00" * 64}
    assert chain.said(EVE, kind, payload, witness=spoiled) == "invalid bad_countersignature"


def test_the_word_of_somebody_whom_nobody_knows_as_a_validator_is_not_looked_at() -> None:
    chain = market()
    for signer in (ALICE, BOB):
        kind, payload, word = with_word(chain, signer, ALICE)
        assert chain.said(EVE, kind, payload, witness=word) == "failed unknown_validator"


def test_a_provider_may_name_no_validator_any_more() -> None:
    chain = market()
    kind, payload, word = with_word(chain)
    assert chain.said(EVE, kind, payload, witness=word) == "done"
    assert chain.said(EVE, kind, NEW) == "done"
    registration = chain.view.registration("provider", EVE.address)
    assert registration is not None and registration.validator == ""
    assert chain.said(EVE, kind, payload) == "invalid bad_countersignature", "to come back takes a word again"


# What costs nothing must be worth nothing to whoever fails on purpose.


def test_a_free_registration_that_fails_is_invalid_and_one_that_is_paid_for_fails() -> None:
    chain = market()
    for fee, outcome in ((0, "invalid unknown_validator"), (FEE, "failed unknown_validator")):
        nonce = chain.nonce(EVE)
        witness = chain.countersignature(EVE, HUB)
        said = chain.said(EVE, "REGISTER", {**NEW, "validator": ALICE.address}, witness=witness, fee=fee)
        assert (said, chain.nonce(EVE) - nonce) == (outcome, int(fee > 0))


@pytest.mark.parametrize(("version", "outcome"), [(1, "failed faucet_limit"), (2, "invalid faucet_limit")])
def test_a_free_faucet_that_gives_too_much(version: int, outcome: str) -> None:
    chain = Ledger(version=version)
    wish = {"to": BOB.address, "amount": 1_001 * AIT}
    assert chain.said(FAUCET, "FAUCET", wish, fee=0) == outcome
    assert chain.nonce(FAUCET) == int(version == 1)


# Every verification is paid for.


def heavy_claim(chain: Ledger) -> Parts:
    """Provider and hub both."""
    provider, hub = chain.rotate(PROVIDER, HEAVY), chain.rotate(HUB, HEAVY)
    return "RECEIPT_CLAIM", *chain.claim_parts(provider, chain.lock(), hub=hub)  # type: ignore[arg-type]


def claim_from_a_lock_of_lighter_days(chain: Ledger) -> Parts:
    lock = chain.lock()
    for who in (PROVIDER, HUB):
        chain.rotate(who, HEAVY)
    return "RECEIPT_CLAIM", *chain.claim_parts(PROVIDER, lock)


def offered(chain: Ledger) -> Parts:
    """A listed hub that has sent nothing yet."""
    payload, witness = chain.claim_parts(
        PROVIDER,
        chain.lock(hub=HEAVY.address),
        hub=HEAVY,  # type: ignore[arg-type]
    )
    return "RECEIPT_CLAIM", payload, {**witness, "pubkey": key_to_text(HEAVY.auth_key)}


def heavy_word(chain: Ledger) -> Parts:
    word = chain.countersignature(EVE, chain.rotate(HUB, HEAVY))  # type: ignore[arg-type]
    return "REGISTER", {**NEW, "role": "hub"}, word


def offered_word(chain: Ledger) -> Parts:
    word = chain.countersignature(EVE, HEAVY)  # type: ignore[arg-type]
    return "REGISTER", {**NEW, "role": "hub"}, {**word, "pubkey": key_to_text(HEAVY.auth_key)}


def heavy_rotation(chain: Ledger) -> Parts:
    return "KEY_ROTATE", chain.rotation(EVE, HEAVY), None


def attested_twice(chain: Ledger, hub: Any, **more: str) -> Parts:
    """Evidence of two prices for one attempt; `more` goes with the second."""
    lock = chain.lock()
    both = [chain.claim_parts(PROVIDER, lock, hub=hub, price=price)[1] for price in (0, 1)]
    first, second = sorted(both, key=lambda one: one["attestation"]["receipt_id"])
    return "EVIDENCE", {"attestations": {"first": first, "second": {**second, **more}}}, None


def heavy_evidence(chain: Ledger) -> Parts:
    return attested_twice(chain, chain.rotate(HUB, HEAVY))


def forged_with_a_heavy_key(chain: Ledger) -> Parts:
    """Whether its signature is good is to be found out."""
    return "EVIDENCE", chain.bad_block(VALIDATOR, chain.forged(HEAVY)), None


def forged_with_no_key(chain: Ledger) -> Parts:
    tx = msgspec.structs.replace(chain.forged(HEAVY), pubkey=b"\x09" + bytes(32))
    return "EVIDENCE", chain.bad_block(VALIDATOR, tx), None


ASKING: list[tuple[Callable[[Ledger], Parts], int]] = [
    (heavy_claim, 2),
    (claim_from_a_lock_of_lighter_days, 0),
    (offered, 1),
    (heavy_word, 1),
    (offered_word, 1),
    (heavy_rotation, 1),
    (heavy_evidence, 2),
    (forged_with_a_heavy_key, 1),
    (forged_with_no_key, 0),
]


@pytest.mark.parametrize(("make", "heavy"), ASKING, ids=[row[0].__name__ for row in ASKING])
def test_every_other_key_that_is_asked_for_costs_what_it_costs_its_owner(
    make: Callable[[Ledger], Parts], heavy: int
) -> None:
    chain = market(hubs=[HUB.address, HEAVY.address])
    kind, payload, witness = make(chain)
    least = required_fee(chain.executor.state.params, len(jcs(payload)), EVE.auth_key) + heavy * DEAR
    assert chain.said(EVE, kind, payload, witness=witness, fee=least - 1) == "invalid fee_too_low"
    assert chain.said(EVE, kind, payload, witness=witness, fee=least) == "done"


def test_evidence_about_no_lock_asks_for_no_key() -> None:
    chain = market()
    kind, payload, _ = heavy_evidence(chain)
    for signed in payload["attestations"].values():
        signed["attestation"]["lock"] = "00" * 32
    least = required_fee(chain.executor.state.params, len(jcs(payload)), EVE.auth_key)
    assert chain.said(EVE, kind, payload, fee=least) == "failed unknown_lock"


# Keys that are offered.


def claim_offering(chain: Ledger, text: str) -> Parts:
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    return "RECEIPT_CLAIM", payload, {**witness, "pubkey": text}


def word_offering(chain: Ledger, text: str) -> Parts:
    return "REGISTER", NEW, {**chain.countersignature(EVE, HUB), "pubkey": text}


def evidence_offering(chain: Ledger, text: str) -> Parts:
    return attested_twice(chain, HUB, pubkey=text)


OFFERS = [
    (key_to_text(HUB.auth_key), "done"),
    (key_to_text(EVE.auth_key), "invalid wrong_key"),
    (key_to_text(HEAVY.auth_key), "invalid wrong_key"),
    ("buy at mallory's", "invalid bad_hex"),
    ("00" * 31, "invalid bad_hex"),
    ("mallory:00", "invalid unknown_scheme"),
]


@pytest.mark.parametrize(("text", "outcome"), OFFERS, ids=[f"{row[0]}"[:20] for row in OFFERS])
@pytest.mark.parametrize("make", [claim_offering, word_offering, evidence_offering])
def test_an_offered_key_makes_the_address_that_it_is_offered_for(
    make: Callable[[Ledger, str], Parts], text: str, outcome: str
) -> None:
    """Also where nobody needs it: what a witness carries beside is no place for advertisement."""
    chain = market()
    kind, payload, witness = make(chain, text)
    assert chain.said(EVE, kind, payload, witness=witness, fee=1_000) == outcome
