"""Ranges of final blocks that were fetched: handed over two at a time, executed and written one after the other."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core.executor import Executor
from aitbc.core.sync.ranges import Apply, Final
from aitbc.core.types.blocks import Block, Candidate, Certificate
from aitbc.core.types.records import Commit
from aitbc.node.catching_up import LeftOut
from aitbc.node.runtime import NodeRuntime, SystemClock
from support.chain import Chain
from support.people import ALICE, BOB, VALIDATOR

SOON_S = 5.0


class SlowStore(MemoryStore):
    """Writes when it may."""

    def __init__(self, genesis_hash: bytes) -> None:
        super().__init__(genesis_hash)
        self.may_write = threading.Event()

    def commit(self, *commits: Commit) -> None:
        if self.load() is not None:
            assert self.may_write.wait(SOON_S)
        super().commit(*commits)


@pytest.fixture
def ranges(chain: Chain) -> list[Apply]:
    """Two ranges of two blocks each, made elsewhere."""
    finals = []
    for height in range(1, 5):
        built = chain.block(chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}))
        candidate = Candidate(0, height, height - 1, bytes(32), built.hash)
        certificate = Certificate("final", candidate, 1, [VALIDATOR.sign(bytes(32))])
        finals.append(Final(built.hash, built.block, certificate))
    return [Apply(finals[:2]), Apply(finals[2:])]


def run(chain: Chain, story: Callable[[NodeRuntime, SlowStore], Coroutine[Any, Any, None]]) -> None:
    """Play a story with a new node that only follows."""

    async def play() -> None:
        executor = Executor(chain.document, None)
        store = SlowStore(executor.loaded.hash)
        store.commit(executor.loaded.first)
        node = NodeRuntime(executor, store, scribe=None, clock=SystemClock())
        try:
            await asyncio.wait_for(story(node, store), SOON_S)
        finally:
            store.may_write.set()
            await node.stop()

    asyncio.run(play())


def test_signatures_of_the_next_range_are_checked_while_one_is_written(
    chain: Chain, ranges: list[Apply], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(node: NodeRuntime, store: SlowStore) -> None:
        checked: list[Block] = []
        begin = node.intake.begin

        def begun(txs: Any) -> Any:
            work = begin(txs)
            work.add_done_callback(lambda _: checked.append(txs))
            return work

        monkeypatch.setattr(node.intake, "begin", begun)
        writing = [asyncio.create_task(node.write_range(work)) for work in ranges]
        while len(checked) < 4:
            await asyncio.sleep(0.001)
        assert node.executor.head.block.header.height == 0
        store.may_write.set()
        assert await asyncio.gather(*writing) == [None, None]
        assert node.executor.head.hash == chain.executor.head.hash
        assert node.executor.state.root() == chain.executor.state.root()

    run(chain, story)


def test_what_stands_behind_a_wrong_block_is_left_out(chain: Chain, ranges: list[Apply]) -> None:
    """And may be handed over again, with the right one."""

    async def story(node: NodeRuntime, store: SlowStore) -> None:
        store.may_write.set()
        first, second = ranges[0].blocks
        other = Final(second.hash, Block(second.block.header, second.block.txs * 2), second.certificate)
        wrong = asyncio.create_task(node.write_range(Apply([first, other])))
        behind = asyncio.create_task(node.write_range(ranges[1]))
        assert await wrong == 2
        with pytest.raises(LeftOut):
            await behind
        assert node.executor.head.block.header.height == 0
        assert [await node.write_range(work) for work in ranges] == [None, None]
        assert node.executor.head.hash == chain.executor.head.hash

    run(chain, story)
