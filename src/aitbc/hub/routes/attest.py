"""POST /attest/receipt: seed 000 §7. A node asks whether a receipt stands; the hub answers from its own log."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitbc.adapters.http.problems import read_body
from aitbc.core.codec.canonical import parse_json
from aitbc.core.jobs.lifecycle import State
from aitbc.core.types.receipts import Attestation
from aitbc.hub.http import Route, json_answer
from aitbc.hub.hub import Hub
from aitbc.hub.records import JobRecord, ReceiptEntry


class AttestRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    job_id: str
    client: str
    miner: str
    price: int
    compute_units: int
    output_hash: str
    receipt_id: str = ""


class AttestAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    exists: bool
    """The job is in this hub's log and was done by this provider for this client."""
    paid: bool
    """Its lock was final before the work began and covers the price."""
    not_double_spent: bool
    """It has not been settled yet."""
    quote: dict[str, Any]
    attestation: Attestation | None = None
    """Only for a receipt that is exactly the one attested."""
    sig: str = ""
    reason: str = ""


async def attest_receipt(request: Request) -> Response:
    """Whether a receipt stands; with the signed attestation when every field is the attested one."""
    hub: Hub = request.app.state.hub
    body = await read_body(request, hub.config.max_body_bytes)
    asked = parse_json(body, AttestRequest, limit=hub.config.max_body_bytes)
    record = await hub.db(hub.store.job, asked.job_id[:128])
    if record is None:
        unknown = AttestAnswer(
            exists=False, paid=False, not_double_spent=False, quote={}, reason="unknown_job"
        )
        return json_answer(unknown)
    entries = await hub.db(hub.store.receipts_of_job, asked.job_id[:128])
    return json_answer(_answer(record, _entry_for(entries, asked), asked))


def _entry_for(entries: list[ReceiptEntry], asked: AttestRequest) -> ReceiptEntry | None:
    """The receipt that is asked about: by its id, else the part that fits, else the first one."""
    named = [entry for entry in entries if entry.receipt_id == asked.receipt_id]
    fitting = [entry for entry in entries if not asked.receipt_id and not _differs(entry, asked)]
    return next(iter(named or fitting or entries), None)


def _answer(record: JobRecord, entry: ReceiptEntry | None, asked: AttestRequest) -> AttestAnswer:
    difference = _difference(record, entry, asked)
    unspent = entry.state != "claimed" if entry is not None else record.state != State.SETTLED
    signed = entry.signed if entry is not None and not difference else None
    return AttestAnswer(
        exists=not difference,
        paid=bool(record.lock) and asked.price <= record.quote.price,
        not_double_spent=unspent,
        quote={
            "price": record.quote.price,
            "units": record.quote.units,
            "client": record.quote.client,
            "kind": record.quote.kind,
            "model": record.quote.model,
            "lock": record.lock,
            "deliver_by_ms": record.quote.deliver_by_ms,
            "claim_until_ms": record.quote.claim_until_ms,
        },
        attestation=signed.attestation if signed else None,
        sig=signed.sig if signed else "",
        reason=difference or ("" if unspent else "already_settled"),
    )


def _difference(record: JobRecord, entry: ReceiptEntry | None, asked: AttestRequest) -> str:
    """What in the question is not what this hub attested; empty when all of it is."""
    if entry is None:
        return f"not_attested: the job is {record.state}"
    return _differs(entry, asked)


def _differs(entry: ReceiptEntry, asked: AttestRequest) -> str:
    attested = entry.signed.attestation
    pairs = {
        "client": (asked.client, attested.client),
        "miner": (asked.miner, attested.provider),
        "price": (asked.price, attested.price),
        "compute_units": (asked.compute_units, attested.units),
        "output_hash": (asked.output_hash, attested.output_hash),
        "receipt_id": (asked.receipt_id or attested.receipt_id, attested.receipt_id),
    }
    return next((f"{name}_differs" for name, (got, own) in pairs.items() if got != own), "")


ROUTES = [
    Route(
        "POST",
        "/attest/receipt",
        attest_receipt,
        "Does this receipt stand",
        AttestAnswer,
        body=AttestRequest,
        refusals=(400, 413),
    )
]
