"""Speed of the tiny engines on one core, in CPU time so that a busy machine does not matter.

Goals: tiny-lm ≥ 200 tokens/s; tiny-diffusion ≤ 1 s a picture of 64 × 64; tiny-embed ≥ 20,000 tokens/s of words it never
saw; weights ≤ 4 MB together. Eight pictures that share their steps ≥ 1.7 times as many images/s as one by one, in wall
time, because what is gained is the other cores: on a busy machine the best of many short trials still says little.
"""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import time
from importlib import resources
from typing import Any

from common import save, spread

from aitbc.adapters.engines.tiny_diffusion import TinyDiffusion
from aitbc.adapters.engines.tiny_embed import TinyEmbed
from aitbc.adapters.engines.tiny_lm import TinyLm
from aitbc.adapters.machine import cores

RUNS = 9
TOGETHER = 8
TRIALS = 25
TRIAL_STEPS = 4


def cpu_s(work: Any) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def wall_s(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def one_by_one(engine: TinyDiffusion, requests: list[dict[str, Any]]) -> None:
    for request in requests:
        engine.run("tiny-diffusion", request, lambda _: None, lambda: False)


def together(engine: TinyDiffusion, requests: list[dict[str, Any]]) -> None:
    runs = [engine.begin("tiny-diffusion", request) for request in requests]
    while not runs[0].over:
        engine.advance(runs)
    for run in runs:
        engine.finish(run)


def batching(engine: TinyDiffusion) -> dict[str, float]:
    requests = [
        {
            "kind": "image",
            "model": "tiny-diffusion",
            "prompt": "a red circle",
            "seed": seed,
            "steps": TRIAL_STEPS,
        }
        for seed in range(TOGETHER)
    ]
    alone = min(wall_s(lambda: one_by_one(engine, requests)) for _ in range(TRIALS))
    shared = min(wall_s(lambda: together(engine, requests)) for _ in range(TRIALS))
    return {
        "one_by_one_images_per_s": round(TOGETHER / alone, 2),
        "together_images_per_s": round(TOGETHER / shared, 2),
        "gain": round(alone / shared, 2),
        "load_average": round(os.getloadavg()[0], 2),
        "cores": cores(),
    }


def embedding_rate(engine: TinyEmbed, seed: int) -> float:
    """Words that nobody has seen, so that nothing is cached."""
    texts = [" ".join([f"w{seed}x{text}y{word}" for word in range(100)]) for text in range(4)]
    started = time.process_time()
    output = engine.run("tiny-embed", {"input": texts}, lambda _: None, lambda: False)
    return output.counts["in"] / (time.process_time() - started)


def main() -> None:
    embed = TinyEmbed()
    embed.load("tiny-embed")
    lm, diffusion = TinyLm(), TinyDiffusion()
    load_lm = cpu_s(lambda: lm.load("tiny-lm"))
    load_diffusion = cpu_s(lambda: diffusion.load("tiny-diffusion"))
    rates = []
    for seed in range(RUNS):
        request = {"kind": "chat", "model": "tiny-lm", "prompt": "Once upon", "max_tokens": 200, "seed": seed}
        started = time.process_time()
        output = lm.run("tiny-lm", request, lambda _: None, lambda: False)
        rates.append(output.counts["out"] / (time.process_time() - started))
    pictures = [
        cpu_s(
            lambda seed=seed: diffusion.run(
                "tiny-diffusion",
                {"kind": "image", "model": "tiny-diffusion", "prompt": "a red circle on blue", "seed": seed},
                lambda _: None,
                lambda: False,
            )
        )
        for seed in range(RUNS)
    ]
    weights = resources.files("aitbc.adapters.engines").joinpath("weights")
    sizes = {item.name: len(item.read_bytes()) for item in weights.iterdir() if item.name.endswith(".npz")}
    save(
        "engines",
        "tiny-lm >= 200 tokens/s; tiny-diffusion <= 1 s a picture, 8 together >= 1.7x; tiny-embed >= 20,000 tokens/s; "
        "weights <= 4 MB",
        {
            "tiny_lm_tokens_per_cpu_s": spread(rates, 0),
            "tiny_lm_load_cpu_s": round(load_lm, 3),
            "tiny_diffusion_cpu_s_per_picture": spread(pictures),
            "tiny_diffusion_load_cpu_s": round(load_diffusion, 3),
            "tiny_embed_new_tokens_per_cpu_s": spread(
                [embedding_rate(embed, seed) for seed in range(RUNS)], 0
            ),
            "tiny_diffusion_eight_together": batching(diffusion),
            "weights_bytes": sizes,
        },
    )


if __name__ == "__main__":
    main()
