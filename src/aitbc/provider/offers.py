"""Is an offer one that this provider wants, and is every number in it right? The hub's word is not enough."""

from aitbc.core.jobs import link
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import Offer
from aitbc.core.jobs.requests import check_normalised, request_hash_of
from aitbc.core.jobs.units import kind_of, price_of, profile_of, worst_case_units
from aitbc.ports import ModelCard


def check_offer(
    task: link.Task,
    *,
    provider: str,
    hub: str,
    chain_id: str,
    cards: dict[str, ModelCard],
    price_per_kilounit: int,
    now_ms: int,
) -> None:
    """Refuse an offer that is for somebody else, wrong in itself, or paid below our price; what has no lock is
    looked at by `check_calibration`."""
    offer = task.offer
    _check_parties(task, provider=provider, hub=hub, chain_id=chain_id)
    card = cards.get(offer.model)
    if card is None or card.digest != offer.model_digest:
        raise Refused(JobReason.UNKNOWN_MODEL, f"we do not serve {offer.model} {offer.model_digest}"[:300])
    _check_request(offer)
    if offer.lock and offer.price_per_kilounit < price_per_kilounit:
        raise Refused(
            JobReason.PRICE_TOO_LOW,
            f"{offer.price_per_kilounit} for 1,000 units; we ask {price_per_kilounit}",
        )
    units = worst_case_units(profile_of(offer.model), offer.request)
    if (offer.units, offer.price) != (units, price_of(units, offer.price_per_kilounit)):
        raise Refused(
            JobReason.UNITS_MISMATCH, f"the request costs up to {units} units; offered: {offer.units}"
        )
    if not now_ms < offer.deliver_by_ms <= offer.claim_until_ms:
        raise Refused(JobReason.TOO_LATE, f"deliver_by_ms is {offer.deliver_by_ms}, it is {now_ms}")


def _check_parties(task: link.Task, *, provider: str, hub: str, chain_id: str) -> None:
    offer = task.offer
    for name, got, own in (
        ("provider", offer.provider, provider),
        ("hub", offer.hub, hub),
        ("chain_id", offer.chain_id, chain_id),
        ("task_id", task.task_id, link.task_id_of(offer)),
    ):
        if got != own:
            raise Refused(JobReason.WRONG_TASK, f"{name} is {got!r}, not {own!r}"[:300])


def _check_request(offer: Offer) -> None:
    profile = profile_of(offer.model)
    if kind_of(profile) != offer.kind:
        raise Refused(
            JobReason.UNKNOWN_KIND, f"{offer.model} does {kind_of(profile)}, not {offer.kind}"[:300]
        )
    check_normalised(profile, offer.request)
    if request_hash_of(offer.request) != offer.request_hash:
        raise Refused(JobReason.BAD_REQUEST, "request_hash is not that of the request")
