"""The address book on disk: without it a node that starts again knows nobody but whom it was told of, and whoever has
the most addresses is met first. docs/spec/p2p.md "Address book"
"""

import contextlib
import logging
from pathlib import Path

from aitbc.adapters.network.book_file import load_book, save_book
from aitbc.core.peer.book import BookRecord
from aitbc.ports import StorageError

log = logging.getLogger("aitbc.node")

BOOK_FILE = "peers.book"
FIRST_SAVE_S = 30.0
"""A node that dies young has found its first peers by then."""
SAVE_EVERY_S = 300.0


class BookKeeper:
    """One file. What cannot be read or written is told and costs the book, never the node: it can be learned again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / BOOK_FILE

    def load(self) -> BookRecord | None:
        """What was saved last; a damaged file is put aside."""
        try:
            return load_book(self._path)
        except StorageError as error:
            aside = self._path.with_name(BOOK_FILE + ".damaged")
            with contextlib.suppress(OSError):
                self._path.replace(aside)
            log.warning(
                "the address book begins anew: %s",
                error,
                extra={"component": "p2p", "event": "book_lost"},
            )
            return None

    def save(self, record: BookRecord) -> None:
        try:
            save_book(self._path, record)
        except StorageError as error:
            log.warning("%s", error, extra={"component": "p2p", "event": "book_not_saved"})
