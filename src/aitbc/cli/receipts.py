"""`aitbc verify`, `receipt` and `claim`: what a receipt file proves, and what can be done with it."""

import json
from pathlib import Path
from typing import Any

import click

from aitbc.cli.accounts import complete_account, signer_of
from aitbc.cli.errors import FAILURE, USAGE, CliError
from aitbc.cli.files import read_json, write_json
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer
from aitbc.client.verify import Check, holds, verify_bundle, verify_receipt
from aitbc.core.codec.canonical import convert, jcs, unhex
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.receipts import ReceiptDetails

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(cls=AitbcCommand)
@click.argument("file", type=_FILE)
@click.option("--genesis", type=_FILE, help="genesis.json of the chain you trust.")
@click.option("--genesis-hash", metavar="HEX", help="Or its hash.")
@click.option("--output", type=_FILE, help="The output, when it does not lie next to FILE.")
@click.pass_context
def verify(
    ctx: click.Context, file: Path, genesis: Path | None, genesis_hash: str | None, output: Path | None
) -> None:
    """Check the receipt in FILE offline: hashes, signatures, inclusion proofs and the block's certificate."""
    settings: Settings = ctx.obj
    bundle = read_json(file)
    data = _output_of(file, bundle, output)
    checks = verify_bundle(bundle, output_bytes=data, trusted_genesis_hash=_trusted(genesis, genesis_hash))
    view = {"ok": holds(checks), "checks": [_view(check) for check in checks]}
    answer(settings, view, *[_line(check) for check in checks], _verdict(checks))
    if not holds(checks):
        ctx.exit(FAILURE)


@click.group(name="receipt")
def receipt() -> None:
    """Export receipts to other formats."""


@receipt.command(name="export", cls=AitbcCommand)
@click.argument("file", type=_FILE)
@click.option(
    "--format", "form", type=click.Choice(["seed003"]), required=True, help="seed003: its JSON receipt."
)
@click.option(
    "--hash",
    "algorithm",
    type=click.Choice(["sha256", "keccak256"]),
    default="sha256",
    show_default=True,
    help="How receipt_hash is made; contracts want keccak256.",
)
@click.pass_obj
def export(settings: Settings, file: Path, form: str, algorithm: Any) -> None:
    """Print the receipt in FILE in another format, with its hash."""
    from aitbc.client.seed003 import seed003_hash, seed003_receipt

    bundle = read_json(file)
    if not isinstance(bundle, dict):
        raise _no_receipt(file)
    try:
        exported = seed003_receipt(convert(bundle.get("details"), ReceiptDetails))
    except Rejected:
        raise _no_receipt(file) from None
    digest = seed003_hash(exported, algorithm)
    data = {"receipt": exported, "receipt_hash": f"0x{digest}" if algorithm == "keccak256" else digest}
    answer(settings, {**data, "hash": algorithm}, json.dumps(data, indent=2, ensure_ascii=False))


@click.command(cls=AitbcCommand)
@click.argument("file", type=_FILE)
@click.option(
    "--from",
    "sender",
    shell_complete=complete_account,
    required=True,
    help="The key that signs; anyone's will do.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=30, show_default=True, help="Most seconds to wait."
)
@click.pass_obj
def claim(settings: Settings, file: Path, sender: str, timeout: float) -> None:
    """Claim the attested receipt in FILE, whose hub has not; the provider is paid, whoever sends it.

    When the claim is final its proof is added to FILE.
    """
    from aitbc.client.jobs import claim_transaction, final_claim
    from aitbc.client.node import NodeClient

    bundle = read_json(file)
    for check in verify_receipt(bundle, output_bytes=None):
        if not check.ok:
            raise CliError(f"{file} cannot be claimed: {check.name}: {check.message}", code="bad_receipt")
    with NodeClient(settings.rpc) as node:
        if node.head()["genesisHash"] != genesis_hash_of(jcs(bundle["genesis"])).hex():
            raise CliError(f"{file} is of another chain than {settings.rpc}", "give its node with --rpc")
        tx = claim_transaction(node, bundle, signer_of(settings, node, sender))
        tx_id = node.send(tx)
        proof = final_claim(node, tx_id, timeout)
    write_json(file, {**bundle, "claim": proof})
    answer(
        settings,
        {"txHash": tx_id, "height": proof["header"]["height"], "events": proof["outcome"]["events"]},
        f"claimed {bundle['receipt_id']}",
        f"final in block {proof['header']['height']}: {tx_id}",
    )


def _trusted(genesis: Path | None, genesis_hash: str | None) -> str | None:
    """The pin: at most one of the two ways to give it."""
    if genesis is not None and genesis_hash is not None:
        raise CliError("--genesis and --genesis-hash say the same", "give one", code="usage", exit_code=USAGE)
    if genesis is not None:
        return genesis_hash_of(jcs(read_json(genesis))).hex()
    if genesis_hash is not None:
        try:
            return unhex(genesis_hash.lower(), size=32).hex()
        except Rejected as rejected:
            raise CliError(f"--genesis-hash: {rejected.message}", code="usage", exit_code=USAGE) from None
    return None


def _output_of(file: Path, bundle: Any, given: Path | None) -> bytes | None:
    """The output's bytes; None when it is not next to the receipt. Only its name is used, never a path."""
    if given is not None:
        return given.read_bytes()
    name = bundle.get("output_file") if isinstance(bundle, dict) else None
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    beside = file.parent / Path(name).name
    return beside.read_bytes() if beside.is_file() else None


def _line(check: Check) -> str:
    word, color = ("ok  ", "green") if check.ok else ("FAIL", "red")
    if check.warning:
        word, color = "note", "yellow"
    return f"{click.style(word, fg=color)}  {check.name:<18} {check.message}"


def _verdict(checks: list[Check]) -> str:
    failed = [check.name for check in checks if not check.ok]
    if failed:
        return f"this receipt does not hold: {', '.join(failed)}"
    notes = sum(check.warning for check in checks)
    return "this receipt holds" + (f"; read the {notes} note{'s' * (notes > 1)}" if notes else "")


def _view(check: Check) -> dict[str, Any]:
    return {"name": check.name, "ok": check.ok, "message": check.message, "warning": check.warning}


def _no_receipt(file: Path) -> CliError:
    return CliError(f"{file} has no receipt in it", "give the .receipt.json file", code="bad_file")
