"""What lies in a node's data folder, and that one node uses it at a time."""

import fcntl
import os
from pathlib import Path

from aitbc.ports import StorageError

NODE_KEY_FILE = "node.key"
DATABASE_FILE = "chain.db"
"""In the data folder, unless DATABASE_URL names another place."""


class FolderLock:
    """One node per data folder; the lock goes with the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / "node.lock").open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"another node is using {folder}; stop it or choose another folder") from None
        except OSError as error:
            raise StorageError(
                f"cannot write to {folder} ({os.strerror(error.errno or 0)}); choose another"
            ) from None

    def release(self) -> None:
        self._file.close()
