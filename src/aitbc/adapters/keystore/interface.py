"""What a keystore promises, and every way in which it says no.

Two implementations, one behavioural suite: `FileKeystore` (wallet files) and `MemoryKeystore` (tests and
programs that were handed a key).
"""

import re
from dataclasses import dataclass, field
from typing import Protocol

MIN_PASSWORD_CHARACTERS = 8
"""Argon2id makes each guess cost about a tenth of a second; below this, few guesses are needed."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A private key and where it came from. Never printed, never logged."""

    seed: bytes = field(repr=False)
    """32 bytes: the Ed25519 secret key."""
    mnemonic: str = field(default="", repr=False)
    """BIP-39 words, when the key was derived from some."""
    path: str = ""
    """SLIP-0010 path from the words to the key."""


@dataclass(frozen=True, kw_only=True)
class KeyInfo:
    """What anybody may know about a key."""

    name: str
    address: str
    pubkey: str
    """As JSON writes keys."""


class Keystore(Protocol):
    """Private keys by name, each under a password. Refuses with a `KeystoreError`."""

    def entries(self) -> list[KeyInfo]:
        """Every key, by name. A file that cannot be read is not in the list."""
        ...

    def find(self, name: str) -> KeyInfo: ...

    def add(self, name: str, secret: Secret, password: str) -> KeyInfo:
        """Keep a new key; never overwrites one."""
        ...

    def unlock(self, name: str, password: str) -> Secret: ...


class KeystoreError(Exception):
    """One line that says what is wrong, and one that says what to do."""

    code = "keystore"

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


class KeyNotFound(KeystoreError):
    code = "unknown_key"


class KeyExists(KeystoreError):
    code = "key_exists"


class BadKeyName(KeystoreError):
    code = "bad_key_name"


class WeakPassword(KeystoreError):
    code = "weak_password"


class WrongPassword(KeystoreError):
    code = "wrong_password"


class KeyFileTruncated(KeystoreError):
    """The file ends early, or is no JSON at all."""

    code = "key_file_truncated"


class KeyFileTampered(KeystoreError):
    """The file is whole but not what was written."""

    code = "key_file_tampered"


class KeyFileUnreadable(KeystoreError):
    """The operating system does not let us read or write it."""

    code = "key_file_unreadable"


class UnknownKeyFile(KeystoreError):
    """A version or an algorithm that this release does not know."""

    code = "key_file_unknown"


class BadSecret(KeystoreError):
    """Words or a hexadecimal key that are none."""

    code = "bad_secret"


def check_name(name: str) -> None:
    """A key's name is also its file's: lower case, no path."""
    if not _NAME.match(name):
        raise BadKeyName(
            f"{name[:60]!r} cannot be a key's name",
            "use 1 to 32 of a-z, 0-9, - and _, beginning with a letter or digit",
        )


def check_new_password(password: str) -> None:
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise WeakPassword("the password is too short", f"use at least {MIN_PASSWORD_CHARACTERS} characters")


def not_found(name: str) -> KeyNotFound:
    return KeyNotFound(
        f"there is no key named {name!r}", f"see: aitbc keys list, or make it: aitbc keys new {name}"
    )
