"""Rows that somebody or something has changed are never served: in every SQL store, in every table."""

from collections.abc import Callable

import pytest

from aitbc.core.ledger.state import State
from aitbc.ports import StorageError, Store
from support.made_up import ADDRESSES, GENESIS_HASH, LABELS, MadeUpChain
from support.store_model import check_everything, receipts, transactions

from .conftest import Stored

Ask = Callable[[Store, MadeUpChain], object]


def block_two(store: Store, _chain: MadeUpChain) -> object:
    return store.block_by_height(2)


def all_blocks(store: Store, chain: MadeUpChain) -> object:
    return [store.block_by_height(height) for height in range(chain.height + 1)]


def all_heads(store: Store, chain: MadeUpChain) -> object:
    return [store.head_at(height) for height in range(chain.height + 1)]


def all_pages(store: Store, chain: MadeUpChain) -> object:
    return [store.transactions_of(height, start=0, limit=3) for height in range(chain.height + 1)]


def all_hashes(store: Store, _chain: MadeUpChain) -> object:
    return store.block_hashes(0, 100)


def all_transactions(store: Store, chain: MadeUpChain) -> object:
    return [store.transaction(item.outcome.tx_id) for item in transactions(chain.commits)]


def all_places(store: Store, chain: MadeUpChain) -> object:
    return [store.find_transaction(item.outcome.tx_id) for item in transactions(chain.commits)]


def histories(store: Store, _chain: MadeUpChain) -> object:
    return [store.account_history(address, before=None, limit=1_000) for address in ADDRESSES]


def all_receipts(store: Store, chain: MadeUpChain) -> object:
    return [store.receipt(paid.receipt.receipt_id) for paid in receipts(chain.commits)]


def receipts_by_everything(store: Store, _chain: MadeUpChain) -> object:
    return [
        *[store.receipts("provider", address, before=None, limit=1_000) for address in ADDRESSES],
        *[store.receipts("client", address, before=None, limit=1_000) for address in ADDRESSES],
        *[store.receipts("job", label, before=None, limit=1_000) for label in LABELS],
    ]


def all_nodes(store: Store, chain: MadeUpChain) -> object:
    return store.history_nodes([(node.level, node.position) for c in chain.commits for node in c.history])


def rewind(store: Store, chain: MadeUpChain) -> object:
    return store.rewind(chain.height - 3)


def waiting(store: Store, _chain: MadeUpChain) -> object:
    return store.load_waiting()


def next_block(store: Store, chain: MadeUpChain) -> object:
    return store.commit(chain.extend())


def load(store: Store, _chain: MadeUpChain) -> object:
    return store.load()


