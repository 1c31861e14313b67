"""Jobs: start one on its lock, follow it, stop it, fetch the result and the draws behind it."""

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from aitbc.adapters.http.problems import read_body
from aitbc.core.codec.canonical import convert, plain_json
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.jobs.draw import Candidate, candidates_hash
from aitbc.core.jobs.lifecycle import FINAL_STATES, Event, State, advance
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.splitting import ParentReceipt
from aitbc.core.types.receipts import Attestation, HexHash, ReceiptCore, ReceiptDetails
from aitbc.hub.accounts.service import KEY_PREFIX
from aitbc.hub.gateway.work import Asked, begin
from aitbc.hub.gather import WhyWaiting, gather, why_waiting
from aitbc.hub.http import Route, json_answer
from aitbc.hub.hub import Hub
from aitbc.hub.parts import Job
from aitbc.hub.quotes import token_hash
from aitbc.hub.records import AttemptRecord, JobRecord

WAITING_POLL_S = 0.5
"""How often a stream looks whether its job has left the disk's queue."""
KEEP_ALIVE_S = 10
"""A comment on a silent event stream, so that proxies and clients know that it lives."""

_DELIVERED = (State.DELIVERED, State.SETTLED)


class JobStart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    job_id: str
    lock: HexHash
    """Transaction id of the JOB_LOCK."""


class JobSubmit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job for an account; without a model the hub takes one of the kind that somebody serves."""

    kind: str
    request: dict[str, Any]
    model: str = ""


class JobStarted(msgspec.Struct, frozen=True):
    job_id: str
    state: str


class JobView(msgspec.Struct, frozen=True):
    job_id: str
    state: str
    reason: str
    message: str
    progress: tuple[int, int]
    """(done, total) of the running attempt."""
    attempts: int
    lock: str
    receipt_id: str
    claim_tx: str
    deliver_by_ms: int
    claim_until_ms: int


class ResultView(msgspec.Struct, frozen=True):
    job_id: str
    media_type: str
    data_base64: str
    details: ReceiptDetails
    core: ReceiptCore
    receipt_id: str
    provider_sig: str
    provider_pubkey: str
    attestation: Attestation
    attestation_sig: str
    hub_pubkey: str
    claim_tx: str | None


class PartView(msgspec.Struct, frozen=True):
    """A part that was delivered."""

    part: int
    media_type: str
    data_base64: str
    details: ReceiptDetails
    core: ReceiptCore
    receipt_id: str
    provider_sig: str
    provider_pubkey: str
    attestation: Attestation
    attestation_sig: str
    claim_tx: str | None


class SplitResultView(msgspec.Struct, frozen=True):
    """What was delivered of a split job, in order, and one receipt for the whole."""

    job_id: str
    parts: list[PartView]
    parent: ParentReceipt
    parent_sig: str
    hub_pubkey: str


class DrawView(msgspec.Struct, frozen=True):
    """One draw: everything that `core.jobs.draw` needs to repeat it."""

    attempt: int
    part: int
    ticket: str
    randomness: str
    """Hash of the block that holds the lock."""
    candidates_hash: str
    candidates: list[Candidate]
    winner: str
    reason: str
    """Why this attempt failed; empty if it did not."""


class DrawList(msgspec.Struct, frozen=True):
    job_id: str
    draws: list[DrawView]


async def start_job(request: Request) -> Response:
    """Begin a quoted job on its lock, or, with `kind` and `request`, a job that an account pays.

    Waits some seconds for a lock to become final. Sending the same again is harmless: for an account's job with the
    same Idempotency-Key.
    """
    hub: Hub = request.app.state.hub
    body = await read_body(request, hub.config.max_body_bytes)
    value = plain_json(body)
    if isinstance(value, dict) and "kind" in value:
        return await _submit(hub, request, convert(value, JobSubmit), body)
    wanted = convert(value, JobStart)
    await _own_job(hub, request, wanted.job_id)
    state = await hub.jobs.start(wanted.job_id, wanted.lock)
    return json_answer(JobStarted(wanted.job_id, state), 202)


async def _submit(hub: Hub, request: Request, wanted: JobSubmit, body: bytes) -> Response:
    payer = await hub.accounts.payer(request, body)
    asked = Asked(wanted.kind, wanted.model, wanted.request)
    (work,) = await begin(hub, request, payer, [asked], body=body, route="/v1/jobs")
    await work.quote()
    record = await hub.db(hub.store.job, work.job_id)
    assert record is not None, "a job that has begun is on disk"
    return json_answer(JobStarted(work.job_id, record.state), 202)


async def why_job_waits(request: Request) -> Response:
    """Why a job is not running yet: which providers there are, and what keeps each from it."""
    hub: Hub = request.app.state.hub
    record = await _own_job(hub, request, request.path_params["job_id"])
    return json_answer(await why_waiting(hub, record))


async def get_job(request: Request) -> Response:
    """Where the job is now."""
    hub: Hub = request.app.state.hub
    record = await _own_job(hub, request, request.path_params["job_id"])
    return json_answer(await _job_view(hub, record))


async def job_events(request: Request) -> Response:
    """Server-sent events from the start of the job to its end: states, progress, text."""
    hub: Hub = request.app.state.hub
    record = await _own_job(hub, request, request.path_params["job_id"])
    if hub.followers >= hub.config.max_followers:
        raise Refused(JobReason.TOO_MANY_FOLLOWERS, f"{hub.followers} streams are open")
    job = hub.jobs.live(record.quote.job_id)
    events = _live_events(hub, job) if job else _told_events(hub, record)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, headers=headers, media_type="text/event-stream")


async def job_result(request: Request) -> Response:
    """The output with its receipt and attestation; everything `aitbc verify` needs but the claim's proof."""
    hub: Hub = request.app.state.hub
    record = await _own_job(hub, request, request.path_params["job_id"])
    job_id = record.quote.job_id
    if record.quote.parts:
        return await _split_result(hub, record)
    entry = await hub.db(hub.store.receipt_of_job, job_id)
    if entry is None:
        why = f": {record.reason}: {record.message}" if record.reason else ""
        raise Refused(JobReason.NOT_DELIVERED, f"the job is {record.state}{why}"[:500])
    data = await hub.db(hub.store.result_data, job_id)
    assert data is not None, "a receipt is stored with its result"
    return json_answer(
        ResultView(
            job_id=job_id,
            media_type=entry.delivery.media_type,
            data_base64=base64.b64encode(data).decode(),
            details=entry.delivery.details,
            core=entry.delivery.core,
            receipt_id=entry.receipt_id,
            provider_sig=entry.delivery.sig,
            provider_pubkey=entry.provider_pubkey,
            attestation=entry.signed.attestation,
            attestation_sig=entry.signed.sig,
            hub_pubkey=key_to_text(hub.signer.auth_key),
            claim_tx=entry.claim_tx or None,
        )
    )


