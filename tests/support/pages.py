"""Pages whose console blocks are run: what stands after `$ ` is typed, what follows must come out.

`…` in a page stands for any text within a line, a line of nothing else for any number of lines. `# exit 4` behind a
command is its exit code. To write down what comes out now: `WRITE_PAGES=1 pytest tests/integration/test_cli_pages.py`;
then read it.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aitbc.cli import root
from aitbc.cli.accounts import devnet_addresses
from aitbc.cli.errors import run

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
SHELL = set("|&;<>$`*?~")
ANY = "…"


@dataclass(frozen=True)
class Command:
    """A line of a page, and what it is to say."""

    page: Path
    line: int
    text: str
    expected: list[str]
    exit_code: int


def commands_of(page: Path) -> list[Command]:
    text = page.read_text()
    found = []
    for block in BLOCK.finditer(text):
        first = text[: block.start(1)].count("\n") + 1
        found += list(_commands(page, first, block.group(1).splitlines()))
    return found


def _commands(page: Path, first: int, lines: list[str]) -> Iterator[Command]:
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    assert starts[:1] == [0], f"{page}:{first}: a block begins with a command"
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        text, _, code = lines[start][2:].partition("  # exit ")
        yield Command(page, first + start, text.strip(), lines[start + 1 : end], int(code or 0))


def perform(command: Command) -> tuple[int, list[str]]:
    """Exit code and output, both streams in the order in which it came. Plain `aitbc` lines run in this process."""
    words = shlex.split(command.text)
    if words[0] == "aitbc" and not SHELL & set(command.text):
        with io.StringIO() as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return run(root, words[1:]), said.getvalue().splitlines()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command.text],
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout.splitlines()


def differs(command: Command, found: list[str]) -> str:
    """Empty when the output is what the page says."""
    pattern = "".join(".*" if line == ANY else f"{_line(line)}\n" for line in command.expected)
    text = "".join(f"{line.rstrip()}\n" for line in found)
    if re.fullmatch(pattern, text, re.S):
        return ""
    expected = "\n".join(command.expected)
    return f"{command.page.name}:{command.line}: $ {command.text}\n--- the page says\n{expected}\n--- it said\n{text}"


def _line(line: str) -> str:
    return r"[^\n]*".join(re.escape(part) for part in line.rstrip().split(ANY))


Shorten = Callable[[str], str]

KNOWN = {*devnet_addresses().values(), "ait1z2xmcajyyewdu5k0fez4ucfq5s23tddarpzfvg"}
"""Addresses that are the same in every run: a devnet's, and that of two of alice, bob and carol."""

CHANGING = [
    (re.compile(r"^  ([a-z]{3,8} ){11}[a-z]{3,8}$"), f"  {ANY}"),
    (re.compile(r"\b[0-9]{10,13}(\.[0-9]+)?\b"), ANY),
    (re.compile(r"(\"nonce\":|nonce   ) \d+"), rf"\1 {ANY}"),
    (re.compile(r"job_[0-9a-f]{24}"), f"job_{ANY}"),
    (re.compile(r"\"[0-9a-f]{32}\""), f'"{ANY}"'),
    (re.compile(r"slot \d+"), f"slot {ANY}"),
    (re.compile(r"\b[0-9]{3},[0-9]{3}\.[0-9]{6}\b"), ANY),
    (re.compile(r"/\S+/\.local"), f"{ANY}/.local"),
    (re.compile(r"^(block|height|head) +\d+"), rf"\1{ANY}"),
    (re.compile(r"rcpt_[0-9a-f]{64}"), f"rcpt_{ANY}"),
    (re.compile(r"[0-9a-f]{64,}"), ANY),
    (re.compile(r"(in block|block|height:?|\"height\":) \d+"), rf"\1 {ANY}"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.+]+"), ANY),
]


def shortened(line: str) -> str:
    """What is another one in each run becomes `…`."""
    for pattern, short in CHANGING:
        line = pattern.sub(short, line)
    return re.sub(r"ait1[a-z0-9]{38}", lambda found: found[0] if found[0] in KNOWN else ANY, line)


def write_down(page: Path, outputs: dict[int, list[str]]) -> None:
    """Put outputs, by the line of their command, into the page; those that had wildcards and still hold stay."""
    lines = page.read_text().splitlines()
    for command in reversed(commands_of(page)):
        if command.line in outputs and differs(command, outputs[command.line]):
            start = command.line
            lines[start : start + len(command.expected)] = [shortened(line) for line in outputs[command.line]]
    page.write_text("\n".join(lines) + "\n")
