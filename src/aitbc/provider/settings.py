"""`provider.toml`: what `aitbc provider init` proposes and `aitbc provider start` begins from. Options win over it."""

import os
from pathlib import Path
from typing import Annotated

import msgspec

from aitbc.provider.hours import hours_of

SETTINGS_FILE = "provider.toml"
ENGINES_FILE = "engines.toml"
MAX_BYTES = 64 * 1024
MEGABYTE = 1024 * 1024

Megabytes = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    device: str = "cpu"
    price_per_kilounit: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)] | None = None
    slots: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    models: list[str] = []
    engines: list[str] = []
    payout: str = ""
    region: Annotated[str, msgspec.Meta(max_length=128)] = ""
    policies: Annotated[list[Annotated[str, msgspec.Meta(max_length=128)]], msgspec.Meta(max_length=16)] = []
    vram_mb: Megabytes = 0
    engine_memory_mb: Megabytes = 0
    """The most that the engine may hold; 0: as long as the machine has some left."""
    engine_vram_mb: Megabytes = 0
    """The most that it may hold of a card; 0: all."""
    hours: str = ""
    keep_warm_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0


def read_settings(folder: Path) -> ProviderSettings:
    """Defaults without a file. Raises ValueError that names what is wrong."""
    file = folder / SETTINGS_FILE
    if not file.exists():
        return ProviderSettings()
    raw = file.read_bytes()
    if len(raw) > MAX_BYTES:
        raise ValueError(f"{file} has {len(raw)} bytes; at most {MAX_BYTES}")
    try:
        settings = msgspec.toml.decode(raw, type=ProviderSettings)
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None
    hours_of(settings.hours)
    return settings


def write_settings(folder: Path, settings: ProviderSettings) -> Path:
    """By hand, because a person reads and changes it: one line a setting, empty ones left out."""
    lines = ["# written by aitbc provider init; options of aitbc provider start win over it"]
    for name, value in msgspec.to_builtins(settings).items():
        if value not in (None, "", [], 0):
            lines.append(f"{name} = {msgspec.json.encode(value).decode()}")
    file = folder / SETTINGS_FILE
    fresh = file.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n")
    os.replace(fresh, file)
    return file


def engines_file_of(folder: Path, named: Path | None) -> Path | None:
    """The file that is named, else the one of this folder, else none."""
    own = folder / ENGINES_FILE
    return named or (own if own.exists() else None)
