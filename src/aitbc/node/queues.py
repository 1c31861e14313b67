"""Lines in front of what a node does beside its loop: so many are served at once, so many more wait, and the next is
refused at once with `too_busy`."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import TypeVar

from aitbc.core.peer.addresses import join_where, owner_of
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


class Places:
    """For connections that stay: so many in all, fewer for one public address."""

    def __init__(self, *, most: int, most_at_owner: int, what: str, reserved: int = 0) -> None:
        """`reserved`: so many of `most` are for local ones only."""
        self._most = most
        self._most_at_owner = most_at_owner
        self._reserved = reserved
        self._what = what
        self._owners: Counter[str] = Counter()
        """By public address; local ones count together, as an empty one, and only towards all."""

    def __len__(self) -> int:
        return self._owners.total()

    def take(self, host: str) -> str:
        """A place for somebody at this address; returns whom it counts for. Raises Rejected when there is none."""
        owner = owner_of(join_where(host, 1))
        most = self._most - self._reserved if owner else self._most
        if self._owners.total() >= most:
            raise Rejected(Reason.TOO_BUSY, f"there are {most} {self._what} already")
        if owner and self._owners[owner] >= self._most_at_owner:
            raise Rejected(
                Reason.TOO_BUSY, f"there are {self._most_at_owner} {self._what} at {owner} already"
            )
        self._owners[owner] += 1
        return owner

    def leave(self, owner: str) -> None:
        self._owners[owner] -= 1
        if not self._owners[owner]:
            del self._owners[owner]


def too_busy(what: str, most: int) -> Rejected:
    return Rejected(Reason.TOO_BUSY, f"{most} {what} are under way already")
