"""Serve an ASGI application on a loop that its program owns: sockets bound first, signals left alone."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from aitbc.adapters.http.protocol import BoundedProtocol


class QuietServer(uvicorn.Server):
    """Leaves signals to the program, which has more to end than a server."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_settings(app: Any, **settings: Any) -> uvicorn.Config:
    """How every program of ours serves HTTP: bounded connections and headers, our own log, no access log."""
    return uvicorn.Config(app, http=BoundedProtocol, log_config=None, access_log=False, **settings)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises OSError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def stop_asked() -> asyncio.Event:
    """Set when the process gets SIGINT or SIGTERM. Call it on the running loop."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    return stopping
