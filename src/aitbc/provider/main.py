"""Start a provider and keep it running until a signal."""

import asyncio
import contextlib
import fcntl
import socket
from collections.abc import Iterator
from pathlib import Path

from aitbc.adapters import loop
from aitbc.adapters.http.serving import QuietServer, http_settings, listen, stop_asked
from aitbc.client.node import AsyncNodeClient
from aitbc.ports import StorageError
from aitbc.provider.chain import Chain
from aitbc.provider.config import ProviderConfig
from aitbc.provider.provider import Provider
from aitbc.provider.status import status_app


def run(config: ProviderConfig) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code.

    Raises OSError when the port or the folder cannot be used, ClientError when the node cannot be reached,
    EngineGone when no engine works.
    """
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _only_one_in(config.data_dir), listen(config.bind_host, config.bind_port) as listener:
        return loop.run(serve(config, listener))


@contextlib.contextmanager
def _only_one_in(folder: Path) -> Iterator[None]:
    """Two providers with one queue would claim everything twice. The lock goes with the process, however it ends."""
    with (folder / "provider.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(
                f"another provider is using {folder}; stop it or choose another folder"
            ) from None
        yield


async def serve(config: ProviderConfig, listener: socket.socket, chain: Chain | None = None) -> int:
    """The provider on a running loop, its status page on `listener`; returns the exit code."""
    provider = Provider(config, chain or AsyncNodeClient(config.rpc_url))
    stopping = stop_asked()
    status = QuietServer(http_settings(status_app(provider), lifespan="off", ws="none"))
    page = asyncio.create_task(status.serve(sockets=[listener]))
    starting = asyncio.create_task(provider.start())
    stop = asyncio.create_task(stopping.wait())
    broken = asyncio.create_task(provider.broken.wait())
    try:
        await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        await asyncio.wait([stop, broken], return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            await provider.drain()
        return 0 if stop.done() else 1
    finally:
        for task in (starting, stop, broken):
            task.cancel()
        await asyncio.gather(starting, stop, broken, return_exceptions=True)
        await provider.stop()
        status.should_exit = True
        await page