DAMAGE: list[tuple[str, Ask]] = [
    ("UPDATE blocks SET raw = tx.raw FROM tx WHERE blocks.height = 2 AND tx.height = 12", block_two),
    ("UPDATE blocks SET raw = b.raw FROM blocks b WHERE blocks.height = 2 AND b.height = 1", block_two),
    (
        "UPDATE blocks SET raw = b.raw, checksum = b.checksum FROM blocks b WHERE blocks.height = 2 AND b.height = 1",
        block_two,
    ),
    ("UPDATE blocks SET checksum = parent_id WHERE height = 2", block_two),
    ("UPDATE blocks SET timestamp_ms = timestamp_ms + 1", all_blocks),
    ("UPDATE blocks SET timestamp_ms = timestamp_ms + 1", all_transactions),
    ("DELETE FROM blocks WHERE height = 2", block_two),
    ("DELETE FROM blocks WHERE height = 2", all_hashes),
    ("DELETE FROM blocks WHERE height = 2", all_heads),
    ("DELETE FROM blocks WHERE height = 2", all_pages),
    ("UPDATE blocks SET checksum = hash WHERE height = 2", all_heads),
    ("UPDATE blocks SET tx_count = tx_count - 1", all_pages),
    ("UPDATE blocks SET tx_count = tx_count + 1", all_pages),
    ("UPDATE blocks SET tx_count = tx_count + 1", all_blocks),
    ("DELETE FROM tx WHERE position = 1", all_pages),
    ("UPDATE tx SET position = position + 10", all_pages),
    ("UPDATE tx SET fee = fee + 1", all_pages),
    ("DELETE FROM blocks WHERE height = 12", all_hashes),
    ("DELETE FROM blocks WHERE height = 12", load),
    ("DELETE FROM blocks", load),
    ("DELETE FROM meta WHERE key = 'head'", load),
    ("DELETE FROM meta WHERE key = 'head'", next_block),
    ("UPDATE meta SET value = g.value FROM meta g WHERE meta.key = 'head' AND g.key = 'genesis_hash'", load),
    ("UPDATE blocks SET id = state_root WHERE height = 12", all_hashes),
    ("UPDATE blocks SET hash = parent_id WHERE height = 4", all_hashes),
    ("UPDATE blocks SET parent_id = id WHERE height = 4", all_hashes),
    ("UPDATE blocks SET id = state_root, hash = state_root WHERE height = 12", load),
    ("UPDATE blocks SET height = height + 100 WHERE height = 12", load),
    ("UPDATE blocks SET height = 100 WHERE height = 12", all_hashes),
    ("DELETE FROM tx WHERE height = (SELECT max(height) FROM tx)", all_blocks),
    ("DELETE FROM tx WHERE position = 0", all_blocks),
    ("UPDATE tx SET raw = checksum", all_blocks),
    ("UPDATE tx SET raw = checksum", all_places),
    ("UPDATE tx SET checksum = id", all_transactions),
    ("UPDATE tx SET position = position + 10", all_blocks),
    ("UPDATE tx SET position = position + 10", all_transactions),
    ("UPDATE tx SET position = position + 10", all_places),
    ("UPDATE tx SET position = position + 10", histories),
    ("UPDATE tx SET height = height + 50", all_transactions),
    ("UPDATE tx SET sender = 'ait1somebodyelse'", all_transactions),
    ("UPDATE tx SET nonce = nonce + 1", all_blocks),
    ("UPDATE tx SET nonce = -1", all_transactions),
    ("UPDATE tx SET fee = fee + 1", all_transactions),
    ("UPDATE tx SET type = 'FAUCET'", all_transactions),
    ("UPDATE tx SET payload_json = '[]'", all_transactions),
    ("UPDATE tx SET sig = hash", all_transactions),
    ("UPDATE tx SET hash = id", all_blocks),
    ("UPDATE tx SET block_id = id", all_transactions),
    ("UPDATE account_tx SET position = position + 20", histories),
    ("UPDATE account_tx SET height = height + 50", histories),
    ("UPDATE receipts SET price = price + 1", all_receipts),
    ("UPDATE receipts SET minted = minted + 1", receipts_by_everything),
    ("UPDATE receipts SET task = -1", all_receipts),
    ("UPDATE receipts SET job_id = 'job-1'", receipts_by_everything),
    ("UPDATE receipts SET timestamp_ms = timestamp_ms + 1", all_receipts),
    ("UPDATE receipts SET place = place + 1000", all_receipts),
    ("UPDATE receipts SET miner_sig = ''", receipts_by_everything),
    ("UPDATE receipts SET checksum = CAST('' AS {blob})", all_receipts),
    ("DELETE FROM tx", all_receipts),
    ("UPDATE history_nodes SET hash = checksum", all_nodes),
    ("UPDATE history_nodes SET hash = b.id FROM blocks b WHERE b.height = 3", load),
    ("DELETE FROM history_nodes WHERE level = 0", all_nodes),
    ("DELETE FROM history_nodes", load),
    ("DELETE FROM undo", load),
    ("UPDATE undo SET raw = checksum", load),
    ("UPDATE undo SET raw = checksum", rewind),
    ("UPDATE undo SET checksum = raw", rewind),
    ("UPDATE undo SET height = height - 1", rewind),
    ("DELETE FROM undo WHERE height = 11", rewind),
    ("DELETE FROM undo WHERE height = 9", rewind),
    ("UPDATE waiting SET raw = checksum", waiting),
    ("UPDATE waiting SET position = position + 5", waiting),
    ("UPDATE meta SET value = CAST('99' AS {blob}) WHERE key = 'schema_version'", load),
    ("UPDATE meta SET value = CAST('0' AS {blob}) WHERE key = 'schema_version'", load),
    ("UPDATE meta SET value = CAST('two' AS {blob}) WHERE key = 'schema_version'", load),
    ("DELETE FROM meta WHERE key = 'schema_version'", load),
    ("DELETE FROM meta", load),
    ("DROP TABLE params", load),
    ("DROP TABLE tx", all_blocks),
    ("DROP TABLE account_tx", histories),
]


BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)]
"""The checks are the same code, so that one is enough most of the time."""


@pytest.mark.parametrize("stored", BOTH, indirect=True)
@pytest.mark.parametrize(("damage", "ask"), DAMAGE, ids=lambda value: getattr(value, "__name__", value))
def test_damage_is_found_and_named(stored: Stored, damage: str, ask: Ask) -> None:
    blob = {"sqlite": "BLOB", "postgresql": "BYTEA"}[stored.kind]
    stored.run(damage.format(blob=blob))
    with pytest.raises(StorageError) as caught:
        ask(stored.open(), stored.chain)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE accounts SET balance = balance - 1 WHERE balance > 0",
        "UPDATE accounts SET nonce = nonce + 1",
        "UPDATE accounts SET idx = idx + 1",
        "DELETE FROM accounts WHERE idx = (SELECT max(idx) FROM accounts)",
        "UPDATE params SET value = '3' WHERE key = 'base_fee'",
        "UPDATE records SET raw = replace(raw, '1', '2')",
        "UPDATE records SET key = key || '!'",
        "DELETE FROM records WHERE store = 'locks'",
    ],
)
def test_a_state_that_is_not_the_heads_has_another_root(stored: Stored, damage: str) -> None:
    """Who loads compares: the executor does, and refuses to start."""
    stored.run(damage)
    found = stored.open().load()
    assert found is not None
    state = State()
    try:
        state.load(found.records)
    except Exception:  # what no tree can have is refused earlier
        return
    assert state.root() != found.head.block.header.state_root


