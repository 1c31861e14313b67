"""Mining goes on: whatever becomes of a worker, or of a block of our own."""

import asyncio
import os
import signal
from collections.abc import Callable

from aitbc.workshop.core.effects import Mine
from aitbc.workshop.core.texts import GENESIS, Block
from aitbc.workshop.miner import Miner
from support.workshop import ALICE, machine


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)


def test_a_worker_that_is_lost_is_replaced_and_goes_on_with_the_work() -> None:
    template = Block(1, 0, GENESIS.hash, ALICE.address, ())

    async def story() -> Block:
        found: asyncio.Queue[tuple[Block, int]] = asyncio.Queue()
        miner = Miner(1, 4, lambda block, nonce: found.put_nowait((block, nonce)))
        await miner.start()
        try:
            await until(lambda: miner.pids)
            lost = miner.pids[0]
            os.kill(lost, signal.SIGKILL)
            await until(lambda: miner.pids != [lost])
            miner.mine(template)
            return (await asyncio.wait_for(found.get(), 20))[0]
        finally:
            await miner.stop()

    assert asyncio.run(story()) == template


def test_after_a_block_of_our_own_that_is_refused_mining_goes_on() -> None:
    node = machine(coinbase=ALICE.address)
    [first] = [one for one in node.tick(0) if isinstance(one, Mine)]
    assert not [one for one in node.mined(1, first.template, 0) if isinstance(one, Mine)], (
        "a nonce without work"
    )
    assert [one for one in node.tick(1_000) if isinstance(one, Mine)] == [first]
