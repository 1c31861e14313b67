"""Log and guard as files of their own, each fsynced with its directory, the guard locked against a second process.

docs/spec/simplex.md, "The log" and "The guard".
"""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from aitbc.core.consensus.engine import Statement
from aitbc.core.consensus.simplex.guard import (
    HALF_BYTES,
    Guard,
    admit,
    decode_guard,
    encode_half,
    made_anew,
    raise_floor,
)
from aitbc.core.consensus.simplex.wal import VoteRecord
from aitbc.core.types.reasons import Rejected, Stops

CLOCKS_DIFFER_MS = 5_000
"""More than this machine's clock can have gone back since it voted last."""


class LogFile:
    """The write-ahead log; on return from every change it is safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def read(self) -> bytes:
        return self._path.read_bytes()

    def append(self, frame: bytes) -> None:
        _write_all(self._file, frame)
        os.fdatasync(self._file)

    def cut(self, length: int) -> None:
        """Take off a torn tail."""
        os.ftruncate(self._file, length)
        os.fsync(self._file)

    def replace(self, data: bytes) -> None:
        """All or nothing: the new file is safe before it has the old one's name."""
        _replace(self._path, data)
        os.close(self._file)
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND)

    def close(self) -> None:
        os.close(self._file)


class GuardFile:
    """The signer guard. One process at a time holds it: a second one with the same key is the usual way to sign
    twice."""

    def __init__(self, path: Path, genesis_hash: bytes, *, now_ms: int, is_new: bool) -> None:
        """`is_new`: this key has never voted on this chain, or an operator vouches that it cannot vote any more.
        Else a guard that is missing or unreadable is made anew, and votes in later epochs only."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._lock(path)
        data = os.pread(self._file, 2 * HALF_BYTES, 0)
        try:
            self._guard = decode_guard(data, genesis_hash)
            self.was_lost = False
        except Rejected:
            never_finished = not any(data[HALF_BYTES:])  # a crash in the first start: nothing was signed
            self.was_lost = not (is_new and never_finished)
            vote_after_ms = now_ms + CLOCKS_DIFFER_MS if self.was_lost else 0
            self._guard = Guard(genesis_hash=genesis_hash, vote_after_ms=vote_after_ms)
        self._write(self._guard)
        _sync_folder(path.parent)

    def _lock(self, path: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise Stops(f"{path} is in use: another process of this validator runs; stop it first") from None

    @property
    def signed(self) -> list[VoteRecord]:
        """For the engine to begin from, beside the log's records."""
        return list(self._guard.signed)

    @property
    def vote_after_ms(self) -> int:
        return self._guard.vote_after_ms

    @property
    def floor(self) -> tuple[int, int]:
        return self._guard.floor

    def admit(self, statements: Sequence[Statement]) -> None:
        """Remember, safely, that these are signed; raises GuardRefuses, and then nothing may be."""
        guard = admit(self._guard, statements)
        if guard is not self._guard:
            self._write(guard)

    def raise_floor(self, epoch: int, slot: int) -> None:
        """After the block of that slot is on disk. Written with the next statement: until then the old floor is as
        good."""
        self._guard = raise_floor(self._guard, epoch, slot)

    def begin_anew(self, vote_after_ms: int) -> None:
        self._write(made_anew(self._guard, vote_after_ms))

    def _write(self, guard: Guard) -> None:
        """One half after the other, each safe before the next is touched."""
        content = encode_half(guard)
        for start in (0, HALF_BYTES):
            self._write_at(start, content)
            if os.fstat(self._file).st_size < 2 * HALF_BYTES:
                os.ftruncate(self._file, 2 * HALF_BYTES)
            os.fsync(self._file)
        self._guard = guard

    def _write_at(self, start: int, content: bytes) -> None:
        """All of it: a full disk may take a part only and says so at the next attempt."""
        done = 0
        while done < len(content):
            done += os.pwrite(self._file, content[done:], start + done)

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._file)


def _replace(path: Path, data: bytes) -> None:
    new = path.with_name(path.name + ".new")
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _write_all(file, data)
        os.fsync(file)
    finally:
        os.close(file)
    new.replace(path)
    _sync_folder(path.parent)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(folder: Path) -> None:
    """A name is on disk when its directory is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
