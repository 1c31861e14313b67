"""From committed blocks and changes to table rows and back: the same for every SQL database. Pure.

What is read is checked: a transaction against its id and its envelope's hash, a block against its hash and its roots,
the state against the head's `state_root` (by whoever loads it). What no hash of the chain covers has a `checksum`:
eight bytes of a tagged SHA-256, enough against chance (one damaged row in 2^64 passes); nobody who can write to the
database is kept out by it.

| table | checksum covers, besides the row's place |
|---|---|
| meta | of the head: height and hash, so that blocks that are lost are missed |
| blocks | header, certificate (no hash covers it) and number of transactions (for a page of them) |
| tx | time of the block, id, `raw`: the outcome's text is under no root, and a transaction is read alone |
| receipts | every field, the transaction's id and time: they can be made again only by executing the block |
| history_nodes | the hash: a wrong node makes wrong proofs |
| undo, waiting | `raw` |

`account_tx` has none: its rows say what the transaction says again, and are compared with it when they are read.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from struct import Struct
from typing import Any, NamedTuple

import msgspec

from aitbc.core.codec.digests import envelope_id, header_hash, outcome_leaf, transaction_id, validators_hash
from aitbc.core.codec.records import record_bytes, record_from_bytes
from aitbc.core.crypto.address import ADDRESS_LENGTH
from aitbc.core.crypto.hashing import fields, u64
from aitbc.core.crypto.merkle import list_root
from aitbc.core.types.blocks import Block, Certificate, CommittedBlock, Header, Validator
from aitbc.core.types.records import Account, Change, HistoryNode, PaidReceipt, Param
from aitbc.core.types.transactions import Outcome, Transaction
from aitbc.ports import StorageError, StoredHead, StoredReceipt, StoredTransaction

MEND = "keep it as it is and restore a copy beside it: blocks that no other node has cannot be fetched again"
"""Never "remove it": with one authority this may be the only copy of the chain."""
CHECKSUM_BYTES = 8

Row = tuple[Any, ...]
Undo = list[tuple[str, str, int, bytes | None]]
"""(store, key, slot, record bytes before the block; None: not there) for each change."""

_encoder = msgspec.msgpack.Encoder()
_pack = _encoder.encode


def damaged(what: str, why: object) -> StorageError:
    return StorageError(f"{what} is damaged ({why}); {MEND}")


def checksum(table: str, *parts: bytes) -> bytes:
    """Every part but the last has one size per table, so no two lists of parts give the same bytes."""
    return sha256(_TAGS[table] + b"".join(parts)).digest()[:CHECKSUM_BYTES]


_TAGS = {
    table: fields(f"aitbc/row/{table}/2".encode())
    for table in ("meta", "blocks", "tx", "receipts", "history_nodes", "undo", "waiting")
}


# Blocks


class BlockHead(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A committed block without its transactions."""

    header: Header
    certificate: Certificate | None


class BlockRow(msgspec.Struct, frozen=True, array_like=True):
    """What is read of a block's row, in the order of BLOCK_COLUMNS."""

    height: int
    id: bytes
    tx_count: int
    raw: bytes
    checksum: bytes


BLOCK_COLUMNS = "height, id, tx_count, raw, checksum"
_block_head = msgspec.msgpack.Decoder(BlockHead)


def block_row(committed: CommittedBlock) -> Row:
    header, certificate = committed.block.header, committed.certificate
    raw, count = _pack(BlockHead(header, certificate)), len(committed.block.txs)
    return (
        header.height,
        committed.hash,
        header.parent,
        header.timestamp_ms // 1000,
        header.timestamp_ms,
        header.proposer,
        count,
        committed.hash,
        header.state_root,
        certificate.signatures[0] if certificate else b"",
        raw,
        checksum("blocks", u64(header.height), committed.hash, u64(count), raw),
    )


def restore_block_head(row: BlockRow) -> StoredHead:
    """A block's header and certificate; raises StorageError when they are not what the hash says."""
    name = f"block {row.height} on disk"
    if checksum("blocks", u64(row.height), row.id, u64(row.tx_count), row.raw) != row.checksum:
        raise damaged(name, "its checksum differs")
    head = _block_head.decode(row.raw)
    if (header_hash(head.header), head.header.height) != (row.id, row.height):
        raise damaged(name, "its hash differs")
    return StoredHead(header=head.header, hash=row.id, certificate=head.certificate)


