"""Worker processes that search nonces for one template at a time. docs/spec/nakamoto.md "Mining" """

import asyncio
import contextlib
import itertools
import logging
import sys
import time
from collections.abc import Callable

log = logging.getLogger("aitbc.node")

MAX_WORKERS = 256
SHARE = 1 << 56
"""Nonces of one worker: nobody lives to see the end of them."""
LINGER_S = 2.0
"""A worker hears of the end within 0.1 s, unless its machine is very busy."""
AGAIN_S = 1.0
"""A worker that ended by itself is replaced after so long."""
RATE_S = 10.0
"""Over how long the rate of tries is counted."""


class Miner:
    """`found` is told what was searched and the nonce; a search ends with the next one or with `stop_search`."""

    def __init__(self, workers: int, found: Callable[[bytes, int], None]) -> None:
        assert 0 < workers <= MAX_WORKERS, "whoever configures it has checked the number"
        self._count = workers
        self._found = found
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._ids = itertools.count(1)
        self._work: tuple[int, bytes, int] | None = None
        self._stopping = False
        self.tries = 0
        """Since the start."""
        self._told: list[tuple[float, int]] = []

    async def start(self) -> None:
        self._keepers = [asyncio.create_task(self._keep(place)) for place in range(self._count)]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values()]

    @property
    def rate(self) -> int:
        """Tries a second, over the last seconds."""
        since = time.monotonic() - RATE_S
        self._told = [told for told in self._told if told[0] >= since]
        return int(sum(tries for _, tries in self._told) / RATE_S)

    def search(self, digest: bytes, target: int) -> None:
        """Instead of what was searched before."""
        self._work = (next(self._ids), digest, target)
        for place, process in self._processes.items():
            self._send(place, process)

    def stop_search(self) -> None:
        self._work = None
        for place, process in self._processes.items():
            self._send(place, process)

    async def stop(self) -> None:
        self._stopping = True
        for process in self._processes.values():
            if process.stdin is not None:
                process.stdin.close()
        for process in list(self._processes.values()):
            try:
                await asyncio.wait_for(process.wait(), LINGER_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    def _send(self, place: int, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdin.is_closing():
            return
        line = "stop"
        if self._work is not None:
            id_, digest, target = self._work
            line = f"{id_} {digest.hex()} {target:064x} {place * SHARE}"
        with contextlib.suppress(ConnectionError):  # it has just died, and is replaced
            process.stdin.write(f"{line}\n".encode())

    async def _keep(self, place: int) -> None:
        """A worker, and another when it ends by itself."""
        while not self._stopping:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "aitbc.node.searcher",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            self._processes[place] = process
            self._send(place, process)
            await self._listen(process)
            code = await process.wait()
            if not self._stopping:
                log.error(
                    "a mining process ended (exit code %d); another is started",
                    code,
                    extra={"component": "mining", "event": "worker_lost"},
                )
                await asyncio.sleep(AGAIN_S)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None, "stdout is a pipe"
        async for line in process.stdout:
            id_, nonce, tries = line.split()
            self.tries += int(tries)
            self._told.append((time.monotonic(), int(tries)))
            if nonce != b"-" and self._work is not None and int(id_) == self._work[0]:
                digest = self._work[1]
                self.stop_search()
                self._found(digest, int(nonce))
