"""Worker processes that search nonces for one template at a time. docs/spec/workshop.md "Mining" """

import asyncio
import contextlib
import itertools
import sys
from collections.abc import Callable

from aitbc.workshop.core.texts import Block

SHARE = 10**9
"""Thousands of nonces of one worker; the next one's begin there. A core needs a week for them."""
LINGER_S = 2.0


class Miner:
    """`found` is told template and nonce; the search for a template ends with the next one."""

    def __init__(self, workers: int, difficulty: int, found: Callable[[Block, int], None]) -> None:
        self._count = workers
        self._difficulty = difficulty
        self._found = found
        self._processes: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []
        self._ids = itertools.count(1)
        self._work: tuple[int, Block] | None = None

    async def start(self) -> None:
        for _ in range(self._count):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "aitbc.workshop.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            self._processes.append(process)
            self._readers.append(asyncio.create_task(self._listen(process)))
        if self._work is not None:
            self._send(*self._work)

    def mine(self, template: Block) -> None:
        self._work = (next(self._ids), template)
        self._send(*self._work)

    async def stop(self) -> None:
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self._processes:
            try:
                await asyncio.wait_for(process.wait(), LINGER_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def _send(self, id_: int, template: Block) -> None:
        before, after = template.around_nonce
        for place, process in enumerate(self._processes):
            line = f"{id_} {self._difficulty} {1 + place * SHARE} {before} {after}\n"
            if process.stdin is not None and not process.stdin.is_closing():
                process.stdin.write(line.encode())

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None, "stdout is a pipe"
        with contextlib.suppress(asyncio.CancelledError):
            async for line in process.stdout:
                id_, nonce = line.split()
                if self._work is not None and int(id_) == self._work[0]:
                    template = self._work[1]
                    self._work = None
                    self._found(template, int(nonce))
