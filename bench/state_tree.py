"""Cost of the state tree: root update per changed key, taking back, loading, proving, and memory per key.

Goals: ≤ 12 µs per key for 20,000 updates of 1,000,000; load ≤ 2.5 s for 1,000,000 rows; ≤ 170 bytes per key. Keys are
42 characters and values 49 bytes, as accounts have them. Times are CPU time of this process, because machines are
shared; each size runs in a process of its own, for the memory.
"""

import gc
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

import psutil
from common import Json, save, spread

from aitbc.core.crypto.indexed_tree import IndexedTree, TreeUndo

SIZES = (100_000, 1_000_000)
DIRTY = (200, 2_000, 20_000)
RUNS = 5
JOURNAL = 64
"""Blocks that a node can take back and prove."""


class Rows(Sequence[tuple[int, str, bytes]]):
    """Rows made while they are read, so that nothing but the tree keeps their slot numbers."""

    def __init__(self, keys: list[str], values: list[bytes]) -> None:
        self._keys = keys
        self._values = values

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[tuple[int, str, bytes]]:
        return zip(range(1, len(self) + 1), self._keys, self._values, strict=True)

    def __getitem__(self, at: int | slice) -> list[tuple[int, str, bytes]]:  # type: ignore[override]
        assert isinstance(at, slice)
        return list(zip(range(1, len(self) + 1)[at], self._keys[at], self._values[at], strict=True))


def key_of(number: int) -> str:
    return "ait1" + sha256(b"%d" % number).hexdigest()[:38]


def seconds_of(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def hash_us() -> float:
    """SHA-256 of one group here and now: what the machine can do at best."""
    data = bytes(129)
    return min(seconds_of(lambda: [sha256(data).digest() for _ in range(10_000)]) for _ in range(20)) * 100


class Subject:
    """A loaded tree, and what it costs to change it."""

    def __init__(self, size: int) -> None:
        self.chance = random.Random(size)
        self.keys = [key_of(number) for number in range(size)]
        self.values = [self.chance.randbytes(49) for _ in range(size)]
        self.fresh = [key_of(size + number) for number in range(max(DIRTY))]
        self.tree = IndexedTree("accounts")
        gc.collect()
        before = psutil.Process().memory_info().rss
        self.load_s = seconds_of(lambda: self.tree.load(Rows(self.keys, self.values)))
        gc.collect()
        self.bytes_per_key = (psutil.Process().memory_info().rss - before) / size
        self.known = dict(zip(self.keys, self.values, strict=True))

    def changes(self, kind: str, dirty: int) -> dict[str, bytes | None]:
        if kind == "add":
            return {key: self.chance.randbytes(49) for key in self.chance.sample(self.fresh, dirty)}
        some = self.chance.sample(self.keys, dirty)
        return {key: self.chance.randbytes(49) if kind == "change" else None for key in some}

    def measure(self, kind: str, dirty: int) -> Json:
        """Update and undo, in µs per key."""
        update, undo = [], []
        for _ in range(RUNS):
            changes = self.changes(kind, dirty)
            started = time.process_time()
            made = self.update(changes)
            between = time.process_time()
            self.tree.undo(made)
            update.append((between - started) / dirty * 1e6)
            undo.append((time.process_time() - between) / dirty * 1e6)
        return {"update_us_per_key": spread(update, 2), "undo_us_per_key": spread(undo, 2)}

    def update(self, changes: dict[str, bytes | None]) -> TreeUndo:
        return self.tree.update(changes, self.known.__getitem__)

    def prove(self) -> Json:
        """With a full journal of blocks of 2,000 changes: now, and in the oldest state that it reaches."""
        undos = [self.update(self.changes("change", 2_000)) for _ in range(JOURNAL)]
        kept = sum(4 * len(positions) + len(nodes) for undo in undos for positions, nodes in undo.nodes)
        return {
            "prove_us_now": spread(self.prove_us([]), 1),
            f"prove_us_{JOURNAL}_blocks_ago": spread(self.prove_us(undos), 1),
            "undo_bytes_per_key": round(kept / JOURNAL / 2_000, 1),
        }

    def prove_us(self, since: list[TreeUndo]) -> list[float]:
        asked = self.chance.sample(self.keys, 100)
        return [
            seconds_of(lambda key=key: self.tree.prove(key, self.known.__getitem__, since)) * 1e6  # type: ignore[misc]
            for key in asked
        ]


def measure(size: int) -> Json:
    subject = Subject(size)
    return {
        "sha256_us": round(hash_us(), 3),
        "load_s": round(subject.load_s, 2),
        "memory_bytes_per_key": round(subject.bytes_per_key, 1),
        **{
            f"{kind}_{dirty}": subject.measure(kind, dirty)
            for kind in ("change", "add", "remove")
            for dirty in DIRTY
        },
        **subject.prove(),
    }


def table(results: Json) -> str:
    lines = [f"{'':24}" + "".join(f"{name:>20}" for name in results)]
    for row in next(iter(results.values())):
        cells = [cell_of(result[row]) for result in results.values()]
        lines.append(f"{row:24}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join([*lines, "change, add, remove N: µs per key to update / to take back, the median"])


def cell_of(figure: Json | float) -> str:
    """One figure, the median of several, or such a cell for each part."""
    if not isinstance(figure, dict):
        return str(figure)
    if "median" in figure:
        return str(figure["median"])
    return " / ".join(cell_of(part) for part in figure.values())


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
        return
    results = {}
    for size in SIZES:
        command = [sys.executable, __file__, str(size)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[f"{size}_keys"] = json.loads(done.stdout)
    save(
        "state_tree",
        "<= 12 µs per key for 20,000 changes of 1,000,000 keys; load <= 2.5 s; <= 170 bytes per key",
        results,
    )
    print(table(results))


if __name__ == "__main__":
    main()
