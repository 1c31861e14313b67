"""Send a transaction and wait as long as the user wants to."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from aitbc.cli.money import amount_or_zero
from aitbc.cli.settings import Settings
from aitbc.cli.show import answer
from aitbc.client.errors import Stopped, Unreachable
from aitbc.client.jobs import wait_final
from aitbc.client.node import NodeClient
from aitbc.client.transactions import Prepared
from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.types.amounts import format_ait

WAITS = ("none", "included", "final")
MAX_FEE_TEXT = "0.1ait"
"""`MAX_FEE` as it is typed."""


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


max_fee_option = click.option(
    "--max-fee",
    type=amount_or_zero,
    default=MAX_FEE_TEXT,
    show_default=True,
    metavar="AMOUNT",
    help="Sign nothing for which the node asks a higher fee.",
)


def submit(
    settings: Settings,
    node: NodeClient,
    prepared: Prepared,
    story: str,
    *,
    wait: str,
    timeout: float,
    dry_run: bool = False,
) -> None:
    """Send and report; with `dry_run` show the exact transaction instead."""
    if dry_run:
        _show_unsent(settings, node, prepared, story)
        return
    with nothing_is_lost(prepared.tx_id):
        node.send(prepared.tx)
        await_transaction(settings, node, prepared.tx_id, story, wait=wait, timeout=timeout)


@contextmanager
def nothing_is_lost(tx_id: str) -> Iterator[None]:
    """Ctrl-C or a lost node after a transaction was sent: say how to find out what became of it."""
    look = f"it may have been sent; before trying again, look with: aitbc tx {tx_id}"
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(look) from None
    except Unreachable as error:
        error.fix = look
        raise


def await_transaction(
    settings: Settings, node: NodeClient, tx_id: str, story: str, *, wait: str, timeout: float
) -> None:
    """Report a sent transaction. Where votes agree blocks are final when they are made, so `included` waits like
    `final`."""
    if wait == "none":
        answer(settings, {"txHash": tx_id, "status": "pending"}, story, f"sent: {tx_id}")
        return
    outcome = wait_final(node, tx_id, timeout, included=wait == "included")
    data = {key: outcome.get(key) for key in ("txHash", "status", "height", "index", "receipt")}
    final = "final " if outcome["status"] == "final" else ""
    answer(settings, data, story, f"{final}in block {outcome.get('height')}: {tx_id}")


def _show_unsent(settings: Settings, node: NodeClient, prepared: Prepared, story: str) -> None:
    tx, tx_id = prepared
    view, genesis_hash = transaction_to_plain(tx), node.head()["genesisHash"]
    data = {"tx": view, "txHash": tx_id, "fee": tx.fee, "signedDigest": tx_id, "genesisHash": genesis_hash}
    lines = (f"not sent: {story}", f"fee:      {format_ait(tx.fee)}", f"id:       {tx_id}", json.dumps(view))
    answer(settings, data, *lines)
