"""`aitbc hub`: run a hub, ask how one is."""

from pathlib import Path

import click

from aitbc.cli.accounts import complete_account
from aitbc.cli.errors import CliError
from aitbc.cli.hub_keys import command as key_commands
from aitbc.cli.money import amount
from aitbc.cli.registration import register_hub
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note, table
from aitbc.core.types.amounts import format_ait


@click.group("hub")
def command() -> None:
    """Run a hub."""


command.add_command(register_hub)
command.add_command(key_commands)


@command.command("start", cls=AitbcCommand)
@click.option(
    "--key", "name", required=True, metavar="NAME", shell_complete=complete_account, help="The hub's key."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder of its database; by default `hub` in the --home folder.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(
    "--deliver-s",
    type=click.IntRange(5, 86_400),
    default=120,
    show_default=True,
    help="Time to deliver a job.",
)
@click.option(
    "--claim-s",
    type=click.IntRange(10, 86_400),
    default=120,
    show_default=True,
    help="Time to claim it after that.",
)
@click.option(
    "--session",
    "session_amount",
    type=amount,
    default="100ait",
    show_default=True,
    metavar="AMOUNT",
    help="The most of your own coins that is locked at a time for jobs of API keys.",
)
@click.option(
    "--cors", "cors_origins", multiple=True, metavar="ORIGIN", help="A web page that may ask; repeatable."
)
@click.option(
    "--policy", "policies", multiple=True, metavar="MODULE:FUNCTION", help="A content policy; repeatable."
)
@click.pass_obj
def start(
    settings: Settings,
    name: str,
    data: Path | None,
    host: str,
    port: int,
    deliver_s: int,
    claim_s: int,
    session_amount: int,
    cors_origins: tuple[str, ...],
    policies: tuple[str, ...],
) -> int:
    """Quote, match, check, attest and claim until Ctrl-C. DATABASE_URL: accounts in PostgreSQL instead of a file."""
    import os

    from aitbc.adapters.http.ports import check_port
    from aitbc.adapters.telemetry.logs import log_as_json
    from aitbc.cli.accounts import signer_of
    from aitbc.cli.chains import genesis_to_sign_for
    from aitbc.client.node import NodeClient
    from aitbc.hub.config import HubConfig
    from aitbc.hub.main import run
    from aitbc.ports import StorageError

    try:
        check_port(host, port)
        with NodeClient(settings.rpc) as node:
            signer, genesis = signer_of(settings, node, name), genesis_to_sign_for(node)
        config = HubConfig(
            signer=signer,
            data_dir=data or settings.home.expanduser() / "hub",
            rpc_url=settings.rpc,
            bind_host=host,
            bind_port=port,
            genesis=genesis,
            deliver_s=deliver_s,
            claim_s=claim_s,
            session_amount=session_amount,
            cors_origins=cors_origins,
            policies=policies,
            database_url=os.environ.get("DATABASE_URL", ""),
        )
        note(f"hub {signer.address} on http://{host}:{port}")
        log_as_json()
        return run(config)
    except StorageError as error:
        raise CliError(str(error), code="storage") from None
    except (ImportError, AttributeError) as error:
        if not policies:
            raise
        raise CliError(
            f"a policy cannot be loaded: {error}", "name it as MODULE:FUNCTION", code="policy"
        ) from None


@command.command("status", cls=AitbcCommand)
@click.pass_obj
def status(settings: Settings) -> None:
    """Show who the hub is, what it serves and how busy it is."""
    from aitbc.client.hub import HubClient

    with HubClient(settings.hub) as hub:
        identity, health, models, busy = hub.identity(), hub.health(), hub.models(), hub.busy()
    rows: list[tuple[str, ...]] = [
        ("hub", identity["address"]),
        ("chain", f"{identity['chain_id']} {identity['genesis_hash']}"),
        ("providers", f"{health['providers']} ({health['gpu']})"),
        ("requests", f"{busy['requests_per_second']} a second, 95 % within {busy['p95_ms']} ms"),
        ("jobs under way", f"{busy['jobs_under_way']}"),
        ("queued jobs", f"{health.get('queued', 0)}"),
        ("open claims", f"{health.get('open_claims', 0)}"),
    ]
    rows += [
        (
            f"model {model['id']}",
            f"{model['kind']}, {format_ait(model['price_per_kilounit'])} for 1,000 units,"
            f" {model['providers']} providers",
        )
        for model in models
    ]
    rows += [
        (f"queue {model['model']}", f"{model['queued']} waiting, {model['free_slots']} places free")
        for model in busy["models"]
    ]
    answer(settings, {**identity, **health, "models": models, "busy": busy}, *table(rows))
