"""Blocks that are taken back leave nothing behind: roots, records, timers and proofs are those of a straight run."""

from random import Random

import pytest

from aitbc.core.crypto.hashing import tagged
from aitbc.core.crypto.indexed_tree import proves_absence, proves_value
from reference.tree import STORES, state_root
from reference.twin import Twin
from reference.world import SETTINGS, World

BY_NAME = {setting.name: setting for setting in SETTINGS}
DEEPEST = 64


def depth_of(random: Random, most: int) -> int:
    """Mostly shallow, sometimes as deep as it goes."""
    deep = random.choice((1, 1, 2, 3, 5))
    if random.randrange(14) == 0:
        deep = random.choice((DEEPEST, random.randrange(1, DEEPEST + 1)))
    return min(deep, most)


def check_proofs(random: Random, twin: Twin) -> None:
    """Of records that were there and of keys that were not, in states from now back to the oldest that is kept."""
    head = twin.real.head.block.header.height
    kept = min(twin.real.state.depth, len(twin.blocks))
    for _ in range(4):
        back = random.choice((0, min(1, kept), kept, random.randrange(kept + 1)))
        height = head - back
        (_, slots, *_), records, *_ = twin.history[-back] if back else (twin.ledger.snapshot(), twin.records)
        store = random.choice(STORES)
        known = {key for _, past, *_ in twin.history[-DEEPEST:] for key in past[store]} | set(
            twin.records[store]
        )
        key = (
            random.choice(sorted(known))
            if known and random.randrange(3)
            else f"{random.randrange(16):x}nobody"
        )
        proof = twin.real.prove(store, key, height=height)
        roots = proof.store_roots
        root = tagged("aitbc/state/1", *[roots[name] for name in STORES])
        assert root == state_root(records, slots)
        assert not height or root == twin.blocks[height - 1].header.state_root
        if key in records[store]:
            assert proves_value(roots[store], store, key.encode(), records[store][key], proof.proof)
            assert not proves_absence(roots[store], store, key.encode(), proof.proof)
        else:
            assert proves_absence(roots[store], store, key.encode(), proof.proof)
            assert not proves_value(roots[store], store, key.encode(), proof.proof.value, proof.proof)


def reorganise(setting: str, seed: int, reorgs: int) -> list[int]:
    """A run with so many of them; returns how many blocks each took back."""
    random = Random(f"{setting} {seed}")
    world = World(random, BY_NAME[setting])
    depths: list[int] = []
    for _ in range(reorgs):
        for _ in range(random.choice((1, 2, 3, 6)) if depths else DEEPEST):
            if not world.stopped:
                world.a_block()
        depth = depth_of(random, min(len(world.twin.blocks), world.twin.real.state.depth))
        check_proofs(random, world.twin)
        world.twin.retract(depth)
        check_proofs(random, world.twin)
        depths.append(depth)
        for _ in range(depth if depth > 5 else depth - 1):
            if not world.stopped:
                world.a_block()
    world.finish()
    straight = world.twin.replayed()
    assert straight.head.hash == world.twin.real.head.hash
    assert straight.state.root() == world.twin.real.state.root()
    return depths


@pytest.mark.parametrize(
    ("setting", "seed"), [("plain", 1), ("tight hybrid", 0), ("one validator", 0), ("by work", 0)]
)
def test_a_chain_that_went_back_and_forth_is_the_straight_one(setting: str, seed: int) -> None:
    """The seeds are some that go as deep as it goes."""
    depths = reorganise(setting, seed, 70)
    assert sum(depths) > 200 and max(depths) == DEEPEST


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_thousand_reorganisations() -> None:
    depths = [
        depth
        for name in BY_NAME
        for seed in ((1,) if BY_NAME[name].work else (1, 2))
        for depth in reorganise(name, seed, 50)
    ]
    assert len(depths) >= 1_000 and depths.count(DEEPEST) > 10
