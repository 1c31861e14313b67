"""Accounts without a secret: those that are only watched, and those of k of n keys. docs/spec/keys.md

A file `<folder>/<name>.json` for each, which holds nothing that others must not know.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

import msgspec

from aitbc.adapters.keystore.folders import private_folder
from aitbc.adapters.keystore.interface import KeyExists, KeystoreError, check_name, not_found
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.crypto.address import address_of, check_address
from aitbc.core.crypto.schemes import MULTISIG
from aitbc.core.types.reasons import Reason, Rejected

MAX_FILE_BYTES = 8 * 1024
"""A multisig key text has at most 2,056 characters."""

WATCHED, MULTI = "watched", "multisig"


class BadAccountFile(KeystoreError):
    code = "bad_account_file"


class PublicAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of an account whose key is elsewhere."""

    name: str
    address: str
    pubkey: str = ""
    """As JSON writes keys; empty when only the address is known."""

    @property
    def kind(self) -> str:
        return MULTI if self.pubkey.startswith("multisig:") else WATCHED


def account_of_key(name: str, auth_key: bytes, text: str) -> PublicAccount:
    return PublicAccount(name=name, address=address_of(auth_key), pubkey=text)


class AccountBook:
    """The folder of these files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> list[PublicAccount]:
        """By name; what cannot be read is not in the list."""
        names = sorted(path.stem for path in self.folder.glob("*.json")) if self.folder.is_dir() else []
        found = []
        for name in names:
            with suppress(KeystoreError):
                found.append(self.find(name))
        return found

    def find(self, name: str) -> PublicAccount:
        """Raises KeystoreError when there is none, or its file was changed by hand to one that is none."""
        check_name(name)
        path = self._path(name)
        try:
            with path.open("rb") as file:
                account = msgspec.json.decode(file.read(MAX_FILE_BYTES), type=PublicAccount)
            _check(account)
        except FileNotFoundError:
            raise not_found(name) from None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, Rejected) as error:
            raise BadAccountFile(
                f"{path} cannot be read: {error}", "remove it, and add the account again"
            ) from None
        return msgspec.structs.replace(account, name=name)

    def add(self, account: PublicAccount) -> None:
        """Keep a new one; never overwrites."""
        check_name(account.name)
        target = self._path(account.name)
        aside = target.with_name(f".{account.name}.{secrets.token_hex(4)}.tmp")
        private_folder(self.folder)
        try:
            aside.write_bytes(msgspec.json.format(msgspec.json.encode(account), indent=1) + b"\n")
            os.link(aside, target)
        except FileExistsError:
            raise KeyExists(
                f"there is an account named {account.name!r} already", "choose another name"
            ) from None
        finally:
            aside.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        check_name(name)
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            raise not_found(name) from None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def _check(account: PublicAccount) -> None:
    """An address that a multisig's key does not make would send money into the void."""
    check_address(account.address)
    if not account.pubkey:
        return
    auth_key = key_from_text(account.pubkey)
    if auth_key[0] == MULTISIG and address_of(auth_key) != account.address:
        raise Rejected(Reason.WRONG_KEY, "the key makes another address")