def restore_block(row: BlockRow, txs: Sequence["TransactionRow"], genesis_hash: bytes) -> CommittedBlock:
    """A block from its rows; raises StorageError when they are not what its hash says."""
    name, head = f"block {row.height} on disk", restore_block_head(row)
    header = head.header
    stored = restore_page(row, txs, genesis_hash, range(row.tx_count))
    if list_root([tx.hash for tx in txs]) != header.txs_root:
        raise damaged(name, "its transactions differ")
    if list_root([outcome_leaf(item.outcome) for item in stored]) != header.outcomes_root:
        raise damaged(name, "its outcomes differ")
    block = Block(header, [item.tx for item in stored])
    return CommittedBlock(block, row.id, [item.outcome for item in stored], head.certificate)


def restore_page(
    row: BlockRow, txs: Sequence["TransactionRow"], genesis_hash: bytes, positions: range
) -> list[StoredTransaction]:
    """The transactions of a block at some positions, all of them."""
    if [(tx.height, tx.position) for tx in txs] != [(row.height, position) for position in positions]:
        raise damaged(f"block {row.height} on disk", "its transactions are not all there")
    return [restore_transaction(tx, genesis_hash) for tx in txs]


# Transactions


class Rest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What has no column of its own."""

    pubkey: bytes
    witness: bytes
    outcome: Outcome


class TransactionRow(msgspec.Struct, frozen=True, array_like=True):
    """What is read of a transaction's row and its block's, in the order of TRANSACTION_COLUMNS."""

    height: int
    position: int
    timestamp_ms: int
    id: bytes
    type: str
    payload_json: str
    sender: str
    nonce: int
    fee: int
    sig: bytes
    hash: bytes
    raw: bytes
    checksum: bytes


TRANSACTION_COLUMNS = (
    "t.height, t.position, b.timestamp_ms, t.id, t.type, t.payload_json, t.sender, t.nonce, t.fee, t.sig, t.hash,"
    " t.raw, t.checksum"
)
_rest = msgspec.msgpack.Decoder(Rest)


def transaction_rows(committed: CommittedBlock) -> list[Row]:
    header, block_id = committed.block.header, committed.hash
    height, at_height, at_time = header.height, u64(header.height), u64(header.timestamp_ms)
    rows = []
    for position, (tx, outcome) in enumerate(zip(committed.block.txs, committed.outcomes, strict=True)):
        raw, tx_id = _pack(Rest(tx.pubkey, tx.witness, outcome)), outcome.tx_id
        rows.append(
            (
                height,
                position,
                tx_id,
                block_id,
                tx.type,
                tx.payload.decode(),
                tx.sender,
                tx.nonce,
                tx.fee,
                tx.sig,
                envelope_id(tx_id, tx),
                "ok" if outcome.ok else outcome.reason,
                raw,
                checksum("tx", at_height, u64(position), at_time, tx_id, raw),
            )
        )
    return rows


def restore_transaction(row: TransactionRow, genesis_hash: bytes) -> StoredTransaction:
    """A transaction from its row alone; raises StorageError when it is not what its hashes say."""
    name = f"transaction {row.id.hex()} on disk"
    covered = (u64(row.height), u64(row.position), u64(row.timestamp_ms), row.id, row.raw)
    if checksum("tx", *covered) != row.checksum:
        raise damaged(name, "its checksum differs")
    rest = _rest.decode(row.raw)
    payload = row.payload_json.encode()
    tx = Transaction(row.type, row.sender, row.nonce, row.fee, payload, rest.pubkey, row.sig, rest.witness)
    if transaction_id(tx, genesis_hash) != row.id or rest.outcome.tx_id != row.id:
        raise damaged(name, "its id differs")
    if envelope_id(row.id, tx) != row.hash:
        raise damaged(name, "its key, signature or witness differs")
    return StoredTransaction(
        height=row.height,
        position=row.position,
        timestamp_ms=row.timestamp_ms,
        tx=tx,
        outcome=rest.outcome,
    )


def touched(tx: Transaction, outcome: Outcome) -> set[str]:
    """Accounts whose history a transaction belongs to: its sender, and every address that an event names."""
    named = {tx.sender}
    for _, key, _ in outcome.events:
        if key[:4] == "ait1" and len(key) == ADDRESS_LENGTH:
            named.add(key)
    return named


def account_rows(committed: CommittedBlock) -> list[Row]:
    """(address, height, position), in the order of the table's key: neighbours in one page are written together."""
    height, rows = committed.block.header.height, []
    for position, (tx, outcome) in enumerate(zip(committed.block.txs, committed.outcomes, strict=True)):
        for address in touched(tx, outcome):
            rows.append((address, height, position))
    rows.sort()
    return rows


