"""Serve tiny-embed: vectors of texts from the pieces of their words, in numpy, the same bytes on every machine.

A token is a word, a number or a run of signs; its features are itself and its pieces of three and four bytes, each
hashed to a row of a learnt table. Everything up to the last division is integer arithmetic, and the last division
rounds as IEEE 754 says, so two honest providers never differ by a bit. tools/tiny_embed says how the table was made.
"""

import functools
import hashlib
import math
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from aitbc.ports import EngineError, EngineOutput, Estimate, ModelCard

MODEL = "tiny-embed"
WEIGHTS_FILE = pathlib.Path(__file__).parent / "weights" / "tiny_embed.npz"

DIMENSIONS = 128
MIN_DIMENSIONS = 16
MAX_INPUTS = 128
MAX_INPUT_BYTES = 2048
MAX_TOTAL_BYTES = 8192

# Bytes, not characters: what a letter is changes between releases of Unicode. Bounded, so that the cost of one is.
TOKEN = re.compile(rb"[a-z0-9\x80-\xff]{1,16}|[^\sa-z0-9\x80-\xff]{1,16}")
PIECES = (3, 4)
# A word that the training text never had counts fully; "the" counts a twentieth.
WEIGHT_ONE = 1024
# A token's pieces are averaged by this fixed point: 2^22 · 127 · 30 pieces · 8,192 tokens stay below 2^53.
FIXED_POINT = 4096
CACHED_TOKENS = 8192
INPUTS_PER_EVENT = 8

MEMORY_BYTES = 24 * 1024 * 1024
"""Table, cached tokens and a whole answer; measured 14 MiB."""

Sums = npt.NDArray[np.int64]


class EmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request after every check."""

    texts: list[str]
    dimensions: int


class TinyEmbed:
    """The engine: one model, loaded on `load` or on the first run."""

    name = MODEL

    def __init__(self, weights_file: pathlib.Path = WEIGHTS_FILE) -> None:
        self._weights_file = weights_file

    def models(self) -> list[ModelCard]:
        limits = {
            "dimensions": DIMENSIONS,
            "min_dimensions": MIN_DIMENSIONS,
            "max_inputs": MAX_INPUTS,
            "max_input_bytes": MAX_INPUT_BYTES,
            "max_total_bytes": MAX_TOTAL_BYTES,
        }
        digest = "sha256:" + hashlib.sha256(self._weights_file.read_bytes()).hexdigest()
        return [ModelCard(model=MODEL, kind="embedding", digest=digest, limits=limits)]

    def load(self, model: str) -> None:
        if model != MODEL:
            raise EngineError("bad_request", f"model must be {MODEL}, not {model!r}")
        assert self._table is not None

    def estimate(self, model: str, request: Mapping[str, Any]) -> Estimate:
        asked = check_request(model, request)
        tokens = sum([len(tokens_of(text)) for text in asked.texts])
        return Estimate(counts={"in": tokens, "inputs": len(asked.texts)}, memory_bytes=MEMORY_BYTES)

    def run(
        self,
        model: str,
        request: Mapping[str, Any],
        emit: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool],
    ) -> EngineOutput:
        asked = check_request(model, request)
        table, total = self._table, len(asked.texts)
        vectors: list[bytes] = []
        tokens = 0
        for text in asked.texts:
            if cancelled():
                raise EngineError("cancelled", f"cancelled after {len(vectors)} of {total} texts")
            found = tokens_of(text)
            tokens += len(found)
            vectors.append(unit_vector(table.sum_of(found)[: asked.dimensions]).tobytes())
            if len(vectors) % INPUTS_PER_EVENT == 0 or len(vectors) == total:
                emit({"progress": [len(vectors), total]})
        return EngineOutput(
            data=b"".join(vectors),
            media_type="application/octet-stream",
            counts={"in": tokens, "inputs": total},
            transcript=[hashlib.sha256(vector).digest() for vector in vectors],
            notes={},
        )

    @functools.cached_property
    def _table(self) -> "Table":
        try:
            with np.load(self._weights_file, allow_pickle=False) as arrays:
                return Table(arrays)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as problem:
            raise EngineError("failed", f"cannot read the weights of {MODEL}: {problem}") from problem


def check_request(model: str, request: Mapping[str, Any]) -> EmbedRequest:
    """Checked in this order: field names, model, kind, input, dimensions."""
    _require(
        set(request) <= {"kind", "model", "input", "dimensions"},
        "the fields are kind, model, input, dimensions",
    )
    _require(model == MODEL and request.get("model", MODEL) == MODEL, f"model must be {MODEL}")
    _require(request.get("kind", "embedding") == "embedding", "kind must be embedding")
    texts = request.get("input")
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_INPUTS:
        raise EngineError("bad_request", f"input must be a list of 1 to {MAX_INPUTS} texts")
    sizes = [_size(text) for text in texts]
    _require(min(sizes) >= 1 and max(sizes) <= MAX_INPUT_BYTES, f"a text has 1 to {MAX_INPUT_BYTES} bytes")
    _require(sum(sizes) <= MAX_TOTAL_BYTES, f"the texts have at most {MAX_TOTAL_BYTES} bytes together")
    dimensions = request.get("dimensions", DIMENSIONS)
    # A bool is an int to Python, but not to a receipt.
    is_allowed = type(dimensions) is int and MIN_DIMENSIONS <= dimensions <= DIMENSIONS
    _require(is_allowed, f"dimensions must be an integer from {MIN_DIMENSIONS} to {DIMENSIONS}")
    return EmbedRequest(texts=list(texts), dimensions=dimensions)


def _size(text: object) -> int:
    if not isinstance(text, str):
        raise EngineError("bad_request", "every input must be a text")
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise EngineError("bad_request", "a text must be valid Unicode, without lone surrogates") from None


def _require(holds: bool, allowed: str) -> None:
    if not holds:
        raise EngineError("bad_request", allowed)


def tokens_of(text: str) -> list[bytes]:
    """At least one: white space alone is a token of its own."""
    raw = text.encode().lower()
    return TOKEN.findall(raw) or [raw[:16]]


def features_of(token: bytes, rows: int) -> list[int]:
    """Rows of the table: of the token as a whole, and of its pieces, which know where it begins and ends."""
    framed = b"<" + token + b">"
    pieces = [framed, *[framed[at : at + size] for size in PIECES for at in range(len(framed) - size + 1)]]
    return [zlib.crc32(piece) % rows for piece in pieces]


def unit_vector(sums: Sums) -> npt.NDArray[np.float32]:
    """To length 1. Every number is below 2^53, and `fsum` rounds once: no order of adding is left to choose."""
    numbers = sums.astype(np.float64)
    length = math.sqrt(math.fsum((numbers * numbers).tolist()))
    if (
        length == 0
    ):  # nothing but rows that cancel out: any direction will do, as long as it is always the same
        numbers[0] = length = 1.0
    return (numbers / length).astype("<f4")


class Table:
    """The learnt rows, and how much a word of the training text counts: the rarer, the more."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.rows = arrays["rows"].astype(np.int64)
        words = bytes(arrays["words"]).split(b"\n")
        self.weights = dict(zip(words, arrays["weights"].tolist(), strict=True))
        if self.rows.shape[1:] != (DIMENSIONS,):
            raise ValueError(f"rows of shape {self.rows.shape}")
        self._vector = functools.lru_cache(maxsize=CACHED_TOKENS)(self._vector_of)

    def sum_of(self, tokens: Sequence[bytes]) -> Sums:
        sums: Sums = np.sum([self._vector(token) for token in tokens], axis=0, dtype=np.int64)
        return sums

    def _vector_of(self, token: bytes) -> Sums:
        features = features_of(token, len(self.rows))
        share = self.weights.get(token, WEIGHT_ONE) * FIXED_POINT // len(features)
        return np.asarray(self.rows[features].sum(axis=0) * share)
