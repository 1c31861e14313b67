"""`aitbc provider`: serve jobs with this machine, look how it is going and what it has earned."""

from pathlib import Path
from typing import Any

import click

from aitbc.cli.accounts import complete_account
from aitbc.cli.errors import CliError
from aitbc.cli.money import amount_or_zero
from aitbc.cli.provider_setup import folder_of, init, pause, resume
from aitbc.cli.registration import register_provider
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note, table
from aitbc.core.types.amounts import AIT, format_ait

STATUS_PORT = 8090
MAX_DAYS_SHOWN = 14
"""JSON has them all."""

_PORT = click.IntRange(1, 65535)
_SERVE_DATA_HELP = "Folder of its log; by default `serve` in the --home folder."
_DATA_HELP = "Folder of its queue and logs; by default `provider` in the --home folder."


@click.group("provider")
def command() -> None:
    """Serve jobs with this machine and earn."""


for part in (init, pause, resume, register_provider):
    command.add_command(part)


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
    metavar="AMOUNT",
    help="The least for 1,000 compute units; by default what provider.toml says, else 1 AIT.",
)
@click.option(
    "--payout", default="", metavar="ADDRESS", help="Where the money goes; the key's own address by default."
)
@click.option("--model", "models", multiple=True, help="Serve only this model; repeatable.")
@click.option(
    "--engine", "engines", multiple=True, metavar="MODULE:CLASS", help="Use only this engine; repeatable."
)
@click.option(
    "--engines-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Settings of engines; by default `engines.toml` in the provider's folder.",
)
@click.option(
    "--slots", type=click.IntRange(1, 64), help="Tasks at once; by default provider.toml's, else 1."
)
@click.option("--hours", metavar="SPANS", help="Work only then, such as 22:00-06:00,12:00-13:30.")
@click.option("--keep-warm", type=float, metavar="SECONDS", help="Run a small request when idle for so long.")
@click.option("--device", help="What the hub's health page calls your card; else provider.toml's, else cpu.")
@click.pass_obj
def start(
    settings: Settings,
    name: str,
    data: Path | None,
    host: str,
    port: int,
    price: int | None,
    payout: str,
    models: tuple[str, ...],
    engines: tuple[str, ...],
    engines_file: Path | None,
    slots: int | None,
    hours: str | None,
    keep_warm: float | None,
    device: str | None,
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
    from aitbc.provider.hours import hours_of
    from aitbc.provider.main import run
    from aitbc.provider.settings import MEGABYTE, engines_file_of, read_settings

    folder = folder_of(settings, data)
    try:
        own = read_settings(folder)
        hours_of(hours or "")
    except ValueError as error:
        raise CliError(str(error), "correct it, or start without it", code="settings") from None
    payout = payout or own.payout
    if payout:
        check_address(payout)
    asked = own.price_per_kilounit if price is None else price
    try:
        check_port(host, port)
        with NodeClient(settings.rpc) as node:
            signer, genesis = signer_of(settings, node, name), genesis_to_sign_for(node)
        config = ProviderConfig(
            signer=signer,
            data_dir=folder,
            hub_url=checked_url(settings.hub),
            rpc_url=settings.rpc,
            bind_host=host,
            bind_port=port,
            genesis=genesis,
            price_per_kilounit=AIT if asked is None else asked,
            payout=payout,
            models=models or tuple(own.models),
            engines=engines or tuple(own.engines),
            engines_file=engines_file_of(folder, engines_file),
            slots=slots or own.slots,
            hours=own.hours if hours is None else hours,
            keep_warm_s=own.keep_warm_s if keep_warm is None else keep_warm,
            device=device or own.device,
            region=own.region,
            policies=tuple(own.policies),
            vram_mb=own.vram_mb,
            engine_memory_bytes=own.engine_memory_mb * MEGABYTE,
            engine_vram_bytes=own.engine_vram_mb * MEGABYTE,
        )
        note(f"provider {signer.address} for hub {settings.hub}, status on http://{host}:{port}/v1/health")
        log_as_json()
        return run(config)
    except StorageError as error:
        raise CliError(str(error), code="storage") from None
    except EngineGone as error:
        raise CliError(
            str(error), "see the log lines above; aitbc ships three engines", code="engine"
        ) from None


@command.command("serve", cls=AitbcCommand)
@click.option("--host", envvar="BIND_HOST", default="127.0.0.1", show_default=True, help="BIND_HOST.")
@click.option("--port", envvar="BIND_PORT", type=_PORT, default=8000, show_default=True, help="BIND_PORT.")
@click.option(
    "--model", envvar="MODEL_ID", default="", help="MODEL_ID; by default the engines' first picture model."
)
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help=_SERVE_DATA_HELP
)
@click.option(
    "--engine", "engines", multiple=True, metavar="MODULE:CLASS", help="Use only this engine; repeatable."
)
@click.option(
    "--device",
    envvar="NVIDIA_VISIBLE_DEVICES",
    default="cpu",
    show_default=True,
    help="What health calls your card.",
)
@click.pass_obj
def serve(
    settings: Settings,
    host: str,
    port: int,
    model: str,
    data: Path | None,
    engines: tuple[str, ...],
    device: str,
) -> int:
    """Draw pictures for whoever has the key, without chain and hub; API_KEY is the key, else one is made and shown."""
    import os
    import secrets

    from aitbc.adapters.http.ports import check_port
    from aitbc.provider.alone import AloneConfig, run
    from aitbc.provider.engine import EngineGone

    api_key = os.environ.get("API_KEY", "")
    if not api_key:
        api_key = secrets.token_urlsafe(24)
        note(f"API_KEY={api_key}")
    check_port(host, port)
    config = AloneConfig(
        api_key=api_key,
        data_dir=data or settings.home.expanduser() / "serve",
        model=model,
        bind_host=host,
        bind_port=port,
        device=device,
        engines=engines,
    )
    note(f"pictures on http://{host}:{port}/v1/generate-image")
    try:
        return run(config)
    except EngineGone as error:
        raise CliError(str(error), "see the log lines above", code="engine") from None


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
    from aitbc.provider.joblog import EarningsLog, by_day
    from aitbc.provider.provider import EARNINGS_FILE, UNCLAIMED_FOLDER

    folder = folder_of(settings, data)
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
        "by_day": by_day(paid),
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
    rows += [
        (
            f"  {day['day']}",
            f"{day['receipts']} receipts, {day['units']:,} units, {format_ait(day['price'] + day['minted'])}",
        )
        for day in view["by_day"][-MAX_DAYS_SHOWN:]
    ]
    answer(settings, view, *table(rows))
