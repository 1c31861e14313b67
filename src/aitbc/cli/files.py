"""Output files: asked about before money is spent, written whole or not at all."""

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from aitbc.cli.errors import CliError

MAX_RECEIPT_BYTES = 64 * 1024 * 1024
"""A receipt carries its genesis document, which may have as much."""


def receipt_path(output: Path) -> Path:
    """Where the receipt of an output lies: `out.png.receipt.json`."""
    return output.with_name(output.name + ".receipt.json")


def require_writable(output: Path) -> None:
    """Refuse now what could not be written later."""
    folder = output.parent
    if not folder.is_dir():
        raise CliError(f"there is no folder {folder}", f"make it first: mkdir -p {folder}", code="file_error")
    if output.is_dir():
        raise CliError(f"{output} is a folder", "give the name of a file with -o", code="file_error")
    if not os.access(folder, os.W_OK):
        raise CliError(f"{folder} cannot be written to", "give another folder with -o", code="file_error")


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file in one step."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()


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
