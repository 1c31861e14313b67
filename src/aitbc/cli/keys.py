"""`aitbc keys`: make, list, import and export keys."""

import sys
from pathlib import Path
from string import hexdigits
from typing import BinaryIO

import click

from aitbc.adapters.keystore import (
    DEFAULT_PATH,
    DEVNET_NAMES,
    KeyInfo,
    Secret,
    devnet_keys,
    new_mnemonic,
    secret_from_mnemonic,
)
from aitbc.adapters.keystore.interface import BadSecret, KeyExists
from aitbc.adapters.keystore.wallet_file import MAX_FILE_BYTES, info_of, unseal
from aitbc.cli.accounts import ask_password, complete_account, keystore_errors, keystore_of
from aitbc.cli.files import write_private
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note, table

_WRITE_DOWN = "Write these words down; whoever has them has the money, and without them nobody can help:"

OWN, WELL_KNOWN = "yours", "public devnet key"


@click.group(name="keys")
def command() -> None:
    """Make, list, import and export keys."""


@command.command(name="list", cls=AitbcCommand)
@click.pass_obj
def list_keys(settings: Settings) -> None:
    """List your keys, and the well-known keys that every devnet has."""
    with keystore_errors():
        own = [(info, OWN) for info in keystore_of(settings).entries()]
    known = [(_devnet_info(name), WELL_KNOWN) for name in DEVNET_NAMES]
    data = [{**_view(info), "kind": kind} for info, kind in own + known]
    answer(settings, data, *table([(info.name, info.address, kind) for info, kind in own + known]))


@command.command(name="new", cls=AitbcCommand)
@click.argument("name")
@click.pass_obj
def new_key(settings: Settings, name: str) -> None:
    """Make a key, kept in a file under a password; shows the twelve words that restore it."""
    words = new_mnemonic()
    with keystore_errors():
        _require_free(settings, name)
        info = _add(settings, name, secret_from_mnemonic(words))
    note(f"{_WRITE_DOWN}\n\n  {words}\n")
    answer(settings, _view(info), f"{info.name}  {info.address}")


@command.command(name="import", cls=AitbcCommand)
@click.argument("name")
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--path", default=DEFAULT_PATH, show_default=True, help="SLIP-0010 path, for words.")
@click.pass_obj
def import_key(settings: Settings, name: str, file: BinaryIO | None, path: str) -> None:
    """Import a key: from FILE (`-` for stdin), else asked for on the terminal.

    Words (BIP-39, no passphrase), a secret key of 64 hexadecimal digits or a wallet file that
    `aitbc keys export` wrote, which keeps its password.
    """
    with keystore_errors():
        _require_free(settings, name)
        raw = file.read(MAX_FILE_BYTES + 1) if file else _ask_secret().encode()
        if raw.lstrip().startswith(b"{"):
            password = ask_password("Password of the wallet file")
            info = keystore_of(settings).add(name, unseal(raw, password, "the wallet file"), password)
        else:
            info = _add(settings, name, _secret_from_text(raw.decode("utf-8", "replace"), path))
    answer(settings, _view(info), f"{info.name}  {info.address}")


@command.command(name="export", cls=AitbcCommand)
@click.argument("name", shell_complete=complete_account)
@click.option("--secret", "show_secret", is_flag=True, help="Print the words or the secret key, unencrypted.")
@click.option("-o", "output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
@click.pass_obj
def export_key(settings: Settings, name: str, show_secret: bool, output: Path | None) -> None:
    """Print a key's wallet file, still under its password; with --secret the secret itself."""
    with keystore_errors():
        text = _secret_text(settings, name) if show_secret else _wallet_text(settings, name)
    if show_secret:
        note("whoever reads this has the money")
    if output is None:
        click.echo(text)
        return
    write_private(output, text.encode() + b"\n")
    answer(settings, {"name": name, "file": str(output)}, f"{name} is in {output}")


@command.command(name="show", cls=AitbcCommand)
@click.argument("name", shell_complete=complete_account)
@click.pass_obj
def show_key(settings: Settings, name: str) -> None:
    """Show a key's address and public key."""
    with keystore_errors():
        own = name not in DEVNET_NAMES
        info = keystore_of(settings).find(name) if own else _devnet_info(name)
    kind = OWN if own else WELL_KNOWN
    lines = table([("name", info.name), ("address", info.address), ("pubkey", info.pubkey), ("kind", kind)])
    answer(settings, {**_view(info), "kind": kind}, *lines)


def _add(settings: Settings, name: str, secret: Secret) -> KeyInfo:
    password = ask_password(f"New password for {name}", confirm=True)
    return keystore_of(settings).add(name, secret, password)


def _require_free(settings: Settings, name: str) -> None:
    """Refuse a taken name before anything is typed; a devnet's names would be ambiguous."""
    if name in DEVNET_NAMES:
        raise KeyExists(f"{name!r} is the name of a public devnet key", "choose another name")
    if any(info.name == name for info in keystore_of(settings).entries()):
        raise KeyExists(f"there is a key named {name!r} already", "choose another name")


def _ask_secret() -> str:
    if not sys.stdin.isatty():
        raise BadSecret("no words were given", "give a file, or - to read them from stdin")
    words: str = click.prompt("Words or secret key", hide_input=True, err=True)
    return words


def _secret_from_text(text: str, path: str) -> Secret:
    """Words have spaces between them, a secret key is one run of hexadecimal digits."""
    digits = text.strip()
    if not digits or any(character not in hexdigits for character in digits):
        return secret_from_mnemonic(text, path)
    if len(digits) != 64:
        raise BadSecret(f"{len(digits)} hexadecimal digits are no secret key", "an Ed25519 secret key has 64")
    return Secret(seed=bytes.fromhex(digits))


def _secret_text(settings: Settings, name: str) -> str:
    if name in DEVNET_NAMES:
        return devnet_keys()[name].hex()
    keystore_of(settings).find(name)
    secret = keystore_of(settings).unlock(name, ask_password(f"Password of {name}"))
    return secret.mnemonic or secret.seed.hex()


def _wallet_text(settings: Settings, name: str) -> str:
    if name in DEVNET_NAMES:
        raise BadSecret(
            f"{name!r} is a public devnet key and has no wallet file", "add --secret to see its key"
        )
    return keystore_of(settings).wallet_file(name).decode().rstrip()


def _devnet_info(name: str) -> KeyInfo:
    return info_of(name, Secret(seed=devnet_keys()[name]))


def _view(info: KeyInfo) -> dict[str, str]:
    return {"name": info.name, "address": info.address, "pubkey": info.pubkey}
