"""POST /v1/quotes: what a job would cost."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitbc.adapters.http.problems import read_body
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.hub.http import Route, json_answer
from aitbc.hub.hub import Hub
from aitbc.hub.quotes import QuoteRequest, make_quote, quote_view, read_quote_request


class LockTerms(msgspec.Struct, frozen=True):
    """The JOB_LOCK payload to sign."""

    hub: str
    job_id: str
    amount: int
    request_hash: str
    deliver_by_ms: int
    claim_until_ms: int
    tasks: int = 1


class QuoteView(msgspec.Struct, frozen=True):
    job_id: str
    job_token: str
    """Who shows it owns the job; it is not given twice."""
    hub: str
    client: str
    kind: str
    model: str
    request: dict[str, Any]
    """Canonical: kind, model, prompt, every parameter and the hub's nonce."""
    request_hash: str
    units: int
    """Worst case; what is billed is counted afterwards and never more."""
    price: int
    """Worst case, in base units."""
    deliver_by_ms: int
    claim_until_ms: int
    expires_ms: int
    lock: LockTerms
    parts: list[dict[str, Any]] = []
    """The requests of its parts, when it is split."""


async def create_quote(request: Request) -> Response:
    """A binding price for one request, good until `expires_ms`. Costs nothing."""
    hub: Hub = request.app.state.hub
    _admit(hub, request)
    body = await read_body(request, hub.config.max_body_bytes)
    asked = read_quote_request(body, limit=hub.config.max_body_bytes)
    quote, token = make_quote(
        asked,
        hub.directory,
        now_ms=hub.now_ms(),
        quote_s=hub.config.quote_s,
        deliver_s=hub.config.deliver_s,
        claim_s=hub.config.claim_s,
    )
    hub.quote_made(quote.job_id)
    await hub.db(hub.store.add_quote, quote)
    return json_answer(quote_view(quote, token=token, hub=hub.signer.address))


def _admit(hub: Hub, request: Request) -> None:
    address = request.client.host if request.client else "unknown"
    if not hub.quote_rate.allow(address):
        most = hub.config.quotes_per_second
        raise Refused(JobReason.RATE_LIMITED, f"more than {most} quotes a second from {address}")
    if hub.quotes_full:
        raise Refused(JobReason.TOO_MANY_QUOTES, f"{hub.config.max_quotes} quotes are open")


ROUTES = [
    Route(
        "POST",
        "/v1/quotes",
        create_quote,
        "What a job would cost",
        QuoteView,
        body=QuoteRequest,
        refusals=(400, 404, 413, 429, 503),
    )
]
