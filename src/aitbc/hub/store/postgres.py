"""PostgreSQL for hubs: several processes work on one queue. Claims skip what another process has locked; LISTEN and
NOTIFY only wake, everything is found by asking as well."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from aitbc.adapters.storage.postgres import CONNECT_S, DEAD_PEER_S, OLDEST_SERVER, marked, parse_url
from aitbc.hub.store.database import ConnectionLost, Row
from aitbc.hub.store.schema import POSTGRES, SCHEMA_VERSION, statements
from aitbc.ports import StorageError

CHANNEL = "aitbc_hub_queue"
NOTIFY_PAUSE_S = 0.1
"""NOTIFY makes commits wait for each other, so there are ten in a second at most; who misses one asks soon."""
SCHEMA_LOCK = 0x61697462
"""Advisory lock under which one process makes the tables."""

Connection = psycopg.Connection[Row]


class PostgresSession:
    def __init__(self, connection: Connection) -> None:
        self._cursor = connection.cursor(binary=True)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._cursor.execute(marked(statement), values).fetchall()

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        return self._cursor.execute(marked(statement), values or None).rowcount

    def run_many(self, statement: str, rows: Sequence[Row]) -> None:
        if rows:
            self._cursor.executemany(marked(statement), rows)

    def changed_many(self, statement: str, rows: Sequence[Row]) -> list[bool]:
        if not rows:
            return []
        self._cursor.executemany(marked(statement), rows, returning=True)
        changed = [bool(self._cursor.fetchall())]
        while self._cursor.nextset():
            changed.append(bool(self._cursor.fetchall()))
        return changed


class PostgresDatabase:
    dialect = POSTGRES
    shared = True

    def __init__(self, url: str) -> None:
        self._address = parse_url(url)
        self.name = self._address.name
        self._writer: Connection | None = None
        self._listener: Connection | None = None
        self._listening = threading.Lock()
        self._notified_s = 0.0
        self._closed = False
        with self.transaction(durable=True) as session:
            self._make_tables(session)

    def _make_tables(self, session: PostgresSession) -> None:
        session.rows("SELECT pg_advisory_xact_lock(?)", (SCHEMA_LOCK,))
        if session.rows("SELECT to_regclass(current_schema() || '.job')") == [(None,)]:
            for statement in statements(POSTGRES):
                session.run(statement)
            for table in ("job", "task"):  # rows that change a few times: leave them room on their page
                session.run(
                    f"ALTER TABLE {table} SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)"
                )
            session.run("INSERT INTO hub_meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
        version = session.rows("SELECT value FROM hub_meta WHERE name = 'schema'")
        if version != [(str(SCHEMA_VERSION),)]:
            raise StorageError(
                f"{self.name} has a hub of schema {version}; this version reads {SCHEMA_VERSION}"
            )

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[PostgresSession]:
        try:
            connection = self._connected()
            with connection.transaction():
                session = PostgresSession(connection)
                session.run(f"SET LOCAL synchronous_commit = {'on' if durable else 'off'}")
                yield session
        except psycopg.Error as error:
            raise self._explained(error) from error

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        assert self._writer is not None, "inside a transaction"
        with self._writer.transaction():
            yield

    def notify(self) -> None:
        assert self._writer is not None, "inside a transaction"
        now = time.monotonic()
        if now < self._notified_s + NOTIFY_PAUSE_S:
            return
        self._notified_s = now
        self._writer.execute(f"NOTIFY {CHANNEL}".encode())

    def notified(self, timeout_s: float) -> bool:
        with self._listening:
            try:
                if self._listener is None or self._listener.closed:
                    self._listener = self._connect()
                    self._listener.execute(f"LISTEN {CHANNEL}".encode())
                return any(True for _ in self._listener.notifies(timeout=timeout_s, stop_after=1))
            except psycopg.Error as error:
                self._listener = None
                raise StorageError(f"{self.name} tells nothing: {_first_line(error)}") from None

    def close(self) -> None:
        self._closed = True
        if self._writer is not None:
            self._writer.close()
        with self._listening:
            if self._listener is not None:
                self._listener.close()

    def _connected(self) -> Connection:
        if self._closed:
            raise StorageError("the store is closed; open it again")
        if self._writer is None or self._writer.closed:
            self._writer = self._connect()
        return self._writer

    def _connect(self) -> Connection:
        settings = {
            "application_name": "aitbc hub",
            "connect_timeout": str(CONNECT_S),
            "keepalives_idle": str(DEAD_PEER_S),
            "tcp_user_timeout": str(DEAD_PEER_S * 1000),
            **self._address.settings,
        }
        connection = psycopg.connect(make_conninfo(**settings), autocommit=True)
        if connection.info.server_version < OLDEST_SERVER:
            connection.close()
            raise StorageError(f"{self.name} is older than PostgreSQL {OLDEST_SERVER // 10000}; upgrade it")
        return connection

    def _explained(self, error: psycopg.Error) -> Exception:
        """A lost connection is worth another try; the rest says what to do, without the password."""
        said = _first_line(error)
        if self._address.password:
            said = said.replace(self._address.password, "…")
        if isinstance(error, errors.SerializationFailure | errors.DeadlockDetected):
            return ConnectionLost(said)
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            if self._writer is not None:
                self._writer.close()
            return ConnectionLost(f"{self.name} does not answer ({said}); start it, the hub tries again")
        return StorageError(f"{self.name} refuses: {said}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
