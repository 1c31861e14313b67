"""What is special about each database: files of an older release, lost connections, hints between processes."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import msgspec
import pytest

from aitbc.core.jobs.lifecycle import State
from aitbc.hub.dbthread import DbThread
from aitbc.hub.store import open_store
from aitbc.hub.store.queue import Appetite
from aitbc.ports import StorageError
from hub.store.conftest import Opener
from hub.store.made import MODEL, NOW, delivery, offer, queued, quote, reservation
from support.postgres import connected

VERSION_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE job (
    job_id TEXT PRIMARY KEY, quote BLOB NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT '', lock TEXT UNIQUE, randomness BLOB NOT NULL DEFAULT x'',
    attempts INTEGER NOT NULL DEFAULT 0, expires_ms INTEGER NOT NULL, ended_ms INTEGER
);
CREATE INDEX job_by_state ON job (state);
CREATE INDEX job_by_end ON job (ended_ms) WHERE ended_ms IS NOT NULL;
CREATE TABLE attempt (
    job_id TEXT NOT NULL, attempt INTEGER NOT NULL, provider TEXT NOT NULL, offer BLOB NOT NULL,
    candidates BLOB NOT NULL, randomness BLOB NOT NULL, reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job_id, attempt)
) WITHOUT ROWID;
CREATE TABLE receipt (
    receipt_id TEXT PRIMARY KEY, job_id TEXT NOT NULL, provider TEXT NOT NULL, provider_pubkey TEXT NOT NULL,
    delivery BLOB NOT NULL, signed BLOB NOT NULL, data BLOB NOT NULL, claim_until_ms INTEGER NOT NULL,
    claim_tx TEXT NOT NULL DEFAULT '', state TEXT NOT NULL DEFAULT 'attested'
);
CREATE UNIQUE INDEX receipt_by_job ON receipt (job_id);
CREATE INDEX receipt_open ON receipt (provider) WHERE state = 'attested';
CREATE TABLE event (
    job_id TEXT NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (job_id, seq)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
"""The tables of releases 0.1.0 and 0.2.0."""

NEW_FIELDS = ("parts", "job_class", "wishes", "weight_milli")


def version_1(path: Path) -> sqlite3.Connection:
    """A database as release 0.2.0 leaves it: a quote, a waiting job, a running one and a delivered one."""
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(VERSION_1)
    db.execute("INSERT INTO meta VALUES ('genesis_hash', 'aa')")
    for name, state, attempts in (
        ("quoted", "quoted", 0),
        ("waiting", "queued", 0),
        ("running", "running", 1),
        ("owed", "delivered", 1),
    ):
        made = quote(name)
        old = {key: value for key, value in msgspec.to_builtins(made).items() if key not in NEW_FIELDS}
        db.execute(
            "INSERT INTO job VALUES (?, ?, ?, '', '', ?, ?, ?, ?, NULL)",
            (
                name,
                msgspec.json.encode(old),
                state,
                None if state == "quoted" else name,
                bytes(32),
                attempts,
                made.expires_ms,
            ),
        )
        db.execute("INSERT INTO event VALUES (?, 0, ?, ?)", (name, NOW, '{"state":"quoted"}'))
        if attempts:
            old_offer = msgspec.to_builtins(offer(made))
            del old_offer["of_parts"]
            db.execute(
                "INSERT INTO attempt VALUES (?, 0, 'ait1p', ?, '[]', ?, '')",
                (name, msgspec.json.encode(old_offer), bytes(32)),
            )
    entry = delivery(quote("owed"), "").entry
    db.execute(
        "INSERT INTO receipt VALUES (?, 'owed', ?, '', ?, ?, x'20776f726473', ?, 'tx', 'attested')",
        (
            entry.receipt_id,
            entry.provider,
            msgspec.json.encode(entry.delivery),
            msgspec.json.encode(entry.signed),
            entry.claim_until_ms,
        ),
    )
    return db


def test_a_hub_of_an_older_release_owes_what_it_owed(tmp_path: Path) -> None:
    version_1(tmp_path / "hub.sqlite").close()
    store = open_store("", default=tmp_path / "hub.sqlite", genesis_hash="aa")
    (entry,) = store.open_receipts()
    assert msgspec.structs.replace(entry, claim_tx="") == delivery(quote("owed"), "").entry
    assert (entry.claim_tx, store.result_data("owed")) == ("tx", b" words")
    assert store.open_quotes() == ["quoted"]
    assert store.reclaim(now_ms=NOW) == 1
    claims = store.claim("p", [Appetite(MODEL, 1, 9)])
    parts = [(each.job.quote, task.attempts) for each in claims for task in each.tasks]
    assert parts == [(quote("waiting"), 0), (quote("running"), 1)]
    assert [attempt.reason for attempt in store.attempts("running")] == ["hub_restarted"]
    assert [event["state"] for event in store.events("owed")] == ["quoted"]
    store.close()
    open_store("", default=tmp_path / "hub.sqlite", genesis_hash="aa").close()


def test_a_migration_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    db = version_1(tmp_path / "hub.sqlite")
    db.execute("DROP TABLE event")
    db.close()
    with pytest.raises(StorageError, match="no such table"):
        open_store("", default=tmp_path / "hub.sqlite", genesis_hash="aa")
    again = sqlite3.connect(tmp_path / "hub.sqlite")
    assert again.execute("SELECT COUNT(*) FROM receipt").fetchone() == (1,)
    assert again.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_file_of_the_future_is_left_alone(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "hub.sqlite").execute("PRAGMA user_version = 9")
    with pytest.raises(StorageError, match="has schema 9; this version reads 1 and 2"):
        open_store("", default=tmp_path / "hub.sqlite", genesis_hash="aa")


def test_another_chain_is_refused(
    opener: Opener, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    opener().close()
    url = "" if kind == "sqlite" else str(request.getfixturevalue("postgres_url"))
    with pytest.raises(StorageError, match="another chain"):
        open_store(url, default=tmp_path / "hub.sqlite", genesis_hash="bb")


@pytest.mark.parametrize("url", ["mysql://root@host/db", "postgresql://a b:c@host:x/db", "nothing"])
def test_an_address_that_cannot_be_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_store(url, default=tmp_path / "hub.sqlite", genesis_hash="aa")
    assert "root" not in str(caught.value)
    assert "a b" not in str(caught.value)


def test_calls_that_wait_together_are_one_transaction_and_each_gets_its_answer(opener: Opener) -> None:
    async def story() -> None:
        thread = DbThread()
        thread.store = store = await thread.call(opener)
        made = [quote(f"job_{number}") for number in range(50)]
        gate = threading.Event()
        held = thread.call(gate.wait, 5)
        quotes = [thread.call(store.add_quote, each) for each in made]
        wrong = thread.call(store.cancel_quote, "nobody", at_ms=NOW)
        reserved = [thread.batched(store.reserve, reservation(each)) for each in made]
        reserved.append(thread.batched(store.reserve, reservation(made[0], lock="ab" * 32)))
        gate.set()
        await asyncio.gather(held, *quotes)
        assert await asyncio.gather(*reserved) == [True] * 50 + [False]
        assert str(await asyncio.gather(wrong, return_exceptions=True)).startswith("[Refused")
        assert await thread.call(store.unfinished) == 50
        await thread.stop()

    asyncio.run(story())


def test_a_connection_that_is_cut_is_made_again_and_nothing_happens_twice(
    postgres_server: str, postgres_url: str, tmp_path: Path
) -> None:
    async def story() -> None:
        thread = DbThread()
        thread.store = store = await thread.call(
            open_store, postgres_url, default=tmp_path, genesis_hash="aa"
        )
        for number in range(30):
            made = quote(f"job_{number}")
            await thread.call(store.add_quote, made)
            with connected(postgres_server) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aitbc hub'"
                )
            assert await thread.batched(store.reserve, reservation(made)) is True
        claims = await thread.call(store.claim, "p", [Appetite(MODEL, 1, 100)])
        assert len(claims) == 30
        await thread.stop()
        store.close()

    asyncio.run(story())


def test_a_hint_wakes_another_process(opener: Opener, kind: str) -> None:
    here = opener()
    if kind == "sqlite":
        assert here.database.notified(60) is False, "there is no other process to wait for"
        return
    there = opener()
    assert there.database.notified(0.01) is False
    queued(here, "job_1")
    assert there.database.notified(5) is True


def test_the_store_is_the_same_after_a_crash_in_the_middle_of_a_group(opener: Opener) -> None:
    store = opener()

    class Crash(BaseException):
        pass

    def crash() -> None:
        with store.group():
            queued(store, "job_1")
            raise Crash

    with pytest.raises(Crash):
        crash()
    assert store.job("job_1") is None
    assert queued(store, "job_1").job_id == "job_1"
    record = store.job("job_1")
    assert record is not None
    assert record.state == State.QUEUED
