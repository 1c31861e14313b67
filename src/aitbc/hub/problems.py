"""What HTTP status each of the hub's refusals has, and what its receiver can do about it."""

from http import HTTPStatus
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from aitbc.adapters.http.problems import Problem, problem_body, problem_response
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.hub.gateway.terms import UNPAID, payment_terms


class Answer(NamedTuple):
    status: HTTPStatus
    fix: str


_BUSY = HTTPStatus.SERVICE_UNAVAILABLE
_CONFLICT = HTTPStatus.CONFLICT

ANSWERS: dict[JobReason, Answer] = {
    JobReason.BAD_REQUEST: Answer(HTTPStatus.BAD_REQUEST, "change the field that detail names"),
    JobReason.UNKNOWN_KIND: Answer(HTTPStatus.BAD_REQUEST, "ask for kind chat, image or embedding"),
    JobReason.UNKNOWN_MODEL: Answer(HTTPStatus.NOT_FOUND, "choose one from GET /v1/models"),
    JobReason.NO_PROVIDER: Answer(_BUSY, "start one with: aitbc provider start --hub URL --key NAME"),
    JobReason.RATE_LIMITED: Answer(HTTPStatus.TOO_MANY_REQUESTS, "wait a second and try again"),
    JobReason.TOO_MANY_QUOTES: Answer(_BUSY, "try again in a minute"),
    JobReason.QUEUE_FULL: Answer(_BUSY, "send the same call again soon; the lock stays good"),
    JobReason.TOO_MANY_FOLLOWERS: Answer(_BUSY, "poll GET /v1/jobs/{job_id} instead"),
    JobReason.CHAIN_UNREACHABLE: Answer(_BUSY, "send the same call again soon"),
    JobReason.INFEASIBLE: Answer(_CONFLICT, "ask for what the message says would fit"),
    JobReason.UNKNOWN_JOB: Answer(HTTPStatus.NOT_FOUND, "ask for a quote: POST /v1/quotes"),
    JobReason.BAD_TOKEN: Answer(
        HTTPStatus.UNAUTHORIZED, "send Authorization: Bearer <job_token of the quote>"
    ),
    JobReason.QUOTE_EXPIRED: Answer(HTTPStatus.GONE, "ask for a new quote; refund a lock made for this one"),
    JobReason.LOCK_NOT_FINAL: Answer(_CONFLICT, "send the same call again when the lock is final"),
    JobReason.LOCK_FAILED: Answer(_CONFLICT, "sign the quote's lock again with enough balance"),
    JobReason.LOCK_MISMATCH: Answer(_CONFLICT, "sign exactly the lock of the quote"),
    JobReason.TOO_LATE: Answer(_CONFLICT, "refund the lock after its claim_until_ms: aitbc refund LOCK"),
    JobReason.NOT_DELIVERED: Answer(_CONFLICT, "follow GET /v1/jobs/{job_id}/events until it is delivered"),
    JobReason.JOB_OVER: Answer(_CONFLICT, "ask for a new quote"),
    JobReason.INVALID_API_KEY: Answer(
        HTTPStatus.UNAUTHORIZED, "send Authorization: Bearer <key of this hub>"
    ),
    JobReason.BAD_REQUEST_SIGNATURE: Answer(
        HTTPStatus.UNAUTHORIZED, "sign this request, for this hub and chain, with the account's key, now"
    ),
    JobReason.REPLAYED: Answer(_CONFLICT, "sign every request with a nonce of its own"),
    JobReason.PAYMENT_REQUIRED: Answer(
        HTTPStatus.PAYMENT_REQUIRED, "pay in one of the ways that `terms` names"
    ),
    JobReason.BUDGET_EXCEEDED: Answer(
        HTTPStatus.PAYMENT_REQUIRED, "ask for less, or use a key with a larger budget"
    ),
    JobReason.NO_SESSION: Answer(
        _BUSY, "send the same call again soon, or pay for this job by a lock of its own"
    ),
    JobReason.MODEL_NOT_ALLOWED: Answer(HTTPStatus.FORBIDDEN, "choose a model that this key may ask for"),
    JobReason.IDEMPOTENCY_MISMATCH: Answer(_CONFLICT, "use a new Idempotency-Key for another request"),
    JobReason.CONTENT_POLICY: Answer(HTTPStatus.FORBIDDEN, "ask for something else, or another hub"),
    JobReason.UNSUPPORTED_PARAMETER: Answer(HTTPStatus.BAD_REQUEST, "leave it out, or at its default"),
    JobReason.DEPOSIT_MISMATCH: Answer(
        _CONFLICT, "send a TRANSFER or a session JOB_LOCK to this hub from the account's address"
    ),
    JobReason.UNKNOWN_API_KEY: Answer(HTTPStatus.NOT_FOUND, "see: aitbc hub key list"),
    JobReason.UNKNOWN_RECEIPT: Answer(HTTPStatus.NOT_FOUND, "ask the node: /rpc/receipts/{receipt_id}"),
    JobReason.NOT_ADMIN: Answer(
        HTTPStatus.FORBIDDEN, "send Authorization: Bearer <content of admin.token in the hub's folder>"
    ),
}
"""The refusals that HTTP callers can meet; the others are for providers, or say why a job ended."""


def problem_of_refusal(error: Refused) -> Problem:
    answer = ANSWERS[error.reason]
    headers = {
        HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "1"},
        HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": "1"},
        HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    }.get(answer.status)
    return Problem(answer.status, error.reason, error.message, answer.fix, headers)


async def on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused), "registered for it"
    problem = problem_of_refusal(error)
    if error.reason not in UNPAID:
        return problem_response(problem)
    body = problem_body(problem.status, problem.code, problem.detail, problem.fix)
    body["terms"] = payment_terms(request.app.state.hub)
    return JSONResponse(body, problem.status, media_type="application/problem+json")
