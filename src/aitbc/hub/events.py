"""What a client sees of a running job: a bounded log that any number of readers can follow from its start."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec


class EventLog:
    """Appends wake every reader; readers never hold the writer up. A closed log ends its readers."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._events: list[bytes] = []
        self._news = asyncio.Event()
        self.closed = False

    @property
    def full(self) -> bool:
        return len(self._events) >= self._limit

    def append(self, event: dict[str, Any]) -> None:
        """State changes are always kept: a life has few. Callers drop the rest when the log is `full`."""
        self._events.append(msgspec.json.encode(event))
        self._wake()

    def close(self) -> None:
        self.closed = True
        self._wake()

    async def follow(self, *, idle_s: float) -> AsyncIterator[bytes | None]:
        """Every event from the first, until the log is closed; None after `idle_s` without news."""
        position = 0
        while True:
            while position < len(self._events):
                yield self._events[position]
                position += 1
            if self.closed:
                return
            news = self._news
            try:
                async with asyncio.timeout(
                    idle_s
                ):  # wait_for of 3.11 forgets a cancel that comes with the news
                    await news.wait()
            except TimeoutError:
                yield None

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
