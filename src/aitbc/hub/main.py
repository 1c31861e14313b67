"""Start a hub: the web application around it, and the process that serves it until a signal."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Lifespan
from starlette.websockets import WebSocket

from aitbc import __version__
from aitbc.adapters import loop
from aitbc.adapters.http.problems import Problem, on_bug, on_http_error, on_problem, on_rejection
from aitbc.adapters.http.serving import QuietServer, http_settings, listen, stop_asked
from aitbc.client.node import AsyncNodeClient
from aitbc.core.jobs import link
from aitbc.core.jobs.reasons import Refused
from aitbc.core.types.reasons import Rejected
from aitbc.hub.chain import Chain
from aitbc.hub.config import HubConfig
from aitbc.hub.gateway.answers import RECEIPT_HEADER, REQUEST_ID_HEADER
from aitbc.hub.http import add_routes, describe
from aitbc.hub.hub import Hub
from aitbc.hub.link import MAX_FRAME_BYTES, serve_link
from aitbc.hub.measured import Measured
from aitbc.hub.problems import on_refusal
from aitbc.hub.routes import ROUTES

TITLE = "AITBC hub"
STOP_S = 2
"""Open connections have this long to end after a signal; jobs go on with the next start."""


def create_app(config: HubConfig, chain: Chain | None = None) -> FastAPI:
    """The hub as an ASGI application that starts and stops with its lifespan."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        hub = Hub(config, chain or AsyncNodeClient(config.rpc_url))
        await hub.start()
        app.state.hub = hub
        yield
        await hub.stop()

    return _application(config, lifespan)


def run(config: HubConfig) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code.

    Raises OSError when the port or the folder cannot be used, ClientError when the node cannot be reached,
    StorageError when the database is not this hub's.
    """
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    app = _application(config, None)
    server = QuietServer(
        http_settings(
            app,
            lifespan="off",
            ws="websockets-sansio",
            ws_max_size=MAX_FRAME_BYTES,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=STOP_S,
        )
    )
    with listen(config.bind_host, config.bind_port) as listener:
        loop.run(_serve(app, server, listener, config))
    return 0


async def _serve(app: FastAPI, server: QuietServer, listener: socket.socket, config: HubConfig) -> None:
    """The hub is up before the first request comes in, and down after the last."""
    stopping = stop_asked()
    hub = Hub(config, AsyncNodeClient(config.rpc_url))
    await hub.start()
    app.state.hub = hub
    page = asyncio.create_task(server.serve(sockets=[listener]))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait([page, stop], return_when=asyncio.FIRST_COMPLETED)
    await hub.close_streams()
    server.should_exit = True
    await page
    await hub.stop()


def _application(config: HubConfig, lifespan: Lifespan[FastAPI] | None) -> FastAPI:
    app = FastAPI(
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
        title=TITLE,
        version=__version__,
        lifespan=lifespan,
    )
    add_routes(app, ROUTES)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=[RECEIPT_HEADER, REQUEST_ID_HEADER, "Retry-After"],
        )
    app.add_middleware(Measured)
    app.router.add_websocket_route(link.PATH, _link)
    app.add_exception_handler(Refused, on_refusal)
    app.add_exception_handler(Rejected, on_rejection)
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_bug)
    app.openapi = describe(app, ROUTES, title=TITLE, version=__version__)  # type: ignore[method-assign]
    return app


async def _link(websocket: WebSocket) -> None:
    await serve_link(websocket.app.state.hub, websocket)
