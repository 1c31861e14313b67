"""Jobs on behalf of an account: begin them, listen to them, hang up. docs/spec/gateway.md"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from starlette.requests import Request

from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs.lifecycle import FINAL_STATES, State
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.hub.accounts.records import Payer
from aitbc.hub.gateway.errors import ClientGone, JobEnded
from aitbc.hub.gateway.policy import check_policies
from aitbc.hub.prepaid import start_prepaid
from aitbc.hub.quotes import QuoteRequest, make_quote
from aitbc.hub.records import Quote, ReceiptEntry

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

T = TypeVar("T")
Json = dict[str, Any]

LISTEN_S = 30.0
"""How long to wait for news before looking again."""
APPEAR_S = 5.0
"""A job that another request with the same Idempotency-Key is beginning is there by then."""
APPEAR_PAUSE_S = 0.05
MAX_IDEMPOTENCY_KEY = 255

_DELIVERED = frozenset({State.DELIVERED, State.SETTLED})


class Asked(NamedTuple):
    """One job of a request."""

    kind: str
    model: str
    """Empty: one that somebody serves."""
    fields: dict[str, Any]


class Delivered(NamedTuple):
    entry: ReceiptEntry
    data: bytes


class Work:
    """One job, begun by this request or by an earlier one with the same Idempotency-Key."""

    def __init__(self, hub: "Hub", job_id: str, quote: Quote | None = None) -> None:
        self._hub = hub
        self.job_id = job_id
        self._quote = quote
        self._is_ours = quote is not None

    async def quote(self) -> Quote:
        """Waits for a job that another request is just beginning."""
        deadline = time.monotonic() + APPEAR_S
        while self._quote is None:
            record = await self._hub.db(self._hub.store.job, self.job_id)
            if record is not None:
                self._quote = record.quote
            elif time.monotonic() > deadline:
                raise Refused(JobReason.UNKNOWN_JOB, f"job {self.job_id} did not begin, or was long ago")
            else:
                await asyncio.sleep(APPEAR_PAUSE_S)
        return self._quote

    async def texts(self) -> AsyncIterator[str]:
        """The answer's text as it is made; raises JobEnded when nothing comes of it."""
        quote = await self.quote()
        told = False
        async for event in self._events(is_read=True):
            if "text" in event:
                told = True
                yield event["text"]
        if not told and quote.kind == "chat":
            yield (await self.delivered()).data.decode()

    async def delivered(self) -> Delivered:
        """The receipt and the bytes, once they are there and what they cost is settled."""
        await self.quote()
        state = ""
        async for event in self._events():
            state = event.get("state", state)
        hub = self._hub
        entry = await self.receipt()
        data = await hub.db(hub.store.result_data, self.job_id)
        assert data is not None, "a receipt is stored with its result"
        return Delivered(entry, data)

    async def receipt(self) -> ReceiptEntry:
        """Of a job whose events are over; raises JobEnded when there is none."""
        hub = self._hub
        await hub.accounts.until_settled(self.job_id)
        job = hub.jobs.live(self.job_id)
        entry = job.receipt if job and job.receipt else await hub.db(hub.store.receipt_of_job, self.job_id)
        if entry is None:
            record = await hub.db(hub.store.job, self.job_id)
            reason, message = (record.reason, record.message) if record else ("unknown_job", "")
            if job is not None and job.reason:
                reason, message = job.reason, job.message
            raise JobEnded(self.job_id, reason or (record.state if record else ""), message)
        return entry

    def hang_up(self) -> None:
        """Nobody reads any more: the engine stops, and of a text the part that was shown is billed."""
        job = self._hub.jobs.live(self.job_id)
        if job is not None and self._is_ours:
            self._hub.jobs.hang_up(job)

    async def _events(self, *, is_read: bool = False) -> AsyncIterator[Json]:
        """To the end of the job, from its beginning where that is in memory."""
        hub = self._hub
        while True:
            job = hub.jobs.live(self.job_id)
            if job is None:
                record = await hub.db(hub.store.job, self.job_id)
                if record is None or record.state in FINAL_STATES or record.state in _DELIVERED:
                    return
                await asyncio.sleep(APPEAR_PAUSE_S)  # between its place on disk and its place in memory
                continue
            job.is_read = job.is_read or is_read
            async for event in job.log.follow(idle_s=LISTEN_S):
                if event is not None:
                    yield msgspec.json.decode(event)
            return


