"""Output files: asked about before money is spent, written whole or not at all."""

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from aitbc.cli.errors import CliError

RECEIPT_SUFFIX = ".receipt.json"
MAX_RECEIPT_BYTES = 64 * 1024 * 1024
"""A receipt carries its genesis document, which may have as much."""


def receipt_path(output: Path) -> Path:
    """Where the receipt of an output lies: `out.png.receipt.json`."""
    return output.with_name(output.name + RECEIPT_SUFFIX)


def require_writable(output: Path) -> None:
    """Refuse now what could not be written later: the output or the receipt beside it."""
    for path in (output, receipt_path(output)):
        _require_writable(path)


def _require_writable(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise CliError(f"there is no folder {folder}", f"make it first: mkdir -p {folder}", code="file_error")
    if path.is_dir():
        raise CliError(f"{path} is a folder", "give the name of a file with -o", code="file_error")
    if path.exists() and not path.is_file():
        raise CliError(
            f"{path} is a device or a pipe, which a file would replace",
            "give the name of a file with -o",
            code="file_error",
        )
    aside = _aside(path)
    try:
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        aside.unlink()
    except OSError as error:
        raise CliError(
            f"{path} cannot be written: {error.strerror}", "give another file with -o", code="file_error"
        ) from None


def _aside(path: Path) -> Path:
    """A new name next to the file, to write to before it takes the file's place."""
    target = path.resolve()
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")


def write_bytes(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace the file in one step; what is no file is left as it is. A link stays one, and its file is written."""
    if path.exists() and not path.is_file():
        raise CliError(f"{path} is no file", "give the name of a file with -o", code="file_error")
    aside = _aside(path)
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path.resolve())
    finally:
        with suppress(OSError):
            aside.unlink()


def write_private(path: Path, data: bytes) -> None:
    """A file that only its owner can read, whoever could read what it replaces."""
    write_bytes(path, data, mode=0o600)


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n")


def read_json(path: Path) -> Any:
    """The JSON in a file; one line says what is wrong with it."""
    if path.stat().st_size > MAX_RECEIPT_BYTES:
        raise CliError(
            f"{path} is larger than any receipt file", "give the .receipt.json file", code="bad_file"
        )
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise CliError(f"{path} is no JSON", "give the .receipt.json file", code="bad_file") from None
