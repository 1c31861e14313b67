"""From an offer to a signed receipt and its attestation, and the check between the two.

The provider builds details and core from the offer it was sent; the hub checks the delivery against the same
offer and attests. Neither trusts a number that it can compute itself. docs/spec/receipts.md
"""

import math
import struct
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from aitbc.core.codec.canonical import jcs, unhex
from aitbc.core.codec.digests import details_hash_of, receipt_core_digest, receipt_id_of
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.crypto.merkle import list_root
from aitbc.core.crypto.schemes import verify
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.requests import prompt_hash_of
from aitbc.core.jobs.units import UNIT_TYPES, actual_units, price_of, profile_digest, profile_of
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.receipts import Attestation, HexHash, ReceiptCore, ReceiptDetails

MAX_OUTPUT_BYTES = 4 * 1024 * 1024
"""A 1024 × 1024 picture of noise is 3 MiB."""
MAX_NOTES = 8
MAX_NOTE_CHARACTERS = 1024
MAX_TRANSCRIPT = 4096
MAX_DETAILS_BYTES = 48 * 1024
"""With everything else that a result says this stays below the link's 64 KiB for a text frame."""

VERIFY_DELIVERY = "delivery"
"""What the hub checked before it attested: hashes, counts, units, price, form and signature."""

MEDIA_TYPES = {
    "chat": "text/plain; charset=utf-8",
    "image": "image/png",
    "embedding": "application/octet-stream",
}
"""Vectors are little-endian float32, one vector after the other, in the order of the texts."""

FLOAT_BYTES = 4

_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"


class PartProof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shows that a part's request is one of those that the lock's request_hash commits to."""

    index: int
    count: int
    path: Annotated[list[HexHash], msgspec.Meta(max_length=16)]


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attempt at one task, as the hub offers it to the provider that was drawn."""

    chain_id: str
    job_id: str
    lock: str
    task: int
    attempt: int
    ticket: str
    client: str
    provider: str
    hub: str
    kind: str
    model: str
    model_digest: str
    request: dict[str, int | str | list[str]]
    """Canonical, with the nonce."""
    request_hash: str
    candidates_hash: str
    units: int
    """The most that may be billed."""
    price_per_kilounit: int
    price: int
    """The most that may be asked."""
    deliver_by_ms: int
    claim_until_ms: int
    of_parts: PartProof | None = None
    """None: the lock is for this request alone, or for a session of many jobs."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a provider hands in beside the output's bytes."""

    details: ReceiptDetails
    core: ReceiptCore
    sig: str
    """Hexadecimal signature of the provider over `receipt_core_digest`."""
    media_type: str


