"""A provider believes no hub: every number in an offer is computed again, and the money is looked for on the chain."""

import asyncio
from typing import Any

import msgspec
import pytest

from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs import link
from aitbc.core.jobs.draw import candidates_hash, ticket_of
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import Offer
from aitbc.core.jobs.requests import normalise_request, request_hash_of
from aitbc.core.jobs.units import price_of, profile_of, worst_case_units
from aitbc.ports import ModelCard
from aitbc.provider.chain import check_lock
from aitbc.provider.offers import check_offer
from support.people import ALICE, EVE, HUB, PROVIDER

DIGEST = hash_text(b"weights")
CARDS = {"tiny-lm": ModelCard(model="tiny-lm", kind="chat", digest=DIGEST, limits={})}
PROFILE = profile_of("tiny-lm")
REQUEST = normalise_request(PROFILE, {"prompt": "hi"}, nonce="0a" * 16)
UNITS = worst_case_units(PROFILE, REQUEST)
OFFER = Offer(
    chain_id="ait-test",
    job_id="job_1",
    lock="ab" * 32,
    task=0,
    attempt=0,
    ticket=ticket_of(lock="ab" * 32, task=0, attempt=0),
    client=ALICE.address,
    provider=PROVIDER.address,
    hub=HUB.address,
    kind="chat",
    model="tiny-lm",
    model_digest=DIGEST,
    request=REQUEST,
    request_hash=request_hash_of(REQUEST),
    candidates_hash=candidates_hash([]),
    units=UNITS,
    price_per_kilounit=1_000_000,
    price=price_of(UNITS, 1_000_000),
    deliver_by_ms=2_000,
    claim_until_ms=3_000,
)


def check(now_ms: int = 1_000, **changes: Any) -> None:
    offer = msgspec.structs.replace(OFFER, **changes)
    check_offer(
        link.Task(task_id=link.task_id_of(OFFER), lease_ms=1_000, offer=offer),
        provider=PROVIDER.address,
        hub=HUB.address,
        chain_id="ait-test",
        cards=CARDS,
        price_per_kilounit=1_000_000,
        now_ms=now_ms,
    )


def test_a_good_offer_is_taken() -> None:
    check()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"provider": EVE.address}, JobReason.WRONG_TASK),
        ({"hub": EVE.address}, JobReason.WRONG_TASK),
        ({"chain_id": "ait-other"}, JobReason.WRONG_TASK),
        ({"attempt": 1}, JobReason.WRONG_TASK),
        ({"model": "tiny-diffusion"}, JobReason.UNKNOWN_MODEL),
        ({"model_digest": hash_text(b"other")}, JobReason.UNKNOWN_MODEL),
        ({"kind": "image"}, JobReason.UNKNOWN_KIND),
        ({"request": {**REQUEST, "max_tokens": 10**6}}, JobReason.BAD_REQUEST),
        ({"request": {**REQUEST, "max_tokens": 1}}, JobReason.BAD_REQUEST),
        ({"request_hash": hash_text(b"other")}, JobReason.BAD_REQUEST),
        ({"price_per_kilounit": 999_999}, JobReason.PRICE_TOO_LOW),
        ({"units": UNITS - 1}, JobReason.UNITS_MISMATCH),
        ({"price": OFFER.price - 1}, JobReason.UNITS_MISMATCH),
        ({"deliver_by_ms": 1_000}, JobReason.TOO_LATE),
        ({"claim_until_ms": 1_999}, JobReason.TOO_LATE),
    ],
)
def test_a_wrong_offer_is_declined_by_name(changes: dict[str, Any], reason: JobReason) -> None:
    with pytest.raises(Refused) as refused:
        check(**changes)
    assert refused.value.reason == reason


LOCK = {
    "client": OFFER.client,
    "hub": OFFER.hub,
    "job_id": OFFER.job_id,
    "request_hash": OFFER.request_hash,
    "claim_until_ms": OFFER.claim_until_ms,
    "status": "open",
    "amount": OFFER.price,
    "paid": 0,
}


class OneLock:
    """A chain that knows one lock, or none."""

    def __init__(self, lock: dict[str, Any] | None) -> None:
        self._lock = lock

    async def lock(self, _lock_id: str) -> dict[str, Any] | None:
        return self._lock

    async def transaction(self, _tx_id: str, **_: Any) -> dict[str, Any]:
        return {"status": "pending"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        (None, JobReason.LOCK_NOT_FINAL),
        ({"client": EVE.address}, JobReason.LOCK_MISMATCH),
        ({"hub": EVE.address}, JobReason.LOCK_MISMATCH),
        ({"status": "refunded"}, JobReason.LOCK_MISMATCH),
        ({"request_hash": hash_text(b"other")}, JobReason.LOCK_MISMATCH),
        ({"claim_until_ms": 2_999}, JobReason.LOCK_MISMATCH),
        ({"amount": OFFER.price - 1}, JobReason.LOCK_MISMATCH),
        ({"paid": 1}, JobReason.LOCK_MISMATCH),
    ],
)
def test_no_work_without_money_set_aside(changes: dict[str, Any] | None, reason: JobReason | None) -> None:
    chain: Any = OneLock(None if changes is None else {**LOCK, **changes})
    if reason is None:
        asyncio.run(check_lock(chain, OFFER))
        return
    with pytest.raises(Refused) as refused:
        asyncio.run(check_lock(chain, OFFER))
    assert refused.value.reason == reason
