"""What HTTP status each refusal has, and what its receiver can do about it."""

from http import HTTPStatus
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from aitbc.adapters.http.problems import Problem, problem_response
from aitbc.core.peer.records import RecordReason, RecordRefused


class Answer(NamedTuple):
    status: HTTPStatus
    fix: str


_BAD = HTTPStatus.BAD_REQUEST
_FULL = HTTPStatus.SERVICE_UNAVAILABLE

ANSWERS: dict[RecordReason, Answer] = {
    RecordReason.WRONG_ID: Answer(_BAD, "use the record's node_key in the path"),
    RecordReason.RECORD_EXPIRED: Answer(_BAD, "sign a new record; check the node's clock"),
    RecordReason.RECORD_FROM_FUTURE: Answer(_BAD, "set the node's clock: sequence is the time of signing"),
    RecordReason.RECORD_LIVES_TOO_LONG: Answer(_BAD, "let it expire sooner, and publish again before that"),
    RecordReason.BAD_ENDPOINT: Answer(_BAD, "give a numeric address as it is usually written"),
    RecordReason.PRIVATE_ENDPOINT: Answer(
        _BAD, "announce a public address; on a local network start the service with --allow-private"
    ),
    RecordReason.RECORD_FORGED: Answer(
        _BAD, "sign the record's bytes (docs/spec/discovery.md) with its record_key"
    ),
    RecordReason.NOT_OWNER: Answer(
        HTTPStatus.FORBIDDEN, "use the record key that published it, or wait till it is over"
    ),
    RecordReason.STALE_SEQUENCE: Answer(HTTPStatus.CONFLICT, "sign again with a higher sequence"),
    RecordReason.UNKNOWN_NODE: Answer(HTTPStatus.NOT_FOUND, "nothing has to be removed"),
    RecordReason.GROUP_FULL: Answer(
        _FULL, "try another discovery service; a place is free when a node is forgotten"
    ),
    RecordReason.DIRECTORY_FULL: Answer(_FULL, "try again later, or another discovery service"),
    RecordReason.NODE_UNREACHABLE: Answer(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "open the port, start the node, and check address, chain and node key",
    ),
    RecordReason.NOT_VOUCHED: Answer(
        HTTPStatus.UNPROCESSABLE_ENTITY, "publish from the node itself: aitbc node start --announce HOST:PORT"
    ),
    RecordReason.ASKED_TOO_OFTEN: Answer(HTTPStatus.TOO_MANY_REQUESTS, "wait a minute and try again"),
    RecordReason.TOO_MANY_CHECKS: Answer(_FULL, "try again in a minute"),
}
RETRY = {"Retry-After": "60"}
"""Of what may be over in a minute."""


async def on_unknown_route(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "_")
    fix = "see docs/spec/discovery.md for the routes of this service"
    return problem_response(Problem(status, code, str(error.detail), fix, dict(error.headers or {})))


async def on_refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RecordRefused), "registered for it"
    answer = ANSWERS[error.reason]
    later = answer.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    return problem_response(
        Problem(answer.status, error.reason, error.message, answer.fix, RETRY if later else None)
    )
