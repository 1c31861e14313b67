"""Blocks that are missing, and who is asked for them next. docs/spec/workshop.md "Search"

First the one who told of a descendant, alone; then everybody, with a search that finds its way back.
"""

from collections.abc import Iterator
from enum import Enum

import msgspec

DIRECT_MS = 2_000
SEARCH_MS = 30_000
"""The seed's patience."""
MAX_WANTED = 256
"""Branches whose beginning is missing. Each has cost somebody the work of a block."""


class Stage(Enum):
    NEW = 0
    ASKED = 1
    SEARCHED = 2


class Want(msgspec.Struct):
    hash: bytes
    teller: int
    """The link by which we heard of it; it may be gone."""
    stage: Stage = Stage.NEW
    again_ms: int = 0
    ids: list[bytes] = msgspec.field(default_factory=list)
    """Of our open searches, the newest last."""


class Wants:
    def __init__(self) -> None:
        self._wants: dict[bytes, Want] = {}

    def __len__(self) -> int:
        return len(self._wants)

    def __contains__(self, hash_: bytes) -> bool:
        return hash_ in self._wants

    def by_id(self, id_: bytes) -> Want | None:
        return next((want for want in self._wants.values() if id_ in want.ids), None)

    def add(self, hash_: bytes, teller: int) -> Want | None:
        """None when it is wanted already, or too much is."""
        if hash_ in self._wants or len(self._wants) >= MAX_WANTED:
            return None
        want = self._wants[hash_] = Want(hash_, teller)
        return want

    def hurry(self, hash_: bytes) -> None:
        """Who was asked has it not: the next is asked now."""
        if hash_ in self._wants:
            self._wants[hash_].again_ms = 0

    def drop(self, hash_: bytes) -> None:
        self._wants.pop(hash_, None)

    def keep_only(self, missing: set[bytes]) -> None:
        self._wants = {hash_: want for hash_, want in self._wants.items() if hash_ in missing}

    def due(self, now_ms: int) -> Iterator[Want]:
        for want in list(self._wants.values()):
            if now_ms >= want.again_ms:
                yield want
