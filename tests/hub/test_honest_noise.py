"""Honest work from another machine, with another BLAS kernel and other threads, passes every check."""

import json
from typing import Any

import pytest

from aitbc.core.jobs.audits import EXACT, score_ppm, thresholds_of
from hub.other_machine import made_on, make

Json = dict[str, Any]
MACHINES = [("Prescott", 1), ("Haswell", 2), ("Nehalem", 1), ("Sandybridge", 2)]


def story(seed: int, tokens: int) -> Json:
    fields = {"max_tokens": tokens, "temperature_milli": 800, "top_k": 40, "seed": seed}
    return {"kind": "chat", "model": "tiny-lm", "prompt": f"One day a dog {seed}", **fields}


def picture(seed: int, steps: int) -> Json:
    fields = {"width": 64, "height": 64, "guidance_milli": 3_000, "seed": seed}
    return {
        "kind": "image", "model": "tiny-diffusion", "prompt": "a red circle", "steps": steps, **fields
    }  # fmt: skip


def vectors(seed: int) -> Json:
    return {"kind": "embedding", "model": "tiny-embed", "input": [f"tale {seed}"], "dimensions": 64}


def flagged(requests: list[Json], machines: list[tuple[str, int]], *, within_s: float = 60) -> list[str]:
    """What does not pass at the first stage, in words."""
    own = [make(request) for request in requests]
    found = []
    for core, threads in machines:
        others = made_on(core, threads, requests, within_s=within_s)
        for request, mine, theirs in zip(requests, own, others, strict=True):
            thresholds = thresholds_of(request["model"], request["kind"])
            score = score_ppm(theirs, mine, exact=thresholds == EXACT)
            if score > thresholds.soft_ppm:
                found.append(f"{core} x {threads}: {score} for {json.dumps(request)}")
    return found


def test_another_kernel_and_other_threads_pass() -> None:
    requests = [
        *[story(seed, 24) for seed in range(6)],
        *[picture(seed, 8) for seed in range(2)],
        *[vectors(seed) for seed in range(6)],
    ]
    assert flagged(requests, MACHINES[:2]) == []


def test_latents_differ_where_pictures_do_not() -> None:
    """Why a transcript alone convicts nobody: by hashes every honest machine of another kind would be flagged."""
    (other,) = made_on("Prescott", 1, [picture(0, 8)], within_s=60)
    mine = make(picture(0, 8))
    assert other.transcript_root != mine.transcript_root
    assert score_ppm(other, mine, exact=False) <= 1


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_a_hundred_thousand_checks_flag_nobody() -> None:
    """25,000 requests on four other machines; most of them short."""
    requests = [
        *[story(seed, 8) for seed in range(6_000)],
        *[picture(seed, 4) for seed in range(400)],
        *[vectors(seed) for seed in range(18_600)],
    ]
    assert flagged(requests, MACHINES, within_s=3_000) == []
