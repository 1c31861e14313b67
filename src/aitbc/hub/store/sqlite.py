"""The hub's SQLite file: WAL, one process, one thread. An attestation is a debt, so its transaction waits for the disk;
the rest may lose its last moments when the power fails, never when the process dies."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aitbc.hub.store.database import Row
from aitbc.hub.store.schema import COPY_FROM_1, FROM_1, SCHEMA_VERSION, SQLITE, statements
from aitbc.ports import StorageError

CACHE_KIB = 64 * 1024
"""Pages of a backlog of 100,000 jobs that are touched again and again; the default of 2 MiB reads them anew."""


class SqliteSession:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._db.execute(statement, values).fetchall()

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        return self._db.execute(statement, values).rowcount

    def run_many(self, statement: str, rows: Sequence[Row]) -> None:
        self._db.executemany(statement, rows)

    def changed_many(self, statement: str, rows: Sequence[Row]) -> list[bool]:
        return [bool(self._db.execute(statement, row).fetchall()) for row in rows]


class SqliteDatabase:
    dialect = SQLITE
    shared = False

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # prompts are in it: for its owner only
            self.connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._session = SqliteSession(self.connection)
            try:
                self._open()
            except BaseException:
                self.connection.close()
                raise
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"{path} cannot be used ({error}): is another hub using this folder?"
            ) from None
        except sqlite3.DatabaseError as error:
            raise StorageError(f"{path} cannot be used ({error}); move it away and start again") from None

    def _open(self) -> None:
        run = self.connection.execute
        run("PRAGMA locking_mode = EXCLUSIVE")  # one hub per folder; the lock dies with it
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run(f"PRAGMA cache_size = -{CACHE_KIB}")
        version = run("PRAGMA user_version").fetchone()[0]
        if version not in (0, 1, SCHEMA_VERSION):
            raise StorageError(f"{self.path} has schema {version}; this version reads 1 and {SCHEMA_VERSION}")
        if version == SCHEMA_VERSION:
            return
        script = [*(FROM_1 if version else ()), *statements(SQLITE), *(COPY_FROM_1 if version else ())]
        script.append(f"PRAGMA user_version = {SCHEMA_VERSION}")
        run("BEGIN IMMEDIATE")
        for statement in script:
            run(statement)
        run("COMMIT")

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[SqliteSession]:
        run = self.connection.execute
        try:
            if durable:
                run("PRAGMA synchronous = FULL")
            run("BEGIN IMMEDIATE")
            try:
                yield self._session
            except BaseException:
                run("ROLLBACK")
                raise
            run("COMMIT")
        except sqlite3.Error as error:
            if self.connection.in_transaction:
                run("ROLLBACK")
            raise StorageError(f"{self.path} refuses: {error}; is the disk full?") from error
        finally:
            if durable:
                run("PRAGMA synchronous = NORMAL")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        run = self.connection.execute
        run("SAVEPOINT one")
        try:
            yield
        except BaseException:
            run("ROLLBACK TO one")
            run("RELEASE one")
            raise
        run("RELEASE one")

    def notify(self) -> None:
        """Nobody else can be waiting."""

    def notified(self, timeout_s: float) -> bool:
        return False

    def close(self) -> None:
        self.connection.close()
