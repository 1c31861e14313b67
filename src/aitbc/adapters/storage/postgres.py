"""PostgreSQL: the same tables and statements as SQLite's, for operators who run and back up a server anyway.

One node at a time: the connection that writes holds an advisory lock from opening to closing, so a second node is
refused, and a node whose connection was lost writes again only when it has got the lock back. Written: one block in
one transaction, `synchronous_commit` never off. docs/adr/0008-postgresql.md
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from aitbc.adapters.storage.pool import Pool
from aitbc.adapters.storage.rows import MEND, Row, damaged
from aitbc.adapters.storage.sql import Insert, Session, SqlStore, insert_statement, on_conflict
from aitbc.ports import StorageError

Connection = psycopg.Connection[Row]

OLDEST_SERVER = 130000
"""PostgreSQL 13, out of support since 2025; older ones were not tried."""
CONNECT_S = 10
DEAD_PEER_S = 30
"""A server that vanished without a word is given up after this."""
LOCK_WAIT_MS = 2_000
"""A node that was killed a moment ago may still be connected."""
COPY_FROM = 50
"""Rows from which COPY is cheaper than one statement for each row."""


class PostgresStore(SqlStore):
    """A chain in a database of its own, or in a schema of its own (`search_path`)."""

    def __init__(self, url: str, genesis_hash: bytes) -> None:
        super().__init__(PostgresDatabase(url), genesis_hash)


class Address(NamedTuple):
    """A URL taken apart, so that its password gets into no message."""

    name: str
    password: str
    settings: dict[str, str]


def parse_url(url: str) -> Address:
    """Raises StorageError for what is no PostgreSQL URL; no message repeats any of it but host, port and database."""
    wrong = StorageError(
        "DATABASE_URL is not postgresql://user:password@host:port/database; characters like @ : / ? # % in user and"
        " password are written as %40 %3A %2F %3F %23 %25"
    )
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise wrong from None
    database = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in ("postgresql", "postgres") or parts.netloc.count("@") > 1 or parts.fragment:
        raise wrong
    if "@" in parts.path or "/" in database or "@" in (parts.hostname or ""):
        raise wrong
    settings = dict(query)
    given = {
        "host": unquote(parts.hostname or ""),
        "port": str(port or ""),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "dbname": database,
    }
    settings.update({name: value for name, value in given.items() if value})
    try:
        make_conninfo(**settings)
    except psycopg.Error:
        raise StorageError("DATABASE_URL has a parameter after `?` that libpq does not know") from None
    place = settings.get("host", "the local socket") + (f":{settings['port']}" if "port" in settings else "")
    name = f"database {settings.get('dbname', settings.get('user', 'of this user'))!r} at {place}"
    return Address(name, settings.get("password", ""), settings)


@cache
def marked(statement: str) -> bytes:
    """With psycopg's marks for values; no statement of ours has a `?` or `%` of another meaning."""
    return statement.replace("?", "%s").encode()


