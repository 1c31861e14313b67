"""A command group that knows its commands by name and help line; a command's file is loaded when used."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from aitbc.cli.errors import CliError


class Entry(NamedTuple):
    target: str
    """`package.module:attribute` of a click command."""
    section: str
    help: str


class LazyGroup(click.Group):
    """`--help`, completion and typing errors are answered from the table alone."""

    def __init__(self, name: str, table: Mapping[str, Entry], **options: Any) -> None:
        super().__init__(name, **options)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.table.get(cmd_name)
        return None if entry is None else _load(cmd_name, entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.table and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(name, possibilities=list(self.table), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(entry.section for entry in self.table.values()):
            rows = [(name, entry.help) for name, entry in self.table.items() if entry.section == section]
            with formatter.section(section):
                formatter.write_dl(rows, col_spacing=12 - max(len(name) for name, _ in rows) + 2)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [
            CompletionItem(name, help=entry.help)
            for name, entry in self.table.items()
            if name.startswith(incomplete)
        ]


def _load(name: str, entry: Entry) -> click.Command:
    module, _, attribute = entry.target.partition(":")
    try:
        command = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and not error.name.startswith("aitbc"):
            raise CliError(
                f"aitbc {name} needs the Python package {error.name}",
                "install it with: pip install --upgrade aitbc",
                code="missing_package",
            ) from None
        raise CliError(f"aitbc {name} is not part of this installation", "install a complete aitbc") from None
    assert isinstance(command, click.Command), f"{entry.target} is a click command"
    return command
