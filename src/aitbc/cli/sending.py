"""What every command that sends a transaction has in common: who signs, for which fee, and how far to go.

Sign and send; or show what would be sent (`--dry-run`); or write it to a file for keys that are elsewhere
(`--unsigned`). Each such command adds `@sending_options` and calls `perform`.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from aitbc.cli.accounts import complete_account, payer_of, signer_of
from aitbc.cli.errors import USAGE, CliError
from aitbc.cli.files import write_json
from aitbc.cli.money import amount_or_zero
from aitbc.cli.settings import Settings
from aitbc.cli.show import answer
from aitbc.cli.submit import max_fee_option, submit, wait_options
from aitbc.client.node import NodeClient
from aitbc.client.transactions import Prepared, prepare, prepare_unsigned
from aitbc.core.types.amounts import format_ait


@dataclass(frozen=True, kw_only=True)
class Sending:
    """The shared options, as they were given."""

    sender: str
    fee: int | None
    """None: the least that the node asks."""
    max_fee: int
    dry_run: bool
    unsigned: Path | None
    wait: str
    timeout: float


def sending_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--from`, `--fee`, `--max-fee`, `--dry-run`, `--unsigned`, `--wait` and `--timeout` as one argument `sending`."""

    @functools.wraps(command)
    def gathered(*args: Any, **options: Any) -> Any:
        shared = {name: options.pop(name) for name in Sending.__dataclass_fields__}
        return command(*args, sending=Sending(**shared), **options)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


_OPTIONS: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...] = (
    click.option(
        "--from",
        "sender",
        metavar="NAME",
        shell_complete=complete_account,
        required=True,
        help="The account that signs and pays the fee.",
    ),
    click.option(
        "--fee",
        type=amount_or_zero,
        metavar="AMOUNT",
        help="Fee; the least that is accepted when left out.",
    ),
    max_fee_option,
    click.option("--dry-run", is_flag=True, help="Show the signed transaction and its fee; send nothing."),
    click.option(
        "--unsigned",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write it to FILE, to be signed elsewhere: aitbc tx sign FILE.",
    ),
    wait_options,
)


def perform(
    settings: Settings,
    node: NodeClient,
    type: str,
    payload: Mapping[str, Any],
    story: str,
    sending: Sending,
    *,
    witness: Mapping[str, Any] | None = None,
) -> bool:
    """Make the transaction and do with it what was asked; `story` says in words what it does. True: it was sent and
    waited for as long as was asked."""
    if sending.unsigned is not None:
        _write_unsigned(settings, node, type, payload, story, sending, sending.unsigned, witness)
        return False
    signer = signer_of(settings, node, sending.sender)

    def signed() -> Prepared:
        return prepare(
            node, type, payload, signer=signer, fee=sending.fee, max_fee=sending.max_fee, witness=witness
        )

    prepared = signed()
    submit(
        settings,
        node,
        prepared,
        f"{story}, fee {format_ait(prepared.tx.fee)}",
        wait=sending.wait,
        timeout=sending.timeout,
        dry_run=sending.dry_run,
        anew=signed,
    )
    return not sending.dry_run


def _write_unsigned(
    settings: Settings,
    node: NodeClient,
    type: str,
    payload: Mapping[str, Any],
    story: str,
    sending: Sending,
    file: Path,
    witness: Mapping[str, Any] | None,
) -> None:
    from aitbc.client.envelopes import envelope_of, envelope_to_plain

    if sending.dry_run:
        raise CliError(
            "--unsigned sends nothing anyway", "leave out --dry-run", code="usage", exit_code=USAGE
        )
    payer = payer_of(settings, node, sending.sender)
    unsigned = prepare_unsigned(
        node,
        type,
        payload,
        sender=payer.address,
        auth_key=payer.auth_key,
        fee=sending.fee,
        max_fee=sending.max_fee,
        witness=witness,
    )
    envelope = envelope_of(unsigned, node.head()["chainId"])
    write_json(file, envelope_to_plain(envelope))
    answer(
        settings,
        {
            "file": str(file),
            "txHash": envelope.tx_id.hex(),
            "fee": unsigned.tx.fee,
            "needed": envelope.needed,
        },
        f"{story}, fee {format_ait(unsigned.tx.fee)}",
        f"{file} waits for {_signatures(envelope.needed)}; sign it with: aitbc tx sign {file} --key NAME",
    )


def _signatures(count: int) -> str:
    return "1 signature" if count == 1 else f"{count} signatures"
