"""`aitbc node`: run a node on a genesis document."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aitbc.cli.errors import CliError
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer

if TYPE_CHECKING:
    from aitbc.client.signing import KeySigner
    from aitbc.core.peer.records import Endpoint

MAX_KEY_FILE_BYTES = 4096


WORKSHOP = (["--profile", "workshop"], ["--profile=workshop"])


class ProfileGroup(click.Group):
    """`aitbc node --profile workshop …` is `aitbc workshop start …`: a node of another network."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _without_profile(args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, _without_profile(args))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "workshop":
            return super().get_command(ctx, cmd_name)
        from aitbc.cli.workshop import start as start_workshop

        return start_workshop


def _without_profile(args: list[str]) -> list[str]:
    for spelling in WORKSHOP:
        if args[: len(spelling)] == spelling:
            return ["workshop", *args[len(spelling) :]]
    return args


@click.group("node", cls=ProfileGroup)
@click.option(
    "--profile",
    type=click.Choice(["workshop"]),
    expose_value=False,
    help="Join seed 004's plain network; the options are those of: aitbc workshop start.",
)
def command() -> None:
    """Run a node, or see how one does."""


@command.command("start")
@click.option("--genesis", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the database."
)
@click.option(
    "--database",
    envvar="DATABASE_URL",
    default="",
    metavar="URL",
    help="postgresql://… or sqlite:///path instead of a file in the folder; DATABASE_URL.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option(
    "--proposer-key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with a validator's or miner's 32-byte key in hexadecimal; without it the node follows.",
)
@click.option(
    "--mine-to",
    default="",
    metavar="ADDRESS",
    help="Mode pow: who earns for this node's blocks; without it the account of --proposer-key.",
)
@click.option(
    "--miners",
    "mining_processes",
    type=click.IntRange(0, 256),
    default=1,
    show_default=True,
    help="Where work agrees: processes that search nonces; 0: this node makes no blocks.",
)
@click.option(
    "--extra", default="", metavar="TEXT", help="Where work agrees: what its blocks say, 256 bytes at most."
)
@click.option(
    "--signer",
    "signer",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="SOCKET",
    help="Of a signer that holds the key and its guard (aitbc signer start), instead of --proposer-key.",
)
@click.option(
    "--never-voted",
    is_flag=True,
    help="This key has not voted on this chain, anywhere: said once, at a validator's first start.",
)
@click.option("--p2p-host", default="127.0.0.1", show_default=True, help="Where other nodes connect.")
@click.option("--p2p-port", type=click.IntRange(1, 65535), help="Without it nobody can connect to this node.")
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="HOST:PORT",
    help="A node to stay connected to; a validator names every other one. Repeatable.",
)
@click.option(
    "--bootstrap",
    multiple=True,
    envvar="BOOTSTRAP_PEERS",
    metavar="HOST:PORT",
    help="A node to ask for others while there is nobody else; repeatable; BOOTSTRAP_PEERS.",
)
@click.option(
    "--discovery",
    "discovery",
    multiple=True,
    envvar="DISCOVERY_URLS",
    metavar="URL",
    help="A discovery service to ask for others; repeatable; DISCOVERY_URLS.",
)
@click.option(
    "--announce",
    metavar="HOST:PORT",
    help="Where others reach this node (numeric): told to peers, and published at the discovery services.",
)
@click.option(
    "--verify-processes",
    type=click.IntRange(0, 16),
    default=lambda: min(2, max(0, (os.cpu_count() or 1) - 1)),
    show_default="one less than cores, at most 2",
    help="Processes that check signatures when many come; 0: the node does it itself.",
)
@click.option(
    "--attest-url",
    "attest_urls",
    multiple=True,
    help="A hub that may be asked for a claim's attestation; repeatable.",
)
def start(
    genesis: Path,
    data: Path,
    database: str,
    host: str,
    port: int,
    proposer_key: Path | None,
    signer: Path | None,
    mine_to: str,
    mining_processes: int,
    extra: str,
    never_voted: bool,
    p2p_host: str,
    p2p_port: int | None,
    peers: tuple[str, ...],
    bootstrap: tuple[str, ...],
    discovery: tuple[str, ...],
    announce: str | None,
    verify_processes: int,
    attest_urls: tuple[str, ...],
) -> int:
    """Vote, author or mine blocks (with a key), or follow, and answer RPC until Ctrl-C."""
    from aitbc.adapters import loop
    from aitbc.adapters.http.ports import check_port
    from aitbc.adapters.telemetry.logs import log_as_json
    from aitbc.node.config import NodeConfig
    from aitbc.node.main import open_node, serve
    from aitbc.ports import StorageError

    if signer is not None and (proposer_key is not None or never_voted):
        raise CliError(
            "with --signer, key and guard are the signer's",
            "leave out --proposer-key and --never-voted",
            code="usage",
        )
    config = NodeConfig(
        genesis=genesis.read_bytes(),
        data=data,
        database=database,
        rpc_host=host,
        rpc_port=port,
        proposer=signer_from_file(proposer_key) if proposer_key else None,
        signer=signer,
        mine_to=mine_to,
        mining_processes=mining_processes,
        extra=extra.encode(),
        never_voted=never_voted,
        p2p_host=p2p_host,
        p2p_port=p2p_port,
        peers=peers,
        bootstrap=bootstrap,
        discovery=_services(discovery),
        announce=_announced(announce, p2p_port),
        verify_processes=verify_processes,
        attest_urls=attest_urls,
    )
    try:
        check_port(host, port)
        opened = open_node(config)
    except StorageError as error:
        raise CliError(str(error), code="storage") from None
    log_as_json()
    with contextlib.suppress(KeyboardInterrupt):
        return loop.run(serve(config, opened))
    return 0


