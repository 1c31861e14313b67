"""Whose web pages may talk to this node: its own, and those that the operator names. docs/spec/rpc.md "Limits"

Browsers let every page open a WebSocket anywhere and send simple requests anywhere, and say whose page it is.
"""

from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from aitbc.adapters.http.problems import Problem


def check_origin(connection: HTTPConnection, allowed: Collection[str]) -> None:
    """Refuse a page that is neither the node's own nor allowed; programs send no Origin."""
    origin = connection.headers.get("origin")
    if origin is None or origin in allowed or is_own(origin, connection.headers.get("host", "")):
        return
    raise Problem(
        HTTPStatus.FORBIDDEN,
        "no_browsers",
        f"a page of {origin[:80]} may not talk to this node",
        "open the node's own page, use a program that sends no Origin, or have the operator add it to CORS_ORIGINS",
    )


def is_own(origin: str, host: str) -> bool:
    try:
        place = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(place) and place.lower() == host.lower()
