"""What a client may ask of a model: one table of fields, every default filled in; a request has one hash.

docs/spec/requests.md
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from aitbc.core.codec.canonical import jcs
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.units import ChatProfile, EmbeddingProfile, ImageProfile, Profile, kind_of

MAX_SEED = 2**53 - 1
"""What signed JSON can carry; engines take more."""

NONCE_CHARACTERS = 32
"""16 random bytes in hexadecimal: no two requests share a hash, so no old result can be sold again."""

CALIBRATION_NONCE_CHARACTERS = 64
"""The nonce that the chain draws for a calibration job: 32 bytes."""


MAX_REQUEST_BYTES = 48 * 1024
"""Of the canonical JSON, where a control character takes six bytes: with the rest of an offer it stays below the
provider link's 64 KiB for a text frame."""


_NONCES = (NONCE_CHARACTERS, CALIBRATION_NONCE_CHARACTERS)


class IntegerField(NamedTuple):
    name: str
    default: int
    least: int
    most: int
    multiple: int = 1


def normalise_request(profile: Profile, fields: Mapping[str, Any], *, nonce: str) -> dict[str, Any]:
    """The canonical request: `kind`, `model`, `prompt` or `input`, every parameter, the hub's nonce.

    Refuses unknown fields, wrong types and values out of range, saying what is allowed.
    """
    assert len(nonce) in _NONCES, "the hub draws a nonce of 16 bytes, the chain one of 32"
    parameters = _parameters(profile)
    what = "input" if isinstance(profile, EmbeddingProfile) else "prompt"
    unknown = sorted(set(fields) - {what, *[parameter.name for parameter in parameters]})
    if unknown:
        allowed = ", ".join([what, *[parameter.name for parameter in parameters]])
        raise Refused(JobReason.BAD_REQUEST, f"unknown field {unknown[0][:80]!r}; allowed: {allowed}")
    request: dict[str, Any] = {"kind": kind_of(profile), "model": profile.model, "nonce": nonce}
    if isinstance(profile, EmbeddingProfile):
        request["input"] = _input(fields.get("input"), profile)
    else:
        request["prompt"] = _text("prompt", fields.get("prompt"), profile.max_prompt_bytes)
    for parameter in parameters:
        request[parameter.name] = _integer(fields.get(parameter.name, parameter.default), parameter)
    _check_shape(profile, request)
    _check_size(request)
    return request


def request_hash_of(request: Mapping[str, Any]) -> str:
    """`sha256:<hex>` of the canonical request; what the client's lock commits to."""
    return hash_text(jcs(request))


def prompt_hash_of(request: Mapping[str, Any]) -> str:
    """What logs and receipts say instead of the prompt or of the texts."""
    asked = request["input"] if "input" in request else request["prompt"]
    return hash_text(asked.encode() if isinstance(asked, str) else jcs(asked))


def engine_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine is given: everything but the nonce, which must not change the output."""
    return {name: value for name, value in request.items() if name != "nonce"}


def check_normalised(profile: Profile, request: Mapping[str, Any]) -> None:
    """Refuse a request that is not the canonical form of itself; a provider trusts no hub on this."""
    own = ("kind", "model", "nonce")
    fields = {name: value for name, value in request.items() if name not in own}
    nonce = request.get("nonce")
    if not isinstance(nonce, str) or len(nonce) not in _NONCES:
        raise Refused(JobReason.BAD_REQUEST, f"a request carries a nonce of {NONCE_CHARACTERS} characters")
    if normalise_request(profile, fields, nonce=nonce) != dict(request):
        raise Refused(JobReason.BAD_REQUEST, "the request is not in its canonical form")


def _parameters(profile: Profile) -> tuple[IntegerField, ...]:
    """The engine contract's fields with their defaults, within what the profile allows."""
    match profile:
        case ChatProfile():
            return (
                IntegerField("max_tokens", min(128, profile.max_tokens), 1, profile.max_tokens),
                IntegerField("temperature_milli", 800, 0, profile.max_temperature_milli),
                IntegerField("top_k", 40, 1, profile.max_top_k),
                IntegerField("seed", 0, 0, MAX_SEED),
            )
        case ImageProfile():
            side = {"least": profile.min_side, "most": profile.max_side, "multiple": profile.side_multiple}
            width, height = profile.native or (512, 512)
            return (
                IntegerField("width", width, **side),
                IntegerField("height", height, **side),
                IntegerField("steps", min(20, profile.max_steps), profile.min_steps, profile.max_steps),
                IntegerField("guidance_milli", 3_000, 0, profile.max_guidance_milli),
                IntegerField("seed", 0, 0, MAX_SEED),
            )
        case EmbeddingProfile():
            most = profile.dimensions
            return (IntegerField("dimensions", most, profile.min_dimensions, most),)


def _check_shape(profile: Profile, request: Mapping[str, Any]) -> None:
    if isinstance(profile, ImageProfile) and profile.square_only and request["width"] != request["height"]:
        size = f"{request['width']} x {request['height']}"
        raise Refused(JobReason.BAD_REQUEST, f"{profile.model} draws squares only; asked for {size}")


def _check_size(request: Mapping[str, Any]) -> None:
    size = len(jcs(request))
    if size > MAX_REQUEST_BYTES:
        raise Refused(
            JobReason.BAD_REQUEST, f"the request has {size} bytes of JSON; at most {MAX_REQUEST_BYTES} fit"
        )


def _input(value: Any, profile: EmbeddingProfile) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= profile.max_inputs:
        raise Refused(JobReason.BAD_REQUEST, f"input must be a list of 1 to {profile.max_inputs} texts")
    texts = [_text(f"input[{at}]", text, profile.max_input_bytes) for at, text in enumerate(value)]
    size = sum([len(text.encode()) for text in texts])
    if size > profile.max_total_bytes:
        raise Refused(
            JobReason.BAD_REQUEST,
            f"the texts have {size} bytes together; at most {profile.max_total_bytes} are allowed",
        )
    return texts


def _text(name: str, value: Any, max_bytes: int) -> str:
    if not isinstance(value, str) or not value:
        raise Refused(JobReason.BAD_REQUEST, f"{name} must be a text that is not empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise Refused(
            JobReason.BAD_REQUEST, f"{name} holds half of a surrogate pair: not Unicode text"
        ) from None
    if size > max_bytes:
        raise Refused(JobReason.BAD_REQUEST, f"{name} has {size} bytes; at most {max_bytes} are allowed")
    return value


def _integer(value: Any, field: IntegerField) -> int:
    if type(value) is not int:
        raise Refused(JobReason.BAD_REQUEST, f"{field.name} must be an integer, not {type(value).__name__}")
    if not field.least <= value <= field.most or value % field.multiple:
        step = f" in steps of {field.multiple}" if field.multiple > 1 else ""
        raise Refused(
            JobReason.BAD_REQUEST, f"{field.name} is {value}; allowed: {field.least} to {field.most}{step}"
        )
    return value
