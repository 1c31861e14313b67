"""Agreement under everything a seed can think of. `aitbc sim --seed N --verbose` tells the story of one."""

import itertools
import os
import subprocess
import sys

import pytest

from aitbc.sim.blocks import START_MS
from aitbc.sim.cluster import Cluster
from aitbc.sim.faults import ATTACKS, calm_plan
from aitbc.sim.run import play_plan, play_seed, replay_command
from simulation.engine_mutants import MUTANTS
from simulation.planted import Mutant, hunt, is_found
from simulation.stories import ENGINE_STORIES, Story, plans_for
from simulation.whole_mutants import WHOLE_MUTANTS


def play(seeds: range, *, nodes: int | None = None, attack: str | None = "drawn") -> list[str]:
    """Those who were accused; fails with the command that replays the first seed that broke a promise."""
    accused = []
    for seed in seeds:
        report = play_seed(seed, nodes=nodes, attack=attack)
        command = replay_command(report, nodes=nodes, attack=attack)
        assert report.failure is None, f"{report.failure}\n{command}\n" + "\n".join(report.trace[-30:])
        assert not report.fallen, f"{report.fallen}\n{command}"
        accused += report.accused
    return accused


@pytest.mark.parametrize("start", range(0, 120, 20))
def test_whatever_happens_promises_hold(start: int) -> None:
    play(range(start, start + 20))


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attacker_alone_among_four_breaks_nothing(attack: str) -> None:
    play(range(1_000, 1_006), nodes=4, attack=attack)


@pytest.mark.parametrize("start", [0, 10])
def test_messages_with_a_changed_field_hurt_nobody(start: int) -> None:
    play(range(start, start + 10), nodes=4, attack="mutator")


@pytest.mark.parametrize("attack", ["equivocator", "twins", "vote_splitter"])
def test_who_signs_twice_is_found_out(attack: str) -> None:
    accused = play(range(2_000, 2_006), nodes=4, attack=attack)
    assert len(accused) >= 4, "nearly every run ends with evidence, and only against the guilty"


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_small_sets_only_need_everybody(nodes: int) -> None:
    play(range(3_000, 3_010), nodes=nodes, attack=None)


@pytest.mark.parametrize("story", ENGINE_STORIES, ids=lambda story: story.file)
def test_what_once_hurt_hurts_no_more(story: Story) -> None:
    assert play_plan(story.plan).failure is None, story.tells


@pytest.mark.parametrize("story", [one for one in ENGINE_STORIES if one.mutant], ids=lambda story: story.file)
def test_a_story_would_find_its_mistake_again(story: Story) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == story.mutant)
    report = play_plan(story.plan, node_class=mutant.node)
    assert is_found(mutant, report), "tell the story with a plan that `hunt` finds it by"


def intervals(cluster: Cluster, since_ms: int) -> list[int]:
    """Between the moments at which one node had blocks final."""
    times = [min(at) for _, at in sorted(cluster.checks.final_ms.items())]
    pairs = itertools.pairwise([at for at in times if at - START_MS >= since_ms])
    return [later - earlier for earlier, later in pairs]


def test_blocks_come_every_two_hops_and_are_final_after_three() -> None:
    cluster = Cluster(calm_plan(7, delay_ms=50))
    cluster.start()
    cluster.run(5_000)
    assert set(intervals(cluster, 1_000)) == {100}
    chain = cluster.nodes[0].disk.chain
    waited = {max(cluster.checks.final_ms[h]) - chain[h].block.timestamp_ms for h in range(5, 40)}
    assert waited == {150}


def test_a_dead_leader_costs_one_timeout_and_soon_none() -> None:
    cluster = Cluster(calm_plan(4, delay_ms=20, silent=(2,)))
    cluster.start()
    cluster.run(20_000)
    first, later = intervals(cluster, 0), intervals(cluster, 8_000)
    assert 600 < max(first) <= 600 * 13 // 10 + 6 * 20, "T0 · 1.3 and the way to the next leader and back"
    assert max(later) <= 5 * 20, "who is dead is not waited for: a hop to skip, and the next leads"


def test_one_seed_one_run_under_any_hash_seed() -> None:
    code = (
        "from aitbc.sim.run import play_seed; print([play_seed(s, verbose=True).digest for s in (3, 5, 19)])"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "2")
    }
    assert len(digests) == 1


def test_looking_closely_changes_nothing() -> None:
    brief, verbose = play_seed(5), play_seed(5, verbose=True)
    assert (brief.events, brief.blocks) == (verbose.events, verbose.blocks)
    assert [line for line in verbose.trace if " hears " not in line] == brief.trace
    assert len(verbose.trace) > 10 * len(brief.trace)


def test_a_bad_actor_that_dies_of_what_it_sees_breaks_no_promise() -> None:
    """Honest nodes that find every block valid make its program stop; that is not how they are to be found out."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "find every block valid")
    reports = [play_seed(seed, nodes=4, attack=mutant.attack, node_class=mutant.node) for seed in range(12)]
    assert any(report.fallen for report in reports)
    assert {report.failure.split(":")[0] for report in reports if report.failure} == {"validity"}


CHECKERS = {
    *("agreement", "validity", "certificate", "double vote", "guard", "evidence", "epoch", "liveness"),
    *("durability", "state", "supply", "lost", "answers", "bounds", "mempool", "epochs", "blame"),
}
"""First words of what a run fails with."""


def test_each_checker_has_a_mistake_that_it_must_find() -> None:
    assert {mutant.promise for mutant in [*MUTANTS, *WHOLE_MUTANTS]} >= CHECKERS


QUICK = (
    "vote Final after Skip",
    "notarize twice in a slot",
    "a quorum of one half",
    "vote at once without a guard",
)


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.name in QUICK], ids=lambda mutant: mutant.name)
def test_a_planted_mistake_is_found(mutant: Mutant) -> None:
    assert hunt(mutant, plans=plans_for(mutant)) is not None, "it survived"


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_mistake_is_found(mutant: Mutant) -> None:
    """`make mutants` prints by which seed."""
    assert hunt(mutant, plans=plans_for(mutant)) is not None, "it survived"


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("start", range(10_000, 11_200, 100))
def test_a_thousand_more(start: int) -> None:
    play(range(start, start + 100))
