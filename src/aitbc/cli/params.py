"""`aitbc params`: show a chain's parameters, and change them with the approval of its validators. docs/spec/params.md

A proposal is a file that goes from validator to validator; each approves it with its key, and anybody sends it.
"""

import json
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from aitbc.cli.accounts import complete_account, unlocked
from aitbc.cli.chains import chain_to_sign_for, check_known, check_wanted, load_pins
from aitbc.cli.errors import USAGE, CliError
from aitbc.cli.files import read_json, write_json
from aitbc.cli.money import parse_money
from aitbc.cli.sending import Sending, perform, sending_options
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note, table
from aitbc.client.known_chains import KNOWN_CHAINS
from aitbc.client.node import NodeClient, state_proof_call
from aitbc.client.signing import KeySigner
from aitbc.client.transactions import approvals_witness, param_update_payload
from aitbc.core.codec.canonical import jcs, unhex
from aitbc.core.codec.digests import param_update_digest
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.codec.records import record_from_bytes
from aitbc.core.crypto.schemes import verify
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.records import Param


class Proposal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    format: Literal["aitbc-param-update-1"]
    chain_id: str
    genesis_hash: str
    payload: dict[str, Any]
    approvals: dict[str, str]
    """Key text → signature."""

    @property
    def digest(self) -> bytes:
        return param_update_digest(jcs(self.payload), unhex(self.genesis_hash, size=32))


def assignment(text: str) -> tuple[str, Any]:
    """`base_fee=3`, `hub_bond=25ait`, `hubs=["ait1…"]`."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text[:60]!r}: write it like base_fee=3")
    try:
        return name, parse_money(value)
    except ValueError:
        pass
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@click.group("params")
def command() -> None:
    """Show a chain's parameters, and change them with its validators' approval."""


@command.command("show", cls=AitbcCommand)
@click.pass_obj
def show(settings: Settings) -> None:
    """Show the parameters of now."""
    with NodeClient(settings.rpc) as node:
        params = node.params()
    answer(settings, params, *table([(name, json.dumps(value)) for name, value in params.items()]))


@command.command("propose", cls=AitbcCommand)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--set", "changes", type=assignment, metavar="NAME=VALUE", multiple=True, help="Repeatable.")
@click.option(
    "--authority",
    "authorities",
    metavar="ADDRESS|KEY",
    multiple=True,
    help="The whole new list of validators, in order; by their key those that the chain does not know. Repeatable.",
)
@click.option(
    "--number", type=click.IntRange(min=1), help="One more than the last update's; asked for if left out."
)
@click.pass_obj
def propose(
    settings: Settings,
    file: Path,
    changes: tuple[tuple[str, Any], ...],
    authorities: tuple[str, ...],
    number: int | None,
) -> None:
    """Write a proposal to FILE, for validators to approve. Nothing is sent."""
    if not changes and not authorities:
        raise CliError("nothing is proposed", "add --set NAME=VALUE", code="usage", exit_code=USAGE)
    with NodeClient(settings.rpc) as node:
        genesis_hash = chain_to_sign_for(settings, node)
        payload = param_update_payload(
            number=number or _updates_so_far(node) + 1,
            set=dict(changes),
            authorities=[_member(text) for text in authorities],
        )
        proposal = Proposal("aitbc-param-update-1", node.head()["chainId"], genesis_hash.hex(), payload, {})
    _write(file, proposal)
    answer(settings, msgspec.to_builtins(proposal), f"{file}: {jcs(payload).decode()}")


@command.command("approve", cls=AitbcCommand)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--key", "name", metavar="NAME", shell_complete=complete_account, required=True)
@click.pass_obj
def approve(settings: Settings, file: Path, name: str) -> None:
    """Put a validator's approval into FILE. Needs no network: shows what is approved."""
    proposal = _read(file)
    check_wanted(settings, proposal.genesis_hash, proposal.chain_id)
    if proposal.genesis_hash not in KNOWN_CHAINS:
        check_known(settings, load_pins(settings), proposal.genesis_hash, proposal.chain_id)
    note(f"{proposal.chain_id}, genesis {proposal.genesis_hash}: {jcs(proposal.payload).decode()}")
    signer = KeySigner(unlocked(settings, name).seed)
    approvals = {**proposal.approvals, key_to_text(signer.auth_key): signer.sign(proposal.digest).hex()}
    _write(file, msgspec.structs.replace(proposal, approvals=approvals))
    answer(settings, {"file": str(file), "approvals": len(approvals)}, f"{file}: {len(approvals)} approvals")


@command.command("submit", cls=AitbcCommand)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), nargs=1)
@sending_options
@click.pass_obj
def submit(settings: Settings, file: Path, sending: Sending) -> None:
    """Send the proposal in FILE with its approvals; anybody may. It takes effect at the next epoch."""
    proposal = _read(file)
    with NodeClient(settings.rpc) as node:
        node.expected_chain = unhex(proposal.genesis_hash, size=32)
        witness = approvals_witness(_by_place(node, proposal))
        story = f"update {proposal.payload.get('number')} of the parameters"
        perform(settings, node, "PARAM_UPDATE", proposal.payload, story, sending, witness=witness)


def _by_place(node: NodeClient, proposal: Proposal) -> dict[int, bytes]:
    """The approvals of members of the running set; others' count for nothing and are left out."""
    places = {validator["pubkey"]: place for place, validator in enumerate(node.validators())}
    found = {places[key]: unhex(sig) for key, sig in proposal.approvals.items() if key in places}
    for key in proposal.approvals.keys() - places.keys():
        note(f"{key} is no validator now: its approval is left out")
    if not found:
        raise CliError(
            "no validator of the running set has approved this",
            "have it approved with: aitbc params approve FILE --key NAME",
            code="not_enough_approvals",
        )
    return found


def _updates_so_far(node: NodeClient) -> int:
    """The counter `updates.count` of the state; a lie makes an update that the chain refuses."""
    leaf = node.perform(state_proof_call("params", "updates.count", None))["leaf"]
    if leaf["key"] != "updates.count":
        return 0
    record = record_from_bytes("params", "updates.count", unhex(leaf["value"]))
    assert isinstance(record, Param)
    return int(record.value)


def _member(text: str) -> dict[str, str]:
    from aitbc.core.crypto.address import PREFIX, address_of, check_address

    if text.startswith(PREFIX + "1"):
        check_address(text)
        return {"address": text}
    return {"address": address_of(key_from_text(text)), "pubkey": text}


def _read(file: Path) -> Proposal:
    try:
        proposal = msgspec.convert(read_json(file), Proposal)
        for key, sig in proposal.approvals.items():
            if not verify(key_from_text(key), proposal.digest, unhex(sig)):
                raise CliError(f"{file}: the approval of {key} is not good", "have it approved again")
    except (msgspec.ValidationError, Rejected) as error:
        raise CliError(
            f"{file} is no proposal: {error}", "see: aitbc params propose", code="bad_file"
        ) from None
    return proposal


def _write(file: Path, proposal: Proposal) -> None:
    write_json(file, msgspec.to_builtins(proposal))
