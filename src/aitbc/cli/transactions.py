"""`aitbc tx`: look a transaction up; make, sign, combine and send one whose keys are on other machines."""

import json
from pathlib import Path
from typing import Any, BinaryIO

import click

from aitbc.cli.accounts import complete_account, name_of_key, own_names, unlocked
from aitbc.cli.chain import tx as look_up
from aitbc.cli.chains import check_known, check_wanted, load_pins, remember
from aitbc.cli.errors import CliError
from aitbc.cli.files import read_json, write_json
from aitbc.cli.sending import Sending, perform, sending_options
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note, table
from aitbc.cli.submit import submit, wait_options
from aitbc.client.envelopes import (
    MAX_ENVELOPE_BYTES,
    Envelope,
    combine,
    complete,
    envelope_from_json,
    envelope_to_plain,
    sign_envelope,
)
from aitbc.client.known_chains import KNOWN_CHAINS
from aitbc.client.node import NodeClient
from aitbc.client.signing import KeySigner
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.types.amounts import format_ait

TYPES = (
    "TRANSFER",
    "JOB_LOCK",
    "RECEIPT_CLAIM",
    "RECEIPT_BATCH",
    "SETTLE",
    "REFUND",
    "REGISTER",
    "STAKE",
    "UNSTAKE",
    "WITHDRAW",
    "PARAM_UPDATE",
    "KEY_ROTATE",
    "EVIDENCE",
    "FAUCET",
)


class TxGroup(click.Group):
    """`aitbc tx ID …` is `aitbc tx show ID …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._spelled_out(args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, self._spelled_out(args))

    def _spelled_out(self, args: list[str]) -> list[str]:
        is_whole = not args or args[0] in self.commands or args[0] in ("--help", "-h")
        return args if is_whole else ["show", *args]


@click.group("tx", cls=TxGroup)
def command() -> None:
    """Show a transaction; make, sign, combine and send one whose keys are elsewhere."""


command.add_command(look_up, "show")


@command.command("make", cls=AitbcCommand)
@click.argument("type", type=click.Choice(TYPES))
@click.argument("payload", type=click.File("rb"))
@click.option(
    "--witness",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the witness, as docs/spec/transactions.md says.",
)
@sending_options
@click.pass_obj
def make(settings: Settings, type: str, payload: BinaryIO, witness: Path | None, sending: Sending) -> None:
    """Send a transaction of any TYPE; PAYLOAD is a JSON file (`-` for stdin) as docs/spec/transactions.md says."""
    fields = _object(payload.read(MAX_ENVELOPE_BYTES), payload.name)
    with NodeClient(settings.rpc) as node:
        perform(
            settings,
            node,
            type,
            fields,
            f"{type} from {sending.sender}",
            sending,
            witness=read_json(witness) if witness else None,
        )


@command.command("sign", cls=AitbcCommand)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--key", "name", metavar="NAME", shell_complete=complete_account, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the signed file here, instead of over FILE.",
)
@click.pass_obj
def sign(settings: Settings, file: Path, name: str, output: Path | None) -> None:
    """Put a key's signature into FILE. Needs no network: shows what is signed, and for which chain."""
    envelope = _read(file)
    check_wanted(settings, envelope.genesis_hash.hex(), envelope.chain_id)
    _remember_chain(settings, envelope)
    for line in _lines(settings, envelope):
        note(line)
    signed = sign_envelope(envelope, KeySigner(unlocked(settings, name).seed))
    target = output or file
    write_json(target, envelope_to_plain(signed))
    answer(settings, _view(signed, target), _what_is_missing(signed, target))


