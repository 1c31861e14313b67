"""Names on the command line: your keys, and on a devnet its well-known keys.

Passwords never come from arguments.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from aitbc.adapters.keystore import DEVNET_NAMES, FileKeystore, KeystoreError, Secret, devnet_keys
from aitbc.adapters.keystore.accounts import AccountBook
from aitbc.cli.chains import chain_to_sign_for
from aitbc.cli.errors import FAILURE, NOT_FOUND, USAGE, CliError
from aitbc.cli.settings import Settings
from aitbc.client.node import NodeClient
from aitbc.client.signing import KeySigner
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.crypto.address import PREFIX, check_address
from aitbc.core.crypto.schemes import MULTISIG, multisig_members
from aitbc.core.types.reasons import Rejected

PASSWORD_FILE = "AITBC_PASSWORD_FILE"

_EXIT_CODES = {"unknown_key": NOT_FOUND, "bad_key_name": USAGE}


@contextmanager
def keystore_errors() -> Iterator[None]:
    """The keystore's refusals as the command line's."""
    try:
        yield
    except KeystoreError as error:
        exit_code = _EXIT_CODES.get(error.code, FAILURE)
        raise CliError(error.message, error.fix, code=error.code, exit_code=exit_code) from None


def keystore_of(settings: Settings) -> FileKeystore:
    return FileKeystore(settings.keys_folder)


def book_of(settings: Settings) -> AccountBook:
    """Accounts whose keys are elsewhere, or with several."""
    return AccountBook(settings.accounts_folder)


def complete_account(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Account names for the shell: from the home folder, never from the network."""
    settings = ctx.find_object(Settings) or Settings(home=Path(os.environ.get("AITBC_HOME", "~/.aitbc")))
    try:
        names = [info.name for info in keystore_of(settings).entries()]
        names += [account.name for account in book_of(settings).entries()]
    except (KeystoreError, OSError):
        names = []
    return [CompletionItem(name) for name in [*names, *DEVNET_NAMES] if name.startswith(incomplete)]


def own_names(settings: Settings) -> dict[str, str]:
    """Address by name of every key in the keystore, and of every account that is kept without one."""
    with keystore_errors():
        named = {account.name: account.address for account in book_of(settings).entries()}
        return {info.name: info.address for info in keystore_of(settings).entries()} | named


def devnet_addresses() -> dict[str, str]:
    return {name: KeySigner(seed).address for name, seed in devnet_keys().items()}


def address_of(settings: Settings, node: NodeClient, account: str) -> str:
    """The address behind a name, or the address itself once its checksum is right."""
    if account.startswith(PREFIX + "1"):
        return _checked_address(account)
    own = own_names(settings).get(account)
    if own is not None:
        return own
    _require_devnet_name(settings, node, account)
    return devnet_addresses()[account]


class Payer(NamedTuple):
    """An account that is to sign something, and the key that the chain has for it."""

    name: str
    address: str
    auth_key: bytes


def payer_of(settings: Settings, node: NodeClient, name: str) -> Payer:
    """Who signs, without unlocking anything: a key of yours, a watched account, one of k keys, or a public one."""
    chain_to_sign_for(settings, node)
    address = address_of(settings, node, name)
    text = str(node.account(address).get("pubkey") or "") or _first_key_text(settings, name)
    if not text:
        raise CliError(
            f"the key of {name} is not known: {address} has signed nothing yet",
            f"watch it by its public key: aitbc keys watch {name[:32]} KEY",
            code="pubkey_required",
        )
    try:
        return Payer(name, address, key_from_text(text))
    except Rejected as rejected:
        raise CliError(f"the key of {name}: {rejected.message}", code=str(rejected.reason)) from None


