"""The diffusers engine at the full size of SD 1.5 with random weights: 512 × 512, 30 steps, on whatever card is here.

    python bench/gpu/stable_diffusion.py            # full size; needs a GPU with 12 GB
    python bench/gpu/stable_diffusion.py --small    # the small pipeline of the tests, on the processor

Goals: below 5 s on an RTX 2060 (seed 003), below 1.5 s alone on a data-centre card, there twice as many images/s in
batches of eight, and 1.7 times with the small pipeline. Random weights take as long as trained ones; they draw nothing.
Also measured: how far a step that is computed again is from the step in a batch, which is what a check has to tolerate.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

import torch
from aitbc.adapters.engines.settings import EngineSettings, LocalModel
from aitbc.adapters.engines.stable_diffusion import StableDiffusion, device_of
from aitbc.core.jobs.requests import engine_request, normalise_request
from aitbc.core.jobs.units import profile_of
from support.small_models import save_stable_diffusion

MODEL = "sd-1.5"
TOGETHER = 8


def save_full_size(folder: Path) -> None:
    """The shapes of Stable Diffusion 1.5, filled at random; the words are the small pipeline's."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    save_stable_diffusion(folder / "small")
    small = StableDiffusionPipeline.from_pretrained(
        str(folder / "small" / "model"), safety_checker=None, requires_safety_checker=False
    )
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=512,
    )
    words = len(small.tokenizer)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49_408,
            hidden_size=768,
            intermediate_size=3_072,
            num_hidden_layers=12,
            num_attention_heads=12,
            bos_token_id=words - 2,
            eos_token_id=words - 1,
        )
    )
    StableDiffusionPipeline(
        unet=unet,
        vae=vae,
        text_encoder=text,
        tokenizer=small.tokenizer,
        scheduler=small.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(str(folder / "model"), safe_serialization=True)


def ask(side: int, steps: int, seed: int) -> dict[str, Any]:
    fields = {
        "prompt": "a red circle",
        "width": side,
        "height": side,
        "steps": steps,
        "guidance_milli": 7_500,
    }
    return engine_request(normalise_request(profile_of(MODEL), {**fields, "seed": seed}, nonce="0" * 32))


def seconds(work: Any) -> float:
    wait_for_the_device()
    began = time.perf_counter()
    work()
    wait_for_the_device()
    return time.perf_counter() - began


def wait_for_the_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alone(engine: StableDiffusion, side: int, steps: int) -> None:
    engine.run(MODEL, ask(side, steps, 1), lambda _event: None, lambda: False)


def together(engine: StableDiffusion, side: int, steps: int) -> None:
    runs = [engine.begin(MODEL, ask(side, steps, seed)) for seed in range(TOGETHER)]
    while not runs[0].over:
        engine.advance(runs)
    for run in runs:
        engine.finish(run)


def replay_distances(engine: StableDiffusion, side: int, steps: int) -> list[float]:
    """Of every step of one run in a batch: the largest relative difference to the same step computed alone."""
    runs = [engine.begin(MODEL, ask(side, steps, seed)) for seed in range(TOGETHER)]
    found = []
    for step in range(steps):
        before = runs[0].latent
        engine.advance(runs)
        again = engine.replay_step(MODEL, ask(side, steps, 0), step, before)
        found.append(float((again - runs[0].latent).abs().max() / runs[0].latent.abs().max()))
    return found


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--small", action="store_true")
    options.add_argument("--dtype", default="float16", choices=["float16", "bfloat16", "float32"])
    options.add_argument("--trials", type=int, default=3)
    chosen = options.parse_args()
    small = chosen.small or not torch.cuda.is_available()
    side, steps, dtype = (256, 5, "float32") if small else (512, 30, chosen.dtype)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (save_stable_diffusion if small else save_full_size)(folder)
        setting = LocalModel(model=MODEL, source=str(folder / "model"), dtype=dtype)
        engine = StableDiffusion(EngineSettings(diffusers=[setting]))
        engine.load(MODEL)
        alone(engine, side, steps)
        together(engine, side, steps)
        one = [seconds(lambda: alone(engine, side, steps)) for _ in range(chosen.trials)]
        many = [seconds(lambda: together(engine, side, steps)) for _ in range(chosen.trials)]
        distances = replay_distances(engine, side, steps)
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "processor"
    )
    figures = {
        "measured": "stable_diffusion",
        "pipeline": "small, random weights" if small else "SD 1.5, random weights",
        "device": device if not small or device_of(setting) != "cpu" else "the processor",
        "dtype": dtype,
        "side": side,
        "steps": steps,
        "seconds_alone": round(min(one), 3),
        "images_per_s_alone": round(1 / min(one), 3),
        "images_per_s_eight_together": round(TOGETHER / min(many), 3),
        "gain": round(TOGETHER * min(one) / min(many), 2),
        "replay_distance": {"median": statistics.median(distances), "max": max(distances)},
        "load_average": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        figures["most_memory_bytes"] = torch.cuda.max_memory_allocated()
    if small:
        figures["note"] = "the figure at full size is still to be taken, on a machine with a GPU"
    print(json.dumps(figures, indent=2))
    if not small:
        target = ROOT / "bench" / "results" / "stable_diffusion.json"
        target.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
