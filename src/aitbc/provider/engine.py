"""The provider's end of its engine child: starts it, watches it, kills it when it hangs, floods or eats the machine,
and starts it again."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from aitbc.adapters.engines.settings import ENGINES_FILE
from aitbc.adapters.machine import resident_bytes
from aitbc.adapters.nvml import Cards
from aitbc.core.jobs.reasons import Refused
from aitbc.core.jobs.requests import engine_request
from aitbc.ports import EngineError, EngineOutput, ModelCard
from aitbc.provider.config import ProviderConfig
from aitbc.provider.engine_messages import (
    MAX_FRAME_BYTES,
    Alive,
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
from aitbc.provider.warm_up import warm_up_request
from aitbc.provider.watchdog import memory_problem, vram_problem

log = logging.getLogger("aitbc.provider")

RESTART_LEAST_S = 0.1
RESTART_MOST_S = 10
STOP_S = 1
WARM_UP = "warm-up"
LOOK_S = 0.25
"""Between two looks at a child that has work."""

OnEvent = Callable[[dict[str, Any]], None]


class EngineGone(Exception):
    """The child crashed, hung or broke its protocol; the message says which."""


class _Running(msgspec.Struct, kw_only=True):
    ended: "asyncio.Future[tuple[EngineOutput, int]]"
    on_event: OnEvent


class EngineProcess:
    """One child, as many requests as there are slots. `ready` is false while the child is being started again."""

    def __init__(self, config: ProviderConfig, *, cards: Cards | None = None) -> None:
        """`cards`: whose memory is watched."""
        self._config = config
        self._cards = cards
        self._process: asyncio.subprocess.Process | None = None
        self._decode = msgspec.msgpack.Decoder(FromChild).decode
        self._runs: dict[str, _Running] = {}
        self._helpers: list[asyncio.Task[None]] = []
        self._restarting: asyncio.Task[None] | None = None
        self._stopped = False
        self._killed_for: EngineError | None = None
        self._last_sign_s = 0.0
        self.ready = False
        self.cards: dict[str, ModelCard] = {}
        self.restarts = 0

    @property
    def running(self) -> int:
        return len(self._runs)

    @property
    def resident_bytes(self) -> int:
        """Memory of the child now."""
        return resident_bytes(self._process.pid) if self._process is not None else 0

    async def start(self) -> None:
        """Start the child and load every model that is to be served. Raises EngineGone when that fails."""
        self._killed_for = None
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "aitbc.provider.engine_host",
            *self._config.engines,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is for the provider, which ends the child in order
            env=self._environment(),
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
            if self._config.warm_up:
                cards = {model: card for model, card in cards.items() if await self._works(model)}
        except (EngineGone, EngineError, TimeoutError) as error:
            self._kill()
            await self._reap()
            silent = isinstance(error, TimeoutError)
            raise EngineGone(_silent(self._config.engine_load_s) if silent else str(error)) from None
        self.cards = cards
        self.ready = True
        self._helpers = [asyncio.create_task(self._hear()), asyncio.create_task(self._watch())]

    async def _works(self, model: str) -> bool:
        """A model that nobody could bill, or that fails its smallest request, is not offered."""
        try:
            request = engine_request(warm_up_request(model))
        except Refused as error:
            log.warning("%s is not served: %s", model, error.message)
            return False
        self._send(Run(run_id=WARM_UP, model=model, request=request))
        async with asyncio.timeout(self._config.engine_load_s):
            while True:
                match await self._read():
                    case Done(run_id=run_id) if run_id == WARM_UP:
                        return True
                    case Failed(run_id=run_id, message=text) if run_id == WARM_UP:
                        log.warning("%s is not served, it fails its first request: %s", model, text)
                        return False
                    case Emitted() | Alive():
                        continue
                    case message:
                        raise EngineGone(f"the engine sent {type(message).__name__} out of turn")

    def _environment(self) -> dict[str, str]:
        one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        named = {ENGINES_FILE: str(self._config.engines_file)} if self._config.engines_file else {}
        return {**os.environ, **one, **named}

    async def run(
        self, *, run_id: str, model: str, request: Mapping[str, Any], on_event: OnEvent
    ) -> tuple[EngineOutput, int]:
        """(output, milliseconds in the engine). Raises EngineError; a lost child is one with reason `failed`."""
        if not self.ready or len(self._runs) >= self._config.slots or run_id in self._runs:
            raise EngineError("failed", "the engine is not free")
        running = _Running(ended=asyncio.get_running_loop().create_future(), on_event=on_event)
        if not self._runs:
            self._last_sign_s = asyncio.get_running_loop().time()
        self._runs[run_id] = running
        self._send(Run(run_id=run_id, model=model, request=dict(request)))
        try:
            return await running.ended
        except asyncio.CancelledError:
            self._abandon(run_id)
            raise
        finally:
            self._runs.pop(run_id, None)

    def cancel(self, run_id: str) -> None:
        """Ask the engine to stop; kill it when it has not by the end of the grace."""
        if run_id in self._runs:
            self._send(Cancel(run_id=run_id))
            loop = asyncio.get_running_loop()
            loop.call_later(self._config.cancel_grace_s, self._kill_if_running, run_id, self._runs[run_id])

    async def stop(self) -> None:
        """End the child: politely by closing its pipe, after a second by force."""
        self._stopped = True
        self.ready = False
        if self._restarting is not None:  # before the helpers: it may just be giving a fresh child its own
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        await self._end_helpers()
        await self._reap()
        self._fail_all(EngineError("failed", "the provider has stopped"))

    # what the child says

    async def _hear(self) -> None:
        """Every frame until the child is lost; then everybody who waits is told, and a fresh one is started."""
        try:
            while True:
                message = await self._read()
                self._last_sign_s = asyncio.get_running_loop().time()
                self._on_message(message)
        except EngineGone as gone:
            self.ready = False
            self._fail_all(self._killed_for or EngineError("failed", str(gone)))
            self._restart()

    def _on_message(self, message: FromChild) -> None:
        match message:
            case Alive():
                return
            case Emitted(run_id=about, event=event):
                if about in self._runs:
                    self._runs[about].on_event(event)
            case Done(run_id=about, output=output, engine_ms=engine_ms) if about:
                self._end(about, (output, engine_ms))
            case Failed(run_id=about, reason=reason, message=text) if about:
                self._end(about, EngineError(reason, text))
            case _:
                raise EngineGone(f"the engine sent {type(message).__name__} out of turn")

    def _end(self, run_id: str, how: tuple[EngineOutput, int] | EngineError) -> None:
        """A run that nobody waits for any more was abandoned; its end is no news."""
        running = self._runs.get(run_id)
        if running is None or running.ended.done():
            return
        if isinstance(how, EngineError):
            running.ended.set_exception(how)
        else:
            running.ended.set_result(how)

    def _fail_all(self, error: EngineError) -> None:
        for running in self._runs.values():
            if not running.ended.done():
                running.ended.set_exception(EngineError(error.reason, error.message))

    async def _expect(self, kind: type[Any], timeout_s: float) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                message = await self._read()
        except TimeoutError:
            raise EngineGone(_silent(timeout_s)) from None
        if isinstance(message, Failed):
            raise EngineError(message.reason, message.message)
        if not isinstance(message, kind):
            raise EngineGone(f"the engine sent {type(message).__name__} out of turn")
        return message

    async def _read(self) -> FromChild:
        """The next frame; every way in which there is none is an EngineGone that says so."""
        try:
            return await self._read_frame()
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

    # watching and killing

    async def _watch(self) -> None:
        """A child that has work and shows no sign of life is killed, and so is one that takes too much memory."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(LOOK_S, self._config.engine_stall_s / 4))
            silent_s = loop.time() - self._last_sign_s
            if self._runs and silent_s > self._config.engine_stall_s:
                self._kill_for(EngineError("failed", _silent(self._config.engine_stall_s)))
            elif problem := self._memory_problem():
                self._kill_for(EngineError("out_of_memory", problem))

    def _memory_problem(self) -> str:
        if self._process is None:
            return ""
        on_card = vram_problem(self._cards, self._process.pid, self._config)
        return memory_problem(self.resident_bytes, self._config) or on_card

    def _kill_for(self, error: EngineError) -> None:
        log.error("the engine is killed: %s", error.message)
        self._killed_for = error
        self._kill()

    def _kill_if_running(self, run_id: str, running: _Running) -> None:
        """The same run, not a later one of its name."""
        if self._runs.get(run_id) is running and not running.ended.done():
            self._kill_for(EngineError("failed", "the engine did not stop in time"))

    def _abandon(self, run_id: str) -> None:
        """Nobody waits any more. A child with other work goes on with it; one without is replaced, stuck or not."""
        if len(self._runs) > 1:
            self.cancel(run_id)
        else:
            self._kill()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    # a fresh child

    def _restart(self) -> None:
        """Get a fresh child in the background."""
        self._kill()
        if not self._stopped:
            self.restarts += 1
            self._restarting = asyncio.create_task(self._start_again())

    async def _end_helpers(self) -> None:
        helpers, self._helpers = self._helpers, []
        current = asyncio.current_task()
        for helper in helpers:
            if helper is not current:
                helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)

    async def _reap(self) -> None:
        """Wait until the child is gone and its pipes are empty, so that nothing of it is left."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None, "the pipes were asked for"
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await _drain(process)
        except TimeoutError:
            self._kill()
            await _drain(process)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await process.stdin.wait_closed()

    async def _start_again(self) -> None:
        await self._end_helpers()
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


def _silent(seconds: float) -> str:
    return f"the engine gave no sign of life for {seconds:g} s"


async def _drain(process: asyncio.subprocess.Process) -> None:
    """Read what is left in pieces that are thrown away; it ends when the child has ended."""
    assert process.stdout is not None, "the pipe was asked for"
    while await process.stdout.read(MAX_FRAME_BYTES):
        pass
    await process.wait()
