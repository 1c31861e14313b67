"""`aitbc hub`: run a hub, ask how one is."""

from pathlib import Path
from typing import Any

import click

from aitbc.cli.accounts import complete_account
from aitbc.cli.configuration import settings_of, storage_error
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
    "--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings: YAML or TOML."
)
@click.option(
    "--data",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Folder of its database; HUB_DATA_DIR, else `hub` in the --home folder.",
)
@click.option("--host", "bind_host", help="BIND_HOST, else 127.0.0.1.")
@click.option("--port", "bind_port", type=click.IntRange(1, 65535), help="BIND_PORT, else 8000.")
@click.option(
    "--deliver-s", "deliver", type=click.IntRange(5, 86_400), help="Time to deliver a job; else 120."
)
@click.option(
    "--claim-s", "claim", type=click.IntRange(10, 86_400), help="Time to claim it after that; else 120."
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
@click.option(
    "--database",
    "database",
    metavar="URL",
    help="PostgreSQL for several hub processes; HUB_DATABASE_URL or DATABASE_URL, else SQLite in the folder.",
)
@click.option(
    "--matching",
    type=click.Choice(["weighted", "round_robin"]),
    default="weighted",
    show_default=True,
    help="How providers are chosen; turns mint nothing.",
)
@click.option(
    "--spot-checks",
    is_flag=True,
    help="Have a share of deliveries done again elsewhere before they are attested.",
)
@click.pass_obj
def start(
    settings: Settings,
    /,
    name: str,
    file: Path | None,
    session_amount: int,
    policies: tuple[str, ...],
    cors_origins: tuple[str, ...],
    matching: str,
    spot_checks: bool,
    **flags: Any,
) -> int:
    """Quote, match, check, attest and claim until Ctrl-C."""
    from aitbc.adapters.http.ports import check_port
    from aitbc.adapters.telemetry.logs import log_as_json
    from aitbc.cli.accounts import signer_of
    from aitbc.cli.chains import genesis_to_sign_for
    from aitbc.client.node import NodeClient
    from aitbc.hub.config import HubConfig
    from aitbc.hub.main import run
    from aitbc.hub.settings import HUB
    from aitbc.ports import StorageError

    try:
        said = {
            name: value.value
            for name, value in settings_of(
                HUB, flags={**flags, "cors_origins": cors_origins or None}, file=file
            ).items()
        }
        check_port(said["bind_host"], said["bind_port"])
        with NodeClient(settings.rpc) as node:
            signer, genesis = signer_of(settings, node, name), genesis_to_sign_for(node)
        config = HubConfig(
            signer=signer,
            data_dir=Path(said["data"]) if said["data"] else settings.home.expanduser() / "hub",
            rpc_url=settings.rpc,
            bind_host=said["bind_host"],
            bind_port=said["bind_port"],
            genesis=genesis,
            deliver_s=said["deliver"] // 1000,
            claim_s=said["claim"] // 1000,
            session_amount=session_amount,
            cors_origins=said["cors_origins"],
            policies=policies,
            database_url=said["database"],
            matching=matching,
            spot_checks=spot_checks,
        )
        note(f"hub {signer.address} on http://{config.bind_host}:{config.bind_port}")
        log_as_json(said["log_level"].upper())
        return run(config)
    except StorageError as error:
        raise storage_error(error) from None
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
