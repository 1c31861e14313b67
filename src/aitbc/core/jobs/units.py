"""Compute units: what a job costs in seconds of the reference card, from counts that anybody can recompute.

1,000 units are one second of the reference card. The table below is the only place that knows a formula; hub,
provider, client and auditor compute with it. docs/spec/units.md
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from aitbc.core.codec.canonical import jcs
from aitbc.core.crypto.hashing import tagged
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.types.amounts import MAX_UNITS

PIXELS_PER_MEGAPIXEL = 2**20

Positive = Annotated[int, msgspec.Meta(ge=1)]


class ChatProfile(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="chat"):
    """How a text model is billed: ceil((in · alpha + out) · kappa), both factors as fractions."""

    model: str
    alpha: tuple[int, Positive]
    """A prompt token's cost relative to a generated one."""
    kappa: tuple[int, Positive]
    """Units for one generated token."""
    max_prompt_bytes: Positive
    max_tokens: Positive
    max_temperature_milli: Positive
    max_top_k: Positive
    prompt_overhead: int
    """Tokens that the model may add to a prompt; otherwise no token is shorter than a byte."""


class ImageProfile(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="image"):
    """How a picture model is billed: ceil(steps · width · height · kappa / 2^20) at the size it computes."""

    model: str
    kappa: tuple[int, Positive]
    """Units for one megapixel-step."""
    native: tuple[int, int] | None
    """The one size it computes; larger pictures are a free, declared upscale. None: it computes any."""
    max_prompt_bytes: Positive
    min_steps: Positive
    max_steps: Positive
    max_guidance_milli: Positive
    min_side: Positive
    max_side: Positive
    side_multiple: Positive
    square_only: bool


class EmbeddingProfile(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="embedding"):
    """How a model that turns texts into vectors is billed: ceil(in · kappa)."""

    model: str
    kappa: tuple[int, Positive]
    """Units for one token."""
    dimensions: Positive
    """Of a whole vector."""
    min_dimensions: Positive
    """Fewer may be asked for: the first so many of the whole, made to length 1 again."""
    max_inputs: Positive
    max_input_bytes: Positive
    """Of one text."""
    max_total_bytes: Positive
    """Of all texts of one request."""
    input_overhead: int
    """Tokens that the model may add to each text; otherwise no token is shorter than a byte."""


Profile = ChatProfile | ImageProfile | EmbeddingProfile

PROFILES: dict[str, Profile] = {
    profile.model: profile
    for profile in (
        # The reference card writes 200 of these tokens in a second: the measured floor of one laptop core.
        ChatProfile(
            model="tiny-lm",
            alpha=(1, 4),
            kappa=(5, 1),
            max_prompt_bytes=2048,
            max_tokens=256,
            max_temperature_milli=5_000,
            max_top_k=1_024,
            prompt_overhead=8,
        ),
        # 20 steps of 64 × 64 are one second: 20 · 4,096 · 12,800 / 2^20 = 1,000.
        ImageProfile(
            model="tiny-diffusion",
            kappa=(12_800, 1),
            native=(64, 64),
            max_prompt_bytes=512,
            min_steps=4,
            max_steps=50,
            max_guidance_milli=10_000,
            min_side=64,
            max_side=512,
            side_multiple=64,
            square_only=True,
        ),
        # The reference card reads 20,000 of these tokens in a second: half of what was measured of one laptop core.
        EmbeddingProfile(
            model="tiny-embed",
            kappa=(1, 20),
            dimensions=128,
            min_dimensions=16,
            max_inputs=128,
            max_input_bytes=2048,
            max_total_bytes=8192,
            input_overhead=0,
        ),
        # The three below are estimates for seed 003's RTX 2060, where nobody has measured yet: 40 tokens in a second
        # at four bits a weight; 512 × 512 in 30 steps in 3.75 s, below the seed's goal of 5; 5,000 tokens in a second.
        ChatProfile(
            model="llama-3.1-8b-instruct",
            alpha=(1, 10),
            kappa=(25, 1),
            max_prompt_bytes=32_768,
            max_tokens=4_096,
            max_temperature_milli=2_000,
            max_top_k=1_000,
            prompt_overhead=64,
        ),
        ImageProfile(
            model="sd-1.5",
            kappa=(500, 1),
            native=None,
            max_prompt_bytes=1_024,
            min_steps=5,
            max_steps=100,
            max_guidance_milli=25_000,
            min_side=256,
            max_side=1_024,
            side_multiple=8,
            square_only=False,
        ),
        EmbeddingProfile(
            model="all-minilm-l6-v2",
            kappa=(1, 5),
            dimensions=384,
            min_dimensions=384,
            max_inputs=128,
            max_input_bytes=4_096,
            max_total_bytes=32_768,
            input_overhead=2,
        ),
    )
}
"""One line per model. A profile never changes: receipts cite its digest, so a new formula is a new model."""

