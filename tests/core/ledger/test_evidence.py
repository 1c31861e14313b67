"""Who signs two things that contradict each other is slashed and jailed; nobody else is. docs/spec/evidence.md"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import attestation_digest, offence_digest
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.types.amounts import AIT, BASIS_POINTS, MAX_SIGNED
from aitbc.core.types.receipts import Attestation
from aitbc.core.types.records import Offence
from support.chain import OUTPUT
from support.ledger import FEE, MINUTE_MS, Batches, Ledger, Work, holding, people
from support.ledger import A as LOW
from support.ledger import B as HIGH
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, VALIDATOR, person

LENGTH = 5
JAIL_MS = 10 * MINUTE_MS
STAKE = 100 * AIT
UNSIGNED = "failed bad_evidence_signature"


@pytest.fixture
def chain() -> Ledger:
    """Viktor, the validator, has 100 AIT at stake; so has Eve, who is in no set."""
    chain = Ledger(epoch_length=LENGTH, more=[VALIDATOR, EVE], jail_ms=JAIL_MS, slash_bp=1_000)
    chain.stake(VALIDATOR, STAKE)
    chain.stake(EVE, STAKE)
    return chain


def punished(chain: Ledger, evidence: dict[str, Any], sender: Any = BOB) -> str:
    return chain.said(sender, "EVIDENCE", evidence, fee=1_000)


# Votes.


def test_what_a_double_vote_costs(chain: Ledger) -> None:
    supply = chain.supply()
    outcome = chain.do(BOB, "EVIDENCE", chain.double_vote(VALIDATOR))
    assert outcome.events == [
        ("slashed", VALIDATOR.address, STAKE // 10),
        ("jailed", VALIDATOR.address, 0),
    ]
    bond = chain.bond(VALIDATOR)
    assert (bond.amount, bond.jailed_until_ms) == (STAKE * 9 // 10, chain.now_ms + JAIL_MS)
    assert chain.supply() == supply - STAKE // 10 - FEE // 2, "burned, not given to anybody"
    mark = offence_digest("votes", VALIDATOR.address, "0").hex()
    assert chain.executor.state.get("registry", f"offence:{mark}") == Offence(
        offender=VALIDATOR.address, height=chain.height, expires_ms=0
    )


NOBODY = "00" * 32
"""What a skip vote names."""

KINDS: list[tuple[str, tuple[str, str], tuple[str, str], str]] = [
    ("E1: two notar votes", ("notar", LOW), ("notar", HIGH), "done"),
    ("E3: two final votes", ("final", LOW), ("final", HIGH), "done"),
    ("E4: two candidates", ("candidate", LOW), ("candidate", HIGH), "done"),
    ("E2: final and skip, which names no candidate", ("final", LOW), ("skip", NOBODY), "done"),
    ("a skip of another candidate", ("final", LOW), ("skip", HIGH), "invalid no_conflict"),
    ("a skip of the same candidate", ("final", LOW), ("skip", LOW), "invalid no_conflict"),
    ("a skip in front of a final", ("skip", NOBODY), ("final", LOW), "invalid no_conflict"),
    ("the same vote twice", ("notar", LOW), ("notar", LOW), "invalid no_conflict"),
    ("the higher one first", ("notar", HIGH), ("notar", LOW), "invalid no_conflict"),
    ("two skips", ("skip", LOW), ("skip", HIGH), "invalid no_conflict"),
    ("skip and final", ("skip", LOW), ("final", HIGH), "invalid no_conflict"),
    ("notar and skip", ("notar", LOW), ("skip", HIGH), "invalid no_conflict"),
    ("notar and final", ("notar", LOW), ("final", HIGH), "invalid no_conflict"),
    ("candidate and notar", ("candidate", LOW), ("notar", HIGH), "invalid no_conflict"),
    ("candidate and final", ("candidate", LOW), ("final", HIGH), "invalid no_conflict"),
    ("a vote that does not exist", ("commit", LOW), ("commit", HIGH), "invalid wrong_type"),
]


@pytest.mark.parametrize(("story", "first", "second", "outcome"), KINDS, ids=[row[0] for row in KINDS])
def test_which_votes_contradict_each_other(
    chain: Ledger, story: str, first: tuple[str, str], second: tuple[str, str], outcome: str
) -> None:
    evidence = chain.double_vote(VALIDATOR)
    evidence["votes"].update(
        {"first": chain.vote(VALIDATOR, *first), "second": chain.vote(VALIDATOR, *second)}
    )
    assert punished(chain, evidence) == outcome
    assert (chain.bond(VALIDATOR).jailed_until_ms > 0) == (outcome == "done")


def with_vote(chain: Ledger, which: str, who: Any = VALIDATOR, **other: Any) -> dict[str, Any]:
    """Evidence in which one vote is another than it says."""
    evidence = chain.double_vote(VALIDATOR)
    said = evidence["votes"][which]
    kind = other.pop("kind", said["kind"])
    evidence["votes"][which] = {**chain.vote(who, kind, said["candidate"], **other), "kind": said["kind"]}
    return evidence


def vote_changed(chain: Ledger, which: str, **change: Any) -> dict[str, Any]:
    evidence = chain.double_vote(VALIDATOR)
    evidence["votes"][which].update(change)
    return evidence


def about(chain: Ledger, **change: Any) -> dict[str, Any]:
    evidence = chain.double_vote(VALIDATOR)
    evidence["votes"].update(change)
    return evidence


def half_a_pair(chain: Ledger) -> dict[str, Any]:
    votes = chain.double_vote(VALIDATOR)["votes"]
    return {"votes": {name: votes[name] for name in votes if name != "second"}}


NEAR_MISSES: list[tuple[str, Callable[[Ledger], dict[str, Any]], str]] = [
    ("one vote is Eve's", lambda c: with_vote(c, "second", EVE), UNSIGNED),
    ("both are Eve's", lambda c: about(c, validator=EVE.address), UNSIGNED),
    ("one is of another slot", lambda c: with_vote(c, "first", slot=8), UNSIGNED),
    ("one is of another epoch", lambda c: with_vote(c, "first", epoch=1), UNSIGNED),
    ("one is of another kind", lambda c: with_vote(c, "first", kind="skip"), UNSIGNED),
    ("one is of another chain", lambda c: with_vote(c, "first", chain_id="ait-other"), UNSIGNED),
    ("one is of a reset chain", lambda c: with_vote(c, "second", genesis_hash=bytes(32)), UNSIGNED),
    ("another slot is named", lambda c: about(c, slot=8), UNSIGNED),
    ("an epoch to come is named", lambda c: about(c, epoch=1), "failed evidence_too_old"),
    ("another candidate is named", lambda c: vote_changed(c, "second", candidate="cc" * 32), UNSIGNED),
    ("a signature is missing", lambda c: vote_changed(c, "second", sig=""), UNSIGNED),
    ("a signature is too long", lambda c: vote_changed(c, "first", sig="ab" * 65), UNSIGNED),
    ("a signature is no number", lambda c: vote_changed(c, "first", sig="signed"), "invalid bad_hex"),
    ("a candidate is no hash", lambda c: vote_changed(c, "second", candidate="bb"), "invalid wrong_type"),
    ("nobody is named", lambda c: about(c, validator=""), "invalid bad_address"),
    ("a stranger is named", lambda c: c.double_vote(person("stranger")), "failed unknown_validator"),
    ("a client is named", lambda c: c.double_vote(ALICE), "failed unknown_validator"),
    ("a negative slot", lambda c: about(c, slot=-1), "invalid out_of_range"),
    ("no evidence", lambda c: {}, "invalid missing_field"),
    ("half a pair", half_a_pair, "invalid missing_field"),
]  # fmt: skip


@pytest.mark.parametrize(("story", "make", "outcome"), NEAR_MISSES, ids=[row[0] for row in NEAR_MISSES])
def test_nobody_is_punished_for_what_it_did_not_sign(
    chain: Ledger, story: str, make: Callable[[Ledger], dict[str, Any]], outcome: str
) -> None:
    before = {who.address: chain.bond(who) for who in (VALIDATOR, EVE, ALICE)}
    assert punished(chain, make(chain)) == outcome
    assert {who.address: chain.bond(who) for who in (VALIDATOR, EVE, ALICE)} == before


def test_both_kinds_of_evidence_at_once_are_none(chain: Ledger) -> None:
    chain.register(PROVIDER)
    pair = attested_twice(chain, chain.lock())
    assert punished(chain, {**pair, **chain.double_vote(VALIDATOR)}) == "invalid missing_field"


def test_once_for_an_epoch(chain: Ledger) -> None:
    assert punished(chain, chain.double_vote(VALIDATOR)) == "done"
    assert punished(chain, chain.double_vote(VALIDATOR)) == "failed already_punished"
    assert punished(chain, chain.double_vote(VALIDATOR, slot=8)) == "failed already_punished"
    chain.close_epoch()
    assert punished(chain, chain.double_vote(VALIDATOR, epoch=1)) == "done"
    assert chain.bond(VALIDATOR).amount == STAKE * 81 // 100


def test_a_longer_sentence_is_not_shortened_by_a_later_one(chain: Ledger) -> None:
    assert punished(chain, chain.double_vote(VALIDATOR)) == "done"
    until_ms = chain.bond(VALIDATOR).jailed_until_ms
    assert chain.change(set={"jail_ms": 0}) == "done"
    chain.close_epoch()
    assert punished(chain, chain.double_vote(VALIDATOR, epoch=1)) == "done"
    assert chain.bond(VALIDATOR).jailed_until_ms == until_ms


@pytest.mark.parametrize(("epochs", "outcome"), [(3, "done"), (4, "failed evidence_too_old")])
def test_how_far_back_votes_are_punished(epochs: int, outcome: str) -> None:
    chain = Ledger(epoch_length=LENGTH, more=[VALIDATOR], evidence_epochs=3)
    chain.stake(VALIDATOR, STAKE)
    for _ in range(epochs):
        chain.close_epoch()
    assert punished(chain, chain.double_vote(VALIDATOR)) == outcome


def test_an_authority_without_stake_is_jailed_all_the_same() -> None:
    """Two authorities, neither of which has ever sent a transaction; their keys are those of genesis."""
    two = people("authority", 2)
    chain = Ledger(authorities=two, epoch_length=LENGTH, jail_ms=JAIL_MS)
    outcome = chain.do(BOB, "EVIDENCE", chain.double_vote(two[0]))
    assert outcome.events == [("slashed", two[0].address, 0), ("jailed", two[0].address, 0)]
    assert len(chain.validators()) == 2, "until the boundary"
    chain.close_epoch()
    assert chain.validators() == [(two[1].address, 1)]
    chain.block(after_ms=JAIL_MS)
    chain.close_epoch()
    assert chain.validators() == [(one.address, 1) for one in two]


def test_the_last_authority_stays_in_the_set_though_it_is_jailed(chain: Ledger) -> None:
    assert punished(chain, chain.double_vote(VALIDATOR)) == "done"
    for _ in range(3):
        chain.close_epoch()
        assert chain.validators() == [(VALIDATOR.address, 1)]


def test_who_only_has_stake_answers_for_what_its_key_voted(chain: Ledger) -> None:
    """Eve is in no set, but her stake stands behind her votes: she may have been in one."""
    assert punished(chain, chain.double_vote(EVE)) == "done"
    assert chain.bond(EVE).amount == STAKE * 9 // 10


def test_who_has_taken_its_stake_out_in_time_is_nobody_any_more(chain: Ledger) -> None:
    assert chain.change(set={"unbonding_ms": MINUTE_MS}) == "done"
    chain.close_epoch()
    assert chain.do(EVE, "UNSTAKE", {"role": "validator", "amount": STAKE}).ok
    assert chain.do(EVE, "WITHDRAW", {"role": "validator"}, after_ms=MINUTE_MS).ok
    assert punished(chain, chain.double_vote(EVE)) == "failed unknown_validator"


@pytest.mark.parametrize("slash_bp", [0, 1, 500, 9_999, BASIS_POINTS])
def test_a_slash_is_rounded_down(slash_bp: int) -> None:
    chain = Ledger(more=[EVE], slash_bp=slash_bp)
    chain.stake(EVE, 12_345)
    outcome = chain.do(BOB, "EVIDENCE", chain.double_vote(EVE))
    assert outcome.events[0] == ("slashed", EVE.address, 12_345 * slash_bp // BASIS_POINTS)


def test_votes_count_under_the_key_of_their_epoch() -> None:
    """Viktor votes in epoch 0, rotates in it, and is caught in epoch 2."""
    chain = Ledger(epoch_length=LENGTH, more=[VALIDATOR])
    chain.stake(VALIDATOR, STAKE)
    evidence = chain.double_vote(VALIDATOR)
    new = person("viktor's new key")
    rotated = chain.rotate(VALIDATOR, new)
    mixed = chain.double_vote(VALIDATOR)
    mixed["votes"]["second"] = chain.vote(rotated, "notar", HIGH)
    chain.close_epoch()
    chain.close_epoch()
    assert chain.executor.state.get("validators", VALIDATOR.address).auth_key == key_to_text(new.auth_key)  # type: ignore[union-attr]
    later = chain.double_vote(rotated, epoch=2)
    assert punished(chain, later) == "done"
    assert punished(chain, evidence) == "done"
    assert punished(chain, mixed) == "failed already_punished"


def test_a_key_that_came_later_did_not_vote_then() -> None:
    """Mallory, who holds Viktor's old key of another life, cannot frame him: it was never his in that epoch."""
    chain = Ledger(epoch_length=LENGTH, more=[EVE])
    chain.stake(EVE, STAKE)
    for _ in range(2):
        chain.close_epoch()
    eve = chain.rotate(EVE, person("new"))
    assert punished(chain, chain.double_vote(eve, epoch=0)) == UNSIGNED
    assert punished(chain, chain.double_vote(EVE, epoch=0)) == "done"