async def _split_result(hub: Hub, record: JobRecord) -> Response:
    """Parts that are not there yet are missing; what is there is paid by part."""
    found = await gather(hub, record)
    if found is None:
        why = f": {record.reason}: {record.message}" if record.reason else ""
        raise Refused(JobReason.NOT_DELIVERED, f"the job is {record.state}{why}"[:500])
    parts = []
    for entry in found.entries:
        data = await hub.db(hub.store.result_data, entry.job_id, entry.part)
        assert data is not None, "a receipt is stored with its result"
        parts.append(
            PartView(
                part=entry.part,
                media_type=entry.delivery.media_type,
                data_base64=base64.b64encode(data).decode(),
                details=entry.delivery.details,
                core=entry.delivery.core,
                receipt_id=entry.receipt_id,
                provider_sig=entry.delivery.sig,
                provider_pubkey=entry.provider_pubkey,
                attestation=entry.signed.attestation,
                attestation_sig=entry.signed.sig,
                claim_tx=entry.claim_tx or None,
            )
        )
    pubkey = key_to_text(hub.signer.auth_key)
    return json_answer(SplitResultView(record.quote.job_id, parts, found.parent, found.sig, pubkey))


async def cancel_job(request: Request) -> Response:
    """Stop a job of which nothing was delivered; a REFUND returns the escrow after the lock's claim_until."""
    hub: Hub = request.app.state.hub
    record = await _own_job(hub, request, request.path_params["job_id"])
    job_id, state = record.quote.job_id, record.state
    if state == State.CANCELED:
        return json_answer(JobStarted(job_id, state), 202)
    if advance(state, Event.CANCEL_ASKED) is None or job_id in hub.jobs.starting:
        raise Refused(
            JobReason.JOB_OVER, f"the job is {'starting' if job_id in hub.jobs.starting else state}"
        )
    job = hub.jobs.live(job_id)
    if state == State.QUOTED:
        await hub.db(hub.store.cancel_quote, job_id, at_ms=hub.now_ms())
        hub.quote_taken(job_id)
        return json_answer(JobStarted(job_id, State.CANCELED), 202)
    if job is None:
        return json_answer(JobStarted(job_id, await _cancel_elsewhere(hub, job_id, state)), 202)
    hub.jobs.cancel(job)
    return json_answer(JobStarted(job_id, job.state), 202)


async def job_candidates(request: Request) -> Response:
    """The tables behind `candidates_hash`: who stood in each draw, and what decided it."""
    hub: Hub = request.app.state.hub
    record = await _own_job(hub, request, request.path_params["job_id"])
    attempts = await hub.db(hub.store.attempts, record.quote.job_id)
    return json_answer(DrawList(record.quote.job_id, [_draw_view(attempt) for attempt in attempts]))


# helpers


