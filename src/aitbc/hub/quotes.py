"""A price before the work: what a request costs at worst, and the lock that would pay for it.

What nobody could do is refused here, at once, and says why. docs/spec/matching.md
"""

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from aitbc.core.codec.canonical import parse_json
from aitbc.core.crypto.address import check_address
from aitbc.core.jobs.fairness import JobClass, weight_of_bid
from aitbc.core.jobs.matching import MAX_WISHED, NO_WISHES, Ask, Explanation, Wishes, explain
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.requests import normalise_request, request_hash_of
from aitbc.core.jobs.splitting import parts_hash, split_fields
from aitbc.core.jobs.units import PROFILES, kind_of, price_of, profile_of, worst_case_units
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.hub.providers import Directory, ProviderSession
from aitbc.hub.records import Quote

MOST_FAILURES = 3
"""Recent failures, halved by each success, from which on a provider's price does not count."""

CLASSES = {"interactive": JobClass.INTERACTIVE, "normal": JobClass.NORMAL, "batch": JobClass.BATCH}
"""What a client may ask for; the last class is the hub's own."""


class QuoteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client asks; without a model the hub takes one of the kind that somebody serves."""

    client: str
    kind: str
    request: dict[str, Any]
    model: str = ""
    priority: str = "normal"
    """`interactive`, `normal` or `batch`."""
    max_price_per_kilounit: int | None = None
    """None: the going price. More buys a larger share of the queue, less waits for cheaper providers."""
    provider: Wishes = NO_WISHES


class Infeasible(Refused):
    """Nobody who is connected could ever do this; `explanation` says who was removed by what."""

    def __init__(self, message: str, explanation: Explanation) -> None:
        super().__init__(JobReason.INFEASIBLE, message)
        self.explanation = explanation


def read_quote_request(body: bytes, *, limit: int) -> QuoteRequest:
    asked = parse_json(body, QuoteRequest, limit=limit)
    check_address(asked.client)
    if asked.priority not in CLASSES:
        raise Refused(JobReason.BAD_REQUEST, f"priority {asked.priority[:40]!r}; known: {', '.join(CLASSES)}")
    wishes = asked.provider
    if (
        max(len(wished) for wished in (wishes.regions, wishes.policies, wishes.allow, wishes.deny))
        > MAX_WISHED
    ):
        raise Refused(JobReason.BAD_REQUEST, f"at most {MAX_WISHED} entries in each list about providers")
    if asked.max_price_per_kilounit is not None and not 0 <= asked.max_price_per_kilounit <= MAX_SIGNED:
        raise Refused(JobReason.BAD_REQUEST, "max_price_per_kilounit is out of range")
    return asked


def make_quote(
    asked: QuoteRequest,
    directory: Directory,
    *,
    now_ms: int,
    quote_s: int,
    deliver_s: int,
    claim_s: int,
    split: bool = True,
) -> tuple[Quote, str]:
    """A binding quote and the token of its job; without `split` a request is one part, whatever it holds.

    Refuses, in this order: unknown model or kind, a bad request, nobody who serves the model, nobody who could do it.
    """
    profile = profile_of(_model_for(asked, directory))
    if kind_of(profile) != asked.kind:
        raise Refused(
            JobReason.UNKNOWN_KIND, f"{profile.model} does {kind_of(profile)}, not {asked.kind[:40]!r}"
        )
    parts = [
        normalise_request(profile, fields, nonce=secrets.token_hex(16))
        for fields in (split_fields(asked.kind, asked.request) if split else [asked.request])
    ]
    serving = directory.serving(profile.model)
    if not serving:
        raise Refused(JobReason.NO_PROVIDER, f"no connected and registered provider serves {profile.model}")
    going = quoted_price(serving, profile.model)
    per_kilounit = asked.max_price_per_kilounit if asked.max_price_per_kilounit is not None else going
    units = [worst_case_units(profile, request) for request in parts]
    price = sum([price_of(part, per_kilounit) for part in units])
    if price > MAX_SIGNED:
        raise Refused(
            JobReason.BAD_REQUEST, f"{sum(units)} units at {per_kilounit} cost more than a lock can hold"
        )
    ask = Ask(
        model=profile.model, price_per_kilounit=per_kilounit, client=asked.client, wishes=asked.provider
    )
    _check_feasible(ask, directory, units=max(units))
    token = secrets.token_urlsafe(24)
    deliver_by_ms = now_ms + deliver_s * 1000
    quote = Quote(
        job_id=f"job_{secrets.token_hex(12)}",
        token_hash=token_hash(token),
        client=asked.client,
        kind=asked.kind,
        model=profile.model,
        request=parts[0],
        request_hash=parts_hash([request_hash_of(request) for request in parts]),
        units=sum(units),
        price_per_kilounit=per_kilounit,
        price=price,
        deliver_by_ms=deliver_by_ms,
        claim_until_ms=deliver_by_ms + claim_s * 1000,
        expires_ms=now_ms + quote_s * 1000,
        created_ms=now_ms,
        parts=parts if len(parts) > 1 else [],
        job_class=CLASSES[asked.priority],
        wishes=asked.provider,
        weight_milli=weight_of_bid(price_per_kilounit=per_kilounit, reference=going),
    )
    return quote, token


def _check_feasible(ask: Ask, directory: Directory, *, units: int) -> None:
    """Refuse at once what would wait for ever. Providers that are about to be registered count."""
    everybody = directory.facts(ask.model)
    found = explain(ask, everybody, units_ahead=0, units=units)
    if found.feasible:
        return
    removed = ", ".join([f"{name} {count}" for name, count in found.removed.items()])
    nearest = ", ".join([f"{field} {value}" for field, value in found.nearest.items()])
    advice = f"; instead: {nearest}" if nearest else ""
    raise Infeasible(
        f"none of {found.connected} providers could do it (removed by {removed}){advice}"[:400], found
    )


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
    view = {
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
    return {**view, "parts": quote.parts} if quote.parts else view


def _model_for(asked: QuoteRequest, directory: Directory) -> str:
    if asked.model:
        return asked.model
    known = sorted([model for model, profile in PROFILES.items() if kind_of(profile) == asked.kind])
    if not known:
        kinds = ", ".join(sorted({kind_of(profile) for profile in PROFILES.values()}))
        raise Refused(JobReason.UNKNOWN_KIND, f"no kind {asked.kind[:40]!r}; known: {kinds}")
    return next((model for model in known if directory.serving(model)), known[0])
