"""Log and guard that live as long as their process: for tests, and for a validator that is never restarted."""

from collections.abc import Sequence

from aitbc.core.consensus.engine import Statement
from aitbc.core.consensus.simplex.guard import Guard, admit, made_anew, raise_floor
from aitbc.core.consensus.simplex.wal import VoteRecord


class MemoryLog:
    def __init__(self) -> None:
        self._data = b""

    def read(self) -> bytes:
        return self._data

    def append(self, frame: bytes) -> None:
        self._data += frame

    def cut(self, length: int) -> None:
        self._data = self._data[:length]

    def replace(self, data: bytes) -> None:
        self._data = data

    def close(self) -> None:
        """Nothing is held."""


class MemoryGuard:
    def __init__(self, genesis_hash: bytes) -> None:
        self._guard = Guard(genesis_hash=genesis_hash)

    @property
    def signed(self) -> list[VoteRecord]:
        return list(self._guard.signed)

    @property
    def vote_after_ms(self) -> int:
        return self._guard.vote_after_ms

    def admit(self, statements: Sequence[Statement]) -> None:
        self._guard = admit(self._guard, statements)

    def raise_floor(self, epoch: int, slot: int) -> None:
        self._guard = raise_floor(self._guard, epoch, slot)

    @property
    def floor(self) -> tuple[int, int]:
        return self._guard.floor

    def begin_anew(self, vote_after_ms: int) -> None:
        self._guard = made_anew(self._guard, vote_after_ms)

    def close(self) -> None:
        """Nothing is held."""
