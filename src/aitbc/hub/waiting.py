"""Why a job waits: what the matcher would say if somebody asked it. docs/spec/hub.md"""

from typing import TYPE_CHECKING

import msgspec

from aitbc.core.jobs.lifecycle import State
from aitbc.hub.records import JobRecord

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub
    from aitbc.hub.jobs import Job
    from aitbc.hub.providers import ProviderSession


class JobWaits(msgspec.Struct, frozen=True):
    job_id: str
    state: str
    waiting: bool
    reason: str
    """`not_waiting`, `no_provider`, `too_expensive`, `all_busy`, `all_failed` or `being_matched`."""
    message: str
    ahead: int
    """Jobs for the same model that are served before this one."""
    providers: int
    """Connected and registered for the model."""
    free_slots: int


def why_waiting(hub: "Hub", job: "Job | None", record: JobRecord) -> JobWaits:
    """The first of the filters, in the order of the reasons, that leaves nobody."""
    quote, state = record.quote, job.state if job else record.state
    serving = hub.directory.serving(quote.model)
    if state != State.QUEUED or job is None:
        reason, message = "not_waiting", f"the job is {state}"
    else:
        reason, message = _filter(job, serving)
    return JobWaits(
        job_id=quote.job_id,
        state=state,
        waiting=reason != "not_waiting",
        reason=reason,
        message=message,
        ahead=_ahead(hub, quote.job_id, quote.model),
        providers=len(serving),
        free_slots=sum([session.free_slots for session in serving]),
    )


def _filter(job: "Job", serving: list["ProviderSession"]) -> tuple[str, str]:
    model, most = job.quote.model, job.quote.price_per_kilounit
    if not serving:
        return "no_provider", f"no connected and registered provider serves {model}"
    cheap = [session for session in serving if session.models[model].price_per_kilounit <= most]
    if not cheap:
        least = min([session.models[model].price_per_kilounit for session in serving])
        return (
            "too_expensive",
            f"the quote pays {most} for 1,000 units; the cheapest provider asks {least} now",
        )
    left = [session for session in cheap if session.address not in job.avoid]
    if not left:
        return "all_failed", f"each of {len(cheap)} providers has failed at this job or refused it"
    if not any(session.free_slots > 0 for session in left):
        return "all_busy", f"all places of {len(left)} providers are taken"
    return "being_matched", "a provider is free; the job is about to be given to it"


def _ahead(hub: "Hub", job_id: str, model: str) -> int:
    jobs = [want.job_id for want in hub.matcher.waiting() if want.model == model]
    return jobs.index(job_id) if job_id in jobs else 0
