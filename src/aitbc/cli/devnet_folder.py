"""The folder of a devnet: made or recognised by its marker, held by one devnet at a time, emptied of what is ours.

A devnet writes to no folder that has anything else in it, and `--reset` removes nothing that a devnet did not make.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

from aitbc.adapters.keystore.folders import private_folder
from aitbc.cli.errors import CliError

MARKER = "devnet.json"
"""Says that the folder is a devnet's; locked as long as that devnet or one of its programs runs."""
_MARK = json.dumps({"devnet": 1, "made_by": "aitbc devnet"}) + "\n"

PROGRAM_FOLDERS = ("hub", "provider", "logs")
OUR_FILES = ("genesis.json", "faucet.key")
_PROGRAM_LOCKS = ("hub/hub.lock", "provider/provider.lock")
"""Held by programs that were started by hand on one of our folders; nodes have theirs too."""


_NODE = re.compile(r"node-[1-9][0-9]?")


def node_name(i: int) -> str:
    """Of a node's folder, its log and its process; the first is the only one of most devnets."""
    return f"node-{i}" if i else "node"


@contextlib.contextmanager
def devnet_folder(data: Path | None, *, nodes: int = 1, reset: bool) -> Iterator[Path]:
    """The folder for everything that is written; a temporary one goes with the devnet."""
    if data is None:
        with tempfile.TemporaryDirectory(prefix="aitbc-devnet-") as folder:
            _make_folders(Path(folder), nodes)
            yield Path(folder)
        return
    _require_ours_or_empty(data)
    private_folder(data)
    with _marker(data):
        if reset:
            _empty(data)
        _make_folders(data, nodes)
        yield data


def _make_folders(folder: Path, nodes: int) -> None:
    for name in (*PROGRAM_FOLDERS, *map(node_name, range(nodes))):
        (folder / name).mkdir(mode=0o700, exist_ok=True)


def _require_ours_or_empty(data: Path) -> None:
    foreign = data.exists() and (
        (data / MARKER).is_symlink() or any(path.name != MARKER for path in data.iterdir())
    )
    if foreign and not _is_ours(data):
        raise CliError(
            f"{data} is not empty and holds no devnet (no {MARKER} of ours in it); it was left as it is",
            "choose an empty folder or one of an earlier devnet",
            code="not_a_devnet",
        )


def _is_ours(data: Path) -> bool:
    """Only the marker's very text counts: others may have a file of the same name."""
    marker = data / MARKER
    return marker.is_file() and not marker.is_symlink() and marker.read_bytes() == _MARK.encode()


@contextlib.contextmanager
def _marker(data: Path) -> Iterator[None]:
    """Hold the folder. The lock is inherited by the programs, so it lasts until the last of them is gone."""
    descriptor = os.open(data / MARKER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        _lock(file, data)
        if file.read() not in ("", _MARK):
            raise CliError(
                f"{data / MARKER} is not a devnet's; it was left as it is",
                "choose an empty folder or one of an earlier devnet",
                code="not_a_devnet",
            )
        file.seek(0)
        file.write(_MARK)
        file.flush()
        yield


def _lock(file: IO[str], data: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CliError(
            f"a program is still running in {data}; nothing was changed",
            "stop it with Ctrl-C where it runs, or choose another folder",
            code="folder_in_use",
        ) from None


def _empty(data: Path) -> None:
    """Remove what devnets make, once no program works on it; name what was left."""
    nodes = ["node", *sorted(path.name for path in data.glob("node-*") if _NODE.fullmatch(path.name))]
    with contextlib.ExitStack() as held:
        for name in (*(f"{node}/node.lock" for node in nodes), *_PROGRAM_LOCKS):
            if (data / name).is_file():
                _lock(held.enter_context((data / name).open("r+")), data)
        for name in (*nodes, *PROGRAM_FOLDERS, *OUR_FILES):
            _remove(data / name)
    foreign = sorted(path.name for path in data.iterdir() if path.name != MARKER)
    if foreign:
        names = ", ".join(foreign[:5]) + (" …" if len(foreign) > 5 else "")
        click.echo(f"left in {data}, because no devnet made it: {names}", err=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
