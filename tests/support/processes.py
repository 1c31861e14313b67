"""Nodes in processes of their own, started as an operator starts them, and cables between them that can be cut."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from support.devnet import AITBC


def ask(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return json.loads(answer.read())


def wait_for(what: Any, seconds: float = 40) -> Any:
    """The first true answer; a node that does not answer yet is asked again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError):
            found = what()
            if found:
                return found
        time.sleep(0.02)
    raise AssertionError("it took too long")


@contextmanager
def node(
    data: Path, genesis_file: Path, port: int, *peers: int, options: tuple[str, ...] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """RPC at `port`, others connect 100 above, as they do to each of `peers`; killed at the end."""
    command = ["--p2p-port", str(port + 100)]
    for peer in peers:
        command += ["--peer", f"127.0.0.1:{peer + 100}"]
    process = start_node(data, genesis_file, port, *command, *options)
    try:
        yield process
    finally:
        end(process)


def start_node(data: Path, genesis_file: Path, port: int, *options: str) -> "subprocess.Popen[bytes]":
    data.mkdir(exist_ok=True)
    command = [str(AITBC), "node", "start", "--genesis", str(genesis_file), "--data", str(data)]
    with (data / "log").open("ab") as log:
        return subprocess.Popen([*command, "--port", str(port), *options], stdout=log, stderr=log)


def end(process: "subprocess.Popen[bytes]") -> None:
    """As a power cut does."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)
    process.kill()
    process.wait(10)


class Cable:
    """Listens at a port of its own and passes one process's bytes on to another; cut, it passes nothing and ends
    nothing. Nodes tell each other where they are connected, so others call too: they are hung up on."""

    def __init__(self, target: tuple[str, int], *, owner: Callable[[], int]) -> None:
        """`owner`: the process that may use it."""
        self._target, self._owner = target, owner
        self._whole = threading.Event()
        self._whole.set()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.where = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._take_calls, daemon=True).start()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def close(self) -> None:
        self._whole.set()
        for one in (self._listener, *self._ends):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _take_calls(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(caller,), daemon=True).start()

    def _is_owner(self, caller: socket.socket) -> bool:
        with suppress(psutil.Error, OSError, KeyError):
            own = psutil.Process(self._owner()).net_connections("tcp4")
            return caller.getpeername()[1] in {one.laddr.port for one in own}
        return False

    def _connect(self, caller: socket.socket) -> None:
        self._ends.append(caller)
        if not self._is_owner(caller):
            caller.close()
            return
        self._whole.wait()
        with suppress(OSError):
            target = socket.create_connection(self._target, 5)
            target.settimeout(None)
            self._ends.append(target)
            for ends in ((caller, target), (target, caller)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()
            return
        caller.close()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._whole.wait()
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