def test_a_failed_rewind_changes_nothing(stored: Stored) -> None:
    stored.run("UPDATE undo SET raw = checksum WHERE height = 9")
    store = stored.open()
    with pytest.raises(StorageError):
        store.rewind(5)
    check_everything(store, stored.chain.commits)


@pytest.mark.parametrize("stored", BOTH, indirect=True)
def test_every_changed_byte_of_a_transaction_is_found(stored: Stored) -> None:
    """Read alone or with its block."""
    item = transactions(stored.chain.commits)[0]
    tx_id = item.outcome.tx_id
    columns = ["payload_json", "sender", "sig", "hash", "raw", "checksum", "type"]
    (values,) = stored.run(f"SELECT {', '.join(columns)} FROM tx WHERE id = ?", tx_id)
    store = stored.open()
    for column, value in zip(columns, values, strict=True):
        for place in range(0, len(value), 1 if column in ("raw", "checksum") else 7):
            if isinstance(value, str):
                changed: object = value[:place] + chr(ord(value[place]) ^ 1) + value[place + 1 :]
            else:
                changed = value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
            stored.run(f"UPDATE tx SET {column} = ? WHERE id = ?", changed, tx_id)
            for ask in (lambda: store.transaction(tx_id), lambda: store.block_by_height(item.height)):
                with pytest.raises(StorageError):
                    ask()
        stored.run(f"UPDATE tx SET {column} = ? WHERE id = ?", value, tx_id)
    check_everything(store, stored.chain.commits)


def test_order_does_not_depend_on_how_the_rows_lie(stored: Stored) -> None:
    """What a dump that was read in again may do: the same rows, the last one first."""
    keys = {
        "accounts": "address",
        "params": "key",
        "records": "store, key",
        "tx": "height, position",
        "account_tx": "address, height, position",
        "receipts": "height, position, place",
        "history_nodes": "level, position",
        "undo": "height",
        "waiting": "position",
    }
    for table, key in keys.items():
        newest_first = ", ".join(f"{column} DESC" for column in key.split(", "))
        stored.run(f"CREATE TABLE turned AS SELECT * FROM {table} ORDER BY {newest_first}")
        stored.run(f"DELETE FROM {table}")
        stored.run(f"INSERT INTO {table} SELECT * FROM turned")
        stored.run("DROP TABLE turned")
    store = stored.open()
    check_everything(store, stored.chain.commits)
    assert store.load_waiting() == [b"one", b"two"]


def test_a_database_of_another_chain_is_refused_and_left_alone(stored: Stored) -> None:
    with pytest.raises(StorageError, match="belongs to the chain"):
        stored.open(bytes(32))
    check_everything(stored.open(GENESIS_HASH), stored.chain.commits)


def test_a_newer_schema_is_refused_and_left_alone(stored: Stored) -> None:
    stored.run("UPDATE meta SET value = ? WHERE key = 'schema_version'", b"3")
    with pytest.raises(
        StorageError, match="schema version 3, this release knows 2; use the release that wrote it"
    ):
        stored.open()
    assert stored.run("SELECT value FROM meta WHERE key = 'schema_version'") == [(b"3",)]


def test_a_closed_store_says_so(stored: Stored) -> None:
    store = stored.open()
    store.close()
    store.close()
    for ask in (store.load, lambda: store.commit(stored.chain.extend()), lambda: store.block_by_height(1)):
        with pytest.raises(StorageError, match="is closed"):
            ask()


def test_what_a_node_says_of_a_damaged_chain_loses_nothing(stored: Stored) -> None:
    """With one authority the damaged database may be the only one: it is never to be removed, and nothing can be
    fetched from others."""
    stored.run("DELETE FROM tx")
    with pytest.raises(StorageError) as caught:
        stored.open().block_by_height(2)
    said = str(caught.value)
    assert "keep it as it is and restore a copy" in said
    assert "remove" not in said and "sync" not in said


INDEXES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE INDEX%' ORDER BY name",
    "postgresql": "SELECT indexname::text FROM pg_indexes WHERE schemaname = current_schema()"
    " AND indexname LIKE 'ix_%%' ORDER BY indexname",
}


def test_an_index_that_is_gone_is_made_again(stored: Stored, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing else would show it: every answer stays right and takes a thousand times as long."""
    whole = stored.run(INDEXES[stored.kind])
    assert ("ix_receipts_job",) in whole
    stored.open()
    assert caplog.text == ""
    stored.run("DROP INDEX ix_receipts_job")
    store = stored.open()
    assert stored.run(INDEXES[stored.kind]) == whole
    assert "had lost its index ix_receipts_job" in caplog.text
    check_everything(store, stored.chain.commits)
