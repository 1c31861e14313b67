"""The store on any SQL database: every statement stands here once, with `?` for its values.

A database offers what `Database` asks: sessions to read and to write in, its schema, and its errors as StorageError.
Writes come from one thread at a time, reads from any.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import islice, pairwise
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from aitbc.adapters.storage.rows import (
    BLOCK_COLUMNS,
    MEND,
    NO_HEAD,
    RECEIPT_COLUMNS,
    TRANSACTION_COLUMNS,
    BlockRow,
    ReceiptRow,
    Row,
    StateRows,
    TransactionRow,
    Undo,
    account_bytes,
    account_rows,
    block_row,
    changed,
    check_history_row,
    check_waiting_row,
    damaged,
    escaped,
    final_row,
    head_row,
    history_row,
    param_bytes,
    receipt_row,
    restore_block,
    restore_block_head,
    restore_final,
    restore_head,
    restore_page,
    restore_receipt,
    restore_transaction,
    restore_undo,
    restore_validator_set,
    state_rows,
    stored_receipts,
    touched,
    transaction_rows,
    undo_row,
    validator_set_row,
    waiting_rows,
)
from aitbc.core.crypto.hashing import u64
from aitbc.core.crypto.mountains import peak_places
from aitbc.core.types.amounts import MAX_TOTAL
from aitbc.core.types.blocks import CommittedBlock, Validator
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.records import STORES, Commit, StoredChain, StoredRows
from aitbc.ports import UNDO_DEPTH, ReceiptIndex, StorageError, StoredHead, StoredReceipt, StoredTransaction

log = logging.getLogger("aitbc.storage")

SCHEMA_VERSION = 2
NEWEST = (MAX_TOTAL, MAX_TOTAL, MAX_TOTAL)
"""A cursor behind everything."""

T = TypeVar("T")
Before = dict[str, tuple[int, bytes | None]]
"""Key → slot and record bytes before; None: not there."""


class _CommitRows(NamedTuple):
    """What a block writes; made before the transaction begins."""

    block: list[Row]
    txs: list[Row]
    accounts: list[Row]
    receipts: list[Row]
    nodes: list[Row]
    undo: list[Row]
    validators: list[Row]
    state: StateRows

    @classmethod
    def of(cls, commit: Commit) -> "_CommitRows":
        block = commit.block
        return cls(
            [block_row(block)],
            transaction_rows(block),
            account_rows(block),
            [receipt_row(stored) for stored in stored_receipts(block, commit.receipts)],
            [history_row(node) for node in commit.history],
            [undo_row(block.block.header.height, commit.changes)],
            [validator_set_row(commit.validators)] if commit.validators else [],
            state_rows(changed(commit.changes)),
        )


CHUNK = 10_000
"""Rows that are checked at a time."""


class Insert(NamedTuple):
    """Rows for a table; with a `key`, a row that is there already is replaced."""

    table: str
    columns: str
    key: str = ""


BLOCKS = Insert(
    "blocks",
    "height, id, parent_id, timestamp, timestamp_ms, proposer, tx_count, hash, state_root, sig, raw, checksum",
)
TX = Insert(
    "tx",
    "height, position, id, block_id, type, payload_json, sender, nonce, fee, sig, hash, status, raw, checksum",
)
ACCOUNT_TX = Insert("account_tx", "address, height, position")
RECEIPTS = Insert(
    "receipts",
    "height, position, place, receipt_id, job_id, client_addr, miner_addr, compute_units, price, output_hash,"
    " miner_sig, status, hub, minted, lock, task, attempt, timestamp_ms, checksum",
)
HISTORY_NODES = Insert("history_nodes", "level, position, hash, checksum")
VALIDATOR_SETS = Insert("validator_sets", "hash, raw", "hash")
UNDO = Insert("undo", "height, raw, checksum")
WAITING = Insert("waiting", "position, raw, checksum")
META = Insert("meta", '"key", value', '"key"')
STATE = {
    "accounts": Insert("accounts", "address, idx, balance, nonce, pubkey", "address"),
    "params": Insert("params", '"key", idx, value', '"key"'),
    "records": Insert("records", 'store, "key", idx, raw', 'store, "key"'),
}
DELETE_STATE = {
    "accounts": "DELETE FROM accounts WHERE address = ?",
    "params": 'DELETE FROM params WHERE "key" = ?',
    "records": 'DELETE FROM records WHERE store = ? AND "key" = ?',
}
RECORDS_OF = {
    "accounts": "SELECT idx, address, balance, nonce, pubkey FROM accounts ORDER BY idx",
    "params": 'SELECT idx, "key", value FROM params ORDER BY idx',
    "records": 'SELECT idx, "key", raw FROM records WHERE store = ? ORDER BY idx',
}
RECEIPT_COLUMN: dict[ReceiptIndex, str] = {"provider": "miner_addr", "client": "client_addr", "job": "job_id"}

# ruff: noqa: S608 - statements are put together from the constants of this page only
SELECT_HEAD = "SELECT value FROM meta WHERE \"key\" = 'head'"
SELECT_MIGRATED = "SELECT 1 FROM meta WHERE \"key\" = 'migrated_at' AND value = ?"
SELECT_BLOCK = {
    column: f"SELECT {BLOCK_COLUMNS} FROM blocks WHERE {column} = ?" for column in ("height", "id")
}
_TX = (
    f"SELECT {TRANSACTION_COLUMNS} FROM tx t LEFT JOIN blocks b ON b.height = t.height AND b.id = t.block_id"
)
SELECT_TXS_OF_BLOCK = f"{_TX} WHERE t.height = ? ORDER BY t.position"
SELECT_TXS_PAGE = f"{_TX} WHERE t.height = ? AND t.position >= ? ORDER BY t.position LIMIT ?"
SELECT_TX = f"{_TX} WHERE t.id = ?"
SELECT_ACCOUNT_HISTORY = (
    f"SELECT a.height, a.position, {TRANSACTION_COLUMNS} FROM account_tx a"
    " LEFT JOIN tx t ON t.height = a.height AND t.position = a.position"
    " LEFT JOIN blocks b ON b.height = t.height AND b.id = t.block_id"
    " WHERE a.address = ? AND (a.height, a.position) < (?, ?)"
    " ORDER BY a.height DESC, a.position DESC LIMIT ?"
)
_RECEIPTS = (
    f"SELECT {RECEIPT_COLUMNS} FROM receipts r"
    " LEFT JOIN tx t ON t.height = r.height AND t.position = r.position"
)
_NEWEST_FIRST = "ORDER BY r.height DESC, r.position DESC, r.place DESC LIMIT ?"
SELECT_RECEIPTS = {
    by: f"{_RECEIPTS} WHERE r.{column} = ? AND (r.height, r.position, r.place) < (?, ?, ?) {_NEWEST_FIRST}"
    for by, column in RECEIPT_COLUMN.items()
}
SELECT_RECEIPT = f"{_RECEIPTS} WHERE r.receipt_id = ? {_NEWEST_FIRST}"


class Session(Protocol):
    """One connection inside one transaction, or, for a single read, outside any."""

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]: ...

    def each(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """The same, one at a time; nothing else may be asked before the last."""
        ...

    def run(self, statement: str, values: Sequence[Any] = ()) -> None: ...

    def run_many(self, statement: str, rows: Sequence[Row]) -> None: ...

    def insert(self, insert: Insert, rows: Sequence[Row]) -> None:
        """Write many rows; the hot path."""
        ...


class Database(Protocol):
    """What the store asks of a database. Every error comes out as StorageError that says what to do."""

    name: str
    """For messages: a path, or a host and a database; never a password."""
    kind: str
    """`sqlite` or `postgresql`."""
    migrations: Mapping[int, Callable[[Session, bytes], None]]
    """Schema version → what brings it to the next one, given the genesis hash."""

    def tables(self, session: Session) -> set[str]: ...

    def indexes(self, session: Session) -> set[str]: ...

    def reading(self, *, snapshot: bool = False) -> contextlib.AbstractContextManager[Session]:
        """A session to read in; with `snapshot`, all its reads see the same commit."""
        ...

    def writing(self) -> contextlib.AbstractContextManager[Session]:
        """One transaction: on disk when the block is left, undone when it raises."""
        ...

    def close(self) -> None: ...


class SqlStore:
    """A chain in a database. Raises StorageError when the database cannot be used, with what to do."""

    def __init__(self, database: Database, genesis_hash: bytes) -> None:
        self._database = database
        self._genesis_hash = genesis_hash
        try:
            self._prepare()
        except BaseException:
            database.close()
            raise

    # Opening

    def _prepare(self) -> None:
        """Look first, so that what is not ours is left as it is; then make or migrate it in one transaction.

        The version is written each time: a database that cannot be written is better refused now than at a block.
        """
        with self._reading() as session:
            self._version(session)
        with self._database.writing() as session, self._checked():
            version = self._version(session)
            if version is None:
                self._create(session)
            for old in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
                self._database.migrations[old](session, self._genesis_hash)
            self._mend_indexes(session)
            session.insert(META, [("schema_version", str(SCHEMA_VERSION).encode())])

    def _version(self, session: Session) -> int | None:
        """The schema's version, None for an empty database; raises StorageError for what is not to be touched."""
        name = self._database.name
        tables = self._database.tables(session)
        if not tables:
            return None
        if "meta" not in tables:
            raise StorageError(f"{name} is a database of something else; choose another")
        meta = {key: _plain_bytes(value) for key, value in session.rows('SELECT "key", value FROM meta')}
        stored = meta.get("genesis_hash", b"")
        if stored != self._genesis_hash:
            raise StorageError(
                f"{name} belongs to the chain with genesis {stored.hex()[:16]}…, not"
                f" {self._genesis_hash.hex()[:16]}…; choose another data folder or database"
            )
        text = meta.get("schema_version", b"none").decode(errors="replace")
        version = int(text) if text.isascii() and text.isdigit() else 0
        if version > SCHEMA_VERSION:
            raise StorageError(
                f"{name} has schema version {version}, this release knows {SCHEMA_VERSION}; use the release that"
                " wrote it or a newer one"
            )
        if version < SCHEMA_VERSION and version not in self._database.migrations:
            raise damaged(name, f"schema version {text}")
        return version

    def _create(self, session: Session) -> None:
        for statement in schema_statements(self._database.kind):
            session.run(statement)
        session.insert(META, [("genesis_hash", self._genesis_hash), NO_HEAD])

    def _mend_indexes(self, session: Session) -> None:
        """Without its index a page of a history reads the whole table; nothing else would show that it is gone."""
        there = self._database.indexes(session)
        for statement in schema_statements(self._database.kind):
            name = statement.removeprefix("CREATE INDEX ").split()[0]
            if statement.startswith("CREATE INDEX ") and name not in there:
                log.warning(
                    "%s had lost its index %s; it is made again",
                    self._database.name,
                    name,
                    extra={"component": "storage", "event": "index_made_again"},
                )
                session.run(statement)

    def load(self, height: int | None = None) -> StoredChain | None:
        with self._reading(snapshot=True) as session:
            top, top_hash = self._head(session)
            if top < 0:
                return None
            height = top if height is None else height
            before = self._before_all(session, height, top)
            head = self._block(session, "height", height)
            if head is None or (height == top and head.hash != top_hash):
                raise damaged(self._database.name, f"the head, block {height}, is missing")
            places = peak_places(height)
            nodes = self._nodes(session, places)
            return StoredChain(
                genesis_hash=self._genesis_hash,
                head=head,
                history_peaks=[(level, node) for (level, _), node in zip(places, nodes, strict=True)],
                records={
                    store: _taken_back(self._records(session, store), before[store]) for store in STORES
                },
                before_head=self._before(session, head.block.header.height),
            )

    def _before_all(self, session: Session, height: int, top: int) -> dict[str, Before]:
        """By store, what the blocks above a height changed, as it was before them."""
        before: dict[str, Before] = {store: {} for store in STORES}
        if height != top:
            self._check_range(height, top)
            for changes in self._undo(session, height, top):
                for store, key, index, data in changes:
                    before[store][key] = (index, data)
        return before

    def _before(self, session: Session, height: int) -> list[tuple[str, str, bytes | None]]:
        """What the head's block changed, as it was; nothing where there is no undo."""
        found = session.rows("SELECT height, raw, checksum FROM undo WHERE height = ?", (height,))
        if not found and not self._has_no_undo(session, height):
            raise damaged(self._database.name, f"the undo of block {height} is missing")
        undone = [restore_undo(*row) for row in _typed(found, list[tuple[int, bytes, bytes]])]
        return [(store, key, before) for undo in undone for store, key, _, before in undo]

    def _head(self, session: Session) -> tuple[int, bytes]:
        found = session.rows(SELECT_HEAD)
        if not found:
            raise damaged(self._database.name, "its head is missing")
        return restore_head(_plain_bytes(found[0][0]))

    def _records(self, session: Session, store: str) -> StoredRows:
        """Not checked here: the state root covers every byte."""
        if store == "accounts":
            accounts = _each_typed(session.each(RECORDS_OF["accounts"]), tuple[int, str, int, int, bytes])
            return StoredRows((row[0], row[1], account_bytes(*row[2:])) for row in accounts)
        if store == "params":
            params = _each_typed(session.each(RECORDS_OF["params"]), tuple[int, str, str])
            return StoredRows((idx, key, param_bytes(value)) for idx, key, value in params)
        records = _each_typed(session.each(RECORDS_OF["records"], (store,)), tuple[int, str, str])
        return StoredRows((idx, key, raw.encode()) for idx, key, raw in records)

    # Writing

    def commit(self, *commits: Commit) -> None:
        prepared = [_CommitRows.of(commit) for commit in commits]
        with self._database.writing() as session, self._checked():
            if not self._is_head(session, commits[-1]):
                self._append(session, commits, prepared)

    def _is_head(self, session: Session, commit: Commit) -> bool:
        return self._head(session) == (commit.block.block.header.height, commit.block.hash)

    def switch(self, height: int, *commits: Commit) -> None:
        prepared = [_CommitRows.of(commit) for commit in commits]
        with self._database.writing() as session, self._checked():
            if not self._is_head(session, commits[-1]):
                self._rewind(session, height)
                self._append(session, commits, prepared)

    def _append(self, session: Session, commits: Sequence[Commit], prepared: Sequence["_CommitRows"]) -> None:
        height, head = self._head(session)
        for commit, rows in zip(commits, prepared, strict=True):
            header = commit.block.block.header
            if (header.height, header.parent) != (height + 1, head):
                raise StorageError(
                    f"block {header.height} does not follow block {height} in {self._database.name}; start again"
                    " to go on from what is stored"
                )
            height, head = header.height, commit.block.hash
            self._write(session, height, rows)
        session.insert(META, [head_row(height, head)])
        session.run("DELETE FROM undo WHERE height < ?", (height - UNDO_DEPTH,))

    def _write(self, session: Session, height: int, rows: "_CommitRows") -> None:
        session.insert(BLOCKS, rows.block)
        session.insert(TX, rows.txs)
        session.insert(ACCOUNT_TX, rows.accounts)
        session.insert(RECEIPTS, rows.receipts)
        session.insert(HISTORY_NODES, rows.nodes)
        session.insert(UNDO, rows.undo if height else [])
        session.insert(VALIDATOR_SETS, rows.validators)
        self._write_state(session, rows.state)

    @staticmethod
    def _write_state(session: Session, state: StateRows) -> None:
        for table, keys in state.gone.items():
            if keys:
                session.run_many(DELETE_STATE[table], keys)
        for table, rows in state.written.items():
            session.insert(STATE[table], rows)

    def rewind(self, height: int) -> None:
        with self._database.writing() as session, self._checked():
            self._rewind(session, height)

    def _rewind(self, session: Session, height: int) -> None:
        head, _ = self._head(session)
        self._check_range(height, head)
        undo = self._undo(session, height, head)
        before: dict[tuple[str, str], tuple[int, bytes | None]] = {}
        for changes in undo:
            for store, key, index, data in changes:
                before[store, key] = (index, data)
        self._forget_blocks(session, height, head)
        self._write_state(session, state_rows((*name, *value) for name, value in before.items()))

    @staticmethod
    def _check_range(height: int, head: int) -> None:
        if not 0 <= height <= head:
            raise StorageError(f"cannot go back to block {height}: the head is block {head}")

    def _undo(self, session: Session, height: int, head: int) -> Iterator[Undo]:
        """How to take back the blocks above a height, the newest first. The block at that height keeps its own too,
        which whoever loads it as the head needs."""
        statement = "SELECT height, raw, checksum FROM undo WHERE height >= ? ORDER BY height DESC"
        rows = _typed(session.rows(statement, (height,)), list[tuple[int, bytes, bytes]])
        last = height + 1 if self._has_no_undo(session, height) else height
        if [row[0] for row in rows] != list(range(head, last - 1, -1)):
            raise StorageError(
                f"cannot go back to block {height} from block {head}: at most {UNDO_DEPTH} can be taken back,"
                " and none that an older release wrote; restore a copy from before block {height + 1}"
            )
        return (restore_undo(*row) for row in rows if row[0] > height)

    @staticmethod
    def _has_no_undo(session: Session, height: int) -> bool:
        """Genesis, and the head that an older release wrote."""
        return height == 0 or bool(session.rows(SELECT_MIGRATED, (u64(height),)))

    def _forget_blocks(self, session: Session, height: int, head: int) -> None:
        """Remove the blocks above a height and all history about them."""
        if height == head:
            return
        found = _typed(
            session.rows("SELECT height, id FROM blocks WHERE height = ?", (height,)), list[tuple[int, bytes]]
        )
        if not found:
            raise damaged(self._database.name, f"block {height} is missing")
        session.insert(META, [head_row(*found[0])])
        addresses: set[str] = set()
        for above in range(height + 1, head + 1):
            for tx in self._transactions_of(session, above):
                stored = restore_transaction(tx, self._genesis_hash)
                addresses |= touched(stored.tx, stored.outcome)
        session.run_many(
            "DELETE FROM account_tx WHERE address = ? AND height > ?",
            [(address, height) for address in sorted(addresses)],
        )
        levels = range(head.bit_length() + 1)
        session.run_many(
            "DELETE FROM history_nodes WHERE level = ? AND position >= ?", [(n, height >> n) for n in levels]
        )
        for table in ("receipts", "tx", "undo", "blocks"):
            session.run(f"DELETE FROM {table} WHERE height > ?", (height,))

    def keep_final(self, link: bytes) -> None:
        with self._database.writing() as session:
            session.insert(META, [final_row(link)])

    def load_final(self) -> bytes:
        with self._reading() as session:
            found = session.rows("SELECT value FROM meta WHERE \"key\" = 'final'")
            return restore_final(_plain_bytes(found[0][0])) if found else b""

    def save_waiting(self, transactions: Sequence[bytes]) -> None:
        rows = waiting_rows(transactions)
        with self._database.writing() as session:
            session.run("DELETE FROM waiting")
            session.insert(WAITING, rows)

    def load_waiting(self) -> list[bytes]:
        with self._reading() as session:
            rows = _typed(
                session.rows("SELECT position, raw, checksum FROM waiting ORDER BY position"),
                list[tuple[int, bytes, bytes]],
            )
            return [check_waiting_row(*row) for row in rows]

    # Reading

    def block_by_height(self, height: int) -> CommittedBlock | None:
        if not 0 <= height <= MAX_TOTAL:
            return None
        with self._reading(snapshot=True) as session:
            return self._block(session, "height", height)

    def block_by_hash(self, block_hash: bytes) -> CommittedBlock | None:
        with self._reading(snapshot=True) as session:
            return self._block(session, "id", block_hash)

    def _block(self, session: Session, column: str, value: object) -> CommittedBlock | None:
        row = self._block_row(session, column, value)
        if row is None:
            return None
        return restore_block(row, self._transactions_of(session, row.height), self._genesis_hash)

    def _block_row(self, session: Session, column: str, value: Any) -> BlockRow | None:
        found = session.rows(SELECT_BLOCK[column], (value,))
        if not found and column == "height" and value <= self._head(session)[0]:
            raise damaged(self._database.name, f"block {value} is missing")
        return _typed(found[0], BlockRow) if found else None

    @staticmethod
    def _transactions_of(session: Session, height: int) -> list[TransactionRow]:
        return _typed(session.rows(SELECT_TXS_OF_BLOCK, (height,)), list[TransactionRow])

    def head_at(self, height: int) -> StoredHead | None:
        if not 0 <= height <= MAX_TOTAL:
            return None
        with self._reading(snapshot=True) as session:
            row = self._block_row(session, "height", height)
            return restore_block_head(row) if row else None

    def head_of(self, block_hash: bytes) -> StoredHead | None:
        with self._reading() as session:
            row = self._block_row(session, "id", block_hash)
            return restore_block_head(row) if row else None

    def validators(self, validators_hash: bytes) -> list[Validator] | None:
        with self._reading() as session:
            found = session.rows("SELECT raw FROM validator_sets WHERE hash = ?", (validators_hash,))
            rows = _typed(found, list[tuple[bytes]])
            return restore_validator_set(validators_hash, rows[0][0]) if rows else None

    def transactions_of(self, height: int, *, start: int, limit: int) -> list[StoredTransaction]:
        assert limit > 0, "a page has at least one item"
        if not (0 <= height <= MAX_TOTAL and 0 <= start <= MAX_TOTAL):
            return []
        with self._reading(snapshot=True) as session:
            row = self._block_row(session, "height", height)
            if row is None:
                return []
            restore_block_head(row)
            found = _typed(session.rows(SELECT_TXS_PAGE, (height, start, limit)), list[TransactionRow])
            return restore_page(
                row, found, self._genesis_hash, range(start, min(start + limit, row.tx_count))
            )

    def find_transaction(self, tx_id: bytes) -> tuple[int, int] | None:
        found = self.transaction(tx_id)
        return (found.height, found.position) if found else None

    def transaction(self, tx_id: bytes) -> StoredTransaction | None:
        with self._reading() as session:
            found = session.rows(SELECT_TX, (tx_id,))
            return (
                restore_transaction(_typed(found[0], TransactionRow), self._genesis_hash) if found else None
            )

    def account_history(
        self, address: str, *, before: tuple[int, int] | None, limit: int
    ) -> list[StoredTransaction]:
        assert limit > 0, "a page has at least one item"
        if not _can_be_stored(address):
            return []
        with self._reading() as session:
            before = before or NEWEST[:2]
            found = session.rows(SELECT_ACCOUNT_HISTORY, (address, *before, limit))
            _check_order([before, *[row[:2] for row in found]])
            return [self._of_account(address, (height, position), row) for height, position, *row in found]

    def _of_account(self, address: str, place: tuple[int, int], row: list[Any]) -> StoredTransaction:
        if row[0] is None:
            raise damaged("the history of accounts on disk", f"transaction {place} is missing")
        stored = restore_transaction(_typed(row, TransactionRow), self._genesis_hash)
        if address not in touched(stored.tx, stored.outcome):
            raise damaged(
                "the history of accounts on disk", f"transaction {place} has nothing to do with {address}"
            )
        return stored

    def receipts(
        self, by: ReceiptIndex, value: str, *, before: tuple[int, int, int] | None, limit: int
    ) -> list[StoredReceipt]:
        assert limit > 0, "a page has at least one item"
        value = escaped(value) if by == "job" else value
        before = before or NEWEST
        found = self._receipts(SELECT_RECEIPTS[by], (value, *before, limit))
        _check_order([before, *[(item.height, item.receipt.tx_position, item.place) for item in found]])
        return found

    def receipt(self, receipt_id: str) -> StoredReceipt | None:
        found = self._receipts(SELECT_RECEIPT, (receipt_id, 1))
        return found[0] if found else None

    def _receipts(self, statement: str, values: tuple[Any, ...]) -> list[StoredReceipt]:
        if not _can_be_stored(values[0]):
            return []
        with self._reading() as session:
            rows = _typed(session.rows(statement, values), list[ReceiptRow])
            return [restore_receipt(row) for row in rows]

    def history_nodes(self, places: Sequence[tuple[int, int]]) -> list[bytes]:
        with self._reading() as session:
            return self._nodes(session, places)

    @staticmethod
    def _nodes(session: Session, places: Sequence[tuple[int, int]]) -> list[bytes]:
        if not places:
            return []
        marks = ", ".join(["(?, ?)"] * len(places))
        found = session.rows(
            f"SELECT level, position, hash, checksum FROM history_nodes WHERE (level, position) IN (VALUES {marks})",
            [number for place in places for number in place],
        )
        nodes: dict[tuple[int, int], bytes] = {}
        for level, position, node, covered in _typed(found, list[tuple[int, int, bytes, bytes]]):
            check_history_row(level, position, node, covered)
            nodes[level, position] = node
        if not nodes.keys() >= set(places):
            raise damaged("the header history on disk", f"of the nodes {list(places)} some are missing")
        return [nodes[place] for place in places]

    def block_hashes(self, start: int, stop: int) -> list[bytes]:
        start = max(start, 0)
        with self._reading(snapshot=True) as session:
            stop = min(stop, self._head(session)[0] + 1)
            if start >= stop:
                return []
            found = session.rows(
                "SELECT height, id, hash, parent_id FROM blocks WHERE height >= ? AND height < ? ORDER BY height",
                (start, stop),
            )
            rows = _typed(found, list[tuple[int, bytes, bytes, bytes]])
            hashes = [row[1] for row in rows]
            linked = [row[3] for row in rows[1:]] == hashes[:-1]
            if (
                [row[0] for row in rows] != list(range(start, stop))
                or not linked
                or hashes != [r[2] for r in rows]
            ):
                raise damaged(self._database.name, f"the blocks {start} to {stop - 1} are not a chain")
            return hashes

    def close(self) -> None:
        self._database.close()

    @contextlib.contextmanager
    def _reading(self, *, snapshot: bool = False) -> Iterator[Session]:
        with self._database.reading(snapshot=snapshot) as session, self._checked():
            yield session

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        """What cannot be decoded is damaged."""
        try:
            yield
        except (msgspec.MsgspecError, UnicodeError, OverflowError, Rejected) as error:
            raise damaged(self._database.name, error) from None


