"""The diffusers engine on a small random Stable Diffusion: own loop, shared steps, steps that can be checked alone."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra diffusers: make test-torch")
pytest.importorskip("diffusers", reason="needs the extra diffusers: make test-torch")

from PIL import Image

from aitbc.adapters.engines.settings import EngineSettings, LocalModel
from aitbc.adapters.engines.stable_diffusion import StableDiffusion, initial_latent, latent_hash
from aitbc.core.jobs.requests import engine_request, normalise_request
from aitbc.core.jobs.units import profile_of
from aitbc.ports import EngineError, EngineOutput

MODEL = "sd-1.5"


@pytest.fixture(scope="module")
def engine(small_stable_diffusion: Path) -> StableDiffusion:
    setting = LocalModel(model=MODEL, source=str(small_stable_diffusion), device="cpu")
    made = StableDiffusion(EngineSettings(diffusers=[setting]))
    made.load(MODEL)
    return made


def ask(**fields: Any) -> dict[str, Any]:
    given = {"prompt": "a red circle", "width": 256, "height": 256, "steps": 5, **fields}
    return engine_request(normalise_request(profile_of(MODEL), given, nonce="0" * 32))


def draw(engine: StableDiffusion, **fields: Any) -> EngineOutput:
    return engine.run(MODEL, ask(**fields), lambda _event: None, lambda: False)


def pixels(output: EngineOutput) -> Any:
    return np.asarray(Image.open(io.BytesIO(output.data)), np.int32)


def test_our_loop_draws_what_the_librarys_own_loop_draws(engine: StableDiffusion) -> None:
    """The same noise, scheduler and guidance through `StableDiffusionPipeline.__call__`."""
    from diffusers import DDIMScheduler

    pipeline = engine._pipelines[MODEL]
    kept = pipeline.scheduler
    pipeline.scheduler = DDIMScheduler.from_config(kept.config)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(7)
    theirs = pipeline(
        "a red circle",
        num_inference_steps=5,
        guidance_scale=7.5,
        width=256,
        height=256,
        generator=generator,
        output_type="np",
    ).images[0]
    pipeline.scheduler = kept
    ours = pixels(draw(engine, seed=7, guidance_milli=7_500))
    assert np.abs(ours - np.rint(theirs * 255)).max() <= 1


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({}, False),
        ({"seed": 1}, True),
        ({"prompt": "a blue boat"}, True),
        ({"steps": 6}, True),
        ({"guidance_milli": 9_000}, True),
    ],
)
def test_every_parameter_counts_and_nothing_else_does(
    engine: StableDiffusion, change: dict[str, Any], differs: bool
) -> None:
    assert (draw(engine, **change).data != draw(engine).data) == differs


def test_a_picture_of_another_shape_has_that_shape(engine: StableDiffusion) -> None:
    output = draw(engine, width=264, height=320)
    assert pixels(output).shape == (320, 264, 3)
    assert output.counts == {
        "steps": 5,
        "width": 264,
        "height": 320,
        "native_width": 264,
        "native_height": 320,
    }


def test_without_guidance_the_model_runs_once_a_step(engine: StableDiffusion) -> None:
    free, guided = engine.begin(MODEL, ask(guidance_milli=1_000)), engine.begin(MODEL, ask())
    assert (len(free.text), len(guided.text)) == (1, 2) and free.shape != guided.shape


def test_each_step_can_be_checked_alone(engine: StableDiffusion) -> None:
    """An auditor takes the latent before a step, computes the step, and finds the hash in the transcript."""
    request = ask(seed=11)
    output = engine.run(MODEL, request, lambda _event: None, lambda: False)
    latent = initial_latent(engine._pipelines[MODEL], request)
    for step, hashed in enumerate(output.transcript):
        latent = engine.replay_step(MODEL, request, step, latent)
        assert latent_hash(latent) == hashed


def test_runs_at_different_steps_share_a_product(engine: StableDiffusion) -> None:
    runs = [engine.begin(MODEL, ask(seed=seed, steps=5 + seed)) for seed in range(3)]
    engine.advance(runs[:1])
    while any(not run.over for run in runs):
        engine.advance([run for run in runs if not run.over])
    for seed, run in enumerate(runs):
        alone = draw(engine, seed=seed, steps=5 + seed)
        assert np.abs(pixels(engine.finish(run)) - pixels(alone)).max() <= 1


def test_latents_beside_others_stay_within_the_tolerance_of_a_check(engine: StableDiffusion) -> None:
    """docs/spec/engines.md: not the same bytes, so a check of a step compares with a tolerance."""
    runs = [engine.begin(MODEL, ask(seed=seed)) for seed in range(4)]
    alone = engine.begin(MODEL, ask(seed=2))
    for _ in range(5):
        engine.advance(runs)
        engine.advance([alone])
    assert (runs[2].latent - alone.latent).abs().max() < 1e-3 * alone.latent.abs().max()


def test_a_failed_step_leaves_all_as_they_were(
    engine: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [engine.begin(MODEL, ask(seed=seed)) for seed in range(2)]
    before = [run.latent.clone() for run in runs]

    def no_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(engine._pipelines[MODEL].unet, "forward", no_memory)
        with pytest.raises(EngineError, match="out of memory") as error:
            engine.advance(runs)
    assert error.value.reason == "out_of_memory"
    assert all(torch.equal(run.latent, old) for run, old in zip(runs, before, strict=True))
    assert [run.transcript for run in runs] == [[], []]
    engine.advance(runs)


def test_a_long_prompt_is_cut_and_says_so(engine: StableDiffusion) -> None:
    assert "kept the first 77 of" in draw(engine, prompt="circle " * 40).notes["prompt"]


def test_a_folder_of_pickles_is_not_loaded(small_stable_diffusion: Path, tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04code")
    setting = LocalModel(model=MODEL, source=str(tmp_path))
    with pytest.raises(EngineError, match="no weights as safetensors"):
        StableDiffusion(EngineSettings(diffusers=[setting])).models()


def test_the_digest_covers_weights_and_settings(small_stable_diffusion: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small_stable_diffusion, copy)

    def digest(folder: Path) -> str:
        return (
            StableDiffusion(EngineSettings(diffusers=[LocalModel(model=MODEL, source=str(folder))]))
            .models()[0]
            .digest
        )

    assert digest(copy) == digest(small_stable_diffusion)
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.013"))
    assert digest(copy) != digest(small_stable_diffusion)
