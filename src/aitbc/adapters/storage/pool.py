"""Connections that readers share: each is lent to one thread at a time and kept for the next."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from aitbc.ports import StorageError


class Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)

READERS = 8
"""Reads at the same time; more threads wait. A machine with more cores than this is not kept waiting by SQL."""


class Pool(Generic[C]):
    """At most `READERS` connections, opened when they are needed. One that failed is not used again."""

    def __init__(self, open_connection: Callable[[], C]) -> None:
        self._open = open_connection
        self._free: list[C] = []
        self._turn = threading.BoundedSemaphore(READERS)
        self._lock = threading.Lock()
        self._closed = False
        self._generation = 0

    @contextlib.contextmanager
    def lend(self) -> Iterator[C]:
        with self._turn:
            with self._lock:
                if self._closed:
                    raise StorageError("the store is closed; open it again")
                connection = self._free.pop() if self._free else None
                generation = self._generation
            connection = connection or self._open()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            with self._lock:
                keep = not self._closed and generation == self._generation
                if keep:
                    self._free.append(connection)
            if not keep:
                connection.close()

    def renew(self) -> None:
        """Use none of the connections that are open now again: their server has gone."""
        with self._lock:
            self._generation += 1
            old, self._free = self._free, []
        for connection in old:
            connection.close()

    def close(self) -> None:
        """Also those that are lent, as soon as they come back."""
        with self._lock:
            self._closed = True
        self.renew()
