"""The SQLModel declaration is the truth; the shipped schemas and the statements follow it."""

from importlib import resources

import pytest

from aitbc.adapters.storage import rows, sql, tables
from support.made_up import MadeUpChain

INSERTS = (
    sql.META,
    sql.BLOCKS,
    sql.TX,
    sql.ACCOUNT_TX,
    sql.RECEIPTS,
    sql.HISTORY_NODES,
    sql.UNDO,
    sql.WAITING,
)
INSERTS += tuple(sql.STATE.values())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_shipped_schema_is_what_the_sqlmodel_tables_declare(kind: str) -> None:
    shipped = resources.files("aitbc.adapters.storage").joinpath(f"schema_{kind}.sql").read_text()
    assert shipped == tables.schema(kind)


def test_the_version_is_said_once() -> None:
    assert sql.SCHEMA_VERSION == tables.SCHEMA_VERSION


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
        assert set(columns.split()) <= set(columns_of(name))


def columns_of(table: str) -> list[str]:
    return list(tables.SQLModel.metadata.tables[table].columns.keys())


@pytest.mark.parametrize(
    "insert",
    INSERTS,
    ids=lambda insert: insert.table,
)
def test_every_column_is_written(insert: sql.Insert) -> None:
    assert insert.columns.replace('"', "").split(", ") == columns_of(insert.table)
    key = [column.name for column in tables.SQLModel.metadata.tables[insert.table].primary_key]
    assert insert.key.replace('"', "").split(", ") in ([""], key)


def test_rows_have_as_many_values_as_columns() -> None:
    chain = MadeUpChain(seed=1)
    chain.grow(3)
    commit = chain.extend(transactions=9)
    made = {
        sql.META: [rows.NO_HEAD, rows.head_row(1, bytes(32))],
        sql.BLOCKS: [rows.block_row(commit.block)],
        sql.TX: rows.transaction_rows(commit.block),
        sql.ACCOUNT_TX: rows.account_rows(commit.block),
        sql.RECEIPTS: [
            rows.receipt_row(item) for item in rows.stored_receipts(commit.block, commit.receipts)
        ],
        sql.HISTORY_NODES: [rows.history_row(node) for node in commit.history],
        sql.UNDO: [rows.undo_row(1, commit.changes)],
        sql.WAITING: rows.waiting_rows([b"one", b"two"]),
        **{
            sql.STATE[name]: found
            for name, found in rows.state_rows(rows.changed(commit.changes)).written.items()
        },
    }
    for insert, found in made.items():
        assert found, insert.table
        assert {len(row) for row in found} == {len(columns_of(insert.table))}


@pytest.mark.parametrize(
    "label", ["", "plain", "\\", "\0", "\\0", "\\\0", "\0\\", "\\\\0", "a\\\\\0\\b", "☂\\"]
)
def test_any_label_is_escaped_and_comes_back(label: str) -> None:
    assert "\0" not in rows.escaped(label)
    assert rows.unescaped(rows.escaped(label)) == label


def test_no_two_labels_are_escaped_alike() -> None:
    import itertools

    labels = ["".join(letters) for n in range(6) for letters in itertools.product("\\0\0", repeat=n)]
    assert len({rows.escaped(label) for label in labels}) == len(labels)
    assert [rows.unescaped(rows.escaped(label)) for label in labels] == labels
