"""Send a transaction and wait as long as the user wants to."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from aitbc.cli.money import amount_or_zero
from aitbc.cli.settings import Settings
from aitbc.cli.show import answer
from aitbc.client.errors import ApiError, ClientError, Stopped, Unreachable
from aitbc.client.jobs import wait_final
from aitbc.client.node import NodeClient
from aitbc.client.transactions import Prepared
from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.types.amounts import format_ait

WAITS = ("none", "included", "final")
MAX_FEE_TEXT = "0.1ait"
"""`MAX_FEE` as it is typed."""
MAX_SIGNINGS = 16
"""Of one wish, while each time another program is faster with the very same: nobody runs so many at once."""


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
    anew: Callable[[], Prepared] | None = None,
) -> None:
    """Send and report; with `dry_run` show the exact transaction instead. `anew` signs again, under the next nonce,
    when the node had it before it was sent: it is another program's then. None: whose it is makes no difference."""
    if dry_run:
        _show_unsent(settings, node, prepared, story)
        return
    for _ in range(MAX_SIGNINGS):
        with nothing_is_lost(prepared.tx_id):
            is_anothers = node.submit(prepared.tx).known and anew is not None
        if not is_anothers:
            break
        assert anew is not None, "asked for above"
        prepared = anew()
    else:
        raise ClientError(
            "already_known",
            "another program sends the very same from this account at the same time; this was not sent",
            "try again",
        )
    with nothing_is_lost(prepared.tx_id):
        await_transaction(settings, node, prepared.tx_id, story, wait=wait, timeout=timeout)


@contextmanager
def nothing_is_lost(tx_id: str) -> Iterator[None]:
    """Ctrl-C, a lost node, or one (or a proxy before it) that failed after a transaction was sent: say how to find out
    what became of it."""
    look = f"it may have been sent; before trying again, look with: aitbc tx {tx_id}"
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(look) from None
    except Unreachable as error:
        error.fix = look
        raise
    except ApiError as error:
        if error.status >= 500 or error.code == "bad_answer":
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
