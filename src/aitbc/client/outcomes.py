"""A transaction's outcome and its place in a block, as answers and receipt files carry them."""

from typing import Any, Literal, NamedTuple

import msgspec

from aitbc.client.finality import MAX_ANSWER_BYTES, natural, plain_answer, read_header
from aitbc.core.codec.canonical import convert, unhex
from aitbc.core.codec.digests import envelope_id, outcome_leaf, transaction_id
from aitbc.core.codec.views import transaction_from_plain
from aitbc.core.crypto.merkle import ListProof, check_item
from aitbc.core.types.blocks import Header
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import Outcome, Transaction


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: int
    count: int
    path: list[str]


class _EventJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    key: str
    amount: int


class _OutcomeJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"tx_hash": "txHash"}):
    tx_hash: str
    status: Literal["ok", "failed"]
    reason: str
    message: str
    fee: int
    events: list[_EventJson]


def outcome_from_plain(view: dict[str, Any]) -> Outcome:
    """`message` is for people and no root covers it, so a good outcome must not have one."""
    read = convert(view, _OutcomeJson)
    if read.status == "ok" and (read.message or read.reason):
        raise Rejected(Reason.MALFORMED, "outcome: a good outcome has neither reason nor message")
    return Outcome(
        tx_id=unhex(read.tx_hash, size=32),
        ok=read.status == "ok",
        reason=read.reason,
        message=read.message,
        fee=natural(read.fee, "outcome fee"),
        events=[(event.kind, event.key, natural(event.amount, "event amount")) for event in read.events],
    )


def list_proof(view: Position) -> ListProof:
    index, count = natural(view.index, "index"), natural(view.count, "count")
    return ListProof(index, count, [unhex(node, size=32) for node in view.path])


class Included(NamedTuple):
    """A transaction that a header's roots prove, and its outcome; whose header it is remains to be seen."""

    tx: Transaction
    outcome: Outcome
    header: Header


class _ProofJson(msgspec.Struct, frozen=True, rename="camel"):
    header: dict[str, Any]
    tx_proof: Position
    outcome_proof: Position


class _FoundJson(msgspec.Struct, frozen=True):
    tx: dict[str, Any]
    receipt: dict[str, Any]
    proof: _ProofJson


def check_included(answer: object, tx_id: str, genesis_hash: bytes) -> Included:
    """`answer`: of `GET /rpc/getTx/{hash}?proof=1`. Raises Rejected unless it proves this transaction."""
    found, wanted = convert(plain_answer(answer, limit=MAX_ANSWER_BYTES), _FoundJson), unhex(tx_id, size=32)
    tx, outcome = transaction_from_plain(found.tx), outcome_from_plain(found.receipt)
    header = read_header(found.proof.header)
    place, other = list_proof(found.proof.tx_proof), list_proof(found.proof.outcome_proof)
    _require(transaction_id(tx, genesis_hash) == wanted, "this is another transaction")
    _require(outcome.tx_id == wanted, "the outcome is another transaction's")
    _require(
        check_item(header.txs_root, envelope_id(wanted, tx), place),
        "the path does not lead from the transaction to the block's txs_root",
    )
    same = (place.index, place.count) == (other.index, other.count)
    _require(
        same and check_item(header.outcomes_root, outcome_leaf(outcome), other),
        "the path does not lead from the outcome to the block's outcomes_root",
    )
    return Included(tx, outcome, header)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise Rejected(Reason.BAD_PROOF, message)
