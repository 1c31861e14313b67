"""A disk that loses what was not synced: one folder, seen by the system calls of whoever writes there.

A file is safe when it was fsynced, a name when its folder was. Of the rest a power cut leaves any part: whole writes or
half ones, sectors in any order, zeros where a file had grown, names up to any change. `kill -9` leaves everything.
The calls are replaced in `os` while the disk is in use; nothing is really synced, so thousands of deaths take seconds.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

SECTOR = 512
REPLACED = ("open", "close", "write", "pwrite", "ftruncate", "fsync", "fdatasync", "replace")
REAL = {name: getattr(os, name) for name in REPLACED}

Files = dict[str, bytes]


class Died(BaseException):
    """The process is gone; nothing that it still tries has an effect."""


class File:
    """What has one name after the other. The first of its states is safe, the last is what processes see."""

    def __init__(self, content: bytes = b"") -> None:
        self.states = [content]

    def left(self, draw: random.Random) -> bytes:
        """After a power cut."""
        first, last = self.states[0], self.states[-1]
        if draw.randrange(2):
            at = draw.randrange(len(self.states))
            old, new = self.states[at], self.states[min(at + 1, len(self.states) - 1)]
            return _torn(old, new, draw)
        return _mixed(first, last, draw)


def _torn(old: bytes, new: bytes, draw: random.Random) -> bytes:
    """A write that came as far as some byte of what it changed."""
    size = max(len(old), len(new))
    changed = [at for at in range(0, size, SECTOR) if old[at : at + SECTOR] != new[at : at + SECTOR]]
    if not changed:
        return old
    cut = draw.randrange(changed[0], min(changed[-1] + SECTOR, size) + 1)
    return new[:cut] + old[cut:]


def _mixed(old: bytes, new: bytes, draw: random.Random) -> bytes:
    """Sectors of both, some of them half written, as long as the new one; what was never written there is zeros."""
    mixed = bytearray(old.ljust(len(new), b"\0")[: len(new)])
    for at in range(0, len(new), SECTOR):
        before, after = mixed[at : at + SECTOR], new[at : at + SECTOR]
        changed = [place for place in range(len(after)) if before[place] != after[place]]
        if changed:
            written = draw.choice((0, draw.choice(changed), draw.choice(changed), len(after)))
            mixed[at : at + written] = after[:written]
    return bytes(mixed)


class Disk:
    """`dies_at`: an even number, half of it the calls that are done before the process dies; odd: it dies right after
    the next one. `most_bytes`: how much one call writes at most, as on a disk that is nearly full."""

    def __init__(self, folder: Path, *, dies_at: int | None = None, most_bytes: int | None = None) -> None:
        self.folder = folder
        self.calls: list[str] = []
        """With the name of the file, or a dot for the folder; others may add what they do between."""
        self.is_dead = False
        self._dies_at, self._most_bytes = dies_at, most_bytes
        self._done = 0
        self._files: dict[int, str | File] = {}
        """By descriptor; the folder as its name."""
        names = {path.name: File(path.read_bytes()) for path in folder.iterdir()}
        self._names = [names]
        """States of the folder: the first is safe."""

    @contextmanager
    def used(self) -> Iterator["Disk"]:
        """Until the process ends, or dies, which lets go of its files."""
        with (
            patch.multiple(os, **{name: getattr(self, f"_call_{name}") for name in REPLACED}),
            suppress(Died),
        ):
            yield self
        for descriptor in self._files:
            REAL["close"](descriptor)
        self._files.clear()

    def after_a_kill(self) -> Files:
        return {name: file.states[-1] for name, file in self._names[-1].items()}

    def after_a_power_cut(self, draw: random.Random | None) -> Files:
        """What was safe, and with `draw` any part of the rest."""
        if draw is None:
            return {name: file.states[0] for name, file in self._names[0].items()}
        return {name: file.left(draw) for name, file in draw.choice(self._names).items()}

    # Calls

    def _does(self, what: str, work: Callable[[], Any]) -> Any:
        self._may_die()
        result = work()
        self.calls.append(what)
        self._done += 1
        self._may_die(after=True)
        return result

    def _may_die(self, *, after: bool = False) -> None:
        if self.is_dead or self._dies_at == 2 * self._done - after:
            self.is_dead = True
            raise Died

    def _name_of(self, file: str | File) -> str:
        if isinstance(file, str):
            return file
        return next((name for name, named in self._names[-1].items() if named is file), "nameless")

    def _rename(self, change: Callable[[dict[str, File]], None]) -> None:
        names = dict(self._names[-1])
        change(names)
        self._names.append(names)

    def _call_open(self, path: Any, flags: int, mode: int = 0o777, **others: Any) -> int:
        if Path(path) == self.folder:
            descriptor: int = self._does("open .", lambda: REAL["open"](path, flags, mode))
            self._files[descriptor] = "."
            return descriptor
        if Path(path).parent != self.folder:
            return int(REAL["open"](path, flags, mode, **others))
        name = Path(path).name

        def work() -> int:
            descriptor = int(REAL["open"](path, flags, mode))
            file = self._names[-1].get(name)
            if file is None:
                file = File()
                self._rename(lambda names: names.update({name: file}))
            elif flags & os.O_TRUNC:
                file.states.append(b"")
            self._files[descriptor] = file
            return descriptor

        return int(self._does(f"open {name}", work))

    def _call_close(self, descriptor: int) -> None:
        self._files.pop(descriptor, None)
        REAL["close"](descriptor)

    def _call_replace(self, old: Any, new: Any) -> None:
        if Path(new).parent != self.folder:
            REAL["replace"](old, new)
            return

        def work() -> None:
            REAL["replace"](old, new)
            self._rename(lambda names: names.update({Path(new).name: names.pop(Path(old).name)}))

        self._does(f"replace {Path(new).name}", work)

    def _call_write(self, descriptor: int, data: Any) -> int:
        """All files here that are written from where they are grow at their end."""
        return self._changes("write", descriptor, lambda: REAL["write"](descriptor, data[: self._most_bytes]))

    def _call_pwrite(self, descriptor: int, data: Any, at: int) -> int:
        return self._changes(
            "pwrite", descriptor, lambda: REAL["pwrite"](descriptor, data[: self._most_bytes], at)
        )

    def _call_ftruncate(self, descriptor: int, length: int) -> None:
        self._changes("ftruncate", descriptor, lambda: REAL["ftruncate"](descriptor, length))

    def _changes(self, what: str, descriptor: int, call: Callable[[], Any]) -> Any:
        file = self._files.get(descriptor)
        if not isinstance(file, File):
            return call()

        def work() -> Any:
            result = call()
            with open(f"/proc/self/fd/{descriptor}", "rb") as seen:
                file.states.append(seen.read())
            return result

        return self._does(f"{what} {self._name_of(file)}", work)

    def _call_fsync(self, descriptor: int) -> None:
        self._syncs("fsync", descriptor)

    def _call_fdatasync(self, descriptor: int) -> None:
        self._syncs("fdatasync", descriptor)

    def _syncs(self, what: str, descriptor: int) -> None:
        file = self._files.get(descriptor)
        if file is None:
            REAL[what](descriptor)
            return

        def work() -> None:
            if isinstance(file, File):
                del file.states[:-1]
            else:
                del self._names[:-1]

        self._does(f"{what} {self._name_of(file)}", work)


def restored(folder: Path, files: Files) -> Path:
    """A folder with these files and no others."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
