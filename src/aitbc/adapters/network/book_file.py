"""The address book in a file, so that a restarted node does not depend on its bootstrap peers."""

import os
from pathlib import Path

from aitbc.core.codec.wire import pack, unpack
from aitbc.core.peer.book import BookRecord
from aitbc.core.types.reasons import Rejected
from aitbc.ports import StorageError

MAX_FILE = 2 * 1024 * 1024
"""5,120 addresses at 250 bytes, and some room."""


def save_book(path: Path, record: BookRecord) -> None:
    """Replace the file; a crash leaves the old one. Others cannot read it: who knows its secret could aim at places."""
    aside = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pack(record))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: the address book cannot be written ({error.strerror})") from None


def load_book(path: Path) -> BookRecord | None:
    """What was saved; None when nothing was. A damaged file is a StorageError: remove it and a new book begins."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: the address book cannot be read ({error.strerror})") from None
    try:
        return unpack(raw, BookRecord, limit=MAX_FILE)
    except Rejected as rejection:
        raise StorageError(f"{path}: the address book is damaged ({rejection}); remove the file") from None
