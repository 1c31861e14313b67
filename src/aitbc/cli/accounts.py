"""Names on the command line: your keys, and on a devnet its well-known keys.

Passwords never come from arguments.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from aitbc.adapters.keystore import DEVNET_NAMES, FileKeystore, KeystoreError, devnet_keys
from aitbc.cli.errors import FAILURE, NOT_FOUND, USAGE, CliError
from aitbc.cli.settings import Settings
from aitbc.client.node import NodeClient
from aitbc.client.signing import KeySigner
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.crypto.address import PREFIX, check_address
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


def complete_account(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Key names for the shell: from the keystore, never from the network."""
    settings = ctx.find_object(Settings) or Settings(home=Path(os.environ.get("AITBC_HOME", "~/.aitbc")))
    try:
        names = [info.name for info in keystore_of(settings).entries()]
    except KeystoreError:
        names = []
    return [CompletionItem(name) for name in [*names, *DEVNET_NAMES] if name.startswith(incomplete)]


def own_names(settings: Settings) -> dict[str, str]:
    """Address by name of every key in the keystore."""
    with keystore_errors():
        return {info.name: info.address for info in keystore_of(settings).entries()}


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


def signer_of(settings: Settings, node: NodeClient, name: str) -> KeySigner:
    """The key behind a name: unlocked from the keystore, or a devnet's well-known one."""
    if name in own_names(settings):
        password = ask_password(f"Password of {name}")
        with keystore_errors():
            return KeySigner(keystore_of(settings).unlock(name, password).seed)
    _require_devnet_name(settings, node, name)
    return KeySigner(devnet_keys()[name])


def is_devnet(node: NodeClient) -> bool:
    """Does the node serve a devnet genesis, and is that really the chain it is on?"""
    genesis, head = node.genesis(), node.head()
    params: Any = genesis.get("params") or {}
    return bool(params.get("devnet") == 1 and genesis_hash_of(jcs(genesis)).hex() == head["genesisHash"])


def ask_password(prompt: str, *, confirm: bool = False) -> str:
    """From the file that AITBC_PASSWORD_FILE names, else from the terminal."""
    file = os.environ.get(PASSWORD_FILE)
    if file:
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
