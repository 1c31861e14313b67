"""How a route gets at the node."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import HTTPConnection
from starlette.responses import Response

from aitbc.node.service import NodeService

Json = dict[str, Any]


def service_of(connection: HTTPConnection) -> NodeService:
    service = connection.app.state.service
    assert isinstance(service, NodeService)
    return service


async def built_beside(
    line: Callable[[Callable[[], bytes]], Awaitable[bytes]], work: Callable[[], Json]
) -> Response:
    """An answer that may be long: read, and written as JSON, beside the loop. `line`: one of the runtime's."""
    return Response(await line(lambda: msgspec.json.encode(work())), media_type="application/json")


def _written_out(schema: Any, parts: Json) -> Any:
    """With every record in its place: a request's body is shown in one piece."""
    if isinstance(schema, list):
        return [_written_out(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _written_out(parts[schema["$ref"]], parts)
    return {name: _written_out(value, parts) for name, value in schema.items()}


def body_of(kind: Any) -> Json:
    """What a route that reads its own body says about it in the OpenAPI document."""
    _, components = msgspec.json.schema_components([kind], ref_template="{name}")
    schema = _written_out(components[kind.__name__], components)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
