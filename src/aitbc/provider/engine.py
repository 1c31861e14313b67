"""The provider's end of its engine child: starts it, watches it, kills it when it hangs or floods, starts it again."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from aitbc.ports import EngineError, EngineOutput, ModelCard
from aitbc.provider.config import ProviderConfig
from aitbc.provider.engine_messages import (
    MAX_FRAME_BYTES,
    Cancel,
    Done,
    Emitted,
    Failed,
    FromChild,
    Load,
    Loaded,
    Ready,
    Run,
    ToChild,
    encode_frame,
)

log = logging.getLogger("aitbc.provider")

RESTART_LEAST_S = 0.1
RESTART_MOST_S = 10
STOP_S = 1

OnEvent = Callable[[dict[str, Any]], None]


class EngineGone(Exception):
    """The child crashed, hung or broke its protocol; the message says which."""


class EngineProcess:
    """One child, one request at a time. `ready` is false while the child is being started again."""

    def __init__(self, config: ProviderConfig) -> None:
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._decode = msgspec.msgpack.Decoder(FromChild).decode
        self._running = ""
        self._restarting: asyncio.Task[None] | None = None
        self._stopped = False
        self.ready = False
        self.cards: dict[str, ModelCard] = {}
        self.restarts = 0

    async def start(self) -> None:
        """Start the child and load every model that is to be served. Raises EngineGone when that fails."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "aitbc.provider.engine_host",
            *self._config.engines,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is for the provider, which ends the child in order
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )
        try:
            ready = await self._expect(Ready, self._config.engine_start_s)
            for problem in ready.problems:
                log.warning("engine %s cannot be used: %s", problem.engine, problem.message)
            wanted = self._config.models
            cards = {card.model: card for card in ready.models if not wanted or card.model in wanted}
            for model in cards:
                self._send(Load(model=model))
                await self._expect(Loaded, self._config.engine_load_s)
        except (EngineGone, EngineError) as error:
            self._kill()
            await self._reap()
            raise EngineGone(str(error)) from None
        self.cards = cards
        self.ready = True

    async def run(
        self, *, run_id: str, model: str, request: Mapping[str, Any], on_event: OnEvent
    ) -> tuple[EngineOutput, int]:
        """(output, milliseconds in the engine). Raises EngineError; a lost child is one with reason `failed`."""
        if not self.ready or self._running:
            raise EngineError("failed", "the engine is not free")
        self._running = run_id
        try:
            self._send(Run(run_id=run_id, model=model, request=dict(request)))
            return await self._follow(run_id, on_event)
        except EngineGone as gone:
            self._restart()
            raise EngineError("failed", str(gone)) from None
        except asyncio.CancelledError:
            self._restart()
            raise
        finally:
            self._running = ""

    def cancel(self, run_id: str) -> None:
        """Ask the engine to stop; kill it when it has not by the end of the grace."""
        if self._running == run_id:
            self._send(Cancel(run_id=run_id))
            loop = asyncio.get_running_loop()
            loop.call_later(self._config.cancel_grace_s, self._kill_if_running, run_id)

    async def stop(self) -> None:
        """End the child: politely by closing its pipe, after a second by force."""
        self._stopped = True
        self.ready = False
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        await self._reap()

    # inside

    async def _follow(self, run_id: str, on_event: OnEvent) -> tuple[EngineOutput, int]:
        while True:
            message = await self._read(self._config.engine_stall_s)
            match message:
                case Emitted(run_id=about, event=event) if about == run_id:
                    on_event(event)
                case Done(run_id=about, output=output, engine_ms=engine_ms) if about == run_id:
                    return output, engine_ms
                case Failed(run_id=about, reason=reason, message=text) if about == run_id:
                    raise EngineError(reason, text)
                case _:
                    raise EngineGone(f"the engine sent {type(message).__name__} out of turn")

    async def _expect(self, kind: type[Any], timeout_s: float) -> Any:
        message = await self._read(timeout_s)
        if isinstance(message, Failed):
            raise EngineError(message.reason, message.message)
        if not isinstance(message, kind):
            raise EngineGone(f"the engine sent {type(message).__name__} out of turn")
        return message

    async def _read(self, timeout_s: float) -> FromChild:
        """The next frame; every way in which there is none is an EngineGone that says so."""
        try:
            return await asyncio.wait_for(self._read_frame(), timeout_s)
        except TimeoutError:
            raise EngineGone(f"the engine gave no sign of life for {timeout_s:g} s") from None
        except asyncio.IncompleteReadError:
            assert self._process is not None
            code = await self._process.wait()
            raise EngineGone(f"the engine process ended with code {code}") from None
        except msgspec.DecodeError as error:
            raise EngineGone(f"the engine sent what is no message: {error}"[:300]) from None

    async def _read_frame(self) -> FromChild:
        assert self._process is not None and self._process.stdout is not None, "the child is started first"
        stdout = self._process.stdout
        size = int.from_bytes(await stdout.readexactly(4), "big")
        if size > MAX_FRAME_BYTES:
            raise EngineGone(f"the engine sent {size} bytes at once; at most {MAX_FRAME_BYTES}")
        message: FromChild = self._decode(await stdout.readexactly(size))
        return message

    def _send(self, message: ToChild) -> None:
        assert self._process is not None and self._process.stdin is not None, "the child is started first"
        self._process.stdin.write(encode_frame(message))

    def _kill_if_running(self, run_id: str) -> None:
        if self._running == run_id:
            log.warning("the engine did not stop in time and is killed")
            self._kill()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _restart(self) -> None:
        """Get a fresh child in the background."""
        self.ready = False
        self._kill()
        if not self._stopped:
            self.restarts += 1
            self._restarting = asyncio.create_task(self._start_again())

    async def _reap(self) -> None:
        """Wait until the child is gone and its pipes are empty, so that nothing of it is left."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None, "the pipes were asked for"
        process.stdin.close()
        try:
            await asyncio.wait_for(_drain(process), STOP_S)
        except TimeoutError:
            self._kill()
            await _drain(process)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await process.stdin.wait_closed()

    async def _start_again(self) -> None:
        await self._reap()
        pause_s: float = RESTART_LEAST_S
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self.start()
                return
            except EngineGone as gone:
                log.error("the engine cannot be started: %s", gone)
                pause_s = min(2 * pause_s, RESTART_MOST_S)


async def _drain(process: asyncio.subprocess.Process) -> None:
    """Read what is left in pieces that are thrown away; it ends when the child has ended."""
    assert process.stdout is not None, "the pipe was asked for"
    while await process.stdout.read(MAX_FRAME_BYTES):
        pass
    await process.wait()
