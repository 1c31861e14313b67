"""Where code and specification are known to disagree: one test each, an expected failure until one of them changes.

The runs of test_against_reference.py follow the code in these cases only (`reference.twin.DISAGREEMENTS`). When a test
here passes, take its name out of there, and its lines out of `reference/ledger.py`.
"""

from random import Random
from typing import Any

import pytest

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.crypto.hashing import tagged
from aitbc.core.types.amounts import AIT
from reference.world import OWNED, SHY, VALIDATORS, Setting, World
from support.chain import REQUEST
from support.people import ALICE, HUB, PROVIDER, SYNTHETIC


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


def rotate(world: World, who: str) -> None:
    new = OWNED[who][0]
    said = tagged("aitbc/rotate/1", world.genesis_hash, who.encode(), new.auth_key)
    sig = new.sign(said).hex()
    add(world, who, "KEY_ROTATE", {"pubkey": key_to_text(new.auth_key), "sig": sig})


disagreement = pytest.mark.xfail(strict=True, raises=AssertionError)


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
    witness = {"hub": HUB.address, "sig": world.word(PROVIDER.address, HUB.address)}
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
