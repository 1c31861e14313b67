"""Who signs two things that contradict each other is slashed and jailed, whose block holds what no state makes valid is
jailed; nobody else is. docs/spec/evidence.md"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import attestation_digest, offence_digest
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.wire import pack, unpack
from aitbc.core.types.amounts import AIT, BASIS_POINTS, MAX_SIGNED
from aitbc.core.types.blocks import Header
from aitbc.core.types.receipts import Attestation
from aitbc.core.types.records import Offence, Score
from aitbc.core.types.transactions import Transaction
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


# Blocks.


def test_a_leader_who_put_a_forged_transfer_into_a_block_is_jailed_and_not_slashed(chain: Ledger) -> None:
    """Viktor's block pays Eve out of Alice's account; Alice has signed nothing."""
    supply = chain.supply()
    outcome = chain.do(BOB, "EVIDENCE", chain.bad_block(VALIDATOR))
    assert outcome.events == [("jailed", VALIDATOR.address, 0)]
    bond = chain.bond(VALIDATOR)
    assert (bond.amount, bond.jailed_until_ms, bond.offences) == (STAKE, chain.now_ms + JAIL_MS, 1)
    assert chain.supply() == supply - FEE // 2, "nothing is burned but the fee's part"
    mark = offence_digest("block", VALIDATOR.address, "0").hex()
    assert chain.executor.state.get("registry", f"offence:{mark}") == Offence(
        offender=VALIDATOR.address, height=chain.height, expires_ms=0
    )


def transfer(chain: Ledger, **change: Any) -> Transaction:
    """A transfer that Alice has signed, changed afterwards."""
    tx = chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5})
    return msgspec.structs.replace(tx, **change)


def signed(chain: Ledger, kind: str, payload: dict[str, Any], **more: Any) -> Transaction:
    return chain.sign(ALICE, kind, payload, **more)


IN_A_BLOCK: list[tuple[str, Callable[[Ledger], Transaction], str]] = [
    ("a signature that is not the sender's", lambda c: transfer(c, sig=EVE.sign(bytes(32))), "done"),
    ("no signature", lambda c: transfer(c, sig=b""), "done"),
    ("another fee than was signed", lambda c: transfer(c, fee=7), "done"),
    ("no key", lambda c: transfer(c, pubkey=b""), "done"),
    ("a key of no scheme", lambda c: transfer(c, pubkey=b"\x09" + bytes(32)), "done"),
    ("a type that does not exist", lambda c: transfer(c, type="THEFT"), "done"),
    ("a payload that is no JSON", lambda c: transfer(c, payload=b"{"), "done"),
    ("a witness that nobody asked for", lambda c: transfer(c, witness=b"{}"), "done"),
    ("a sender that is no address", lambda c: transfer(c, sender="alice"), "done"),
    ("an unknown field", lambda c: signed(c, "TRANSFER", {"to": BOB.address, "amount": 1, "x": 1}), "done"),
    ("a transfer of nothing", lambda c: signed(c, "TRANSFER", {"to": BOB.address, "amount": 0}), "done"),
    ("a nonce of 0", lambda c: signed(c, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=0), "done"),
    ("evidence of two kinds", lambda c: signed(c, "EVIDENCE", {**c.bad_block(EVE), **c.double_vote(EVE)}), "done"),
    ("a valid transfer", transfer, "failed no_conflict"),
    ("evidence about a block", lambda c: signed(c, "EVIDENCE", c.bad_block(EVE)), "failed no_conflict"),
    ("a key that only the state knows is not the sender's", lambda c: holders(c, EVE), "failed no_conflict"),
    ("a nonce that is far away", lambda c: signed(c, "REFUND", {"lock": LOW}, nonce=99), "failed no_conflict"),
    ("a lock that does not exist", lambda c: signed(c, "REFUND", {"lock": LOW}), "failed no_conflict"),
    ("no fee", lambda c: signed(c, "TRANSFER", {"to": BOB.address, "amount": 1}, fee=0), "failed no_conflict"),
]  # fmt: skip


def holders(chain: Ledger, key: Any) -> Transaction:
    """Signed by somebody else's key, in Alice's name."""
    return chain.sign(holding(ALICE, key), "TRANSFER", {"to": EVE.address, "amount": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(("story", "make", "outcome"), IN_A_BLOCK, ids=[row[0] for row in IN_A_BLOCK])
def test_what_in_a_block_is_evidence(
    chain: Ledger, story: str, make: Callable[[Ledger], Transaction], outcome: str
) -> None:
    """Only what no state makes valid: whoever looks from another state must not find an offence."""
    assert punished(chain, chain.bad_block(VALIDATOR, make(chain))) == outcome
    assert (chain.bond(VALIDATOR).jailed_until_ms > 0) == (outcome == "done")


def block_changed(chain: Ledger, **change: Any) -> dict[str, Any]:
    evidence = chain.bad_block(VALIDATOR)
    evidence["block"].update(change)
    return evidence


def of_another_leaf(chain: Ledger) -> dict[str, Any]:
    """The path is that of the valid transaction beside it."""
    return block_changed(chain, index=0)


def with_longer_path(chain: Ledger) -> dict[str, Any]:
    path = chain.bad_block(VALIDATOR)["block"]["path"]
    return block_changed(chain, path=[*path, LOW])


def never_in_the_block(chain: Ledger) -> dict[str, Any]:
    """Mallory forges a transaction of his own: the leader's block does not hold it."""
    return block_changed(chain, tx=pack(transfer(chain, sig=b"")).hex())


