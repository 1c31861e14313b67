"""Put a discovery service together and run it until it is told to stop."""

import asyncio
import os
import socket
import time

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from aitbc.adapters import loop
from aitbc.adapters.http.problems import (
    Problem,
    on_bug,
    on_problem,
    on_rejection,
    on_storage_error,
)
from aitbc.adapters.http.serving import QuietServer, http_settings, listen, stop_asked
from aitbc.adapters.keystore.folders import private_folder
from aitbc.core.peer.records import RecordRefused
from aitbc.core.types.reasons import Rejected
from aitbc.discovery.config import DiscoveryConfig
from aitbc.discovery.probe import Probe, call_back
from aitbc.discovery.problems import on_refusal, on_unknown_route
from aitbc.discovery.routes import ROUTES
from aitbc.discovery.service import Discovery
from aitbc.discovery.store import FILE, RowStore
from aitbc.ports import StorageError

STOP_S = 2
"""Open requests have this long to end after a signal."""


class SystemClock:
    """Wall time."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


def open_discovery(config: DiscoveryConfig, *, probe: Probe = call_back) -> Discovery:
    """Open the folder; raises StorageError with what to do."""
    try:
        private_folder(config.data)
    except OSError as error:
        raise StorageError(
            f"{config.data} cannot be used ({error.strerror}); choose another folder"
        ) from None
    return Discovery(
        RowStore(config.data / FILE),
        clock=SystemClock(),
        probe=probe,
        secret=os.urandom(32),
        allow_private=config.allow_private,
    )


def application(service: Discovery) -> Starlette:
    app = Starlette(
        routes=ROUTES,
        exception_handlers={
            RecordRefused: on_refusal,
            Rejected: on_rejection,
            Problem: on_problem,
            HTTPException: on_unknown_route,
            StorageError: on_storage_error,
            Exception: on_bug,
        },
    )
    app.state.discovery = service
    return app


def run(config: DiscoveryConfig, service: Discovery) -> int:
    """Serve until SIGINT or SIGTERM; raises OSError when the port cannot be used."""
    with listen(config.host, config.port) as listener:
        return loop.run(_serve(service, listener))


async def _serve(service: Discovery, listener: socket.socket) -> int:
    stopping = stop_asked()
    service.start()
    server = QuietServer(
        http_settings(application(service), lifespan="off", timeout_graceful_shutdown=STOP_S)
    )
    page = asyncio.create_task(server.serve(sockets=[listener]))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait([page, stop], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await page
    await service.stop()
    return 0 if stopping.is_set() else 1
