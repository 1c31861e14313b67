"""A running workshop node: sockets, the clock, the block file and the miner around the machine.

It decides nothing: it tells the machine what happened and does what comes back, in that order, one call at a time.
"""

import asyncio
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, assert_never

import msgspec

from aitbc.core.peer.addresses import split_where
from aitbc.workshop.core.effects import Close, Dial, Effect, Keep, Mine, Note, Send
from aitbc.workshop.core.machine import Machine, Settings
from aitbc.workshop.core.texts import Block
from aitbc.workshop.miner import Miner
from aitbc.workshop.store import BlockFile

LOG = logging.getLogger("aitbc.workshop")

READ = 64 * 1024
MAX_SOCKETS = 64
MAX_SOCKETS_OF_HOST = 8
LOCAL_HOSTS = ("127.0.0.1", "::1")
MAX_QUEUED = 8 * 1024 * 1024
"""Bytes that a peer has not taken; who reads so slowly is left."""
DIAL_S = 5.0
LINGER_S = 1.0
TICK_S = 1.0


class HostSettings(msgspec.Struct, frozen=True, kw_only=True):
    machine: Settings
    host: str = "127.0.0.1"
    port: int = 15151
    """0: any; then the machine's `listen` should be told by who knows it."""
    data: Path
    workers: int = 0


class Host:
    def __init__(self, settings: HostSettings, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self.settings = settings
        self.machine = Machine(settings.machine, entropy)
        self._store = BlockFile(settings.data)
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._hosts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._next_link = 1
        self._server: asyncio.Server | None = None
        self._miner: Miner | None = None
        self.over = asyncio.Event()
        self._bug: BaseException | None = None

    async def start(self) -> int:
        """Raises StoreError and OSError; returns the port."""
        self.machine.load(self._store.read())
        self._loop = asyncio.get_running_loop()
        settings = self.settings
        self._server = await asyncio.start_server(self._came, settings.host, settings.port, limit=READ)
        if settings.workers and settings.machine.coinbase is not None:
            self._miner = Miner(settings.workers, settings.machine.rules.difficulty, self._mined)
            await self._miner.start()
        self._spawn(self._tick())
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers.values():
            writer.close()
        if self._miner is not None:
            await self._miner.stop()
        self._store.close()

    def now_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self._send(effect)
                case Close():
                    self._close(effect.link)
                case Dial():
                    self._spawn(self._dial(effect.where))
                case Keep():
                    self._store.append(effect.block)
                case Mine():
                    if self._miner is not None:
                        self._miner.mine(effect.template)
                case Note():
                    LOG.info(effect.text)
                case _:
                    assert_never(effect)

    # Sockets

    def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = (writer.get_extra_info("peername") or ("",))[0]
        most = MAX_SOCKETS if host in LOCAL_HOSTS else MAX_SOCKETS_OF_HOST
        if len(self._writers) >= MAX_SOCKETS or self._hosts[host] >= most:
            writer.close()
        else:
            self._spawn(self._run(reader, writer, host, None))

    async def _dial(self, where: str) -> None:
        parts = split_where(where)
        try:
            if parts is None:
                raise OSError("no host:port")
            reader, writer = await asyncio.wait_for(asyncio.open_connection(*parts, limit=READ), DIAL_S)
        except (OSError, TimeoutError):
            self.perform(self.machine.dial_failed(self.now_ms(), where))
            return
        await self._run(reader, writer, writer.get_extra_info("peername")[0], where)

    async def _run(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, dialled: str | None
    ) -> None:
        link, self._next_link = self._next_link, self._next_link + 1
        self._writers[link] = writer
        self._hosts[host] += 1
        self.perform(self.machine.opened(self.now_ms(), link, host, dialled))
        try:
            while data := await reader.read(READ):
                self.perform(self.machine.received(self.now_ms(), link, data))
        except OSError:
            pass
        finally:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
            self._writers.pop(link, None)
            writer.close()
            self.perform(self.machine.lost(self.now_ms(), link))

    def _send(self, effect: Send) -> None:
        writer = self._writers.get(effect.link)
        if writer is None or writer.is_closing():
            return
        writer.write(effect.data)
        if writer.transport.get_write_buffer_size() > MAX_QUEUED:
            writer.transport.abort()

    def _close(self, link: int) -> None:
        """What was written leaves first; a peer that takes nothing is cut off after a second."""
        writer = self._writers.get(link)
        if writer is not None:
            writer.close()
            self._loop.call_later(LINGER_S, writer.transport.abort)

    # Time and work

    async def _tick(self) -> None:
        while True:
            self.perform(self.machine.tick(self.now_ms()))
            await asyncio.sleep(TICK_S)

    def _mined(self, template: Block, nonce: int) -> None:
        self.perform(self.machine.mined(self.now_ms(), template, nonce))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """No stranger can raise anything in here, so what was raised is a bug, and the node stops."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._bug = self._bug or task.exception()
            self.over.set()

    async def wait(self) -> None:
        """Until `over` is set; raises the bug that set it."""
        await self.over.wait()
        if self._bug is not None:
            raise self._bug


async def run_node(settings: HostSettings) -> None:
    """Until SIGINT or SIGTERM."""
    host = Host(settings)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, host.over.set)
    try:
        await host.start()
        await host.wait()
    finally:
        await host.stop()
