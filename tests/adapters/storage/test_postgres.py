"""PostgreSQL: one node at a time, lost connections are named and mended, and no password gets into a message."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from aitbc.adapters.storage import postgres, sql
from aitbc.adapters.storage.postgres import PostgresStore, parse_url
from aitbc.ports import StorageError
from support.bad_line import BadLine
from support.made_up import ADDRESSES, GENESIS_HASH, MadeUpChain
from support.postgres import connected
from support.store_model import check_everything, check_state


@pytest.fixture
def chain() -> MadeUpChain:
    chain = MadeUpChain(seed=61)
    chain.grow(5)
    return chain


def opened(url: str) -> PostgresStore:
    return PostgresStore(url, GENESIS_HASH)


def filled(url: str, chain: MadeUpChain) -> PostgresStore:
    store = opened(url)
    for commit in chain.commits:
        store.commit(commit)
    return store


# URLs

GOOD = {
    "postgresql://node:secret@db.example:5433/chain": {
        "host": "db.example",
        "port": "5433",
        "user": "node",
        "password": "secret",
        "dbname": "chain",
    },
    "postgres://db.example/chain": {"host": "db.example", "dbname": "chain"},
    "postgresql://node:p%40ss%2Fw%3Ard%25@[::1]/chain": {
        "host": "::1",
        "user": "node",
        "password": "p@ss/w:rd%",
        "dbname": "chain",
    },
    "postgresql://node@/chain?host=/var/run/postgresql": {
        "host": "/var/run/postgresql",
        "user": "node",
        "dbname": "chain",
    },
    "postgresql://node@db/chain?password=secret&sslmode=require": {
        "host": "db",
        "user": "node",
        "dbname": "chain",
        "password": "secret",
        "sslmode": "require",
    },
    "postgresql://": {},
}


@pytest.mark.parametrize("url", GOOD)
def test_a_url_is_taken_apart(url: str) -> None:
    address = parse_url(url)
    assert address.settings == GOOD[url]
    assert address.password == GOOD[url].get("password", "")
    assert "secret" not in address.name and "p@ss" not in address.name


BAD = [
    "postgresql://node:S3cret@x@db/chain",
    "postgresql://node:S3cret/x@db/chain",
    "postgresql://node:S3cret?x@db/chain",
    "postgresql://node:S3cret#x@db/chain",
    "postgresql://node:S3cret@db:many/chain",
    "postgresql://node:x@db:S3cret/chain",
    "postgresql://node:S3cret@db:99999/chain",
    "postgresql://node:S3cret@db/chain/more",
    "postgresql://node:S3cret@[::1/chain",
    "postgresql://node:x@db/chain?S3cret",
    "postgresql://node:x@db/chain?S3cret=1",
    "postgresql+psycopg://node:S3cret@db/chain",
    "http://node:S3cret@db/chain",
    "postgresql:node:S3cret@db/chain",
    "S3cret",
]


@pytest.mark.parametrize("url", BAD)
def test_a_wrong_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(StorageError, match="DATABASE_URL") as caught:
        parse_url(url)
    assert "S3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://node:S3cret@127.0.0.1:1/chain",
        "postgresql://node:S3cret@no-such-host.invalid/chain",
        "postgresql://node@/chain?host=/nowhere&password=S3cret",
    ],
)
def test_a_server_that_is_not_there_is_named_without_the_password(url: str) -> None:
    with pytest.raises(
        StorageError, match=r"does not answer .* start it, the next call tries again"
    ) as caught:
        opened(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "S3cret" not in f"{error!s} {error!r} {vars(error)}"
        assert error.__suppress_context__ or error.__context__ is None
        error = error.__cause__


# Whose database


def test_a_second_node_is_refused_and_the_first_goes_on(
    postgres_url: str, chain: MadeUpChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LOCK_WAIT_MS", 100)
    first = filled(postgres_url, chain)
    with pytest.raises(StorageError, match="another node is using"):
        opened(postgres_url)
    first.commit(chain.extend())
    first.close()
    second = opened(postgres_url)
    check_everything(second, chain.commits)
    second.close()


def test_each_schema_can_hold_a_chain(postgres_url: str, chain: MadeUpChain) -> None:
    urls = []
    for name in ("one", "two"):
        with connected(postgres_url) as database:
            database.execute(f"CREATE SCHEMA {name}".encode())
        urls.append(f"{postgres_url}{'&' if '?' in postgres_url else '?'}options=-csearch_path%3D{name}")
    stores = [filled(url, chain) for url in urls]
    stores[0].rewind(2)
    check_everything(stores[0], chain.commits[:3])
    check_everything(stores[1], chain.commits)
    for store in stores:
        store.close()


def test_a_database_of_something_else_is_refused_and_left_alone(postgres_url: str) -> None:
    with connected(postgres_url) as database:
        database.execute("CREATE TABLE recipes(name TEXT)")
    with pytest.raises(StorageError, match="database of something else"):
        opened(postgres_url)
    with connected(postgres_url) as database:
        found = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert found == [("recipes",)]


def test_an_encoding_that_cannot_hold_every_text_is_refused(postgres_server: str, postgres_url: str) -> None:
    name = urlsplit(postgres_url).path[1:] + "_ascii"
    with connected(postgres_server) as server:
        server.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0".encode()
        )
    try:
        with pytest.raises(StorageError, match="encoding SQL_ASCII; 13 or later and UTF8 are needed"):
            opened(postgres_server.format(database=name))
    finally:
        with connected(postgres_server) as server:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_a_standby_is_refused_at_opening(postgres_url: str, chain: MadeUpChain) -> None:
    filled(postgres_url, chain).close()
    name = urlsplit(postgres_url).path[1:]
    with connected(postgres_url) as database:
        database.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    with pytest.raises(StorageError, match=r"can only be read .* name the primary server"):
        opened(postgres_url)


def test_a_user_without_rights_is_refused(postgres_server: str, postgres_url: str) -> None:
    role = urlsplit(postgres_url).path[1:] + "_guest"
    with connected(postgres_url) as database:
        database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'S3cret'".encode())
    try:
        host = parse_qs(urlsplit(postgres_url).query).get("host", [""])[0]
        if not host:
            pytest.skip("the given server may ask for more than a name")
        with pytest.raises(StorageError, match=r"does not let this user in .* grant it the right") as caught:
            opened(f"postgresql://{role}:S3cret@/{urlsplit(postgres_url).path[1:]}?host={host}")
        assert "S3cret" not in str(caught.value)
    finally:
        with connected(postgres_url) as database:
            database.execute(f"DROP ROLE {role}".encode())


def test_a_server_that_does_not_wait_for_its_disk_is_told_to(postgres_url: str) -> None:
    name = urlsplit(postgres_url).path[1:]
    with connected(postgres_url) as database:
        database.execute(f"ALTER DATABASE {name} SET synchronous_commit = off".encode())
    store = opened(postgres_url)
    with store._database.writing() as session:
        assert session.rows("SHOW synchronous_commit") == [("on",)]
    store.close()


# Lost connections


@pytest.fixture
def line(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BadLine]:
    host = parse_qs(urlsplit(postgres_url).query).get("host", [""])[0]
    if not host:
        pytest.skip("needs a server on a local socket")
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"line-{os.getpid()}-{random.randrange(10**9)}"
    folder.mkdir()
    line = BadLine(folder, Path(host))
    yield line
    line.cut()
    folder.rmdir()


def through(line: BadLine, url: str) -> str:
    return f"postgresql://postgres@{urlsplit(url).path}?host={line.folder}"


def test_a_lost_line_is_named_and_the_next_call_has_a_new_one(
    line: BadLine, postgres_url: str, chain: MadeUpChain
) -> None:
    store = filled(through(line, postgres_url), chain)
    check_everything(store, chain.commits)
    line.cut()
    for ask in (
        store.load,
        store.load_waiting,
        lambda: store.commit(chain.commits[-1]),
        lambda: store.rewind(1),
    ):
        with pytest.raises(StorageError, match=r"does not answer .* the next call tries again"):
            ask()
    line.mend()
    check_everything(store, chain.commits)
    store.commit(chain.extend())
    check_everything(store, chain.commits)
    store.close()


def test_one_error_is_enough_however_many_connections_were_open(
    line: BadLine, postgres_url: str, chain: MadeUpChain
) -> None:
    """Those of other threads that were lost too are not tried one after the other."""
    store = filled(through(line, postgres_url), chain)
    lent = [store._database.reading() for _ in range(5)]
    for context in lent:
        context.__enter__()
    for context in lent:
        context.__exit__(None, None, None)
    line.cut()
    line.mend()
    with pytest.raises(StorageError, match="does not answer"):
        store.load()
    check_everything(store, chain.commits)
    with pytest.raises(StorageError, match="does not answer"):
        store.commit(chain.extend())
    store.commit(chain.commits[-1])
    check_everything(store, chain.commits)
    store.close()


def error_of(work: Callable[[], object]) -> str:
    try:
        work()
    except StorageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("what", ["commit", "rewind"])
def test_a_line_that_breaks_at_any_message_leaves_all_or_nothing(
    line: BadLine, postgres_url: str, chain: MadeUpChain, what: str
) -> None:
    store = filled(through(line, postgres_url), chain)
    store.commit(chain.extend(transactions=60))
    before = chain.commits[:]
    after = chain.commits[:3] if what == "rewind" else [*before, chain.extend(transactions=60)]
    lost, there = 0, False
    while not there:
        line.break_after(messages=lost + 1)
        error = error_of(lambda: store.rewind(2) if what == "rewind" else store.commit(after[-1]))
        line.mend()
        stored = store.load()
        assert stored is not None
        there = stored.head == after[-1].block
        check_state(store, after if there else before)
        assert "does not answer" in error or there
        lost += 1
    assert lost > 10
    check_everything(store, after)
    store.close()


def test_a_commit_whose_answer_is_lost_is_there_and_may_be_made_again(
    line: BadLine, postgres_url: str, chain: MadeUpChain
) -> None:
    store = filled(through(line, postgres_url), chain)
    commit = chain.extend()
    line.break_after(text=b"COMMIT")
    with pytest.raises(StorageError, match="does not answer"):
        store.commit(commit)
    assert line.broken.wait(5)
    check_everything(store, chain.commits)
    store.commit(commit)
    store.commit(chain.extend())
    check_everything(store, chain.commits)
    store.close()


def test_who_lost_the_lock_with_the_line_does_not_write_behind_another_node(
    line: BadLine, postgres_url: str, chain: MadeUpChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LOCK_WAIT_MS", 500)
    first = filled(through(line, postgres_url), chain)
    line.cut()
    second = opened(postgres_url)
    second.commit(chain.extend())
    line.mend()
    with pytest.raises(StorageError, match="does not answer"):
        first.commit(chain.commits[-1])
    with pytest.raises(StorageError, match="another node is using"):
        first.commit(chain.commits[-1])
    second.commit(chain.extend())
    second.close()
    with pytest.raises(StorageError, match="does not follow"):
        first.commit(chain.commits[2])
    check_everything(first, chain.commits)
    first.close()


def test_the_server_may_end_connections(postgres_url: str, chain: MadeUpChain) -> None:
    """An administrator, or `idle_session_timeout`."""
    store = filled(postgres_url, chain)
    store.load()
    with connected(postgres_url) as database:
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(StorageError, match="does not answer"):
        store.load()
    check_everything(store, chain.commits)
    with pytest.raises(StorageError, match="does not answer"):
        store.commit(chain.extend())
    store.commit(chain.commits[-1])
    check_everything(store, chain.commits)
    store.close()


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 10))])
def test_killed_at_a_random_moment_nothing_reported_is_lost(postgres_url: str, seed: int) -> None:
    draw = random.Random(seed)
    chain = MadeUpChain(seed=200 + seed)
    chain.grow(100)
    reported, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            store = opened(postgres_url)
            for commit in chain.commits:
                store.commit(commit)
                os.write(tell, bytes([commit.block.block.header.height]))
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(tell)
    heights = bytearray(os.read(reported, 1))
    time.sleep(draw.random() * 0.3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while said := os.read(reported, 64):
        heights += said
    os.close(reported)
    store = opened(postgres_url)
    stored = store.load()
    assert stored is not None
    height = stored.head.block.header.height
    assert heights[-1] <= height <= heights[-1] + 1
    check_everything(store, chain.commits[: height + 1])
    store.close()


# Reading


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (sql.SELECT_TX, (bytes(32),)),
        (sql.SELECT_TXS_OF_BLOCK, (3,)),
        (sql.SELECT_BLOCK["id"], (bytes(32),)),
        (sql.SELECT_ACCOUNT_HISTORY, (ADDRESSES[0], 5, 5, 10)),
        *[(statement, ("x", 5, 5, 5, 10)) for statement in sql.SELECT_RECEIPTS.values()],
    ],
)
def test_no_read_needs_to_walk_through_a_table_or_sort_one(
    postgres_url: str, statement: str, values: tuple[object, ...]
) -> None:
    """Of empty tables the server would read all, so it is asked not to where there is another way."""
    store = opened(postgres_url)
    with store._database.writing() as session:
        for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"):
            session.run(f"SET LOCAL enable_{way} = off")
        plan = "\n".join(row[0] for row in session.rows(f"EXPLAIN {statement}", values))
    store.close()
    assert "Seq Scan" not in plan, plan
    assert "Sort" not in plan, plan
    if "LIMIT" in statement:
        assert "ROW(" in plan.partition("Index Cond:")[2].splitlines()[0], plan


def test_binary_and_text_come_back_as_they_were(postgres_url: str) -> None:
    """Bytes that are no text, quotes, tabs and backslashes go through COPY, which has its own marks."""
    store = opened(postgres_url)
    waiting = [bytes(range(256)) * 3, b"\\N\t\r\n\\.", b"'", b"%s ?"] * 30
    store.save_waiting(waiting)
    assert store.load_waiting() == waiting
    with store._database.writing() as session:
        rows = [(f"k{n}\t\\N\n", n, "\\.\r\n'\"☂\\x41") for n in range(100)]
        session.insert(sql.STATE["params"], rows)
        session.insert(sql.STATE["params"], [(key, idx + 1, value) for key, idx, value in rows])
        found = session.rows('SELECT "key", idx, value FROM params ORDER BY idx')
    assert found == [(key, idx + 1, value) for key, idx, value in rows]
    store.close()


def test_psycopg_reports_what_we_take_for_a_lost_connection() -> None:
    assert issubclass(psycopg.errors.AdminShutdown, psycopg.OperationalError)
    assert issubclass(psycopg.errors.IdleSessionTimeout, psycopg.OperationalError)
