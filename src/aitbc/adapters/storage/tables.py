"""The tables of seed 000 §4.1, declared with SQLModel, plus what the seed's tables cannot hold.

This declaration is the truth; `schema.sql` beside it is what SQLAlchemy prints for SQLite, kept equal by a test, so
that a starting node does not import SQLAlchemy (0.4 CPU-s).
"""

from sqlalchemy import BigInteger, Column, LargeBinary, Text
from sqlmodel import Field, SQLModel

SCHEMA_VERSION = 1


class MetaRow(SQLModel, table=True):
    """Schema version, genesis hash and the history peaks."""

    __tablename__ = "meta"
    key: str = Field(primary_key=True)
    value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class BlockRow(SQLModel, table=True):
    __tablename__ = "blocks"
    height: int = Field(primary_key=True)
    id: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    """Equal to `hash`; the seed has both."""
    parent_id: str
    timestamp: int = Field(sa_column=Column(BigInteger, nullable=False))
    """Seconds; the header in `raw` has milliseconds."""
    proposer: str
    tx_count: int
    hash: str
    state_root: str
    sig: str
    raw: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """The committed block without its transactions, canonical msgpack."""


class TransactionRow(SQLModel, table=True):
    __tablename__ = "tx"
    id: str = Field(primary_key=True)
    block_id: str
    height: int = Field(index=True)
    position: int
    type: str
    payload_json: str
    sender: str = Field(index=True)
    nonce: int = Field(sa_column=Column(BigInteger, nullable=False))
    fee: int = Field(sa_column=Column(BigInteger, nullable=False))
    sig: str
    hash: str
    """Hash of the whole envelope (`wid`)."""
    status: str
    raw: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class AccountRow(SQLModel, table=True):
    __tablename__ = "accounts"
    address: str = Field(primary_key=True)
    idx: int = Field(sa_column=Column(BigInteger, nullable=False))
    """Place in the store's tree, in every state table."""
    balance: int = Field(sa_column=Column(BigInteger, nullable=False))
    nonce: int = Field(sa_column=Column(BigInteger, nullable=False))
    pubkey: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class ReceiptRow(SQLModel, table=True):
    __tablename__ = "receipts"
    receipt_id: str = Field(primary_key=True)
    idx: int = Field(sa_column=Column(BigInteger, nullable=False))
    job_id: str = Field(index=True)
    client_addr: str = Field(index=True)
    miner_addr: str = Field(index=True)
    compute_units: int = Field(sa_column=Column(BigInteger, nullable=False))
    price: int = Field(sa_column=Column(BigInteger, nullable=False))
    output_hash: str
    miner_sig: str
    status: str
    raw: str


class RecordRow(SQLModel, table=True):
    """Locks, validators and the registry: one row per record of the state."""

    __tablename__ = "records"
    store: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    idx: int = Field(sa_column=Column(BigInteger, nullable=False))
    raw: str


class ParamRow(SQLModel, table=True):
    __tablename__ = "params"
    key: str = Field(primary_key=True)
    idx: int = Field(sa_column=Column(BigInteger, nullable=False))
    value: str


class PeerRow(SQLModel, table=True):
    __tablename__ = "peers"
    node_id: str = Field(primary_key=True)
    addr: str
    last_seen: int = Field(sa_column=Column(BigInteger, nullable=False))
    score: int


def sqlite_schema() -> str:
    """The CREATE statements SQLAlchemy gives for SQLite; `python -m aitbc.adapters.storage.tables` prints them."""
    from sqlalchemy.dialects import sqlite
    from sqlalchemy.schema import CreateIndex, CreateTable

    dialect = sqlite.dialect()
    statements = []
    for table in SQLModel.metadata.sorted_tables:
        if table.name not in TABLES:
            continue
        statements.append(str(CreateTable(table).compile(dialect=dialect)).strip())
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements.extend(str(CreateIndex(index).compile(dialect=dialect)).strip() for index in indexes)
    lines = [line.rstrip() for line in ";\n\n".join(statements).splitlines()]
    return "\n".join(lines) + ";\n"


TABLES = ("meta", "blocks", "tx", "accounts", "receipts", "records", "params", "peers")

if __name__ == "__main__":
    print(sqlite_schema(), end="")
