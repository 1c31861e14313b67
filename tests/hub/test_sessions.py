"""Jobs that an account pays for draw on the hub's own session lock; what nobody earned goes back."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from aitbc.hub.quotes import QuoteRequest, make_quote
from aitbc.hub.store import JobStore
from aitbc.hub.store.sessions import Draft, Session
from hub.market import Market, market
from hub.store.conftest import Opener, kind, opener, postgres_server, postgres_url, store
from hub.store.made import NOW
from hub.test_hub_batches import fund

__all__ = ["Opener", "kind", "opener", "postgres_server", "postgres_url", "store"]


async def until_settled(place: Market, job_id: str) -> Any:
    for _ in range(500):
        record = place.hub.store.job(job_id)
        if record.state == "settled":
            return record
        await asyncio.sleep(0.02)
    raise AssertionError(record)


def test_two_account_holders_are_served_from_one_session(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, session_amount=500_000) as place:
            await fund(place)
            await place.add_provider()
            hub = place.hub
            quotes = []
            for account in ("client:1", "client:2"):
                asked = QuoteRequest(
                    client=hub.signer.address, kind="chat", request={"prompt": account, "max_tokens": 4}
                )
                made, _ = make_quote(
                    asked, hub.directory, now_ms=hub.now_ms(), quote_s=60, deliver_s=60, claim_s=60
                )
                quotes.append(msgspec.structs.replace(made, account=account))
                await hub.db(hub.store.add_quote, quotes[-1])
            tick = asyncio.create_task(blocks(place))
            await asyncio.gather(*[hub.sessions.start(quote) for quote in quotes])
            records = [await until_settled(place, quote.job_id) for quote in quotes]
            tick.cancel()
            assert len({record.lock for record in records}) == 1
            assert sorted([record.first_task for record in records]) == [0, 1]
            lock = await place.chain.lock(records[0].lock)
            assert lock is not None
            assert (lock["session"], lock["client"]) == (True, hub.signer.address)
            paid = [hub.store.receipt_of_job(quote.job_id).signed.attestation.price for quote in quotes]
            assert int(lock["paid"]) == sum(paid) > 0

            place.node.ahead_ms = 3_600_000
            await asyncio.to_thread(
                place.node.send, "alice", "TRANSFER", {"to": hub.signer.address, "amount": 1}
            )
            before = place.balance("hub")
            hub.now_ms = lambda: lock["claim_until_ms"] + 10**7
            assert await hub.sessions.refund_once() == 1
            assert place.balance("hub") > before
            assert await hub.sessions.refund_once() == 0

    asyncio.run(story())


async def blocks(place: Market) -> None:
    """The chain goes on: a draw waits for the first block after its job has a number."""
    while True:
        await asyncio.sleep(0.1)
        await asyncio.to_thread(
            place.node.send, "alice", "TRANSFER", {"to": place.signers["provider"].address, "amount": 1}
        )


def test_a_session_pays_no_more_than_it_has(store: JobStore) -> None:
    store.add_session(
        Session(lock="aa", amount=100, tasks=3, deliver_by_ms=NOW + 10, claim_until_ms=NOW + 20)
    )
    draw = store.draw_on_session
    assert draw(amount=60, tasks=2, deliver_by_ms=NOW) == Draft("aa", 0, NOW + 20)
    assert draw(amount=41, tasks=1, deliver_by_ms=NOW) is None, "the money is spoken for"
    assert draw(amount=1, tasks=2, deliver_by_ms=NOW) is None, "it has one task left"
    assert draw(amount=1, tasks=1, deliver_by_ms=NOW + 11) is None, "it ends before"
    assert draw(amount=40, tasks=1, deliver_by_ms=NOW) == Draft("aa", 2, NOW + 20)
    store.forget_sessions(now_ms=NOW + 21)
    store.watch_lock("aa", refund_after_ms=NOW)
    store.watch_lock("aa", refund_after_ms=NOW + 5)
    assert store.locks_to_refund(now_ms=NOW + 1) == ["aa"]
    store.unwatch_lock("aa")
    assert store.locks_to_refund(now_ms=NOW + 99) == []
