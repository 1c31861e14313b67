"""Ranges of the chain that peers ask for, and the questions of this node's own catching up. docs/spec/sync.md"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from aitbc.adapters.storage.ranges import read_blocks, read_ends, read_headers
from aitbc.core.executor import Executor
from aitbc.core.peer.kinds import ENDS, HEADERS, Kind
from aitbc.core.peer.peers import Replied, Requested, Unreplied
from aitbc.core.types.reasons import Rejected
from aitbc.node.catching_up import SYNC_KINDS
from aitbc.node.talk.wires import Wires
from aitbc.ports import Store

T = TypeVar("T")

READ_FOR_PEER = 2
"""Of one peer's questions are read at a time, of the 16 long reads that may be under way."""
MAX_WAITING_OF_PEER = 16
"""Its questions together: nobody who catches up has more than four open, and a new link brings no more."""

log = logging.getLogger("aitbc.node")


class RangeReader(Protocol):
    @property
    def executor(self) -> Executor: ...

    async def read_range(self, work: Callable[[Store], T]) -> T:
        """Do work that reads much of the disk. Raises `too_busy` and `node_stopped`."""
        ...


class Ranges:
    kinds: tuple[Kind, ...] = SYNC_KINDS

    def __init__(self, wires: Wires, host: RangeReader) -> None:
        self._wires, self._host = wires, host
        self._asked: dict[int, Callable[[Any], None]] = {}
        """Who waits for an answer, by ticket."""
        self._turns: dict[bytes, tuple[asyncio.Semaphore, int]] = {}
        """Peers that have asked, and how many of their questions are open."""

    def ask(self, key: bytes, kind: Kind, message: Any, done: Callable[[Any], None]) -> None:
        """`done` hears the answer, or None when there will be none."""

        def note(ticket: int) -> None:
            self._asked[ticket] = done

        self._wires.ask(key, kind, message, note=note)

    def replied(self, effect: Replied) -> None:
        self._asked.pop(effect.ticket)(effect.message)

    def unreplied(self, effect: Unreplied) -> None:
        self._asked.pop(effect.ticket)(None)

    def requested(self, effect: Requested) -> None:
        _, open_now = self._turns.get(effect.key, (None, 0))
        if open_now >= MAX_WAITING_OF_PEER:
            self._wires.refuse(effect)
        else:
            self._wires.spawn(self._answer(effect))

    @asynccontextmanager
    async def _turn_of(self, key: bytes) -> AsyncIterator[None]:
        """Ranges are long reads on one thread: a peer that asks for many takes the place of nobody else."""
        turns, waiting = self._turns.get(key, (asyncio.Semaphore(READ_FOR_PEER), 0))
        self._turns[key] = (turns, waiting + 1)
        try:
            async with turns:
                yield
        finally:
            turns, waiting = self._turns[key]
            if waiting == 1:
                del self._turns[key]
            else:
                self._turns[key] = (turns, waiting - 1)

    async def _answer(self, effect: Requested) -> None:
        executor, message = self._host.executor, effect.message
        length, height = executor.loaded.genesis.consensus.epoch_length, executor.head.block.header.height

        def work(store: Store) -> Any:
            if effect.kind is ENDS:
                return read_ends(store, above=message.above, epoch_length=length, height=height)
            read = read_headers if effect.kind is HEADERS else read_blocks
            return read(store, start=message.start, count=message.count)

        try:
            async with self._turn_of(effect.key):
                answer = await self._host.read_range(work)
        except Rejected as rejection:
            log.debug("%s", rejection.message, extra={"component": "p2p"})
            self._wires.refuse(effect)
        else:
            self._wires.answer(effect, answer)
