"""Every command line that README and the howtos show is one that `aitbc` has."""

import re
import shlex
from pathlib import Path

import click
import pytest

from aitbc.cli import root

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "howto").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """Lines after a prompt, and those between back quotes that name no placeholder."""
    text = page.read_text()
    shown = re.findall(r"^(?:\$|   ) (aitbc [^#\n|\\]*)", text, re.M)
    quoted = re.findall(r"`(aitbc [a-z]+[^`…]*)`", text)
    return [line.strip() for line in (*shown, *quoted)]


SHOWN = [(page.name, line) for page in PAGES for line in commands(page)]


def parse(line: str) -> None:
    """As the command line does, but nothing is run; refuses what has no such command or option."""
    command: click.Command = root
    words = shlex.split(line)[1:]
    context = root.make_context("aitbc", list(words))
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, list(words))  # type: ignore[assignment]
        try:
            context = command.make_context(name, list(words), parent=context)
        except (click.exceptions.NoSuchOption, click.exceptions.NoSuchCommand):
            raise
        except click.UsageError:
            """A file that is not here, or an argument that a sentence leaves out."""


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_what_is_shown_can_be_typed(page: str, line: str) -> None:
    parse(line)


def test_a_wrong_line_would_be_noticed() -> None:
    assert len(SHOWN) > 15
    with pytest.raises(click.exceptions.NoSuchOption):
        parse("aitbc image x -o x.png --from alice --colour red")
    with pytest.raises(click.exceptions.NoSuchOption):
        parse("aitbc keys new work --colour red")
    with pytest.raises(click.exceptions.NoSuchCommand):
        parse("aitbc picture x")
