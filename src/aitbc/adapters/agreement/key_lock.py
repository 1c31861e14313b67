"""One process of this user votes with a key on a chain, whatever folders it uses.

The guard's lock is its folder's; whoever starts the same key with another folder would sign twice.
"""

import fcntl
import logging
import os
from hashlib import sha256
from pathlib import Path

from aitbc.adapters.keystore.folders import private_folder
from aitbc.core.types.reasons import Stops

log = logging.getLogger("aitbc.node")


def lock_folder() -> Path:
    """Where XDG's base directories keep what survives a restart."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "aitbc" / "locks"


class KeyLock:
    """Held until `release`, or until the process ends, however it does. Raises Stops when another process has it."""

    def __init__(self, auth_key: bytes, genesis_hash: bytes) -> None:
        name = sha256(genesis_hash + auth_key).hexdigest()[:32]
        path = lock_folder() / f"{name}.lock"
        self._file: int | None = None
        try:
            private_folder(path.parent)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
            log.warning(
                "%s cannot be used (%s): nothing but the guard's lock keeps this key from voting twice on this machine;"
                " set XDG_STATE_HOME to a folder that this user can write to",
                path.parent,
                error,
                extra={"component": "consensus", "event": "no_key_lock"},
            )
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise Stops(
                "another process on this machine votes with this key on this chain (it holds"
                f" {path}); stop it first"
            ) from None

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
