"""A stored chain replays to the same roots whatever the hash seed, the Python and the release that plays it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aitbc.adapters.storage.sqlite import SqliteStore
from aitbc.core.types.blocks import Candidate, Certificate
from support import replay
from support.busy_chain import BusyChain

SEED = 20261121
HEADS = {
    300: "a60f955d347f0e36d0a82944ed908d949595d062255ba8cc353998209e26a769",
    10_000: "065d64908ae38b221b0196122ea40c975f71aa9fe6d2df9e68493d81f64523bb",
}
"""Height → what every Python since 3.11 comes to. Changing a rule of version 2 changes these."""


def stored_chain(folder: Path, blocks: int) -> str:
    """Build and store a busy chain; returns its head in `replay`'s words."""
    chain = BusyChain(SEED)
    (folder / "genesis.json").write_bytes(chain.document)
    store = SqliteStore(folder / "chain.db", chain.genesis_hash)
    store.commit(chain.executor.loaded.first)
    for _ in range(blocks):
        built = chain.next_block()
        certificate = Certificate("final", Candidate(0, 1, 0, bytes(32), built.hash), 1, [bytes(64)])
        store.commit(chain.executor.seal(built, certificate))
    store.close()
    head = chain.executor.head
    return f"{head.block.header.height} {head.hash.hex()} {chain.executor.state.root().hex()}"


def replayed(folder: Path, hash_seed: str) -> str:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, replay.__file__, str(folder)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "blocks", [300, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_a_stored_chain_replays_to_the_published_head(blocks: int, tmp_path: Path) -> None:
    head = stored_chain(tmp_path, blocks)
    assert {replayed(tmp_path, seed) for seed in ("0", "1", "4294967295")} == {head}
    assert head.split()[1] == HEADS[blocks]
