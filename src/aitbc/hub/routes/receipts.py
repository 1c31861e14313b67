"""GET /v1/receipts/{receipt_id}: a receipt for whoever has its id, with proof of its payment if that is asked for."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitbc.client.errors import ClientError
from aitbc.client.finality import trust_genesis
from aitbc.client.jobs import batch_of, claim_of_answer, finality_fields
from aitbc.client.light import follow_async
from aitbc.client.verify import BUNDLE_VERSION
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.receipts import Attestation, ReceiptCore, ReceiptDetails
from aitbc.hub.chain import unreachable
from aitbc.hub.gateway.answers import receipt_view
from aitbc.hub.http import Route, json_answer
from aitbc.hub.hub import Hub
from aitbc.hub.records import ReceiptEntry


class ReceiptFile(msgspec.Struct, frozen=True):
    """What `aitbc verify` reads. Without `?proof=1` there is no `claim`."""

    version: int
    genesis: dict[str, Any]
    details: ReceiptDetails
    core: ReceiptCore
    receipt_id: str
    provider_sig: str
    provider_pubkey: str
    attestation: Attestation
    attestation_sig: str
    hub_pubkey: str
    output_file: str
    claim: dict[str, Any] | None = None


async def get_receipt(request: Request) -> Response:
    """A receipt file. With `?proof=1`: with the claim or the batch that paid it, down to its block's certificate; 409
    `not_delivered` while no claim of it is final."""
    hub: Hub = request.app.state.hub
    receipt_id = request.path_params["receipt_id"][:128]
    entry = await hub.db(hub.store.receipt, receipt_id)
    if entry is None:
        raise Refused(
            JobReason.UNKNOWN_RECEIPT, f"this hub has no receipt {receipt_id[:80]!r}, or it was long ago"
        )
    file: dict[str, Any] = {
        "version": BUNDLE_VERSION,
        "genesis": hub.genesis,
        **receipt_view(hub, entry),
        "output_file": "",
    }
    if request.query_params.get("proof", "0") not in ("", "0"):
        file["claim"] = await _claim(hub, entry)
    return json_answer(file)


async def _claim(hub: Hub, entry: ReceiptEntry) -> dict[str, Any]:
    """The claim; of a receipt that was paid out of a batch the SETTLE, and in it the batch."""
    if entry.state != "claimed":
        raise Refused(JobReason.NOT_DELIVERED, f"no claim of this receipt is final yet; it is {entry.state}")
    try:
        claim_tx = entry.claim_tx or await _paid_by(hub, entry)
        claim = await _proved(hub, claim_tx)
        batch = batch_of(claim)
        return claim if batch is None else {**claim, "batch": await _proved(hub, batch)}
    except ClientError as error:
        raise unreachable(error) from error
    except Rejected as error:
        raise Refused(
            JobReason.CHAIN_UNREACHABLE, f"the hub's node gives no good proof: {error.message}"[:300]
        ) from None


async def _paid_by(hub: Hub, entry: ReceiptEntry) -> str:
    """The transaction of somebody else: its provider's, or a SETTLE that anybody may send."""
    record = await hub.chain.receipt(entry.receipt_id)
    if record is None:
        raise Refused(JobReason.NOT_DELIVERED, "the hub's node does not know yet what paid this receipt")
    return str(record["txHash"])


async def _proved(hub: Hub, tx_id: str) -> dict[str, Any]:
    """A final transaction, down to the certificate of its block."""
    claim, height = claim_of_answer(tx_id, await hub.chain.transaction(tx_id, proof=True))
    followed = await follow_async(hub.chain, trust_genesis(hub.genesis), height)
    return {**claim, **finality_fields(followed)}


ROUTES = [
    Route(
        "GET",
        "/v1/receipts/{receipt_id}",
        get_receipt,
        "A receipt and its proof",
        ReceiptFile,
        refusals=(404, 409, 503),
    )
]
