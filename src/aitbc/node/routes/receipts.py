"""Compute receipts: claims in the seed's shape, locks, and the devnet's labelled synthetic attester.

A claim that comes without its attestation makes the node ask the hubs of its allow-list *before* admission; blocks
never cause a call (DESIGN §3 "Validity is a pure function of bytes and state").
"""

from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from aitbc.adapters.http.problems import Problem, read_body
from aitbc.core.codec.canonical import convert, plain_json
from aitbc.core.codec.views import MAX_TRANSACTION_JSON, transaction_from_plain
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node.attestations import AttestQuestion, fetch_attestation, synthetic_attestation
from aitbc.node.history import MAX_PAGE, receipts_page
from aitbc.node.limits import Limits
from aitbc.node.routes.shared import body_of, built_beside, service_of
from aitbc.node.routes.transactions import TRANSACTION_BODY
from aitbc.ports import ReceiptIndex

router = APIRouter(tags=["receipts"])
Json = dict[str, Any]


@router.post("/rpc/submitReceipt", summary="Submit a RECEIPT_CLAIM", openapi_extra=TRANSACTION_BODY)
@router.post("/rpc/submit_receipt", openapi_extra=TRANSACTION_BODY)
async def submit_receipt(request: Request) -> Json:
    """Like sendTx; a claim without `witness` is completed with the hub's signed attestation first."""
    service = service_of(request)
    body = plain_json(await read_body(request, MAX_TRANSACTION_JSON))
    if not isinstance(body, dict) or body.get("type") != "RECEIPT_CLAIM":
        raise Rejected(Reason.UNKNOWN_TYPE, "submitReceipt takes a RECEIPT_CLAIM")
    limits: Limits = request.app.state.limits
    with limits.one_transaction(request):
        if body.get("witness") is None:
            claim = transaction_from_plain({name: value for name, value in body.items() if name != "witness"})
            body = {**body, "witness": await fetch_attestation(service, claim)}
        taken = await service.runtime.submit_one(transaction_from_plain(body))
    return {"txHash": taken.id.hex(), **({"known": True} if taken.known else {})}


@router.post("/rpc/attest", summary="Synthetic attester (devnet only)", openapi_extra=body_of(AttestQuestion))
async def attest(request: Request) -> Json:
    """SYNTHETIC: answers for job ids 1 to 1,000,000 whatever was computed; exists on a devnet genesis only."""
    service = service_of(request)
    question = convert(plain_json(await read_body(request, MAX_TRANSACTION_JSON)), AttestQuestion)
    signed = synthetic_attestation(service, question)
    if signed is None:
        raise Problem(
            HTTPStatus.NOT_FOUND,
            str(Reason.SYNTHETIC_NOT_ALLOWED),
            "this node has no synthetic attester for that job",
            "use a devnet and a job id from 1 to 1000000, or ask the hub that served the job",
        )
    return {
        "exists": True,
        "paid": True,
        "not_double_spent": True,
        "synthetic": True,
        "quote": {"price": question.price, "compute_units": question.compute_units},
        **msgspec.to_builtins(signed),
    }


@router.get("/rpc/lock/{lock_id}", summary="An escrow")
async def get_lock(request: Request, lock_id: str) -> Json:
    return service_of(request).lock(lock_id)


@router.get("/rpc/receipts/{receipt_id}", summary="A paid receipt")
async def get_receipt(request: Request, receipt_id: str) -> Json:
    return await service_of(request).receipt(receipt_id)


@router.get("/rpc/receipts", summary="Paid receipts of a provider, a client or a job")
async def get_receipts(
    request: Request,
    provider: Annotated[str, Query(max_length=64)] = "",
    client: Annotated[str, Query(max_length=64)] = "",
    job: Annotated[str, Query(max_length=128)] = "",
    cursor: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> Response:
    """Exactly one of the three is given. The newest first; `next` is the `cursor` of the page that follows."""
    asked: list[tuple[ReceiptIndex, str]] = [("provider", provider), ("client", client), ("job", job)]
    given = [(by, value) for by, value in asked if value]
    if len(given) != 1:
        raise Rejected(Reason.MISSING_FIELD, "give one of provider, client and job")
    by, value = given[0]
    runtime = service_of(request).runtime
    return await built_beside(runtime.read, lambda: receipts_page(runtime.store, by, value, cursor, limit))