def test_the_accused_may_send_the_evidence_itself(chain: Ledger) -> None:
    assert punished(chain, chain.double_vote(EVE), sender=EVE) == "done"


# Attestations.


def attestation(chain: Ledger, lock: str, *, hub: Any = HUB, **fields: Any) -> dict[str, Any]:
    """A signed attestation; `signer` and `pubkey` among the fields make it another's."""
    signer, pubkey = fields.pop("signer", hub), fields.pop("pubkey", "")
    said = Attestation(
        **{
            "receipt_id": "rcpt_" + LOW,
            "lock": lock,
            "job_id": "job-1",
            "hub": hub.address,
            "client": ALICE.address,
            "provider": PROVIDER.address,
            "task": 0,
            "attempt": 1,
            "units": 1,
            "price": 1,
            "output_hash": OUTPUT,
            "routed": "random",
            **fields,
        }
    )
    sig = signer.sign(attestation_digest(said, chain.genesis_hash)).hex()
    signed = {"attestation": msgspec.json.decode(jcs(said)), "sig": sig}
    return {**signed, "pubkey": pubkey} if pubkey else signed


def attested_twice(chain: Ledger, lock: str, *, first: Any = None, second: Any = None) -> dict[str, Any]:
    return {
        "attestations": {
            "first": attestation(chain, lock, **(first or {})),
            "second": attestation(chain, lock, **{"receipt_id": "rcpt_" + HIGH, **(second or {})}),
        }
    }


