"""`aitbc balance`, `send` and `faucet`: money in accounts."""

from typing import Any

import click

from aitbc.adapters.keystore import DEVNET_NAMES
from aitbc.cli.accounts import address_of, complete_account, devnet_addresses, is_devnet, own_names
from aitbc.cli.money import amount
from aitbc.cli.sending import Sending, perform, sending_options
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, table
from aitbc.cli.submit import await_transaction, nothing_is_lost, wait_options
from aitbc.client.node import NodeClient
from aitbc.client.transactions import transfer_payload
from aitbc.core.types.amounts import format_ait


@click.command(cls=AitbcCommand)
@click.argument("account", shell_complete=complete_account, required=False)
@click.pass_obj
def balance(settings: Settings, account: str | None) -> None:
    """Show what ACCOUNT (a name or an address) holds; without it, what your keys hold."""
    with NodeClient(settings.rpc) as node:
        if account is not None:
            accounts = {account: address_of(settings, node, account)}
        else:
            accounts = (devnet_addresses() if is_devnet(node) else {}) | own_names(settings)
        holdings = {name: node.balance(address) for name, address in accounts.items()}
    data = [_holding(name, accounts[name], held) for name, held in holdings.items()]
    if account is not None:
        answer(settings, data[0], format_ait(holdings[account]))
        return
    rows = [(name, format_ait(held), accounts[name]) for name, held in holdings.items()]
    answer(settings, data, *(table(rows) or ["no keys yet; make one with: aitbc keys new NAME"]))


@click.command(cls=AitbcCommand)
@click.argument("to", shell_complete=complete_account)
@click.argument("amount", type=amount)
@click.option("--data", default="", help="Text that goes with it; priced by size.")
@sending_options
@click.pass_obj
def send(settings: Settings, to: str, amount: int, data: str, sending: Sending) -> None:
    """Send AMOUNT (like 25ait) to the account TO."""
    with NodeClient(settings.rpc) as node:
        payload = transfer_payload(to=address_of(settings, node, to), amount=amount, data=data)
        story = f"{format_ait(amount)} from {sending.sender} to {to}"
        perform(settings, node, "TRANSFER", payload, story, sending)


@click.command(cls=AitbcCommand)
@click.argument("account", shell_complete=complete_account)
@click.argument("amount", type=amount)
@wait_options
@click.pass_obj
def faucet(settings: Settings, account: str, amount: int, wait: str, timeout: float) -> None:
    """Have a devnet's faucet give AMOUNT to ACCOUNT; other chains have no faucet."""
    with NodeClient(settings.rpc) as node:
        tx_id = node.faucet(address_of(settings, node, account), amount)
        story = f"{format_ait(amount)} to {account}"
        with nothing_is_lost(tx_id):
            await_transaction(settings, node, tx_id, story, wait=wait, timeout=timeout)


def _holding(name: str, address: str, held: int) -> dict[str, Any]:
    view: dict[str, Any] = {"address": address, "balance": held, "text": format_ait(held)}
    return {"name": name, **view, "kind": "devnet" if name in DEVNET_NAMES else "own"}
