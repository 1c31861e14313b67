"""Refusals in OpenAI's shape, for the routes that are OpenAI's; elsewhere errors are problem details."""

import functools
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitbc.adapters.http.problems import Problem, problem_of
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.types.reasons import Rejected
from aitbc.hub.gateway.terms import UNPAID, payment_terms
from aitbc.hub.problems import problem_of_refusal

log = logging.getLogger("aitbc.hub")

Handler = Callable[[Request], Awaitable[Response]]

CLIENT_GONE = 499
"""nginx's status for a client that hung up; nobody reads it but the log."""

_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.PAYMENT_REQUIRED: "insufficient_quota",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}

_CODES = {
    JobReason.UNKNOWN_MODEL: "model_not_found",
    JobReason.PAYMENT_REQUIRED: "insufficient_quota",
    JobReason.RATE_LIMITED: "rate_limit_exceeded",
    JobReason.CONTENT_POLICY: "content_policy_violation",
}
"""Where OpenAI has a word of its own that clients know."""

_ENDS = {
    JobReason.BAD_REQUEST: HTTPStatus.BAD_REQUEST,
    JobReason.NO_PROVIDER: HTTPStatus.SERVICE_UNAVAILABLE,
    JobReason.OUT_OF_MEMORY: HTTPStatus.SERVICE_UNAVAILABLE,
    JobReason.DEADLINE_MISSED: HTTPStatus.GATEWAY_TIMEOUT,
    JobReason.HUB_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class ClientGone(Exception):
    """The client has hung up; its jobs were told to stop."""


class JobEnded(Exception):
    """A job of this request ended without a result; nothing is paid for it."""

    def __init__(self, job_id: str, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.job_id = job_id
        self.reason = reason
        self.message = message

    @property
    def problem(self) -> Problem:
        known = self.reason in JobReason.__members__.values()
        status = (
            _ENDS.get(JobReason(self.reason), HTTPStatus.BAD_GATEWAY) if known else HTTPStatus.BAD_GATEWAY
        )
        detail = f"job {self.job_id} came to nothing and costs nothing: {self.message or self.reason}"
        return Problem(status, self.reason or "failed", detail, "try again; see GET /v1/jobs/{job_id}")


def in_openai_shape(handler: Handler) -> Handler:
    """Whatever a handler refuses, as `{"error": {…}}`."""

    @functools.wraps(handler)
    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientGone:
            return Response(status_code=CLIENT_GONE)
        except (Refused, Rejected, Problem, JobEnded) as error:
            return openai_error(request, error)
        except Exception as error:
            log.exception("a bug of the hub in %s", request.url.path)
            problem = Problem(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "internal_error",
                type(error).__name__,
                "report it to the operator",
            )
            return openai_error(request, problem)

    return wrapped


def openai_error(request: Request, error: Exception) -> Response:
    problem = problem_of_any(error)
    body = {"error": error_body(error, problem)}
    if isinstance(error, Refused) and error.reason in UNPAID:
        body["error"]["terms"] = payment_terms(request.app.state.hub)
    headers = dict(problem.headers or {})
    return Response(msgspec.json.encode(body), problem.status.value, headers, media_type="application/json")


def problem_of_any(error: Exception) -> Problem:
    match error:
        case Refused():
            return problem_of_refusal(error)
        case Rejected():
            return problem_of(error)
        case JobEnded():
            return error.problem
        case Problem():
            return error
        case _:
            raise error


def error_body(error: Exception, problem: Problem) -> dict[str, object]:
    kind = _TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    code = _CODES.get(error.reason, problem.code) if isinstance(error, Refused) else problem.code
    return {
        "message": problem.detail,
        "type": kind,
        "param": getattr(error, "param", None),
        "code": str(code),
        "fix": problem.fix,
    }
