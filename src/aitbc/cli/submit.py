"""Send a transaction and wait as long as the user wants to."""

import json
from collections.abc import Callable
from typing import Any

import click

from aitbc.cli.settings import Settings
from aitbc.cli.show import answer
from aitbc.client.jobs import wait_final
from aitbc.client.node import NodeClient
from aitbc.core.codec.digests import transaction_id
from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.transactions import Transaction

WAITS = ("none", "included", "final")


def wait_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--wait` and `--timeout` of every command that sends something."""
    wait = click.option(
        "--wait",
        type=click.Choice(WAITS),
        default="final",
        show_default=True,
        help="Return when it is sent, in a block, or can never be undone.",
    )
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0),
        default=30,
        show_default=True,
        help="Most seconds to wait.",
    )
    return wait(timeout(command))


def submit(
    settings: Settings,
    node: NodeClient,
    tx: Transaction,
    story: str,
    *,
    wait: str,
    timeout: float,
    dry_run: bool = False,
) -> None:
    """Send and report; with `dry_run` show the exact transaction instead."""
    if dry_run:
        _show_unsent(settings, node, tx, story)
        return
    await_transaction(settings, node, node.send(tx), story, wait=wait, timeout=timeout)


def await_transaction(
    settings: Settings, node: NodeClient, tx_id: str, story: str, *, wait: str, timeout: float
) -> None:
    """Report a sent transaction. Blocks are final when they are made, so `included` waits like `final`."""
    if wait == "none":
        answer(settings, {"txHash": tx_id, "status": "pending"}, story, f"sent: {tx_id}")
        return
    outcome = wait_final(node, tx_id, timeout)
    data = {key: outcome.get(key) for key in ("txHash", "status", "height", "index", "receipt")}
    answer(settings, data, story, f"final in block {outcome.get('height')}: {tx_id}")


def _show_unsent(settings: Settings, node: NodeClient, tx: Transaction, story: str) -> None:
    genesis_hash = node.head()["genesisHash"]
    tx_id = transaction_id(tx, bytes.fromhex(genesis_hash)).hex()
    view = transaction_to_plain(tx)
    data = {"tx": view, "txHash": tx_id, "fee": tx.fee, "signedDigest": tx_id, "genesisHash": genesis_hash}
    lines = (f"not sent: {story}", f"fee:      {format_ait(tx.fee)}", f"id:       {tx_id}", json.dumps(view))
    answer(settings, data, *lines)
