"""What cheats deliver with the real tiny engines, compared with the work done again: each is found every time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aitbc.adapters.engines.tiny_diffusion import TinyDiffusion
from aitbc.adapters.engines.tiny_embed import TinyEmbed
from aitbc.adapters.engines.tiny_lm import WEIGHTS_FILE, TinyLm
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.crypto.merkle import list_root
from aitbc.core.jobs.audits import (
    EXACT,
    Delivered,
    Exposure,
    Step,
    Verdict,
    audit_rate_ppm,
    is_drawn,
    next_step,
    score_ppm,
    thresholds_of,
)
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
TEXTS = {"kind": "embedding", "model": "tiny-embed", "input": ["a dog", "the sea"], "dimensions": 64}

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


MODELS = {"chat": "tiny-lm", "image": "tiny-diffusion", "embedding": "tiny-embed"}


def convicted(kind: str, claimed: EngineOutput, again: EngineOutput) -> bool:
    """One auditor says no, two more say the same."""
    thresholds = thresholds_of(MODELS[kind], kind)
    scores: list[int] = []
    while next_step(scores, thresholds)[0] != Step.DONE:
        left, right = delivered(kind, claimed), delivered(kind, again)
        scores.append(score_ppm(left, right, exact=thresholds == EXACT))
    return next_step(scores, thresholds)[1] == Verdict.FALSE


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


def test_the_right_picture_is_good_whoever_computed_its_steps(picture: EngineOutput) -> None:
    """Another machine's latents differ in their last bits, so a transcript alone convicts nobody."""
    assert not convicted("image", msgspec.structs.replace(picture, transcript=[bytes(32)]), picture)


def other_vectors(**change: Any) -> EngineOutput:
    return run(TinyEmbed(), {**TEXTS, **change})


def floats_of(data: bytes) -> Any:
    return np.frombuffer(data, "<f4")


EMBEDDING_CHEATS: dict[str, Callable[[EngineOutput], bytes]] = {
    "other texts": lambda _: other_vectors(input=["a cat", "the sea"]).data,
    "a replayed answer": lambda _: other_vectors(input=["a dog", "a dog"]).data,
    "one text's vector for all": lambda honest: honest.data[: len(honest.data) // 2] * 2,
    "garbage of the right length": lambda honest: np.ones(len(honest.data) // 4, "<f4").tobytes(),
    "coarser numbers": lambda honest: (np.round(floats_of(honest.data) * 127) / 127).astype("<f4").tobytes(),
    "a prefix of the real one": lambda honest: (
        honest.data[: len(honest.data) // 2] + bytes(len(honest.data) // 2)
    ),
}


@pytest.mark.parametrize("name", EMBEDDING_CHEATS)
def test_vectors_that_were_not_computed_are_found(name: str) -> None:
    honest = other_vectors()
    assert not convicted("embedding", other_vectors(), honest)
    claimed = msgspec.structs.replace(honest, data=EMBEDDING_CHEATS[name](honest))
    assert convicted("embedding", claimed, honest)


def twisted(folder: Path) -> TinyLm:
    """Another model of the same shape: every matrix is turned by one row."""
    with np.load(WEIGHTS_FILE, allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    for name, array in parts.items():
        if array.dtype.kind == "f" and array.ndim > 1:
            parts[name] = np.roll(array, 1, axis=0)
    np.savez(folder / "twisted.npz", **parts)
    return TinyLm(folder / "twisted.npz")


def begun_by_another(cheap: TinyLm, request: Json) -> EngineOutput:
    """The first half from a cheap model, the rest from the real one, which reads on from there."""
    half = request["max_tokens"] // 2
    begun = run(cheap, {**request, "max_tokens": half})
    rest = run(TinyLm(), {**request, "prompt": request["prompt"] + begun.data.decode(), "max_tokens": half})
    counts = {"in": begun.counts["in"], "out": begun.counts["out"] + rest.counts["out"]}
    return msgspec.structs.replace(
        begun, data=begun.data + rest.data, transcript=begun.transcript + rest.transcript, counts=counts
    )


LIVES = {
    "wrong model": lambda folder: lambda request: run(twisted(folder), request),
    "coarser weights": lambda folder: lambda request: run(coarse(folder, 16), request),
    "prefix from a cheap model": lambda folder: lambda request: begun_by_another(coarse(folder, 8), request),
    "eight bits": lambda folder: lambda request: run(coarse(folder, 256), request),
}
REQUESTS, RECEIPTS = 6, 20_000


@pytest.mark.parametrize("name", LIVES)
@pytest.mark.parametrize("stake", [100, 5], ids=["thick stake", "thin stake"])
def test_who_cheats_is_caught_at_the_formulas_rate(tmp_path: Path, name: str, stake: int) -> None:
    """The lottery draws among receipts; a drawn one is compared. What is caught is rate × detection, within 3 σ."""
    cheat, honest = LIVES[name](tmp_path), TinyLm()
    requests = [{**STORY, "seed": seed} for seed in range(REQUESTS)]
    found = [convicted("chat", cheat(request), run(honest, request)) for request in requests]
    rate_ppm = audit_rate_ppm(Exposure(price=1_000, stake=stake * 1_000, streak=10**6))
    caught = sum(
        [
            found[number % REQUESTS] and is_drawn(seed=b"s" * 32, receipt_id=f"r{number}", rate_ppm=rate_ppm)
            for number in range(RECEIPTS)
        ]
    )
    chance = rate_ppm / 1_000_000
    wrong = sum([found[number % REQUESTS] for number in range(RECEIPTS)])
    assert wrong >= (RECEIPTS if name != "eight bits" else 0) * 0.98, "the comparator's part, as calibrated"
    assert abs(caught - wrong * chance) <= 3 * (wrong * chance * (1 - chance)) ** 0.5
