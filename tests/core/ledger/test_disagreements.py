"""Where code and specification once disagreed, or still do: one scenario each, an expected failure while it lasts.

While one lasts, the runs of test_against_reference.py follow the code in it: its name is in
`reference.twin.DISAGREEMENTS`, and `reference/ledger.py` asks `as_the_code` for it.
"""

from random import Random
from typing import Any

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.crypto.hashing import tagged
from aitbc.core.crypto.schemes import ED25519, SECP256K1
from aitbc.core.types.amounts import AIT
from reference.world import LISTED_UNKNOWN, OWNED, SHY, VALIDATORS, Key, Setting, World
from support.chain import REQUEST
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, SYNTHETIC


def strict_world(**params: Any) -> World:
    """In which the reference follows the specification in everything, and nothing is left to luck."""
    setting = Setting("strict", {"hubs": [HUB.address], **params})
    world = World(Random(0), setting, as_the_code=frozenset())
    world.chance = lambda one_in: False  # type: ignore[method-assign]
    world.begin()
    return world


def add(world: World, sender: str, kind: str, payload: dict[str, Any], **options: Any) -> None:
    result = world.twin.add(world.sign(sender, kind, payload, **{"fee": 200, **options}))
    if result[0] is not True:
        raise ValueError(f"the reference is not meant to refuse this: {result}")


def rotate(world: World, who: str, new: Key | None = None) -> None:
    new = new or OWNED[who][0]
    said = tagged("aitbc/rotate/1", world.genesis_hash, who.encode(), new.auth_key)
    sig = new.sign(said).hex()
    add(world, who, "KEY_ROTATE", {"pubkey": key_to_text(new.auth_key), "sig": sig})


def test_the_record_of_a_member_names_its_key() -> None:
    """params.md: `pubkey_required` for a member whose key neither the chain nor the update knows. An authority of
    genesis that has sent nothing has its key in the store `validators`; the code asks its account only."""
    world = strict_world()
    assert VALIDATORS[2] in SHY and world.ledger.key_of(VALIDATORS[2].address) == b""
    payload = {"number": 1, "authorities": [{"address": who.address} for who in reversed(VALIDATORS)]}
    digest = tagged("aitbc/param-update/1", world.genesis_hash, jcs(payload))
    witness = {"bitmap": 3, "sigs": [who.sign(digest).hex() for who in VALIDATORS[:2]]}
    add(world, ALICE.address, "PARAM_UPDATE", payload, witness=witness)
    world.commit()


def registered(world: World) -> None:
    witness = {"hub": HUB.address, "sig": world.word("aitbc/countersign/1", PROVIDER.address, HUB.address)}
    add(world, PROVIDER.address, "REGISTER", {"role": "provider", "models": []}, witness=witness, fee=0)


def test_without_a_lock_the_key_of_now_counts_also_right_after_a_rotation() -> None:
    """receipts.md: under the keys that the accounts have now, without a lock. In the block of a rotation the code
    takes the key before it."""
    world = strict_world()
    add(world, ALICE.address, "TRANSFER", {"to": PROVIDER.address, "amount": AIT})
    rotate(world, PROVIDER.address)
    payload = {
        "job_id": "7",
        "client_addr": ALICE.address,
        "miner_addr": PROVIDER.address,
        "compute_units": 1,
        "price": 1,
        "output_hash": REQUEST,
    }
    payload, witness = world.vouched(payload, SYNTHETIC.address, "synthetic", None)
    add(world, ALICE.address, "RECEIPT_CLAIM", payload, witness=witness)
    world.commit()


def test_a_hubs_word_is_signed_with_its_key_of_now_also_right_after_a_rotation() -> None:
    """registry.md: good under the hub account's key. The same block again; of a validator's word the code takes the
    key of now."""
    world = strict_world()
    rotate(world, HUB.address)
    registered(world)
    world.commit()


