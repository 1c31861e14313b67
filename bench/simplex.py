"""How fast agreement is: events per CPU-second of engine and simulator, and hops to a block and to finality.

Times are simulated and exact; the speed is CPU time of one process, with a hash-based test signature scheme.
"""

import argparse
import time

from common import Json, save, spread

from aitbc.sim.cluster import Cluster
from aitbc.sim.faults import Plan

HOP_MS = 50


def plan(nodes: int, *, delay_ms: int, seed: int = 0) -> Plan:
    """Nothing goes wrong, and there is always something to do."""
    return Plan(
        seed=seed,
        nodes=nodes,
        attack=None,
        guilty=(),
        careless=None,
        epoch_length=600,
        changing_sets=False,
        block_time_ms=0,
        idle_ms=1_000,
        delay_ms=(delay_ms, delay_ms),
        loss_percent=0,
        duplicate_percent=0,
        crash_at_write_permille=0,
        disk_ms=0,
        skew_ms=(0,) * nodes,
        drift_ppm=(0,) * nodes,
        work_ms=10,
        troubles=(),
    )


def run(nodes: int, *, delay_ms: int, for_ms: int) -> tuple[Cluster, float]:
    """A cluster after so much simulated time, and the CPU seconds that it took."""
    cluster = Cluster(plan(nodes, delay_ms=delay_ms))
    cluster.start()
    started = time.process_time()
    cluster.run(for_ms)
    return cluster, time.process_time() - started


def speed(nodes: int, for_ms: int) -> Json:
    rates, per_block = [], []
    for _ in range(5):
        cluster, seconds = run(nodes, delay_ms=10, for_ms=for_ms)
        rates.append(cluster.events / seconds)
        per_block.append(cluster.events / len(cluster.checks.final))
    return {"events_per_cpu_second": spread(rates, 0), "events_per_block": round(per_block[0], 1)}


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
        "engine_4": speed(4, 2_000 if small else 60_000),
        "hops_4": hops(4, 2_000 if small else 20_000),
        "hops_50": hops(50, 1_000 if small else 10_000),
    }
    save(
        "simplex",
        "≥ 100,000 simulated events per CPU-second at 4 validators; at 50 validators block interval ≤ 2.3 hops and"
        " finality ≤ 3.5 hops",
        results,
    )


if __name__ == "__main__":
    main()
