"""A liar among honest providers: its delivery is done again before anything is attested, and it is not paid."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed

from aitbc.adapters.engines.tiny_lm import TinyLm
from aitbc.core.jobs import link
from aitbc.core.jobs.audits import REPLAYED, replay
from aitbc.core.jobs.requests import engine_request
from hub.market import Market, market, until
from hub.strange_provider import StrangeProvider
from hub.test_hub_batches import fund


@asynccontextmanager
async def at_work(strange: StrangeProvider, answer: str) -> AsyncIterator[list[str]]:
    """Does every task at once, with this answer; yields the tasks it was given."""
    given: list[str] = []

    async def work() -> None:
        try:
            while True:
                task = await strange.hear(link.Task)
                await strange.say(link.Accepted(task_id=task.task_id))
                given.append(task.offer.job_id)
                await strange.deliver(task, *strange.make(task.offer, answer.encode()))
        except (ConnectionClosed, TimeoutError):
            return

    working = asyncio.create_task(work())
    try:
        yield given
    finally:
        working.cancel()


async def ask(place: Market, **provider: Any) -> Any:
    body = {
        "client": place.signers["alice"].address,
        "kind": "chat",
        "request": {"prompt": "a tale", "max_tokens": 8},
        "provider": provider,
    }
    quote = (await place.http.post("/v1/quotes", json=body)).json()
    assert (await place.start(quote, await place.lock(quote))).status_code == 202
    return quote


OPTIONS: Any = {"spot_checks": True, "heartbeat_ms": 5_000, "session_amount": 500_000}


def test_a_liar_is_unpaid_and_excluded_and_the_client_is_served_by_another(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, **OPTIONS) as place:
            await fund(place)
            async with (
                StrangeProvider(place, name="liar") as liar,
                StrangeProvider(place, name="one") as one,
                StrangeProvider(place, name="two") as two,
                StrangeProvider(place, name="three") as three,
                at_work(liar, " lies") as lies,
                at_work(one, " truth"),
                at_work(two, " truth"),
                at_work(three, " truth"),
            ):
                quote = await ask(place, deny=[each.signer.address for each in (one, two, three)])
                refused = await place.until_state(quote, "queued", "failed", within=20)
                assert refused["reason"] == "check_failed"
                session = place.hub.directory.get(liar.signer.address)
                assert session.standing.banned
                assert place.hub.store.open_receipts(provider=liar.signer.address) == []
                assert place.node.account(liar.signer.address)["balance"] == 0

                served = await ask(place)
                await place.until_state(served, "settled", within=20)
                assert lies == [quote["job_id"]], "nothing more is given to it"
            await place.hub.audits.stop()
            log = [entry for _, entry in place.hub.store.audit_log()]
            assert replay(log) == []
            judged = [entry for entry in log if entry.what == "judged"]
            assert [entry.verdict for entry in judged] == ["false", "passed"]
            assert len(judged[0].auditors) == len(set(judged[0].auditors)) == 3

    asyncio.run(story())


def test_a_text_that_the_model_tells_is_not_convicted_by_who_tells_another(tmp_path: Path) -> None:
    """The auditor lies, or its machine has turned a token; the hub follows the text itself before it asks two more."""

    async def story() -> None:
        async with market(tmp_path, **OPTIONS) as place:
            await fund(place)
            async with (
                StrangeProvider(place, name="honest") as honest,
                StrangeProvider(place, name="other") as other,
                at_work(other, " another tale"),
            ):
                quote = await ask(place, deny=[other.signer.address])
                task = await honest.take_task()
                asked = engine_request(task.offer.request)
                tale = TinyLm().run("tiny-lm", asked, lambda _event: None, lambda: False).data
                await honest.deliver(task, *honest.make(task.offer, tale))
                await place.until_state(quote, "settled", within=20)
                log = [entry for _, entry in place.hub.store.audit_log()]
                (judged,) = [entry for entry in log if entry.what == "judged"]
                assert (judged.verdict, judged.scores, judged.thresholds) == ("passed", [0], tuple(REPLAYED))
                assert judged.auditors == [other.signer.address]
                assert replay(log) == []

    asyncio.run(story())


def test_an_honest_provider_is_checked_paid_and_one_check_nearer_to_trust(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, **OPTIONS) as place:
            await fund(place)
            async with (
                StrangeProvider(place, name="one") as one,
                StrangeProvider(place, name="two") as two,
                at_work(one, " truth"),
                at_work(two, " truth"),
            ):
                quote = await ask(place, deny=[two.signer.address])
                events = await place.events(quote)
                assert [event["state"] for event in events if "state" in event] == [
                    "reserved",
                    "queued",
                    "leased",
                    "running",
                    "delivered",
                ]
                await place.until_state(quote, "settled", within=20)
                assert place.hub.directory.get(one.signer.address).standing.streak == 1

    asyncio.run(story())


def test_with_nobody_to_check_it_a_delivery_is_paid_and_the_log_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, **OPTIONS) as place:
            await place.add_provider()
            quote = await place.begin()
            await place.until_state(quote, "settled")
            (judged,) = [entry for _, entry in place.hub.store.audit_log() if entry.what == "judged"]
            assert (judged.verdict, judged.auditors) == ("unclear", [])
            await until(lambda: place.hub.claims.open == 0)

    asyncio.run(story())
