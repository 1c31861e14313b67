"""`aitbc verify`, `receipt` and `claim`: what a receipt file proves, and what can be done with it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from aitbc.cli.accounts import complete_account, signer_of
from aitbc.cli.errors import FAILURE, USAGE, CliError
from aitbc.cli.files import RECEIPT_SUFFIX, read_json, write_json
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer
from aitbc.cli.submit import max_fee_option, nothing_is_lost
from aitbc.client.errors import ClientError
from aitbc.client.verify import NOT_PROVED, SELF_DECLARED, Check, holds, verify_bundle, verify_receipt
from aitbc.core.codec.canonical import convert, jcs, unhex
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.receipts import ReceiptDetails

if TYPE_CHECKING:
    from aitbc.client.node import NodeClient

_OF_THE_CHAIN = {"certificate", "provider", "hub", "claim_signature"}
"""Checks that can only hold once the claim's block is proved final."""

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(cls=AitbcCommand)
@click.argument("file", type=_FILE)
@click.option("--genesis", type=_FILE, help="genesis.json of the chain you trust.")
@click.option("--genesis-hash", metavar="HEX", help="Or its hash.")
@click.option("--output", type=_FILE, help="The output, when it does not lie next to FILE.")
@click.option("--no-output", is_flag=True, help="Check the receipt alone; it may be for any output.")
@click.pass_context
def verify(
    ctx: click.Context,
    file: Path,
    genesis: Path | None,
    genesis_hash: str | None,
    output: Path | None,
    no_output: bool,
) -> None:
    """Check the receipt in FILE offline: hashes, signatures, inclusion proofs and the block's certificate.

    Only with --rpc URL a node is asked, and only for how validators that genesis does not name came to decide the
    claim's block; its answers are checked like the file.
    """
    settings: Settings = ctx.obj
    bundle = read_json(file)
    if output is not None and no_output:
        raise CliError("--output and --no-output exclude each other", "give one", code="usage")
    data = None if no_output else _output_of(file, bundle, output)
    pin = _trusted(genesis, genesis_hash)
    checks = verify_bundle(bundle, output_bytes=data, trusted_genesis_hash=pin)
    if _not_proved(checks) and _names_a_node(ctx):
        checks = verify_bundle(_with_finality(settings, bundle), output_bytes=data, trusted_genesis_hash=pin)
    output_missing = data is None and not no_output
    if output_missing:
        checks = [_output_missing(file) if check.name == "output" else check for check in checks]
    view = {"ok": holds(checks), "checks": [_view(check) for check in checks]}
    answer(
        settings, view, *[_line(check) for check in checks], _verdict(checks, output_missing=output_missing)
    )
    if not holds(checks):
        ctx.exit(FAILURE)


def _not_proved(checks: list[Check]) -> bool:
    """Only who the voters are is open."""
    failed = [check for check in checks if not check.ok and check.name != "output"]
    return any(check.message.startswith(NOT_PROVED) for check in failed)


def _names_a_node(ctx: click.Context) -> bool:
    """On this command line; a URL from the environment or the default one makes nobody online."""
    contexts = [ctx, ctx.parent] if ctx.parent else [ctx]
    return any(found.get_parameter_source("rpc") is ParameterSource.COMMANDLINE for found in contexts)


