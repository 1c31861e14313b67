"""docs/cli/reference.md names every command and option, and every command keeps to what docs/cli/README.md says."""

import importlib.util
import re
from pathlib import Path

import click
import pytest

from aitbc.cli import root
from aitbc.cli.settings import AitbcCommand

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cli" / "reference.md"

spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "tools" / "cli_reference.py")
assert spec is not None and spec.loader is not None
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

COMMANDS: dict[str, click.Command] = dict(tool.commands(root, "aitbc"))
SECTIONS = {part.splitlines()[0]: part for part in PAGE.read_text().split("\n## ")[1:]}

PRINT_NO_DATA = {
    "aitbc completion": "prints a script",
    "aitbc explain": "prints sentences",
    "aitbc devnet": "runs; its ready line is JSON",
    "aitbc sim": "prints a run",
    "aitbc node start": "runs; its log is JSON",
    "aitbc node workshop": "runs",
    "aitbc discovery": "runs; its log is JSON",
}
"""Commands without --json, and why."""


def test_the_page_has_every_command_and_no_other() -> None:
    """python tools/cli_reference.py writes it."""
    shared = [name + (" *" if isinstance(found, AitbcCommand) else "") for name, found in COMMANDS.items()]
    assert list(SECTIONS) == shared


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_has_every_option(name: str) -> None:
    """Not byte for byte: releases of click differ in how they fill lines."""
    section = SECTIONS.get(name) or SECTIONS[name + " *"]
    words = " ".join(section.split())
    wanted = " ".join(tool.text_of(name, COMMANDS[name]).split())
    options = re.findall(r"(?<=\s)--[a-z][a-z0-9-]+", wanted)
    assert [option for option in options if option not in words] == []
    assert " ".join((COMMANDS[name].help or "").split()) in words


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_answers_programs_in_json(name: str) -> None:
    command = COMMANDS[name]
    own = any("--json" in parameter.opts for parameter in command.params)
    excused = name in PRINT_NO_DATA or name.startswith("aitbc workshop")
    assert own or excused, f"{name} has no --json"


@pytest.mark.parametrize("name", COMMANDS)
def test_what_sends_a_transaction_can_be_tried_first(name: str) -> None:
    """And waits for what is asked. Jobs are tried by a quote's --max-price; the faucet signs for itself."""
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    sends = "--wait" in options and "--from" in options
    assert not sends or {"--dry-run", "--unsigned", "--fee", "--max-fee", "--timeout"} <= options
