"""`aitbc keys rotate` and `vouch`: another key for an account; a validator's word for a provider."""

import click

from aitbc.adapters.keystore import DEVNET_NAMES
from aitbc.cli.accounts import address_of, complete_account, payer_of, signer_of, unlocked
from aitbc.cli.errors import CliError
from aitbc.cli.sending import Sending, perform, sending_options
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note
from aitbc.client.node import NodeClient
from aitbc.client.signing import KeySigner
from aitbc.client.transactions import key_rotate_payload
from aitbc.core.codec.digests import compute_for_digest
from aitbc.core.codec.keytext import key_to_text


@click.command("rotate", cls=AitbcCommand)
@click.option(
    "--to",
    "new_name",
    metavar="NAME",
    shell_complete=complete_account,
    required=True,
    help="A key of yours that the account gets.",
)
@sending_options
@click.pass_obj
def rotate(settings: Settings, new_name: str, sending: Sending) -> None:
    """Give the account --from another key. Its address stays; from then on only the new key signs for it.

    Keep the old key as long as receipts of finished work are under way.
    """
    with NodeClient(settings.rpc) as node:
        payer = payer_of(settings, node, sending.sender)
        if new_name in DEVNET_NAMES and sending.sender not in DEVNET_NAMES:
            raise CliError(
                f"{new_name!r} is a public devnet key", "make one of your own: aitbc keys new NAME"
            )
        new_key = KeySigner(unlocked(settings, new_name).seed)
        payload = key_rotate_payload(sender=payer.address, new_key=new_key, genesis_hash=node.genesis_hash())
        story = f"{sending.sender} gets the key of {new_name}, {key_to_text(new_key.auth_key)}"
        if perform(settings, node, "KEY_ROTATE", payload, story, sending):
            note(f"{sending.sender} keeps its address; {new_name} signs for it from now on")


@click.command("vouch", cls=AitbcCommand)
@click.argument("provider", shell_complete=complete_account)
@click.option(
    "--key",
    "name",
    metavar="NAME",
    shell_complete=complete_account,
    required=True,
    help="The validator's key.",
)
@click.pass_obj
def vouch(settings: Settings, provider: str, name: str) -> None:
    """Print a validator's word that PROVIDER's compute counts for it, for: aitbc provider register --validator-sig."""
    with NodeClient(settings.rpc) as node:
        signer = signer_of(settings, node, name)
        address = address_of(settings, node, provider)
        digest = compute_for_digest(address, signer.address, node.genesis_hash())
    signature = signer.sign(digest).hex()
    answer(settings, {"validator": signer.address, "provider": address, "sig": signature}, signature)
