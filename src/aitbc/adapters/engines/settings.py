"""What engines are told that need telling: one TOML file, named by AITBC_ENGINES_FILE. docs/howto/engines.md"""

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from aitbc.ports import EngineError

ENGINES_FILE = "AITBC_ENGINES_FILE"
MAX_FILE_BYTES = 256 * 1024
"""Sixty-four models with their digests are 20 KiB."""

Digest = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Together = Annotated[int, msgspec.Meta(ge=1, le=64)]


class _Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class RemoteModel(_Settings, frozen=True):
    """A model of a server that speaks OpenAI's protocol."""

    model: str
    """The network's name of it; there is a profile for it."""
    upstream: str
    """The server's name of it."""
    digest: Digest
    """Of the weights; nobody can ask a server for them, so who runs it says."""
    api: Literal["chat", "completions", "embeddings"] = "chat"
    together: Together = 8
    """Requests that the server takes at once; what it has slots for."""
    logprobs: bool = False
    """Ask for one entry a token and count those; otherwise what the server says, within what the text can hold."""
    top_k: bool = True
    """Send `top_k`; OpenAI's own servers refuse it."""


class RemoteServer(_Settings, frozen=True):
    """Where it is, and how long it may take."""

    url: str
    """Up to and including `/v1`."""
    models: Annotated[list[RemoteModel], msgspec.Meta(min_length=1, max_length=64)]
    api_key_env: str = ""
    """Name of the environment variable that holds the key."""
    api_key_file: str = ""
    """A file that nobody but its owner may read."""
    connect_s: Seconds = 5
    first_byte_s: Seconds = 120
    """A long prompt on a busy server."""
    pause_s: Seconds = 30
    """Between two pieces of an answer."""
    tries: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    """Before the first byte of an answer; never after."""


class LocalModel(_Settings, frozen=True):
    """A model that is loaded into the engine child."""

    model: str
    """The network's name of it; there is a profile for it."""
    source: str
    """A folder, or the id of a model on the Hugging Face hub."""
    revision: str = ""
    """Of a hub id: a commit, so that it is the same tomorrow."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    together: Together = 8


class EngineSettings(_Settings, frozen=True):
    openai_http: list[RemoteServer] = []
    diffusers: list[LocalModel] = []
    sentence_transformers: list[LocalModel] = []


def read_settings() -> EngineSettings:
    """Empty without a file. Raises EngineError that says what is wrong with it."""
    named = os.environ.get(ENGINES_FILE, "")
    if not named:
        return EngineSettings()
    try:
        raw = Path(named).read_bytes()
        if len(raw) > MAX_FILE_BYTES:
            raise EngineError("failed", f"{named} has {len(raw)} bytes; at most {MAX_FILE_BYTES}")
        return msgspec.toml.decode(raw, type=EngineSettings)
    except OSError as error:
        raise EngineError("failed", f"cannot read {named}: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise EngineError("failed", f"{named}: {error}") from None


def secret_of(server: RemoteServer) -> str:
    """The key, from where the settings say; empty when they name none. It is never part of a message."""
    if server.api_key_env:
        key = os.environ.get(server.api_key_env, "")
        if not key:
            raise EngineError("failed", f"the environment has no {server.api_key_env}")
        return key.strip()
    if not server.api_key_file:
        return ""
    path = Path(server.api_key_file).expanduser()
    try:
        if path.stat().st_mode & 0o077:
            raise EngineError("failed", f"others can read {path}; chmod 600 it")
        return path.read_text().strip()
    except OSError as error:
        raise EngineError("failed", f"cannot read {path}: {error.strerror}") from None