# Receipts


class ReceiptRow(msgspec.Struct, frozen=True, array_like=True):
    """What is read of a receipt's row and its transaction's, in the order of RECEIPT_COLUMNS."""

    height: int
    position: int
    place: int
    receipt_id: str
    job_id: str
    client_addr: str
    miner_addr: str
    compute_units: int
    price: int
    output_hash: str
    miner_sig: str
    hub: str
    minted: int
    lock: str
    task: int
    attempt: int
    timestamp_ms: int
    checksum: bytes
    tx_id: bytes


RECEIPT_COLUMNS = (
    "r.height, r.position, r.place, r.receipt_id, r.job_id, r.client_addr, r.miner_addr, r.compute_units, r.price,"
    " r.output_hash, r.miner_sig, r.hub, r.minted, r.lock, r.task, r.attempt, r.timestamp_ms, r.checksum, t.id"
)


def placed(receipts: Iterable[PaidReceipt]) -> Iterator[tuple[int, PaidReceipt]]:
    """Each receipt of a block with its place among those of its transaction."""
    seen: dict[int, int] = {}
    for receipt in receipts:
        place = seen.get(receipt.tx_position, 0)
        seen[receipt.tx_position] = place + 1
        yield place, receipt


def stored_receipts(committed: CommittedBlock, receipts: Iterable[PaidReceipt]) -> list[StoredReceipt]:
    header = committed.block.header
    return [
        StoredReceipt(
            height=header.height,
            place=place,
            timestamp_ms=header.timestamp_ms,
            tx_id=committed.outcomes[receipt.tx_position].tx_id,
            receipt=receipt,
        )
        for place, receipt in placed(receipts)
    ]


def receipt_row(stored: StoredReceipt) -> Row:
    receipt = stored.receipt
    return (
        stored.height,
        receipt.tx_position,
        stored.place,
        receipt.receipt_id,
        escaped(receipt.job_id),
        receipt.client,
        receipt.provider,
        receipt.units,
        receipt.price,
        receipt.output_hash,
        receipt.provider_sig,
        "claimed" if receipt.provider_sig else "settled",
        receipt.hub,
        receipt.minted,
        receipt.lock,
        receipt.task,
        receipt.attempt,
        stored.timestamp_ms,
        checksum("receipts", _pack(stored)),
    )


def restore_receipt(row: ReceiptRow) -> StoredReceipt:
    stored = StoredReceipt(
        height=row.height,
        place=row.place,
        timestamp_ms=row.timestamp_ms,
        tx_id=row.tx_id,
        receipt=PaidReceipt(
            receipt_id=row.receipt_id,
            tx_position=row.position,
            job_id=unescaped(row.job_id),
            client=row.client_addr,
            provider=row.miner_addr,
            hub=row.hub,
            units=row.compute_units,
            price=row.price,
            minted=row.minted,
            output_hash=row.output_hash,
            provider_sig=row.miner_sig,
            lock=row.lock,
            task=row.task,
            attempt=row.attempt,
        ),
    )
    if checksum("receipts", _pack(stored)) != row.checksum:
        raise damaged(f"receipt {row.receipt_id[:80]} on disk", "its checksum differs")
    return stored


def escaped(label: str) -> str:
    """A label that PostgreSQL can hold: anything but NUL."""
    return label.replace("\\", "\\\\").replace("\0", "\\0")


def unescaped(text: str) -> str:
    return "\\".join([part.replace("\\0", "\0") for part in text.split("\\\\")])


# State


class StateRows(NamedTuple):
    """What a block does to the tables of the state, by table: first the keys that go, then the rows that come."""

    gone: dict[str, list[Row]]
    written: dict[str, list[Row]]