def signer_of(settings: Settings, node: NodeClient, name: str) -> KeySigner:
    """The key behind a name, unlocked, for its account on the node's chain; a devnet's well-known ones too.

    An account whose key was rotated is signed for by the key that the chain has for it now, if that is yours.
    """
    payer = payer_of(settings, node, name)
    key_name = name_of_key(settings, payer.auth_key)
    if key_name is None or (key_name in DEVNET_NAMES and not is_devnet(node)):
        raise _no_key_here(settings, payer)
    return KeySigner(unlocked(settings, key_name).seed, address=payer.address)


def name_of_key(settings: Settings, auth_key: bytes) -> str | None:
    """Which of your keys, or of the public ones, this is."""
    text = key_to_text(auth_key)
    with keystore_errors():
        own = [info.name for info in keystore_of(settings).entries() if info.pubkey == text]
    public = [name for name, seed in devnet_keys().items() if KeySigner(seed).auth_key == auth_key]
    return next(iter(own + public), None)


def unlocked(settings: Settings, name: str) -> Secret:
    """A key's secret, by its password; the public ones have none."""
    if name in DEVNET_NAMES:
        return Secret(seed=devnet_keys()[name])
    with keystore_errors():
        keystore_of(settings).find(name)
        password = ask_password(f"Password of {name}")
        return keystore_of(settings).unlock(name, password)


def _first_key_text(settings: Settings, name: str) -> str:
    """The key of an account that has signed nothing yet, from what is kept here."""
    with keystore_errors():
        keys = {info.name: info.pubkey for info in keystore_of(settings).entries()}
        keys |= {account.name: account.pubkey for account in book_of(settings).entries()}
    if name in DEVNET_NAMES:
        return key_to_text(KeySigner(devnet_keys()[name]).auth_key)
    return keys.get(name, "")


def _no_key_here(settings: Settings, payer: Payer) -> CliError:
    if payer.auth_key[0] == MULTISIG:
        members = multisig_members(payer.auth_key)
        what = f"{payer.name} signs with {members.threshold} of {len(members.keys)} keys"
        fix = "write the transaction to a file with --unsigned FILE, then: aitbc tx sign FILE --key NAME"
    else:
        what = f"the key of {payer.name}, {key_to_text(payer.auth_key)}, is not here"
        fix = "import it, or write the transaction to a file for its owner with --unsigned FILE"
    return CliError(what, fix, code="no_key_here")


def is_devnet(node: NodeClient) -> bool:
    """Does the node serve a devnet genesis, and is that really the chain it is on?"""
    genesis, head = node.genesis(), node.head()
    params: Any = genesis.get("params") or {}
    return bool(params.get("devnet") == 1 and genesis_hash_of(jcs(genesis)).hex() == head["genesisHash"])


def ask_password(prompt: str, *, confirm: bool = False) -> str:
    """From the file that AITBC_PASSWORD_FILE names, else from the terminal."""
    file = os.environ.get(PASSWORD_FILE)
    if file:
        if Path(file).stat().st_mode & 0o077:
            raise CliError(f"{file} can be read by others", f"chmod 600 {file}", code="file_is_open")
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        return lines[0] if lines else ""
    if not sys.stdin.isatty():
        raise CliError(
            "a password is needed and there is no terminal to ask on",
            f"put it in a file that only you can read and name the file in {PASSWORD_FILE}",
            code="password_needed",
        )
    password: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return password


def _checked_address(text: str) -> str:
    try:
        check_address(text)
    except Rejected as rejected:
        raise CliError(rejected.message, code=str(rejected.reason), exit_code=USAGE) from None
    return text


def _require_devnet_name(settings: Settings, node: NodeClient, name: str) -> None:
    """Well-known keys are public: anywhere but on a devnet their money is anybody's."""
    if name not in DEVNET_NAMES:
        raise CliError(
            f"there is no key named {name[:60]!r}",
            f"see: aitbc keys list, or make it: aitbc keys new {name[:32]}",
            code="unknown_key",
            exit_code=NOT_FOUND,
        )
    if not is_devnet(node):
        raise CliError(
            f"{name!r} is a public devnet key and {settings.rpc} is not a devnet",
            "use a key of your own: aitbc keys new NAME",
            code="not_devnet",
        )
