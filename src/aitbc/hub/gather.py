"""What became of a whole job: its parts in order, one receipt for all of them, and why it waits while it does."""

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from aitbc.core.jobs.lifecycle import State
from aitbc.core.jobs.matching import Ask, Explanation, explain
from aitbc.core.jobs.splitting import ParentReceipt, PartReceipt, parent_digest, parent_receipt
from aitbc.core.jobs.units import price_of, profile_of, worst_case_units
from aitbc.hub.records import JobRecord, ReceiptEntry

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub


class Gathered(NamedTuple):
    """Everything that was delivered of a job."""

    entries: list[ReceiptEntry]
    """In the order of the parts; those that were not delivered are missing."""
    parent: ParentReceipt
    sig: str
    """The hub's, in hexadecimal, over `parent_digest`."""


async def gather(hub: "Hub", record: JobRecord) -> Gathered | None:
    """The parts so far with their parent receipt; None while nothing was delivered."""
    entries = await hub.db(hub.store.receipts_of_job, record.quote.job_id)
    if not entries:
        return None
    parent = parent_receipt(
        job_id=record.quote.job_id,
        lock=record.lock,
        client=record.quote.client,
        hub=hub.signer.address,
        parts=len(record.quote.requests),
        delivered=[_line(entry) for entry in entries],
    )
    sig = hub.signer.sign(parent_digest(parent, hub.genesis_hash)).hex()
    return Gathered(entries, parent, sig)


def _line(entry: ReceiptEntry) -> PartReceipt:
    attested = entry.signed.attestation
    return PartReceipt(
        part=entry.part,
        receipt_id=entry.receipt_id,
        provider=entry.provider,
        units=attested.units,
        price=attested.price,
        output_hash=attested.output_hash,
    )


class WhyWaiting(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to "why is my job waiting"."""

    job_id: str
    state: str
    waiting_parts: int
    parts_ahead: int
    """Of its class, for the same model, whose turn comes first."""
    units_ahead: int
    who: Explanation
    """Who could do it, who was removed by what, and how long it will be."""
    reason: str
    """Why its last attempt failed; empty before one did."""
    message: str


async def why_waiting(hub: "Hub", record: JobRecord) -> WhyWaiting:
    """Answers from what is on disk and who is connected to this process."""
    quote = record.quote
    tasks = await hub.db(hub.store.tasks, quote.job_id)
    ahead = await hub.db(hub.store.ahead_of, quote.job_id)
    waiting = [task for task in tasks if task.state == State.QUEUED]
    units = worst_case_units(profile_of(quote.model), quote.requests[0])
    ask = Ask(
        model=quote.model,
        price_per_kilounit=quote.price_per_kilounit,
        client=quote.client,
        wishes=quote.wishes,
        used=await _used(hub, record),
        price=price_of(units, quote.price_per_kilounit),
    )
    units_ahead = ahead[0].units if ahead else 0
    return WhyWaiting(
        job_id=quote.job_id,
        state=record.state,
        waiting_parts=len(waiting),
        parts_ahead=ahead[0].parts if ahead else 0,
        units_ahead=units_ahead,
        who=explain(
            ask,
            hub.directory.facts(quote.model),
            units_ahead=units_ahead,
            units=units,
            units_per_s=hub.speeds.units_per_s(quote.model),
        ),
        reason=record.reason,
        message=record.message,
    )


async def _used(hub: "Hub", record: JobRecord) -> frozenset[str]:
    """Who has had an attempt already and failed."""
    if not record.attempts:
        return frozenset()
    attempts = await hub.db(hub.store.attempts, record.quote.job_id)
    return frozenset([attempt.offer.provider for attempt in attempts if attempt.reason])
