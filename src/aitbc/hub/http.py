"""How the hub's routes read bodies, write answers and describe themselves.

Bodies are decoded by msgspec, which names what it refuses; the OpenAPI document is made from the same records when
somebody asks for it, so that it costs nothing at start.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]

_SCHEMA_PLACE = "#/components/schemas/{name}"


class Problem(msgspec.Struct, frozen=True):
    """An error: RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    """Stable; see `aitbc explain CODE`."""
    fix: str
    """What to do, in one line."""


class Route(NamedTuple):
    """One line of a route table."""

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Any
    """Record of the answer, or a tuple of those that it may be; a text names another media type."""
    body: Any = None
    status: int = 200
    refusals: Sequence[int] = ()
    bearer: bool = False
    """Wants a job's token, or the key of the account that pays for it."""
    key: bool = False
    """Wants an account: an API key or a signature."""
    admin: bool = False


def json_answer(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def add_routes(app: FastAPI, routes: Sequence[Route]) -> None:
    for route in routes:
        app.add_api_route(
            route.path,
            route.handler,
            methods=[route.method],
            summary=route.summary,
            description=(route.handler.__doc__ or "").strip(),
            operation_id=route.handler.__name__,
            status_code=route.status,
            response_model=None,
            openapi_extra=None,
        )


def describe(
    app: FastAPI, routes: Sequence[Route], *, title: str, version: str
) -> Callable[[], dict[str, Any]]:
    """A lazy `app.openapi` over the route tables."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(_document(routes, title=title, version=version))
        return made

    return openapi


def _document(routes: Sequence[Route], *, title: str, version: str) -> dict[str, Any]:
    kinds: list[Any] = [Problem]
    kinds += [
        kind for route in routes for kind in (route.body, *_answers(route)) if not isinstance(kind, str)
    ]
    kinds = [kind for index, kind in enumerate(kinds) if kind is not None and kind not in kinds[:index]]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_SCHEMA_PLACE)
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "job_token": {"type": "http", "scheme": "bearer"},
                "api_key": {"type": "http", "scheme": "bearer"},
                "admin_token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _answers(route: Route) -> tuple[Any, ...]:
    return route.answer if isinstance(route.answer, tuple) else (route.answer,)


def _operation(route: Route, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    refusals = {str(status): _refusal(schema_of) for status in route.refusals}
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "description": (route.handler.__doc__ or "").strip(),
        "responses": {str(route.status): _success(route.answer, schema_of), **refusals},
    }
    names = re.findall(r"\{(\w+)", route.path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if route.body is not None:
        content = {"application/json": {"schema": schema_of[route.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    wanted = {"job_token": route.bearer, "api_key": route.key or route.bearer, "admin_token": route.admin}
    if any(wanted.values()):
        operation["security"] = [{name: []} for name, is_wanted in wanted.items() if is_wanted]
    return operation


def _success(answer: Any, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"description": "ok", "content": {answer: {"schema": {"type": "string"}}}}
    schema = (
        {"oneOf": [schema_of[each] for each in answer]} if isinstance(answer, tuple) else schema_of[answer]
    )
    return {"description": "ok", "content": {"application/json": {"schema": schema}}}


def _refusal(schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": schema_of[Problem]}}
    return {"description": "refused", "content": content}
