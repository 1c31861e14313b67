"""Processes that search: they find what is enough, hear of new work at once, and never outlive the node."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aitbc.core.consensus.nakamoto.work import is_enough, target_of, work_hash
from aitbc.node.miner import Miner
from aitbc.node.searcher import TAILS, search

DIGEST, OTHER = bytes(range(32)), bytes(32)
Found = asyncio.Queue[tuple[bytes, int]]


def play(story: Callable[[Miner, Found], Awaitable[None]], *, workers: int = 1) -> Miner:
    async def run() -> Miner:
        found: Found = asyncio.Queue()
        miner = Miner(workers, lambda digest, nonce: found.put_nowait((digest, nonce)))
        await miner.start()
        try:
            async with asyncio.timeout(30):
                await story(miner, found)
        finally:
            await miner.stop()
        return miner

    return asyncio.run(run())


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z" if Path(f"/proc/{pid}").exists() else True


def test_a_batch_is_searched_from_its_first_nonce_to_its_last() -> None:
    best = min(range(len(TAILS)), key=lambda nonce: work_hash(DIGEST, nonce))
    most = work_hash(DIGEST, best)
    assert search(DIGEST, most, 0) == best
    assert search(DIGEST, (int.from_bytes(most, "big") - 1).to_bytes(32, "big"), 0) is None
    second = len(TAILS)
    found = search(DIGEST, target_of(1_000).to_bytes(32, "big"), second)
    assert found is not None
    assert found >= second
    assert is_enough(work_hash(DIGEST, found), target_of(1_000))
    assert not any(is_enough(work_hash(DIGEST, nonce), target_of(1_000)) for nonce in range(second, found))


def test_what_is_found_is_enough_and_the_newest_work_counts() -> None:
    async def story(miner: Miner, found: Found) -> None:
        miner.search(DIGEST, 1)  # for ever
        await until(lambda: miner.tries > 0)
        for digest in (OTHER, DIGEST, OTHER):
            miner.search(digest, target_of(50_000))
            name, nonce = await found.get()
            assert name == digest
            assert is_enough(work_hash(digest, nonce), target_of(50_000))
        miner.search(DIGEST, target_of(2))
        miner.stop_search()
        miner.search(OTHER, target_of(2))
        assert (await found.get())[0] == OTHER
        assert found.empty()

    assert play(story, workers=2).tries > 0


def test_a_worker_that_is_lost_is_replaced() -> None:
    async def story(miner: Miner, found: Found) -> None:
        miner.search(DIGEST, 1)
        await until(lambda: miner.pids)
        lost = miner.pids[0]
        os.kill(lost, signal.SIGKILL)
        await until(lambda: miner.pids != [lost])
        miner.search(OTHER, target_of(2))
        assert (await found.get())[0] == OTHER

    play(story)


def test_workers_end_with_the_miner() -> None:
    pids: list[int] = []

    async def story(miner: Miner, _found: Found) -> None:
        miner.search(DIGEST, 1)
        await until(lambda: len(miner.pids) == 2)
        pids.extend(miner.pids)

    play(story, workers=2)
    assert all(map(is_gone, pids))


NODE = """
import asyncio
from aitbc.node.miner import Miner

async def run():
    miner = Miner(2, print)
    await miner.start()
    miner.search(bytes(32), 1)
    while len(miner.pids) < 2:
        await asyncio.sleep(0.01)
    print(*miner.pids, flush=True)
    await asyncio.sleep(600)

asyncio.run(run())
"""


def test_workers_end_when_the_node_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", NODE], stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        pids = [int(pid) for pid in node.stdout.readline().split()]
        assert len(pids) == 2
        node.kill()
        node.wait()
    deadline = time.monotonic() + 20
    while not all(map(is_gone, pids)):
        assert time.monotonic() < deadline, "a worker outlives its node"
        time.sleep(0.05)  # nothing tells when somebody else's child ends