UNIT_TYPES = {"chat": "tokens", "image": "megapixel_steps", "embedding": "tokens"}
"""What the counts behind the units are, as the receipt names it."""


def profile_of(model: str) -> Profile:
    """The profile of a model; refuses models that nobody could bill."""
    profile = PROFILES.get(model)
    if profile is None:
        raise Refused(
            JobReason.UNKNOWN_MODEL, f"no model {model[:80]!r}; known: {', '.join(sorted(PROFILES))}"
        )
    return profile


def kind_of(profile: Profile) -> str:
    match profile:
        case ChatProfile():
            return "chat"
        case ImageProfile():
            return "image"
        case EmbeddingProfile():
            return "embedding"


def profile_digest(profile: Profile) -> str:
    """`sha256:<hex>`: what a receipt says about how its units were computed."""
    return "sha256:" + tagged("aitbc/profile/1", jcs(profile)).hex()


def worst_case_units(profile: Profile, request: Mapping[str, Any]) -> int:
    """The most that a normalised request can cost; what the client locks money for."""
    match profile:
        case ChatProfile():
            prompt_tokens = len(request["prompt"].encode()) + profile.prompt_overhead
            return _chat_units(profile, prompt_tokens, request["max_tokens"])
        case ImageProfile():
            return _image_units(profile, request)
        case EmbeddingProfile():
            return _embedding_units(profile, _most_input_tokens(profile, request))


def actual_units(profile: Profile, request: Mapping[str, Any], counts: Mapping[str, int]) -> int:
    """What a finished job costs by its counts; never above `worst_case_units` of its request.

    Refuses counts that the request could not have produced.
    """
    match profile:
        case ChatProfile():
            _check_names(counts, ("in", "out"))
            _check_count(
                counts, "in", least=0, most=len(request["prompt"].encode()) + profile.prompt_overhead
            )
            _check_count(counts, "out", least=0, most=request["max_tokens"])
            units = _chat_units(profile, counts["in"], counts["out"])
        case ImageProfile():
            _check_names(counts, ("steps", "width", "height", "native_width", "native_height"))
            width, height = profile.native or (request["width"], request["height"])
            expected = {name: request[name] for name in ("steps", "width", "height")}
            for name, value in {**expected, "native_width": width, "native_height": height}.items():
                _check_count(counts, name, least=value, most=value)
            units = _image_units(profile, request)
        case EmbeddingProfile():
            _check_names(counts, ("in", "inputs"))
            _check_count(counts, "in", least=0, most=_most_input_tokens(profile, request))
            inputs = len(request["input"])
            _check_count(counts, "inputs", least=inputs, most=inputs)
            units = _embedding_units(profile, counts["in"])
    assert units <= worst_case_units(profile, request), "bounded counts cannot cost more than the worst case"
    return units


def price_of(units: int, price_per_kilounit: int) -> int:
    """Base units of money for compute units, rounded up."""
    return _ceil_div(units * price_per_kilounit, 1000)


def _chat_units(profile: ChatProfile, prompt_tokens: int, generated_tokens: int) -> int:
    alpha, alpha_den = profile.alpha
    kappa, kappa_den = profile.kappa
    weighted = prompt_tokens * alpha + generated_tokens * alpha_den
    return _bounded(_ceil_div(weighted * kappa, alpha_den * kappa_den))


def _image_units(profile: ImageProfile, request: Mapping[str, Any]) -> int:
    width, height = profile.native or (request["width"], request["height"])
    kappa, kappa_den = profile.kappa
    return _bounded(_ceil_div(request["steps"] * width * height * kappa, PIXELS_PER_MEGAPIXEL * kappa_den))


def _embedding_units(profile: EmbeddingProfile, tokens: int) -> int:
    kappa, kappa_den = profile.kappa
    return _bounded(_ceil_div(tokens * kappa, kappa_den))


def _most_input_tokens(profile: EmbeddingProfile, request: Mapping[str, Any]) -> int:
    return sum([len(text.encode()) + profile.input_overhead for text in request["input"]])


def _bounded(units: int) -> int:
    """At least one unit: a receipt for nothing has no place on the chain."""
    assert units <= MAX_UNITS, "the profile's limits keep every job below the largest receipt"
    return max(1, units)


def _check_names(counts: Mapping[str, int], names: tuple[str, ...]) -> None:
    if set(counts) != set(names):
        got = ", ".join(sorted(counts)[:8])
        raise Refused(JobReason.COUNTS_MISMATCH, f"counts must be exactly {', '.join(names)}; got {got}")


def _check_count(counts: Mapping[str, int], name: str, *, least: int, most: int) -> None:
    if not least <= counts[name] <= most:
        allowed = str(least) if least == most else f"{least} to {most}"
        raise Refused(
            JobReason.COUNTS_MISMATCH, f"count {name} is {counts[name]}; the request allows {allowed}"
        )


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
