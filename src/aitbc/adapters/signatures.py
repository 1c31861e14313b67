"""Signatures checked in processes of their own: checking one takes as long as everything else that a transfer costs,
and a thread that checks beside a busy one waits for Python's lock after each. ADR 0021.

    u32 length ‖ msgpack [[auth key, digest, signature], …]   →   a byte for each: 1 good, 0 not
"""

import contextlib
import logging
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import msgspec

from aitbc.core.crypto.schemes import verify

log = logging.getLogger("aitbc.node")

Signed = tuple[bytes, bytes, bytes]
"""Auth key, digest and signature."""

FEW = 8
"""So few are checked here: that takes half a millisecond, and so does asking a process that must wake up."""
BEGIN_AT = 64
"""A batch of this size starts the processes: a node with little to do has none."""
AGAIN_S = 10.0
"""A process that died is not replaced at once: what killed it may be a machine without memory."""
STOP_S = 5.0
STUCK_S = 10.0
"""A process that neither reads nor answers for so long is given up: a full block takes it two seconds."""
_LENGTH = struct.Struct(">I")


class _Worker:
    """A process that answers one question at a time, in their order; whoever asks holds the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": paths},
        )
        assert self._process.stdin is not None and self._process.stdout is not None, "pipes were asked for"
        self._to, self._from = self._process.stdin, self._process.stdout
        os.set_blocking(self._to.fileno(), False)
        os.set_blocking(self._from.fileno(), False)

    def ask(self, batch: Sequence[Signed]) -> None:
        """Raises OSError when the process is gone or does nothing."""
        data = msgspec.msgpack.encode(batch)
        left = memoryview(_LENGTH.pack(len(data)) + data)
        while left:
            _, ready, _ = select.select([], [self._to], [], STUCK_S)
            if not ready:
                raise TimeoutError("the process does not read")
            left = left[os.write(self._to.fileno(), left) :]

    def answer(self, count: int) -> list[bool]:
        """Raises OSError when the process is gone or does nothing."""
        answer = b""
        while len(answer) < count:
            ready, _, _ = select.select([self._from], [], [], STUCK_S)
            if not ready:
                raise TimeoutError("the process does not answer")
            part = os.read(self._from.fileno(), count - len(answer))
            if not part:
                raise BrokenPipeError("the process has ended")
            answer += part
        return [one == 1 for one in answer]

    def stop(self, *, patience_s: float) -> None:
        """It ends when nobody can ask it any more."""
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class SignaturePool:
    """`check` may be called on any thread, and always answers: what no process can do is done here."""

    def __init__(self, processes: int) -> None:
        """`processes`: how many there are when there is work; 0: everything is checked here."""
        self._most = processes
        self._workers: list[_Worker] = []
        self._starting = threading.Lock()
        self._not_before_s = 0.0
        self._is_closed = False

    @property
    def processes(self) -> int:
        """How many run now."""
        return len(self._workers)

    def check(self, batch: Sequence[Signed]) -> list[bool]:
        """Which of these are good, in their order."""
        if len(batch) >= BEGIN_AT and len(self._workers) < self._most:
            self._begin()
        workers = self._workers
        if len(batch) <= FEW or not workers:
            return [verify(*one) for one in batch]
        size = max(FEW, -(-len(batch) // len(workers)))
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        shares = list(zip(workers, parts, strict=False))
        with contextlib.ExitStack() as held:
            lost = [worker for worker, part in shares if not self._ask(held, worker, part)]
            return [good for worker, part in shares for good in self._answer(worker, part, lost)]

    def _ask(self, held: contextlib.ExitStack, worker: _Worker, part: Sequence[Signed]) -> bool:
        """All are asked before the first is waited for; everybody locks them in one order."""
        held.enter_context(worker.lock)
        try:
            worker.ask(part)
        except (OSError, ValueError):  # a closed pipe: another thread has lost it meanwhile
            self._lose(worker)
            return False
        return True

    def _answer(self, worker: _Worker, part: Sequence[Signed], lost: Sequence[_Worker]) -> list[bool]:
        if worker not in lost:
            try:
                return worker.answer(len(part))
            except OSError:
                self._lose(worker)
        return [verify(*one) for one in part]

    def _begin(self) -> None:
        with self._starting:
            if self._is_closed or time.monotonic() < self._not_before_s:
                return
            while len(self._workers) < self._most:
                try:
                    self._workers = [*self._workers, _Worker()]
                except OSError as error:
                    self._wait_with_another(f"no process for signatures: {error}")
                    return

    def _lose(self, worker: _Worker) -> None:
        with self._starting:
            self._workers = [other for other in self._workers if other is not worker]
            if not self._is_closed:
                self._wait_with_another("a process that checks signatures has ended")
        worker.stop(patience_s=0)

    def _wait_with_another(self, why: str) -> None:
        self._not_before_s = time.monotonic() + AGAIN_S
        log.warning(
            "%s; checking here meanwhile", why, extra={"component": "runtime", "event": "worker_lost"}
        )

    def close(self) -> None:
        """Whoever waits for an answer gets it first."""
        with self._starting:
            self._is_closed = True
            workers, self._workers = self._workers, []
        for worker in workers:
            with worker.lock:
                worker.stop(patience_s=STOP_S)


def serve() -> None:
    """The other end: until nobody can ask any more."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to all of a terminal: the node says when to end
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    decoder = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, bytes]])
    while len(head := questions.read(_LENGTH.size)) == _LENGTH.size:
        (size,) = _LENGTH.unpack(head)
        answers.write(bytes(verify(*one) for one in decoder.decode(questions.read(size))))
        answers.flush()


if __name__ == "__main__":
    serve()