def with_header(chain: Ledger, **change: Any) -> dict[str, Any]:
    header = unpack(bytes.fromhex(chain.bad_block(VALIDATOR)["block"]["header"]), Header, limit=1_000)
    return block_changed(chain, header=pack(msgspec.structs.replace(header, **change)).hex())


def with_tx(chain: Ledger, **change: Any) -> dict[str, Any]:
    return block_changed(chain, tx=pack(transfer(chain, **change)).hex())


def spelled_otherwise(chain: Ledger) -> dict[str, Any]:
    """An array of eight in sixteen bits."""
    return block_changed(chain, tx="dc0008" + pack(transfer(chain)).hex()[2:])


def without(chain: Ledger, name: str) -> dict[str, Any]:
    evidence = chain.bad_block(VALIDATOR)
    del evidence["block"][name]
    return evidence


def capitals(chain: Ledger, name: str) -> dict[str, Any]:
    return block_changed(chain, **{name: chain.bad_block(VALIDATOR)["block"][name].upper()})


NO_EVIDENCE: list[tuple[str, Callable[[Ledger], dict[str, Any]], str]] = [
    ("somebody else's block", lambda c: block_changed(c, validator=EVE.address), UNSIGNED),
    ("a stranger's block", lambda c: c.bad_block(person("stranger")), "failed unknown_validator"),
    ("nobody's block", lambda c: block_changed(c, validator=""), "invalid bad_address"),
    ("a block that its leader only voted for", lambda c: c.bad_block(VALIDATOR, kind="notar"), UNSIGNED),
    ("another slot is named", lambda c: block_changed(c, slot=8), UNSIGNED),
    ("another parent is named", lambda c: block_changed(c, parent_id=LOW), UNSIGNED),
    ("another parent's slot is named", lambda c: block_changed(c, parent_slot=0), UNSIGNED),
    ("a candidate of another block", lambda c: c.bad_block(VALIDATOR, block_hash=bytes(32)), UNSIGNED),
    ("a candidate of another chain", lambda c: c.bad_block(VALIDATOR, chain_id="ait-other"), UNSIGNED),
    ("a candidate on another parent", lambda c: c.bad_block(VALIDATOR, parent_slot=3), UNSIGNED),
    ("an epoch to come", lambda c: c.bad_block(VALIDATOR, epoch=1), "failed evidence_too_old"),
    ("another header", lambda c: with_header(c, height=9), UNSIGNED),
    ("a header over other transactions", lambda c: with_header(c, txs_root=bytes(32)), "invalid bad_proof"),
    ("a header with a root of no length", lambda c: with_header(c, txs_root=b""), "invalid bad_proof"),
    ("a header of a height below 0", lambda c: with_header(c, height=-1), "invalid out_of_range"),
    ("a header that is no header", lambda c: block_changed(c, header="80"), "invalid malformed"),
    ("a header that is cut short", lambda c: block_changed(c, header="00"), "invalid malformed"),
    ("a header in capitals", lambda c: capitals(c, "header"), "invalid bad_hex"),
    ("no header", lambda c: without(c, "header"), "invalid missing_field"),
    ("a transaction in capitals", lambda c: capitals(c, "tx"), "invalid bad_hex"),
    ("a transaction that is no transaction", lambda c: block_changed(c, tx="c0"), "invalid malformed"),
    ("a transaction spelled otherwise", spelled_otherwise, "invalid not_canonical"),
    ("a transaction of a nonce below 0, which has no bytes", lambda c: with_tx(c, nonce=-1), "invalid out_of_range"),
    ("a transaction that is too large", lambda c: block_changed(c, tx="00" * 8_193), "invalid too_large"),
    ("a transaction that the block does not hold", never_in_the_block, "invalid bad_proof"),
    ("the path to another leaf", of_another_leaf, "invalid bad_proof"),
    ("a path that is too long", with_longer_path, "invalid bad_proof"),
    ("no path", lambda c: block_changed(c, path=[]), "invalid bad_proof"),
    ("a path of 41 nodes", lambda c: block_changed(c, path=[LOW] * 41), "invalid out_of_range"),
    ("a path of no hashes", lambda c: block_changed(c, path=["aa"]), "invalid wrong_type"),
    ("a place behind the last", lambda c: block_changed(c, index=3), "invalid bad_proof"),
    ("a place far behind the last", lambda c: block_changed(c, index=MAX_SIGNED), "invalid bad_proof"),
    ("a longer list", lambda c: block_changed(c, count=4), "invalid bad_proof"),
    ("a list of nothing", lambda c: block_changed(c, index=0, count=0), "invalid bad_proof"),
    ("a place before the first", lambda c: block_changed(c, index=-1), "invalid out_of_range"),
    ("a signature that is no number", lambda c: block_changed(c, sig="signed"), "invalid bad_hex"),
    ("a signature that is missing", lambda c: block_changed(c, sig=""), UNSIGNED),
    ("a signature of 4,097 bytes", lambda c: block_changed(c, sig="00" * 4_097), "invalid out_of_range"),
]  # fmt: skip


