"""Sending transactions and asking what became of them (seed 000 §9.1)."""

from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response

from aitbc.adapters.http.problems import bad_parameter, read_body
from aitbc.core.codec.canonical import convert, jcs, parse_jcs, plain_json, unhex
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.codec.views import MAX_TRANSACTION_JSON, transaction_from_json
from aitbc.core.crypto.schemes import ED25519
from aitbc.core.ledger.fees import required_fee
from aitbc.core.ledger.transactions import TYPES
from aitbc.core.types.amounts import AmountOrZero
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node.limits import Limits
from aitbc.node.routes.shared import body_of, service_of
from aitbc.node.submitting import MAX_BODY_BYTES, MAX_ITEMS, RETRY_AFTER_S, items_of, take

router = APIRouter(tags=["transactions"])
Json = dict[str, Any]
MAX_WAIT_S = 60.0
WAITS = ("included", "final")
"""What a sender may wait for: a block, or finality, which is the same where votes agree."""

TRANSACTION_BODY: Json = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["type", "sender", "nonce", "fee", "payload", "sig"],
                    "additionalProperties": False,
                    "properties": {
                        "type": {"type": "string", "enum": sorted(TYPES)},
                        "sender": {"type": "string"},
                        "nonce": {"type": "integer", "minimum": 1},
                        "fee": {"type": "integer", "minimum": 0},
                        "payload": {"type": "object"},
                        "sig": {"type": "string"},
                        "pubkey": {"type": "string"},
                        "witness": {"type": "object"},
                    },
                }
            }
        },
    }
}
TRANSACTIONS_BODY: Json = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "array",
                    "maxItems": MAX_ITEMS,
                    "items": TRANSACTION_BODY["requestBody"]["content"]["application/json"]["schema"],
                }
            },
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}


SUBMISSION: Json = {
    **TRANSACTION_BODY,
    "parameters": [
        {"name": "wait", "in": "query", "required": False, "schema": {"type": "string", "enum": list(WAITS)}},
        {
            "name": "timeout",
            "in": "query",
            "required": False,
            "schema": {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S, "default": 10},
        },
    ],
}


class FeeQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A transaction or as much of one as there is yet."""

    type: str
    payload: dict[str, Any]
    sender: str = ""
    nonce: AmountOrZero = 0
    fee: AmountOrZero = 0
    sig: str = ""
    pubkey: str = ""
    witness: dict[str, Any] | None = None


@router.post("/rpc/sendTx", summary="Submit a transaction", openapi_extra=SUBMISSION)
@router.post("/rpc/send_tx", openapi_extra=SUBMISSION)
async def send_tx(request: Request) -> Any:
    """Answers once the node has checked it; sending the same transaction again is harmless. With `wait` it answers as
    getTx does when the transaction is final, or 202 after `timeout` seconds."""
    service = service_of(request)
    wait_s = wait_in(request) if request.scope["query_string"] else None
    tx = transaction_from_json(await read_body(request, MAX_TRANSACTION_JSON))
    limits: Limits = request.app.state.limits
    with limits.one_transaction(request):
        taken = await service.runtime.submit_one(tx)
    known = {"known": True} if taken.known else {}
    if wait_s is None:
        return {"txHash": taken.id.hex(), **known}
    included = request.query_params.get("wait") == "included"
    view = await service.transaction(taken.id, request=request, wait_s=wait_s, proof=False, included=included)
    view.update(known)
    if view["status"] != "pending" and (included or view.get("final", True)):
        return view
    where = {"Location": f"/rpc/getTx/{taken.id.hex()}"}
    return Response(msgspec.json.encode(view), HTTPStatus.ACCEPTED, where, "application/json")


def wait_in(request: Request) -> float | None:
    """Seconds that the query asks to wait for finality; None: not at all."""
    asked = request.query_params
    unknown = [name for name in asked if name not in ("wait", "timeout")]
    if unknown:
        raise bad_parameter(f"{unknown[0][:40]}: there are wait and timeout")
    wait, text = asked.get("wait"), asked.get("timeout", "10")
    if wait not in (None, *WAITS):
        raise bad_parameter(f"wait: one of {', '.join(WAITS)}")
    try:
        timeout = float(text)
    except ValueError:
        timeout = -1.0
    if not 0 <= timeout <= MAX_WAIT_S:
        raise bad_parameter(f"timeout: seconds from 0 to {MAX_WAIT_S:g}")
    return None if wait is None else timeout


@router.post("/rpc/sendTxs", summary="Submit up to a thousand transactions", openapi_extra=TRANSACTIONS_BODY)
@router.post("/rpc/send_txs", openapi_extra=TRANSACTIONS_BODY)
async def send_txs(request: Request) -> Response:
    """A JSON array, or one transaction a line; each has its answer, in the order of the request."""
    runtime, limits = service_of(request).runtime, request.app.state.limits
    items = items_of(await read_body(request, MAX_BODY_BYTES))
    limits.transactions(request, len(items))
    taken = await take(runtime, items)
    limits.bad_signatures(request, taken.bad_signatures)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if taken.passing else None
    return Response(msgspec.json.encode(taken.view), headers=headers, media_type="application/json")


@router.get("/rpc/getTx/{tx_hash}", summary="Status, outcome and proof of a transaction")
@router.get("/rpc/get_tx/{tx_hash}")
async def get_tx(
    request: Request,
    tx_hash: str,
    wait: Literal["included", "final"] | None = None,
    timeout: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 10.0,
    proof: bool = False,
) -> Json:
    """`status`: pending, final, failed (final too, nothing but the fee spent) or dropped; where finality is by depth
    also included, and `confirmations` and `final` say how deep it is.

    With `wait=final` the answer comes when the transaction is final, with `wait=included` when it is in a block, or
    after `timeout` seconds.
    """
    tx_id = unhex(tx_hash, size=32)
    return await service_of(request).transaction(
        tx_id, request=request, wait_s=timeout if wait else 0.0, proof=proof, included=wait == "included"
    )


@router.post(
    "/rpc/estimateFee",
    summary="The least fee for a transaction, in base units",
    openapi_extra=body_of(FeeQuestion),
)
@router.post("/rpc/estimate_fee", openapi_extra=body_of(FeeQuestion))
async def estimate_fee(request: Request) -> Json:
    question = convert(plain_json(await read_body(request, MAX_TRANSACTION_JSON)), FeeQuestion)
    kind = TYPES.get(question.type)
    if kind is None:
        raise Rejected(
            Reason.UNKNOWN_TYPE, f"{question.type[:32]!r} is not one of {', '.join(sorted(TYPES))}"
        )
    payload = jcs(question.payload)
    parse_jcs(payload, kind.payload)
    state = service_of(request).runtime.executor.state
    key = key_from_text(question.pubkey) if question.pubkey else state.account(question.sender).auth
    return {"fee": required_fee(state.params, len(payload), key or bytes([ED25519]) + bytes(32))}
