"""The two keystores: a folder of wallet files, and one in memory."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from aitbc.adapters.keystore.folders import private_folder
from aitbc.adapters.keystore.interface import (
    KeyExists,
    KeyFileUnreadable,
    KeyInfo,
    KeystoreError,
    Secret,
    WrongPassword,
    check_name,
    check_new_password,
    not_found,
)
from aitbc.adapters.keystore.wallet_file import (
    MAX_FILE_BYTES,
    STANDARD_COST,
    KdfCost,
    info_of,
    read_info,
    seal,
    unseal,
)


class FileKeystore:
    """Wallet files `<folder>/<name>.json`, for their owner only. The first `add` makes the folder."""

    def __init__(self, folder: Path, *, cost: KdfCost = STANDARD_COST) -> None:
        self.folder = folder
        self._cost = cost

    def entries(self) -> list[KeyInfo]:
        return [info for name in self._names() if (info := self._info_or_none(name)) is not None]

    def find(self, name: str) -> KeyInfo:
        check_name(name)
        return read_info(self._read(name), name, str(self._path(name)))

    def add(self, name: str, secret: Secret, password: str) -> KeyInfo:
        check_name(name)
        check_new_password(password)
        if self._path(name).exists():
            raise _exists(name)
        self._write(name, seal(name, secret, password, self._cost))
        return info_of(name, secret)

    def unlock(self, name: str, password: str) -> Secret:
        check_name(name)
        return unseal(self._read(name), password, str(self._path(name)))

    def path_of(self, name: str) -> Path:
        """Where the key is."""
        return self._path(name)

    def wallet_file(self, name: str) -> bytes:
        """The sealed file itself, for a copy elsewhere."""
        self.find(name)
        return self._read(name)

    def _names(self) -> list[str]:
        try:
            return sorted(path.stem for path in self.folder.iterdir() if path.suffix == ".json")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unreadable(self.folder, error) from None

    def _info_or_none(self, name: str) -> KeyInfo | None:
        try:
            return self.find(name)
        except KeystoreError:
            return None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _read(self, name: str) -> bytes:
        try:
            with self._path(name).open("rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            raise not_found(name) from None
        except OSError as error:
            raise _unreadable(self._path(name), error) from None

    def _write(self, name: str, data: bytes) -> None:
        """All or nothing, and never over an existing key: write aside, flush, then link into place."""
        target = self._path(name)
        aside = self.folder / f".{name}.{secrets.token_hex(4)}.tmp"
        try:
            private_folder(self.folder)
            try:
                _write_durably(aside, data)
                os.link(aside, target)
            finally:
                with suppress(FileNotFoundError):
                    aside.unlink()
            _flush_folder(self.folder)
        except FileExistsError:
            raise _exists(name) from None
        except OSError as error:
            raise _unreadable(target, error) from None


class MemoryKeystore:
    """Keys that vanish with the process; for tests and for programs that were handed a key."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[Secret, str]] = {}

    def entries(self) -> list[KeyInfo]:
        return [info_of(name, self._keys[name][0]) for name in sorted(self._keys)]

    def find(self, name: str) -> KeyInfo:
        check_name(name)
        return info_of(name, self._entry(name)[0])

    def add(self, name: str, secret: Secret, password: str) -> KeyInfo:
        check_name(name)
        check_new_password(password)
        if name in self._keys:
            raise _exists(name)
        self._keys[name] = (secret, password)
        return info_of(name, secret)

    def unlock(self, name: str, password: str) -> Secret:
        check_name(name)
        secret, right = self._entry(name)
        if password != right:
            raise WrongPassword(f"the password of {name!r} is another", "try again; nobody can reset it")
        return secret

    def _entry(self, name: str) -> tuple[Secret, str]:
        if name not in self._keys:
            raise not_found(name)
        return self._keys[name]


def _write_durably(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exists(name: str) -> KeyExists:
    return KeyExists(f"there is a key named {name!r} already", "choose another name")


def _unreadable(path: Path, error: OSError) -> KeyFileUnreadable:
    what = error.strerror or type(error).__name__
    return KeyFileUnreadable(
        f"{path}: {what}", "check its owner and permissions, or choose a folder with --home"
    )
