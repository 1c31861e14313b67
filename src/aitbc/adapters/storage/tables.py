"""The tables of seed 000 §4.1, declared with SQLModel, plus what the seed's tables cannot hold.

This declaration is the truth; `schema_sqlite.sql` and `schema_postgresql.sql` beside it are what SQLAlchemy prints for
each database, kept equal by a test, so that a starting node does not import SQLAlchemy (0.4 CPU-s).

Hashes, keys and signatures are bytes. Texts compare byte by byte on PostgreSQL too (`COLLATE "C"`): an index then
survives an upgrade of the system's locales. `checksum` is what rows.py says about each table.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Text
from sqlmodel import Field, SQLModel

SCHEMA_VERSION = 2


def text(**options: Any) -> Any:
    kind = Text().with_variant(Text(collation="C"), "postgresql")
    return Field(sa_column=Column(kind, nullable=False, **options))


def blob(**options: Any) -> Any:
    return Field(sa_column=Column(LargeBinary, nullable=False, **options))


def number(**options: Any) -> Any:
    """64 bits. SQLite: INTEGER, so that a primary key of one number is the row's own."""
    kind = BigInteger().with_variant(Integer(), "sqlite")
    return Field(sa_column=Column(kind, nullable=False, autoincrement=False, **options))


class MetaRow(SQLModel, table=True):
    """`schema_version`, `genesis_hash`, `head` (height u64 ‖ hash ‖ checksum), `final` (checksum ‖ what
    agreement begins from, where finality is by depth), `migrated_at` (height u64 of the head
    that an older release wrote)."""

    __tablename__ = "meta"
    key: str = text(primary_key=True)
    value: bytes = blob()


class BlockRow(SQLModel, table=True):
    __tablename__ = "blocks"
    height: int = number(primary_key=True)
    id: bytes = blob(unique=True)
    """Equal to `hash`; the seed has both, and one that is damaged shows against the other."""
    parent_id: bytes = blob()
    timestamp: int = number()
    """Seconds, as in the seed."""
    timestamp_ms: int = number()
    proposer: str = text()
    tx_count: int = number()
    hash: bytes = blob()
    state_root: bytes = blob()
    sig: bytes = blob()
    """The certificate's first signature; empty for genesis."""
    raw: bytes = blob()
    """Header and certificate, canonical msgpack."""
    checksum: bytes = blob()


class TransactionRow(SQLModel, table=True):
    """The columns are the transaction: nothing of the envelope is stored twice."""

    __tablename__ = "tx"
    height: int = number(primary_key=True)
    position: int = number(primary_key=True)
    id: bytes = blob(unique=True)
    block_id: bytes = blob()
    type: str = text()
    payload_json: str = text()
    sender: str = text()
    nonce: int = number()
    fee: int = number()
    sig: bytes = blob()
    hash: bytes = blob()
    """Hash of the whole envelope (`wid`)."""
    status: str = text()
    """`ok`, or the reason why it failed."""
    raw: bytes = blob()
    """Public key, witness and outcome, canonical msgpack."""
    checksum: bytes = blob()


class AccountTransactionRow(SQLModel, table=True):
    """Which transactions an account sent or an event of which names it."""

    __tablename__ = "account_tx"
    __table_args__ = {"sqlite_with_rowid": False}
    address: str = text(primary_key=True)
    height: int = number(primary_key=True)
    position: int = number(primary_key=True)


class AccountRow(SQLModel, table=True):
    __tablename__ = "accounts"
    __table_args__ = {"sqlite_with_rowid": False}
    address: str = text(primary_key=True)
    idx: int = number()
    """Slot in the store's tree, in every table of the state."""
    balance: int = number()
    nonce: int = number()
    pubkey: bytes = blob()
    """Scheme byte and public key; empty until known."""


class ParamRow(SQLModel, table=True):
    __tablename__ = "params"
    key: str = text(primary_key=True)
    idx: int = number()
    value: str = text()


