"""Where accounts are kept: SQLite in the hub's folder, or the PostgreSQL that holds the queue.

Several hubs may share one PostgreSQL: every change is one transaction whose conditions are in its statements.
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aitbc.adapters.storage.sql import Session
from aitbc.adapters.storage.sqlite import SqliteSession
from aitbc.ports import StorageError

if TYPE_CHECKING:
    import psycopg

BUSY_S = 10
"""How long a change waits for another program's."""


class Database(Protocol):
    serial: str
    """The type of a column that numbers its rows."""

    def transaction(self) -> contextlib.AbstractContextManager[Session]:
        """All or nothing, and on disk at its end; one at a time from each process."""
        ...

    def close(self) -> None: ...


class SqliteAccounts:
    serial = "INTEGER PRIMARY KEY AUTOINCREMENT"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            os.close(
                os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            )  # who asked for what is nobody else's affair
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # money
        except sqlite3.Error as error:
            raise StorageError(f"{path} cannot be used ({error})") from None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield SqliteSession(self._db)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise StorageError(f"{self._path} refuses ({error})") from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        with self._lock:
            self._db.close()


class PostgresAccounts:
    serial = "BIGSERIAL PRIMARY KEY"

    def __init__(self, url: str) -> None:
        try:
            from aitbc.adapters.storage.postgres import parse_url
        except ImportError:
            raise StorageError("PostgreSQL needs one package more: pip install 'aitbc[postgres]'") from None
        self._address = parse_url(url)
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        import psycopg

        from aitbc.adapters.storage.postgres import PostgresSession

        with self._lock:
            try:
                connection = self._connection = self._connection or self._connect()
                with connection.transaction():
                    yield PostgresSession(connection)
            except psycopg.Error as error:
                if self._connection is not None and self._connection.broken:
                    self._connection = None
                raise StorageError(
                    f"{self._address.name} refuses ({self._without_password(error)})"
                ) from None

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        import psycopg
        from psycopg.conninfo import make_conninfo

        return psycopg.connect(
            make_conninfo(
                application_name="aitbc hub", connect_timeout=str(BUSY_S), **self._address.settings
            ),
            autocommit=True,
        )

    def _without_password(self, error: Exception) -> str:
        said = (str(error).splitlines() or [""])[0]
        return said.replace(self._address.password, "…") if self._address.password else said

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def open_accounts(url: str, *, default: Path) -> Database:
    """Raises StorageError with what to do."""
    return PostgresAccounts(url) if url else SqliteAccounts(default)
