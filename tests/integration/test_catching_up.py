"""Real processes: a node that is hundreds of blocks behind gets them from others, through a kill as well."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from aitbc.adapters.storage.sqlite import SqliteStore
from aitbc.core.codec.digests import candidate_id, vote_digest
from aitbc.core.ledger.genesis import ConsensusSettings
from aitbc.core.types.blocks import Candidate, Certificate
from aitbc.node.folder import DATABASE_FILE
from support.chain import Chain, genesis
from support.devnet import free_port_base
from support.people import ALICE, BOB, VALIDATOR
from support.processes import ask, node, wait_for

EPOCH, HEIGHT = 100, 1_250


def grow(path: Path) -> Chain:
    """A chain of one validator on disk."""
    chain = Chain(genesis(consensus=ConsensusSettings(epoch_length=EPOCH, idle_ms=3_600_000)))
    store = SqliteStore(path, chain.genesis_hash)
    store.commit(chain.executor.loaded.first)
    commits = []
    for height in range(1, HEIGHT + 1):
        txs = [chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1})] if height % 7 == 0 else []
        chain.now_ms += 1_000
        built = chain.executor.build(txs, proposer=VALIDATOR.address, timestamp_ms=chain.now_ms)
        epoch, place = divmod(height - 1, EPOCH)
        candidate = Candidate(epoch, place + 1, place, bytes(32), built.hash)
        digest = vote_digest(
            kind="final",
            epoch=epoch,
            slot=place + 1,
            candidate=candidate_id(candidate, "ait-test", chain.genesis_hash),
            chain_id="ait-test",
            genesis_hash=chain.genesis_hash,
        )
        commit = chain.executor.seal(built, Certificate("final", candidate, 1, [VALIDATOR.sign(digest)]))
        commits.append(commit)
        chain.executor.publish(built, commit.block)
    store.commit(*commits)
    store.close()
    return chain


def test_a_new_node_gets_a_long_chain_and_survives_a_kill_on_the_way(tmp_path: Path) -> None:
    chain = grow(tmp_path / "chain.db")
    genesis_file = tmp_path / "genesis.json"
    genesis_file.write_bytes(chain.document)
    base = free_port_base()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(tmp_path / "chain.db", tmp_path / name / DATABASE_FILE)
    with node(tmp_path / "a", genesis_file, base), node(tmp_path / "b", genesis_file, base + 1):
        with node(tmp_path / "new", genesis_file, base + 2, base, base + 1) as process:
            wait_for(lambda: ask(base + 2, "/sync_status")["height"] > 0)
            os.kill(process.pid, signal.SIGKILL)
        with node(tmp_path / "new", genesis_file, base + 2, base, base + 1):
            wait_for(lambda: ask(base + 2, "/sync_status")["height"] == HEIGHT)
            status = wait_for(lambda: _live(base + 2))
            assert (status["state"], status["target"]) == ("live", HEIGHT)
            assert ask(base + 2, "/rpc/getHead")["hash"] == chain.executor.head.hash.hex()


def _live(port: int) -> Any:
    status = ask(port, "/sync_status")
    return status if status["state"] == "live" else None
