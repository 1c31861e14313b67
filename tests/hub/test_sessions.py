"""The hub's one kind of session pays prepaid jobs and checks alike; what nobody earned of a lock goes back."""

import asyncio
from pathlib import Path

from aitbc.hub.accounts.ledger import CHECKS
from aitbc.hub.accounts.records import Payer
from aitbc.hub.prepaid import start_prepaid
from aitbc.hub.quotes import QuoteRequest, make_quote
from aitbc.hub.store import JobStore
from hub.market import Market, market
from hub.store.conftest import Opener, kind, opener, postgres_server, postgres_url, store
from hub.store.made import NOW
from hub.test_hub_batches import fund

__all__ = ["Opener", "kind", "opener", "postgres_server", "postgres_url", "store"]


async def begin(place: Market, account: str) -> str:
    hub = place.hub
    asked = QuoteRequest(client=hub.signer.address, kind="chat", request={"prompt": account, "max_tokens": 4})
    made, _ = make_quote(asked, hub.directory, now_ms=hub.now_ms(), quote_s=60, deliver_s=60, claim_s=60)
    await start_prepaid(hub, Payer(account=account), made, tokens=0, route="test")
    return made.job_id


def test_a_client_and_a_check_are_paid_from_one_session_and_stand_in_one_book(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, session_amount=500_000) as place:
            await fund(place)
            await place.add_provider()
            store = place.hub.store
            credit = {"amount": 100_000}
            assert (await place.admin("POST", "/admin/accounts/one/credit", credit)).status_code == 200
            jobs = [await begin(place, account) for account in ("one", CHECKS)]
            for _ in range(500):
                records = [store.job(job) for job in jobs]
                if all(record.state == "settled" for record in records):
                    break
                await asyncio.sleep(0.02)
            assert [record.state for record in records] == ["settled", "settled"]
            assert len({record.lock for record in records}) == 1
            assert sorted([record.first_task for record in records]) == [0, 1]
            lock = await place.chain.lock(records[0].lock)
            assert lock is not None
            assert (lock["session"], lock["client"]) == (True, place.hub.signer.address)
            prices = [store.receipt_of_job(job).signed.attestation.price for job in jobs]
            assert int(lock["paid"]) == sum(prices) > 0

            books = await place.sum_of_books()
            assert books["income:"] == sum(prices)
            assert books["free:one"] == 100_000 - prices[0]
            assert -books["checking:"] == prices[1] + books[f"free:{CHECKS}"], (
                "the rest is for the next check"
            )

    asyncio.run(story())


def test_what_a_client_leaves_in_its_lock_is_sent_back_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await fund(place)
            await place.add_provider()
            quote = await place.quote()
            lock = await place.lock(quote)
            await place.hub.db(place.hub.store.watch_lock, lock, refund_after_ms=NOW)
            place.node.ahead_ms = 3_600_000
            before = place.balance("alice")
            assert await place.hub.refunds.once() == 1
            assert place.balance("alice") > before
            assert await place.hub.refunds.once() == 0

    asyncio.run(story())


def test_a_lock_is_watched_until_it_is_not(store: JobStore) -> None:
    store.watch_lock("aa", refund_after_ms=NOW)
    store.watch_lock("aa", refund_after_ms=NOW + 5)
    assert store.locks_to_refund(now_ms=NOW) == []
    assert store.locks_to_refund(now_ms=NOW + 1) == ["aa"]
    store.unwatch_lock("aa")
    assert store.locks_to_refund(now_ms=NOW + 99) == []