@command.command("status", cls=AitbcCommand)
@click.pass_obj
def status(settings: Settings) -> None:
    """Show how agreement goes on a node: its validators, who is slow or silent, and its peers."""
    from aitbc.cli.node_status import lines_of, lines_of_work
    from aitbc.client.node import NodeClient

    with NodeClient(settings.rpc) as node:
        consensus, peers = node.consensus(), node.peers()
    lines = lines_of_work if "finalityDepth" in consensus else lines_of
    answer(settings, {"consensus": consensus, "peers": peers}, *lines(consensus, peers))


def _services(urls: tuple[str, ...]) -> tuple[str, ...]:
    from aitbc.client.http import checked_url
    from aitbc.node.finder import MAX_SERVICES

    if len(urls) > MAX_SERVICES:
        raise CliError(
            f"{len(urls)} discovery services", f"name at most {MAX_SERVICES}: one is enough", code="usage"
        )
    return tuple(checked_url(url) for url in urls)


def _announced(where: str | None, p2p_port: int | None) -> "Endpoint | None":
    from aitbc.core.peer.addresses import numeric_where, split_where
    from aitbc.core.peer.records import Endpoint

    if where is None:
        return None
    if p2p_port is None:
        raise CliError(
            "nobody can connect to a node without --p2p-port", "add it, or leave out --announce", code="usage"
        )
    numeric = numeric_where(where)
    parts = split_where(numeric) if numeric else None
    if parts is None:
        fix = "give it like 203.0.113.7:7070 or [2001:db8::7]:7070: names are not told to others"
        raise CliError(f"{where} is no numeric address that others could dial", fix, code="usage")
    return Endpoint(host=parts[0], port=parts[1])


def signer_from_file(path: Path) -> "KeySigner":
    from aitbc.client.signing import KeySigner
    from aitbc.core.codec.canonical import unhex
    from aitbc.core.types.reasons import Rejected

    if path.stat().st_mode & 0o077:
        raise CliError(f"{path} can be read by others", f"chmod 600 {path}")
    text = path.read_text()[:MAX_KEY_FILE_BYTES].strip()
    try:
        return KeySigner(unhex(text, size=32))
    except Rejected:
        raise CliError(
            f"{path} does not hold 64 lower-case hexadecimal characters", "write the key's seed"
        ) from None