@command.command("combine", cls=AitbcCommand)
@click.argument(
    "files", type=click.Path(path_type=Path, exists=True, dir_okay=False), nargs=-1, required=True
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.pass_obj
def combine_files(settings: Settings, files: tuple[Path, ...], output: Path) -> None:
    """Put the signatures of several copies of a file into one."""
    combined = combine([_read(file) for file in files])
    write_json(output, envelope_to_plain(combined))
    answer(settings, _view(combined, output), _what_is_missing(combined, output))


@command.command("decode", cls=AitbcCommand)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.pass_obj
def decode(settings: Settings, file: Path) -> None:
    """Show what a file would do, for which chain, and who has signed it."""
    envelope = _read(file)
    answer(
        settings,
        {**envelope_to_plain(envelope), **_view(envelope, file)},
        *_lines(settings, envelope),
        _what_is_missing(envelope, file),
    )


@command.command("broadcast", cls=AitbcCommand)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@wait_options
@click.pass_obj
def broadcast(settings: Settings, file: Path, wait: str, timeout: float) -> None:
    """Send the signed transaction in FILE; needs no key. Sending it twice is harmless."""
    envelope = _read(file)
    prepared = complete(envelope)
    with NodeClient(settings.rpc) as node:
        node.expected_chain = envelope.genesis_hash
        node.genesis_hash()
        story = f"{envelope.tx.type} of {envelope.tx.sender}, fee {format_ait(envelope.tx.fee)}"
        submit(settings, node, prepared, story, wait=wait, timeout=timeout)


def _read(file: Path) -> Envelope:
    with file.open("rb") as opened:
        return envelope_from_json(opened.read(MAX_ENVELOPE_BYTES + 1))


def _object(raw: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CliError(f"{name} is no JSON object", "see docs/spec/transactions.md", code="bad_file")
    return value


def _remember_chain(settings: Settings, envelope: Envelope) -> None:
    """A file may name its chain as it likes; what is signed is bound to the genesis hash."""
    found = envelope.genesis_hash.hex()
    if found in KNOWN_CHAINS:
        return
    pins = load_pins(settings)
    check_known(settings, pins, found, envelope.chain_id)
    if envelope.chain_id not in pins.chains:
        pins.chains[envelope.chain_id] = found
        remember(settings, pins)
        note(f"first transaction for {envelope.chain_id}, genesis {found}; that is remembered")


def _lines(settings: Settings, envelope: Envelope) -> list[str]:
    """What is signed, field by field, and who has signed."""
    tx, names = envelope.tx, {address: name for name, address in own_names(settings).items()}
    rows: list[tuple[str, ...]] = [
        ("chain", f"{envelope.chain_id}, genesis {envelope.genesis_hash.hex()}"),
        ("type", tx.type),
        ("sender", tx.sender + (f" ({names[tx.sender]})" if tx.sender in names else "")),
        ("nonce", f"{tx.nonce}"),
        ("fee", format_ait(tx.fee)),
        *_payload_rows(json.loads(tx.payload), names),
        ("id", envelope.tx_id.hex()),
    ]
    for key in envelope.signers:
        state = "signed" if key in envelope.signatures else "not signed"
        name = name_of_key(settings, key)
        rows.append(("signer", f"{key_to_text(key)}{f' ({name})' if name else ''}: {state}"))
    return table(rows)


def _payload_rows(payload: dict[str, Any], names: dict[str, str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for field, value in payload.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if field == "amount" and isinstance(value, int):
            text = format_ait(value)
        rows.append((f"  {field}", f"{text} ({names[text]})" if text in names else text))
    return rows


def _view(envelope: Envelope, file: Path) -> dict[str, Any]:
    return {
        "file": str(file),
        "txHash": envelope.tx_id.hex(),
        "needed": envelope.needed,
        "signed": len(envelope.signatures),
        "missing": envelope.missing,
    }


def _what_is_missing(envelope: Envelope, file: Path) -> str:
    have = f"{len(envelope.signatures)} of {envelope.needed} signatures"
    if envelope.missing:
        return f"{file}: {have}"
    return f"{file}: {have}; send it with: aitbc tx broadcast {file}"
