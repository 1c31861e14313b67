"""Errors as RFC 9457 problem details: `code` for programs, `detail` for people, `fix` for what to do."""

import asyncio
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from aitbc.adapters.http.fixes import FIXES
from aitbc.core.types.reasons import Reason, Rejected

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
    fix = FIXES[rejection.reason]
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
