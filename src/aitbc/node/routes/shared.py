"""How a route gets at the node."""

from starlette.requests import HTTPConnection

from aitbc.node.service import NodeService


def service_of(connection: HTTPConnection) -> NodeService:
    service = connection.app.state.service
    assert isinstance(service, NodeService)
    return service
