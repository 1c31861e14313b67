"""`aitbc keys`: make, list, import and export keys."""

import sys
from pathlib import Path
from string import hexdigits
from typing import IO, Any

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
from aitbc.adapters.keystore.accounts import MULTI, PublicAccount
from aitbc.adapters.keystore.interface import BadSecret, KeyExists
from aitbc.adapters.keystore.wallet_file import MAX_FILE_BYTES, info_of, unseal
from aitbc.cli.accounts import ask_password, book_of, complete_account, keystore_errors, keystore_of
from aitbc.cli.files import write_private
from aitbc.cli.keys_public import forget, multisig, watch
from aitbc.cli.keys_rotate import rotate, vouch
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note, table
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.crypto.schemes import multisig_members

_WRITE_DOWN = "Write these words down; whoever has them has the money, and without them nobody can help:"

LEAST_WORDS = 6
"""No path has so many parts, and mnemonics have 12 or more."""

OWN, WELL_KNOWN = "yours", "public devnet key"


def secret_file(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> IO[bytes] | None:
    """The file to read a secret from. A secret typed in its place is neither used nor repeated: it stands in the
    shell's history and in the list of processes by now."""
    if not values:
        return None
    digits = values[0].strip().lower().removeprefix("0x")
    is_hex = len(digits) >= 32 and all(letter in hexdigits for letter in digits)
    if len(" ".join(values).split()) >= LEAST_WORDS or is_hex:
        raise click.BadParameter(
            "a secret on the command line can be seen by others: give a file, or - for stdin", ctx, param
        )
    if len(values) > 1:
        raise click.BadParameter("give one file", ctx, param)
    opened: IO[bytes] = click.File("rb").convert(values[0], param, ctx)
    return opened


@click.group(name="keys")
def command() -> None:
    """Make, list, import and export keys."""


for _command in (watch, multisig, forget, rotate, vouch):
    command.add_command(_command)


@command.command(name="list", cls=AitbcCommand)
@click.pass_obj
def list_keys(settings: Settings) -> None:
    """List your keys, and the well-known keys that every devnet has."""
    with keystore_errors():
        own: list[tuple[KeyInfo | PublicAccount, str]] = [
            (info, OWN) for info in keystore_of(settings).entries()
        ]
        own += [(account, account.kind) for account in book_of(settings).entries()]
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
@click.argument("file", metavar="[FILE]", nargs=-1, callback=secret_file)
@click.option("--path", default=DEFAULT_PATH, show_default=True, help="SLIP-0010 path, for words.")
@click.option("--passphrase", "asks", is_flag=True, help="The words have a BIP-39 passphrase: ask for it.")
@click.option(
    "--passphrase-file", type=click.File("rb"), help="It is in this file, up to the end of the line."
)
@click.pass_obj
def import_key(
    settings: Settings,
    name: str,
    file: IO[bytes] | None,
    path: str,
    asks: bool,
    passphrase_file: IO[bytes] | None,
) -> None:
    """Import a key: from FILE (`-` for stdin), else asked for on the terminal.

    Words (BIP-39), a secret key of 64 hexadecimal digits or a wallet file that `aitbc keys export` wrote, which keeps
    its password. Of words with a passphrase only the key is kept: keep both yourself.
    """
    with keystore_errors():
        _require_free(settings, name)
        raw = file.read(MAX_FILE_BYTES + 1) if file else _ask_secret().encode()
        passphrase = _passphrase(asks, passphrase_file)
        if passphrase and not _are_words(raw):
            raise BadSecret("only words have a passphrase", "leave it out for a secret key or a wallet file")
        if raw.lstrip().startswith(b"{"):
            password = ask_password("Password of the wallet file")
            info = keystore_of(settings).add(name, unseal(raw, password, "the wallet file"), password)
        else:
            info = _add(settings, name, _secret_from_text(raw.decode("utf-8", "replace"), path, passphrase))
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
    """Show an account's address and public key, and who must sign for it."""
    with keystore_errors():
        info, kind = _found(settings, name)
    rows = [
        ("name", info.name),
        ("address", info.address),
        ("pubkey", info.pubkey or "not known"),
        ("kind", kind),
    ]
    more: dict[str, Any] = {}
    if kind == MULTI:
        members = multisig_members(key_from_text(info.pubkey))
        more = {"needed": members.threshold, "members": [key_to_text(key) for key in members.keys]}
        rows += [("needed", f"{members.threshold} of {len(members.keys)}")]
        rows += [("member", key) for key in more["members"]]
    answer(settings, {**_view(info), "kind": kind, **more}, *table(rows))


def _found(settings: Settings, name: str) -> tuple[KeyInfo | PublicAccount, str]:
    if name in DEVNET_NAMES:
        return _devnet_info(name), WELL_KNOWN
    account = next((found for found in book_of(settings).entries() if found.name == name), None)
    return (account, account.kind) if account else (keystore_of(settings).find(name), OWN)


def _add(settings: Settings, name: str, secret: Secret) -> KeyInfo:
    password = ask_password(f"New password for {name}", confirm=True)
    return keystore_of(settings).add(name, secret, password)


def _require_free(settings: Settings, name: str) -> None:
    """Refuse a taken name before anything is typed; a devnet's names would be ambiguous."""
    if name in DEVNET_NAMES:
        raise KeyExists(f"{name!r} is the name of a public devnet key", "choose another name")
    keys, accounts = keystore_of(settings).entries(), book_of(settings).entries()
    if name in [info.name for info in keys] or name in [account.name for account in accounts]:
        raise KeyExists(f"there is a key named {name!r} already", "choose another name")


def _ask_secret() -> str:
    if not sys.stdin.isatty():
        raise BadSecret("no words were given", "give a file, or - to read them from stdin")
    words: str = click.prompt("Words or secret key", hide_input=True, err=True)
    return words


def _passphrase(asks: bool, file: IO[bytes] | None) -> str:
    if file is not None:
        return file.readline(MAX_FILE_BYTES).decode("utf-8", "replace").rstrip("\r\n")
    if not asks:
        return ""
    if not sys.stdin.isatty():
        raise BadSecret("no passphrase was given", "use --passphrase-file where there is no terminal")
    passphrase: str = click.prompt("Passphrase of the words", hide_input=True, err=True)
    return passphrase


def _are_words(raw: bytes) -> bool:
    return not raw.lstrip().startswith(b"{") and len(raw.split()) > 1


def _secret_from_text(text: str, path: str, passphrase: str) -> Secret:
    """Words have spaces between them, a secret key is one run of hexadecimal digits."""
    digits = text.strip()
    if not digits or any(character not in hexdigits for character in digits):
        return secret_from_mnemonic(text, path, passphrase)
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


def _view(info: KeyInfo | PublicAccount) -> dict[str, str]:
    return {"name": info.name, "address": info.address, "pubkey": info.pubkey}
