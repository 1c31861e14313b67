"""A delivery is checked against its offer: one honest provider, and every single lie of a dishonest one."""

import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aitbc.core.codec.digests import details_hash_of, receipt_core_digest, receipt_id_of
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs.draw import candidates_hash, ticket_of
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import (
    Computed,
    Delivery,
    Offer,
    build_attestation,
    build_core,
    build_details,
    check_delivery,
)
from aitbc.core.jobs.requests import normalise_request, request_hash_of
from aitbc.core.jobs.units import price_of, profile_of, worst_case_units
from hub.odd_engines import png_of
from support.people import ALICE, EVE, HUB, PROVIDER

GENESIS_HASH = bytes(range(32))
LOCK = "ab" * 32
STORY = "Once there was a test. ☃".encode()

replace = msgspec.structs.replace


def offer_of(model: str = "tiny-lm", **fields: Any) -> Offer:
    profile = profile_of(model)
    asked = {} if "input" in fields else {"prompt": "a test"}
    request = normalise_request(profile, {**asked, **fields}, nonce="0f" * 16)
    units = worst_case_units(profile, request)
    return Offer(
        chain_id="ait-test",
        job_id="job_1",
        lock=LOCK,
        task=0,
        attempt=1,
        ticket=ticket_of(lock=LOCK, task=0, attempt=1),
        client=ALICE.address,
        provider=PROVIDER.address,
        hub=HUB.address,
        kind=request["kind"],
        model=model,
        model_digest=hash_text(b"weights"),
        request=request,
        request_hash=request_hash_of(request),
        candidates_hash=candidates_hash([]),
        units=units,
        price_per_kilounit=1_000_000,
        price=price_of(units, 1_000_000),
        deliver_by_ms=2_000,
        claim_until_ms=3_000,
    )


def computed_of(data: bytes = STORY, **fields: Any) -> Computed:
    defaults: dict[str, Any] = {
        "counts": {"in": 2, "out": 7},
        "transcript": [bytes(32)],
        "notes": {},
        "started_ms": 1_000,
        "finished_ms": 1_500,
        "engine_ms": 400,
    }
    return Computed(data=data, **{**defaults, **fields})


OFFER = offer_of()


def signed(
    details: Any, core: Any, *, by: Any = PROVIDER, media_type: str = "text/plain; charset=utf-8"
) -> Delivery:
    sig = by.sign(receipt_core_digest(core, GENESIS_HASH)).hex()
    return Delivery(details=details, core=core, sig=sig, media_type=media_type)


def honest(offer: Offer = OFFER, computed: Computed | None = None, **options: Any) -> Delivery:
    details = build_details(offer, computed or computed_of())
    return signed(details, build_core(offer, details), **options)


def relabelled(**changes: Any) -> Delivery:
    """Details changed, everything else made consistent and signed."""
    details = replace(honest().details, **changes)
    return signed(details, build_core(OFFER, details))


def recored(**changes: Any) -> Delivery:
    made = honest()
    return signed(made.details, replace(made.core, **changes))


def check(delivery: Delivery, data: bytes = STORY, offer: Offer = OFFER) -> None:
    check_delivery(offer, delivery, data, provider_key=PROVIDER.auth_key, genesis_hash=GENESIS_HASH)


def test_an_honest_delivery_stands() -> None:
    delivery = honest()
    check(delivery)
    assert (delivery.core.compute_units, delivery.core.price) == (38, 38_000)
    attestation = build_attestation(OFFER, delivery.core, genesis_hash=GENESIS_HASH)
    assert attestation.receipt_id == receipt_id_of(delivery.core, GENESIS_HASH)
    assert (attestation.units, attestation.price, attestation.routed) == (38, 38_000, "random")
    assert attestation.candidates_hash == OFFER.candidates_hash


