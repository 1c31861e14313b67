"""`aitbc stake`, `unstake` and `withdraw`: what a validator, provider or hub answers with. docs/spec/staking.md"""

import click

from aitbc.cli.money import amount
from aitbc.cli.sending import Sending, perform, sending_options
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.client.node import NodeClient
from aitbc.client.transactions import stake_payload, withdraw_payload
from aitbc.core.types.amounts import format_ait

_role = click.option(
    "--role", type=click.Choice(("validator", "provider", "hub")), required=True, help="Answer as what?"
)


@click.command(cls=AitbcCommand)
@click.argument("amount", type=amount)
@_role
@sending_options
@click.pass_obj
def stake(settings: Settings, amount: int, role: str, sending: Sending) -> None:
    """Put AMOUNT of the account --from into its bond. It can be slashed, and comes back by unstake and withdraw."""
    with NodeClient(settings.rpc) as node:
        story = f"{format_ait(amount)} of {sending.sender} into its bond as {role}"
        perform(settings, node, "STAKE", stake_payload(role=role, amount=amount), story, sending)


@click.command(cls=AitbcCommand)
@click.argument("amount", type=amount)
@_role
@sending_options
@click.pass_obj
def unstake(settings: Settings, amount: int, role: str, sending: Sending) -> None:
    """Begin to take AMOUNT out of the bond: it is free after the chain's unbonding time, and can be slashed until
    then."""
    with NodeClient(settings.rpc) as node:
        story = f"{format_ait(amount)} of {sending.sender}'s bond as {role} is on its way out"
        perform(settings, node, "UNSTAKE", stake_payload(role=role, amount=amount), story, sending)


@click.command(cls=AitbcCommand)
@_role
@sending_options
@click.pass_obj
def withdraw(settings: Settings, role: str, sending: Sending) -> None:
    """Take what is free of the bond back into the account."""
    with NodeClient(settings.rpc) as node:
        story = f"what is free of {sending.sender}'s bond as {role} comes back"
        perform(settings, node, "WITHDRAW", withdraw_payload(role=role), story, sending)