@pytest.mark.parametrize(("story", "make", "outcome"), NO_EVIDENCE, ids=[row[0] for row in NO_EVIDENCE])
def test_nobody_is_punished_for_a_block_that_it_did_not_make(
    chain: Ledger, story: str, make: Callable[[Ledger], dict[str, Any]], outcome: str
) -> None:
    before = {who.address: chain.bond(who) for who in (VALIDATOR, EVE)}
    assert punished(chain, make(chain)) == outcome
    assert {who.address: chain.bond(who) for who in (VALIDATOR, EVE)} == before


def test_evidence_is_of_one_kind(chain: Ledger) -> None:
    chain.register(PROVIDER)
    block, votes = chain.bad_block(VALIDATOR), chain.double_vote(VALIDATOR)
    pair = attested_twice(chain, chain.lock())
    for several in ({**block, **votes}, {**block, **pair}, {**block, **votes, **pair}):
        assert punished(chain, several) == "invalid missing_field"


def test_the_same_block_twice_or_another_of_the_epoch_is_punished_once(chain: Ledger) -> None:
    evidence = chain.bad_block(VALIDATOR)
    assert punished(chain, evidence) == "done"
    assert punished(chain, evidence, sender=ALICE) == "failed already_punished"
    assert punished(chain, chain.bad_block(VALIDATOR, slot=9)) == "failed already_punished"
    chain.close_epoch()
    assert punished(chain, evidence) == "failed already_punished"
    assert punished(chain, chain.bad_block(VALIDATOR, epoch=1)) == "done"