LIES: list[tuple[str, Callable[[], Delivery], JobReason]] = [
    ("another job", lambda: recored(job_id="job_2"), JobReason.WRONG_TASK),
    ("another client", lambda: recored(client_addr=EVE.address), JobReason.WRONG_TASK),
    ("another provider's address", lambda: recored(miner_addr=EVE.address), JobReason.WRONG_TASK),
    ("another lock", lambda: recored(lock="cd" * 32), JobReason.WRONG_TASK),
    ("another attempt", lambda: recored(attempt=0), JobReason.WRONG_TASK),
    ("an old nonce", lambda: recored(nonce="00" * 16), JobReason.WRONG_TASK),
    ("signed by another", lambda: honest(by=EVE), JobReason.FORGED_SIGNATURE),
    (
        "signature in capitals",
        lambda: replace(honest(), sig=honest().sig.upper()),
        JobReason.FORGED_SIGNATURE,
    ),
    ("no signature", lambda: replace(honest(), sig=""), JobReason.FORGED_SIGNATURE),
    (
        "details of another receipt",
        lambda: recored(details_hash=hash_text(b"other")),
        JobReason.DETAILS_MISMATCH,
    ),
    ("cheaper model named", lambda: relabelled(model_digest=hash_text(b"cheap")), JobReason.DETAILS_MISMATCH),
    ("another request", lambda: relabelled(request_hash=hash_text(b"other")), JobReason.DETAILS_MISMATCH),
    ("another draw", lambda: relabelled(candidates_hash=hash_text(b"mine")), JobReason.DETAILS_MISMATCH),
    ("only a part", lambda: relabelled(status="partial"), JobReason.DETAILS_MISMATCH),
    ("ends before it starts", lambda: relabelled(finished_ms=999), JobReason.DETAILS_MISMATCH),
    ("negative time", lambda: relabelled(gpu_ms=-1), JobReason.DETAILS_MISMATCH),
    ("a novel in the notes", lambda: relabelled(notes={"n": "x" * 2_000}), JobReason.DETAILS_MISMATCH),
    ("nine notes", lambda: relabelled(notes={str(n): "" for n in range(9)}), JobReason.DETAILS_MISMATCH),
    ("wrong output hash", lambda: recored(output_hash=hash_text(b"other")), JobReason.OUTPUT_HASH_MISMATCH),
    (
        "wrong hash in the details",
        lambda: relabelled(output_hash=hash_text(b"x")),
        JobReason.OUTPUT_HASH_MISMATCH,
    ),
    ("another media type", lambda: honest(media_type="text/html"), JobReason.BAD_OUTPUT),
    ("more units than offered", lambda: recored(compute_units=10**6), JobReason.UNITS_ABOVE_OFFER),
    ("more units than counted", lambda: recored(compute_units=39), JobReason.UNITS_MISMATCH),
    ("fewer units in the details", lambda: relabelled(units=1), JobReason.UNITS_MISMATCH),
    (
        "more tokens than asked for",
        lambda: relabelled(counts={"in": 2, "out": 500}),
        JobReason.COUNTS_MISMATCH,
    ),
    ("counts of another kind", lambda: relabelled(counts={"steps": 20}), JobReason.COUNTS_MISMATCH),
    ("a higher price", lambda: recored(price=39_000), JobReason.PRICE_MISMATCH),
    ("a price for friends", lambda: recored(price=0), JobReason.PRICE_MISMATCH),
]


@pytest.mark.parametrize(
    ("lie", "reason"), [(lie, reason) for _, lie, reason in LIES], ids=[name for name, _, _ in LIES]
)
def test_a_lie_is_refused_by_its_name(lie: Callable[[], Delivery], reason: JobReason) -> None:
    with pytest.raises(Refused) as refused:
        check(lie())
    assert refused.value.reason == reason


def test_other_bytes_than_signed_are_refused() -> None:
    with pytest.raises(Refused) as refused:
        check(honest(), data=STORY + b"!")
    assert refused.value.reason == JobReason.OUTPUT_HASH_MISMATCH


def test_bytes_that_are_no_text_are_refused() -> None:
    data = b"\xff\xfe"
    with pytest.raises(Refused) as refused:
        check(honest(computed=computed_of(data)), data=data)
    assert refused.value.reason == JobReason.BAD_OUTPUT


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png_of(64, 64, 1), ""),
        (png_of(128, 128, 1), "128 x 128"),
        (b"GIF89a", "no PNG"),
        (png_of(64, 64, 1)[:30], "no PNG"),
    ],
)
def test_a_picture_has_the_size_that_was_asked(data: bytes, words: str) -> None:
    offer = offer_of("tiny-diffusion")
    counts = {"steps": 20, "width": 64, "height": 64, "native_width": 64, "native_height": 64}
    delivery = honest(offer, computed_of(data, counts=counts), media_type="image/png")
    if not words:
        check(delivery, data, offer)
        return
    with pytest.raises(Refused, match=words) as refused:
        check(delivery, data, offer)
    assert refused.value.reason == JobReason.BAD_OUTPUT


def test_the_core_commits_to_the_details() -> None:
    delivery = honest()
    assert delivery.core.details_hash == details_hash_of(delivery.details)
    assert delivery.details.pay == {"mode": "lock", "id": LOCK}
    assert delivery.details.seed == "0"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack("<32f", *[0.25] * 32), ""),
        (struct.pack("<31f", *[0.25] * 31), "124 bytes where 2 vectors of 16"),
        (struct.pack("<32f", *[0.25] * 31, float("nan")), "no number"),
        (struct.pack("<32f", float("inf"), float("-inf"), *[0.25] * 30), "no number"),
        (struct.pack("<32f", *[3.4e38] * 32), ""),
    ],
)
def test_an_embedding_is_a_vector_of_numbers_for_each_text(data: bytes, words: str) -> None:
    offer = offer_of("tiny-embed", input=["a test", "another"], dimensions=16)
    computed = computed_of(data, counts={"in": 3, "inputs": 2})
    delivery = honest(offer, computed, media_type="application/octet-stream")
    assert (delivery.details.seed, delivery.details.unit_type) == ("0", "tokens")
    if not words:
        check(delivery, data, offer)
        return
    with pytest.raises(Refused, match=words) as refused:
        check(delivery, data, offer)
    assert refused.value.reason == JobReason.BAD_OUTPUT
