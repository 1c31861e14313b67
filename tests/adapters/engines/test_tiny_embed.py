"""tiny-embed: what it says about texts, and that it says it in the same bytes everywhere."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aitbc.adapters.engines.tiny_embed import (
    DIMENSIONS,
    MODEL,
    WEIGHTS_FILE,
    TinyEmbed,
    features_of,
    tokens_of,
    unit_vector,
)
from aitbc.core.jobs.requests import normalise_request
from aitbc.core.jobs.units import EmbeddingProfile, profile_of
from aitbc.ports import EngineError, EngineOutput

ENGINE = TinyEmbed()


def run(*texts: str, **fields: Any) -> EngineOutput:
    request = {"kind": "embedding", "model": MODEL, "input": list(texts), **fields}
    return ENGINE.run(MODEL, request, lambda _: None, lambda: False)


def vectors(*texts: str, dimensions: int = DIMENSIONS) -> Any:
    return np.frombuffer(run(*texts, dimensions=dimensions).data, "<f4").reshape(len(texts), dimensions)


@pytest.mark.parametrize(
    ("word", "nearer", "farther"),
    [
        ("fox", "dog", "soup"),
        ("circle", "disc", "fox"),
        ("soup", "bread", "boat"),
        ("crimson", "red", "queen"),
        ("a small red circle", "the tiny crimson disc on white", "a huge blue star on white"),
    ],
)
def test_what_stands_together_in_the_texts_is_near(word: str, nearer: str, farther: str) -> None:
    asked, near, far = vectors(word, nearer, farther)
    assert asked @ near > asked @ far + 0.2


def test_a_misspelt_word_is_near_the_word_and_unknown_words_are_far_from_each_other() -> None:
    right, wrong, other, more = vectors("lighthouse", "ligthhouse", "xylophon", "quartz")
    assert right @ wrong > 0.3
    assert abs(other @ more) < 0.3


def test_a_story_is_nearest_to_a_story_with_the_same_plot() -> None:
    """Three tales of a goat and three of a ship, no two alike; each finds the other tales of its kind first."""
    texts = [
        "Pip the goat and Tom built a tree house with planks and rope. The wind broke it.",
        "The tree house was better than before. Greta brought the planks, the goat the rope.",
        "Nora and the duck worked all day on the tree house until the wind came.",
        "Milo ate the buttered toast for the feast and at last told the truth: it was me.",
        "Who had eaten the soup for the feast? Rufus said nothing, then he told the truth.",
        "Her stomach hurt. At last Zoe told Milo the truth about the bread for the feast.",
    ]
    near = vectors(*texts)
    likeness = near @ near.T - 2 * np.eye(6)
    assert [int(at) // 3 for at in likeness.argmax(axis=1)] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("dimensions", [16, 64, 128])
def test_fewer_dimensions_are_the_beginning_made_to_length_one(dimensions: int) -> None:
    short, whole = vectors("a fox", dimensions=dimensions)[0], vectors("a fox")[0]
    assert np.linalg.norm(short) == pytest.approx(1, abs=1e-6)
    assert short @ whole[:dimensions] == pytest.approx(np.linalg.norm(whole[:dimensions]), abs=1e-6)


def test_each_text_has_its_own_vector_whatever_stands_beside_it() -> None:
    alone, output = run("a fox"), run("a boat", "a fox", "a boat")
    parts = [output.data[at : at + 4 * DIMENSIONS] for at in range(0, len(output.data), 4 * DIMENSIONS)]
    assert parts[1] == alone.data and parts[0] == parts[2] != parts[1]
    assert output.transcript == [hashlib.sha256(part).digest() for part in parts]
    assert output.counts == {"in": 6, "inputs": 3}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A fox!", [b"a", b"fox", b"!"]),
        ("  ", [b"  "]),
        ("x" * 20, [b"x" * 16, b"x" * 4]),
        ("Ärger 42", ["Ärger".encode().lower(), b"42"]),
        ("...\n", [b"..."]),
    ],
)
def test_tokens(text: str, tokens: list[bytes]) -> None:
    assert tokens_of(text) == tokens


def test_a_token_knows_where_it_begins_and_ends() -> None:
    assert len(features_of(b"fox", 8192)) == 1 + 3 + 2
    assert features_of(b"fox", 8192)[1] != features_of(b"ox", 8192)[1]
    assert len(features_of(b"a", 8192)) == 2


def test_numbers_that_cancel_out_still_make_a_direction() -> None:
    assert unit_vector(np.zeros(16, np.int64)).tolist() == [1.0, *[0.0] * 15]


def test_the_vectors_are_pinned() -> None:
    """Integers to the last step: these bytes are the same everywhere, or receipts cannot be compared."""
    output = run("Once upon a time", "a red circle on blue", "Ωmega 7", " ", dimensions=32)
    assert hashlib.sha256(WEIGHTS_FILE.read_bytes()).hexdigest().startswith("d1d44f3fabfe4efb")
    assert (
        hashlib.sha256(output.data).hexdigest()
        == "00f015c2fb4d767c074d2a68c0f30cac95ece9764e9993bd33360b71936c55be"
    )


@pytest.mark.parametrize("core", ["Prescott", "Haswell"])
def test_another_blas_makes_the_same_bytes(core: str) -> None:
    code = (
        "from aitbc.adapters.engines.tiny_embed import *; import hashlib;"
        "request = {'input': ['Once upon a time', 'x' * 2048]};"
        "print(hashlib.sha256(TinyEmbed().run(MODEL, request, print, lambda: False).data).hexdigest())"
    )
    environment = {**os.environ, "OPENBLAS_CORETYPE": core}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == hashlib.sha256(run("Once upon a time", "x" * 2048).data).hexdigest()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": []}, "1 to 128 texts"),
        ({"input": "fox"}, "1 to 128 texts"),
        ({"input": ["x"] * 129}, "1 to 128 texts"),
        ({"input": [""]}, "1 to 2048 bytes"),
        ({"input": ["x" * 2049]}, "1 to 2048 bytes"),
        ({"input": ["x" * 2048] * 5}, "8192 bytes together"),
        ({"input": [7]}, "must be a text"),
        ({"input": ["\ud800"]}, "surrogates"),
        ({"input": ["x"], "dimensions": True}, "16 to 128"),
        ({"input": ["x"], "dimensions": 8}, "16 to 128"),
        ({"input": ["x"], "seed": 1}, "the fields are"),
        ({"input": ["x"], "kind": "chat"}, "kind must be"),
        ({"input": ["x"], "model": "other"}, "model must be"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineError, match=words) as error:
        ENGINE.run(MODEL, fields, lambda _: None, lambda: False)
    assert error.value.reason == "bad_request"


def test_broken_weights_are_said(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(b"nothing")
    with pytest.raises(EngineError, match="cannot read the weights") as error:
        TinyEmbed(tmp_path / "weights.npz").load(MODEL)
    assert error.value.reason == "failed"


def test_what_a_hub_lets_through_the_engine_takes() -> None:
    profile = profile_of(MODEL)
    assert isinstance(profile, EmbeddingProfile)
    limits = {name: getattr(profile, name) for name in ENGINE.models()[0].limits}
    assert ENGINE.models()[0].limits == limits
    largest = normalise_request(profile, {"input": ["x" * 2048] * 4}, nonce="0" * 32)
    assert run(*largest["input"]).counts["inputs"] == 4
