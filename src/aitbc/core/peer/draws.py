"""Choices that others must not foresee, from a secret that the host brings."""

from collections.abc import Sequence
from hashlib import sha256
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """A stream of numbers that only who knows the secret can predict; the same secret gives the same stream."""

    def __init__(self, secret: bytes) -> None:
        assert len(secret) == 32
        self._secret = secret
        self._count = 0

    def below(self, limit: int) -> int:
        self._count += 1
        drawn = sha256(self._secret + self._count.to_bytes(8, "big")).digest()
        return int.from_bytes(drawn[:8], "big") % limit

    def one_of(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]
