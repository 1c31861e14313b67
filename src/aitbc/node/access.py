"""Who may use the admin routes: who has the token, and where none is set, this machine on a devnet; never a web page of
somebody else, nor one that has tricked a browser into taking this node for its own site. docs/spec/rpc.md "Admin"

Nothing tells a proxy on this machine from this machine: nginx's plain `proxy_pass` sends a local Host and no forwarding
header. So this machine alone opens only what everybody has the keys of.
"""

import hmac
import ipaddress
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import Scope

from aitbc.adapters.http.problems import Problem
from aitbc.node.config import NodeConfig
from aitbc.ports import StorageError

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
"""A proxy on this machine passes on what strangers ask."""


def check_admin(connection: HTTPConnection, config: NodeConfig, *, devnet: bool) -> None:
    """Raises Problem for who may not."""
    _check_page(connection, config)
    if config.admin_token:
        _check_token(connection, config.admin_token)
    elif not devnet:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "admin_token_unset",
            "this node has no ADMIN_TOKEN, and on this chain its admin routes answer nobody without it",
            "start the node with ADMIN_TOKEN in its environment or admin_token in its file (openssl rand -hex 32"
            " makes one), then send Authorization: Bearer <ADMIN_TOKEN>",
        )
    elif not is_local(connection):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "loopback_only",
            "admin routes of a devnet node without ADMIN_TOKEN answer on loopback only",
            "call from the machine, or start the node with ADMIN_TOKEN and send Authorization: Bearer <ADMIN_TOKEN>",
        )


def _check_token(connection: HTTPConnection, wanted: str) -> None:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), wanted.encode()):
        return
    raise Problem(
        HTTPStatus.UNAUTHORIZED,
        "bad_token",
        "the token is not this node's ADMIN_TOKEN"
        if scheme
        else "admin routes of this node ask for its ADMIN_TOKEN",
        "send Authorization: Bearer <ADMIN_TOKEN>",
        {"WWW-Authenticate": "Bearer"},
    )


def is_local(connection: HTTPConnection) -> bool:
    """Asked from this machine, under a name of this machine, by nobody else's order."""
    client = connection.client.host if connection.client else ""
    return (
        is_loopback(client)
        and is_loopback(_host_of(connection))
        and not any(name in connection.headers for name in FORWARDED)
    )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(config: NodeConfig, *, devnet: bool) -> None:
    """Refuse to serve a devnet, whose keys everybody knows, to other machines without a token. Raises StorageError."""
    if devnet and not is_loopback(config.rpc_host) and not config.admin_token:
        raise StorageError(
            f"this is a devnet genesis and RPC would listen on {config.rpc_host}: open to the world, with keys and a"
            " faucet for everybody; bind 127.0.0.1 (RPC_HOST), or set ADMIN_TOKEN if you mean it"
        )


METRICS_PATHS = ("/metrics", "/rpc/metrics", "/health", "/health/live", "/health/ready")


def guarded_ports(config: NodeConfig, guard: Callable[[Scope], None]) -> Callable[[Scope], None]:
    """Each port answers what it is for: METRICS_PORT figures and probes, which are not counted, WS_PORT WebSockets."""
    if config.ws_port is None and config.metrics_port is None:
        return guard

    def by_port(scope: Scope) -> None:
        server: Any = scope.get("server")
        port = server[1] if server else None
        if port == config.metrics_port:
            if scope["type"] != "http" or scope["path"] not in METRICS_PATHS:
                raise _other_port(f"port {port} answers {', '.join(METRICS_PATHS)} only", config.rpc_port)
        elif port == config.ws_port and scope["type"] == "http":
            raise _other_port(f"port {port} takes WebSockets only", config.rpc_port)
        else:
            guard(scope)

    return by_port


def _other_port(detail: str, rpc_port: int) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "not_found", detail, f"ask port {rpc_port}")


def _host_of(connection: HTTPConnection) -> str:
    try:
        return urlsplit("//" + connection.headers.get("host", "")).hostname or ""
    except ValueError:
        return ""


def _check_page(connection: HTTPConnection, config: NodeConfig) -> None:
    """Pages of this node's own site under a local name, or of an allowed origin."""
    origin = connection.headers.get("origin")
    if not origin or origin in config.cors_origins:
        return
    try:
        own = urlsplit(origin).netloc.lower() == connection.headers.get("host", "").lower()
    except ValueError:
        own = False
    if not (own and is_local(connection)):
        raise Problem(
            HTTPStatus.FORBIDDEN, "no_browsers", "admin routes do not answer web pages", "use curl or the CLI"
        )
