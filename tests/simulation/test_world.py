"""The replica under virtual time: same seed, same run; a crash loses nothing that was announced as final."""

import itertools
import os
import subprocess
import sys

import pytest

from aitbc.core.codec.canonical import jcs
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.ledger.state import Overlay, check_whole_supply
from aitbc.sim.world import World
from support.chain import START_MS, Chain, genesis
from support.people import ALICE, BOB, VALIDATOR


def play(seed: int, crash_percent: int = 0) -> World:
    """Ten transfers over a minute, sent again when a crash lost them, as a careful client does."""
    chain = Chain()
    world = World(
        seed=seed,
        genesis=jcs(genesis()),
        signer=VALIDATOR,
        start_ms=START_MS + 60_000,
        crash_percent=crash_percent,
    )
    txs = [
        verify_transaction(
            chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": nonce}, nonce=nonce),
            chain.genesis_hash,
        )
        for nonce in range(1, 11)
    ]
    for step in range(120):
        used = Overlay(world.executor.state).account(ALICE.address).nonce
        if used < len(txs):
            world.submit(txs[used], after_ms=step % 7)
        world.run(world.now_ms + 500)
    return world


def test_transfers_become_final_at_the_pace_of_genesis() -> None:
    world = play(seed=1)
    account = Overlay(world.executor.state).account(BOB.address)
    assert account.balance == 1_000_000_000 + sum(range(1, 11))
    blocks = [world.block(height) for height in range(1, world.height + 1)]
    times = [block.block.header.timestamp_ms for block in blocks if block is not None]
    filled = [block.block.header.timestamp_ms for block in blocks if block is not None and block.block.txs]
    assert len(filled) == 10
    assert all(later - earlier >= 1_000 for earlier, later in itertools.pairwise(filled))
    idle = [later - earlier for earlier, later in itertools.pairwise(times[-4:])]
    assert idle == [10_000] * 3


@pytest.mark.parametrize("seed", range(20))
def test_crashes_around_every_write_lose_nothing_that_was_final(seed: int) -> None:
    world = play(seed, crash_percent=30)
    assert any("crash" in line for line in world.trace)
    check_whole_supply(world.executor.state)
    finals = [line.split()[2:4] for line in world.trace if " final " in line]
    heights = [int(height) for height, _ in finals]
    assert heights == sorted(set(heights)), "no height is announced twice"
    announced = {int(height): digest for height, digest in finals}
    for height, digest in announced.items():
        block = world.block(height)
        assert block is not None
        assert block.hash.hex().startswith(digest)


def test_one_seed_one_run_under_any_hash_seed() -> None:
    script = (
        "import sys; sys.path[:0] = ['tests', 'tests/simulation']\n"
        "from test_world import play\n"
        "print(play(3, crash_percent=20).digest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "2")
    }
    assert len(digests) == 1


def test_a_clock_that_goes_back_an_hour_does_not_stop_the_chain() -> None:
    world = play(seed=1)
    before, last = world.height, world.block(world.height)
    world.now_ms -= 3_600_000
    world.crash()
    world.run(world.now_ms + 65_000)
    assert world.height == before + 6, "one empty block per idle interval"
    newest = world.block(world.height)
    assert last is not None and newest is not None
    assert newest.block.header.timestamp_ms == last.block.header.timestamp_ms + 6
