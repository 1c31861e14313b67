"""The service's HTTP routes. docs/spec/discovery.md"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aitbc import __version__
from aitbc.adapters.http.problems import Problem, read_body
from aitbc.core.peer.records import MAX_RECORD_BYTES, MAX_SAMPLE, RecordRefused, Sample
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.discovery.metrics import exposition
from aitbc.discovery.service import Discovery, listed

Handler = Callable[[Request], Awaitable[Response]]


def discovery_of(request: Request) -> Discovery:
    service = request.app.state.discovery
    assert isinstance(service, Discovery)
    return service


async def publish(request: Request) -> Response:
    """PUT /v1/nodes/{id}"""
    raw = await read_body(request, MAX_RECORD_BYTES)
    row = await discovery_of(request).publish(request.path_params["id"], raw, asker=_asker(request))
    return _json(listed(row))


async def remove(request: Request) -> Response:
    """DELETE /v1/nodes/{id}"""
    raw = await read_body(request, MAX_RECORD_BYTES)
    row = await discovery_of(request).remove(request.path_params["id"], raw, asker=_asker(request))
    return _json({"sequence": row.sequence})


async def sample(request: Request) -> Response:
    """GET /v1/nodes"""
    query = request.query_params
    chain_id, genesis_hash = query.get("chain", ""), query.get("genesis", "")
    if not chain_id or not genesis_hash:
        raise Rejected(Reason.MISSING_FIELD, "give chain and genesis: which network?")
    items = discovery_of(request).sample(
        chain_id, genesis_hash, limit=_limit(query.get("limit", str(MAX_SAMPLE))), asker=_asker(request)
    )
    return _json(Sample(items=items))


async def health(request: Request) -> Response:
    """GET /v1/health"""
    return _json({"status": "ok", "version": __version__, **discovery_of(request).states()})


async def metrics(request: Request) -> Response:
    """GET /v1/metrics"""
    body, media_type = exposition(discovery_of(request))
    return Response(body, media_type=media_type)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_SAMPLE):
        raise Rejected(Reason.OUT_OF_RANGE, f"limit {text[:40]!r} is no number from 1 to {MAX_SAMPLE}")
    return int(text)


def _asker(request: Request) -> str:
    return request.client.host if request.client else ""


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _counted(what: str, handler: Handler) -> Handler:
    """Count what became of a request, by its reason."""

    async def counting(request: Request) -> Response:
        answers = discovery_of(request).answers
        try:
            response = await handler(request)
        except (RecordRefused, Rejected) as refusal:
            answers[what, str(refusal.reason)] += 1
            raise
        except Problem as problem:
            answers[what, problem.code] += 1
            raise
        answers[what, "ok"] += 1
        return response

    return counting


ROUTES = [
    Route("/v1/nodes/{id}", _counted("publish", publish), methods=["PUT"]),
    Route("/v1/nodes/{id}", _counted("remove", remove), methods=["DELETE"]),
    Route("/v1/nodes", _counted("sample", sample), methods=["GET"]),
    Route("/v1/health", health, methods=["GET"]),
    Route("/v1/metrics", metrics, methods=["GET"]),
]
