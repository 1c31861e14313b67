"""`aitbc provider register` and `aitbc hub register`: say on the chain what one serves. docs/spec/registry.md"""

from typing import Any

import click

from aitbc.cli.accounts import address_of, complete_account, signer_of
from aitbc.cli.errors import USAGE, CliError
from aitbc.cli.money import parse_money
from aitbc.cli.sending import Sending, perform, sending_options
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.client.node import NodeClient
from aitbc.client.transactions import register_payload, validator_witness
from aitbc.core.codec.canonical import unhex
from aitbc.core.codec.digests import compute_for_digest
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.records import ModelOffer


def offer(text: str) -> ModelOffer:
    """`tiny-lm:chat:1ait`: model, kind, and price of 1,000 compute units."""
    parts = text.split(":")
    try:
        if len(parts) != 3 or not parts[0] or not parts[1]:
            raise ValueError(f"{text[:60]!r} is no offer: write it like tiny-lm:chat:1ait")
        return ModelOffer(model=parts[0], kind=parts[1], price_per_kilounit=parse_money(parts[2]))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_models = click.option(
    "--model",
    "models",
    type=offer,
    metavar="MODEL:KIND:PRICE",
    multiple=True,
    help="Served, with the price of 1,000 compute units, like tiny-lm:chat:1ait; repeatable.",
)
_endpoint = click.option("--endpoint", default="", metavar="URL", help="Where it answers.")
_payout = click.option(
    "--payout", metavar="ACCOUNT", help="Where the money goes; the account itself by default."
)


@click.command("register", cls=AitbcCommand)
@_models
@_endpoint
@_payout
@click.option("--validator", metavar="ACCOUNT", help="The validator whom its compute counts for.")
@click.option("--validator-sig", metavar="HEX", help="That validator's word, from: aitbc keys vouch.")
@click.option(
    "--validator-key",
    metavar="NAME",
    shell_complete=complete_account,
    help="Or the validator's key, if it is yours: it gives its word here.",
)
@sending_options
@click.pass_obj
def register_provider(
    settings: Settings,
    models: tuple[ModelOffer, ...],
    endpoint: str,
    payout: str | None,
    validator: str | None,
    validator_sig: str | None,
    validator_key: str | None,
    sending: Sending,
) -> None:
    """Register the account --from as a provider, or replace what it has registered. `aitbc provider start` does it by
    itself."""
    with NodeClient(settings.rpc) as node:
        wanted = validator or validator_key
        payload = register_payload(
            role="provider",
            models=models,
            endpoint=endpoint,
            payout=address_of(settings, node, payout) if payout else "",
            validator=address_of(settings, node, wanted) if wanted else "",
        )
        witness: dict[str, Any] | None = None
        if validator_key is not None:
            witness = _own_word(settings, node, validator_key, address_of(settings, node, sending.sender))
        elif validator_sig is not None:
            witness = validator_witness(signature=_signature(validator_sig))
        perform(
            settings, node, "REGISTER", payload, f"{sending.sender} as provider", sending, witness=witness
        )


@click.command("register", cls=AitbcCommand)
@_models
@_endpoint
@_payout
@sending_options
@click.pass_obj
def register_hub(
    settings: Settings, models: tuple[ModelOffer, ...], endpoint: str, payout: str | None, sending: Sending
) -> None:
    """Register the account --from as a hub, or replace what it has registered: locks may name it then."""
    with NodeClient(settings.rpc) as node:
        payload = register_payload(
            role="hub",
            models=models,
            endpoint=endpoint,
            payout=address_of(settings, node, payout) if payout else "",
        )
        perform(settings, node, "REGISTER", payload, f"{sending.sender} as hub", sending)


def _own_word(settings: Settings, node: NodeClient, name: str, provider: str) -> dict[str, Any]:
    signer = signer_of(settings, node, name)
    digest = compute_for_digest(provider, signer.address, node.genesis_hash())
    return validator_witness(signature=signer.sign(digest))


def _signature(text: str) -> bytes:
    try:
        return unhex(text)
    except Rejected as rejected:
        raise CliError(rejected.message, code="usage", exit_code=USAGE) from None
