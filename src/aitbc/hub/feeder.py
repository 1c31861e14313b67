"""Keeps the matcher's index filled from the store: batched claims, fairest first, no more than can soon be placed.

Alone on its database a process may hold many thousands; beside others only what its own providers will soon be free
for, so that nobody hoards what another one could do. docs/spec/matching.md
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aitbc.core.jobs.fairness import JobClass
from aitbc.hub.records import NewTask
from aitbc.hub.store.queue import Appetite
from aitbc.ports import StorageError

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

log = logging.getLogger("aitbc.hub")

WINDOW = 20_000
"""Parts of one class and model in memory, about 3 KiB each; more wait on disk."""
SHARED_WINDOW_LEAST = 32
SHARED_WINDOW_PER_SLOT = 4
CLAIM = 2_000
"""Parts in one claim: some tens of milliseconds of the database."""
POLL_S = 1.0
"""A hint may be lost, so everything is also asked for."""

_Line = tuple[str, int]
"""Capability and class."""


class Feeder:
    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._backlog: set[_Line] = set()
        """Lines of which there is more on disk."""
        self._missing: set[tuple[str, int]] = set()
        self._wake = asyncio.Event()

    def room(self, task: NewTask) -> bool:
        """May a new part enter the index at once? Also when its turn comes before the last one's there."""
        queue = self._hub.matcher.queue(task.cap)
        window, held = self._window(task.cap), queue.in_class(task.job_class)
        if held < window:
            return (task.cap, task.job_class) not in self._backlog or held < window // 2
        last = queue.last(task.job_class)
        return last is not None and task.vfinish < last.vfinish and held < 2 * window

    def more(self, tasks: Iterable[NewTask]) -> None:
        """These wait on disk."""
        self._backlog.update([(task.cap, task.job_class) for task in tasks])
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

    def hungry(self) -> None:
        """Something was given away."""
        if self._backlog:
            self._wake.set()

    async def start(self) -> None:
        """What an earlier run left waiting: the first of it now, the rest while the hub works."""
        self._backlog = {(line.cap, line.job_class) for line in await self._hub.db(self._hub.store.waiting)}
        await self._fill_once()
        self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self._give_back()
                await self.fill()
            except StorageError as error:
                log.error("the queue cannot be read: %s", error)

    async def listen(self) -> None:
        """Wake when another process says that something waits."""
        while True:
            try:
                if await asyncio.to_thread(self._hub.store.database.notified, POLL_S):
                    self._wake.set()
            except StorageError as error:
                log.warning("%s", error)
                await asyncio.sleep(POLL_S)

    async def fill(self) -> None:
        while await self._fill_once() and not self._hub.store.database.shared:
            await asyncio.sleep(0)

    async def _fill_once(self) -> bool:
        """One claim; False when there is nothing more, or no room."""
        hub, appetites = self._hub, self._appetites()
        if not appetites:
            return False
        claimed = await hub.db(hub.store.claim, hub.process, appetites)
        got = Counter([(task.cap, task.job_class) for each in claimed for task in each.tasks])
        for appetite in appetites:
            line = (appetite.cap, appetite.job_class)
            if got[line] < appetite.limit:
                self._backlog.discard(line)
        for each in claimed:
            await hub.jobs.adopt(each)
        return bool(claimed)

    def _appetites(self) -> list[Appetite]:
        shared = self._hub.store.database.shared
        lines = (
            {(model, int(each)) for model in self._served() for each in JobClass} if shared else self._backlog
        )
        appetites = []
        for cap, job_class in sorted(lines):
            window = self._window(cap)
            held = self._hub.matcher.queue(cap).in_class(job_class)
            if held <= window // 2:
                appetites.append(Appetite(cap, job_class, min(CLAIM, window - held)))
        return appetites

    def _window(self, model: str) -> int:
        if not self._hub.store.database.shared:
            return WINDOW
        slots = sum([session.slots for session in self._hub.directory.serving(model)])
        return max(SHARED_WINDOW_LEAST, SHARED_WINDOW_PER_SLOT * slots)

    def _served(self) -> set[str]:
        return {model for session in self._hub.directory.sessions() for model in session.eligible}

    async def mend(self) -> None:
        """Give back what the store says is ours and is not: after a connection was lost with an answer on its way.

        What is missing twice, with a sweep between, is not merely on its way.
        """
        hub = self._hub
        owned = await hub.db(hub.store.owned, hub.process)
        missing = {(job_id, part) for job_id, part in owned if not hub.jobs.has(job_id, part)}
        stray = sorted(missing & self._missing)
        self._missing = missing - set(stray)
        if stray:
            log.warning("%d waiting parts were ours on disk only", len(stray))
            await hub.db(hub.store.let_go, hub.process, stray)
            self._backlog.update([(line.cap, line.job_class) for line in await hub.db(hub.store.waiting)])
            self._wake.set()

    async def _give_back(self) -> None:
        """Beside other processes: parts that nobody here can do are for those who can."""
        hub = self._hub
        if not hub.store.database.shared:
            return
        for model in hub.matcher.models() - self._served():
            released = hub.jobs.release_waiting(model)
            if released:
                await hub.db(hub.store.let_go, hub.process, released)
