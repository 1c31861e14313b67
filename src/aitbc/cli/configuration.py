"""`aitbc config`: what a program would be told, and by whom. Commands that start programs load their settings here."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aitbc.cli.errors import CliError
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, table

if TYPE_CHECKING:
    from aitbc.adapters.config.loader import Table, Value

PROGRAMS = ("node", "hub")
UNREAD = (
    "AITBC_RPC",
    "AITBC_HUB",
    "AITBC_HOME",
    "AITBC_CHAIN",
    "AITBC_PASSWORD_FILE",
    "AITBC_HUB_ADMIN_TOKEN",
    "AITBC_ENGINES_FILE",
)
"""Of the command line itself, in the environment only: no folder that somebody else filled says where money goes."""


def table_of(program: str) -> "Table":
    if program == "hub":
        from aitbc.hub.settings import HUB

        return HUB
    from aitbc.node.settings import NODE

    return NODE


def settings_of(
    program: "Table", *, flags: Mapping[str, Any], file: Path | None = None
) -> "dict[str, Value]":
    """Flags over environment over ./.env over the file over defaults. Raises ConfigError."""
    from aitbc.adapters.config.loader import DOTENV, load

    others = {name for other in PROGRAMS for name in table_of(other).variables()}
    return load(
        program,
        flags=flags,
        environment=os.environ,
        file=file,
        dotenv=Path(DOTENV),
        others=others,
        unread=UNREAD,
    )


def storage_error(error: Exception) -> CliError:
    """What kept a program from starting, with its code."""
    from aitbc.adapters.config.loader import ConfigError

    return CliError(str(error), code="bad_config" if isinstance(error, ConfigError) else "storage")


@click.group("config")
def command() -> None:
    """See what a program would be told."""


@command.command("show", cls=AitbcCommand)
@click.argument("program", type=click.Choice(PROGRAMS), default="node")
@click.option("--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="YAML or TOML.")
@click.option("--origin", is_flag=True, help="Show where each was said.")
@click.option("--all", "everything", is_flag=True, help="Also those that nobody has set.")
@click.pass_obj
def show(settings: Settings, program: str, file: Path | None, origin: bool, everything: bool) -> None:
    """Show the settings of a program: environment over .env over the file over defaults. Keys are not shown."""
    from aitbc.ports import StorageError

    wanted = table_of(program)
    try:
        values = settings_of(wanted, flags={}, file=file)
    except StorageError as error:
        raise storage_error(error) from None
    names = {setting.name: setting for setting in wanted.settings}
    view = {
        name: {
            "value": _shown(names[name].secret, value.value),
            "origin": value.origin,
            "env": names[name].env,
        }
        for name, value in values.items()
        if everything or value.value not in (None, "", (), {}) or not value.is_default
    }
    rows = [
        (name, _text(row["value"]), *([str(row["origin"])] if origin else [])) for name, row in view.items()
    ]
    answer(settings, view, *table(rows))


def _shown(secret: bool, value: Any) -> Any:
    return "(hidden)" if secret and value else value


def _text(value: Any) -> str:
    return (
        ", ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)
    )


DEVNET_YAML = """\
# A devnet of one node, with seed 001's ports. Start it: aitbc node start --config devnet.yaml
# Its keys are published: whoever knows this project has them. Nothing here is worth anything.
data: {data}
genesis: {data}/genesis.json
proposer_key: {data}/proposer.key
never_voted: true
faucet_key: {data}/faucet.key
synthetic_key: {data}/synthetic.key
rpc:
  host: 127.0.0.1
  port: 9080
ws_port: 9081
metrics_port: 9090
log_level: info
"""


@command.command("init-devnet", cls=AitbcCommand)
@click.option("--data", default="devnet", show_default=True, help="Folder of genesis, keys and database.")
@click.option("-o", "--output", default="devnet.yaml", show_default=True, help="The settings.")
@click.option("--block-time-ms", type=click.IntRange(0, 3_600_000), default=1_000, show_default=True)
@click.option("--force", is_flag=True, help="Overwrite the files.")
@click.pass_obj
def init_devnet(settings: Settings, data: str, output: str, block_time_ms: int, force: bool) -> None:
    """Write genesis, keys and settings of a devnet of one node (seed 001)."""
    from aitbc.adapters.keystore.derivation import devnet_keys, devnet_validators
    from aitbc.cli.files import write_private
    from aitbc.client.signing import KeySigner
    from aitbc.core.ledger.devnet import devnet_genesis
    from aitbc.core.ledger.genesis import genesis_document

    folder, file = Path(data), Path(output)
    if not force and (file.exists() or (folder / "genesis.json").exists()):
        raise CliError(
            f"{file} or {folder}/genesis.json exists", "choose others, or add --force", code="file_exists"
        )
    seeds = devnet_keys()
    genesis = devnet_genesis(
        {name: KeySigner(seed).auth_key for name, seed in seeds.items()},
        validators=[],
        block_time_ms=block_time_ms,
        idle_ms=max(10_000, block_time_ms),
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "genesis.json").write_bytes(genesis_document(genesis) + b"\n")
    keys = {
        "proposer": devnet_validators(1)[0],
        "faucet": seeds["faucet"],
        "synthetic": seeds["synthetic-attester"],
    }
    for name, seed in keys.items():
        write_private(folder / f"{name}.key", seed.hex().encode() + b"\n")
    file.write_text(DEVNET_YAML.format(data=folder))
    answer(
        settings,
        {"config": str(file), "data": str(folder)},
        f"{file} and {folder}: start it with aitbc node start --config {file}",
    )