async def _own_job(hub: Hub, request: Request, job_id: str) -> JobRecord:
    """The job, if the caller shows its token, or is the account that pays for it."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    record = await hub.db(hub.store.job, job_id[:128])
    if record is None:
        raise Refused(JobReason.UNKNOWN_JOB, f"there is no job {job_id[:80]!r}, or it was long ago")
    shown = token_hash(token.strip()) if scheme.lower() == "bearer" else ""
    if hmac.compare_digest(shown, record.quote.token_hash):
        return record
    by_account = "aitbc-signature" in request.headers or token.startswith(KEY_PREFIX)
    if not by_account or (await hub.accounts.payer(request, b"")).account != (record.quote.account or None):
        raise Refused(JobReason.BAD_TOKEN, "the token is not that of this job")
    return record


async def _job_view(hub: Hub, record: JobRecord) -> JobView:
    entry = await hub.db(hub.store.receipt_of_job, record.quote.job_id)
    job = hub.jobs.live(record.quote.job_id)
    return JobView(
        job_id=record.quote.job_id,
        state=record.state,
        reason=record.reason,
        message=record.message,
        progress=job.progress if job else (0, 0),
        attempts=record.attempts,
        lock=record.lock,
        receipt_id=entry.receipt_id if entry else "",
        claim_tx=entry.claim_tx if entry else "",
        deliver_by_ms=record.quote.deliver_by_ms,
        claim_until_ms=record.quote.claim_until_ms,
    )


async def _cancel_elsewhere(hub: Hub, job_id: str, state: State) -> State:
    """A job that waits on disk; one that runs in another process is stopped there."""
    if not await hub.db(hub.store.cancel_waiting, job_id, at_ms=hub.now_ms()):
        raise Refused(
            JobReason.JOB_OVER, f"the job is {state} in another process of this hub; ask again there"
        )
    hub.open_jobs -= 1
    return State.CANCELED


async def _live_events(hub: Hub, job: Job) -> AsyncIterator[bytes]:
    hub.followers += 1
    job.is_read = True
    try:
        async for event in job.log.follow(idle_s=KEEP_ALIVE_S):
            yield b"data: " + event + b"\n\n" if event is not None else b": still here\n\n"
    finally:
        hub.followers -= 1


async def _told_events(hub: Hub, record: JobRecord) -> AsyncIterator[bytes]:
    """A job that is not in memory: its states from the disk, and the whole text of a chat at once. One that waits there
    is followed from its first part's turn on."""
    told, job_id, state = 0, record.quote.job_id, record.state
    while True:
        events = await hub.db(hub.store.events, job_id)
        for event in events[told:]:
            if event["state"] in _DELIVERED and record.quote.kind == "chat":
                data = await hub.db(hub.store.result_data, job_id)
                if data is not None:
                    yield b"data: " + msgspec.json.encode({"text": data.decode()}) + b"\n\n"
            yield b"data: " + msgspec.json.encode(event) + b"\n\n"
            if event["state"] in _DELIVERED or event["state"] in FINAL_STATES:
                return
        told = len(events)
        if state == State.QUOTED:
            return
        job = hub.jobs.live(job_id)
        if job is not None:
            async for live in _live_events(hub, job):
                yield live
            return
        await asyncio.sleep(WAITING_POLL_S)
        yield b": still here\n\n"


def _draw_view(attempt: AttemptRecord) -> DrawView:
    return DrawView(
        attempt=attempt.offer.attempt,
        part=attempt.part,
        ticket=attempt.offer.ticket,
        randomness=attempt.randomness.hex(),
        candidates_hash=candidates_hash(attempt.table),
        candidates=attempt.table,
        winner=attempt.offer.provider,
        reason=attempt.reason,
    )


_JOB = "/v1/jobs/{job_id}"

ROUTES = [
    Route(
        "POST",
        "/v1/jobs",
        start_job,
        "Begin a quoted job on its lock, or a job of an account",
        JobStarted,
        body=JobStart,
        status=202,
        refusals=(400, 401, 404, 409, 410, 413, 503),
        bearer=True,
    ),
    Route("GET", _JOB, get_job, "Where a job is", JobView, refusals=(401, 404), bearer=True),
    Route(
        "GET",
        _JOB + "/events",
        job_events,
        "Follow a job",
        "text/event-stream",
        refusals=(401, 404, 503),
        bearer=True,
    ),
    Route(
        "GET",
        _JOB + "/result",
        job_result,
        "The output and its receipt",
        (ResultView, SplitResultView),
        refusals=(401, 404, 409),
        bearer=True,
    ),
    Route(
        "POST",
        _JOB + "/cancel",
        cancel_job,
        "Stop a job",
        JobStarted,
        status=202,
        refusals=(401, 404, 409),
        bearer=True,
    ),
    Route(
        "GET",
        _JOB + "/why",
        why_job_waits,
        "Why a job waits",
        WhyWaiting,
        refusals=(401, 404),
        bearer=True,
    ),
    Route(
        "GET",
        _JOB + "/candidates",
        job_candidates,
        "The draws of a job",
        DrawList,
        refusals=(401, 404),
        bearer=True,
    ),
]
