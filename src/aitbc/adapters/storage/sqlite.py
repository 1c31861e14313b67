"""SQLite in WAL mode: one block is one transaction, on disk before it is reported final.

`synchronous=FULL`: each commit waits for fsync, because a block that was reported final must survive a power cut; at
one block a second the few milliseconds do not matter (docs/adr/0004-storage.md).
"""

import sqlite3
import threading
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from aitbc.adapters.storage.rows import (
    MEND,
    Row,
    account_record,
    block_row,
    check_record,
    restore_block,
    state_rows,
    transaction_rows,
)
from aitbc.core.types.blocks import CommittedBlock
from aitbc.core.types.records import STORES, Change, StoredChain
from aitbc.ports import StorageError

SCHEMA_VERSION = 1

_UPSERTS = {
    "accounts": (
        "INSERT INTO accounts(address, idx, balance, nonce, pubkey) VALUES (?,?,?,?,?) ON CONFLICT(address) DO UPDATE"
        " SET balance = excluded.balance, nonce = excluded.nonce, pubkey = excluded.pubkey"
    ),
    "receipts": (
        "INSERT INTO receipts(receipt_id, idx, job_id, client_addr, miner_addr, compute_units, price, output_hash,"
        " miner_sig, status, raw) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
    ),
    "params": (
        'INSERT INTO params("key", idx, value) VALUES (?,?,?) ON CONFLICT("key") DO UPDATE SET value = excluded.value'
    ),
    "records": (
        'INSERT INTO records(store, "key", idx, raw) VALUES (?,?,?,?)'
        ' ON CONFLICT(store, "key") DO UPDATE SET raw = excluded.raw'
    ),
}