def test_a_claim_that_mints_nothing_claims_nothing() -> None:
    """minting.md: a sum of 0 is no full mint, so nothing is counted; a SETTLE counts nothing either."""
    world = strict_world(mint_per_unit=0, mint_budget_per_day=AIT)
    registered(world)
    until = world.ledger.time + 9_000
    lock = {"hub": HUB.address, "job_id": "job-1", "amount": AIT, "request_hash": REQUEST}
    add(world, ALICE.address, "JOB_LOCK", {**lock, "deliver_by_ms": until, "claim_until_ms": until})
    payload, witness = world.receipt()
    add(world, ALICE.address, "RECEIPT_CLAIM", payload, witness=witness)
    world.commit()


def test_a_calibration_whose_parts_are_rounded_to_nothing_writes_no_counter() -> None:
    """minting.md: nothing is written there when the sum is 0. One base unit is left."""
    world = strict_world(calibration_budget=1, hubs=[HUB.address, LISTED_UNKNOWN.address])
    registered(world)
    for _ in range(4):
        world.commit()
        world.begin()
    payload, witness = world.calibration()
    add(world, ALICE.address, "RECEIPT_CLAIM", payload, witness=witness)
    world.commit()


def test_whoever_is_listed_cannot_become_a_validator_with_another_scheme() -> None:
    """staking.md: validators sign with Ed25519. Code and specification check the list when it is queued, and members
    when they rotate; between the two a newcomer may still rotate, and the boundary gives the key of then no vote."""
    world = strict_world()
    rotating = OWNED[EVE.address][4]
    assert rotating.auth_key[0] == SECP256K1
    for who in (EVE, ALICE):
        add(world, ALICE.address, "TRANSFER", {"to": who.address, "amount": AIT})
    add(world, EVE.address, "TRANSFER", {"to": ALICE.address, "amount": 1})
    listed = [VALIDATORS[0].address, VALIDATORS[1].address, EVE.address]
    payload = {"number": 1, "authorities": [{"address": address} for address in listed]}
    if world.twin.add(world.approved(payload))[0] is not True:
        raise ValueError("the list is meant to be queued")
    rotate(world, EVE.address, rotating)
    for _ in range(4):
        world.commit()
        world.begin()
    voting = [key_from_text(record["auth_key"])[0] for _, record in world.ledger.validator_set()]
    assert voting == [ED25519] * 2


def test_a_registration_may_drop_its_validator() -> None:
    """registry.md: naming one takes its word, naming none takes nothing. The code looked for a validator with the
    empty address."""
    world = strict_world()
    validator = VALIDATORS[0].address
    add(world, ALICE.address, "TRANSFER", {"to": PROVIDER.address, "amount": AIT})
    word = {"validator_sig": world.word("aitbc/compute-for/1", PROVIDER.address, validator)}
    payload = {"role": "provider", "models": []}
    add(world, PROVIDER.address, "REGISTER", {**payload, "validator": validator}, witness=word)
    add(world, PROVIDER.address, "REGISTER", payload)
    world.commit()


def test_evidence_about_another_hub_than_the_locks_asks_for_that_hubs_key() -> None:
    """fees.md: each one's hub's. The code asked for the key of the hub that the lock names, which signed neither."""
    world = strict_world(hubs=[HUB.address, LISTED_UNKNOWN.address])
    rotate(world, HUB.address, OWNED[HUB.address][4])
    world.commit()
    world.begin()
    until = world.ledger.time + 9_000
    lock = {"hub": HUB.address, "job_id": "job-1", "amount": AIT, "request_hash": REQUEST}
    add(world, ALICE.address, "JOB_LOCK", {**lock, "deliver_by_ms": until, "claim_until_ms": until})
    payload = world.evidence_()["attestations"]
    for signed in payload.values():
        signed["attestation"]["hub"] = ALICE.address
    tx = world.sign(BOB.address, "EVIDENCE", {"attestations": payload}, fee=0)
    least = world.ledger.least_fee(tx, own_key_only=True)
    result = world.twin.add(world.sign(BOB.address, "EVIDENCE", {"attestations": payload}, fee=least))
    if result[1] != "wrong_hub":
        raise ValueError(f"the fee is meant to be enough: {result}")
    world.commit()
