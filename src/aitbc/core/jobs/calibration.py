"""The job that the chain draws for a provider in an epoch: what it is asked, from the chain's randomness alone.

Nobody pays for it and nobody could choose it; the ledger checks label and nonce, hub and provider the rest.
docs/spec/minting.md "Calibration"
"""

from typing import Any, NamedTuple

from aitbc.core.jobs.requests import CALIBRATION_NONCE_CHARACTERS, normalise_request
from aitbc.core.jobs.units import ChatProfile, EmbeddingProfile, ImageProfile, profile_of
from aitbc.core.ledger.calibration import calibration_job, calibration_nonce

TOKENS = 64
STEPS = 20
TEXTS = 64
"""Some seconds of the slowest machine that is worth its electricity, enough to tell one model from another."""
SEED_CHARACTERS = 12
"""48 bits of the nonce: what signed JSON can carry."""


class DrawnJob(NamedTuple):
    """What the chain has drawn for one provider and one epoch."""

    job_id: str
    nonce: str


def drawn_job(*, genesis_hash: bytes, epoch: int, seed: str, provider: str) -> DrawnJob:
    """`seed`: the chain's `epoch.seed`."""
    return DrawnJob(calibration_job(epoch, provider), calibration_nonce(genesis_hash, epoch, seed, provider))


def calibration_request(model: str, nonce: str) -> dict[str, Any]:
    """The canonical request for a model; another nonce is other work."""
    assert len(nonce) == CALIBRATION_NONCE_CHARACTERS, "the chain draws 32 bytes"
    seed = int(nonce[:SEED_CHARACTERS], 16)
    prompt = f"Tale {seed}: once upon a time there was a red circle."
    profile = profile_of(model)
    match profile:
        case ChatProfile(max_tokens=most):
            fields: dict[str, Any] = {"prompt": prompt, "max_tokens": min(TOKENS, most), "seed": seed}
        case ImageProfile(min_steps=least, max_steps=most):
            fields = {"prompt": prompt, "steps": max(least, min(STEPS, most)), "seed": seed}
        case EmbeddingProfile(max_inputs=most):
            fields = {"input": [f"{prompt} Line {at}." for at in range(min(TEXTS, most))]}
    return normalise_request(profile, fields, nonce=nonce)