async def begin(
    hub: "Hub", request: Request, payer: Payer, asked: Sequence[Asked], *, body: bytes, route: str
) -> list[Work]:
    """Reserve and start every job of a request, or none; the same Idempotency-Key again finds the same jobs."""
    quotes = [_quote(hub, payer, one) for one in asked]
    name = _idempotency_key(request)
    if name:
        earlier = await _earlier(hub, payer, name, route, body, quotes)
        if earlier is not None:
            return earlier
    begun: list[Work] = []
    try:
        taken = [_admit(hub, payer, quote) for quote in quotes]
        for quote, tokens in zip(quotes, taken, strict=True):
            begun.append(await _start(hub, payer, quote, tokens=tokens, route=route))
    except BaseException:
        for work in begun:
            work.hang_up()
        if name:
            await hub.accounts.db(hub.accounts.store.forget_key, payer.account, name)
        raise
    return begun


async def or_hang_up(request: Request, works: Sequence[Work], wanted: Awaitable[T]) -> T:
    """What is wanted, unless the client goes away first: then its jobs are told to stop."""
    answer = asyncio.ensure_future(wanted)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise ClientGone
    finally:
        for work in works:
            work.hang_up()  # means nothing to a job that has ended
        for task in (answer, gone):
            task.cancel()
        await asyncio.gather(answer, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    """The body was read, so the next thing that comes is the end."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _quote(hub: "Hub", payer: Payer, asked: Asked) -> Quote:
    if payer.key is not None and payer.key.models and asked.model and asked.model not in payer.key.models:
        raise Refused(JobReason.MODEL_NOT_ALLOWED, f"this key may ask for: {', '.join(payer.key.models)}")
    wanted = QuoteRequest(client=payer.account, kind=asked.kind, request=asked.fields, model=asked.model)
    quote, _ = make_quote(
        wanted,
        hub.directory,
        now_ms=hub.now_ms(),
        quote_s=hub.config.quote_s,
        deliver_s=hub.config.deliver_s,
        claim_s=hub.config.claim_s,
        split=False,  # a seat in a session pays one part
    )
    check_policies(hub.policies, quote.kind, quote.model, quote.request)
    return quote


def _admit(hub: "Hub", payer: Payer, quote: Quote) -> int:
    return hub.accounts.admit(payer, model=quote.model, tokens=most_tokens(quote))


def most_tokens(quote: Quote) -> int:
    """What a request may come to: no token is shorter than a byte. What it did not come to is given back."""
    asked = quote.request
    texts = asked["input"] if "input" in asked else [asked["prompt"]] if quote.kind == "chat" else []
    return sum([len(text.encode()) for text in texts]) + int(asked.get("max_tokens", 0))


async def _start(hub: "Hub", payer: Payer, quote: Quote, *, tokens: int, route: str) -> Work:
    quote = await start_prepaid(hub, payer, quote, tokens=tokens, route=route)
    return Work(hub, quote.job_id, quote)


def _idempotency_key(request: Request) -> str:
    name = request.headers.get("idempotency-key", "")
    if len(name) > MAX_IDEMPOTENCY_KEY:
        raise Refused(JobReason.BAD_REQUEST, f"Idempotency-Key has at most {MAX_IDEMPOTENCY_KEY} characters")
    return name


async def _earlier(
    hub: "Hub", payer: Payer, name: str, route: str, body: bytes, quotes: Sequence[Quote]
) -> list[Work] | None:
    """The jobs of an earlier request with this key; None: this one is the first."""
    jobs, body_hash, now_ms = (
        [quote.job_id for quote in quotes],
        hash_text(route.encode() + body),
        hub.now_ms(),
    )
    known_hash, known = await hub.accounts.db(
        hub.accounts.store.remember,
        payer.account,
        name,
        body_hash=body_hash,
        jobs=jobs,
        now_ms=now_ms,
        expires_ms=now_ms + hub.config.idempotency_s * 1000,
    )
    if known_hash != body_hash:
        raise Refused(JobReason.IDEMPOTENCY_MISMATCH, "this Idempotency-Key was used for another request")
    return None if known == jobs else [Work(hub, job_id) for job_id in known]
