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
        self._drawn = b""
        """What is left of the last hash: four numbers come of each."""

    def below(self, limit: int) -> int:
        if not self._drawn:
            self._count += 1
            self._drawn = sha256(self._secret + self._count.to_bytes(8, "big")).digest()
        number, self._drawn = self._drawn[:8], self._drawn[8:]
        return int.from_bytes(number, "big") % limit

    def one_of(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]
