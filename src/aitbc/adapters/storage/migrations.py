"""Bringing a SQLite chain of an older release up to date, inside the transaction that opens it: a crash or a full disk
in the middle leaves the old file as it was, and the next start begins again."""

from collections.abc import Callable, Mapping
from operator import itemgetter

import msgspec

from aitbc.adapters.storage.rows import (
    NO_HEAD,
    BlockHead,
    Row,
    account_rows,
    block_row,
    damaged,
    head_row,
    history_row,
    receipt_row,
    stored_receipts,
    transaction_rows,
    validator_set_row,
)
from aitbc.adapters.storage.sql import (
    ACCOUNT_TX,
    BLOCKS,
    HISTORY_NODES,
    META,
    RECEIPTS,
    TX,
    VALIDATOR_SETS,
    Session,
    schema_statements,
)
from aitbc.core.codec.digests import envelope_id, header_hash, outcome_leaf, transaction_id
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.codec.records import record_from_bytes
from aitbc.core.crypto.merkle import list_root
from aitbc.core.crypto.mountains import Peaks, append_leaf
from aitbc.core.types.blocks import Block, CommittedBlock, Validator
from aitbc.core.types.records import HistoryNode, PaidReceipt, ReceiptRecord, ValidatorRecord
from aitbc.core.types.transactions import Outcome, Transaction

# Version 1, release 0.1.0: hashes in hexadecimal, paid receipts as records of the state only, the peaks of the header
# history in `meta`, no history of accounts, no undo.

TABLES_OF_1 = ("meta", "blocks", "tx", "accounts", "receipts", "records", "params", "peers")


class TransactionOf1(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    tx: Transaction
    outcome: Outcome


_block_head = msgspec.msgpack.Decoder(BlockHead)
_transaction = msgspec.msgpack.Decoder(TransactionOf1)


def from_1(session: Session, genesis_hash: bytes) -> None:
    """Everything is made again from the blocks; only the state is copied, which the head's root covers. Blocks of that
    release cannot be taken back."""
    for table in TABLES_OF_1:
        session.run(f"ALTER TABLE {table} RENAME TO {table}_1")
    for statement in schema_statements("sqlite"):
        session.run(statement)
    for statement in _COPY:
        session.run(statement)
    peaks: Peaks = []
    head = NO_HEAD
    for (height,) in session.rows("SELECT height FROM blocks_1 ORDER BY height"):
        block = _block(session, height, genesis_hash)
        receipts = stored_receipts(block, _receipts(session, block))
        session.insert(BLOCKS, [block_row(block)])
        session.insert(TX, transaction_rows(block))
        session.insert(ACCOUNT_TX, account_rows(block))
        session.insert(RECEIPTS, [receipt_row(stored) for stored in receipts])
        if height:
            peaks, nodes = append_leaf(peaks, block.block.header.parent)
            session.insert(HISTORY_NODES, [history_row(HistoryNode(*node)) for node in nodes])
        head = head_row(height, block.hash)
    session.insert(VALIDATOR_SETS, [validator_set_row(_validators(session))])
    session.insert(META, [head, ("migrated_at", head[1][:8])])
    for table in TABLES_OF_1:
        session.run(f"DROP TABLE {table}_1")


_COPY = (
    """INSERT INTO meta SELECT "key", value FROM meta_1 WHERE "key" <> 'history_peaks'""",
    "INSERT INTO accounts SELECT address, idx, balance, nonce, pubkey FROM accounts_1",
    'INSERT INTO params SELECT "key", idx, value FROM params_1',
    'INSERT INTO records SELECT store, "key", idx, raw FROM records_1',
    "INSERT INTO records SELECT 'receipts', receipt_id, idx, raw FROM receipts_1",
    "INSERT INTO peers SELECT node_id, addr, last_seen, score FROM peers_1",
)


def _block(session: Session, height: int, genesis_hash: bytes) -> CommittedBlock:
    """A block as version 1 has it, checked against its hash and its roots."""
    name = f"block {height} on disk"
    (raw,) = _only(session.rows("SELECT raw FROM blocks_1 WHERE height = ?", (height,)))
    head = _block_head.decode(raw)
    block_hash = header_hash(head.header)
    rows = session.rows("SELECT raw FROM tx_1 WHERE height = ? ORDER BY position", (height,))
    stored = [_transaction.decode(row[0]) for row in rows]
    ids = [transaction_id(item.tx, genesis_hash) for item in stored]
    parent = session.rows("SELECT id FROM blocks_1 WHERE height = ?", (height - 1,))
    if head.header.height != height or [row[0] for row in parent] != (
        [head.header.parent.hex()] if height else []
    ):
        raise damaged(name, "it does not follow the block before")
    if session.rows("SELECT id FROM blocks_1 WHERE height = ?", (height,)) != [(block_hash.hex(),)]:
        raise damaged(name, "its hash differs")
    wids = [envelope_id(tx_id, item.tx) for tx_id, item in zip(ids, stored, strict=True)]
    if list_root(wids) != head.header.txs_root or [item.outcome.tx_id for item in stored] != ids:
        raise damaged(name, "its transactions differ")
    if list_root([outcome_leaf(item.outcome) for item in stored]) != head.header.outcomes_root:
        raise damaged(name, "its outcomes differ")
    block = Block(head.header, [item.tx for item in stored])
    return CommittedBlock(block, block_hash, [item.outcome for item in stored], head.certificate)


def _validators(session: Session) -> list[Validator]:
    """The one set that a chain of version 1 has."""
    members = []
    for address, raw in session.rows("SELECT \"key\", raw FROM records WHERE store = 'validators'"):
        record = record_from_bytes("validators", address, raw.encode())
        assert isinstance(record, ValidatorRecord)
        members.append((record.position, Validator(address, key_from_text(record.auth_key), record.power)))
    return [member for _, member in sorted(members, key=itemgetter(0))]


class ClaimOf1(msgspec.Struct, frozen=True):
    """What the history keeps of a RECEIPT_CLAIM's payload."""

    receipt_id: str
    miner_sig: str


def _receipts(session: Session, block: CommittedBlock) -> list[PaidReceipt]:
    """What a block paid: version 1 has single claims only, and all of them are still in the state."""
    receipts = []
    for position, (tx, outcome) in enumerate(zip(block.block.txs, block.outcomes, strict=True)):
        if tx.type != "RECEIPT_CLAIM" or not outcome.ok:
            continue
        claim = msgspec.json.decode(tx.payload, type=ClaimOf1)
        (raw,) = _only(session.rows("SELECT raw FROM receipts_1 WHERE receipt_id = ?", (claim.receipt_id,)))
        record = record_from_bytes("receipts", claim.receipt_id, raw.encode())
        if not isinstance(record, ReceiptRecord) or record.height != block.block.header.height:
            raise damaged(f"receipt {claim.receipt_id} on disk", "it was claimed in another block")
        receipts.append(
            PaidReceipt(
                receipt_id=claim.receipt_id,
                tx_position=position,
                job_id=record.job_id,
                client=record.client,
                provider=record.provider,
                hub=record.hub,
                units=record.units,
                price=record.price,
                minted=record.minted,
                output_hash=record.output_hash,
                provider_sig=claim.miner_sig,
                lock=record.lock,
                task=record.task,
                attempt=record.attempt,
            )
        )
    return receipts


def _only(rows: list[Row]) -> Row:
    if len(rows) != 1:
        raise damaged("the database", "rows that belong together are not all there")
    return rows[0]


MIGRATIONS: Mapping[int, Callable[[Session, bytes], None]] = {1: from_1}
