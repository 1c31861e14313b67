"""Programs of a devnet as forked processes: started together, stopped together, none left behind.

Forking after the imports makes a devnet ready in a fraction of the time that separate interpreters need, and shares
their memory. A child notices the death of its parent by the end of a pipe, so `kill -9` leaves no orphan either.
"""

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from aitbc.cli.errors import as_cli_error
from aitbc.ports import StorageError

STOP_S = 8.0
"""A program that has not ended so long after SIGTERM is killed."""


ASK_AGAIN_S = 1.0


class Program:
    """A running child: its name, its process and where its output goes."""

    def __init__(self, name: str, pid: int, log: Path) -> None:
        self.name = name
        self.pid = pid
        self.log = log
        self.exit_code: int | None = None

    def poll(self) -> int | None:
        """Exit code if it has ended (128 + n for signal n), else None."""
        if self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code
        return self.exit_code

    def last_words(self) -> str:
        """The end of its log, for the message about its death."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][-600:] if lines else "it said nothing"


class Supervisor:
    """Starts programs in order and stops them in reverse."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._read_end, self._write_end = os.pipe()
        self.programs: list[Program] = []

    def start(self, name: str, run: Callable[[], int]) -> Program:
        """Fork a program; `run` returns its exit code."""
        log = self._logs / f"{name}.log"
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            self._be_child(log, run)
        program = Program(name, pid, log)
        self.programs.append(program)
        return program

    def _be_child(self, log: Path, run: Callable[[], int]) -> NoReturn:
        """In the child: own process group, own log, and an eye on the parent."""
        code = 1
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(self._write_end)
            _redirect(log)
            threading.Thread(target=_die_with_parent, args=(self._read_end,), daemon=True).start()
            code = run()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except KeyboardInterrupt:
            code = 130
        except StorageError as error:
            print(error, file=sys.stderr)
        except Exception as error:
            expected = as_cli_error(error)
            if expected is None:
                sys.excepthook(*sys.exc_info())
            else:
                print(
                    f"{expected.message}: {expected.fix}" if expected.fix else expected.message,
                    file=sys.stderr,
                )
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def dead(self) -> Program | None:
        """A program that has ended although nobody asked it to."""
        return next((program for program in self.programs if program.poll() is not None), None)

    def stop(self) -> None:
        """SIGTERM in reverse order of starting, SIGKILL for what does not listen."""
        for program in reversed(self.programs):
            if program.poll() is None:
                _end(program)


def _end(program: Program) -> None:
    """Ask again after a moment: a child that was just forked may still have had its parent's handlers."""
    for _ in range(round(STOP_S / ASK_AGAIN_S)):
        _signal(program.pid, signal.SIGTERM)
        if _ended(program, ASK_AGAIN_S):
            return
    _signal(program.pid, signal.SIGKILL)
    _ended(program, STOP_S)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _ended(program: Program, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if program.poll() is not None:
            return True
        time.sleep(0.02)
    return False


def _redirect(log: Path) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)


def _die_with_parent(read_end: int) -> None:
    """The parent holds the only write end; when it dies, however, the read returns."""
    while os.read(read_end, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_S)
    os._exit(1)
