"""How fast agreement is: events per CPU-second of engine, simulator and whole nodes; hops to a block and to finality.

Times are simulated and exact; the speed is CPU time of one process, with a hash-based test signature scheme.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

from common import Json, save, spread

from aitbc.core.consensus.engine import EngineEffect, EngineEvent
from aitbc.core.consensus.simplex.pacing import Pace
from aitbc.core.consensus.simplex.rules import Simplex
from aitbc.sim.blocks import START_MS
from aitbc.sim.cluster import Cluster
from aitbc.sim.faults import calm_plan
from aitbc.sim.node import Node
from aitbc.sim.whole_cluster import WholeCluster

HOP_MS = 50


def run(
    nodes: int,
    *,
    delay_ms: int,
    for_ms: int,
    node_class: type[Node] | None = None,
    world: type[Cluster] = Cluster,
) -> tuple[Cluster, float]:
    """A cluster after so much simulated time, and the CPU seconds that it took."""
    cluster = world(calm_plan(nodes, delay_ms=delay_ms), node_class=node_class)
    cluster.start()
    started = time.process_time()
    cluster.run(for_ms)
    return cluster, time.process_time() - started


def speed(nodes: int, for_ms: int, world: type[Cluster] = Cluster) -> Json:
    rates, per_block = [], []
    for _ in range(5):
        cluster, seconds = run(nodes, delay_ms=10, for_ms=for_ms, world=world)
        rates.append(cluster.events / seconds)
        per_block.append(cluster.events / len(cluster.checks.final))
    return {"events_per_cpu_second": spread(rates, 0), "events_per_block": round(per_block[0], 1)}


class Recorded(Simplex):
    """Remembers what it was told."""

    def __init__(self, *, transactions_wait: Callable[[], bool], **options: Any) -> None:
        self.told: list[tuple[int, EngineEvent]] = []
        self.answers: list[bool] = []

        def ask() -> bool:
            self.answers.append(transactions_wait())
            return self.answers[-1]

        super().__init__(transactions_wait=ask, **options)

    def on(self, now_ms: int, event: EngineEvent) -> list[EngineEffect]:
        self.told.append((now_ms, event))
        return super().on(now_ms, event)


class RecordedNode(Node):
    engine_class = Recorded


def engine_alone(nodes: int, for_ms: int) -> Json:
    """What one node was told in a run, told again to a new engine with nothing around it."""
    cluster, _ = run(nodes, delay_ms=10, for_ms=for_ms, node_class=RecordedNode)
    node = cluster.nodes[0]
    told, answers, rates = node.engine.told, node.engine.answers, []  # type: ignore[attr-defined]
    node.disk = node.new_disk()
    for _ in range(5):
        engine = Simplex(
            address=node.address,
            pace=Pace(block_time_ms=0, idle_ms=1_000),
            epoch=cluster.epochs[0],
            anchor=node._anchor(),
            transactions_wait=iter(answers).__next__,
        )
        engine.start(START_MS)
        started = time.process_time()
        for now_ms, event in told:
            engine.on(now_ms, event)
        rates.append(len(told) / (time.process_time() - started))
        assert engine.frontier > 10, "it went along"
    return {"events_per_cpu_second": spread(rates, 0)}


def hops(nodes: int, for_ms: int) -> Json:
    """Between the times at which blocks were made; and from then until the first node and until all had them final."""
    cluster, _ = run(nodes, delay_ms=HOP_MS, for_ms=for_ms)
    made = {stored.block.height: stored.block.timestamp_ms for stored in cluster.nodes[0].disk.chain[2:]}
    times = cluster.checks.final_ms
    intervals = [(made[height + 1] - made[height]) / HOP_MS for height in made if height + 1 in made]
    everywhere = [
        (max(times[height]) - made[height]) / HOP_MS for height in made if len(times[height]) == nodes
    ]
    return {"block_interval_hops": spread(intervals, 2), "finality_hops": spread(everywhere, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a few seconds: to see that it runs")
    small = parser.parse_args().small
    results = {
        "engine_alone_4": engine_alone(4, 2_000 if small else 20_000),
        "simulator_4": speed(4, 2_000 if small else 60_000),
        "whole_node_4": speed(4, 2_000 if small else 20_000, WholeCluster),
        "hops_4": hops(4, 2_000 if small else 20_000),
        "hops_50": hops(50, 1_000 if small else 10_000),
    }
    save(
        "simplex",
        "≥ 100,000 simulated events per CPU-second for the engine alone at 4 validators, ≥ 10,000 for whole"
        " nodes; at 50 validators block interval ≤ 2.3 hops and finality ≤ 3.5 hops",
        results,
    )


if __name__ == "__main__":
    main()