_BALANCE_AND_NONCE = Struct(">QQ")


def state_rows(changes: Iterable[tuple[str, str, int, bytes | None]]) -> StateRows:
    """From (store, key, slot, record bytes; None: removed)."""
    gone: dict[str, list[Row]] = {"accounts": [], "params": [], "records": []}
    written: dict[str, list[Row]] = {"accounts": [], "params": [], "records": []}
    accounts = written["accounts"]
    for store, key, index, data in changes:
        if data is None:
            if store in ("accounts", "params"):
                gone[store].append((key,))
            else:
                gone["records"].append((store, key))
        elif store == "accounts":
            accounts.append((key, index, *_BALANCE_AND_NONCE.unpack_from(data), data[16:]))
        elif store == "params":
            record = record_from_bytes(store, key, data)
            assert isinstance(record, Param)
            written["params"].append((key, index, record.value))
        else:
            written["records"].append((store, key, index, data.decode()))
    return StateRows(gone, written)


def changed(changes: Iterable[Change]) -> Iterator[tuple[str, str, int, bytes | None]]:
    """What a block leaves behind."""
    return ((c.store, c.key, c.index, None if c.record is None else c.data) for c in changes)


def account_bytes(balance: int, nonce: int, pubkey: bytes) -> bytes:
    return record_bytes(Account(balance, nonce, pubkey))


def param_bytes(value: str) -> bytes:
    return record_bytes(Param(value=value))


# The rest


NO_HEAD: Row = ("head", b"")
"""For `meta`: nothing was committed yet."""


def head_row(height: int, block_hash: bytes) -> Row:
    """For `meta`: which block is the head."""
    return ("head", u64(height) + block_hash + checksum("meta", u64(height), block_hash))


def restore_head(value: bytes) -> tuple[int, bytes]:
    """Height and hash; -1 and zeros before genesis."""
    if not value:
        return -1, bytes(32)
    height, block_hash = int.from_bytes(value[:8], "big"), value[8:40]
    if head_row(height, block_hash)[1] != value:
        raise damaged("the head on disk", "its checksum differs")
    return height, block_hash


def final_row(link: bytes) -> Row:
    """For `meta`: what agreement begins from."""
    return ("final", checksum("meta", link) + link)


def restore_final(value: bytes) -> bytes:
    """Empty when nothing was kept."""
    link = value[CHECKSUM_BYTES:]
    if value and final_row(link)[1] != value:
        raise damaged("the final block on disk", "its checksum differs")
    return link


def history_row(node: HistoryNode) -> Row:
    covered = checksum("history_nodes", u64(node.level), u64(node.position), node.hash)
    return (node.level, node.position, node.hash, covered)


def check_history_row(level: int, position: int, node: bytes, covered: bytes) -> None:
    if history_row(HistoryNode(level, position, node))[3] != covered:
        raise damaged(f"history node {level}/{position} on disk", "its checksum differs")


_undo = msgspec.msgpack.Decoder(Undo)


def undo_row(height: int, changes: Iterable[Change]) -> Row:
    raw = _pack([(c.store, c.key, c.index, c.before) for c in changes])
    return (height, raw, checksum("undo", u64(height), raw))


def restore_undo(height: int, raw: bytes, covered: bytes) -> Undo:
    if checksum("undo", u64(height), raw) != covered:
        raise damaged(f"the undo of block {height} on disk", "its checksum differs")
    return _undo.decode(raw)


def validator_set_row(validators: list[Validator]) -> Row:
    return (validators_hash(validators), _pack(validators))


def restore_validator_set(name: bytes, raw: bytes) -> list[Validator]:
    validators = _validators.decode(raw)
    if validators_hash(validators) != name:
        raise damaged(f"validator set {name.hex()} on disk", "its hash differs")
    return validators


_validators = msgspec.msgpack.Decoder(list[Validator])


def waiting_rows(transactions: Iterable[bytes]) -> list[Row]:
    return [(n, raw, checksum("waiting", u64(n), raw)) for n, raw in enumerate(transactions)]


def check_waiting_row(position: int, raw: bytes, covered: bytes) -> bytes:
    if checksum("waiting", u64(position), raw) != covered:
        raise damaged(f"waiting transaction {position} on disk", "its checksum differs")
    return raw
