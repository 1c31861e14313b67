"""Following a story token by token: honest ones fit, a rounding turns one token, other work turns many."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aitbc.adapters.engines import tiny_lm
from aitbc.adapters.engines.reference import BUILT_IN, replay_reference
from aitbc.adapters.engines.tiny_lm import WEIGHTS_FILE, TinyLm
from aitbc.core.jobs.audits import REPLAYED, replay_ppm
from aitbc.ports import Replay

Json = dict[str, Any]
STORY: Json = {
    "kind": "chat",
    "model": "tiny-lm",
    "prompt": "One day a dog",
    "max_tokens": 48,
    "temperature_milli": 800,
    "top_k": 40,
    "seed": 5,
}


def told(engine: TinyLm, request: Json) -> bytes:
    return engine.run("tiny-lm", request, lambda _event: None, lambda: False).data


def replayed(request: Json, data: bytes) -> Replay:
    return TinyLm().replay("tiny-lm", request, data)


def score(request: Json, data: bytes) -> int:
    replay = replayed(request, data)
    return replay_ppm(tokens=replay.tokens, differing=replay.differing)


@pytest.mark.parametrize("change", [{}, {"prompt": "One day "}, {"temperature_milli": 0}, {"max_tokens": 1}])
def test_honest_stories_fit_to_the_last_token(change: Json) -> None:
    for seed in range(6):
        request = {**STORY, **change, "seed": seed}
        assert replayed(request, told(TinyLm(), request)).differing == 0


def test_a_story_that_ends_by_itself_fits() -> None:
    request = {**STORY, "max_tokens": 256}
    stories = [({**request, "seed": seed}, told(TinyLm(), {**request, "seed": seed})) for seed in range(3)]
    assert [replayed(asked, data).differing for asked, data in stories] == [0] * 3


def test_one_turned_token_is_one_whatever_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the whole rest of the text is another, and nobody is convicted for it."""
    honest, choose, turns = told(TinyLm(), STORY), tiny_lm.choose_token, iter(range(10**6))

    def turned(logits: Any, **how: Any) -> int:
        if next(turns) == 5:
            logits[choose(logits, **how)] = -np.inf
        return choose(logits, **how)

    with monkeypatch.context() as patch:
        patch.setattr(tiny_lm, "choose_token", turned)
        other = told(TinyLm(), STORY)
    assert other[40:] != honest[40:]
    assert replayed(STORY, other).differing == 1
    assert 0 < score(STORY, other) <= REPLAYED.hard_ppm


def coarse(folder: Path, levels: int) -> TinyLm:
    with np.load(WEIGHTS_FILE, allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    for name, array in parts.items():
        if array.dtype.kind == "f" and array.ndim > 1:
            step = np.abs(array).max() / (levels // 2)
            parts[name] = (np.round(array / step) * step).astype(array.dtype)
    np.savez(folder / "coarse.npz", **parts)
    return TinyLm(folder / "coarse.npz")


@pytest.mark.parametrize("levels", [16, 64, 256])
def test_coarser_weights_turn_many(tmp_path: Path, levels: int) -> None:
    request = {**STORY, "max_tokens": 96}
    engine = coarse(tmp_path, levels)
    scores = [score({**request, "seed": seed}, told(engine, {**request, "seed": seed})) for seed in range(4)]
    assert min(scores) > REPLAYED.hard_ppm, scores


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 100, "Ωmega ☃".encode(), b"\xff\xfe", b" " * 300],
    ids=["nothing", "garbage", "signs", "no text", "spaces"],
)
def test_what_is_no_story_differs_in_nearly_all(data: bytes) -> None:
    assert score(STORY, data) > 500_000


def test_another_seed_a_shorter_and_a_longer_text_are_found() -> None:
    honest = told(TinyLm(), STORY)
    assert score({**STORY, "seed": 6}, honest) > REPLAYED.hard_ppm
    assert score(STORY, honest[: len(honest) // 2]) > REPLAYED.hard_ppm
    assert score(STORY, honest + b" and so on and on and on") > REPLAYED.hard_ppm


def test_a_reference_replays_where_its_engine_can() -> None:
    replay = asyncio.run(replay_reference(BUILT_IN["tiny-lm"], STORY, told(TinyLm(), STORY)))
    assert replay is not None and (replay.tokens, replay.differing) == (48, 0)
    asked = {"kind": "embedding", "model": "tiny-embed", "input": ["a"]}
    assert asyncio.run(replay_reference(BUILT_IN["tiny-embed"], asked, b"")) is None
