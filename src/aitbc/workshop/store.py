"""The blocks of a workshop node, one text a line in the order in which they came. docs/spec/workshop.md "On disk"

Reading them in that order makes the same choices again, so a restart keeps the tip.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from aitbc.workshop.core.reasons import WorkshopFault
from aitbc.workshop.core.texts import Block, decode_text, parse_block


class StoreError(Exception):
    """The file is in use, or is not ours; said to the operator."""


class BlockFile:
    """Appended to only; a last line that a crash tore is cut off."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "blocks.txt"
        self._file = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise StoreError(f"{self.path} is used by another node") from None

    def read(self) -> Iterator[Block]:
        self._file.seek(0)
        good = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                yield parse_block(decode_text(line[:-1]))
            except WorkshopFault as fault:
                raise StoreError(f"{self.path}, line {number}: {fault}; move the file away") from None
            good += len(line)
        self._file.truncate(good)

    def append(self, block: Block) -> None:
        self._file.write(block.text.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