@pytest.fixture
def market() -> Ledger:
    chain = Ledger(epoch_length=LENGTH, jail_ms=JAIL_MS, slash_bp=1_000, more=[EVE])
    chain.register(PROVIDER)
    chain.stake(HUB, 5 * AIT, "hub")
    return chain


def test_what_two_attestations_of_one_attempt_cost_a_hub(market: Ledger) -> None:
    lock = market.lock()
    record = market.view.lock(lock)
    assert record is not None
    outcome = market.do(BOB, "EVIDENCE", attested_twice(market, lock), fee=1_000)
    assert outcome.events == [("slashed", HUB.address, AIT // 2), ("jailed", HUB.address, 0)]
    bond = market.bond(HUB, "hub")
    assert (bond.amount, bond.jailed_until_ms) == (45 * AIT // 10, market.now_ms + JAIL_MS)
    mark = offence_digest("attestations", HUB.address, lock, "0", "1").hex()
    assert market.executor.state.get("registry", f"offence:{mark}") == Offence(
        offender=HUB.address, height=market.height, expires_ms=record.claim_until_ms
    )


EVES_KEY = key_to_text(EVE.auth_key)

PAIRS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("two receipts of one attempt", {}, {}, "done"),
    ("also of other units and prices", {}, {"units": 9, "price": 9}, "done"),
    ("also of other people", {}, {"client": BOB.address, "provider": EVE.address}, "done"),
    ("one chosen, one drawn", {"routed": "chosen"}, {}, "done"),
    ("one receipt, told twice", {}, {"receipt_id": "rcpt_" + LOW}, "invalid no_conflict"),
    ("one receipt, told differently", {}, {"receipt_id": "rcpt_" + LOW, "units": 2}, "invalid no_conflict"),
    ("the higher one first", {"receipt_id": "rcpt_" + HIGH}, {"receipt_id": "rcpt_" + LOW}, "invalid no_conflict"),
    ("two attempts", {}, {"attempt": 2}, "invalid no_conflict"),
    ("two tasks", {}, {"task": 1}, "invalid no_conflict"),
    ("two hubs", {}, {"hub": EVE}, "invalid no_conflict"),
    ("two locks", {}, {"lock": "00" * 32}, "invalid no_conflict"),
    ("no lock", {"lock": ""}, {"lock": ""}, "invalid no_conflict"),
    ("a lock that does not exist", {"lock": "00" * 32}, {"lock": "00" * 32}, "failed unknown_lock"),
    ("of another hub's lock", {"hub": EVE}, {"hub": EVE}, "failed wrong_hub"),
    ("one is not the hub's", {}, {"signer": EVE}, UNSIGNED),
    ("the other is not the hub's", {"signer": EVE}, {}, UNSIGNED),
    ("a key is offered that nobody needs", {"pubkey": key_to_text(HUB.auth_key)}, {}, "done"),
    ("a text is offered that is no key", {"pubkey": "anything"}, {}, "invalid bad_hex"),
    ("a key is offered that is not the hub's", {"signer": EVE, "pubkey": EVES_KEY}, {}, "invalid wrong_key"),
]  # fmt: skip


@pytest.mark.parametrize(("story", "first", "second", "outcome"), PAIRS, ids=[row[0] for row in PAIRS])
def test_which_attestations_contradict_each_other(
    market: Ledger, story: str, first: dict[str, Any], second: dict[str, Any], outcome: str
) -> None:
    lock = market.lock(tasks=4)
    pair = {
        "first": attestation(market, **{"lock": lock, **first}),
        "second": attestation(market, **{"lock": lock, "receipt_id": "rcpt_" + HIGH, **second}),
    }
    assert punished(market, {"attestations": pair}) == outcome
    assert (market.bond(HUB, "hub").amount < 5 * AIT) == (outcome == "done")


@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"sig": "signed"}, "invalid bad_hex"),
        ({"sig": "AB" * 64}, "invalid bad_hex"),
        ({"sig": ""}, UNSIGNED),
        ({"sig": "ab" * 64}, UNSIGNED),
        ({"extra": 1}, "invalid unknown_field"),
        ({"attestation": {}}, "invalid missing_field"),
    ],
    ids=str,
)
def test_the_form_of_two_attestations(
    market: Ledger, which: str, change: dict[str, Any], outcome: str
) -> None:
    evidence = attested_twice(market, market.lock())
    evidence["attestations"][which].update(change)
    assert punished(market, evidence) == outcome


