"""Write docs/cli/reference.md: every command with its arguments and options, from the command line itself."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from aitbc.cli import root
from aitbc.cli.settings import AitbcCommand

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli" / "reference.md"
SHARED = {"rpc", "hub", "home", "chain", "json"}
HEAD = """# Every command

Made by `python tools/cli_reference.py` from the commands' own help; a test keeps it so. Commands marked with * also take the
shared options of [README.md](README.md): `--rpc`, `--hub`, `--home`, `--chain`, `--json`.
"""


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command below a group that does something by itself, in the order of the help."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from commands(found, f"{path} {name}")
        else:
            yield f"{path} {name}", found


def text_of(path: str, command: click.Command) -> str:
    """One command's part of the page."""
    own = [parameter for parameter in command.params if _is_own(command, parameter)]
    shown = click.Command(name=path, params=own, add_help_option=False)
    context = click.Context(shown, info_name=path, max_content_width=100, terminal_width=100)
    formatter = context.make_formatter()
    shown.format_usage(context, formatter)
    shown.format_options(context, formatter)
    body = "\n".join(line.rstrip() for line in formatter.getvalue().splitlines()).strip()
    help_text = " ".join((command.help or "").split())
    mark = " *" if isinstance(command, AitbcCommand) else ""
    return f"## {path}{mark}\n\n{help_text}\n\n```text\n{body}\n```\n"


def _is_own(command: click.Command, parameter: click.Parameter) -> bool:
    return not (isinstance(command, AitbcCommand) and parameter.name in SHARED and not parameter.expose_value)


def page() -> str:
    return "\n".join([HEAD, *[text_of(path, command) for path, command in commands(root, "aitbc")]])


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE, file=sys.stderr)
