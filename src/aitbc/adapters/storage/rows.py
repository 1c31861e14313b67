"""From committed blocks and changes to table rows and back: the same for every SQL database."""

from collections.abc import Sequence
from typing import Any

import msgspec

from aitbc.core.codec.digests import envelope_id, header_hash, outcome_leaf, transaction_id
from aitbc.core.codec.records import record_bytes, record_from_bytes
from aitbc.core.codec.wire import pack, unpack
from aitbc.core.crypto.merkle import list_root
from aitbc.core.types.blocks import Block, Certificate, CommittedBlock, Header
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.records import Account, Change, Param, ReceiptRecord
from aitbc.core.types.transactions import Outcome, Transaction
from aitbc.ports import StorageError

MAX_ROW_BYTES = 1024 * 1024

Row = tuple[Any, ...]


class BlockHead(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A committed block without its transactions."""

    header: Header
    certificate: Certificate | None


class StoredTransaction(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    tx: Transaction
    outcome: Outcome


def block_row(committed: CommittedBlock) -> Row:
    header, certificate = committed.block.header, committed.certificate
    return (
        header.height,
        committed.hash.hex(),
        header.parent.hex(),
        header.timestamp_ms // 1000,
        header.proposer,
        len(committed.block.txs),
        committed.hash.hex(),
        header.state_root.hex(),
        certificate.signatures[0].hex() if certificate else "",
        pack(BlockHead(header, certificate)),
    )


def transaction_rows(committed: CommittedBlock) -> list[Row]:
    block_id, height = committed.hash.hex(), committed.block.header.height
    pairs = zip(committed.block.txs, committed.outcomes, strict=True)
    return [
        (
            outcome.tx_id.hex(),
            block_id,
            height,
            position,
            tx.type,
            tx.payload.decode(),
            tx.sender,
            tx.nonce,
            tx.fee,
            tx.sig.hex(),
            envelope_id(outcome.tx_id, tx).hex(),
            "ok" if outcome.ok else outcome.reason,
            pack(StoredTransaction(tx, outcome)),
        )
        for position, (tx, outcome) in enumerate(pairs)
    ]


def state_rows(committed: CommittedBlock, changes: Sequence[Change]) -> dict[str, list[Row]]:
    """Rows by table."""
    rows: dict[str, list[Row]] = {"accounts": [], "receipts": [], "params": [], "records": []}
    signatures: dict[str, str] | None = None
    for change in changes:
        match change.record:
            case Account() as account:
                rows["accounts"].append(
                    (change.key, change.index, account.balance, account.nonce, account.auth)
                )
            case Param() as param:
                rows["params"].append((change.key, change.index, param.value))
            case ReceiptRecord() as receipt:
                signatures = _claim_signatures(committed) if signatures is None else signatures
                rows["receipts"].append(_receipt_row(change, receipt, signatures[change.key]))
            case _:
                rows["records"].append((change.store, change.key, change.index, change.data.decode()))
    return rows


def _claim_signatures(committed: CommittedBlock) -> dict[str, str]:
    """The provider's signature of each receipt claimed in the block; the seed's table keeps it."""
    claims = [msgspec.json.decode(tx.payload) for tx in committed.block.txs if tx.type == "RECEIPT_CLAIM"]
    return {claim["receipt_id"]: claim["miner_sig"] for claim in claims}


def _receipt_row(change: Change, receipt: ReceiptRecord, signature: str) -> Row:
    return (
        change.key,
        change.index,
        receipt.job_id,
        receipt.client,
        receipt.provider,
        receipt.units,
        receipt.price,
        receipt.output_hash,
        signature,
        "claimed",
        change.data.decode(),
    )


def account_record(balance: int, nonce: int, pubkey: bytes) -> bytes:
    return record_bytes(Account(balance, nonce, pubkey))


def restore_block(
    raw: bytes, block_hash: str, tx_raws: Sequence[bytes], genesis_hash: bytes
) -> CommittedBlock:
    """A block from its rows; raises StorageError when its bytes are not what its hash says."""
    try:
        head = unpack(raw, BlockHead, limit=MAX_ROW_BYTES)
        stored = [unpack(tx_raw, StoredTransaction, limit=MAX_ROW_BYTES) for tx_raw in tx_raws]
    except Rejected as error:
        raise StorageError(f"block {block_hash} on disk is damaged ({error}); {MEND}") from None
    try:
        damaged = _damage(head.header, block_hash, stored, genesis_hash)
    except OverflowError:
        damaged = "a number is out of range"
    if damaged:
        raise StorageError(f"block {block_hash} on disk is damaged ({damaged}); {MEND}")
    return CommittedBlock(
        Block(head.header, [item.tx for item in stored]),
        bytes.fromhex(block_hash),
        [item.outcome for item in stored],
        head.certificate,
    )


def _damage(header: Header, block_hash: str, stored: Sequence[StoredTransaction], genesis_hash: bytes) -> str:
    """What does not fit, or nothing: hash, transactions and outcomes are checked against each other."""
    if header_hash(header).hex() != block_hash:
        return "its hash differs"
    ids = [transaction_id(item.tx, genesis_hash) for item in stored]
    if (
        list_root([envelope_id(tx_id, item.tx) for tx_id, item in zip(ids, stored, strict=True)])
        != header.txs_root
    ):
        return "its transactions differ"
    if [item.outcome.tx_id for item in stored] != ids:
        return "its outcomes are in another order"
    if list_root([outcome_leaf(item.outcome) for item in stored]) != header.outcomes_root:
        return "its outcomes differ"
    return ""


MEND = "restore the folder from a copy, or remove it and sync again"


def check_record(store: str, key: str, data: bytes) -> bytes:
    """Record bytes from disk; raises StorageError when they are no record of the store."""
    try:
        record_from_bytes(store, key, data)
    except Rejected as error:
        raise StorageError(f"a record of {store} on disk is damaged ({error}); {MEND}") from None
    return data
