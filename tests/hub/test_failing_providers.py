"""Real providers that die, crash, hang or refuse in the middle of a job; the client learns why and gets its money."""

import asyncio
import time
from pathlib import Path

import pytest

from hub.market import market, until


def test_a_provider_dies_and_another_finishes_the_job(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            first = await place.add_provider("first")
            quote = await place.begin("crawl " * 5)
            await place.until_state(quote, "running")
            await place.add_provider("second")
            await place.drop(first)
            status = await place.until_state(quote, "settled")
            assert status["attempts"] == 2
            result = (await place.result(quote)).json()
            assert result["core"]["miner_addr"] == place.providers[0].config.signer.address

    asyncio.run(story())


def test_nobody_is_left_the_job_says_why_and_anybody_may_refund(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, retry_wait_s=0.3) as place:
            provider = await place.add_provider()
            before = place.balance("alice")
            quote = await place.quote("crawl " * 50)
            lock = await place.lock(quote)
            await place.start(quote, lock)
            await place.until_state(quote, "running")
            await place.drop(provider)
            status = await place.until_state(quote, "failed")
            assert status["reason"] == "provider_gone"
            assert place.balance("alice") == before - quote["price"] - 100
            place.node.ahead_ms = 10 * 60 * 1000
            await asyncio.to_thread(place.node.send, "bob", "REFUND", {"lock": lock})
            assert place.balance("alice") == before - 100, "without the hub's or the provider's permission"

    asyncio.run(story())


def test_a_lone_provider_that_comes_back_gets_the_job_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, retry_wait_s=10) as place:
            provider = await place.add_provider()
            quote = await place.begin("crawl " * 10)
            await place.until_state(quote, "running")
            await place.drop(provider)
            await place.until_state(quote, "queued")
            await place.add_provider()
            assert (await place.until_state(quote, "settled"))["attempts"] == 2

    asyncio.run(story())


@pytest.mark.parametrize(
    ("prompt", "reason", "attempts", "words"),
    [
        ("please crash", "engine_failed", 1, "ended with code 3"),
        ("please bug", "engine_failed", 1, "ZeroDivisionError"),
        ("please flood", "engine_failed", 1, "at once"),
        ("out of memory", "out_of_memory", 1, "no memory left"),
        ("please refuse", "bad_request", 1, "does not want to"),
    ],
)
def test_an_engine_fails_and_says_how(
    tmp_path: Path, prompt: str, reason: str, attempts: int, words: str
) -> None:
    async def story() -> None:
        async with market(tmp_path, retry_wait_s=0.1) as place:
            provider = await place.add_provider()
            quote = await place.begin(prompt)
            status = await place.until_state(quote, "failed")
            assert (status["reason"], status["attempts"]) == (reason, attempts)
            assert words in status["message"]
            await until(lambda: provider.engine.ready)
            again = await place.begin("a good one")
            await place.until_state(again, "settled")
            assert provider.worker.jobs_done == 1

    asyncio.run(story())


def test_three_providers_fail_and_that_is_enough(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            for number in range(4):
                await place.add_provider(f"number {number}")
            quote = await place.begin("please bug")
            status = await place.until_state(quote, "failed")
            assert status["attempts"] == 3
            assert sum(provider.worker.jobs_failed for provider in place.providers) == 3

    asyncio.run(story())


def test_an_engine_that_hangs_is_killed_and_the_job_moves_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, retry_wait_s=0.1) as place:
            provider = await place.add_provider(engine_stall_s=0.5)
            quote = await place.begin("please hang")
            status = await place.until_state(quote, "failed")
            assert "no sign of life" in status["message"]
            await until(lambda: provider.engine.ready)
            assert provider.engine.restarts == 1

    asyncio.run(story())


def test_the_deadline_ends_a_job_that_takes_too_long(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, deliver_s=2, dispatch_margin_ms=0) as place:
            provider = await place.add_provider()
            quote = await place.begin("crawl " * 300)
            status = await place.until_state(quote, "expired", "failed")
            assert (status["state"], status["reason"]) == ("expired", "deadline_missed")
            await until(lambda: not provider.worker.running, within=2)

    asyncio.run(story())


def test_nobody_is_free_before_the_deadline(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, deliver_s=2) as place:
            provider = await place.add_provider()
            quote = await place.quote()
            lock = await place.lock(quote)
            await place.drop(provider)
            await place.start(quote, lock)
            status = await place.until_state(quote, "expired")
            assert status["reason"] == "deadline_missed"
            assert "no provider" in status["message"]

    asyncio.run(story())


def test_a_deaf_engine_is_killed_within_a_second_of_a_cancel(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            provider = await place.add_provider()
            quote = await place.begin("deaf crawl " * 50)
            await place.until_state(quote, "running")
            began = time.monotonic()
            job = place.hub.jobs.live(quote["job_id"])
            place.hub.jobs.cancel(job)
            await until(lambda: not provider.worker.running, within=2)
            assert time.monotonic() - began < 1.2
            await place.until_state(quote, "canceled")

    asyncio.run(story())


def test_what_an_engine_prints_is_no_message(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            quote = await place.begin("print something")
            await place.until_state(quote, "settled")

    asyncio.run(story())
