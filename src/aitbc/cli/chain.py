"""`aitbc head`, `block` and `tx`: what the chain says."""

from datetime import UTC, datetime
from typing import Any

import click

from aitbc.cli.hashes import hash_id
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, table
from aitbc.client.node import NodeClient
from aitbc.core.types.amounts import format_ait


@click.command(cls=AitbcCommand)
@click.pass_obj
def head(settings: Settings) -> None:
    """Show the newest final block."""
    with NodeClient(settings.rpc) as node:
        view = node.head()
    rows = [
        ("height", f"{view['height']}"),
        ("hash", view["hash"]),
        ("time", _time(view["timestampMs"])),
        ("chain", view["chainId"]),
        ("genesis", view["genesisHash"]),
    ]
    answer(settings, view, *table(rows))


@click.command(cls=AitbcCommand)
@click.argument("height_or_hash", metavar="HEIGHT|HASH")
@click.pass_obj
def block(settings: Settings, height_or_hash: str) -> None:
    """Show a block by its height or its hash."""
    with NodeClient(settings.rpc) as node:
        view = node.block(height_or_hash)
    rows = [
        ("height", f"{view['height']}"),
        ("hash", view["hash"]),
        ("parent", view["parent"]),
        ("time", _time(view["timestampMs"])),
        ("proposer", view["proposer"]),
        ("state root", view["stateRoot"]),
        ("transactions", f"{len(view['txs'])}"),
    ]
    answer(settings, view, *table(rows), *(f"  {tx_id}" for tx_id in view["txs"]))


@click.command(cls=AitbcCommand)
@click.argument("tx_id", metavar="ID", type=hash_id)
@click.option("--wait", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait until it is final.")
@click.option("--proof", is_flag=True, help="With --json: header, certificate and inclusion proofs.")
@click.pass_obj
def tx(settings: Settings, tx_id: str, wait: float | None, proof: bool) -> None:
    """Show a transaction and its outcome."""
    with NodeClient(settings.rpc) as node:
        if wait is None:
            view = node.transaction(tx_id, proof=proof)
        else:
            view = node.transaction(tx_id, wait="final", timeout=wait, proof=proof)
    answer(settings, view, *table(_transaction_rows(view)), *_event_lines(view.get("receipt")))


def _transaction_rows(view: dict[str, Any]) -> list[tuple[str, ...]]:
    inner = view.get("tx") or {}
    rows: list[tuple[str, ...]] = [("id", view["txHash"]), ("status", view["status"])]
    if view.get("height") is not None:
        rows.append(("block", f"{view['height']}"))
    if inner:
        rows += [("type", inner["type"]), ("sender", inner["sender"]), ("fee", format_ait(inner["fee"]))]
    outcome = view.get("receipt") or {}
    if outcome.get("reason"):
        rows.append(("reason", f"{outcome['reason']}: {outcome.get('message', '')}"))
    return rows


def _event_lines(outcome: dict[str, Any] | None) -> list[str]:
    events = outcome["events"] if outcome else []
    return [f"  {event['kind']} {format_ait(event['amount'])}  {event['key']}" for event in events]


def _time(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