class SqliteStore:
    """A chain in one file. Writes come from one thread, reads from any.

    SQLite keeps any type in any column, so every column that is read is cast: damage then shows as a wrong hash.
    """

    def __init__(self, path: Path, genesis_hash: bytes) -> None:
        self._path = path
        self._genesis_hash = genesis_hash
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        try:
            self._prepare()
        except sqlite3.Error as error:
            raise StorageError(f"{path} cannot be used as a chain database ({error}); {MEND}") from None

    def _connection(self) -> sqlite3.Connection:
        """One connection per thread: readers see the last whole commit while the writer writes."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=10
            )
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    def _prepare(self) -> None:
        connection = self._connection()
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
        if known is None:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StorageError(f"{self._path} is a database of something else; choose another file")
            self._create(connection)
        self._check_meta(connection)

    def _create(self, connection: sqlite3.Connection) -> None:
        schema = resources.files(__package__).joinpath("schema.sql").read_text()
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in schema.split(";"):
                if statement.strip():
                    connection.execute(statement)
            meta = [("schema_version", str(SCHEMA_VERSION).encode()), ("genesis_hash", self._genesis_hash)]
            connection.executemany('INSERT INTO meta("key", value) VALUES (?,?)', meta)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def _check_meta(self, connection: sqlite3.Connection) -> None:
        meta = dict(connection.execute('SELECT "key", CAST(value AS BLOB) FROM meta'))
        version = meta.get("schema_version", b"?")
        if version != str(SCHEMA_VERSION).encode():
            raise StorageError(
                f"{self._path} has schema version {version.decode(errors='replace')}, this release knows"
                f" {SCHEMA_VERSION}; use the release that wrote it, or sync into an empty folder"
            )
        stored = meta.get("genesis_hash", b"")
        if stored != self._genesis_hash:
            raise StorageError(
                f"{self._path} belongs to the chain with genesis {stored.hex()[:16]}…, not"
                f" {self._genesis_hash.hex()[:16]}…; choose another data folder, or reset this one"
            )

    def load(self) -> StoredChain | None:
        try:
            return self._load(self._connection())
        except (sqlite3.Error, msgspec.MsgspecError, UnicodeError, OverflowError) as error:
            raise StorageError(f"{self._path} is damaged ({error}); {MEND}") from None

    def _load(self, connection: sqlite3.Connection) -> StoredChain | None:
        row = connection.execute("SELECT max(height) FROM blocks").fetchone()
        if row[0] is None:
            return None
        head = self.block_by_height(row[0])
        assert head is not None
        peaks = connection.execute(
            "SELECT CAST(value AS BLOB) FROM meta WHERE \"key\" = 'history_peaks'"
        ).fetchone()
        if peaks is None:
            raise StorageError(f"{self._path} lacks its history peaks; {MEND}")
        return StoredChain(
            genesis_hash=self._genesis_hash,
            head=head,
            history_peaks=msgspec.msgpack.decode(peaks[0], type=list[tuple[int, bytes]]),
            records={store: self._load_records(connection, store) for store in STORES},
        )

    def _load_records(self, connection: sqlite3.Connection, store: str) -> list[tuple[int, str, bytes]]:
        if store == "accounts":
            rows = connection.execute(
                "SELECT idx, address, balance, nonce, pubkey FROM accounts ORDER BY idx"
            )
            return [(idx, address, account_record(*rest)) for idx, address, *rest in rows]
        if store == "receipts":
            found = connection.execute(
                "SELECT CAST(idx AS INTEGER), CAST(receipt_id AS TEXT), CAST(raw AS TEXT) FROM receipts ORDER BY idx"
            )
        elif store == "params":
            rows = connection.execute(
                'SELECT CAST(idx AS INTEGER), CAST("key" AS TEXT), CAST(value AS TEXT) FROM params ORDER BY idx'
            )
            return [(idx, key, msgspec.json.encode({"value": value})) for idx, key, value in rows]
        else:
            found = connection.execute(
                'SELECT CAST(idx AS INTEGER), CAST("key" AS TEXT), CAST(raw AS TEXT) FROM records'
                " WHERE store = ? ORDER BY idx",
                (store,),
            )
        return [(idx, key, check_record(store, raw.encode())) for idx, key, raw in found]

    def commit(
        self, *, block: CommittedBlock, changes: Sequence[Change], history_peaks: list[tuple[int, bytes]]
    ) -> None:
        connection = self._connection()
        rows = state_rows(block, changes)
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._insert(connection, block, rows)
            peaks = msgspec.msgpack.encode(history_peaks)
            connection.execute(
                "INSERT INTO meta(\"key\", value) VALUES ('history_peaks', ?)"
                ' ON CONFLICT("key") DO UPDATE SET value = excluded.value',
                (peaks,),
            )
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def _insert(
        self, connection: sqlite3.Connection, block: CommittedBlock, rows: dict[str, list[Row]]
    ) -> None:
        connection.execute(
            "INSERT INTO blocks(height, id, parent_id, timestamp, proposer, tx_count, hash, state_root, sig, raw)"
            " VALUES (?,?,?,?,?,?,?,?,?,?)",
            block_row(block),
        )
        connection.executemany(
            "INSERT INTO tx(id, block_id, height, position, type, payload_json, sender, nonce, fee, sig, hash,"
            " status, raw) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            transaction_rows(block),
        )
        for table, statement in _UPSERTS.items():
            connection.executemany(statement, rows[table])

    def block_by_height(self, height: int) -> CommittedBlock | None:
        return self._block("height", height)

    def block_by_hash(self, block_hash: bytes) -> CommittedBlock | None:
        return self._block("id", block_hash.hex())

    def _block(self, column: str, value: Any) -> CommittedBlock | None:
        columns = "height, CAST(raw AS BLOB), CAST(id AS TEXT)"
        query = {name: f"SELECT {columns} FROM blocks WHERE {name} = ?" for name in ("height", "id")}  # noqa: S608
        connection = self._connection()
        row = connection.execute(query[column], (value,)).fetchone()
        if row is None:
            return None
        height, raw, block_hash = row
        txs = connection.execute(
            "SELECT CAST(raw AS BLOB) FROM tx WHERE block_id = ? AND height = ? ORDER BY position",
            (block_hash, height),
        )
        block = restore_block(raw, block_hash, [tx[0] for tx in txs], self._genesis_hash)
        if block.block.header.height != height:
            raise StorageError(f"block {block_hash} on disk stands at height {height}; {MEND}")
        return block

    def find_transaction(self, tx_id: bytes) -> tuple[int, int] | None:
        row = (
            self._connection()
            .execute("SELECT height, position FROM tx WHERE id = ?", (tx_id.hex(),))
            .fetchone()
        )
        return (row[0], row[1]) if row else None

    def block_hashes(self, start: int, stop: int) -> list[bytes]:
        rows = self._connection().execute(
            "SELECT id FROM blocks WHERE height >= ? AND height < ? ORDER BY height", (start, stop)
        )
        return [bytes.fromhex(row[0]) for row in rows]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()


def _roll_back(connection: sqlite3.Connection) -> None:
    """SQLite has rolled back by itself when the disk was full; asking again would hide why."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
