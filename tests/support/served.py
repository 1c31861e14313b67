"""An application on a port and a thread of its own."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aitbc.adapters.http.protocol import BoundedWebSocket
from aitbc.adapters.http.serving import QuietServer, http_settings, listen


@contextmanager
def served(app: Any, **settings: Any) -> Iterator[str]:
    """Its URL."""
    listener = listen("127.0.0.1", 0)
    server = QuietServer(
        http_settings(app, timeout_graceful_shutdown=1, **{"ws": BoundedWebSocket, **settings})
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
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
