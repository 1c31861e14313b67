"""Ranges that peers ask for: long reads, of which each peer has a share."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from aitbc.core.peer.kinds import BLOCKS, BlockRange
from aitbc.core.peer.peers import Requested
from aitbc.node.talk.ranges import MAX_WAITING_OF_PEER, READ_FOR_PEER, Ranges
from support.chain import Chain

GREEDY, OTHER = b"g" * 32, b"o" * 32


class Wires:
    def __init__(self) -> None:
        self.answered: Counter[bytes] = Counter()
        self.refused: Counter[bytes] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    def answer(self, request: Requested, _message: Any) -> None:
        self.answered[request.key] += 1

    def refuse(self, request: Requested) -> None:
        self.refused[request.key] += 1


def test_who_asks_for_much_is_read_for_in_turn(chain: Chain) -> None:
    """Whoever asks next need not wait behind all of it."""

    async def play() -> None:
        wires, go_on, reading = Wires(), asyncio.Event(), 0

        async def read_range(work: Callable[[Any], Any]) -> Any:
            nonlocal reading
            reading += 1
            await go_on.wait()
            reading -= 1
            return None

        host = SimpleNamespace(executor=chain.executor, read_range=read_range)
        ranges = Ranges(wires, host)  # type: ignore[arg-type]
        for number in range(MAX_WAITING_OF_PEER + 5):
            ranges.requested(Requested(GREEDY, 1, number, BLOCKS, BlockRange(1, 1)))
            await asyncio.sleep(0)
        ranges.requested(Requested(OTHER, 2, 1, BLOCKS, BlockRange(1, 1)))
        for _ in range(3):
            await asyncio.sleep(0)
        assert reading == READ_FOR_PEER + 1
        go_on.set()
        while wires.answered.total() < MAX_WAITING_OF_PEER + 1:
            await asyncio.sleep(0)
        assert wires.answered == {GREEDY: MAX_WAITING_OF_PEER, OTHER: 1}
        assert wires.refused == {GREEDY: 5}
        assert ranges._turns == {}, "nothing is kept of who has its answers"

    asyncio.run(asyncio.wait_for(play(), 5))
