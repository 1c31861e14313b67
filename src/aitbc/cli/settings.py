"""What every command knows: where node and hub are, where keys live, whether the reader is a program.

The options stand before the command (`aitbc --json head`) or after it (`aitbc head --json`).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

RPC_URL = "http://127.0.0.1:8080"
HUB_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, kw_only=True)
class Settings:
    rpc: str = RPC_URL
    hub: str = HUB_URL
    home: Path = Path("~/.aitbc")
    chain: str = ""
    """Id, or the beginning of the genesis hash, of the only chain to sign for; empty: those that keys remember."""
    json: bool = False

    @property
    def accounts_folder(self) -> Path:
        """Accounts whose keys are elsewhere."""
        return self.home.expanduser() / "accounts"

    @property
    def keys_folder(self) -> Path:
        return self.home.expanduser() / "keys"

    @property
    def jobs_folder(self) -> Path:
        """What is needed to come back to jobs that were paid for."""
        return self.home.expanduser() / "jobs"


_RPC_HELP = f"A node's URL; AITBC_RPC, else {RPC_URL}."
_HUB_HELP = f"A hub's URL; AITBC_HUB, else {HUB_URL}."
_HOME_HELP = "Folder of your keys; AITBC_HOME, else ~/.aitbc."
_CHAIN_HELP = "Sign for this chain only: its id, or its genesis hash; AITBC_CHAIN."
_JSON_HELP = "Answer in JSON, errors too."


def root_options() -> list[click.Parameter]:
    """The options in front of a command."""
    return [
        click.Option(["--rpc"], metavar="URL", envvar="AITBC_RPC", default=RPC_URL, help=_RPC_HELP),
        click.Option(["--hub"], metavar="URL", envvar="AITBC_HUB", default=HUB_URL, help=_HUB_HELP),
        click.Option(
            ["--home"],
            type=click.Path(path_type=Path, file_okay=False),
            metavar="FOLDER",
            envvar="AITBC_HOME",
            default="~/.aitbc",
            help=_HOME_HELP,
        ),
        click.Option(["--chain"], metavar="ID", envvar="AITBC_CHAIN", default="", help=_CHAIN_HELP),
        click.Option(["--json"], is_flag=True, help=_JSON_HELP),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show it.",
        ),
    ]


@click.pass_context
def remember_settings(ctx: click.Context, rpc: str, hub: str, home: Path, chain: str, json: bool) -> None:
    ctx.obj = Settings(rpc=rpc, hub=hub, home=home, chain=chain, json=json)


class AitbcCommand(click.Command):
    """A command that also takes the shared options; its callback gets `Settings` through `click.pass_obj`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params += [
            click.Option(["--rpc"], metavar="URL", help=_RPC_HELP, **_overrides("rpc")),
            click.Option(["--hub"], metavar="URL", help=_HUB_HELP, **_overrides("hub")),
            click.Option(
                ["--home"],
                type=click.Path(path_type=Path, file_okay=False),
                metavar="FOLDER",
                help=_HOME_HELP,
                **_overrides("home"),
            ),
            click.Option(["--chain"], metavar="ID", help=_CHAIN_HELP, **_overrides("chain")),
            click.Option(["--json"], is_flag=True, default=None, help=_JSON_HELP, **_overrides("json")),
        ]


def _overrides(name: str) -> dict[str, Any]:
    """What makes an option change one setting instead of reaching the callback."""

    def callback(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.obj = replace(ctx.obj or Settings(), **{name: value})

    return {"expose_value": False, "callback": callback}


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        from aitbc import __version__

        click.echo(f"aitbc {__version__}")
        ctx.exit()
