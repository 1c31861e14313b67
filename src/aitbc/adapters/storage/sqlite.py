"""SQLite in WAL mode: a chain in one file, one block in one transaction, on disk before it is reported final.

`synchronous=FULL`: each commit waits for fsync, because a block that was reported final must survive a power cut
(docs/adr/0004-storage.md).
"""

import contextlib
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from aitbc.adapters.storage.migrations import MIGRATIONS
from aitbc.adapters.storage.pool import Pool
from aitbc.adapters.storage.rows import MEND, Row, damaged
from aitbc.adapters.storage.sql import Insert, Session, SqlStore, insert_statement
from aitbc.ports import StorageError

ONE_WRITE = 1024 * 1024
"""More than SQLite writes at a time."""

ROWS_TOGETHER = (1_024, 128, 16, 1)
"""Rows that one statement inserts: few sizes, because statements are prepared once and kept."""
KEPT_STATEMENTS = 256
BUSY_S = 10
"""How long a write waits for another program's, such as a backup."""
CACHE_KIB = 64 * 1024
"""A block of 10,000 transfers changes some 20 MB of pages; with less room they are written twice."""
WAL_PAGES = 16_384
"""64 MiB: the log is copied into the file when it has grown to this. A page that several blocks change is copied once;
with 16 MiB a full block costs a sixth more."""
MAX_WAL_BYTES = 128 * 1024 * 1024
"""A log that has been larger is cut to this afterwards."""


class SqliteStore(SqlStore):
    """A chain in a file; made when it is not there."""

    def __init__(self, path: Path, genesis_hash: bytes) -> None:
        super().__init__(SqliteDatabase(path), genesis_hash)


class SqliteSession:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()

    def each(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        return self._connection.execute(statement, values)

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._connection.execute(statement, values)

    def run_many(self, statement: str, rows: Sequence[Row]) -> None:
        self._connection.executemany(statement, rows)

    def insert(self, insert: Insert, rows: Sequence[Row]) -> None:
        """Many rows to a statement: after each statement Python's lock is asked for again, which another thread may
        hold for milliseconds."""
        start, most = 0, self._connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        for count in ROWS_TOGETHER:
            if len(rows) - start < count:
                continue
            if len(rows[0]) * count > most:
                continue
            statement = insert_statement(insert, count)
            while len(rows) - start >= count:
                together = rows[start : start + count]
                self._connection.execute(statement, list(chain.from_iterable(together)))
                start += count


class SqliteDatabase:
    """Connections to one file: one that writes, and some that read the last whole commit meanwhile."""

    kind = "sqlite"
    migrations: Mapping[int, Callable[[Session, bytes], None]] = MIGRATIONS

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._closed = False
        self._readers = Pool(self._connect)

    def tables(self, session: Session) -> set[str]:
        return {row[0] for row in session.rows("SELECT name FROM sqlite_master")}

    def indexes(self, session: Session) -> set[str]:
        return {row[0] for row in session.rows("SELECT name FROM sqlite_master WHERE type = 'index'")}

    @contextlib.contextmanager
    def reading(self, *, snapshot: bool = False) -> Iterator[SqliteSession]:
        with self._explained(), self._readers.lend() as connection:
            if snapshot:
                connection.execute("BEGIN")
            yield SqliteSession(connection)
            if snapshot:
                connection.execute("COMMIT")

    @contextlib.contextmanager
    def writing(self) -> Iterator[SqliteSession]:
        with self._lock, self._explained():
            if self._closed:
                raise StorageError("the store is closed; open it again")
            connection = self._writer = self._writer or self._connect_to_write()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield SqliteSession(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._writer = None
                connection.close()  # which rolls back
                raise

    def close(self) -> None:
        self._readers.close()
        with self._lock:
            self._closed = True
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_S,
            cached_statements=KEPT_STATEMENTS,
        )
        connection.execute("PRAGMA cell_size_check = ON")
        return connection

    def _connect_to_write(self) -> sqlite3.Connection:
        connection = self._connect()
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StorageError(
                f"{self._path} cannot have a write-ahead log ({mode}); choose a folder on a local disk"
            )
        for setting, value in (
            ("synchronous", "FULL"),
            ("fullfsync", "ON"),
            ("cache_size", -CACHE_KIB),
            ("wal_autocheckpoint", WAL_PAGES),
            ("journal_size_limit", MAX_WAL_BYTES),
        ):
            connection.execute(f"PRAGMA {setting} = {value}")
        return connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from None

    def _explain(self, error: sqlite3.Error) -> StorageError:
        """What happened and what to do."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        match code:
            case sqlite3.SQLITE_FULL:
                return StorageError(
                    f"the disk of {self._path} is full; free space and start again, nothing is lost"
                )
            case sqlite3.SQLITE_IOERR if _ran_into_a_limit(self._path):
                return StorageError(
                    f"{self._path} has no room: this process may not write larger files (`ulimit -f`); raise the limit"
                    " and start again, every block that was reported final is there"
                )
            case sqlite3.SQLITE_IOERR:
                return StorageError(
                    f"the disk of {self._path} fails ({error}); see to it and start again, every block that was"
                    " reported final is there"
                )
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
                return StorageError(f"{self._path} cannot be written ({error}); give this user the right to")
            case sqlite3.SQLITE_CANTOPEN:
                return StorageError(
                    f"{self._path} cannot be opened ({error}); check the folder and its permissions"
                )
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StorageError(f"another program is writing to {self._path}; stop it and start again")
            case sqlite3.SQLITE_NOTADB:
                return StorageError(
                    f"{self._path} cannot be used as a chain database ({error}); choose another file, or if it is this"
                    f" chain's, {MEND}"
                )
            case _:
                return damaged(str(self._path), error)


def _ran_into_a_limit(path: Path) -> bool:
    """SQLite says `disk I/O error` when a file has grown as large as the process may make it."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return False
    files = [path, path.with_name(f"{path.name}-wal")]
    return any(file.exists() and file.stat().st_size + ONE_WRITE > limit for file in files)
