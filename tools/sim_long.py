"""Simulate for so many minutes on all cores and say how far it came: `make sim-long MINUTES=60`.

Of every six seeds four are engines alone, one of them with messages changed on their way, and two are whole nodes. Ends
at the first broken promise with the command that shows it.
"""

import os
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count

from aitbc.sim.run import Report, play_seed, replay_command

FIRST_SEED = 1_000_000
SAY_EVERY_S = 60
KINDS = (
    (False, "drawn", None),
    (True, "drawn", None),
    (False, "drawn", None),
    (False, "mutator", 4),
    (True, "drawn", None),
    (False, "drawn", None),
)
"""(whole, attack, nodes) of a seed by its place among six."""


def play(seed: int) -> tuple[Report, str]:
    whole, attack, nodes = KINDS[seed % len(KINDS)]
    report = play_seed(seed, nodes=nodes, attack=attack, whole=whole)
    report.trace.clear()
    return report, replay_command(report, nodes=nodes, attack=attack, whole=whole)


def main(minutes: float, first: int) -> int:
    started, said = time.monotonic(), time.monotonic()
    seeds, totals = count(first), Counter[str]()
    with ProcessPoolExecutor() as pool:
        running: set[Future[tuple[Report, str]]] = set()
        while time.monotonic() - started < minutes * 60 or running:
            while len(running) < 2 * (os.cpu_count() or 1) and time.monotonic() - started < minutes * 60:
                running.add(pool.submit(play, next(seeds)))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                report, command = future.result()
                if report.failure is not None:
                    print(f"seed {report.seed}: {report.failure}; see it happen: {command}")
                    pool.shutdown(cancel_futures=True)
                    return 1
                kind = "whole" if "--whole" in command else "engine"
                totals.update(
                    {f"{kind} seeds": 1, f"{kind} events": report.events, f"{kind} blocks": report.blocks}
                )
                totals["with evidence"] += bool(report.accused)
            if time.monotonic() - said > SAY_EVERY_S or not running:
                said = time.monotonic()
                told = ", ".join(f"{number:,} {name}" for name, number in sorted(totals.items()))
                print(f"{(said - started) / 60:.0f} min: {told}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else FIRST_SEED))
