"""Which chains the user means: what nodes said at first is remembered, and another answer later is refused.

A signature is good on the chain whose genesis hash is in it, and that hash comes from a node. A node that lies could
collect a signature for a chain on which the same key has coins. docs/spec/keys.md, "Chains"
"""

from pathlib import Path
from typing import Any

import click
import msgspec

from aitbc.adapters.keystore.folders import private_folder
from aitbc.cli.errors import REFUSED, CliError
from aitbc.cli.files import write_private
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note, table
from aitbc.client.node import NodeClient
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import genesis_hash_of

MAX_PINS = 1_000
"""Nodes that are remembered; nobody uses more, and a file that grows without end is nobody's wish."""
MIN_HASH_DIGITS = 8


class Pins(msgspec.Struct, forbid_unknown_fields=True):
    """`chains.json` in the home folder."""

    nodes: dict[str, str] = {}
    """Node URL → genesis hash."""
    chains: dict[str, str] = {}
    """Chain id → genesis hash."""


def chain_to_sign_for(settings: Settings, node: NodeClient) -> bytes:
    """The genesis hash to which signatures are bound from now on; refuses a node that says something new."""
    head = node.head()
    found, chain_id = str(head["genesisHash"]), str(head["chainId"])
    check_wanted(settings, found, chain_id)
    pins = load_pins(settings)
    known = pins.nodes.get(node.base_url)
    if known is None:
        _meet(settings, node, pins, found, chain_id)
    elif known != found:
        raise CliError(
            f"{node.base_url} was on the chain with genesis {known} and says now that it is {found} ({chain_id});"
            " nothing was signed",
            f"ask another node with --rpc; if that is right: aitbc chain forget {node.base_url}",
            code="chain_changed",
            exit_code=REFUSED,
        )
    node.expected_chain = bytes.fromhex(found)
    return node.expected_chain


def genesis_to_sign_for(node: NodeClient) -> dict[str, Any]:
    """The genesis document of the chain that `chain_to_sign_for` has settled: programs take their chain from it."""
    genesis = node.genesis()
    if genesis_hash_of(jcs(genesis)) != node.expected_chain:
        raise CliError(
            f"{node.base_url} shows a genesis document that is not its chain's; nothing was signed",
            "ask another node with --rpc",
            code="bad_answer",
        )
    return genesis


def check_wanted(settings: Settings, genesis_hash: str, chain_id: str) -> None:
    """Refuse another chain than the one that --chain names, by its id or by the beginning of its genesis hash."""
    wanted = settings.chain
    by_hash = len(wanted) >= MIN_HASH_DIGITS and genesis_hash.startswith(wanted.lower())
    if wanted and wanted != chain_id and not by_hash:
        raise CliError(
            f"this is chain {chain_id} with genesis {genesis_hash}, not {wanted}; nothing was signed",
            "ask a node of your chain with --rpc, or leave out --chain",
            code="other_chain",
            exit_code=REFUSED,
        )


def check_known(settings: Settings, pins: Pins, genesis_hash: str, chain_id: str) -> None:
    """Refuse a chain id that is known with another genesis, and a genesis that is known under another id."""
    if settings.chain:
        return
    known = pins.chains.get(chain_id, genesis_hash)
    other_id = next((name for name, hash in pins.chains.items() if hash == genesis_hash), chain_id)
    if known != genesis_hash or other_id != chain_id:
        raise CliError(
            f"chain {other_id} with genesis {known} is known, and this says to be {chain_id} with genesis"
            f" {genesis_hash}; nothing was signed",
            f"ask who runs it; if both are right, name the chain with --chain {genesis_hash}",
            code="chain_changed",
            exit_code=REFUSED,
        )


def remember(settings: Settings, pins: Pins) -> None:
    if len(pins.nodes) > MAX_PINS:
        del pins.nodes[next(iter(pins.nodes))]
    path = _path(settings)
    private_folder(path.parent)
    write_private(path, msgspec.json.format(msgspec.json.encode(pins), indent=1) + b"\n")


def load_pins(settings: Settings) -> Pins:
    path = _path(settings)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Pins)
    except FileNotFoundError:
        return Pins()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CliError(
            f"{path} is damaged: {error}",
            f"look what it should say, or remove it: rm {path}",
            code="bad_file",
        ) from None


def _meet(settings: Settings, node: NodeClient, pins: Pins, found: str, chain_id: str) -> None:
    """A node that is asked for the first time. What is signed for a devnet is worth nothing elsewhere: the genesis
    document, whose hash is in the signature, says so itself. Such chains come and go and are not remembered."""
    genesis: dict[str, Any] = node.genesis()
    if genesis_hash_of(jcs(genesis)).hex() != found or genesis.get("chain_id") != chain_id:
        raise CliError(
            f"{node.base_url} shows a genesis document that is not its chain's; nothing was signed",
            "ask another node with --rpc",
            code="bad_answer",
        )
    if (genesis.get("params") or {}).get("devnet") == 1:
        return
    check_known(settings, pins, found, chain_id)
    pins.nodes[node.base_url] = found
    pins.chains.setdefault(chain_id, found)
    remember(settings, pins)
    note(f"first use of {node.base_url}: it says it is on {chain_id}, genesis {found}; that is remembered")


def _path(settings: Settings) -> Path:
    return settings.home.expanduser() / "chains.json"


@click.group("chain")
def command() -> None:
    """Chains and nodes that your keys remember."""


@command.command("list", cls=AitbcCommand)
@click.pass_obj
def list_chains(settings: Settings) -> None:
    """List the chains for which was signed here, and the nodes that were asked."""
    pins = load_pins(settings)
    rows = [(name, hash) for name, hash in (*pins.chains.items(), *pins.nodes.items())]
    answer(
        settings,
        {"chains": pins.chains, "nodes": pins.nodes},
        *(table(rows) or ["none yet: a chain is remembered when something is signed for it"]),
    )


@command.command("add", cls=AitbcCommand)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.pass_obj
def add(settings: Settings, file: Path) -> None:
    """Remember the chain of a genesis document that you got from somebody you trust, before any node is asked."""
    from aitbc.core.ledger.genesis import genesis_document, parse_genesis

    genesis = parse_genesis(file.read_bytes())
    found = genesis_hash_of(genesis_document(genesis)).hex()
    pins = load_pins(settings)
    check_known(settings, pins, found, genesis.chain_id)
    pins.chains[genesis.chain_id] = found
    remember(settings, pins)
    answer(settings, {"chain_id": genesis.chain_id, "genesis_hash": found}, f"{genesis.chain_id}  {found}")


@command.command("forget", cls=AitbcCommand)
@click.argument("what", metavar="URL|CHAIN_ID")
@click.pass_obj
def forget(settings: Settings, what: str) -> None:
    """Forget a node, or a chain with all of its nodes."""
    pins = load_pins(settings)
    url = what.rstrip("/")
    if what in pins.chains:
        gone = pins.chains.pop(what)
        pins.nodes = {node: hash for node, hash in pins.nodes.items() if hash != gone}
    elif url in pins.nodes:
        del pins.nodes[url]
    else:
        raise CliError(
            f"{what} is not remembered", "see: aitbc chain list", code="unknown_chain", exit_code=3
        )
    remember(settings, pins)
    answer(settings, {"forgotten": what}, f"{what} is forgotten")
