"""Answers in OpenAI's shape, each with its receipt: whole in the field `aitbc`, its id in a header.

docs/spec/gateway.md
"""

import base64
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from aitbc.core.codec.keytext import key_to_text
from aitbc.core.types.receipts import ReceiptDetails
from aitbc.hub.gateway.work import Delivered
from aitbc.hub.records import ReceiptEntry

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

Json = dict[str, Any]

RECEIPT_HEADER = "AITBC-Receipt"
REQUEST_ID_HEADER = "x-request-id"


def answer(body: Json, delivered: Sequence[Delivered]) -> Response:
    headers = {
        RECEIPT_HEADER: ", ".join([one.entry.receipt_id for one in delivered]),
        REQUEST_ID_HEADER: delivered[0].entry.job_id,
    }
    return Response(msgspec.json.encode(body), headers=headers, media_type="application/json")


def receipt_view(hub: "Hub", entry: ReceiptEntry) -> Json:
    """What `aitbc verify` needs but the genesis document, the output and the claim's proof."""
    return {
        "details": entry.delivery.details,
        "core": entry.delivery.core,
        "receipt_id": entry.receipt_id,
        "provider_sig": entry.delivery.sig,
        "provider_pubkey": entry.provider_pubkey,
        "attestation": entry.signed.attestation,
        "attestation_sig": entry.signed.sig,
        "hub_pubkey": key_to_text(hub.signer.auth_key),
    }


def aitbc_field(hub: "Hub", entry: ReceiptEntry) -> Json:
    core, details = entry.delivery.core, entry.delivery.details
    return {
        "job_id": entry.job_id,
        "receipt_id": entry.receipt_id,
        "status": details.status,
        "units": core.compute_units,
        "price": core.price,
        "seed": details.seed,
        "receipt": receipt_view(hub, entry),
    }


def aitbc_fields(hub: "Hub", entries: Sequence[ReceiptEntry]) -> Json | list[Json]:
    """One for a request that was one job, a list in the order of the answer for one that was several."""
    fields = [aitbc_field(hub, entry) for entry in entries]
    return fields[0] if len(fields) == 1 else fields


def usage_of(details: Sequence[ReceiptDetails]) -> Json:
    tokens_in = sum([one.counts.get("in", 0) for one in details])
    tokens_out = sum([one.counts.get("out", 0) for one in details])
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }


def finish_reason(entry: ReceiptEntry, *, max_tokens: int) -> str:
    return "length" if entry.delivery.details.counts.get("out", 0) >= max_tokens else "stop"


def vectors_of(data: bytes, count: int, encoding: str) -> list[str | list[float]]:
    """Little-endian float32, one vector after the other."""
    size = len(data) // count
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    if encoding == "base64":
        return [base64.b64encode(piece).decode() for piece in pieces]
    return [list(struct.unpack(f"<{size // 4}f", piece)) for piece in pieces]
