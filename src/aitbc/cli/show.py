"""Data on stdout for people or for programs; progress on stderr, as a bar only where somebody watches."""

import json
import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from aitbc.cli.settings import Settings
from aitbc.client.progress import Progress, Watch


def answer(settings: Settings, data: Any, *lines: str) -> None:
    """What the command was asked for: `data` for programs, `lines` for people."""
    if settings.json:
        click.echo(json.dumps(data, ensure_ascii=False))
        return
    for line in lines:
        click.echo(line, color=_color())


def note(text: str) -> None:
    """Something on the side, for people; part of it may come from far."""
    click.echo(printable(text), err=True, color=_color())


def printable(text: str) -> str:
    """Without the control characters by which a stranger's text could command the terminal."""
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) != "Cc")


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as aligned lines."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


@contextmanager
def job_progress(settings: Settings) -> Iterator[Watch]:
    """A watcher for a job: a bar on a terminal, one line per stage elsewhere, nothing for programs."""
    if settings.json:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar() as watch:
            yield watch
    else:
        yield lines_on_stderr


def lines_on_stderr(progress: Progress) -> None:
    """One line per stage; counts and text would be noise in a log."""
    if progress.message:
        note(f"{progress.stage}: {progress.message}")


@contextmanager
def _bar() -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("quoting", total=None)

        def watch(progress: Progress) -> None:
            if progress.message:
                bar.console.print(
                    printable(f"{progress.stage}: {progress.message}"),
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )
            if progress.total:
                bar.update(task, description=progress.stage, completed=progress.done, total=progress.total)
            elif progress.stage != "text":
                bar.update(task, description=progress.stage)

        yield watch


def _color() -> bool | None:
    """None lets click decide by terminal; https://no-color.org turns it off."""
    return False if os.environ.get("NO_COLOR") else None
