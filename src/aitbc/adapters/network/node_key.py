"""The node's own key in a file: who it is to other nodes. No validator's key, and worth no money."""

import os
from pathlib import Path

from aitbc.core.peer.handshake import KEY_BYTES
from aitbc.ports import StorageError


def load_or_create_node_key(path: Path) -> bytes:
    """The private key: 64 hexadecimal digits in a file for its owner only, made at the first start."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _load(path)
    except OSError as error:
        raise StorageError(f"{path}: the node key cannot be written ({error.strerror})") from None
    key = os.urandom(KEY_BYTES)
    with os.fdopen(descriptor, "w") as file:
        file.write(key.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key


def _load(path: Path) -> bytes:
    try:
        if path.stat().st_mode & 0o077:
            raise StorageError(f"{path}: others can read the node key; make it private with chmod 600")
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: the node key cannot be read ({error})") from None
    if len(key) != KEY_BYTES:
        raise StorageError(f"{path}: not a node key; remove the file and a new one is made")
    return key
