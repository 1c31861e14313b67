"""The engine child: loads engines and runs requests, killable at any moment.

Started by the provider as `python -m aitbc.provider.engine_host [module:Class …]`. A thread reads the pipe, so that a
cancel is heard during a run and the end of the provider ends the child. Requests of an engine that works in steps
advance together; one of any other engine holds up the rest until it is done. docs/spec/engines.md
"""

import os

# One BLAS thread: the same request gives the same bytes. Before anything imports numpy.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import importlib
import queue
import sys
import threading
import time
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, BinaryIO

import msgspec

from aitbc.adapters.machine import available_bytes
from aitbc.ports import Engine, EngineError, EngineOutput, Estimating, ModelCard, OwnMemory, Stepwise
from aitbc.provider.engine_messages import (
    MAX_FRAME_BYTES,
    Alive,
    Cancel,
    Done,
    Emitted,
    EngineProblem,
    Failed,
    FromChild,
    Load,
    Loaded,
    Ready,
    Run,
    ToChild,
    encode_frame,
)
from aitbc.provider.engine_steps import StepLoop, is_out_of_memory

GROUP = "aitbc.engines"
MAX_MESSAGE = 400
MAX_COMMANDS = 128
"""Twice as many as a provider has slots."""
ALIVE_S = 2.0
SPARE = 10
"""A tenth more than the estimate must be free: allocators do not pack."""


