"""`aitbc discovery`: run a bootstrap service, where nodes find their first peers."""

from pathlib import Path

import click

from aitbc.cli.errors import CliError
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import note


@click.command("discovery", cls=AitbcCommand)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where nodes ask.")
@click.option("--port", type=click.IntRange(1, 65535), default=4444, show_default=True)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder of its directory; by default `discovery` in the --home folder.",
)
@click.option(
    "--allow-private",
    is_flag=True,
    help="List and dial addresses of this machine and of the local network too: for a network that is not in public.",
)
@click.pass_obj
def command(settings: Settings, host: str, port: int, data: Path | None, allow_private: bool) -> int:
    """List nodes that say where they are and answer when they are called back, until Ctrl-C."""
    from aitbc.adapters.http.ports import check_port
    from aitbc.adapters.telemetry.logs import log_as_json
    from aitbc.core.peer.addresses import is_public, join_where
    from aitbc.discovery.config import DiscoveryConfig
    from aitbc.discovery.main import open_discovery, run
    from aitbc.ports import StorageError

    if allow_private and is_public(join_where(host, port)):
        raise CliError(
            f"{host} is public: with --allow-private anybody could have this service knock at the doors behind it",
            "listen on a local address, or leave --allow-private out",
            code="usage",
        )
    config = DiscoveryConfig(
        data=data or settings.home.expanduser() / "discovery",
        host=host,
        port=port,
        allow_private=allow_private,
    )
    try:
        check_port(host, port)
        service = open_discovery(config)
        note(f"discovery service on http://{join_where(host, port)}, its directory in {config.data}")
        log_as_json()
        return run(config, service)
    except StorageError as error:
        raise CliError(str(error), code="storage") from None
