"""SQLite: the schema is the declared one, and a file that is not ours is refused in one line."""

import sqlite3
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from aitbc.adapters.storage import tables
from aitbc.adapters.storage.sqlite import SCHEMA_VERSION, SqliteStore
from aitbc.core.executor import Executor
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import Candidate, Certificate
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import VerifiedTransaction
from aitbc.ports import StorageError
from support.chain import REQUEST, Chain
from support.people import ALICE, BOB, FAUCET, HUB, PROVIDER, person


def test_the_shipped_schema_is_what_the_sqlmodel_tables_declare() -> None:
    shipped = resources.files("aitbc.adapters.storage").joinpath("schema.sql").read_text()
    assert shipped == tables.sqlite_schema()
    assert SCHEMA_VERSION == tables.SCHEMA_VERSION


def test_the_tables_have_the_seeds_columns() -> None:
    seed = {
        "blocks": "id parent_id height timestamp proposer tx_count hash state_root sig",
        "tx": "id block_id type payload_json sender nonce fee sig hash status",
        "accounts": "address balance nonce pubkey",
        "receipts": "receipt_id job_id client_addr miner_addr compute_units price output_hash miner_sig status",
        "peers": "node_id addr last_seen score",
        "params": "key value",
    }
    for name, columns in seed.items():
        declared = tables.SQLModel.metadata.tables[name].columns.keys()
        assert set(columns.split()) <= set(declared)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, Chain]:
    """A database with three blocks."""
    chain = Chain()
    store = SqliteStore(tmp_path / "chain.db", chain.genesis_hash)
    loaded = chain.executor.loaded
    store.commit(block=loaded.block, changes=loaded.changes, history_peaks=[])
    for _ in range(3):
        built = chain.block(chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}))
        store.commit(block=chain.executor.head, changes=built.changes, history_peaks=built.peaks)
    store.close()
    return tmp_path / "chain.db", chain


def reopen(path: Path, genesis_hash: bytes) -> None:
    store = SqliteStore(path, genesis_hash)
    try:
        store.load()
        store.block_by_height(2)
    finally:
        store.close()


def test_a_database_of_another_chain_is_refused(stored: tuple[Path, Chain]) -> None:
    with pytest.raises(StorageError, match="belongs to the chain"):
        reopen(stored[0], bytes(32))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chain.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(StorageError, match="cannot be used"):
        reopen(tmp_path / "chain.db", bytes(32))


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "chain.db")
    connection.execute("CREATE TABLE recipes(name TEXT)")
    connection.close()
    with pytest.raises(StorageError, match="something else"):
        reopen(tmp_path / "chain.db", bytes(32))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE blocks SET raw = x'00' WHERE height = 2",
        "UPDATE blocks SET raw = (SELECT raw FROM blocks WHERE height = 1) WHERE height = 2",
        "UPDATE tx SET raw = x'93' WHERE height = 2",
        "DELETE FROM tx WHERE height = 2",
        "UPDATE blocks SET height = 9 - height WHERE height IN (2, 3)",
        "UPDATE tx SET raw = (SELECT raw FROM tx WHERE height = 1) WHERE height = 2",
        "UPDATE meta SET value = '99' WHERE key = 'schema_version'",
        "DELETE FROM meta WHERE key = 'history_peaks'",
        "DROP TABLE params",
    ],
)
def test_damage_is_found_and_named(stored: tuple[Path, Chain], damage: str) -> None:
    path, chain = stored
    connection = sqlite3.connect(path)
    connection.execute(damage)
    connection.commit()
    connection.close()
    with pytest.raises(StorageError):
        reopen(path, chain.genesis_hash)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE accounts SET balance = balance + 1 WHERE address = '{alice}'",
        "UPDATE accounts SET nonce = 0 WHERE address = '{alice}'",
        "DELETE FROM accounts WHERE address = '{alice}'",
        "UPDATE params SET value = '3' WHERE key = 'base_fee'",
        "UPDATE meta SET value = x'90' WHERE key = 'history_peaks'",
    ],
)
def test_a_state_that_is_not_the_heads_is_not_believed(stored: tuple[Path, Chain], damage: str) -> None:
    path, chain = stored
    connection = sqlite3.connect(path)
    connection.execute(damage.format(alice=ALICE.address))
    connection.commit()
    connection.close()
    store = SqliteStore(path, chain.genesis_hash)
    with pytest.raises(Rejected) as caught:
        Executor(chain.document, store.load())
    store.close()
    assert caught.value.reason == Reason.DAMAGED


