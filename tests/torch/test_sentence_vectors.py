"""The sentence-transformers engine on a small random encoder: order, length, cuts, and what neighbours change."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs the extra sentence-transformers: make test-torch")

from aitbc.adapters.engines.sentence_vectors import SentenceVectors
from aitbc.adapters.engines.settings import EngineSettings, LocalModel
from aitbc.ports import EngineError, EngineOutput
from support.small_models import save_sentence_encoder

MODEL = "all-minilm-l6-v2"


def engine_of(folder: Path) -> SentenceVectors:
    setting = LocalModel(model=MODEL, source=str(folder), device="cpu")
    return SentenceVectors(EngineSettings(sentence_transformers=[setting]))


@pytest.fixture(scope="module")
def engine(small_sentence_encoder: Path) -> SentenceVectors:
    return engine_of(small_sentence_encoder)


def run(engine: SentenceVectors, *texts: str) -> EngineOutput:
    request = {"kind": "embedding", "model": MODEL, "input": list(texts), "dimensions": 384}
    return engine.run(MODEL, request, lambda _event: None, lambda: False)


def vectors(output: EngineOutput) -> Any:
    return np.frombuffer(output.data, "<f4").reshape(-1, 384)


def test_vectors_have_length_one_and_come_in_the_order_of_the_texts(engine: SentenceVectors) -> None:
    texts = ["a fox on a boat", "fox", "a boat on the river once upon a time"]
    together = vectors(run(engine, *texts))
    assert np.linalg.norm(together, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    for at, text in enumerate(texts):
        assert together[at] @ vectors(run(engine, text))[0] > 0.9999


def test_tokens_are_counted_as_the_model_reads_them(engine: SentenceVectors) -> None:
    assert run(engine, "a fox", "river").counts == {"in": 2 + 2 + 1 + 2, "inputs": 2}


def test_a_long_text_is_cut_and_says_so(engine: SentenceVectors) -> None:
    output = run(engine, "fox " * 200)
    assert output.counts["in"] == 64 and output.notes["input"] == "1 texts were cut after 64 tokens"


def test_a_model_with_other_vectors_is_not_taken_for_this_one(tmp_path: Path) -> None:
    save_sentence_encoder(tmp_path, width=64)
    with pytest.raises(EngineError, match="vectors of 64 numbers"):
        engine_of(tmp_path / "model").load(MODEL)
