"""What became of a whole job: its parts in order, one receipt for all of them, and why it waits while it does."""

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from aitbc.core.jobs.lifecycle import State
from aitbc.core.jobs.matching import Ask, Explanation, Filter, explain
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
    waiting: bool
    reason: str
    """`not_waiting`, `no_provider`, `too_expensive`, `all_failed`, `infeasible`, `all_busy` or `being_matched`."""
    message: str
    ahead: int
    """Parts of its class, for the same model, whose turn comes first."""
    units_ahead: int
    waiting_parts: int
    providers: int
    """Connected and registered for the model."""
    free_slots: int
    who: Explanation
    """Who could do it, who was removed by what, and how long it will be."""
    failed_before: str
    """Why its last attempt failed; empty before one did."""


async def why_waiting(hub: "Hub", record: JobRecord) -> WhyWaiting:
    """Answers from what is on disk and who is connected to this process. Its reason is the first filter, in the order
    of the reasons, that leaves nobody."""
    quote, serving = record.quote, hub.directory.serving(record.quote.model)
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
    who = explain(
        ask,
        hub.directory.facts(quote.model),
        units_ahead=units_ahead,
        units=units,
        units_per_s=hub.speeds.units_per_s(quote.model),
    )
    reason, message = _filter(ask, who) if waiting else ("not_waiting", f"the job is {record.state}")
    return WhyWaiting(
        job_id=quote.job_id,
        state=record.state,
        waiting=bool(waiting),
        reason=reason,
        message=message,
        ahead=ahead[0].parts if ahead else 0,
        units_ahead=units_ahead,
        waiting_parts=len(waiting),
        providers=len(serving),
        free_slots=sum([session.free_slots for session in serving]),
        who=who,
        failed_before=f"{record.reason}: {record.message}" if record.reason else "",
    )


def _filter(ask: Ask, who: Explanation) -> tuple[str, str]:
    removed = Counter(who.removed)
    serving = who.connected - removed[Filter.MODEL]
    named = ", ".join([f"{name} {count}" for name, count in who.removed.items()])
    if not serving:
        return "no_provider", f"no connected and registered provider serves {ask.model}"
    if who.free:
        return "being_matched", "a provider is free; the job is about to be given to it"
    if who.able:
        return "all_busy", f"all places of {who.able} providers are taken"
    if removed[Filter.PRICE] == serving:
        return (
            "too_expensive",
            f"the quote pays {ask.price_per_kilounit} for 1,000 units; all of {serving} providers ask more",
        )
    if removed[Filter.USED_BEFORE] + removed[Filter.PRICE] == serving:
        return (
            "all_failed",
            f"each provider that is cheap enough has failed at this job or refused it ({named})",
        )
    return "infeasible", f"none of {serving} providers may do it (removed by {named})"


async def _used(hub: "Hub", record: JobRecord) -> frozenset[str]:
    """Who has had an attempt already and failed."""
    if not record.attempts:
        return frozenset()
    attempts = await hub.db(hub.store.attempts, record.quote.job_id)
    return frozenset([attempt.offer.provider for attempt in attempts if attempt.reason])
