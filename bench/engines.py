"""Speed of the tiny engines on one core, in CPU time so that a busy machine does not matter.

Goals: tiny-lm ≥ 200 tokens/s; tiny-diffusion ≤ 1 s a picture of 64 × 64; weights ≤ 4 MB together.
"""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import time
from importlib import resources
from typing import Any

from common import save, spread

from aitbc.adapters.engines.tiny_diffusion import TinyDiffusion
from aitbc.adapters.engines.tiny_lm import TinyLm

RUNS = 9


def cpu_s(work: Any) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
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
        "tiny-lm >= 200 tokens/s; tiny-diffusion <= 1 s a picture; weights <= 4 MB",
        {
            "tiny_lm_tokens_per_cpu_s": spread(rates, 0),
            "tiny_lm_load_cpu_s": round(load_lm, 3),
            "tiny_diffusion_cpu_s_per_picture": spread(pictures),
            "tiny_diffusion_load_cpu_s": round(load_diffusion, 3),
            "weights_bytes": sizes,
        },
    )


if __name__ == "__main__":
    main()
