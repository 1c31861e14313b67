"""`aitbc node`: run a node on a genesis document."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aitbc.cli.configuration import settings_of, storage_error
from aitbc.cli.errors import CliError
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer

if TYPE_CHECKING:
    from aitbc.client.signing import KeySigner

MAX_KEY_FILE_BYTES = 4096

ROLES = ("validator", "relay", "archive", "discovery")
"""As `aitbc.node.roles` has them, which takes long to import."""
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
@click.option(
    "--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings: YAML or TOML."
)
@click.option("--genesis", type=click.Path(dir_okay=False), help="GENESIS; genesis.json in the data folder.")
@click.option(
    "--data", type=click.Path(file_okay=False), help="Folder of the database; DATA_DIR, else ./data."
)
@click.option(
    "--database",
    metavar="URL",
    help="postgresql://… or sqlite:///path instead of a file in the folder; DATABASE_URL.",
)
@click.option("--host", "rpc_host", help="RPC_HOST, else 127.0.0.1.")
@click.option("--port", "rpc_port", type=click.IntRange(1, 65535), help="RPC_PORT, else 8080.")
@click.option("--ws-port", type=click.IntRange(1, 65535), help="A second port for WebSockets only; WS_PORT.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="A port for /metrics only; METRICS_PORT.")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    help="What it is for: to vote, to pass on, to keep everything, or to tell addresses only; ROLE, else validator with"
    " a key and relay without.",
)
@click.option(
    "--proposer-key",
    type=click.Path(dir_okay=False),
    help="File with a validator's or miner's 32-byte key in hexadecimal; PROPOSER_KEY; without it the node follows.",
)
@click.option(
    "--mine-to",
    metavar="ADDRESS",
    help="Mode pow: who earns for this node's blocks; MINE_TO; without it the account of --proposer-key.",
)
@click.option(
    "--miners",
    "mining_processes",
    type=click.IntRange(0, 256),
    help="Where work agrees: processes that search nonces; MINERS, else 1; 0: this node makes no blocks.",
)
@click.option(
    "--extra",
    metavar="TEXT",
    help="Where work agrees: what its blocks say, 256 bytes at most; BLOCK_EXTRA.",
)
@click.option(
    "--signer",
    "signer",
    type=click.Path(dir_okay=False),
    metavar="SOCKET",
    help="Of a signer that holds the key and its guard (aitbc signer start), instead of --proposer-key; SIGNER.",
)
@click.option(
    "--never-voted",
    is_flag=True,
    default=None,
    help="This key has not voted on this chain, anywhere: said once, at a validator's first start.",
)
@click.option("--p2p-host", help="Where other nodes connect; P2P_HOST, else 127.0.0.1.")
@click.option(
    "--p2p-port", type=click.IntRange(1, 65535), help="P2P_PORT; without it nobody can connect to this node."
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="HOST:PORT",
    help="A node to stay connected to; a validator names every other one. Repeatable; PEERS.",
)
@click.option(
    "--bootstrap",
    multiple=True,
    metavar="HOST:PORT",
    help="A node to ask for others while there is nobody else; repeatable; BOOTSTRAP_PEERS.",
)
@click.option(
    "--discovery",
    multiple=True,
    metavar="URL",
    help="A discovery service to ask for others; repeatable; DISCOVERY_URLS.",
)
@click.option(
    "--announce",
    metavar="HOST:PORT",
    help="Where others reach this node (numeric): told to peers, and published at the discovery services; ANNOUNCE.",
)
@click.option(
    "--verify-processes",
    type=click.IntRange(0, 16),
    help="Processes that check signatures when many come; 0: the node does it itself; VERIFY_PROCESSES, else one less"
    " than cores, at most 2.",
)
@click.option(
    "--attest-url",
    "attest_urls",
    multiple=True,
    help="A hub that may be asked for a claim's attestation; repeatable; ATTEST_URLS.",
)
@click.option(
    "--faucet-key", type=click.Path(dir_okay=False), help="File with a devnet's faucet key; FAUCET_KEY."
)
@click.option(
    "--cors-origin", "cors_origins", multiple=True, help="A web page's origin; repeatable; CORS_ORIGINS."
)
@click.option("--log-level", help="LOG_LEVEL, else info.")
def start(file: Path | None, **flags: Any) -> int:
    """Vote, author or mine blocks (with a key), or follow, and answer RPC until Ctrl-C. Every setting can stand in the
    environment, in .env or in the --config file, too: see aitbc config show."""
    from aitbc.adapters import loop
    from aitbc.adapters.http.ports import check_port
    from aitbc.adapters.telemetry.logs import log_as_json
    from aitbc.node.configured import node_config
    from aitbc.node.main import open_program, serve
    from aitbc.node.settings import NODE
    from aitbc.ports import StorageError

    given = {name: value if value != () else None for name, value in flags.items()}
    try:
        values = settings_of(NODE, flags=given, file=file)
        config = node_config(values)
        for port in (config.rpc_port, config.ws_port, config.metrics_port):
            if port is not None:
                check_port(config.rpc_host, port)
        opened = open_program(config)
    except StorageError as error:
        raise storage_error(error) from None
    log_as_json(values["log_level"].value.upper())
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
