"""What this machine has and what is left of it: memory, cores, cards. Read from the kernel; nothing is guessed."""

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
UNKNOWN_BYTES = 2**62
"""Where the kernel does not say, nobody is refused for it."""


def available_bytes() -> int:
    """Memory that a process may still take: the machine's, or what its container leaves."""
    return min(_meminfo("MemAvailable"), _container_left())


def total_bytes() -> int:
    return min(_meminfo("MemTotal"), _container_limit())


def resident_bytes(pid: int) -> int:
    """Memory of a process; 0 when there is none of this number."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def cores() -> int:
    """That this process may use; a container may have fewer than its machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "cpu"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({cores()} cores)" if names else "cpu"


def _meminfo(name: str) -> int:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return UNKNOWN_BYTES
    found = [line.split() for line in lines if line.startswith(f"{name}:")]
    return int(found[0][1]) * 1024 if found else UNKNOWN_BYTES


def _container_limit() -> int:
    return _number(_CGROUP / "memory.max") or UNKNOWN_BYTES


def _container_left() -> int:
    limit = _number(_CGROUP / "memory.max")
    return max(0, limit - _number(_CGROUP / "memory.current")) if limit else UNKNOWN_BYTES


def _number(path: Path) -> int:
    """0 for what is not there and for `max`."""
    try:
        text = path.read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0
