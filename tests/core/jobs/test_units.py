"""Units are the same for everybody who counts, and what is billed never passes what was quoted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.requests import normalise_request
from aitbc.core.jobs.units import (
    PROFILES,
    actual_units,
    kind_of,
    price_of,
    profile_digest,
    profile_of,
    worst_case_units,
)
from aitbc.core.types.amounts import MAX_UNITS

NONCE = "0" * 32
LM, DIFFUSION, EMBED = profile_of("tiny-lm"), profile_of("tiny-diffusion"), profile_of("tiny-embed")


def chat(prompt: str = "hi", **fields: int) -> dict[str, object]:
    return normalise_request(LM, {"prompt": prompt, **fields}, nonce=NONCE)


def image(**fields: int) -> dict[str, object]:
    return normalise_request(DIFFUSION, {"prompt": "a circle", **fields}, nonce=NONCE)


def image_counts(request: dict[str, object], **changes: int) -> dict[str, int]:
    sizes = {name: int(str(request[name])) for name in ("steps", "width", "height")}
    return {**sizes, "native_width": 64, "native_height": 64, **changes}


@pytest.mark.parametrize(
    ("counts", "units"),
    [
        ({"in": 0, "out": 1}, 5),
        ({"in": 1, "out": 0}, 2),  # 5/4 rounded up
        ({"in": 4, "out": 0}, 5),
        ({"in": 0, "out": 0}, 1),  # nothing still costs the least receipt
        ({"in": 8, "out": 100}, 510),
    ],
)
def test_chat_units(counts: dict[str, int], units: int) -> None:
    assert actual_units(LM, chat("x" * 100), counts) == units


@pytest.mark.parametrize(
    ("fields", "units"),
    [
        ({}, 1_000),  # 20 steps of 64 x 64 are one second of the reference card
        ({"steps": 4}, 200),
        ({"steps": 50}, 2_500),
        ({"width": 512, "height": 512}, 1_000),  # the upscale is free
    ],
)
def test_image_units(fields: dict[str, int], units: int) -> None:
    request = image(**fields)
    assert worst_case_units(DIFFUSION, request) == units
    assert actual_units(DIFFUSION, request, image_counts(request)) == units


@pytest.mark.parametrize(
    ("counts", "word"),
    [
        ({"in": 1}, "exactly"),
        ({"in": 1, "out": 1, "more": 1}, "exactly"),
        ({"in": -1, "out": 1}, "in is -1"),
        ({"in": 11, "out": 1}, "in is 11"),  # two bytes of prompt and eight tokens of overhead
        ({"in": 1, "out": 129}, "out is 129"),
        ({"in": 1, "out": -5}, "out is -5"),
    ],
)
def test_impossible_counts_are_refused(counts: dict[str, int], word: str) -> None:
    with pytest.raises(Refused, match=word) as refused:
        actual_units(LM, chat("hi"), counts)
    assert refused.value.reason == JobReason.COUNTS_MISMATCH


@pytest.mark.parametrize("change", [{"steps": 19}, {"width": 128}, {"native_width": 128}])
def test_a_picture_is_billed_at_exactly_what_was_asked(change: dict[str, int]) -> None:
    request = image()
    with pytest.raises(Refused):
        actual_units(DIFFUSION, request, image_counts(request, **change))


@pytest.mark.parametrize(("tokens", "units"), [(0, 1), (1, 1), (20, 1), (21, 2), (30, 2)])
def test_embedding_units(tokens: int, units: int) -> None:
    request = normalise_request(EMBED, {"input": ["x" * 20, "é" * 5]}, nonce=NONCE)
    assert worst_case_units(EMBED, request) == 2
    assert actual_units(EMBED, request, {"in": tokens, "inputs": 2}) == units


@pytest.mark.parametrize(
    ("counts", "word"),
    [
        ({"in": 31, "inputs": 2}, "in is 31"),
        ({"in": -1, "inputs": 2}, "in is -1"),
        ({"in": 1, "inputs": 1}, "inputs is 1"),
        ({"in": 1}, "exactly in, inputs"),
    ],
)
def test_impossible_counts_of_an_embedding_are_refused(counts: dict[str, int], word: str) -> None:
    request = normalise_request(EMBED, {"input": ["x" * 20, "é" * 5]}, nonce=NONCE)
    with pytest.raises(Refused, match=word) as refused:
        actual_units(EMBED, request, counts)
    assert refused.value.reason == JobReason.COUNTS_MISMATCH


@given(
    prompt=st.text(min_size=1, max_size=200).filter(lambda text: text.isprintable()),
    max_tokens=st.integers(1, 256),
    data=st.data(),
)
def test_what_is_billed_never_passes_the_quote(prompt: str, max_tokens: int, data: st.DataObject) -> None:
    request = chat(prompt, max_tokens=max_tokens)
    most = worst_case_units(LM, request)
    counts = {
        "in": data.draw(st.integers(0, len(prompt.encode()) + 8)),
        "out": data.draw(st.integers(0, max_tokens)),
    }
    units = actual_units(LM, request, counts)
    assert 1 <= units <= most <= MAX_UNITS
    assert price_of(units, 1_000_000) <= price_of(most, 1_000_000)


@pytest.mark.parametrize(
    ("units", "per_kilounit", "price"),
    [(1_000, 1_000_000, 1_000_000), (1, 1, 1), (1, 0, 0), (1_001, 1, 2), (999, 10, 10)],
)
def test_prices_round_up(units: int, per_kilounit: int, price: int) -> None:
    assert price_of(units, per_kilounit) == price


def test_every_profile_has_a_digest_of_its_own() -> None:
    assert len({profile_digest(profile) for profile in PROFILES.values()}) == len(PROFILES)
    # Published: a receipt from last year must find its formula.
    assert profile_digest(LM) == "sha256:0702644ba264d16cdd6b7eaf84095a2d1e045c4dddff3c46e3b457f06e9dcf4a"
    assert (
        profile_digest(DIFFUSION) == "sha256:bf8abd086e0233fe30bc2c20261e0ec512c27a2d1dad22850928ec1bc3c7a775"
    )
    assert {kind_of(profile) for profile in PROFILES.values()} == {"chat", "image", "embedding"}


def test_a_model_without_a_formula_cannot_be_billed() -> None:
    with pytest.raises(Refused) as refused:
        profile_of("gpt-17")
    assert refused.value.reason == JobReason.UNKNOWN_MODEL