class Computed(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine produced for an offer."""

    data: bytes
    counts: dict[str, int]
    transcript: list[bytes]
    notes: dict[str, str]
    started_ms: int
    finished_ms: int
    engine_ms: int
    partial: bool = False
    """The client stopped it; the counts are of what was made until then."""


def build_details(offer: Offer, computed: Computed) -> ReceiptDetails:
    """The full receipt of a finished attempt."""
    profile = profile_of(offer.model)
    units = actual_units(profile, offer.request, computed.counts)
    return ReceiptDetails(
        **_details_of_offer(offer),
        status="partial" if computed.partial else "complete",
        output_hash=hash_text(computed.data),
        transcript_root="sha256:" + list_root(computed.transcript).hex(),
        units=units,
        counts=computed.counts,
        notes=computed.notes,
        gpu_ms=computed.engine_ms,
        price=price_of(units, offer.price_per_kilounit),
        started_ms=computed.started_ms,
        finished_ms=computed.finished_ms,
    )


def build_core(offer: Offer, details: ReceiptDetails) -> ReceiptCore:
    """What the provider signs for those details."""
    return ReceiptCore(
        job_id=offer.job_id,
        client_addr=offer.client,
        miner_addr=offer.provider,
        compute_units=details.units,
        price=details.price,
        output_hash=details.output_hash,
        lock=offer.lock,
        task=offer.task,
        attempt=offer.attempt,
        nonce=details.nonce,
        details_hash=details_hash_of(details),
    )


def build_attestation(
    offer: Offer,
    core: ReceiptCore,
    *,
    genesis_hash: bytes,
    routed: Literal["random", "chosen", "calibration"] = "random",
) -> Attestation:
    """What the hub signs for a checked delivery. Only the work of a provider that was drawn may mint."""
    return Attestation(
        receipt_id=receipt_id_of(core, genesis_hash),
        lock=offer.lock,
        job_id=offer.job_id,
        hub=offer.hub,
        client=offer.client,
        provider=offer.provider,
        task=offer.task,
        attempt=offer.attempt,
        units=core.compute_units,
        price=core.price,
        output_hash=core.output_hash,
        routed=routed,
        candidates_hash=offer.candidates_hash,
    )


def check_delivery(
    offer: Offer,
    delivery: Delivery,
    data: bytes,
    *,
    provider_key: bytes,
    genesis_hash: bytes,
    stopped: bool = False,
) -> None:
    """Refuse a delivery that is not what was offered; in order: whose, signature, what, how much, form.

    `stopped`: the client asked to stop, so a part of a text is as good as the whole.
    """
    core, details = delivery.core, delivery.details
    _check_equal(JobReason.WRONG_TASK, _core_of_offer(offer), _fields(core))
    _check_signature(core, delivery.sig, provider_key, genesis_hash)
    if core.details_hash != details_hash_of(details):
        raise Refused(JobReason.DETAILS_MISMATCH, "details_hash is not the hash of the details")
    _check_equal(JobReason.DETAILS_MISMATCH, _details_of_offer(offer), _fields(details))
    if details.status == "partial" and not (stopped and offer.kind == "chat"):
        raise Refused(JobReason.DETAILS_MISMATCH, "status is 'partial', but nobody stopped this job")
    _check_output(offer, delivery, data)
    _check_billing(offer, core, details)
    if offer.kind == "chat":
        _check_tokens(details, data)
    _check_form(details)


def _core_of_offer(offer: Offer) -> dict[str, Any]:
    return {
        "job_id": offer.job_id,
        "client_addr": offer.client,
        "miner_addr": offer.provider,
        "lock": offer.lock,
        "task": offer.task,
        "attempt": offer.attempt,
        "nonce": offer.request["nonce"],
    }


def _details_of_offer(offer: Offer) -> dict[str, Any]:
    """Everything in the details that the offer already says."""
    return {
        "v": 1,
        "chain_id": offer.chain_id,
        "job_id": offer.job_id,
        "task": offer.task,
        "attempt": offer.attempt,
        "ticket": offer.ticket,
        "client": offer.client,
        "provider": offer.provider,
        "hub": offer.hub,
        "kind": offer.kind,
        "model": offer.model,
        "model_digest": offer.model_digest,
        "profile": profile_digest(profile_of(offer.model)),
        "seed": str(offer.request.get("seed", 0)),
        "request_hash": offer.request_hash,
        "prompt_hash": prompt_hash_of(offer.request),
        "candidates_hash": offer.candidates_hash,
        "unit_type": UNIT_TYPES[offer.kind],
        "pay": {"mode": "lock" if offer.lock else "calibration", "id": offer.lock},
        "verify": VERIFY_DELIVERY,
        "nonce": offer.request["nonce"],
    }


def _fields(record: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def _check_equal(reason: JobReason, expected: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if got[name] != value:
            raise Refused(reason, f"{name} is {got[name]!r}, the offer says {value!r}"[:300])


def _check_signature(core: ReceiptCore, sig: str, provider_key: bytes, genesis_hash: bytes) -> None:
    try:
        signature = unhex(sig)
    except Rejected as error:
        raise Refused(JobReason.FORGED_SIGNATURE, error.message) from None
    if not verify(provider_key, receipt_core_digest(core, genesis_hash), signature):
        raise Refused(JobReason.FORGED_SIGNATURE, f"the receipt is not signed by {core.miner_addr}")


def _check_output(offer: Offer, delivery: Delivery, data: bytes) -> None:
    if len(data) > MAX_OUTPUT_BYTES:
        raise Refused(JobReason.OUTPUT_TOO_LARGE, f"{len(data)} bytes; at most {MAX_OUTPUT_BYTES}")
    for where, named in (("core", delivery.core.output_hash), ("details", delivery.details.output_hash)):
        if named != hash_text(data):
            raise Refused(
                JobReason.OUTPUT_HASH_MISMATCH, f"output_hash of the {where} is not that of the bytes"
            )
    if delivery.media_type != MEDIA_TYPES[offer.kind]:
        raise Refused(JobReason.BAD_OUTPUT, f"{delivery.media_type[:80]!r} delivered for a {offer.kind} job")
    match offer.kind:
        case "image":
            _check_png(data, width=offer.request["width"], height=offer.request["height"])
        case "embedding":
            _check_vectors(data, texts=offer.request["input"], dimensions=offer.request["dimensions"])
        case _:
            _check_text(data)


def _check_png(data: bytes, *, width: Any, height: Any) -> None:
    if not data.startswith(_PNG) or len(data) < 33:
        raise Refused(JobReason.BAD_OUTPUT, "the output is no PNG picture")
    got = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if got != (width, height):
        raise Refused(
            JobReason.BAD_OUTPUT, f"a picture of {got[0]} x {got[1]} where {width} x {height} was asked"
        )


def _check_vectors(data: bytes, *, texts: Any, dimensions: Any) -> None:
    """One vector of numbers for each text; whether they are the right numbers, only a second run can say."""
    numbers = len(texts) * dimensions
    if len(data) != numbers * FLOAT_BYTES:
        raise Refused(
            JobReason.BAD_OUTPUT,
            f"{len(data)} bytes where {len(texts)} vectors of {dimensions} numbers were asked",
        )
    # float32 cannot overflow a sum of doubles, so the sum is finite only if every number is
    if not math.isfinite(sum(struct.unpack(f"<{numbers}f", data))):
        raise Refused(JobReason.BAD_OUTPUT, "a vector holds what is no number")


def _check_text(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        raise Refused(JobReason.BAD_OUTPUT, "the output is no UTF-8 text") from None


def _check_billing(offer: Offer, core: ReceiptCore, details: ReceiptDetails) -> None:
    if core.compute_units > offer.units:
        raise Refused(
            JobReason.UNITS_ABOVE_OFFER, f"{core.compute_units} units billed, {offer.units} offered"
        )
    units = actual_units(profile_of(offer.model), offer.request, details.counts)
    if not units == core.compute_units == details.units:
        raise Refused(
            JobReason.UNITS_MISMATCH,
            f"the counts make {units} units; core says {core.compute_units}, details {details.units}",
        )
    price = price_of(units, offer.price_per_kilounit)
    if not price == core.price == details.price:
        raise Refused(
            JobReason.PRICE_MISMATCH,
            f"{units} units cost {price}; core asks {core.price}, details {details.price}",
        )
    assert price <= offer.price, "the offer's price is that of its units"


def _check_tokens(details: ReceiptDetails, data: bytes) -> None:
    """No token is shorter than a byte, but for the one that ends the text."""
    if details.counts["out"] > len(data) + 1:
        raise Refused(
            JobReason.COUNTS_MISMATCH, f"{details.counts['out']} tokens billed for {len(data)} bytes of text"
        )


def _check_form(details: ReceiptDetails) -> None:
    """What the hub cannot compute is at least small and in order."""
    notes = details.notes
    longest = max([len(text) for pair in notes.items() for text in pair], default=0)
    if len(notes) > MAX_NOTES or longest > MAX_NOTE_CHARACTERS:
        raise Refused(
            JobReason.DETAILS_MISMATCH, f"at most {MAX_NOTES} notes of {MAX_NOTE_CHARACTERS} characters"
        )
    if not all(name.isascii() for name in notes):
        raise Refused(JobReason.DETAILS_MISMATCH, "notes have names in ASCII")
    if not 0 <= details.gpu_ms <= MAX_SIGNED or details.finished_ms < details.started_ms:
        raise Refused(JobReason.DETAILS_MISMATCH, "the attempt ends before it starts, or took no real time")
    size = len(jcs(details))
    if size > MAX_DETAILS_BYTES:
        raise Refused(
            JobReason.DETAILS_MISMATCH, f"details of {size} bytes; at most {MAX_DETAILS_BYTES} are kept"
        )
