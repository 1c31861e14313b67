"""SQLite: a file that cannot be used is refused in one line that says what to do, and a commit is on disk."""

import contextlib
import os
import resource
import signal
import sqlite3
import threading
from pathlib import Path

import pytest

from aitbc.adapters.storage import sql
from aitbc.adapters.storage.sqlite import SqliteDatabase, SqliteStore
from aitbc.ports import StorageError
from support.crashes import dies
from support.made_up import ADDRESSES, GENESIS_HASH, MadeUpChain
from support.store_model import check_everything, check_state


def filled(path: Path, blocks: int = 3) -> MadeUpChain:
    chain = MadeUpChain(seed=31)
    chain.grow(blocks)
    store = SqliteStore(path, GENESIS_HASH)
    for commit in chain.commits:
        store.commit(commit)
    store.close()
    return chain


# Opening


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    path.write_bytes(b"not a database, " * 1_000)
    with pytest.raises(StorageError, match="cannot be used as a chain database"):
        SqliteStore(path, GENESIS_HASH)
    assert path.read_bytes() == b"not a database, " * 1_000


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes(name TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="database of something else"):
        SqliteStore(path, GENESIS_HASH)
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_or_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "chain.db", tmp_path):
        with pytest.raises(StorageError, match="cannot be opened"):
            SqliteStore(path, GENESIS_HASH)


@pytest.mark.parametrize("size", [0, 1, 99, 100, 512, 4_095])
def test_a_file_that_was_cut_is_refused_or_empty(tmp_path: Path, size: int) -> None:
    """SQLite takes a file without a whole header for an empty database."""
    path = tmp_path / "chain.db"
    filled(path)
    path.write_bytes(path.read_bytes()[:size])
    try:
        store = SqliteStore(path, GENESIS_HASH)
    except StorageError:
        return
    assert size < 100
    assert store.load() is None
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_cannot_be_written_is_refused_at_opening(tmp_path: Path, what: str) -> None:
    path = tmp_path / "chain.db"
    filled(path)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == "root" and parent != Path("/tmp") and parent != Path("/"):
            parent.chmod(0o755)
    path.chmod(0o644)
    if what == "file":
        tmp_path.chmod(0o777)

    def open_as_nobody() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        with pytest.raises(StorageError, match=r"cannot be (written|opened)"):
            SqliteStore(path, GENESIS_HASH)

    dies(open_as_nobody)


def test_another_program_that_writes_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "chain.db"
    chain = filled(path)
    monkeypatch.setattr("aitbc.adapters.storage.sqlite.BUSY_S", 0.2)
    store = SqliteStore(path, GENESIS_HASH)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="another program is writing"):
        store.commit(chain.extend())
    check_state(store, chain.commits[:-1])
    other.execute("COMMIT")
    other.close()
    store.commit(chain.commits[-1])
    check_state(store, chain.commits)
    store.close()


# Writing


def test_a_commit_waits_until_the_disk_has_it(tmp_path: Path) -> None:
    """What was reported final survives a power cut: FULL is 2, and WAL keeps readers at the last whole commit."""
    store = SqliteStore(tmp_path / "chain.db", GENESIS_HASH)
    with store._database.writing() as session:
        assert session.rows("PRAGMA synchronous") == [(2,)]
        assert session.rows("PRAGMA journal_mode") == [("wal",)]
    store.close()


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    chain = filled(tmp_path / "chain.db")
    store = SqliteStore(tmp_path / "chain.db", GENESIS_HASH)
    with store._database.writing() as session:
        (pages,) = session.rows("PRAGMA page_count")[0]
        session.run(f"PRAGMA max_page_count = {pages}")
    commit = chain.extend(transactions=500)
    with pytest.raises(
        StorageError, match=r"disk of .* is full; free space and start again, nothing is lost"
    ):
        store.commit(commit)
    check_everything(store, chain.commits[:-1])
    store.commit(commit)  # on a new connection, which has room
    check_everything(store, chain.commits)
    store.close()


@pytest.mark.parametrize("room", [0, 5_000, 50_000, 500_000])
def test_a_limit_on_the_size_of_files_is_named_and_nothing_is_lost(tmp_path: Path, room: int) -> None:
    """The log may not grow beyond `room` bytes: writes fail wherever that happens to be."""
    path = tmp_path / "chain.db"
    chain = filled(path)
    commit = chain.extend(transactions=2_000)

    def commit_without_room() -> None:
        store = SqliteStore(path, GENESIS_HASH)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        with pytest.raises(StorageError, match=r"has no room: .*`ulimit -f`"):
            store.commit(commit)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        check_state(store, chain.commits[:-1])

    dies(commit_without_room)
    store = SqliteStore(path, GENESIS_HASH)
    check_everything(store, chain.commits[:-1])
    store.commit(commit)
    check_state(store, chain.commits)
    store.close()


