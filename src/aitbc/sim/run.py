"""One seed, one run, one report: what `aitbc sim`, the tests and the benchmarks call."""

import msgspec

from aitbc.core.types.reasons import Stops
from aitbc.sim.checks import Broken
from aitbc.sim.cluster import Cluster
from aitbc.sim.faults import Plan, draw_plan
from aitbc.sim.node import Node

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


def play_seed(
    seed: int,
    *,
    nodes: int | None = None,
    attack: str | None = "drawn",
    verbose: bool = False,
    node_class: type[Node] = Node,
) -> Report:
    """Play the run of a seed to its end or to the first broken promise."""
    return play_plan(draw_plan(seed, nodes=nodes, attack=attack), verbose=verbose, node_class=node_class)


def play_plan(plan: Plan, *, verbose: bool = False, node_class: type[Node] = Node) -> Report:
    cluster = Cluster(plan, verbose=verbose, node_class=node_class)
    failure = None
    try:
        cluster.play()
    except Broken as broken:
        failure = str(broken)
    except (AssertionError, LookupError, ValueError, Stops) as bug:
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
    )


def replay_command(report: Report, *, nodes: int | None, attack: str | None) -> str:
    """What a reader types to see the same run again, message by message."""
    fixed = f" --nodes {nodes}" if nodes else ""
    fixed += "" if attack == "drawn" else f" --attack {attack or 'none'}"
    return f"aitbc sim --seed {report.seed}{fixed} --verbose"
