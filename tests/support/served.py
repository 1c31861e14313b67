"""An application on a port and a thread of its own."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aitbc.adapters.http.protocol import BoundedWebSocket
from aitbc.adapters.http.serving import QuietServer, http_settings, listen


@contextmanager
def served(app: Any, *, send_buffer: int = 0, **settings: Any) -> Iterator[str]:
    """Its URL; `app.state.loop` is its loop."""
    listener = listen("127.0.0.1", 0)
    if send_buffer:  # connections inherit it: the system keeps less for who does not read
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    server = QuietServer(
        http_settings(app, timeout_graceful_shutdown=1, **{"ws": BoundedWebSocket, **settings})
    )

    async def serve() -> None:
        app.state.loop = asyncio.get_running_loop()
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "it could not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
