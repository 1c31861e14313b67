"""Whole networks of engines with opaque blocks: loss, delays, cuts, restarts and nodes that break the rules.

What is promised is checked by the run itself (`aitbc.sim.nakamoto.run`); the tests say what is played.
"""

import os
import subprocess
import sys
from itertools import pairwise

import msgspec
import pytest

from aitbc.core.consensus.nakamoto.engine import MAX_HEADERS
from aitbc.core.consensus.nakamoto.headers import HeaderRules
from aitbc.core.types.nakamoto import NakamotoSettings
from aitbc.sim.nakamoto.blocks import CHAIN_ID, genesis_header, miner_named, verify
from aitbc.sim.nakamoto.node import Node
from aitbc.sim.nakamoto.run import POA_POW, POW, START_MS, Run
from aitbc.sim.nakamoto.world import Weather, World

MODES = pytest.mark.parametrize("settings", [POW, POA_POW], ids=["pow", "poa-pow"])


@MODES
@pytest.mark.parametrize("loss_percent", [0, 15])
def test_after_cuts_and_a_restart_all_have_one_head(settings: NakamotoSettings, loss_percent: int) -> None:
    report = Run(1, settings, weather=Weather(loss_percent=loss_percent)).play()
    assert report.height > settings.finality_depth
    assert report.final_height > 0
    assert report.penalised == [], "no honest node is punished"


@MODES
@pytest.mark.parametrize(
    ("actors", "punished"),
    [
        (("selfish",), set()),
        (("withholder",), set()),
        (("bad_author",), {"root_mismatch", "invalid_parent"}),
        (("liar",), {"bad_timestamp"}),
        (("liar", "withholder", "bad_author"), {"root_mismatch", "bad_timestamp"}),
    ],
    ids=["selfish", "withholder", "bad_author", "liar", "all three"],
)
def test_actors_are_outlived(settings: NakamotoSettings, actors: tuple[str, ...], punished: set[str]) -> None:
    report = Run(2, settings, actors=actors, weather=Weather(loss_percent=5)).play()
    assert report.height > 30, "the chain grows all the while"
    assert {peer for peer, _ in report.penalised} <= set(actors), "no honest node is punished"
    assert punished <= {reason for _, reason in report.penalised}


def test_a_liar_out_of_turn_and_without_work_is_told_so() -> None:
    report = Run(3, POA_POW, actors=("liar",)).play()
    assert ("liar", "wrong_proposer") in report.penalised
    report = Run(3, POW, actors=("liar",)).play()
    assert ("liar", "not_enough_work") in report.penalised


def test_the_same_seed_is_the_same_run_under_any_hash_seed() -> None:
    code = (
        "from aitbc.sim.nakamoto.run import POW, POA_POW, Run;"
        "print([Run(4, s, actors=('liar', 'selfish')).play().digest for s in (POW, POA_POW)])"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "77")
    ]
    assert told[0] == told[1] != ""


# Single stories that need more than one node


class Village:
    """Nodes that meet as a story says."""

    def __init__(self, settings: NakamotoSettings, *, listed: tuple[str, ...] = ()) -> None:
        self.world = World(0, Weather(), start_ms=START_MS)
        miners = [miner_named(name) for name in listed] if settings.miners else []
        self.rules = HeaderRules(settings, chain_id=CHAIN_ID, miners=miners, verify=verify)
        self.nodes: dict[str, Node] = {}

    def node(self, name: str, *, hashrate: int = 0) -> Node:
        genesis = genesis_header(START_MS - 1_000)
        node = Node(self.world, miner_named(name), rules=self.rules, genesis=genesis, hashrate=hashrate)
        node.start()
        for other in self.nodes.values():
            node.meet(other)
            other.meet(node)
        self.nodes[name] = node
        return node


def test_a_newcomer_fetches_a_long_chain_from_several_peers() -> None:
    """Longer than one answer and than what may be ahead; while it does, the chain goes on."""
    quick = msgspec.structs.replace(
        POW, difficulty=8, block_time_ms=100, half_life_ms=60_000, difficulty_rule="fixed"
    )
    village = Village(quick)
    ann = village.node("ann", hashrate=80)
    bob = village.node("bob")
    village.world.run(80_000)
    while len(ann.chain) < MAX_HEADERS + 100:
        village.world.run(10_000)
    newcomer = village.node("newcomer")
    village.world.run(20_000)
    assert len(newcomer.chain) >= len(ann.chain) - 3 > MAX_HEADERS
    assert newcomer.chain[:-5] == ann.chain[: len(newcomer.chain) - 5] == bob.chain[: len(newcomer.chain) - 5]
    assert newcomer.final_height > MAX_HEADERS


def test_when_the_leader_is_gone_the_next_takes_over() -> None:
    village = Village(POA_POW, listed=("ann", "bob", "carol"))
    ann = village.node("ann", hashrate=50)
    village.node("carol", hashrate=50)
    village.world.run(60_000)
    authors = [ann.blocks[hash_].header.proposer for hash_ in ann.chain[1:]]
    assert len(authors) > 15
    assert set(authors) == {"ann", "carol"}
    assert all(earlier != later for earlier, later in pairwise(authors))


def test_a_miner_alone_in_its_list_goes_on_alone() -> None:
    village = Village(POA_POW, listed=("ann",))
    ann = village.node("ann", hashrate=50)
    village.world.run(30_000)
    assert len(ann.chain) > 12


def test_a_cut_longer_than_the_finality_depth_is_reported_not_healed() -> None:
    """What depth calls final stays final: two histories remain, and who is shown the higher one is told."""
    shallow = msgspec.structs.replace(POW, finality_depth=2)
    village = Village(shallow)
    ann, bob = village.node("ann", hashrate=40), village.node("bob", hashrate=40)
    village.world.cut(["ann"], ["bob"])
    village.world.run(60_000)
    village.world.cut()
    village.world.run(30_000)
    assert ann.chain[1] != bob.chain[1]
    assert "bob" in ann.apart
    assert (ann.penalties, bob.penalties) == ([], [])


def test_the_lighter_side_of_a_cut_shorter_than_the_finality_depth_comes_over() -> None:
    """Although the heavier side has made blocks final that the lighter one lacks."""
    village = Village(POW)
    ann, bob = village.node("ann", hashrate=20), village.node("bob", hashrate=80)
    village.world.cut(["ann"], ["bob"])
    while bob.final_height < 2:
        village.world.run(1_000)
    assert 0 < len(ann.chain) - 1 <= POW.finality_depth and ann.chain[1] != bob.chain[1]
    village.world.cut()
    village.world.run(30_000)
    final = bob.final_height
    assert ann.chain[: final + 1] == bob.chain[: final + 1] and ann.final_height >= final - 2 > 0
    assert (ann.penalties, bob.penalties) == ([], [])


def test_a_transaction_that_was_undone_comes_back_into_a_block() -> None:
    village = Village(POW)
    ann = village.node("ann", hashrate=16)
    village.node("bob", hashrate=80)
    village.world.run(5_000)
    village.world.cut(["ann"], ["bob"])
    ann.submit(b"pay bob")
    village.world.run(20_000)
    village.world.cut()
    village.world.run(60_000)
    assert any(switch.undo for switch in ann.switches)
    assert [ann.blocks[hash_].body for hash_ in ann.chain].count(b"pay bob") == 1
