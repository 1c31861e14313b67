"""What a planted mistake is, and how a seed is looked for that finds it by the promise that it breaks."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from aitbc.sim.faults import Plan
from aitbc.sim.run import Report, play_plan, play_seed

MAX_SEEDS = 1_000


class Mutant(NamedTuple):
    name: str
    promise: str
    """Which promise it breaks: so begins what the checker says that is to find it."""
    node: type[Any]
    attack: str | None = "drawn"
    nodes: int | None = 4
    whole: bool = False
    """In a node with a ledger."""


class Found(NamedTuple):
    report: Report
    others: int
    """Runs before it that failed otherwise."""


def hunt(mutant: Mutant, seeds: int = MAX_SEEDS, plans: Iterable[Plan] = ()) -> Found | None:
    """The first run that finds it by the promise that it breaks: of kept plans, then of seeds."""
    others = 0
    for report in _runs(mutant, seeds, plans):
        if is_found(mutant, report):
            return Found(report, others)
        others += report.failure is not None
    return None


def is_found(mutant: Mutant, report: Report) -> bool:
    return report.failure is not None and report.failure.startswith(mutant.promise)


def _runs(mutant: Mutant, seeds: int, plans: Iterable[Plan]) -> Iterator[Report]:
    for plan in plans:
        yield play_plan(plan, node_class=mutant.node, whole=mutant.whole)
    for seed in range(seeds):
        yield play_seed(
            seed, nodes=mutant.nodes, attack=mutant.attack, node_class=mutant.node, whole=mutant.whole
        )
