"""Processes that die where they are told to, and what they leave in a SQLite file."""

import os
import signal
import sqlite3
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aitbc.adapters.storage.sqlite import SqliteDatabase

Dump = dict[str, list[tuple[Any, ...]]]


def dies(work: Callable[[], object]) -> int:
    """Run in a child process; the number of the signal that ended it, 0 for none. Fails when the work fails."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) <= 0, "the child failed, its traceback is above"
    return status & 0x7F


def killed_before(statement: int, work: Callable[[], object]) -> bool:
    """Run in a child that is killed before its n-th SQL statement, counted over all its connections, each row of a bulk
    insert as one; behind the last one it is killed without closing anything. Returns whether there was an n-th."""
    ready, tell = os.pipe()

    def life() -> None:
        count = 0
        connect = SqliteDatabase._connect

        def tick(_statement: str) -> None:
            nonlocal count
            if count == statement:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

        def traced(self: SqliteDatabase) -> sqlite3.Connection:
            connection = connect(self)
            connection.set_trace_callback(tick)
            return connection

        SqliteDatabase._connect = traced  # type: ignore[method-assign]
        try:
            work()
            os.write(tell, b"done")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    assert dies(life) == signal.SIGKILL
    os.close(tell)
    done = os.read(ready, 4) == b"done"
    os.close(ready)
    return not done


def dump(path: Path) -> Dump:
    """Every row of every table, and the statements that made them; after recovery from whatever happened."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        rows = {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}
        rows["sqlite_master"] = sorted(connection.execute("SELECT type, name FROM sqlite_master"))
        return rows
    finally:
        connection.close()


def files_of(path: Path) -> list[Path]:
    return [path.with_name(path.name + end) for end in ("", "-wal", "-shm", "-journal")]


def copy(source: Path, target: Path) -> Path:
    """The database with its log, as a file system would show them after a crash; no index of the log."""
    for file in files_of(target):
        file.unlink(missing_ok=True)
    for old, new in zip(files_of(source)[:2], files_of(target)[:2], strict=True):
        if old.exists():
            new.write_bytes(old.read_bytes())
    return target