def test_votes_and_blocks_of_an_epoch_are_two_offences(chain: Ledger) -> None:
    assert punished(chain, chain.bad_block(VALIDATOR)) == "done"
    assert punished(chain, chain.double_vote(VALIDATOR)) == "done"
    assert (chain.bond(VALIDATOR).amount, chain.bond(VALIDATOR).offences) == (STAKE * 9 // 10, 2)


@pytest.mark.parametrize(("epochs", "outcome"), [(3, "done"), (4, "failed evidence_too_old")])
def test_how_far_back_blocks_are_punished(epochs: int, outcome: str) -> None:
    chain = Ledger(epoch_length=LENGTH, more=[VALIDATOR], evidence_epochs=3)
    evidence = chain.bad_block(VALIDATOR)
    for _ in range(epochs):
        chain.close_epoch()
    assert punished(chain, evidence) == outcome


def test_a_block_counts_under_the_key_of_its_epoch() -> None:
    chain = Ledger(epoch_length=LENGTH, more=[VALIDATOR])
    evidence = chain.bad_block(VALIDATOR)
    rotated = chain.rotate(VALIDATOR, person("viktor's new key"))
    for _ in range(2):
        chain.close_epoch()
    assert punished(chain, evidence) == "done"
    assert punished(chain, chain.bad_block(rotated, epoch=2)) == "done"


# Whoever is punished again.


def offences_of(chain: Ledger, many: int) -> list[int]:
    """How long each punishment of Viktor's would jail him by itself, in jail_ms."""
    jails = []
    for number in range(many):
        assert punished(chain, chain.bad_block(VALIDATOR, epoch=number)) == "done"
        jails.append((chain.bond(VALIDATOR).jailed_until_ms - chain.now_ms) // JAIL_MS)
        while chain.epoch == number:
            chain.block()
    return jails


def test_the_second_offence_jails_twice_as_long_and_the_eighth_64_times_and_not_more(chain: Ledger) -> None:
    assert offences_of(chain, 9) == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert chain.bond(VALIDATOR).offences == 9


def test_a_hub_is_jailed_longer_each_time(market: Ledger) -> None:
    lock = market.lock()
    for doublings in range(3):
        where = {"attempt": doublings}
        assert punished(market, attested_twice(market, lock, first=where, second=where)) == "done"
        assert market.bond(HUB, "hub").jailed_until_ms == market.now_ms + (JAIL_MS << doublings)


def test_each_role_has_offences_of_its_own(market: Ledger) -> None:
    assert market.do(BOB, "TRANSFER", {"to": HUB.address, "amount": 100 * AIT}).ok
    market.stake(HUB, STAKE)
    assert punished(market, attested_twice(market, market.lock())) == "done"
    assert punished(market, market.bad_block(HUB)) == "done"
    assert market.bond(HUB).jailed_until_ms == market.now_ms + JAIL_MS
    assert (market.bond(HUB).offences, market.bond(HUB, "hub").offences) == (1, 1)


def test_for_ever_is_not_longer_the_second_time() -> None:
    chain = Ledger(more=[EVE], jail_ms=MAX_SIGNED)
    chain.stake(EVE, STAKE)
    for evidence in (chain.double_vote(EVE), chain.bad_block(EVE)):
        assert punished(chain, evidence) == "done"
        assert chain.bond(EVE).jailed_until_ms == MAX_SIGNED


def test_who_withdraws_everything_is_known_when_it_comes_back(chain: Ledger) -> None:
    assert chain.change(set={"unbonding_ms": MINUTE_MS}) == "done"
    chain.close_epoch()
    assert punished(chain, chain.bad_block(EVE, epoch=1)) == "done"
    assert chain.do(EVE, "UNSTAKE", {"role": "validator", "amount": STAKE}).ok
    assert chain.do(EVE, "WITHDRAW", {"role": "validator"}, after_ms=JAIL_MS).ok
    assert chain.bond(EVE).amount == 0
    chain.stake(EVE, STAKE)
    assert chain.bond(EVE).offences == 1


# What its compute has earned it.


def computed(chain: Ledger, units: int) -> None:
    """A provider who computes for Viktor is paid for so many units."""
    assert chain.claim(PROVIDER, chain.lock(), compute_units=units).ok


@pytest.fixture
def earning() -> Ledger:
    chain = Ledger(epoch_length=20, more=[VALIDATOR, PROVIDER], score_decay_bp=BASIS_POINTS)
    payload = {"role": "provider", "models": [], "validator": VALIDATOR.address}
    word = chain.countersigned(PROVIDER, VALIDATOR)
    assert chain.do(PROVIDER, "REGISTER", payload, witness=word).ok
    return chain


@pytest.mark.parametrize("make", [Ledger.double_vote, Ledger.bad_block])
@pytest.mark.parametrize(("earned", "left"), [(1_001, 500), (2, 1), (1, 0)])
def test_half_of_the_score_is_gone_and_all_of_the_running_epochs_units(
    earning: Ledger, make: Callable[[Ledger, Any], dict[str, Any]], earned: int, left: int
) -> None:
    computed(earning, earned)
    earning.close_epoch()
    computed(earning, 77)
    assert earning.view.score(VALIDATOR.address) == Score(score=earned, units=77)
    assert punished(earning, make(earning, VALIDATOR)) == "done"
    assert earning.view.score(VALIDATOR.address) == Score(score=left, units=0)
    assert earning.count("validators", "score:") == (left > 0)
    computed(earning, 5)
    earning.close_epoch()
    assert earning.view.score(VALIDATOR.address) == Score(score=left + 5, units=0)


def test_a_score_of_the_running_epoch_alone_is_gone(earning: Ledger) -> None:
    computed(earning, 1_000)
    assert punished(earning, earning.bad_block(VALIDATOR)) == "done"
    assert earning.count("validators", "score:") == 0


def test_a_hubs_offence_takes_no_score(earning: Ledger) -> None:
    computed(earning, 1_000)
    assert punished(earning, attested_twice(earning, earning.lock())) == "done"
    assert earning.view.score(VALIDATOR.address) == Score(score=0, units=1_000)


# Under hybrid.


def test_a_slash_that_leaves_less_than_the_least_takes_a_member_out_at_the_boundary() -> None:
    """Two authorities at stake; the second has just the least, and comes back when it has it again."""
    two = people("authority", 2)
    chain = Ledger(
        mode="hybrid",
        authorities=two,
        stakes=(3 * STAKE, STAKE),
        epoch_length=LENGTH,
        more=two,
        min_validator_stake=STAKE,
        slash_bp=1,
        jail_ms=0,
    )
    assert punished(chain, chain.double_vote(two[1])) == "done"
    assert chain.bond(two[1]).amount == STAKE - STAKE // BASIS_POINTS
    assert dict(chain.validators()) == {two[0].address: 3 * STAKE, two[1].address: STAKE}, (
        "until the boundary"
    )
    chain.close_epoch()
    assert chain.validators() == [(two[0].address, 3 * STAKE)]
    chain.stake(two[1], STAKE // BASIS_POINTS)
    chain.close_epoch()
    assert dict(chain.validators()) == {two[0].address: 3 * STAKE, two[1].address: STAKE}


def test_a_bad_block_costs_power_for_as_long_as_the_jail_lasts_and_no_stake() -> None:
    two = people("authority", 2)
    chain = Ledger(
        mode="hybrid",
        authorities=two,
        stakes=(3 * STAKE, STAKE),
        epoch_length=LENGTH,
        more=two,
        min_validator_stake=STAKE,
        jail_ms=JAIL_MS,
    )
    assert punished(chain, chain.bad_block(two[1])) == "done"
    chain.close_epoch()
    assert chain.validators() == [(two[0].address, 3 * STAKE)]
    assert chain.bond(two[1]).amount == STAKE
    chain.block(after_ms=JAIL_MS)
    chain.close_epoch()
    assert dict(chain.validators()) == {two[0].address: 3 * STAKE, two[1].address: STAKE}


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
