"""Whole nodes, ledger included, under everything a seed can think of. `aitbc sim --whole --seed N` tells the story."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from aitbc.sim.faults import LEDGER_ATTACKS, WHOLE_ATTACKS, calm_plan, draw_plan
from aitbc.sim.ledger import validator_at
from aitbc.sim.run import play_plan, play_seed, replay_command
from aitbc.sim.whole_cluster import WholeCluster
from simulation.planted import Mutant, hunt, is_found
from simulation.stories import WHOLE_STORIES, Story, plans_for
from simulation.whole_mutants import WHOLE_MUTANTS


def play(seeds: range, *, nodes: int | None = None, attack: str | None = "drawn") -> None:
    """Fails with the command that replays the first seed that broke a promise."""
    for seed in seeds:
        report = play_seed(seed, nodes=nodes, attack=attack, whole=True)
        command = replay_command(report, nodes=nodes, attack=attack, whole=True)
        assert report.failure is None, f"{report.failure}\n{command}\n" + "\n".join(report.trace[-30:])
        assert not report.fallen, f"{report.fallen}\n{command}"


@pytest.mark.parametrize("start", range(0, 24, 6))
def test_whatever_happens_promises_hold(start: int) -> None:
    play(range(start, start + 6))


def test_messages_with_a_changed_field_hurt_nobody() -> None:
    play(range(20, 23), nodes=4, attack="mutator")


@pytest.mark.parametrize("attack", LEDGER_ATTACKS)
def test_a_leader_of_invalid_blocks_breaks_nothing(attack: str) -> None:
    play(range(1_000, 1_002), nodes=4, attack=attack)


@pytest.mark.parametrize("story", WHOLE_STORIES, ids=lambda story: story.file)
def test_what_once_hurt_hurts_no_more(story: Story) -> None:
    assert play_plan(story.plan, whole=True).failure is None, story.tells


@pytest.mark.parametrize("story", [one for one in WHOLE_STORIES if one.mutant], ids=lambda story: story.file)
def test_a_story_would_find_its_mistake_again(story: Story) -> None:
    mutant = next(mutant for mutant in WHOLE_MUTANTS if mutant.name == story.mutant)
    report = play_plan(story.plan, node_class=mutant.node, whole=True)
    assert is_found(mutant, report), "tell the story with a plan that `hunt` finds it by"


@pytest.mark.parametrize("seed", [1_000, 1_001])
def test_exchanged_bodies_hurt_nobody(seed: int) -> None:
    """Every node died of a broken invariant when somebody passed a good block on with other transactions."""
    play(range(seed, seed + 1), nodes=4, attack="body_swapper")


def test_who_leads_with_what_no_state_makes_valid_is_jailed_and_loses_nothing_by_that() -> None:
    cluster = WholeCluster(draw_plan(1_005, nodes=4, attack="invalid_transaction_leader"))
    cluster.play()
    (place,) = cluster.plan.guilty
    assert cluster.checks.accused == {f"v{place}"}
    guilty = validator_at(place).address
    shown = [
        outcome.events
        for committed in cluster.checks.blocks.values()
        for tx, outcome in zip(committed.block.txs, committed.outcomes, strict=True)
        if tx.type == "EVIDENCE" and b'"block"' in tx.payload
    ]
    assert shown and all(events == [("jailed", guilty, 0)] for events in shown)


def test_clients_use_most_of_what_the_ledger_has() -> None:
    seen: Counter[str] = Counter()
    for seed in (26, 29):
        cluster = WholeCluster(draw_plan(seed, attacks=WHOLE_ATTACKS))
        cluster.play()
        for committed in cluster.checks.blocks.values():
            for tx, outcome in zip(committed.block.txs, committed.outcomes, strict=True):
                seen[tx.type] += outcome.ok
    wanted = {"TRANSFER", "JOB_LOCK", "RECEIPT_CLAIM", "RECEIPT_BATCH", "SETTLE", "REFUND", "REGISTER"}
    wanted |= {"STAKE", "UNSTAKE", "PARAM_UPDATE", "KEY_ROTATE", "EVIDENCE"}
    assert {kind for kind, count in seen.items() if count} >= wanted


def test_when_nothing_goes_wrong_everything_that_was_sent_is_final() -> None:
    cluster = WholeCluster(calm_plan(4, delay_ms=20))
    cluster.start()
    cluster.run(8_000)
    cluster.heal()
    cluster.run(10_000)
    assert len(cluster.checks.placed) > 300
    assert [client.who.name for client in cluster.clients if client.waits()] == []
    assert {node.executor.state.root() for node in cluster.nodes} == {cluster.view.root()}


def test_one_seed_one_run_under_any_hash_seed() -> None:
    code = (
        "from aitbc.sim.run import play_seed\n"
        "print([play_seed(s, whole=True, verbose=True).digest for s in (2, 12, 18)])"
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


QUICK = ("log a candidate without its block", "show a block before it is on disk", "believe a state root")


@pytest.mark.parametrize(
    "mutant", [m for m in WHOLE_MUTANTS if m.name in QUICK], ids=lambda mutant: mutant.name
)
def test_a_planted_mistake_is_found(mutant: Mutant) -> None:
    assert hunt(mutant, plans=plans_for(mutant)) is not None, "it survived"


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("mutant", WHOLE_MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_mistake_is_found(mutant: Mutant) -> None:
    """`make mutants` prints by which seed."""
    assert hunt(mutant, plans=plans_for(mutant)) is not None, "it survived"


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("start", range(10_000, 10_400, 40))
def test_hundreds_more(start: int) -> None:
    play(range(start, start + 40))
