"""A model's files: where they are, what they hash to, and that none of them can run code."""

import hashlib
from pathlib import Path

from aitbc.adapters.engines.settings import LocalModel
from aitbc.ports import EngineError

WANTED = ("*.json", "*.txt", "*.safetensors", "*.model")
"""What is fetched from a hub: settings, vocabularies, weights."""
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".h5", ".msgpack")
MAX_FILES = 1_000
CHUNK_BYTES = 8 * 1024 * 1024


def folder_of(setting: LocalModel) -> Path:
    """The folder that the settings name, or the files of a model of the Hugging Face hub, fetched once."""
    folder = Path(setting.source).expanduser()
    if folder.is_dir():
        return folder
    if setting.source.startswith((".", "/", "~")) or setting.source.count("/") != 1:
        raise EngineError("failed", f"{setting.source} is neither a folder nor a hub id such as owner/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise missing("diffusers") from None
    try:
        return Path(
            snapshot_download(setting.source, revision=setting.revision or None, allow_patterns=list(WANTED))
        )
    except Exception as error:  # many kinds: no network, no such model, not allowed
        raise EngineError(
            "failed", f"cannot fetch {setting.source}: {type(error).__name__}: {error}"[:300]
        ) from None


def digest_of(folder: Path) -> str:
    """`sha256:<hex>` of the list of files with their hashes, so that settings count as well as weights.

    Refuses a folder without safetensors: a pickle runs whatever its author wanted. One beside them is never read.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in PICKLES)
    files = [path for path in files if any(path.match(pattern) for pattern in WANTED)]
    if len(files) > MAX_FILES:
        raise EngineError("failed", f"{folder} has {len(files)} files; a model has at most {MAX_FILES}")
    if not any(path.suffix == ".safetensors" for path in files):
        raise EngineError("failed", f"{folder} has no weights as safetensors; other forms are not loaded")
    listed = hashlib.sha256()
    for path in files:
        listed.update(f"{_hash_of(path)}  {path.relative_to(folder).as_posix()}\n".encode())
    return f"sha256:{listed.hexdigest()}"


def missing(extra: str) -> EngineError:
    return EngineError("failed", f"the extra {extra!r} is not installed: pip install 'aitbc[{extra}]'")


def _hash_of(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            found.update(data)
    return found.hexdigest()