@pytest.mark.parametrize(("late_ms", "outcome"), [(0, "done"), (1, "failed evidence_too_old")])
def test_until_when_a_hub_is_punished(market: Ledger, late_ms: int, outcome: str) -> None:
    until_ms = market.now_ms + 90_000
    lock = market.lock(claim_until_ms=until_ms)
    evidence = attested_twice(market, lock)
    wait = until_ms - market.now_ms + late_ms
    assert market.said(BOB, "EVIDENCE", evidence, fee=1_000, after_ms=wait) == outcome


def test_each_attempt_is_an_offence_of_its_own(market: Ledger) -> None:
    lock = market.lock(tasks=4)
    for number, (task, attempt, outcome) in enumerate(
        [(0, 1, "done"), (0, 1, "failed already_punished"), (0, 2, "done"), (1, 1, "done")]
    ):
        where = {"task": task, "attempt": attempt, "units": number + 1}
        evidence = attested_twice(market, lock, first=where, second=where)
        assert punished(market, evidence) == outcome
    assert market.bond(HUB, "hub").amount == 5 * AIT * 729 // 1_000


def test_a_settled_lock_still_tells_on_its_hub(market: Ledger) -> None:
    lock = market.lock()
    assert market.claim(PROVIDER, lock).ok
    assert punished(market, attested_twice(market, lock)) == "done"


