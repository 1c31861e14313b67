"""The replica under virtual time: same seed, same run; a crash loses nothing that was announced as final."""

import itertools
import os
import subprocess
import sys
from hashlib import sha256

import msgspec
import pytest

from aitbc.core.codec.digests import candidate_id
from aitbc.core.consensus.simplex.certificates import check_certificate
from aitbc.core.crypto.hashing import tagged
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.ledger.genesis import ConsensusSettings, Genesis
from aitbc.core.ledger.state import Overlay, check_whole_supply
from aitbc.core.types.blocks import Candidate
from aitbc.sim.world import World
from support.chain import START_MS, Chain, genesis
from support.people import ALICE, BOB, VALIDATOR


def play(seed: int, crash_percent: int = 0, document: Genesis | None = None) -> World:
    """Ten transfers over a minute, sent again when a crash lost them, as a careful client does."""
    chain = Chain(document)
    world = World(
        seed=seed,
        genesis=chain.document,
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


def naive_history_root(hashes: list[bytes]) -> bytes:
    """docs/spec/blocks.md: mountains of falling powers of two over the headers, each a plain binary tree."""
    rest, peaks = list(hashes), []
    while rest:
        width = 1 << (len(rest).bit_length() - 1)
        peaks.append(naive_peak(rest[:width]))
        rest = rest[width:]
    return tagged("aitbc/history/1", len(hashes).to_bytes(8, "big"), b"".join(peaks))


def naive_peak(hashes: list[bytes]) -> bytes:
    if len(hashes) == 1:
        return sha256(b"\x00" + hashes[0]).digest()
    middle = len(hashes) // 2
    return sha256(b"\x01" + naive_peak(hashes[:middle]) + naive_peak(hashes[middle:])).digest()


def test_every_header_commits_to_all_headers_before_it() -> None:
    world = play(seed=2, crash_percent=20)
    blocks = [world.block(height) for height in range(world.height + 1)]
    hashes = [block.hash for block in blocks if block is not None]
    assert len(hashes) > 10
    for height, block in enumerate(blocks):
        assert block is not None
        assert block.block.header.history_root == naive_history_root(hashes[:height]), height


@pytest.mark.parametrize("crash_percent", [0, 20])
def test_slots_begin_again_with_every_epoch(crash_percent: int) -> None:
    """Height 1 begins epoch 0; with three heights each, heights 4 and 7 begin the next ones on their parent's hash."""
    settings = ConsensusSettings(epoch_length=3)
    world = play(4, crash_percent, msgspec.structs.replace(genesis(), consensus=settings))
    blocks = [world.block(height) for height in range(world.height + 1)]
    assert len(blocks) > 10
    genesis_hash = world.executor.loaded.hash
    name = b""
    for height, (parent, block) in enumerate(itertools.pairwise(blocks), start=1):
        assert parent is not None and block is not None and block.certificate is not None
        epoch, slot = divmod(height - 1, 3)
        parent_id = name if slot else parent.hash
        assert block.certificate.candidate == Candidate(epoch, slot + 1, slot, parent_id, block.hash)
        name = candidate_id(block.certificate.candidate, "ait-test", genesis_hash)
        check_certificate(
            block.certificate,
            world.executor.loaded.validators,
            chain_id="ait-test",
            genesis_hash=genesis_hash,
        )


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
