"""`aitbc provider init|pause|resume`: fit a provider to this machine, and let it rest."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aitbc.cli.errors import CliError
from aitbc.cli.money import amount_or_zero
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note, table
from aitbc.core.types.amounts import AIT, format_ait

if TYPE_CHECKING:
    from aitbc.provider.calibration import Calibrated

_DATA_HELP = "Folder of its queue and logs; by default `provider` in the --home folder."
_data = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help=_DATA_HELP
)


def folder_of(settings: Settings, data: Path | None) -> Path:
    return data or settings.home.expanduser() / "provider"


@click.command("init", cls=AitbcCommand)
@_data
@click.option(
    "--per-hour",
    type=amount_or_zero,
    metavar="AMOUNT",
    help="Propose the price at which an hour of work on the slowest model brings this; else 1 AIT for 1,000 units.",
)
@click.option("--model", "models", multiple=True, help="Calibrate only this model; repeatable.")
@click.option(
    "--engine", "engines", multiple=True, metavar="MODULE:CLASS", help="Only this engine; repeatable."
)
@click.option(
    "--engines-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Settings of engines; by default `engines.toml` in the provider's folder.",
)
@click.option("--overwrite", is_flag=True, help="Replace the provider.toml that is there.")
@click.pass_obj
def init(
    settings: Settings,
    data: Path | None,
    per_hour: int | None,
    models: tuple[str, ...],
    engines: tuple[str, ...],
    engines_file: Path | None,
    overwrite: bool,
) -> None:
    """Look at this machine, measure its models, propose a price and slots; writes provider.toml."""
    import asyncio

    from aitbc.ports import EngineError
    from aitbc.provider.calibration import hourly_for, price_for
    from aitbc.provider.engine import EngineGone
    from aitbc.provider.settings import SETTINGS_FILE, ProviderSettings, engines_file_of, write_settings

    folder = folder_of(settings, data)
    if (folder / SETTINGS_FILE).exists() and not overwrite:
        raise CliError(
            f"{folder / SETTINGS_FILE} is there already", "replace it with --overwrite", code="exists"
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    device = device_name()
    note(f"{device}: measuring …")
    try:
        found = asyncio.run(_measure(folder, models, engines, engines_file_of(folder, engines_file)))
    except (EngineGone, EngineError) as error:
        raise CliError(str(error), "see the log lines above", code="engine") from None
    if not found:
        raise CliError("no engine here serves a model", "see the log lines above", code="engine")
    slowest = min(one.units_per_s_together for one in found)
    price = AIT if per_hour is None else price_for(per_hour, slowest)
    chosen = ProviderSettings(
        device=device,
        price_per_kilounit=price,
        slots=max(one.slots for one in found),
        models=list(models),
        engines=list(engines),
    )
    file = write_settings(folder, chosen)
    rows: list[tuple[str, ...]] = [
        (
            one.model,
            f"{one.units_per_s:,.0f} units/s, {one.units_per_s_together:,.0f} in {one.slots} slots,"
            f" up to {format_ait(hourly_for(price, one.units_per_s_together))} an hour",
        )
        for one in found
    ]
    view: dict[str, Any] = {
        "device": device,
        "file": str(file),
        "price_per_kilounit": price,
        "slots": chosen.slots,
        "models": [_view(one) for one in found],
    }
    rows += [
        ("price", f"{format_ait(price)} for 1,000 units"),
        ("slots", str(chosen.slots)),
        ("written to", str(file)),
        ("go on with", "aitbc provider start --key NAME"),
    ]
    answer(settings, view, *table(rows))


def _view(one: "Calibrated") -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


async def _measure(
    folder: Path, models: tuple[str, ...], engines: tuple[str, ...], engines_file: Path | None
) -> "list[Calibrated]":
    import secrets

    from aitbc.client.signing import KeySigner
    from aitbc.provider.calibration import MOST_SLOTS, calibrate
    from aitbc.provider.config import ProviderConfig
    from aitbc.provider.engine import EngineProcess

    engine = EngineProcess(
        ProviderConfig(
            signer=KeySigner(secrets.token_bytes(32)),  # nothing is signed here
            data_dir=folder,
            engines=engines,
            engines_file=engines_file,
            models=models,
            slots=MOST_SLOTS,
        )
    )
    await engine.start()
    try:
        return await calibrate(engine)
    finally:
        await engine.stop()


def device_name() -> str:
    """The cards by NVIDIA's meters when they are there, else the processor."""
    from aitbc.adapters.machine import cpu_name
    from aitbc.adapters.nvml import Cards

    names = Cards().names
    return (", ".join(names) if names else cpu_name())[:128]


@click.command("pause", cls=AitbcCommand)
@_data
@click.pass_obj
def pause(settings: Settings, data: Path | None) -> None:
    """Finish what is under way, then leave the hub until `aitbc provider resume`."""
    from aitbc.provider.hours import PAUSE_FILE

    folder = folder_of(settings, data)
    if not folder.is_dir():
        raise CliError(f"{folder} is no provider's folder", "name it with --data", code="no_folder")
    (folder / PAUSE_FILE).touch()
    answer(settings, {"paused": True}, "paused: it finishes what is under way and leaves the hub")


@click.command("resume", cls=AitbcCommand)
@_data
@click.pass_obj
def resume(settings: Settings, data: Path | None) -> None:
    """Take work again."""
    from aitbc.provider.hours import PAUSE_FILE

    (folder_of(settings, data) / PAUSE_FILE).unlink(missing_ok=True)
    answer(settings, {"paused": False}, "work is welcome again")
