"""The directory on disk: SQLite in WAL mode. A row that was confirmed survives a restart.

Synchronous; the service calls it on one thread, in order.
"""

import os
import sqlite3
from pathlib import Path

from aitbc.core.codec.wire import pack, unpack
from aitbc.core.peer.directory import MAX_ROWS, Row
from aitbc.core.types.reasons import Rejected
from aitbc.ports import StorageError

FILE = "discovery.db"
SCHEMA_VERSION = 1
_SCHEMA = "CREATE TABLE row (node_key TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID"
MAX_BODY = 4_096
"""A record of the largest size and what is known beside it."""


class RowStore:
    """Raises StorageError, with what to do, when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._open(path)
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"{path} cannot be used ({error}): is another discovery service using this folder?"
            ) from None
        except (OSError, sqlite3.DatabaseError) as error:
            raise StorageError(
                f"{path} cannot be used ({error}); move it away: nodes publish again"
            ) from None

    def _open(self, path: Path) -> None:
        self._db.execute(
            "PRAGMA locking_mode = EXCLUSIVE"
        )  # one service for each folder; the lock dies with it
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise StorageError(f"{path} has schema {version}; this version reads {SCHEMA_VERSION} only")
        self._db.execute("BEGIN IMMEDIATE")  # a second service fails here and not at its first record
        self._db.execute("COMMIT")

    def load(self) -> list[Row]:
        try:
            bodies = self._db.execute("SELECT body FROM row LIMIT ?", (MAX_ROWS,)).fetchall()
            return [unpack(body, Row, limit=MAX_BODY) for (body,) in bodies]
        except (sqlite3.Error, Rejected) as error:
            raise StorageError(
                f"the directory is damaged ({error}); move it away: nodes publish again"
            ) from None

    def save(self, row: Row) -> None:
        self._run("INSERT OR REPLACE INTO row VALUES (?, ?)", [(row.node_key, pack(row))])

    def drop(self, node_keys: list[str]) -> None:
        self._run("DELETE FROM row WHERE node_key = ?", [(key,) for key in node_keys])

    def close(self) -> None:
        self._db.close()

    def _run(self, statement: str, parameters: list[tuple[object, ...]]) -> None:
        """All in one transaction."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(statement, parameters)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StorageError(f"the directory cannot be written ({error}); see to the disk") from None