class EngineHost:
    """Serves one provider over two pipes."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._commands: queue.Queue[Load | Run] = queue.Queue(maxsize=MAX_COMMANDS)
        self._cancelled: set[str] = set()
        self._engines: dict[str, Engine] = {}
        self._cards: dict[str, ModelCard] = {}
        self._waiting: list[Run] = []
        """For a place among those of their model that advance together."""
        self._steps = StepLoop(
            tell=self._emit, cancelled=lambda run_id: run_id in self._cancelled, on_end=self._ended
        )
        self._told_at = 0.0
        self._lock = threading.Lock()
        """Of the sink and of the two sets below, which both threads use."""
        self._queued: set[str] = set()
        self._left: set[str] = set()
        """Canceled while they were queued: answered already, not to be begun."""
        self._decode = msgspec.msgpack.Decoder(ToChild).decode

    def serve(self, names: Sequence[str]) -> None:
        """Say what can be served, then do what is asked until the pipe ends."""
        threading.Thread(target=self._listen, daemon=True).start()
        cards: list[ModelCard] = []
        problems: list[EngineProblem] = []
        for name in names or _installed():
            try:
                cards += self._add(name)
            except Exception as error:  # an engine is foreign code: its failure is a line in the report
                problems.append(EngineProblem(name, _one_line(error)))
        self._send(Ready(models=cards, problems=problems))
        while True:
            self._take_commands()
            if len(self._steps):
                self._steps.turn()
                self._say_alive()

    def _take_commands(self) -> None:
        """Everything that is asked by now; waits only when there is nothing else to do."""
        waiting, self._waiting = self._waiting, []
        for run in waiting:
            self._perform(run)
        block = not len(self._steps)
        while True:
            try:
                self._perform(self._commands.get(block=block))
            except queue.Empty:
                return
            block = False

    def _say_alive(self) -> None:
        if time.monotonic() - self._told_at > ALIVE_S:
            self._send(Alive())

    def _add(self, name: str) -> list[ModelCard]:
        module, _, attribute = name.partition(":")
        engine: Engine = getattr(importlib.import_module(module), attribute)()
        cards = engine.models()
        for card in cards:
            if card.model in self._engines:
                raise EngineError("failed", f"two engines serve {card.model}")
            self._engines[card.model] = engine
            self._cards[card.model] = card
        return cards

    def _perform(self, command: Load | Run) -> None:
        try:
            match command:
                case Load(model=model):
                    self._engine(model).load(model)
                    self._send(Loaded(model=model))
                case Run():
                    self._begin(command)
        except Exception as error:  # an engine is foreign code; the provider decides what to do
            self._failed(command.run_id if isinstance(command, Run) else "", error)

    def _begin(self, run: Run) -> None:
        with self._lock:
            self._queued.discard(run.run_id)
            if run.run_id in self._left:
                self._left.discard(run.run_id)
                return
        engine = self._engine(run.model)
        if isinstance(engine, Stepwise) and self._steps.running(run.model) >= self._cards[run.model].together:
            self._waiting.append(run)
            return
        if run.run_id in self._cancelled:
            raise EngineError("cancelled", "cancelled before it began")
        self._admit(engine, run)
        if isinstance(engine, Stepwise):
            self._steps.join(run, engine)
            return
        began = time.monotonic_ns()
        output = engine.run(
            run.model,
            run.request,
            lambda event: self._emit(run, event),
            lambda: run.run_id in self._cancelled,
        )
        self._ended(run, output, (time.monotonic_ns() - began) // 1_000_000)

    def _admit(self, engine: Engine, run: Run) -> None:
        """Better refused now than killed in the middle, and others with it."""
        if not isinstance(engine, Estimating):
            return
        needed = engine.estimate(run.model, run.request).memory_bytes * (100 + SPARE) // 100
        free = engine.free_bytes(run.model) if isinstance(engine, OwnMemory) else available_bytes()
        if needed > free:
            raise EngineError(
                "out_of_memory", f"the run needs {needed} bytes with a tenth to spare, {free} are free"
            )

    def _emit(self, run: Run, event: dict[str, Any]) -> None:
        self._send(Emitted(run_id=run.run_id, event=event))

    def _ended(self, run: Run, how: EngineOutput | BaseException, engine_ms: int) -> None:
        if isinstance(how, BaseException):
            self._failed(run.run_id, how)
            return
        self._cancelled.discard(run.run_id)
        self._send(Done(run_id=run.run_id, output=how, engine_ms=engine_ms))

    def _failed(self, run_id: str, error: BaseException) -> None:
        self._cancelled.discard(run_id)
        if isinstance(error, EngineError):
            reason, message = error.reason, error.message[:MAX_MESSAGE]
        elif is_out_of_memory(error):
            reason, message = "out_of_memory", "the machine has no memory left"
        else:
            reason, message = "failed", _one_line(error)
        self._send(Failed(run_id=run_id, reason=reason, message=message))

    def _engine(self, model: str) -> Engine:
        if model not in self._engines:
            raise EngineError("bad_request", f"no engine here serves {model}")
        return self._engines[model]

    def _listen(self) -> None:
        """Reads commands; ends the process, mid-run if need be, when the provider is gone."""
        while True:
            head = self._source.read(4)
            size = int.from_bytes(head, "big")
            body = self._source.read(size) if len(head) == 4 and size <= MAX_FRAME_BYTES else b""
            if len(head) < 4 or len(body) < size:
                os._exit(0)
            message = self._decode(body)
            match message:
                case Cancel(run_id=run_id):
                    self._cancel(run_id)
                case Run(run_id=run_id):
                    with self._lock:
                        self._queued.add(run_id)
                    self._commands.put(message)
                case Load():
                    self._commands.put(message)

    def _cancel(self, run_id: str) -> None:
        """A run that has not begun is answered at once, whatever the engine is doing for somebody else."""
        with self._lock:
            has_begun = run_id not in self._queued
            if not has_begun:
                self._queued.discard(run_id)
                self._left.add(run_id)
        if has_begun:
            self._cancelled.add(run_id)
        else:
            self._send(Failed(run_id=run_id, reason="cancelled", message="cancelled before it began"))

    def _send(self, message: FromChild) -> None:
        try:
            with self._lock:
                self._sink.write(encode_frame(message))
                self._sink.flush()
            self._told_at = time.monotonic()
        except BrokenPipeError:
            os._exit(0)


def _installed() -> list[str]:
    return sorted([entry.value for entry in entry_points(group=GROUP)])


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:MAX_MESSAGE]


def main() -> None:
    """Keep the real stdout for frames; whatever an engine prints goes to stderr."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    EngineHost(sys.stdin.buffer, sink).serve(sys.argv[1:])


if __name__ == "__main__":
    main()
