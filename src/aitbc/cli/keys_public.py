"""`aitbc keys watch`, `multisig` and `forget`: accounts whose keys are elsewhere, or several."""

from typing import Any

import click

from aitbc.adapters.keystore import DEVNET_NAMES, KeystoreError, devnet_keys
from aitbc.adapters.keystore.accounts import PublicAccount
from aitbc.adapters.keystore.interface import KeyExists, check_name
from aitbc.cli.accounts import book_of, complete_account, keystore_errors, keystore_of
from aitbc.cli.errors import NOT_FOUND, USAGE, CliError
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer
from aitbc.client.signing import KeySigner
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.crypto.address import PREFIX, address_of, check_address
from aitbc.core.crypto.schemes import multisig_auth_key
from aitbc.core.types.reasons import Rejected


@click.command("watch", cls=AitbcCommand)
@click.argument("name")
@click.argument("what", metavar="ADDRESS|KEY")
@click.pass_obj
def watch(settings: Settings, name: str, what: str) -> None:
    """Keep an account whose key is elsewhere under a name: its balance can be seen, and transactions be made for it
    with --unsigned. By its public key also before it has signed anything."""
    try:
        if what.startswith(PREFIX + "1"):
            check_address(what)
            account = PublicAccount(name=name, address=what)
        else:
            account = PublicAccount(name=name, address=address_of(key_from_text(what)), pubkey=what)
    except Rejected as rejected:
        raise CliError(rejected.message, code=str(rejected.reason), exit_code=USAGE) from None
    _keep(settings, account)


@click.command("multisig", cls=AitbcCommand)
@click.argument("name")
@click.option("-k", "--needed", type=click.IntRange(1, 16), required=True, help="How many must sign.")
@click.option(
    "--member",
    "members",
    metavar="NAME|KEY",
    shell_complete=complete_account,
    multiple=True,
    required=True,
    help="One of your accounts, or a public key; repeatable, 16 at most, in any order.",
)
@click.pass_obj
def multisig(settings: Settings, name: str, needed: int, members: tuple[str, ...]) -> None:
    """Make an account for which so many of some keys must sign. The same keys make the same address anywhere."""
    try:
        auth_key = multisig_auth_key(needed, [public_key_of(settings, member) for member in members])
        account = PublicAccount(name=name, address=address_of(auth_key), pubkey=key_to_text(auth_key))
    except Rejected as rejected:
        raise CliError(rejected.message, code=str(rejected.reason), exit_code=USAGE) from None
    _keep(settings, account)


@click.command("forget", cls=AitbcCommand)
@click.argument("name", shell_complete=complete_account)
@click.pass_obj
def forget(settings: Settings, name: str) -> None:
    """Forget a watched or multisig account. Keys are not removed: that is for you to do, in the keys folder."""
    with keystore_errors():
        book_of(settings).remove(name)
    answer(settings, {"forgotten": name}, f"{name} is forgotten")


def public_key_of(settings: Settings, text: str) -> bytes:
    """The auth key behind a name of yours, a devnet's, or a key text; raises Rejected for what is none."""
    if text in DEVNET_NAMES:
        return KeySigner(devnet_keys()[text]).auth_key
    for find in (keystore_of(settings).find, book_of(settings).find):
        try:
            found = find(text).pubkey
        except KeystoreError:
            continue
        if not found:
            raise CliError(
                f"of {text} only the address is known", "name it by its public key", code="pubkey_required"
            )
        return key_from_text(found)
    if text.startswith(PREFIX + "1"):
        raise CliError(
            "that is an address: give the public key, as `aitbc keys show NAME` shows it",
            code="usage",
            exit_code=USAGE,
        )
    try:
        return key_from_text(text)
    except Rejected:
        raise CliError(
            f"{text[:60]!r} is neither an account of yours nor a public key",
            "see: aitbc keys list",
            code="unknown_key",
            exit_code=NOT_FOUND,
        ) from None


def view_of(account: PublicAccount) -> dict[str, Any]:
    return {"name": account.name, "address": account.address, "pubkey": account.pubkey}


def _keep(settings: Settings, account: PublicAccount) -> None:
    with keystore_errors():
        check_name(account.name)
        if account.name in DEVNET_NAMES or account.name in [i.name for i in keystore_of(settings).entries()]:
            raise KeyExists(f"there is a key named {account.name!r} already", "choose another name")
        book_of(settings).add(account)
    view = {**view_of(account), "kind": account.kind}
    answer(settings, view, f"{account.name}  {account.address}")