def test_a_disk_that_fails_is_named(tmp_path: Path) -> None:
    """Without a limit on files an I/O error is the disk's."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    said = str(SqliteDatabase(tmp_path / "chain.db")._explain(error))
    assert said.startswith(f"the disk of {tmp_path}/chain.db fails (disk I/O error)")


def test_every_statement_of_a_commit_may_fail(tmp_path: Path) -> None:
    """The database then holds the old head and takes the block again."""
    path = tmp_path / "chain.db"
    chain = filled(path)
    while not {"accounts", "params"} <= {change.store for change in chain.extend(transactions=20).changes}:
        chain.take_back(chain.height - 1)
    store = SqliteStore(path, GENESIS_HASH)
    for table in (
        "meta",
        "blocks",
        "tx",
        "account_tx",
        "receipts",
        "history_nodes",
        "undo",
        "accounts",
        "params",
    ):
        hand = sqlite3.connect(path)
        for event in ("INSERT", "UPDATE"):
            hand.execute(
                f"CREATE TRIGGER broken_{event} BEFORE {event} ON {table}"
                " BEGIN SELECT RAISE(ABORT, 'a bug in the disk'); END"
            )
        hand.commit()
        with pytest.raises(StorageError, match="a bug in the disk"):
            store.commit(chain.commits[-1])
        for event in ("INSERT", "UPDATE"):
            hand.execute(f"DROP TRIGGER broken_{event}")
        hand.commit()
        hand.close()
        check_everything(store, chain.commits[:-1])
    store.commit(chain.commits[-1])
    check_everything(store, chain.commits)
    store.close()


def test_an_error_of_a_writer_leaves_readers_and_the_next_write_alone(tmp_path: Path) -> None:
    chain = filled(tmp_path / "chain.db")
    store = SqliteStore(tmp_path / "chain.db", GENESIS_HASH)

    with contextlib.suppress(KeyError), store._database.writing() as session:
        session.run("DELETE FROM blocks")
        raise KeyError
    check_everything(store, chain.commits)
    store.commit(chain.extend())
    check_everything(store, chain.commits)
    store.close()


# Reading


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (sql.SELECT_TX, (bytes(32),)),
        (sql.SELECT_TXS_OF_BLOCK, (3,)),
        (sql.SELECT_BLOCK["height"], (3,)),
        (sql.SELECT_BLOCK["id"], (bytes(32),)),
        (sql.SELECT_ACCOUNT_HISTORY, (ADDRESSES[0], 5, 5, 10)),
        (sql.SELECT_RECEIPT, ("rcpt_", 1)),
        *[(statement, ("x", 5, 5, 5, 10)) for statement in sql.SELECT_RECEIPTS.values()],
    ],
)
def test_no_read_walks_through_a_table_or_sorts_one(
    tmp_path: Path, statement: str, values: tuple[object, ...]
) -> None:
    store = SqliteStore(tmp_path / "chain.db", GENESIS_HASH)
    with store._database.reading() as session:
        plan = [row[3] for row in session.rows(f"EXPLAIN QUERY PLAN {statement}", values)]
    store.close()
    assert not [step for step in plan if step.startswith("SCAN")], plan
    if statement != sql.SELECT_RECEIPT:  # of one id there is one, or very few
        assert not [step for step in plan if "TEMP B-TREE" in step], plan


def test_a_page_costs_as_much_as_its_items(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine: a page deep in a long history is no dearer than one of a short history."""
    chain = MadeUpChain(seed=32)
    store = SqliteStore(tmp_path / "chain.db", GENESIS_HASH)
    costs = []
    for _ in range(3):
        while len(chain.commits) < 60 * (len(costs) + 1):
            store.commit(chain.commits[-1])
            chain.extend()
        before = (len(chain.commits) // 2, 0)
        costs.append(steps(store, sql.SELECT_ACCOUNT_HISTORY, (ADDRESSES[0], *before, 10)))
    store.close()
    assert max(costs) <= costs[0] * 1.2


def steps(store: SqliteStore, statement: str, values: tuple[object, ...]) -> int:
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    with store._database.reading() as session:
        connection = session._connection  # type: ignore[attr-defined]
        connection.set_progress_handler(tick, 1)
        assert len(session.rows(statement, values)) == 10
        connection.set_progress_handler(None, 1)
    return count


def test_many_threads_share_few_connections(tmp_path: Path) -> None:
    chain = filled(tmp_path / "chain.db")
    store = SqliteStore(tmp_path / "chain.db", GENESIS_HASH)
    opened = []
    connect = store._database._readers._open  # type: ignore[attr-defined]
    store._database._readers._open = lambda: opened.append(1) or connect()  # type: ignore[attr-defined]
    wrong: list[object] = []

    def read() -> None:
        for height in range(4):
            if store.block_by_height(height) != chain.commits[height].block:
                wrong.append(height)

    threads = [threading.Thread(target=read) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert wrong == []
    assert len(opened) <= 8
