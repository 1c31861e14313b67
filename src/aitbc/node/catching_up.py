"""The hands of `core.sync.ranges`: asks peers, has answers checked beside the loop, hands blocks over to be written."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from aitbc.core.executor import Executor
from aitbc.core.ledger.validators import validators_of
from aitbc.core.peer.kinds import BLOCKS, ENDS, HEADERS, Kind
from aitbc.core.sync.answers import Chain
from aitbc.core.sync.ranges import Apply, Ask, Blame, RangeSync, SyncEffect, SyncState
from aitbc.core.types.blocks import Validator
from aitbc.core.types.reasons import Rejected

log = logging.getLogger("aitbc.node")

SYNC_KINDS: tuple[Kind, ...] = (ENDS, HEADERS, BLOCKS)
SAY_EVERY_S = 5.0
REMEMBERED = 8
"""Points of progress that the speed is worked out from."""


class SyncView(NamedTuple):
    """How catching up goes, for people."""

    state: SyncState
    height: int
    target: int
    blocks_per_s: float | None
    eta_s: int | None


class LeftOut(Exception):
    """Blocks below these were not what their headers say."""


class Writer(Protocol):
    """The node that writes what was fetched."""

    @property
    def executor(self) -> Executor: ...

    async def write_range(self, work: Apply) -> int | None:
        """Execute and write; the height of the first block whose transactions are not its own, or None. Raises LeftOut
        for what was handed over behind such a block."""
        ...


class Asker(Protocol):
    """The network, as far as catching up needs it."""

    def ask_of(self, key: bytes, kind: Kind, message: Any, done: Callable[[Any], None]) -> None:
        """`done` hears the answer, or None when there will be none; in this call or later."""
        ...

    def finals(self) -> dict[bytes, int]:
        """Peers, and how far each says it is."""
        ...

    def penalise(self, peer: str, message: str) -> None: ...


class CatchUp:
    """Everything is called on the node's loop."""

    def __init__(self, writer: Writer, asker: Asker, now_ms: Callable[[], int]) -> None:
        self._writer, self._asker, self._now_ms = writer, asker, now_ms
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync-check")
        self._tasks: set[asyncio.Task[None]] = set()
        self._points: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)
        self._said_s = 0.0

    @cached_property
    def _sync(self) -> RangeSync:
        loaded = self._writer.executor.loaded
        length = loaded.genesis.consensus.epoch_length
        chain = Chain(loaded.genesis.chain_id, loaded.hash, length, self._writer.executor.verifier)
        height, block_hash, validators = self._head()
        return RangeSync(chain=chain, height=height, block_hash=block_hash, validators=validators)

    def _head(self) -> tuple[int, bytes, list[Validator]]:
        """Height and hash, and the set of the block after it."""
        executor = self._writer.executor
        return executor.head.block.header.height, executor.head.hash, validators_of(executor.state)

    @property
    def is_fetching(self) -> bool:
        """Agreement rests: blocks are final that this node is far from."""
        return self._sync.state is SyncState.BLOCKS

    def view(self) -> SyncView:
        sync, speed = self._sync, None
        if self.is_fetching and len(self._points) > 1:
            (began_s, low), (ended_s, high) = self._points[0], self._points[-1]
            speed = round((high - low) / max(ended_s - began_s, 0.001), 1)
        left = sync.target - sync.height
        height = self._writer.executor.head.block.header.height
        return SyncView(
            sync.state, height, max(height, sync.target), speed, round(left / speed) if speed else None
        )

    def tick(self) -> None:
        """Call every second."""
        if not self.is_fetching and self._writer.executor.head.block.header.height != self._sync.height:
            self._sync.moved(*self._head())
        self._perform(self._sync.tick(self._now_ms(), self._asker.finals()))
        self._say()

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._thread.shutdown(wait=True)

    def _say(self) -> None:
        if self.is_fetching and time.monotonic() - self._said_s > SAY_EVERY_S:
            self._said_s = time.monotonic()
            view = self.view()
            log.info(
                "catching up",
                extra={
                    "component": "sync",
                    "event": "progress",
                    "height": view.height,
                    "target": view.target,
                    "blocks_per_s": view.blocks_per_s,
                    "eta_s": view.eta_s,
                },
            )

    def _perform(self, effects: Sequence[SyncEffect]) -> None:
        for effect in effects:
            match effect:
                case Ask():
                    self._ask(effect)
                case Apply():
                    self._spawn(self._apply(effect))
                case Blame():
                    self._asker.penalise(effect.key.hex(), effect.message)

    def _ask(self, effect: Ask) -> None:
        def done(answer: Any) -> None:
            if answer is None:
                self._perform(self._sync.unanswered(self._now_ms(), effect.ticket))
            else:
                self._spawn(self._check(effect.ticket, answer))

        self._asker.ask_of(effect.key, effect.kind, effect.message, done)

    async def _check(self, ticket: int, answer: Any) -> None:
        work = self._sync.checker(ticket, answer)
        if work is None:
            self._perform(self._sync.tick(self._now_ms(), self._asker.finals()))
            return
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except Rejected as rejection:
            self._perform(self._sync.lied(self._now_ms(), ticket, rejection.message))
        else:
            self._perform(self._sync.take(self._now_ms(), ticket, result))

    async def _apply(self, effect: Apply) -> None:
        if not self._points:
            self._points.append((time.monotonic(), self._sync.height))
        try:
            wrong = await self._writer.write_range(effect)
        except LeftOut:
            return  # its blocks are asked for again
        if wrong is not None:
            self._perform(self._sync.wrong_body(self._now_ms(), wrong))
            return
        height = effect.blocks[-1].block.header.height
        self._points.append((time.monotonic(), height))
        self._perform(self._sync.applied(self._now_ms(), height))
        if not self.is_fetching:
            self._points.clear()
            log.info("caught up", extra={"component": "sync", "event": "live", "height": height})

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("a mistake of this program", exc_info=task.exception(), extra={"component": "sync"})
