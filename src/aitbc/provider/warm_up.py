"""The smallest real request of each kind: it makes a model warm and shows that it works."""

from typing import Any

from aitbc.core.jobs.requests import normalise_request
from aitbc.core.jobs.units import ChatProfile, EmbeddingProfile, ImageProfile, profile_of

NONCE = "0" * 32
"""Nothing is billed and nothing sold, so nothing needs a nonce of its own."""
WARM_UP_TOKENS = 2
CALIBRATION_TOKENS = 64
CALIBRATION_STEPS = 20
PROMPT = "Once upon a time there was a red circle."


def warm_up_request(model: str) -> dict[str, Any]:
    match profile_of(model):
        case ChatProfile():
            fields: dict[str, Any] = {"prompt": PROMPT, "max_tokens": WARM_UP_TOKENS}
        case ImageProfile(min_steps=steps, min_side=side):
            fields = {"prompt": PROMPT, "steps": steps, "width": side, "height": side}
        case EmbeddingProfile():
            fields = {"input": [PROMPT]}
    return _canonical(model, fields)


def calibration_request(model: str, seed: int) -> dict[str, Any]:
    """Long enough to be measured, short enough to be waited for; another seed is other work."""
    match profile_of(model):
        case ChatProfile(max_tokens=most):
            fields: dict[str, Any] = {
                "prompt": PROMPT,
                "max_tokens": min(CALIBRATION_TOKENS, most),
                "seed": seed,
            }
        case ImageProfile(min_steps=least, max_steps=most):
            fields = {"prompt": PROMPT, "steps": max(least, min(CALIBRATION_STEPS, most)), "seed": seed}
        case EmbeddingProfile(max_inputs=most):
            fields = {"input": [f"{PROMPT} Tale {seed}, line {at}." for at in range(min(most, 64))]}
    return _canonical(model, fields)


def _canonical(model: str, fields: dict[str, Any]) -> dict[str, Any]:
    return normalise_request(profile_of(model), fields, nonce=NONCE)