def test_a_commit_that_breaks_off_leaves_the_block_before_it(stored: tuple[Path, Chain]) -> None:
    """Every statement of a commit fails once; the database then holds the old head and takes the block again."""
    path, chain = stored
    built = chain.block(chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}))
    head = chain.executor.head
    assert isinstance(head.certificate, Certificate)
    assert isinstance(head.certificate.candidate, Candidate)
    for broken in ("blocks", "tx", "accounts", "params", "meta"):
        store = SqliteStore(path, chain.genesis_hash)
        connection = sqlite3.connect(path)
        connection.execute(
            f"CREATE TRIGGER broken BEFORE INSERT ON {broken} BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
        connection.commit()
        with pytest.raises(sqlite3.Error):
            store.commit(block=head, changes=built.changes, history_peaks=built.peaks)
        connection.execute("DROP TRIGGER broken")
        connection.commit()
        connection.close()
        stored_chain = store.load()
        store.close()
        assert stored_chain is not None
        assert stored_chain.head.block.header.height == 3, broken
    store = SqliteStore(path, chain.genesis_hash)
    store.commit(block=head, changes=built.changes, history_peaks=built.peaks)
    store.close()


def test_one_changed_byte_of_a_stored_transaction_is_never_served(stored: tuple[Path, Chain]) -> None:
    path, chain = stored
    connection = sqlite3.connect(path)
    (raw,) = connection.execute("SELECT raw FROM tx WHERE height = 2").fetchone()
    store = SqliteStore(path, chain.genesis_hash)
    whole = store.block_by_height(2)
    served = 0
    for place in range(len(raw)):
        connection.execute("UPDATE tx SET raw = ? WHERE height = 2", (flipped(raw, place),))
        connection.commit()
        try:
            block = store.block_by_height(2)
        except StorageError:
            continue
        assert block is not None and whole is not None
        assert [outcome.message for outcome in block.outcomes] != [o.message for o in whole.outcomes]
        served += 1
    store.close()
    connection.close()
    assert served == 0, "this outcome has no message, so every byte is covered"


def flipped(raw: bytes, place: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


def test_a_commit_waits_until_the_disk_has_it(stored: tuple[Path, Chain]) -> None:
    """What was reported final survives a power cut: FULL is 2, and WAL keeps readers at the last whole commit."""
    path, chain = stored
    store = SqliteStore(path, chain.genesis_hash)
    connection = store._connection()
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_order_is_kept_however_the_rows_lie_in_the_file(tmp_path: Path) -> None:
    """Several transactions a block, records of every kind out of key order, then every table turned upside down."""
    chain = Chain()
    path = tmp_path / "chain.db"
    store = SqliteStore(path, chain.genesis_hash)
    loaded = chain.executor.loaded
    store.commit(block=loaded.block, changes=loaded.changes, history_peaks=[])

    def keep(*txs: VerifiedTransaction) -> None:
        built = chain.block(*txs)
        assert [outcome.ok for outcome in built.outcomes] == [True] * len(txs)
        store.commit(block=chain.executor.head, changes=built.changes, history_peaks=built.peaks)

    registration = {"role": "provider", "models": []}
    word = chain.countersignature(PROVIDER, HUB)
    keep(chain.verified(PROVIDER, "REGISTER", registration, fee=0, witness=word))
    for number in range(5):
        stranger = person(f"stranger {number}")
        lock = chain.verified(BOB, "JOB_LOCK", lock_payload(chain))
        keep(
            chain.verified(ALICE, "TRANSFER", {"to": stranger.address, "amount": 1}),
            chain.verified(FAUCET, "FAUCET", {"to": stranger.address, "amount": 9}, fee=0),
            lock,
        )
        payload, witness = chain.claim_parts(PROVIDER, lock.id.hex(), client=BOB)
        keep(chain.verified(HUB, "RECEIPT_CLAIM", payload, witness=witness))
    for name in ("accounts", "receipts", "locks"):
        keys = list(chain.executor.state.records[name])
        by_index = sorted(keys, key=lambda key: chain.executor.state.index_of(name, key))
        assert by_index != sorted(keys)
    heights = range(chain.executor.head.block.header.height + 1)
    whole, blocks = store.load(), [store.block_by_height(height) for height in heights]
    store.close()
    assert whole is not None
    for rows in whole.records.values():
        assert [index for index, _, _ in rows] == list(range(1, len(rows) + 1))
    turn_upside_down(path)
    store = SqliteStore(path, chain.genesis_hash)
    assert store.load() == whole
    assert [store.block_by_height(height) for height in heights] == blocks
    store.close()


def lock_payload(chain: Chain) -> dict[str, Any]:
    return {
        "hub": HUB.address,
        "job_id": "job-1",
        "amount": 5 * AIT,
        "request_hash": REQUEST,
        "deliver_by_ms": chain.now_ms + 60_000,
        "claim_until_ms": chain.now_ms + 60_000,
    }


def turn_upside_down(path: Path) -> None:
    """What a dump that was read in again may do: the same rows, the last one first."""
    connection = sqlite3.connect(path)
    for table in ("accounts", "receipts", "params", "records", "tx"):
        connection.execute(f"CREATE TEMP TABLE turned AS SELECT * FROM {table} ORDER BY rowid DESC")
        connection.execute(f"DELETE FROM {table}")
        connection.execute(f"INSERT INTO {table} SELECT * FROM turned")
        connection.execute("DROP TABLE turned")
    connection.commit()
    connection.close()
