"""Quotes, reservations, attempts and deliveries for stories about the store."""

from typing import Any

from aitbc.core.jobs.lifecycle import State
from aitbc.core.jobs.receipts import Computed, Delivery, Offer, build_attestation, build_core, build_details
from aitbc.core.jobs.requests import normalise_request, request_hash_of
from aitbc.core.jobs.units import price_of, profile_of, worst_case_units
from aitbc.core.types.receipts import SignedAttestation
from aitbc.hub.records import (
    AttemptRecord,
    NewAttempt,
    NewDelivery,
    NewReservation,
    NewTask,
    Quote,
    ReceiptEntry,
    TaskChange,
)
from aitbc.hub.store import JobStore
from support.people import ALICE, HUB, PROVIDER

NOW = 1_760_000_000_000
MODEL = "tiny-lm"


def quote(name: str, *, parts: int = 1, deliver_by_ms: int = NOW + 60_000) -> Quote:
    requests = [
        normalise_request(profile_of(MODEL), {"prompt": f"{name} {number}"}, nonce=f"{number:032x}")
        for number in range(parts)
    ]
    units = sum([worst_case_units(profile_of(MODEL), request) for request in requests])
    return Quote(
        job_id=name,
        token_hash="",
        client=ALICE.address,
        kind="chat",
        model=MODEL,
        request=requests[0],
        request_hash=request_hash_of(requests[0]),
        units=units,
        price_per_kilounit=1_000,
        price=price_of(units, 1_000),
        deliver_by_ms=deliver_by_ms,
        claim_until_ms=deliver_by_ms + 60_000,
        expires_ms=NOW + 30_000,
        created_ms=NOW,
        parts=requests if parts > 1 else [],
    )


def lock_of(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def reservation(
    made: Quote, *, owner: str = "", vfinish: int = 0, job_class: int = 1, cap: str = MODEL, **changes: Any
) -> NewReservation:
    tasks = [
        NewTask(part=part, cap=cap, job_class=job_class, vfinish=vfinish + part, units=10)
        for part in range(len(made.requests))
    ]
    fields: dict[str, Any] = {
        "job_id": made.job_id,
        "lock": lock_of(made.job_id),
        "first_task": 0,
        "randomness": bytes(32),
        "tasks": tasks,
        "deliver_by_ms": made.deliver_by_ms,
        "owner": owner,
        "at_ms": NOW,
    }
    return NewReservation(**{**fields, **changes})


def queued(
    store: JobStore, name: str, *, parts: int = 1, deliver_by_ms: int = NOW + 60_000, **more: Any
) -> Quote:
    """A job in the queue."""
    made = quote(name, parts=parts, deliver_by_ms=deliver_by_ms)
    store.add_quote(made)
    assert store.reserve([reservation(made, **more)]) == [True]
    return made


def offer(made: Quote, *, part: int = 0, attempt: int = 0) -> Offer:
    request = made.requests[part]
    units = worst_case_units(profile_of(MODEL), request)
    return Offer(
        chain_id="test",
        job_id=made.job_id,
        lock=lock_of(made.job_id),
        task=part,
        attempt=attempt,
        ticket="sha256:" + "00" * 32,
        client=made.client,
        provider=PROVIDER.address,
        hub=HUB.address,
        kind=made.kind,
        model=MODEL,
        model_digest="sha256:" + "11" * 32,
        request=request,
        request_hash=request_hash_of(request),
        candidates_hash="sha256:" + "22" * 32,
        units=units,
        price_per_kilounit=1_000,
        price=price_of(units, 1_000),
        deliver_by_ms=made.deliver_by_ms,
        claim_until_ms=made.claim_until_ms,
    )


def attempt(made: Quote, owner: str, *, part: int = 0, number: int = 0, hedge: bool = False) -> NewAttempt:
    record = AttemptRecord(
        offer=offer(made, part=part, attempt=number), part=part, table=[], randomness=bytes(32), reason=""
    )
    return NewAttempt(record=record, owner=owner, at_ms=NOW, hedge=hedge)


def change(made: Quote, owner: str, state: State, *, part: int = 0, **more: Any) -> TaskChange:
    job_state = None if made.parts else state
    return TaskChange(
        job_id=made.job_id, part=part, owner=owner, state=state, job_state=job_state, at_ms=NOW, **more
    )


def delivery(
    made: Quote, owner: str, *, part: int = 0, number: int = 0, data: bytes = b" words"
) -> NewDelivery:
    computed = Computed(
        data=data,
        counts={"in": 1, "out": 2},
        transcript=[],
        notes={},
        started_ms=NOW,
        finished_ms=NOW,
        engine_ms=1,
    )
    sent = offer(made, part=part, attempt=number)
    details = build_details(sent, computed)
    core = build_core(sent, details)
    attestation = build_attestation(sent, core, genesis_hash=bytes(32))
    entry = ReceiptEntry(
        receipt_id=attestation.receipt_id,
        job_id=made.job_id,
        part=part,
        provider=sent.provider,
        provider_pubkey="",
        delivery=Delivery(details=details, core=core, sig="", media_type="text/plain"),
        signed=SignedAttestation(attestation=attestation, sig=""),
        claim_until_ms=made.claim_until_ms,
        claim_tx="",
        state="attested",
    )
    return NewDelivery(
        entry=entry,
        data=data,
        owner=owner,
        attempt=number,
        job_state=None if made.parts else State.DELIVERED,
        at_ms=NOW,
    )
