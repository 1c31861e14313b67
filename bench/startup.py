"""Time from `aitbc devnet` to its ready line, the cost of `aitbc --help`, and the devnet's peak memory.

Goals: ready ≤ 2.5 s; --help ≤ 0.3 CPU-s without FastAPI or SQLAlchemy; peak memory ≤ 600 MB with a job running.
"""

import resource
import subprocess
import sys
import threading
import time

from common import AITBC, Devnet, devnet, save, spread

RUNS = 7


def help_cpu_s() -> float:
    """CPU seconds of one `aitbc --help`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([AITBC, "--help"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def help_imports() -> list[str]:
    """Heavy modules that `aitbc --help` imports; should be none."""
    code = (
        "import sys; sys.argv = ['aitbc', '--help']\n"
        "from aitbc.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'fastapi', 'sqlalchemy', 'pydantic', 'numpy', 'httpx2', 'rich'}\n"
        "print('HEAVY', *sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in output.splitlines() if line.startswith("HEAVY")]
    return line.split()[1:]


def peak_memory_mb() -> float:
    """Highest memory of the tree while a picture and a text are made."""
    with devnet() as net:
        peak, done = [net.memory_mb()], threading.Event()
        watcher = threading.Thread(target=_watch, args=(net, peak, done))
        watcher.start()
        flags = ["--rpc", net.rpc, "--hub", net.hub, "--from", "alice", "--json"]
        for words in (["image", "a red circle on blue", "-o", "/dev/null"], ["chat", "Once upon"]):
            if words[0] == "image":
                import tempfile

                with tempfile.TemporaryDirectory() as folder:
                    words[-1] = f"{folder}/out.png"
                    subprocess.run([AITBC, *words, *flags], check=True, stdout=subprocess.DEVNULL)
            else:
                subprocess.run([AITBC, *words, *flags], check=True, stdout=subprocess.DEVNULL)
        done.set()
        watcher.join()
    return max(peak)


def _watch(net: Devnet, peak: list[float], done: threading.Event) -> None:
    while not done.is_set():
        peak.append(net.memory_mb())
        time.sleep(0.1)


def main() -> None:
    ready = []
    for _ in range(RUNS):
        with devnet() as net:
            ready.append(net.seconds)
    save(
        "startup",
        "ready <= 2.5 s; --help <= 0.3 CPU-s, no heavy imports; peak memory <= 600 MB",
        {
            "devnet_ready_s": spread(ready),
            "help_cpu_s": spread([help_cpu_s() for _ in range(RUNS)]),
            "help_heavy_imports": help_imports(),
            "devnet_peak_pss_mb": round(peak_memory_mb(), 1),
        },
    )


if __name__ == "__main__":
    main()
