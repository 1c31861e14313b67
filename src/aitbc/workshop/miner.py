"""Worker processes that search nonces for one template at a time. docs/spec/workshop.md "Mining" """

import asyncio
import contextlib
import itertools
import logging
import sys
from collections.abc import Callable

from aitbc.workshop.core.texts import Block

SHARE = 10**9
"""Thousands of nonces of one worker; the next one's begin there. A core needs a week for them."""
LINGER_S = 2.0
AGAIN_S = 1.0
"""A worker that ended by itself is replaced after so long."""
log = logging.getLogger("aitbc.workshop")


class Miner:
    """`found` is told template and nonce; the search for a template ends with the next one."""

    def __init__(self, workers: int, difficulty: int, found: Callable[[Block, int], None]) -> None:
        self._count = workers
        self._difficulty = difficulty
        self._found = found
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._ids = itertools.count(1)
        self._work: tuple[int, Block] | None = None

    async def start(self) -> None:
        self._keepers = [asyncio.create_task(self._keep(place)) for place in range(self._count)]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values()]

    def mine(self, template: Block) -> None:
        self._work = (next(self._ids), template)
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
        if self._work is None or process.stdin is None or process.stdin.is_closing():
            return
        id_, template = self._work
        before, after = template.around_nonce
        line = f"{id_} {self._difficulty} {1 + place * SHARE} {before} {after}\n"
        with contextlib.suppress(ConnectionError):  # it has just died, and is replaced
            process.stdin.write(line.encode())

    async def _keep(self, place: int) -> None:
        """A worker, and another when it ends by itself."""
        while not self._stopping:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "aitbc.workshop.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            self._processes[place] = process
            self._send(place, process)
            await self._listen(process)
            code = await process.wait()
            if not self._stopping:
                log.error("a mining process ended (exit code %d); another is started", code)
                await asyncio.sleep(AGAIN_S)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None, "stdout is a pipe"
        async for line in process.stdout:
            id_, nonce = line.split()
            if self._work is not None and int(id_) == self._work[0]:
                template = self._work[1]
                self._work = None
                self._found(template, int(nonce))
