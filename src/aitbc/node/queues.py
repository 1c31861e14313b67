"""Lines in front of what a node does beside its loop: so many are served at once, so many more wait, and the next is
refused at once with `too_busy`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import TypeVar

from aitbc.core.types.reasons import Reason, Rejected

T = TypeVar("T")


class Line:
    """In front of threads."""

    def __init__(self, threads: Executor, *, most: int, what: str) -> None:
        self._threads = threads
        self._most = most
        """Served and waiting together."""
        self._what = what
        self._taken = 0

    @property
    def taken(self) -> int:
        """Served and waiting now."""
        return self._taken

    async def do(self, work: Callable[[], T]) -> T:
        if self._taken >= self._most:
            raise too_busy(self._what, self._most)
        self._taken += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._taken -= 1


class Gate:
    """In front of calls to other machines."""

    def __init__(self, *, at_once: int, most: int, what: str) -> None:
        self._turn = asyncio.Semaphore(at_once)
        self._most = most
        """Served and waiting together."""
        self._what = what
        self._taken = 0

    @contextlib.asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        if self._taken >= self._most:
            raise too_busy(self._what, self._most)
        self._taken += 1
        try:
            async with self._turn:
                yield
        finally:
            self._taken -= 1


def too_busy(what: str, most: int) -> Rejected:
    return Rejected(Reason.TOO_BUSY, f"{most} {what} are under way already")
