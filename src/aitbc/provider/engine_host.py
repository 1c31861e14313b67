"""The engine child: loads engines and runs one request at a time, killable at any moment.

Started by the provider as `python -m aitbc.provider.engine_host [module:Class …]`. A thread reads the pipe, so that a
cancel is heard during a run and the end of the provider ends the child. docs/spec/engines.md
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

from aitbc.ports import Engine, EngineError, ModelCard
from aitbc.provider.engine_messages import (
    MAX_FRAME_BYTES,
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

GROUP = "aitbc.engines"
MAX_MESSAGE = 400


class EngineHost:
    """Serves one provider over two pipes."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._commands: queue.Queue[Load | Run] = queue.Queue(maxsize=16)
        self._cancelled: set[str] = set()
        self._engines: dict[str, Engine] = {}
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
            self._perform(self._commands.get())

    def _add(self, name: str) -> list[ModelCard]:
        module, _, attribute = name.partition(":")
        engine: Engine = getattr(importlib.import_module(module), attribute)()
        cards = engine.models()
        for card in cards:
            if card.model in self._engines:
                raise EngineError("failed", f"two engines serve {card.model}")
            self._engines[card.model] = engine
        return cards

    def _perform(self, command: Load | Run) -> None:
        run_id = command.run_id if isinstance(command, Run) else ""
        try:
            match command:
                case Load(model=model):
                    self._engine(model).load(model)
                    self._send(Loaded(model=model))
                case Run():
                    self._run(command)
        except EngineError as error:
            self._send(Failed(run_id=run_id, reason=error.reason, message=error.message[:MAX_MESSAGE]))
        except MemoryError:
            self._send(
                Failed(run_id=run_id, reason="out_of_memory", message="the machine has no memory left")
            )
        except Exception as error:  # foreign code again; the provider decides what to do
            self._send(Failed(run_id=run_id, reason="failed", message=_one_line(error)))
        finally:
            self._cancelled.discard(run_id)

    def _run(self, run: Run) -> None:
        def emit(event: dict[str, Any]) -> None:
            self._send(Emitted(run_id=run.run_id, event=event))

        def cancelled() -> bool:
            return run.run_id in self._cancelled

        began = time.monotonic_ns()
        output = self._engine(run.model).run(run.model, run.request, emit, cancelled)
        engine_ms = (time.monotonic_ns() - began) // 1_000_000
        self._send(Done(run_id=run.run_id, output=output, engine_ms=engine_ms))

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
            if isinstance(message, Cancel):
                self._cancelled.add(message.run_id)
            else:
                self._commands.put(message)

    def _send(self, message: FromChild) -> None:
        try:
            self._sink.write(encode_frame(message))
            self._sink.flush()
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
