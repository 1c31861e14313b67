"""A real devnet in processes of its own, started as a user starts it."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

AITBC = Path(sys.executable).parent / "aitbc"


WORKERS = 4
MOST_NODES = 7


def free_port_base() -> int:
    """A base whose ports for nodes, hub and provider are free now.

    Below the ports that the system gives to outgoing connections, and never one of another test worker's, so that a
    network can be stopped and started again on its base.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    bases = list(range(20_000 + 400 * (worker % WORKERS), 32_000, 400 * WORKERS))
    while True:
        base = random.choice(bases)
        with contextlib.ExitStack() as stack:
            try:
                for offset in (*range(MOST_NODES), *range(100, 100 + MOST_NODES), 200, 300):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", base + offset))
            except OSError:
                continue
            return base


class Network:
    """A running devnet: its addresses and the command line pointed at it."""

    def __init__(self, process: subprocess.Popen[str], ready: dict[str, Any], data: Path) -> None:
        self.process = process
        self.ready = ready
        self.data = data
        self.rpc = str(ready["rpc"][0])
        self.hub = str(ready["hub"] or "")

    def cli(self, *words: str, check: bool = True, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        """Run `aitbc …` against this devnet with an empty home."""
        environment = {
            **os.environ,
            "AITBC_RPC": self.rpc,
            "AITBC_HUB": self.hub,
            "AITBC_HOME": str(self.data.parent / "home"),
            "NO_COLOR": "1",
        }
        result = subprocess.run(
            [str(AITBC), *words], env=environment, capture_output=True, text=True, timeout=timeout
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        assert "Traceback" not in result.stderr, result.stderr
        return result

    def json(self, *words: str) -> Any:
        return json.loads(self.cli(*words, "--json").stdout)

    def pids(self) -> dict[str, list[int]]:
        """Process ids of the devnet's children by the name of their log."""
        import psutil

        found: dict[str, list[int]] = {}
        for child in psutil.Process(self.process.pid).children(recursive=False):
            log = os.readlink(f"/proc/{child.pid}/fd/1")
            found.setdefault(Path(log).stem, []).append(child.pid)
        return found


def start(*options: str, data: Path, base: int | None = None) -> Network:
    command = [str(AITBC), "devnet", "--no-demo", "--data", str(data)]
    command += ["--port-base", str(base or free_port_base()), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        assert process.stderr is not None
        raise AssertionError(process.stderr.read())
    return Network(process, json.loads(line), data)


def stop(network: Network) -> int:
    if network.process.poll() is None:
        network.process.send_signal(signal.SIGINT)
    try:
        return network.process.wait(30)
    finally:
        network.process.kill()
        for pipe in (network.process.stdout, network.process.stderr):
            if pipe is not None:
                pipe.close()
