"""One more than allowed, one less than asked: each limit of the hub holds at its last step and not a step before."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from aitbc.core.jobs import link
from aitbc.hub.attempts import MAX_STREAMED_CHARACTERS
from aitbc.hub.link import MAX_ERRORS
from aitbc.hub.providers import ProviderLost
from hub.market import bearer, inbox_of, market, until
from hub.strange_provider import StrangeProvider


def refusal(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def test_the_eighth_wrong_frame_ends_the_link_and_the_seventh_does_not(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, heartbeat_ms=5_000) as place, StrangeProvider(place) as strange:
            for _ in range(MAX_ERRORS - 1):
                await strange.connection.send("garbage")
                assert (await strange.hear(link.LinkError)).reason == "bad_frame"
            await strange.say(link.Registered())
            assert (await strange.hear(link.Eligible)).models == ["tiny-lm"], "the link lives"
            await strange.connection.send("garbage")
            assert (await strange.hear(link.LinkError)).reason == "bad_frame"
            assert (await strange.hear(link.LinkError)).reason == "too_many_errors"
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(strange.connection.recv(), 3)
            await until(lambda: place.hub.directory.sessions() == [])

    assert MAX_ERRORS == 8
    asyncio.run(story())


@pytest.mark.parametrize("limit", ["max_handshakes", "max_handshakes_per_address"])
def test_one_silent_connection_too_many_is_refused_until_a_place_is_free(tmp_path: Path, limit: str) -> None:
    async def story() -> None:
        async with market(tmp_path, **{limit: 2}) as place:
            silent = [StrangeProvider(place, name=f"silent {number}") for number in range(3)]
            for strange in silent:
                await strange.dial()
            for strange in silent[:2]:
                await strange.hear(link.Challenge)
            error = await silent[2].hear(link.LinkError)
            assert (error.reason, "not said hello" in error.message) == ("too_many_providers", True)
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(silent[2].connection.recv(), 3)

            await silent[0].connection.close()
            await until(lambda: place.hub.handshakes._hosts.total() == 1)
            await silent[2].dial()
            await silent[2].say(silent[2].hello(await silent[2].hear(link.Challenge)))
            await silent[2].hear(link.Welcome)
            await silent[2].hear(link.Eligible)
            for strange in silent[1:]:
                await strange.connection.close()

    asyncio.run(story())


def test_a_lock_counts_to_the_last_base_unit(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            quote = await place.quote()
            asked = quote["lock"]["amount"]
            short = await place.start(quote, await place.lock(quote, amount=asked - 1))
            assert refusal(short) == (409, "lock_mismatch")
            assert "amount" in short.json()["detail"]
            assert (await place.start(quote, await place.lock(quote))).status_code == 202

    asyncio.run(story())


def test_nothing_is_begun_within_the_dispatch_margin(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, quote_s=300, dispatch_margin_ms=1_000) as place:
            await place.add_provider()
            quote = await place.quote()
            lock = await place.lock(quote)
            place.hub.now_ms = lambda: quote["deliver_by_ms"] - 999
            assert refusal(await place.start(quote, lock)) == (409, "too_late")
            place.hub.now_ms = lambda: quote["deliver_by_ms"] - 1_000
            assert (await place.start(quote, lock)).status_code == 202

    asyncio.run(story())


def test_a_full_hub_takes_a_job_when_another_has_ended(tmp_path: Path) -> None:
    """Jobs that wait for their lock count like those that run."""

    async def story() -> None:
        async with market(tmp_path, max_jobs=2, lock_wait_s=5) as place, StrangeProvider(place) as strange:
            running = await place.begin()
            place.node.hold = lambda tx: tx.type == "JOB_LOCK"
            waiting, late = await place.quote(), await place.quote(who="bob")
            starting = asyncio.create_task(place.start(waiting, await place.lock(waiting)))
            await until(lambda: place.hub.jobs.starting)
            late_lock = await place.lock(late, who="bob")
            assert refusal(await place.start(late, late_lock)) == (503, "queue_full")
            await asyncio.to_thread(place.node.release)
            assert (await starting).status_code == 202
            assert refusal(await place.start(late, late_lock)) == (503, "queue_full")

            task = await strange.take_task()
            await strange.deliver(task, *strange.make(task.offer))
            await place.until_state(running, "settled")
            assert (await place.start(late, late_lock)).status_code == 202, "the lock has stayed good"

    asyncio.run(story())


def test_a_stream_may_be_long_and_one_character_more_ends_the_attempt(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            market(tmp_path, heartbeat_ms=5_000, retry_wait_s=0.1) as place,
            StrangeProvider(place) as strange,
        ):
            quote = await place.begin()
            task = await strange.take_task()
            for _ in range(16):
                await strange.say(link.Text(task_id=task.task_id, text="x" * (MAX_STREAMED_CHARACTERS // 16)))
            job = place.hub.jobs.live(quote["job_id"])
            await until(lambda: len(job.parts[0].streamed) == MAX_STREAMED_CHARACTERS)
            assert (await place.status(quote))["state"] == "running"
            await strange.say(link.Text(task_id=task.task_id, text="x"))
            status = await place.until_state(quote, "failed")
            assert status["reason"] == "stream_mismatch"
            assert status["message"] == "262145 characters were streamed"

    assert MAX_STREAMED_CHARACTERS == 262_144
    asyncio.run(story())


def test_a_hub_that_stops_as_a_provider_vanishes_does_not_wait_for_another(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place, StrangeProvider(place) as strange:
            quote = await place.begin()
            task = await strange.take_task()
            await place.until_state(quote, "running")
            lost = ProviderLost(task_id=task.task_id, message="the link broke")
            inbox_of(place, quote).put_nowait(lost)
            await asyncio.wait_for(place.hub.jobs.stop(), 3)

    asyncio.run(story())


def test_one_follower_too_many_waits_until_another_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has left is noticed at the next event or sign of life."""
    monkeypatch.setattr("aitbc.hub.routes.jobs.KEEP_ALIVE_S", 0.05)

    async def story() -> None:
        async with market(tmp_path, max_followers=2) as place, StrangeProvider(place):
            quote = await place.begin()
            path = f"/v1/jobs/{quote['job_id']}/events"
            async with place.http.stream("GET", path, headers=bearer(quote)):
                async with place.http.stream("GET", path, headers=bearer(quote)):
                    await until(lambda: place.hub.followers == 2)
                    third = await place.http.get(path, headers=bearer(quote), timeout=3)
                    assert refusal(third) == (503, "too_many_followers")
                await until(lambda: place.hub.followers == 1)
                async with place.http.stream("GET", path, headers=bearer(quote)) as again:
                    assert again.status_code == 200

    asyncio.run(story())
