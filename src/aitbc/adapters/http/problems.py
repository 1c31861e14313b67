"""Errors as RFC 9457 problem details: `code` for programs, `detail` for people, `fix` for what to do."""

import asyncio
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from aitbc.core.types.reasons import Reason, Rejected

FIXES: dict[Reason, str] = {
    Reason.BAD_NONCE: "ask /rpc/account for the next nonce and sign again",
    Reason.NONCE_GAP: "send the transactions before this one first",
    Reason.FEE_TOO_LOW: "ask /rpc/estimateFee and sign again with that fee",
    Reason.FEE_NOT_COVERED: "fund the account, or lower the amount",
    Reason.INSUFFICIENT_BALANCE: "fund the account, or lower the amount",
    Reason.PUBKEY_REQUIRED: "send `pubkey` with the account's first transaction",
    Reason.WRONG_KEY: "sign with the sender's own key",
    Reason.BAD_SIGNATURE: "sign the bytes of docs/spec/transactions.md with this chain's genesis hash",
    Reason.REPLACEMENT_FEE_TOO_LOW: "raise the fee by a tenth to replace the waiting transaction",
    Reason.MEMPOOL_FULL: "try again later or with a higher fee",
    Reason.TOO_BUSY: "try again in a second; nothing is wrong with the request",
    Reason.NODE_STOPPED: "ask another node, or this one when its operator has started it again",
    Reason.IN_BLOCK: "wait for the block, then sign with the next nonce",
    Reason.CANNOT_INCLUDE: "send it to a node that makes blocks",
    Reason.TOO_MANY_PENDING: "wait until some of the sender's transactions are final",
    Reason.NOT_CANONICAL: "leave out fields that equal their defaults (docs/spec/transactions.md)",
    Reason.ATTESTATION_MISSING: "send the hub's signed attestation as `witness`, or ask the hub to attest",
    Reason.REFUND_TOO_EARLY: "wait until the lock's claim_until_ms has passed",
    Reason.UNKNOWN_TYPE: "use one of the transaction types in docs/spec/transactions.md",
    Reason.BAD_ADDRESS: "check the address; it is ait1 and 38 more lower-case characters",
}

PASSING = (Reason.MEMPOOL_FULL, Reason.TOO_BUSY)
"""What may be over in a second."""
NOT_NOW = (*PASSING, Reason.CANNOT_INCLUDE, Reason.NODE_STOPPED)
"""The request may be good; this node does not serve it as it is now."""

BODY_S = 20.0
"""From the headers to the end of the body; the largest one is small."""


class Problem(Exception):
    """An HTTP error that is meant."""

    def __init__(
        self, status: HTTPStatus, code: str, detail: str, fix: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.fix = fix
        self.headers = headers


def problem_body(status: HTTPStatus, code: str, detail: str, fix: str) -> dict[str, Any]:
    return {
        "type": f"urn:aitbc:{code}",
        "title": code.replace("_", " "),
        "status": status.value,
        "detail": detail,
        "code": code,
        "fix": fix,
    }


def problem_response(problem: Problem) -> JSONResponse:
    body = problem_body(problem.status, problem.code, problem.detail, problem.fix)
    return JSONResponse(
        body, status_code=problem.status, media_type="application/problem+json", headers=problem.headers
    )


def problem_of(rejection: Rejected) -> Problem:
    """A rejection as an HTTP error: 503 when the node cannot do it now, else 400."""
    refused_now = rejection.reason in NOT_NOW
    status = HTTPStatus.SERVICE_UNAVAILABLE if refused_now else HTTPStatus.BAD_REQUEST
    fix = FIXES.get(rejection.reason, f"see `{rejection.reason}` in docs/spec/reasons.md")
    headers = {"Retry-After": "1"} if rejection.reason in PASSING else None
    return Problem(status, str(rejection.reason), rejection.message, fix, headers)


async def on_problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return problem_response(error)


async def on_rejection(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Rejected)
    return problem_response(problem_of(error))


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body, refused as soon as it is known to be too long, or when it takes too long."""
    try:
        async with asyncio.timeout(BODY_S):
            return await _read_body(request, limit)
    except TimeoutError:
        raise Problem(
            HTTPStatus.REQUEST_TIMEOUT, "too_slow", f"no whole body in {BODY_S:g} s", "send it at once"
        ) from None


async def _read_body(request: Request, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_large",
                f"the body is longer than {limit} bytes",
                "send less",
            )
        chunks.append(chunk)
    return b"".join(chunks)


async def on_http_error(_request: Request, error: Exception) -> JSONResponse:
    """Unknown paths and wrong methods, which the framework notices."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "_")
    fix = "see /docs for the routes of this server"
    return problem_response(Problem(status, code, str(error.detail), fix, dict(error.headers or {})))


async def on_wrong_parameters(_request: Request, error: Exception) -> JSONResponse:
    """Path and query parameters of the wrong form; FastAPI's RequestValidationError."""
    errors: list[dict[str, Any]] = getattr(error, "errors", list)()
    detail = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in errors)
    fix = "see /docs for what the route takes"
    return problem_response(Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_parameter", detail[:1000], fix))


def bad_parameter(detail: str) -> Problem:
    """What the framework would say of a parameter, for routes that read their own."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, "bad_parameter", detail, "see /docs for what the route takes"
    )


async def on_storage_error(_request: Request, error: Exception) -> JSONResponse:
    """What is on disk cannot be trusted or read; the operator has to act."""
    fix = "the operator sees to the database; if it is damaged, they keep it and restore a copy beside it"
    return problem_response(
        Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "storage_damaged", str(error)[:1000], fix)
    )


async def on_bug(_request: Request, error: Exception) -> JSONResponse:
    """Our own fault: logged in full by the server, told in one line."""
    fix = "report it with the server's log"
    problem = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", type(error).__name__, fix)
    return problem_response(problem)
