"""Mining on our own chains: tries of one process, and what `aitbc.node.miner` gets out of several.

Goal: at least 1.5 million tries a second and core.
"""

import asyncio
import os
import time

from common import save, spread

from aitbc.node.miner import RATE_S, Miner
from aitbc.node.searcher import TAILS, search

RUNS = 7
BATCHES = 15


def tries_per_second() -> float:
    """Of CPU time, at a target that nothing reaches."""
    begun = time.process_time()
    for batch in range(BATCHES):
        assert search(bytes(32), bytes(32), batch * len(TAILS)) is None
    return BATCHES * len(TAILS) / (time.process_time() - begun) / 1e6


async def processes_per_second(workers: int) -> float:
    """Of wall time, reported by the processes."""
    miner = Miner(workers, lambda _digest, _nonce: None)
    await miner.start()
    miner.search(bytes(32), 1)
    await asyncio.sleep(2 + RATE_S)
    rate = miner.rate / 1e6
    await miner.stop()
    return round(rate, 2)


def main() -> None:
    cores = os.cpu_count() or 1
    results = {
        "million_tries_per_cpu_second": spread([tries_per_second() for _ in range(RUNS)], 2),
        "million_tries_per_second_of_processes": {
            "1": asyncio.run(processes_per_second(1)),
            str(cores): asyncio.run(processes_per_second(cores)),
        },
    }
    save("mining", "at least 1.5 million tries a second and core", results)


if __name__ == "__main__":
    main()
