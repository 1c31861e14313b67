"""One process at a time votes with a key's file, whatever data folder it has.

The guard's lock is its folder's; whoever starts the same key with another folder would sign twice.
"""

import fcntl
import os
from pathlib import Path

from aitbc.core.types.reasons import Stops


class KeyLock:
    """Held until `release`, or until the process ends, however it does. Raises Stops when another process has it,
    OSError when the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise Stops(f"another process votes with the key in {path}; stop it first") from None

    def release(self) -> None:
        os.close(self._file)