def test_a_hub_that_never_sent_anything_is_caught_by_the_key_it_offered() -> None:
    silent = person("silent hub")
    chain = Ledger(hubs=[silent.address], jail_ms=JAIL_MS)
    lock = chain.lock(hub=silent.address)
    key = key_to_text(silent.auth_key)
    blind = attested_twice(chain, lock, first={"hub": silent}, second={"hub": silent})
    assert punished(chain, blind) == UNSIGNED
    shown = attested_twice(
        chain, lock, first={"hub": silent, "pubkey": key}, second={"hub": silent, "pubkey": key}
    )
    assert punished(chain, shown) == "done"


def test_attestations_count_under_the_key_of_the_locks_height(market: Ledger) -> None:
    lock = market.lock()
    new = person("hub's new key")
    market.rotate(HUB, new)
    fresh = attested_twice(market, lock, first={"signer": new}, second={"signer": new})
    assert punished(market, fresh) == UNSIGNED
    assert punished(market, attested_twice(market, lock)) == "done"


def test_what_a_jailed_hub_may_not_do_and_what_still_works() -> None:
    """No new lock, no batch, no mint; but what is locked is claimed, settled and refunded."""
    chain = Ledger(epoch_length=LENGTH, jail_ms=JAIL_MS, max_lock_ms=100 * MINUTE_MS)
    chain.register(PROVIDER)
    locks = [chain.lock(claim_until_ms=chain.now_ms + 99 * MINUTE_MS) for _ in range(4)]
    batch = Batches([Work(locks[0], PROVIDER.address)]).send(chain)
    assert punished(chain, attested_twice(chain, locks[3])) == "done"
    wish = {
        "hub": HUB.address,
        "job_id": "job-1",
        "amount": 1,
        "request_hash": OUTPUT,
        "deliver_by_ms": chain.now_ms + 50 * MINUTE_MS,
        "claim_until_ms": chain.now_ms + 50 * MINUTE_MS,
    }
    assert chain.said(ALICE, "JOB_LOCK", wish) == "failed jailed"
    assert chain.said(HUB, "RECEIPT_BATCH", {"root": LOW, "count": 1}) == "failed jailed"
    settled = chain.do(BOB, "SETTLE", batch.settle())
    assert [kind for kind, _, _ in settled.events] == ["returned", "paid"]
    assert [kind for kind, _, _ in chain.claim(PROVIDER, locks[1], sender=BOB).events] == ["paid", "returned"]
    chain.block(after_ms=JAIL_MS)
    assert chain.said(ALICE, "JOB_LOCK", wish) == "done"
    assert ("minted", PROVIDER.address, 2 * AIT) in chain.claim(PROVIDER, locks[2], sender=BOB).events