def _with_finality(settings: Settings, bundle: Any) -> Any:
    from aitbc.client.claims import with_finality
    from aitbc.client.node import NodeClient

    with NodeClient(settings.rpc) as node:
        return with_finality(node, bundle)


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
@max_fee_option
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=30, show_default=True, help="Most seconds to wait."
)
@click.pass_obj
def claim(settings: Settings, file: Path, sender: str, max_fee: int, timeout: float) -> None:
    """Claim the attested receipt in FILE, whose hub has not; the provider is paid, whoever sends it.

    When the claim is final its proof is added to FILE. A receipt that was claimed already costs nothing: its
    proof is looked up and added.
    """
    from aitbc.client.claims import find_claim
    from aitbc.client.node import NodeClient

    bundle = read_json(file)
    for check in verify_receipt(bundle, output_bytes=None):
        if not check.ok:
            raise CliError(f"{file} cannot be claimed: {check.name}: {check.message}", code="bad_receipt")
    with NodeClient(settings.rpc) as node:
        if node.head()["genesisHash"] != genesis_hash_of(jcs(bundle["genesis"])).hex():
            raise CliError(f"{file} is of another chain than {settings.rpc}", "give its node with --rpc")
        if node.receipt(bundle["receipt_id"]) is not None:
            story, proof = "was claimed already", find_claim(node, bundle, timeout=timeout)
        else:
            story, proof = _claim(settings, node, bundle, sender, max_fee=max_fee, timeout=timeout)
    write_json(file, {**bundle, "claim": proof})
    height, tx_id = proof["header"]["height"], proof["outcome"]["txHash"]
    answer(
        settings,
        {"txHash": tx_id, "height": height, "events": proof["outcome"]["events"]},
        f"{bundle['receipt_id']} {story}; its proof is in {file}",
        f"final in block {height}: {tx_id}",
    )


def _claim(
    settings: Settings, node: "NodeClient", bundle: Any, sender: str, *, max_fee: int, timeout: float
) -> tuple[str, Any]:
    """Send the claim; when another one was faster, its proof is as good."""
    from aitbc.client.claims import find_claim
    from aitbc.client.jobs import claim_transaction, final_claim

    prepared = claim_transaction(node, bundle, signer_of(settings, node, sender), max_fee=max_fee)
    try:
        with nothing_is_lost(prepared.tx_id):
            node.send(prepared.tx)
            proof = final_claim(node, prepared.tx_id, timeout, genesis=bundle["genesis"])
    except ClientError as error:
        if error.code != "receipt_already_claimed":
            raise
        return "was claimed already", find_claim(node, bundle, timeout=timeout)
    return f"is claimed, fee {format_ait(prepared.tx.fee)}", proof


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
    """The output's bytes; None when it is not next to the receipt.

    The name in the file is signed by nobody: when nothing lies there, the receipt's own name says which output.
    Of both only the name is used, never a path.
    """
    if given is not None:
        return given.read_bytes()
    named = bundle.get("output_file") if isinstance(bundle, dict) else None
    for name in (named, file.name.removesuffix(RECEIPT_SUFFIX)):
        if isinstance(name, str) and "\0" not in name and Path(name).name not in ("", file.name):
            beside = file.parent / Path(name).name
            if beside.is_file():
                return beside.read_bytes()
    return None


def _output_missing(file: Path) -> Check:
    name = file.name.removesuffix(RECEIPT_SUFFIX)
    return Check(
        "output",
        False,
        f"no {name if name != file.name else 'output'} next to {file}; name it with --output,"
        " or check the receipt alone with --no-output",
    )


def _line(check: Check) -> str:
    word, color = ("ok  ", "green") if check.ok else ("FAIL", "red")
    if check.warning:
        word, color = "note", "yellow"
    return f"{click.style(word, fg=color)}  {check.name:<18} {check.message}"


def _verdict(checks: list[Check], *, output_missing: bool) -> str:
    failed = [check.name for check in checks if not check.ok]
    if failed == ["output"] and output_missing:
        return "not verified: the output is missing, so nothing says what this receipt is for"
    if _not_proved(checks) and set(failed) <= _OF_THE_CHAIN:
        return "not verified: nothing proves who made the claim's block final; name a node with --rpc URL"
    if failed:
        return f"this receipt does not hold: {', '.join(failed)}"
    if any(check.name == "genesis" and check.message.startswith(SELF_DECLARED) for check in checks):
        return (
            "this receipt holds, on a chain that only the file itself vouches for: anybody can make one;"
            " pin yours with --genesis FILE or --genesis-hash HEX"
        )
    notes = sum(check.warning for check in checks)
    return "this receipt holds" + (f"; read the {notes} note{'s' * (notes > 1)}" if notes else "")


def _view(check: Check) -> dict[str, Any]:
    return {"name": check.name, "ok": check.ok, "message": check.message, "warning": check.warning}


def _no_receipt(file: Path) -> CliError:
    return CliError(f"{file} has no receipt in it", "give the .receipt.json file", code="bad_file")
