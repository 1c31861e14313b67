"""`aitbc provider`: serve jobs with this machine, look how it is going and what it has earned."""

from pathlib import Path
from typing import Any

import click

from aitbc.cli.accounts import complete_account
from aitbc.cli.errors import CliError
from aitbc.cli.money import amount_or_zero
from aitbc.cli.registration import register_provider
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note, table
from aitbc.core.types.amounts import format_ait

STATUS_PORT = 8090

_DATA_HELP = "Folder of its queue and logs; by default `provider` in the --home folder."


@click.group("provider")
def command() -> None:
    """Serve jobs with this machine and earn."""


command.add_command(register_provider)


@command.command("start", cls=AitbcCommand)
@click.option(
    "--key",
    "name",
    required=True,
    metavar="NAME",
    shell_complete=complete_account,
    help="The provider's key.",
)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help=_DATA_HELP)
@click.option("--host", default="127.0.0.1", show_default=True, help="Of the status page.")
@click.option("--port", type=click.IntRange(1, 65535), default=STATUS_PORT, show_default=True)
@click.option(
    "--price",
    type=amount_or_zero,
    default="1ait",
    show_default=True,
    metavar="AMOUNT",
    help="For 1,000 compute units.",
)
@click.option(
    "--payout", default="", metavar="ADDRESS", help="Where the money goes; the key's own address by default."
)
@click.option("--model", "models", multiple=True, help="Serve only this model; repeatable.")
@click.option(
    "--engine", "engines", multiple=True, metavar="MODULE:CLASS", help="Use only this engine; repeatable."
)
@click.option(
    "--device", default="cpu", show_default=True, help="What the hub's health page calls your card."
)
@click.pass_obj
def start(
    settings: Settings,
    name: str,
    data: Path | None,
    host: str,
    port: int,
    price: int,
    payout: str,
    models: tuple[str, ...],
    engines: tuple[str, ...],
    device: str,
) -> int:
    """Connect to a hub, do its jobs, sign receipts, until Ctrl-C."""
    from aitbc.adapters.http.ports import check_port
    from aitbc.adapters.telemetry.logs import log_as_json
    from aitbc.cli.accounts import signer_of
    from aitbc.cli.chains import genesis_to_sign_for
    from aitbc.client.http import checked_url
    from aitbc.client.node import NodeClient
    from aitbc.core.crypto.address import check_address
    from aitbc.ports import StorageError
    from aitbc.provider.config import ProviderConfig
    from aitbc.provider.engine import EngineGone
    from aitbc.provider.main import run

    if payout:
        check_address(payout)
    try:
        check_port(host, port)
        with NodeClient(settings.rpc) as node:
            signer, genesis = signer_of(settings, node, name), genesis_to_sign_for(node)
        config = ProviderConfig(
            signer=signer,
            data_dir=data or settings.home.expanduser() / "provider",
            hub_url=checked_url(settings.hub),
            rpc_url=settings.rpc,
            bind_host=host,
            bind_port=port,
            genesis=genesis,
            price_per_kilounit=price,
            payout=payout,
            models=models,
            engines=engines,
            device=device,
        )
        note(f"provider {signer.address} for hub {settings.hub}, status on http://{host}:{port}/v1/health")
        log_as_json()
        return run(config)
    except StorageError as error:
        raise CliError(str(error), code="storage") from None
    except EngineGone as error:
        raise CliError(
            str(error), "see the log lines above; aitbc ships two engines", code="engine"
        ) from None


@command.command("status", cls=AitbcCommand)
@click.option(
    "--url", default=f"http://127.0.0.1:{STATUS_PORT}", show_default=True, help="Of its status page."
)
@click.pass_obj
def status(settings: Settings, url: str) -> None:
    """Show whether the provider is linked, what it serves and what it is doing."""
    from aitbc.client.hub import HubClient

    with HubClient(url) as page:
        health = page.health()
    rows: list[tuple[str, ...]] = [
        ("provider", str(health.get("address", ""))),
        ("status", str(health["status"])),
        ("hub", str(health.get("hub") or health.get("link_error") or "not linked")),
        ("models", str(health["model"])),
        ("gets work for", ", ".join(health.get("eligible", [])) or "nothing yet"),
        ("running", ", ".join(health.get("running", [])) or "nothing"),
        ("jobs", f"{health.get('jobs_done', 0)} done, {health.get('jobs_failed', 0)} failed"),
        ("unclaimed", f"{health.get('unclaimed', 0)} receipts"),
    ]
    answer(settings, health, *table(rows))


@command.command("earnings", cls=AitbcCommand)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help=_DATA_HELP)
@click.pass_obj
def earnings(settings: Settings, data: Path | None) -> None:
    """Add up what the chain has paid, and what it still owes."""
    from aitbc.provider.claims import UnclaimedQueue
    from aitbc.provider.joblog import EarningsLog
    from aitbc.provider.provider import EARNINGS_FILE, UNCLAIMED_FOLDER

    folder = data or settings.home.expanduser() / "provider"
    if not folder.is_dir():
        raise CliError(f"{folder} is no provider's folder", "name it with --data", code="no_folder")
    paid = EarningsLog(folder / EARNINGS_FILE).read()
    waiting = folder / UNCLAIMED_FOLDER
    unpaid = UnclaimedQueue(waiting).entries().values() if waiting.is_dir() else []
    view: dict[str, Any] = {
        "receipts": len(paid),
        "units": sum(int(entry.get("units") or 0) for entry in paid),
        "price": sum(int(entry.get("price") or 0) for entry in paid),
        "minted": sum(int(entry.get("minted") or 0) for entry in paid),
        "unclaimed": len(unpaid),
        "unclaimed_price": sum(attested.core.price for attested in unpaid),
    }
    rows: list[tuple[str, ...]] = [
        ("receipts paid", f"{view['receipts']}"),
        ("compute units", f"{view['units']:,}"),
        ("from clients", format_ait(view["price"])),
        ("minted", format_ait(view["minted"])),
        ("together", format_ait(view["price"] + view["minted"])),
        (
            "not yet claimed",
            f"{view['unclaimed']} receipts, {format_ait(view['unclaimed_price'])} and their mint",
        ),
    ]
    answer(settings, view, *table(rows))
