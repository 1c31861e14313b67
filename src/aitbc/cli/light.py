"""`aitbc light`: what a chain says, believed for its proofs and not for its node. docs/howto/check-a-node.md"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aitbc.cli.accounts import address_of
from aitbc.cli.errors import CliError
from aitbc.cli.files import write_private
from aitbc.cli.hashes import hash_id
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note, table
from aitbc.client.node import NodeClient
from aitbc.core.types.amounts import format_ait

if TYPE_CHECKING:
    from aitbc.client.finality import FinalBlock
    from aitbc.client.light import LightClient
    from aitbc.client.work_light import WorkLightClient
    from aitbc.core.types.blocks import Header

Json = dict[str, Any]
_GENESIS = click.option(
    "--genesis",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="genesis.json of the chain that you mean.",
)
_ALSO = click.option(
    "--also",
    metavar="URL",
    multiple=True,
    help="Another node, whose branch counts too; repeatable. By work only.",
)
_CONFIRMATIONS = click.option(
    "--confirmations",
    type=click.IntRange(1),
    metavar="N",
    help="Blocks from the one that counts to the head; default: the finality depth. By work only.",
)
_TRUST = click.option(
    "--trust",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Begin where this file ended, and keep in it where this ends. By work only.",
)


@click.group("light")
def command() -> None:
    """Check what nodes say, from a genesis document on."""


class Light:
    """A light client of either kind of chain, and the node that it asks."""

    def __init__(self, document: Json, node: NodeClient, work: "WorkLightClient | None") -> None:
        self.document = document
        self.node = node
        self.work = work

    def depth(self, confirmations: int | None) -> int:
        """What was asked for, else what makes a block final."""
        return confirmations or self.final_depth

    @property
    def final_depth(self) -> int:
        assert self.work is not None, "only work makes blocks final by depth"
        return self.work.trust.chain.settings.finality_depth


@contextmanager
def _light(
    settings: Settings, genesis: Path, also: tuple[str, ...] = (), trust: Path | None = None
) -> Iterator[Light]:
    """Has followed the nodes to the head."""
    from aitbc.client.work_rules import agrees_by_work
    from aitbc.core.codec.canonical import parse_json

    document = parse_json(genesis.read_bytes(), dict[str, Any], limit=64 * 1024 * 1024)
    by_work = agrees_by_work(document)
    if not by_work and (also or trust):
        raise CliError(
            "--also and --trust are for chains that agree by work; this one has certificates",
            "leave them out",
            code="usage",
        )
    with ExitStack() as stack:
        nodes = [stack.enter_context(NodeClient(url)) for url in (settings.rpc, *also)]
        work = _begin(document, trust) if by_work else None
        if work is not None:
            _follow(work, nodes)
            if trust is not None:
                write_private(trust, json.dumps(work.trust.to_plain()).encode() + b"\n")
        yield Light(document, nodes[0], work)


def _follow(work: "WorkLightClient", nodes: list[NodeClient]) -> None:
    """One that lies or does not answer is named, and the others count."""
    from aitbc.client.errors import ClientError
    from aitbc.core.types.reasons import Rejected

    wrong: list[ClientError | Rejected] = []
    for node in nodes:
        try:
            work.follow(node)
        except (ClientError, Rejected) as error:
            wrong.append(error)
            note(f"not counted: {node.base_url}: {error.message}")
    if len(wrong) == len(nodes):
        raise wrong[0]


def _begin(document: Json, trust: Path | None) -> "WorkLightClient":
    from aitbc.client.work_light import WorkLightClient, trust_from_plain, trust_work_genesis
    from aitbc.core.codec.canonical import parse_json

    begin = trust_work_genesis(document)
    if trust is not None and trust.exists():
        kept = parse_json(trust.read_bytes(), dict[str, Any], limit=64 * 1024)
        begin = trust_from_plain(kept, chain=begin.chain)
    return WorkLightClient(begin)


@command.command("head", cls=AitbcCommand)
@_GENESIS
@_ALSO
@_TRUST
@click.pass_obj
def head(settings: Settings, genesis: Path, also: tuple[str, ...], trust: Path | None) -> None:
    """Follow a chain to its head, and say why that is believed."""
    with _light(settings, genesis, also, trust) as light:
        if light.work is None:
            block = _voted(light)
            data: Json = {"height": block.header.height, "hash": block.hash.hex(), "signers": block.signers}
            why = f"signed by {block.signers} of {block.members} validators"
        else:
            place = light.work.head
            data = {"height": place.height, "hash": place.hash.hex(), "weight": str(place.weight)}
            why = f"{place.weight:,} tries of work since where trust begins"
            data["nodes"] = 1 + len(also)
    answer(settings, data, *table([("height", str(data["height"])), ("hash", data["hash"]), ("why", why)]))


@command.command("account", cls=AitbcCommand)
@click.argument("name", metavar="ACCOUNT")
@_GENESIS
@_ALSO
@_CONFIRMATIONS
@_TRUST
@click.pass_obj
def account(
    settings: Settings,
    name: str,
    genesis: Path,
    also: tuple[str, ...],
    confirmations: int | None,
    trust: Path | None,
) -> None:
    """Prove what an account holds, or that there is none."""
    from aitbc.client.state_proofs import account_of

    with _light(settings, genesis, also, trust) as light:
        address = address_of(settings, light.node, name)
        if light.work is None:
            _refuse_confirmations(confirmations)
            voted = _vote_client(light).record(light.node, "accounts", address)
            data, header, why = voted.data, voted.block.header, _signed(voted.block.signers)
        else:
            _check_depth(confirmations, light.final_depth + 1)
            found = light.work.record(
                light.node, "accounts", address, confirmations=light.depth(confirmations)
            )
            data, header, why = found.data, found.header, _deep(found.confirmations)
    held = account_of(data) if data is not None else None
    view = {
        "address": address,
        "balance": held.balance if held else None,
        "nonce": held.nonce if held else None,
        "height": header.height,
    }
    said = format_ait(held.balance) if held else "no such account"
    answer(settings, view, f"{said}, proved in block {header.height}: {why}")


@command.command("tx", cls=AitbcCommand)
@click.argument("tx_id", metavar="ID", type=hash_id)
@_GENESIS
@_ALSO
@_CONFIRMATIONS
@_TRUST
@click.pass_obj
def tx(
    settings: Settings,
    tx_id: str,
    genesis: Path,
    also: tuple[str, ...],
    confirmations: int | None,
    trust: Path | None,
) -> None:
    """Prove that a transaction is in a block, and what became of it."""
    with _light(settings, genesis, also, trust) as light:
        if light.work is None:
            _refuse_confirmations(confirmations)
            header, ok, reason, why = _voted_transaction(light, tx_id)
        else:
            found = light.work.transaction(light.node, tx_id, confirmations=light.depth(confirmations))
            header, ok, reason = found.header, found.outcome.ok, found.outcome.reason
            why = _deep(found.confirmations)
    view = {"txHash": tx_id, "height": header.height, "status": "ok" if ok else "failed", "reason": reason}
    answer(
        settings, view, f"{'good' if ok else f'failed ({reason})'}, proved in block {header.height}: {why}"
    )


def _voted_transaction(light: Light, tx_id: str) -> "tuple[Header, bool, str, str]":
    from aitbc.client.outcomes import check_included
    from aitbc.core.codec.canonical import jcs
    from aitbc.core.codec.digests import genesis_hash_of

    said = light.node.transaction(tx_id, proof=True)
    if said.get("proof") is None:
        raise CliError(f"{tx_id} is in no block", "try again later", code="not_final")
    found = check_included(said, tx_id, genesis_hash_of(jcs(light.document)))
    block = _vote_client(light).follow(light.node, found.header.height)
    if block.header != found.header:
        raise CliError(
            "the node proves this transaction in a block that is not the chain's",
            "ask another node with --rpc",
            code="bad_proof",
        )
    return found.header, found.outcome.ok, found.outcome.reason, _signed(block.signers)


def _vote_client(light: Light) -> "LightClient":
    from aitbc.client.finality import trust_genesis
    from aitbc.client.light import LightClient

    return LightClient(trust_genesis(light.document))


def _voted(light: Light) -> "FinalBlock":
    return _vote_client(light).follow(light.node, int(light.node.head()["height"]))


def _check_depth(confirmations: int | None, most: int) -> None:
    """A light client keeps no older places, and nodes no older states."""
    if confirmations is not None and confirmations > most:
        raise CliError(
            f"--confirmations {confirmations}: a state is proved under {most} at most, where it is final",
            f"give {most} or less",
            code="usage",
        )


def _refuse_confirmations(confirmations: int | None) -> None:
    if confirmations is not None:
        raise CliError(
            "--confirmations is for chains that agree by work; here a block is final at once",
            "leave it out",
            code="usage",
        )


def _signed(signers: int) -> str:
    return f"signed by {signers} validators"


def _deep(confirmations: int) -> str:
    return f"{confirmations} confirmations of work"
