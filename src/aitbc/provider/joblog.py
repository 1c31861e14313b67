"""The provider's own record as JSON lines: what was done and what was earned. Hashes, never prompts."""

import os
import time
from pathlib import Path
from typing import Any

import msgspec

MAX_LOG_BYTES = 16 * 1024 * 1024
"""About 60,000 jobs; then the file becomes `<name>.1` and a new one begins."""


def private(path: str, flags: int) -> int:
    """Opens files that nobody else on the machine may read."""
    return os.open(path, flags, 0o600)


class JsonLog:
    """Appends one line per entry."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, entry: dict[str, Any]) -> None:
        line = msgspec.json.encode({"at_ms": time.time_ns() // 1_000_000, **entry}) + b"\n"
        if self._path.exists() and self._path.stat().st_size + len(line) > MAX_LOG_BYTES:
            os.replace(self._path, self._path.with_name(self._path.name + ".1"))
        with open(self._path, "ab", opener=private) as file:
            file.write(line)


class EarningsLog:
    """Every paid receipt, once; never rotated, because sums are made of it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, entry: dict[str, Any]) -> None:
        with open(self._path, "ab", opener=private) as file:
            file.write(msgspec.json.encode(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """Entries by receipt; a line cut short by a crash is left out, its receipt is still in the queue."""
        entries: dict[str, dict[str, Any]] = {}
        for line in self._path.read_bytes().splitlines() if self._path.exists() else []:
            try:
                entry = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError:
                continue
            entries[str(entry.get("receipt_id"))] = entry
        return list(entries.values())


def by_day(paid: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sums by the local day on which the payment was seen, the oldest first; entries of older releases have none."""
    days: dict[str, dict[str, Any]] = {}
    for entry in paid:
        at_ms = int(entry.get("at_ms") or 0)
        name = time.strftime("%Y-%m-%d", time.localtime(at_ms / 1000)) if at_ms else "earlier"
        day = days.setdefault(name, {"day": name, "receipts": 0, "units": 0, "price": 0, "minted": 0})
        day["receipts"] += 1
        for field in ("units", "price", "minted"):
            day[field] += int(entry.get(field) or 0)
    return [days[name] for name in sorted(days, key=lambda name: (name != "earlier", name))]
