"""What cheats deliver with the real tiny engines, compared with the work done again: each is found every time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aitbc.adapters.engines.tiny_diffusion import TinyDiffusion
from aitbc.adapters.engines.tiny_lm import WEIGHTS_FILE, TinyLm
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.crypto.merkle import list_root
from aitbc.core.jobs.audits import EXACT, Delivered, Step, Verdict, next_step, score_ppm
from aitbc.ports import EngineOutput

STORY = {
    "kind": "chat",
    "model": "tiny-lm",
    "prompt": "One day a dog",
    "max_tokens": 24,
    "temperature_milli": 800,
    "top_k": 40,
    "seed": 5,
}
PICTURE = {
    "kind": "image",
    "model": "tiny-diffusion",
    "prompt": "a red circle",
    "steps": 8,
    "width": 64,
    "height": 64,
    "guidance_milli": 3_000,
    "seed": 5,
}

Json = dict[str, Any]


def run(engine: Any, request: Json) -> EngineOutput:
    output: EngineOutput = engine.run(request["model"], request, lambda _event: None, lambda: False)
    return output


def delivered(kind: str, output: EngineOutput) -> Delivered:
    return Delivered(
        kind=kind,
        data=output.data,
        output_hash=hash_text(output.data),
        transcript_root="sha256:" + list_root(output.transcript).hex(),
        counts=output.counts,
    )


@pytest.fixture(scope="module")
def story() -> EngineOutput:
    return run(TinyLm(), STORY)


@pytest.fixture(scope="module")
def picture() -> EngineOutput:
    return run(TinyDiffusion(), PICTURE)


def coarse(folder: Path, levels: int) -> TinyLm:
    """The same model with its weights rounded to so many levels."""
    with np.load(WEIGHTS_FILE, allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    for name, array in parts.items():
        if array.dtype.kind == "f" and array.ndim > 1:
            step = np.abs(array).max() / (levels // 2)
            parts[name] = (np.round(array / step) * step).astype(array.dtype)
    np.savez(folder / "coarse.npz", **parts)
    return TinyLm(folder / "coarse.npz")


def convicted(kind: str, claimed: EngineOutput, again: EngineOutput) -> bool:
    """One auditor says no, two more say the same."""
    scores: list[int] = []
    while next_step(scores, EXACT)[0] != Step.DONE:
        scores.append(score_ppm(delivered(kind, claimed), delivered(kind, again), exact=True))
    return next_step(scores, EXACT)[1] == Verdict.FALSE


def test_honest_work_is_the_same_on_every_run(story: EngineOutput, picture: EngineOutput) -> None:
    assert not convicted("chat", run(TinyLm(), STORY), story)
    assert not convicted("image", run(TinyDiffusion(), PICTURE), picture)


CHEATS: dict[str, Callable[[EngineOutput], EngineOutput]] = {
    "another request's answer": lambda _: run(TinyLm(), {**STORY, "seed": 6}),
    "another prompt's answer": lambda _: run(TinyLm(), {**STORY, "prompt": "One day a cat"}),
    "another sampler": lambda _: run(TinyLm(), {**STORY, "top_k": 1}),
    "fewer tokens": lambda _: run(TinyLm(), {**STORY, "max_tokens": 12}),
    "claimed extra tokens": lambda honest: msgspec.structs.replace(
        honest, counts={**honest.counts, "out": honest.counts["out"] + 1}, transcript=honest.transcript[:-1]
    ),
    "garbage of the right length": lambda honest: msgspec.structs.replace(
        honest, data=b"x" * len(honest.data), transcript=[bytes(32)] * len(honest.transcript)
    ),
    "a prefix from the model, the rest made up": lambda honest: msgspec.structs.replace(
        honest,
        data=honest.data[: len(honest.data) // 2] + b"z" * (len(honest.data) - len(honest.data) // 2),
    ),
}


@pytest.mark.parametrize("name", CHEATS)
def test_stories_that_were_not_told_as_asked_are_found(name: str, story: EngineOutput) -> None:
    assert convicted("chat", CHEATS[name](story), story)


@pytest.mark.parametrize("levels", [16, 256])
def test_coarser_weights_are_found(tmp_path: Path, story: EngineOutput, levels: int) -> None:
    """Four bits in one story; eight bits tell nearly the same, so a few stories are pooled."""
    engine, honest = coarse(tmp_path, levels), TinyLm()
    requests = [{**STORY, "seed": seed} for seed in range(1 if levels == 16 else 12)]
    assert any(convicted("chat", run(engine, request), run(honest, request)) for request in requests)


@pytest.mark.parametrize(
    "change", [{"steps": 7}, {"seed": 6}, {"guidance_milli": 1_000}, {"prompt": "a blue square"}], ids=str
)
def test_pictures_that_were_not_drawn_as_asked_are_found(change: Json, picture: EngineOutput) -> None:
    cheat = run(TinyDiffusion(), {**PICTURE, **change})
    claimed = msgspec.structs.replace(cheat, counts=picture.counts)
    assert convicted("image", claimed, picture)


def test_the_right_picture_by_a_shortcut_is_found_by_its_steps(picture: EngineOutput) -> None:
    """An old result sold again without its steps: the picture is right, the transcript is not."""
    assert convicted("image", msgspec.structs.replace(picture, transcript=picture.transcript[-1:]), picture)
