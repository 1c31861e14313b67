"""A request has one form, and whatever is not a request is refused by name."""

from typing import Any

import pytest

from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.requests import (
    check_normalised,
    engine_request,
    normalise_request,
    prompt_hash_of,
    request_hash_of,
)
from aitbc.core.jobs.units import profile_of

NONCE = "ab" * 16
LM, DIFFUSION, EMBED = profile_of("tiny-lm"), profile_of("tiny-diffusion"), profile_of("tiny-embed")


def test_every_default_is_filled_in() -> None:
    assert normalise_request(LM, {"prompt": "hi"}, nonce=NONCE) == {
        "kind": "chat",
        "model": "tiny-lm",
        "nonce": NONCE,
        "prompt": "hi",
        "max_tokens": 128,
        "temperature_milli": 800,
        "top_k": 40,
        "seed": 0,
    }
    assert normalise_request(DIFFUSION, {"prompt": "hi"}, nonce=NONCE) == {
        "kind": "image",
        "model": "tiny-diffusion",
        "nonce": NONCE,
        "prompt": "hi",
        "width": 64,
        "height": 64,
        "steps": 20,
        "guidance_milli": 3_000,
        "seed": 0,
    }
    assert normalise_request(EMBED, {"input": ["hi", "ho"]}, nonce=NONCE) == {
        "kind": "embedding",
        "model": "tiny-embed",
        "nonce": NONCE,
        "input": ["hi", "ho"],
        "dimensions": 128,
    }


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "prompt must be a text"),
        ({"prompt": ""}, "prompt must be a text"),
        ({"prompt": 5}, "prompt must be a text"),
        ({"prompt": "x" * 2049}, "2049 bytes"),
        ({"prompt": "ä" * 1025}, "2050 bytes"),
        ({"prompt": "\ud800"}, "surrogate"),
        ({"prompt": "hi", "max_tokens": 0}, "1 to 256"),
        ({"prompt": "hi", "max_tokens": 257}, "1 to 256"),
        ({"prompt": "hi", "max_tokens": True}, "integer, not bool"),
        ({"prompt": "hi", "max_tokens": 1.0}, "integer, not float"),
        ({"prompt": "hi", "max_tokens": "8"}, "integer, not str"),
        ({"prompt": "hi", "max_tokens": None}, "integer, not NoneType"),
        ({"prompt": "hi", "seed": -1}, "seed is -1"),
        ({"prompt": "hi", "seed": 2**53}, "seed is"),
        ({"prompt": "hi", "steps": 5}, "unknown field 'steps'"),
        ({"prompt": "hi", "model": "tiny-lm"}, "unknown field 'model'"),
    ],
)
def test_what_is_no_chat_request(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        normalise_request(LM, fields, nonce=NONCE)
    assert refused.value.reason == JobReason.BAD_REQUEST


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"width": 65}, "steps of 64"),
        ({"width": 0}, "64 to 512"),
        ({"width": 576}, "64 to 512"),
        ({"width": 128}, "squares only"),
        ({"steps": 3}, "4 to 50"),
        ({"steps": 51}, "4 to 50"),
        ({"guidance_milli": 10_001}, "0 to 10000"),
    ],
)
def test_what_is_no_image_request(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        normalise_request(DIFFUSION, {"prompt": "hi", **fields}, nonce=NONCE)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "a list of 1 to 128 texts"),
        ({"input": "hi"}, "a list of 1 to 128 texts"),
        ({"input": []}, "a list of 1 to 128 texts"),
        ({"input": ["x"] * 129}, "a list of 1 to 128 texts"),
        ({"input": ["hi", ""]}, r"input\[1\] must be a text that is not empty"),
        ({"input": ["hi", 3]}, r"input\[1\] must be a text"),
        ({"input": [["hi"]]}, r"input\[0\] must be a text"),
        ({"input": ["\ud800"]}, "surrogate"),
        ({"input": ["x" * 2049]}, "2049 bytes"),
        ({"input": ["x" * 2048] * 4 + ["x"]}, "8193 bytes together"),
        ({"input": ["\x00" * 2048] * 4}, "bytes of JSON"),
        ({"input": ["hi"], "dimensions": 15}, "16 to 128"),
        ({"input": ["hi"], "dimensions": 129}, "16 to 128"),
        ({"input": ["hi"], "seed": 1}, "unknown field 'seed'"),
        ({"prompt": "hi"}, "unknown field 'prompt'; allowed: input, dimensions"),
    ],
)
def test_what_is_no_embedding_request(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        normalise_request(EMBED, fields, nonce=NONCE)
    assert refused.value.reason == JobReason.BAD_REQUEST


def test_the_texts_of_an_embedding_are_hashed_in_their_order() -> None:
    one, other = (
        normalise_request(EMBED, {"input": texts}, nonce=NONCE) for texts in (["a", "b"], ["b", "a"])
    )
    assert prompt_hash_of(one) == hash_text(b'["a","b"]')
    assert prompt_hash_of(one) != prompt_hash_of(other)
    check_normalised(EMBED, one)


def test_the_limits_are_those_of_the_engines() -> None:
    """What the hub lets through, the engines take: read from their own tables."""
    from aitbc.adapters.engines import tiny_diffusion, tiny_lm

    assert LM.max_prompt_bytes == tiny_lm.MAX_PROMPT_BYTES
    for name, least_most in {
        "max_tokens": (1, 256),
        "temperature_milli": (0, 5_000),
        "top_k": (1, 1_024),
    }.items():
        assert tiny_lm.INTEGER_FIELDS[name][1:] == least_most
    assert DIFFUSION.max_prompt_bytes == tiny_diffusion.MAX_PROMPT_BYTES
    assert (DIFFUSION.min_steps, DIFFUSION.max_steps) == (tiny_diffusion.MIN_STEPS, tiny_diffusion.MAX_STEPS)
    assert DIFFUSION.max_side == tiny_diffusion.MAX_PIXELS
    assert DIFFUSION.max_guidance_milli == tiny_diffusion.MAX_GUIDANCE_MILLI


def test_the_nonce_is_hashed_but_not_computed_with() -> None:
    one = normalise_request(LM, {"prompt": "hi"}, nonce=NONCE)
    two = normalise_request(LM, {"prompt": "hi"}, nonce="cd" * 16)
    assert request_hash_of(one) != request_hash_of(two)
    assert engine_request(one) == engine_request(two)
    assert prompt_hash_of(one) == prompt_hash_of(two)


@pytest.mark.parametrize(
    "change", [{"top_k": 0}, {"nonce": "short"}, {"nonce": 5}, {"extra": 1}, {"kind": "image"}]
)
def test_a_provider_takes_only_canonical_requests(change: dict[str, Any]) -> None:
    request = normalise_request(LM, {"prompt": "hi"}, nonce=NONCE)
    check_normalised(LM, request)
    with pytest.raises(Refused):
        check_normalised(LM, {**request, **change})


def test_a_request_with_a_field_left_out_is_not_canonical() -> None:
    request = normalise_request(LM, {"prompt": "hi"}, nonce=NONCE)
    del request["seed"]
    with pytest.raises(Refused, match="canonical"):
        check_normalised(LM, request)
