"""What all chapters of the store share: transactions that group, and records as JSON."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, ParamSpec, TypeVar, cast

import msgspec

from aitbc.hub.store.database import Database, Session

P = ParamSpec("P")
T = TypeVar("T")

encode = msgspec.json.Encoder().encode


@cache
def _decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)


def decode(raw: bytes, kind: type[T]) -> T:
    """Our own bytes back; damage is a bug or a broken disk, so it may travel."""
    value: T = _decoder(cast(Any, kind)).decode(raw)
    return value


def durable(method: Callable[P, T]) -> Callable[P, T]:
    """Marks a method whose effect must be on disk when it returns, also when it is one of a group."""
    method.durable = True  # type: ignore[attr-defined]
    return method


class BaseStore:
    """Synchronous; the hub calls it on one thread. A test may look from another, between two calls."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._open: Session | None = None
        self._lock = threading.RLock()

    @contextmanager
    def group(self, *, durable: bool = False) -> Iterator[None]:
        """Everything that is called in here is one transaction; what one call does can fail by itself."""
        with self._lock, self.database.transaction(durable=durable) as session:
            self._open = session
            try:
                yield
            finally:
                self._open = None

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[Session]:
        with self._lock:
            if self._open is not None:
                with self.database.savepoint():
                    yield self._open
                return
            with self.database.transaction(durable=durable) as session:
                self._open = session
                try:
                    yield session
                finally:
                    self._open = None

    def close(self) -> None:
        self.database.close()
