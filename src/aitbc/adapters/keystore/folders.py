"""Folders for secrets."""

from pathlib import Path


def private_folder(folder: Path) -> None:
    """Make the folder, and those above it that are missing, for their owner only; `parents=True` would open those."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
