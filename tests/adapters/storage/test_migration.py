"""A chain that release 0.1.0 stored is opened, migrated once, believed, and re-executed to the same hashes."""

import lzma
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from aitbc.adapters.storage.migrations import MIGRATIONS
from aitbc.adapters.storage.sql import SCHEMA_VERSION, schema_statements
from aitbc.adapters.storage.sqlite import SqliteStore
from aitbc.core.executor import Executor
from aitbc.core.ledger.genesis import load_genesis, parse_genesis
from aitbc.core.types.records import Commit
from aitbc.ports import StorageError

CHAINS = Path(__file__).resolve().parents[2] / "vectors" / "chains"
GENESIS = (CHAINS / "0.1.0" / "genesis.json").read_bytes()
GENESIS_HASH = load_genesis(parse_genesis(GENESIS)).hash


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The file as 0.1.0 left it."""
    return unpacked(tmp_path / "chain.db")


def unpacked(path: Path) -> Path:
    path.write_bytes(lzma.decompress((CHAINS / "0.1.0" / "chain.db.xz").read_bytes()))
    return path


def dump(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, and the statements that made them."""
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = {name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in tables}
    rows["sqlite_master"] = sorted(connection.execute("SELECT type, name FROM sqlite_master").fetchall())
    connection.close()
    return rows


def test_there_is_a_way_from_every_version_to_this_one() -> None:
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))


def test_an_old_chain_is_opened_and_believed(old: Path) -> None:
    store = SqliteStore(old, GENESIS_HASH)
    stored = store.load()
    executor = Executor(GENESIS, stored)
    assert executor.head.block.header.height == 32
    assert executor.state.root() == executor.head.block.header.state_root
    assert store.load() == stored
    store.close()


def executed_again(store: SqliteStore) -> list[Commit]:
    """The stored blocks, applied from genesis as if a stranger had sent them."""
    executor = Executor(GENESIS, None)
    commits = [executor.loaded.first]
    for height in range(1, 33):
        stored = store.block_by_height(height)
        assert stored is not None
        assert stored.certificate is not None
        built = executor.apply(stored.block)
        assert (built.hash, built.outcomes) == (stored.hash, stored.outcomes)
        executor.publish(built, stored)
        commits.append(executor.seal(built, stored.certificate))
    return commits


def test_it_is_what_this_release_makes_of_the_same_blocks(old: Path, tmp_path: Path) -> None:
    """Row by row: only the undo is missing, which needs blocks executed by this release."""
    store = SqliteStore(old, GENESIS_HASH)
    commits = executed_again(store)
    assert store.block_by_height(0) == commits[0].block
    store.close()
    fresh = SqliteStore(tmp_path / "fresh.db", GENESIS_HASH)
    for commit in commits:
        fresh.commit(commit)
    fresh.close()
    migrated, made = dump(old), dump(tmp_path / "fresh.db")
    assert made.pop("undo")
    assert migrated.pop("undo") == []
    assert ("migrated_at", (32).to_bytes(8, "big")) in migrated["meta"]
    migrated["meta"] = [row for row in migrated["meta"] if row[0] != "migrated_at"]
    receipts = migrated.pop("receipts"), made.pop("receipts")
    assert migrated == made
    assert len(receipts[0]) == 8
    assert receipts[0] == receipts[1]


def test_histories_and_receipts_are_there(old: Path) -> None:
    store = SqliteStore(old, GENESIS_HASH)
    blocks = [store.block_by_height(height) for height in range(33)]
    claims = [
        (height, position, tx)
        for height, block in enumerate(blocks)
        if block is not None
        for position, tx in enumerate(block.block.txs)
        if tx.type == "RECEIPT_CLAIM"
    ]
    provider = "ait143yzhnrx6zglchdkq4cds5tul498npwnk5ypjc"
    paid = store.receipts("provider", provider, before=None, limit=100)
    assert [(item.height, item.receipt.tx_position) for item in paid] == [c[:2] for c in reversed(claims)]
    assert {item.place for item in paid} == {0}
    assert all(len(item.receipt.provider_sig) == 128 for item in paid)
    sender = claims[0][2].sender
    sent = [
        item for item in store.account_history(sender, before=None, limit=100) if item.tx.sender == sender
    ]
    assert [item.height for item in sent if item.tx.type == "RECEIPT_CLAIM"] == [
        c[0] for c in reversed(claims)
    ]
    store.close()


def test_it_goes_on_from_there_but_not_back_behind_it(old: Path) -> None:
    store = SqliteStore(old, GENESIS_HASH)
    stored = store.load()
    executor = Executor(GENESIS, stored)
    head = executor.head.block.header
    with pytest.raises(StorageError, match="none that an older release wrote"):
        store.rewind(31)
    built = executor.build([], proposer=head.proposer, timestamp_ms=head.timestamp_ms + 1_000)
    assert executor.head.certificate is not None
    store.commit(executor.seal(built, executor.head.certificate))
    store.rewind(32)
    assert store.load() == stored
    store.close()


def test_a_second_start_finds_nothing_to_do(old: Path) -> None:
    SqliteStore(old, GENESIS_HASH).close()
    once = dump(old)
    SqliteStore(old, GENESIS_HASH).close()
    assert dump(old) == once
    assert len([s for s in schema_statements("sqlite") if "CREATE TABLE" in s]) == len(once) - 1


def test_an_old_file_that_never_got_a_block_is_migrated_too(old: Path) -> None:
    """0.1.0 made the tables and wrote genesis in two steps."""
    connection = sqlite3.connect(old)
    for table in ("blocks", "tx", "accounts", "receipts", "records", "params"):
        connection.execute(f"DELETE FROM {table}")
    connection.execute("DELETE FROM meta WHERE key = 'history_peaks'")
    connection.commit()
    connection.close()
    store = SqliteStore(old, GENESIS_HASH)
    assert store.load() is None
    store.commit(load_genesis(parse_genesis(GENESIS)).first)
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE blocks SET raw = x'00' WHERE height = 20",
        "UPDATE blocks SET raw = (SELECT raw FROM blocks WHERE height = 19) WHERE height = 20",
        "UPDATE blocks SET id = 'ff' WHERE height = 20",
        "DELETE FROM blocks WHERE height = 20",
        "DELETE FROM blocks WHERE height = 0",
        "UPDATE tx SET raw = x'93' WHERE height = 20",
        "DELETE FROM tx WHERE height = 20",
        "UPDATE tx SET position = 5 - position WHERE height = 32",
        "DELETE FROM receipts WHERE idx = 3",
        "UPDATE receipts SET raw = '{}' WHERE idx = 3",
        "UPDATE receipts SET raw = (SELECT raw FROM receipts WHERE idx = 4) WHERE idx = 3",
        "DROP TABLE params",
        "CREATE TABLE blocks_1 (made_by TEXT)",
    ],
)
def test_a_damaged_old_file_is_refused_and_left_as_it_was(old: Path, damage: str) -> None:
    connection = sqlite3.connect(old)
    connection.execute(damage)
    connection.commit()
    connection.close()
    before = dump(old)
    with pytest.raises(StorageError):
        SqliteStore(old, GENESIS_HASH)
    assert dump(old) == before


def test_another_chains_old_file_is_left_as_it_was(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(StorageError, match="belongs to the chain"):
        SqliteStore(old, bytes(32))
    assert old.read_bytes() == before