class RecordRow(SQLModel, table=True):
    """Every record of the state that is no account and no parameter."""

    __tablename__ = "records"
    store: str = text(primary_key=True)
    key: str = text(primary_key=True)
    idx: int = number()
    raw: str = text()
    """Canonical JSON."""


class ReceiptRow(SQLModel, table=True):
    """Every receipt that was ever paid, whether or not the state still knows it."""

    __tablename__ = "receipts"
    height: int = number(primary_key=True)
    position: int = number(primary_key=True)
    """Of the transaction that paid it."""
    place: int = number(primary_key=True)
    """Among the receipts of its transaction."""
    receipt_id: str = text(index=True)
    job_id: str = text()
    """The label with `\\` and NUL escaped (rows.py): PostgreSQL has no text with NUL."""
    client_addr: str = text()
    miner_addr: str = text()
    compute_units: int = number()
    price: int = number()
    output_hash: str = text()
    miner_sig: str = text()
    status: str = text()
    """`claimed` by itself or `settled` out of a batch."""
    hub: str = text()
    minted: int = number()
    lock: str = text()
    task: int = number()
    attempt: int = number()
    timestamp_ms: int = number()
    checksum: bytes = blob()

    __table_args__ = (
        Index("ix_receipts_client", "client_addr", "height", "position", "place"),
        Index("ix_receipts_job", "job_id", "height", "position", "place"),
        Index("ix_receipts_miner", "miner_addr", "height", "position", "place"),
    )


class HistoryNodeRow(SQLModel, table=True):
    """The mountain range over header hashes (docs/spec/blocks.md)."""

    __tablename__ = "history_nodes"
    __table_args__ = {"sqlite_with_rowid": False}
    level: int = number(primary_key=True)
    position: int = number(primary_key=True)
    hash: bytes = blob()
    checksum: bytes = blob()


class UndoRow(SQLModel, table=True):
    """How to take one of the newest blocks back."""

    __tablename__ = "undo"
    height: int = number(primary_key=True)
    raw: bytes = blob()
    """(store, key, slot, record bytes before or nil) for each change, msgpack."""
    checksum: bytes = blob()


class ValidatorSetRow(SQLModel, table=True):
    """Every validator set that there was, by its `next_validators_hash`: what certificates are checked against."""

    __tablename__ = "validator_sets"
    hash: bytes = blob(primary_key=True)
    raw: bytes = blob()


class WaitingRow(SQLModel, table=True):
    """The mempool as it was when the node stopped (seed 000 §12)."""

    __tablename__ = "waiting"
    position: int = number(primary_key=True)
    raw: bytes = blob()
    checksum: bytes = blob()


class PeerRow(SQLModel, table=True):
    __tablename__ = "peers"
    node_id: str = text(primary_key=True)
    addr: str = text()
    last_seen: int = number()
    score: int = number()


TABLES = (
    "meta",
    "blocks",
    "tx",
    "account_tx",
    "accounts",
    "params",
    "records",
    "receipts",
    "history_nodes",
    "undo",
    "validator_sets",
    "waiting",
    "peers",
)


def schema(database: str) -> str:
    """The CREATE statements for `sqlite` or `postgresql`."""
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.schema import CreateIndex, CreateTable

    dialects: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
    dialect = dialects[database].dialect()
    statements = []
    for name in TABLES:
        table = SQLModel.metadata.tables[name]
        statements.append(str(CreateTable(table).compile(dialect=dialect)).strip())
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements.extend(str(CreateIndex(index).compile(dialect=dialect)).strip() for index in indexes)
    lines = [line.rstrip() for line in ";\n\n".join(statements).splitlines()]
    return "\n".join(lines).replace("\t", "    ") + ";\n"


def main() -> None:
    """Write both files again: `python -m aitbc.adapters.storage.tables`."""
    from pathlib import Path

    for database in ("sqlite", "postgresql"):
        Path(__file__).with_name(f"schema_{database}.sql").write_text(schema(database))


if __name__ == "__main__":
    main()
