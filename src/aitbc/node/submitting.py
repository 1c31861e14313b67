"""Many transactions in one body: taken apart, checked together, answered one by one. docs/spec/rpc.md "Submitting" """

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from aitbc.adapters.http.problems import PASSING, Problem, problem_of
from aitbc.core.codec.digests import transaction_id
from aitbc.core.codec.views import transaction_from_json
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import Transaction
from aitbc.node.runtime import NodeRuntime, Submitted

Json = dict[str, Any]

MAX_ITEMS = 1_000
"""Verified in 80 ms of a core, and a quarter of what may be under way at once."""
MAX_BODY_BYTES = 4 * 1024 * 1024
"""A thousand transfers have 0.4 MB, a thousand claims with their attestations 2 MB."""
RETRY_AFTER_S = 1
FEW = 16
"""Read where the request is, in half a millisecond; more beside the loop."""

_raw_items = msgspec.json.Decoder(list[msgspec.Raw])


class Taken(NamedTuple):
    """What became of a body."""

    view: Json
    passing: bool
    """Something was refused that may be taken in a second."""
    bad_signatures: int


async def take(runtime: NodeRuntime, raws: Sequence[bytes]) -> Taken:
    """Offer every transaction. Raises Rejected when none of them can be looked at now."""
    read = _read(raws) if len(raws) <= FEW else await runtime.check(lambda: _read(raws))
    answers: list[Submitted | Rejected | None] = []
    txs: list[Transaction] = []
    for found in read:
        try:
            if isinstance(found, Rejected):
                raise found
            txs.append(runtime.with_pubkey(found))
            answers.append(None)
        except Rejected as rejection:
            answers.append(rejection)
    offered = iter(zip(txs, await runtime.submit_all(txs) if txs else [], strict=True))
    ids: list[str | None] = [None] * len(answers)
    for place, answer in enumerate(answers):
        if isinstance(answer, Rejected):
            continue
        tx, verdict = next(offered)
        if not isinstance(verdict, Submitted | Rejected):
            raise verdict  # a bug: the server logs it
        answers[place] = verdict
        tx_id = verdict.id if isinstance(verdict, Submitted) else transaction_id(tx, runtime.genesis_hash)
        ids[place] = tx_id.hex()
    return _answer(ids, answers)


def _read(raws: Sequence[bytes]) -> list[Transaction | Rejected]:
    read: list[Transaction | Rejected] = []
    for raw in raws:
        try:
            read.append(transaction_from_json(raw))
        except Rejected as rejection:
            read.append(rejection)
    return read


def _answer(ids: Sequence[str | None], answers: Sequence[Submitted | Rejected | None]) -> Taken:
    items: list[Json] = []
    refused, passing, bad = 0, False, 0
    for tx_hash, answer in zip(ids, answers, strict=True):
        if isinstance(answer, Rejected):
            refused += 1
            passing = passing or answer.reason in PASSING
            bad += answer.reason is Reason.BAD_SIGNATURE
            problem = problem_of(answer)
            error = {"code": problem.code, "detail": problem.detail, "fix": problem.fix}
            items.append({"txHash": tx_hash, "error": error})
        elif answer is not None and answer.known:
            items.append({"txHash": tx_hash, "known": True})
        else:
            items.append({"txHash": tx_hash})
    return Taken({"accepted": len(items) - refused, "refused": refused, "items": items}, passing, bad)


def items_of(body: bytes) -> list[bytes]:
    """The JSON texts of an array, or of lines; what they hold is not looked at yet. Raises Rejected or Problem for a
    body that is neither."""
    text = body.lstrip(b" \t\r\n")
    if text.startswith(b"["):
        try:
            raws = [bytes(raw) for raw in _raw_items.decode(text)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Rejected(Reason.MALFORMED, f"not a JSON array: {error}") from None
    elif text.startswith(b"{"):
        raws = [line for line in text.splitlines() if line.strip()]
    else:
        raise Rejected(Reason.WRONG_TYPE, "send a JSON array of transactions, or one transaction a line")
    if len(raws) > MAX_ITEMS:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            str(Reason.TOO_LARGE),
            f"{len(raws)} transactions; at most {MAX_ITEMS} at once",
            "send them in several requests",
        )
    return raws
