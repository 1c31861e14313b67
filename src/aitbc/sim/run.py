"""One seed, one run, one report: what `aitbc sim`, the tests and the benchmarks call."""

import shlex
from typing import Any

import msgspec

from aitbc.sim.checks import BUGS, Broken
from aitbc.sim.cluster import Cluster
from aitbc.sim.faults import ATTACKS, WHOLE_ATTACKS, Plan, draw_plan
from aitbc.sim.network.actors import ATTACKS as NETWORK_ATTACKS
from aitbc.sim.network.plan import NetworkPlan, draw_network_plan
from aitbc.sim.network.run import NetworkRun
from aitbc.sim.whole_cluster import WholeCluster

TRACE_LINES = 60
"""The end of a failed run's story, as it is printed."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    nodes: int
    attack: str | None
    failure: str | None
    """Which promise was broken, in words; None: none."""
    events: int
    blocks: int
    accused: list[str]
    digest: str
    """Of everything that happened: equal for equal seeds."""
    trace: list[str]
    fallen: list[str] = []
    """Guilty ones that died of a bug, and of which: no broken promise, but worth a look."""


def play_seed(
    seed: int,
    *,
    nodes: int | None = None,
    attack: str | None = "drawn",
    verbose: bool = False,
    whole: bool = False,
    node_class: type[Any] | None = None,
) -> Report:
    """Play the run of a seed to its end or to the first broken promise; `whole`: of nodes with a ledger."""
    plan = draw_plan(seed, nodes=nodes, attack=attack, attacks=WHOLE_ATTACKS if whole else ATTACKS)
    return play_plan(plan, verbose=verbose, whole=whole, node_class=node_class)


def play_plan(
    plan: Plan, *, verbose: bool = False, whole: bool = False, node_class: type[Any] | None = None
) -> Report:
    world = WholeCluster if whole else Cluster
    cluster = world(plan, verbose=verbose, node_class=node_class)
    failure = None
    try:
        cluster.play()
    except Broken as broken:
        failure = str(broken)
    except BUGS as bug:
        failure = f"bug: {type(bug).__name__}: {bug}"
    return Report(
        seed=plan.seed,
        nodes=plan.nodes,
        attack=plan.attack,
        failure=failure,
        events=cluster.events,
        blocks=len(cluster.checks.final),
        accused=sorted(cluster.checks.accused),
        digest=cluster.digest(),
        trace=cluster.trace,
        fallen=cluster.fallen,
    )


def play_network_seed(
    seed: int, *, nodes: int | None = None, attack: str | None = "drawn", verbose: bool = False
) -> Report:
    """The run of a seed for nodes that only talk."""
    plan = draw_network_plan(seed, nodes=nodes, attack=attack, attacks=NETWORK_ATTACKS)
    return play_network_plan(plan, verbose=verbose)


def play_network_plan(plan: NetworkPlan, *, verbose: bool = False) -> Report:
    run = NetworkRun(plan, verbose=verbose)
    failure = None
    try:
        run.play()
    except Broken as broken:
        failure = str(broken)
    except BUGS as bug:
        failure = f"bug: {type(bug).__name__}: {bug}"
    return Report(
        seed=plan.seed,
        nodes=plan.nodes,
        attack=plan.attack,
        failure=failure,
        events=run.world.events,
        blocks=run.ledger.height,
        accused=[],
        digest=run.world.digest(),
        trace=run.world.trace,
    )


def replay_command(
    report: Report, *, nodes: int | None, attack: str | None, whole: bool = False, network: bool = False
) -> str:
    """What a reader types to see the same run again, message by message."""
    fixed = " --network" if network else " --whole" if whole else ""
    fixed += f" --nodes {nodes}" if nodes else ""
    fixed += "" if attack == "drawn" else f" --attack {shlex.quote(attack or 'none')}"
    return f"aitbc sim --seed {report.seed}{fixed} --verbose"