def schema_statements(kind: str) -> list[str]:
    schema = resources.files(__package__).joinpath(f"schema_{kind}.sql").read_text()
    return [statement.strip() for statement in schema.split(";") if statement.strip()]


@cache
def insert_statement(insert: Insert, count: int = 1) -> str:
    """The statement for so many rows."""
    columns = insert.columns.split(", ")
    marks = f"({', '.join('?' for _ in columns)})"
    statement = f"INSERT INTO {insert.table}({insert.columns}) VALUES {', '.join([marks] * count)}"
    if not insert.key:
        return statement
    return f"{statement} {on_conflict(insert)}"


def on_conflict(insert: Insert) -> str:
    key = insert.key.split(", ")
    sets = [f"{column} = excluded.{column}" for column in insert.columns.split(", ") if column not in key]
    return f"ON CONFLICT({insert.key}) DO UPDATE SET {', '.join(sets)}"


def _typed(value: Any, kind: type[T]) -> T:
    """SQLite keeps any type in any column, so what comes is not believed; raises ValidationError."""
    return msgspec.convert(value, kind)


def _each_typed(rows: Iterator[Row], kind: type[T]) -> Iterator[T]:
    while chunk := list(islice(rows, CHUNK)):
        yield from _typed(chunk, list[kind])  # type: ignore[valid-type]


def _check_order(places: Sequence[tuple[int, ...]]) -> None:
    """The newest first, none twice: an index that was damaged may say otherwise."""
    if any(later >= earlier for earlier, later in pairwise(places)):
        raise damaged("an index on disk", "its items are out of order")


def _taken_back(rows: StoredRows, before: Before) -> StoredRows:
    """A store's rows with some of them as they were."""
    if not before:
        return rows
    kept = [row for row in rows if row[1] not in before]
    kept += [(index, key, data) for key, (index, data) in before.items() if data is not None]
    return StoredRows(sorted(kept))


def _plain_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _can_be_stored(text: str) -> bool:
    """Whether a column can hold a text that a stranger asks for; what it cannot hold is not there."""
    try:
        return b"\0" not in text.encode()
    except UnicodeError:
        return False


__all__ = ["MEND", "SCHEMA_VERSION", "Database", "Insert", "Session", "SqlStore"]