def test_a_jailed_hub_may_still_stake_unstake_and_transfer(market: Ledger) -> None:
    assert punished(market, attested_twice(market, market.lock())) == "done"
    assert market.said(HUB, "STAKE", {"role": "hub", "amount": 1}) == "done"
    assert market.said(HUB, "UNSTAKE", {"role": "hub", "amount": 1}) == "done"
    assert market.said(HUB, "TRANSFER", {"to": BOB.address, "amount": 1}) == "done"


def test_a_rotated_hub_is_jailed_under_its_address(market: Ledger) -> None:
    lock = market.lock()
    assert punished(market, attested_twice(market, lock)) == "done"
    hub = market.rotate(HUB, person("hub's new key"))
    assert market.said(hub, "RECEIPT_BATCH", {"root": LOW, "count": 1}) == "failed jailed"
    assert holding(HUB, person("hub's new key")).address == HUB.address


def test_jailed_for_ever() -> None:
    """params.md: 0 … 2^53 - 1."""
    chain = Ledger(more=[EVE], jail_ms=MAX_SIGNED)
    chain.stake(EVE, STAKE)
    assert punished(chain, chain.double_vote(EVE)) == "done"
    assert chain.said(EVE, "STAKE", {"role": "validator", "amount": 1}) == "done"


def test_a_hubs_stake_stays_as_long_as_its_word_can_be_held_against_it() -> None:
    chain = Ledger(unbonding_ms=MINUTE_MS, max_lock_ms=10 * MINUTE_MS, slash_bp=1_000)
    chain.stake(HUB, 5 * AIT, "hub")
    lock = chain.lock(claim_until_ms=chain.now_ms + 10 * MINUTE_MS)
    assert chain.do(HUB, "UNSTAKE", {"role": "hub", "amount": 5 * AIT}).ok
    assert chain.said(HUB, "WITHDRAW", {"role": "hub"}, after_ms=MINUTE_MS) == "failed nothing_to_withdraw"
    outcome = chain.do(BOB, "EVIDENCE", attested_twice(chain, lock), fee=1_000)
    assert outcome.events == [("slashed", HUB.address, AIT // 2), ("jailed", HUB.address, 0)]