class PostgresSession:
    def __init__(self, connection: Connection) -> None:
        self._cursor = connection.cursor(binary=True)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._cursor.execute(marked(statement), values).fetchall()

    def each(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """The answer lies in libpq's memory, as bytes; rows are made of it one at a time."""
        return iter(self._cursor.execute(marked(statement), values))

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._cursor.execute(marked(statement), values or None)

    def run_many(self, statement: str, rows: Sequence[Row]) -> None:
        self._cursor.executemany(marked(statement), rows)

    def insert(self, insert: Insert, rows: Sequence[Row]) -> None:
        """Many rows go through COPY; where some may be there already, through a table of this connection first."""
        if not rows:
            return
        if len(rows) < COPY_FROM:
            self.run_many(insert_statement(insert), rows)
            return
        if not insert.key:
            self._copy(insert.table, insert.columns, rows)
            return
        passing = f"new_{insert.table}"
        self.run(f"CREATE TEMP TABLE IF NOT EXISTS {passing} (LIKE {insert.table}) ON COMMIT DELETE ROWS")
        self.run(f"DELETE FROM {passing}")  # noqa: S608
        self._copy(passing, insert.columns, rows)
        self.run(
            f"INSERT INTO {insert.table}({insert.columns}) SELECT {insert.columns} FROM {passing}"  # noqa: S608
            f" {on_conflict(insert)}"
        )

    def _copy(self, table: str, columns: str, rows: Sequence[Row]) -> None:
        with self._cursor.copy(f"COPY {table}({columns}) FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row(row)


class PostgresDatabase:
    """Connections to one server: one that writes and holds the lock, and some that read."""

    kind = "postgresql"
    migrations: Mapping[int, Callable[[Session, bytes], None]] = {}
    """None yet: version 1 was SQLite's only."""

    def __init__(self, url: str) -> None:
        self._address = parse_url(url)
        self.name = self._address.name
        self._lock = threading.Lock()
        self._writer: Connection | None = None
        self._closed = False
        self._readers = Pool(self._connect_to_read)

    def tables(self, session: Session) -> set[str]:
        found = session.rows(
            "SELECT tablename::text FROM pg_catalog.pg_tables WHERE schemaname = current_schema()"
        )
        return {row[0] for row in found}

    def indexes(self, session: Session) -> set[str]:
        found = session.rows(
            "SELECT indexname::text FROM pg_catalog.pg_indexes WHERE schemaname = current_schema()"
        )
        return {row[0] for row in found}

    @contextlib.contextmanager
    def reading(self, *, snapshot: bool = False) -> Iterator[PostgresSession]:
        with self._explained(), self._readers.lend() as connection:
            if not snapshot:
                yield PostgresSession(connection)
                return
            with connection.transaction():
                yield PostgresSession(connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[PostgresSession]:
        with self._lock, self._explained():
            if self._closed:
                raise StorageError("the store is closed; open it again")
            connection = self._writer = self._writer or self._connect_to_write()
            try:
                with connection.transaction():
                    yield PostgresSession(connection)
            except BaseException:
                if connection.closed:
                    self._writer = None
                raise

    def close(self) -> None:
        self._readers.close()
        with self._lock:
            self._closed = True
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _connect(self) -> Connection:
        settings = {
            "application_name": "aitbc",
            "connect_timeout": str(CONNECT_S),
            "keepalives_idle": str(DEAD_PEER_S),
            "tcp_user_timeout": str(DEAD_PEER_S * 1000),
            **self._address.settings,
        }
        connection = psycopg.connect(make_conninfo(**settings), autocommit=True)
        version, encoding = (
            connection.info.server_version,
            connection.info.parameter_status("server_encoding"),
        )
        if version < OLDEST_SERVER or encoding != "UTF8":
            connection.close()
            raise StorageError(
                f"{self.name} has PostgreSQL {version // 10000} and encoding {encoding}; 13 or later and UTF8 are"
                " needed: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
            )
        return connection

    def _connect_to_read(self) -> Connection:
        connection = self._connect()
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        return connection

    def _connect_to_write(self) -> Connection:
        connection = self._connect()
        try:
            self._become_the_only_writer(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _become_the_only_writer(self, connection: Connection) -> None:
        """The lock goes with the connection; that of a machine that lost power within a minute."""
        for name, value in (
            ("tcp_keepalives_idle", DEAD_PEER_S),
            ("tcp_keepalives_interval", DEAD_PEER_S // 3),
            ("tcp_keepalives_count", 3),
            ("lock_timeout", LOCK_WAIT_MS),
        ):
            connection.execute(f"SET {name} = {value}".encode())
        try:
            connection.execute(
                "SELECT pg_advisory_lock(hashtextextended('aitbc node in ' || current_schema(), 0))"
            )
        except errors.LockNotAvailable:
            raise StorageError(
                f"another node is using {self.name}; stop it, or give each node a database of its own"
            ) from None
        connection.execute("SET lock_timeout = DEFAULT")
        if connection.execute("SHOW synchronous_commit").fetchone() == ("off",):
            connection.execute("SET synchronous_commit = on")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._explain(error) from None

    def _explain(self, error: psycopg.Error) -> StorageError:
        """What happened and what to do; the first line of what the server says, without the password."""
        said = (str(error).splitlines() or [""])[0]
        if self._address.password:
            said = said.replace(self._address.password, "…")
        match error:
            case errors.DiskFull() | errors.OutOfMemory():
                return StorageError(f"the server of {self.name} has no room left ({said}); nothing is lost")
            case errors.ReadOnlySqlTransaction():
                return StorageError(f"{self.name} can only be read ({said}); name the primary server")
            case errors.InsufficientPrivilege():
                return StorageError(f"{self.name} does not let this user in ({said}); grant it the right")
            case errors.LockNotAvailable() | errors.QueryCanceled() | errors.DeadlockDetected():
                return StorageError(f"{self.name} gave up ({said}); the next call tries again")
            case psycopg.OperationalError() | psycopg.InterfaceError():
                self._readers.renew()
                return StorageError(
                    f"{self.name} does not answer ({said}); start it, the next call tries again"
                )
            case _:
                return damaged(self.name, said)


__all__ = ["MEND", "PostgresDatabase", "PostgresStore", "parse_url"]
