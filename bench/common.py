"""What the measuring scripts share: a devnet to measure, the memory of a process tree, results as JSON."""

import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
AITBC = str(Path(sys.executable).parent / "aitbc")
PORT_BASE = int(os.environ.get("PORT_BASE", "23000"))
Json = dict[str, Any]


def spread(values: list[float], digits: int = 3) -> Json:
    """Minimum, median, maximum and count."""
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
        "n": len(values),
    }


def save(name: str, goal: str, results: Json) -> None:
    """Write results with what a reader needs to judge them, and print them."""
    document = {
        "measured": name,
        "goal": goal,
        "machine": {
            "cpus": os.cpu_count(),
            "processor": _processor(),
            "python": platform.python_version(),
            "load_at_end": round(os.getloadavg()[0], 2),
        },
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


class Devnet:
    """A running devnet and its ready line."""

    def __init__(self, process: subprocess.Popen[str], ready: Json, seconds: float) -> None:
        self.process = process
        self.ready = ready
        self.seconds = seconds
        """From the start of the command to the ready line."""

    @property
    def rpc(self) -> str:
        return str(self.ready["rpc"][0])

    @property
    def hub(self) -> str:
        return str(self.ready["hub"])

    def memory_mb(self) -> float:
        """Proportional set size of the whole tree, so that memory shared after fork counts once."""
        total = 0
        parent = psutil.Process(self.process.pid)
        for process in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / 2**20


@contextlib.contextmanager
def devnet(*options: str) -> Iterator[Devnet]:
    """Start a devnet as a user does, stop it as Ctrl-C does."""
    command = [AITBC, "devnet", "--no-demo", "--port-base", str(PORT_BASE), *options]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - started
        if not line:
            raise SystemExit("the devnet did not start; run `aitbc devnet` to see why")
        yield Devnet(process, json.loads(line), seconds)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
