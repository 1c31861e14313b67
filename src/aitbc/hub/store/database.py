"""What the hub's statements run on: a session inside a transaction, of SQLite or of PostgreSQL."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from aitbc.hub.store.schema import Dialect

Row = tuple[Any, ...]


class Session(Protocol):
    """Statements with `?` for values; those that ask for rows after a change name them with RETURNING."""

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]: ...

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """How many rows it changed."""
        ...

    def run_many(self, statement: str, rows: Sequence[Row]) -> None:
        """The same statement for every row, in few round trips."""
        ...

    def changed_many(self, statement: str, rows: Sequence[Row]) -> list[bool]:
        """The same, and for each row whether it changed anything. The statement ends in RETURNING 1."""
        ...


class Database(Protocol):
    """One writer at a time in this process; every error is a StorageError that says what to do."""

    dialect: Dialect
    shared: bool
    """Other hub processes may use it at the same time."""

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[Session]:
        """All or nothing. `durable`: on disk, not only in the system's cache, when it ends."""
        ...

    def savepoint(self) -> AbstractContextManager[None]:
        """Inside a transaction: what fails in here takes only itself back."""
        ...

    def notify(self) -> None:
        """Inside a transaction: wake the other processes when it ends. A hint that may be lost."""
        ...

    def notified(self, timeout_s: float) -> bool:
        """Wait, on a connection of its own, for another process's hint; at once False where nobody else can be."""
        ...

    def close(self) -> None: ...


class ConnectionLost(Exception):
    """The transaction may be done or not: perform it again, every one of ours may be."""
