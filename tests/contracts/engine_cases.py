"""The engines that the contract is held against, each with a request that is quickly done and a long one."""

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager as Context
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from aitbc.adapters.engines.openai_http import OpenAiHttp
from aitbc.adapters.engines.sentence_vectors import SentenceVectors
from aitbc.adapters.engines.settings import EngineSettings, LocalModel, RemoteModel, RemoteServer
from aitbc.adapters.engines.stable_diffusion import StableDiffusion
from aitbc.adapters.engines.tiny_diffusion import TinyDiffusion
from aitbc.adapters.engines.tiny_embed import TinyEmbed
from aitbc.adapters.engines.tiny_lm import TinyLm
from aitbc.core.crypto.hashing import hash_text
from aitbc.ports import Engine
from support.openai_server import openai_server
from support.small_models import save_sentence_encoder, save_stable_diffusion


@contextmanager
def remote_writer() -> Iterator[Engine]:
    with openai_server() as server:
        remote = RemoteModel(
            model="llama-3.1-8b-instruct", upstream="writer", digest=hash_text(b"weights"), together=4
        )
        yield OpenAiHttp(EngineSettings(openai_http=[RemoteServer(url=server.url, models=[remote])]))


@contextmanager
def remote_vectors() -> Iterator[Engine]:
    with openai_server() as server:
        remote = RemoteModel(
            model="all-minilm-l6-v2", upstream="vectors", digest=hash_text(b"weights"), api="embeddings"
        )
        yield OpenAiHttp(EngineSettings(openai_http=[RemoteServer(url=server.url, models=[remote])]))


@cache
def folder_of(save: Callable[[Path], None]) -> str:
    """Made once for all tests of this process."""
    folder = Path(tempfile.mkdtemp(prefix="aitbc-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    save(folder)
    return str(folder / "model")


def local(model: str, save: Callable[[Path], None]) -> list[LocalModel]:
    return [LocalModel(model=model, source=folder_of(save), device="cpu", together=4)]


class Case(NamedTuple):
    """One engine under the contract."""

    name: str
    model: str
    made: Callable[[], Context[Engine]]
    quick: dict[str, Any]
    """Fields of a client's request."""
    long: dict[str, Any]
    """Asks `cancelled` at least `questions` times."""
    questions: int = 4
    extra: str = ""
    """The library that it needs; its tests are skipped without."""
    tolerance: float = 0.0
    """How far, in steps of 255, a picture made beside others may be from the same made alone; 0: not at all."""


CASES = [
    Case(
        name="tiny-lm",
        model="tiny-lm",
        made=lambda: nullcontext(TinyLm()),
        quick={"prompt": "Once upon", "max_tokens": 12},
        long={"prompt": "Once upon", "max_tokens": 256, "temperature_milli": 0},
    ),
    Case(
        name="tiny-diffusion",
        model="tiny-diffusion",
        made=lambda: nullcontext(TinyDiffusion()),
        quick={"prompt": "a red circle", "steps": 4},
        long={"prompt": "a red circle", "steps": 50, "width": 512, "height": 512},
    ),
    Case(
        name="tiny-embed",
        model="tiny-embed",
        made=lambda: nullcontext(TinyEmbed()),
        quick={"input": ["a fox", "a boat on the river"]},
        long={"input": ["a word"] * 128},
    ),
    Case(
        name="openai_http",
        model="llama-3.1-8b-instruct",
        made=remote_writer,
        quick={"prompt": "a tale", "max_tokens": 12},
        long={"prompt": "drip a tale", "max_tokens": 60},
    ),
    Case(
        name="openai_http (embeddings)",
        model="all-minilm-l6-v2",
        made=remote_vectors,
        quick={"input": ["a fox", "a boat on the river"]},
        long={"input": ["a word"] * 64},
        questions=1,
    ),
    Case(
        name="diffusers",
        model="sd-1.5",
        made=lambda: nullcontext(
            StableDiffusion(EngineSettings(diffusers=local("sd-1.5", save_stable_diffusion)))
        ),
        quick={"prompt": "a red circle", "width": 256, "height": 256, "steps": 5},
        long={"prompt": "a red circle", "width": 256, "height": 320, "steps": 8},
        extra="diffusers",
        tolerance=1.0,
    ),
    Case(
        name="sentence-transformers",
        model="all-minilm-l6-v2",
        made=lambda: nullcontext(
            SentenceVectors(
                EngineSettings(sentence_transformers=local("all-minilm-l6-v2", save_sentence_encoder))
            )
        ),
        quick={"input": ["a fox", "a boat on the river"]},
        long={"input": ["a fox " * (at % 9 + 1) for at in range(128)]},
        extra="sentence_transformers",
    ),
]
