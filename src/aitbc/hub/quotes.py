"""A price before the work: what a request costs at worst, and the lock that would pay for it."""

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from aitbc.core.codec.canonical import parse_json
from aitbc.core.crypto.address import check_address
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.requests import normalise_request, request_hash_of
from aitbc.core.jobs.units import PROFILES, kind_of, price_of, profile_of, worst_case_units
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.hub.providers import Directory, ProviderSession
from aitbc.hub.records import Quote

MOST_FAILURES = 3
"""Recent failures, halved by each success, from which on a provider's price does not count."""


class QuoteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client asks; without a model the hub takes one of the kind that somebody serves."""

    client: str
    kind: str
    request: dict[str, Any]
    model: str = ""


def read_quote_request(body: bytes, *, limit: int) -> QuoteRequest:
    asked = parse_json(body, QuoteRequest, limit=limit)
    check_address(asked.client)
    return asked


def make_quote(
    asked: QuoteRequest, directory: Directory, *, now_ms: int, quote_s: int, deliver_s: int, claim_s: int
) -> tuple[Quote, str]:
    """The quote and the token that its holder shows; the hub keeps only the token's hash.

    Refuses what no connected provider could do, and says why.
    """
    profile = profile_of(_model_for(asked, directory))
    if kind_of(profile) != asked.kind:
        raise Refused(
            JobReason.UNKNOWN_KIND, f"{profile.model} does {kind_of(profile)}, not {asked.kind[:40]!r}"
        )
    request = normalise_request(profile, asked.request, nonce=secrets.token_hex(16))
    serving = directory.serving(profile.model)
    if not serving:
        raise Refused(JobReason.NO_PROVIDER, f"no connected and registered provider serves {profile.model}")
    per_kilounit = quoted_price(serving, profile.model)
    units = worst_case_units(profile, request)
    price = price_of(units, per_kilounit)
    if price > MAX_SIGNED:
        raise Refused(
            JobReason.BAD_REQUEST, f"{units} units at {per_kilounit} cost more than a lock can hold"
        )
    token = secrets.token_urlsafe(24)
    deliver_by_ms = now_ms + deliver_s * 1000
    quote = Quote(
        job_id=f"job_{secrets.token_hex(12)}",
        token_hash=token_hash(token),
        client=asked.client,
        kind=asked.kind,
        model=profile.model,
        request=request,
        request_hash=request_hash_of(request),
        units=units,
        price_per_kilounit=per_kilounit,
        price=price,
        deliver_by_ms=deliver_by_ms,
        claim_until_ms=deliver_by_ms + claim_s * 1000,
        expires_ms=now_ms + quote_s * 1000,
        created_ms=now_ms,
    )
    return quote, token


def quoted_price(serving: Sequence[ProviderSession], model: str) -> int:
    """The lower median of what its providers ask: half can be drawn, and among three no single one sets the price.

    Those who have failed lately do not count, or a provider that asks next to nothing and delivers nothing would
    keep everybody else from being asked.
    """
    reliable = [session for session in serving if session.recent_failures < MOST_FAILURES]
    prices = sorted([session.models[model].price_per_kilounit for session in reliable or serving])
    return prices[(len(prices) - 1) // 2]


def token_hash(token: str) -> str:
    """What is stored of a job's bearer token: it has 192 random bits, so one hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def quote_view(quote: Quote, *, token: str, hub: str) -> dict[str, Any]:
    return {
        "job_id": quote.job_id,
        "job_token": token,
        "hub": hub,
        "client": quote.client,
        "kind": quote.kind,
        "model": quote.model,
        "request": quote.request,
        "request_hash": quote.request_hash,
        "units": quote.units,
        "price": quote.price,
        "deliver_by_ms": quote.deliver_by_ms,
        "claim_until_ms": quote.claim_until_ms,
        "expires_ms": quote.expires_ms,
        "lock": quote.lock_terms(hub),
    }


def _model_for(asked: QuoteRequest, directory: Directory) -> str:
    if asked.model:
        return asked.model
    known = sorted([model for model, profile in PROFILES.items() if kind_of(profile) == asked.kind])
    if not known:
        kinds = ", ".join(sorted({kind_of(profile) for profile in PROFILES.values()}))
        raise Refused(JobReason.UNKNOWN_KIND, f"no kind {asked.kind[:40]!r}; known: {kinds}")
    return next((model for model in known if directory.serving(model)), known[0])
