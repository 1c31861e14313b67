"""Begin a job that an account pays for: its money and its place in a session first, then the queue."""

from typing import TYPE_CHECKING

import msgspec

from aitbc.hub.accounts.records import Payer
from aitbc.hub.records import Quote

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub


async def start_prepaid(hub: "Hub", payer: Payer, quote: Quote, *, tokens: int, route: str) -> Quote:
    """The quote as it is in the store: the session's owner is its client. Refuses what cannot be paid; whatever goes
    wrong, nothing stays set aside."""
    seat = await hub.accounts.reserve(payer, quote, tokens=tokens, route=route)
    quote = msgspec.structs.replace(
        quote,
        client=seat.client,
        claim_until_ms=seat.claim_until_ms,
        account=payer.account,
    )
    try:
        hub.jobs.refuse_when_full()
        await hub.db(hub.store.add_quote, quote)
        await hub.jobs.enqueue(quote, lock=seat.lock, first_task=seat.place, randomness=seat.randomness)
    except BaseException:
        await hub.accounts.release(quote, message="not_started")
        raise
    return quote
