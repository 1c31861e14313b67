"""Strangers who want work for nothing, money for nothing, or nobody else to have any."""

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.core.codec.canonical import jcs
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs import link
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import MAX_DETAILS_BYTES, Computed, Delivery, build_core, build_details
from aitbc.hub import attempts, providers
from aitbc.hub.limits import Handshakes
from aitbc.hub.quotes import MOST_FAILURES
from hub.market import Market, bearer, inbox_of, market, until
from hub.strange_provider import MODEL, StrangeProvider, replace_price
from support.people import EVE


def test_nobody_sets_the_price_alone(tmp_path: Path) -> None:
    """The quote is the lower median: a greedy stranger moves nothing, and half of the providers can be drawn."""

    async def story() -> None:
        async with market(tmp_path, heartbeat_ms=10_000) as place, StrangeProvider(place, name="honest"):
            usual = (await place.quote())["price"]
            async with StrangeProvider(place, name="greedy", price=9 * 10**15):
                assert (await place.quote())["price"] == usual
                listed = (await place.http.get("/v1/models")).json()["data"][0]
                assert listed["price_per_kilounit"] == MODEL.price_per_kilounit
                async with StrangeProvider(place, name="third", price=2 * MODEL.price_per_kilounit):
                    assert (await place.quote())["price"] == 2 * usual

    asyncio.run(story())


def test_who_asks_nothing_and_delivers_nothing_does_not_keep_the_others_from_work(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            market(tmp_path, retry_wait_s=0.1, heartbeat_ms=10_000) as place,
            StrangeProvider(place, name="honest"),
        ):
            usual = (await place.quote())["price"]
            for _ in range(MOST_FAILURES):
                async with StrangeProvider(place, name="cheap", price=1) as cheap:
                    assert (await place.quote())["price"] == 1
                    quote = await place.begin()
                    task = await cheap.take_task()
                    await cheap.say(link.AttemptFailed(task_id=task.task_id, reason="failed", message=""))
                    await place.until_state(quote, "failed")
            async with StrangeProvider(place, name="cheap", price=1):
                assert (await place.quote())["price"] == usual, "a new link forgives nothing"

    asyncio.run(story())


def test_a_registration_that_only_waits_sets_no_price_and_not_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            thief = await linked(place, "thief")
            session = place.hub.directory.get(thief.signer.address)
            session.announce(frozenset(["tiny-lm"]))
            assert (await place.ask_quote()).status_code == 200, "good enough while nobody else serves"
            async with StrangeProvider(place, name="honest", price=7 * MODEL.price_per_kilounit):
                model = (await place.http.get("/v1/models")).json()["data"][0]
                assert model["price_per_kilounit"] == 7 * MODEL.price_per_kilounit
            monkeypatch.setattr(providers, "ANNOUNCED_S", -1)
            session.announce(frozenset(["tiny-lm"]))
            assert (await place.ask_quote()).json()["code"] == "no_provider"

    asyncio.run(story())


def test_a_provider_works_for_the_price_that_it_has_registered(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place, StrangeProvider(place, name="one") as strange:
            await strange.connection.close()
            await strange.dial()
            hello = strange.hello(await strange.hear(link.Challenge))
            await strange.say(replace_price(hello, MODEL.price_per_kilounit + 1))
            assert (await strange.hear(link.Eligible)).models == []

    asyncio.run(story())


def test_a_provider_works_with_the_weights_that_it_has_registered(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place, StrangeProvider(place, name="one") as strange:
            await strange.connection.close()
            await strange.dial()
            hello = strange.hello(await strange.hear(link.Challenge))
            cheaper = msgspec.structs.replace(MODEL, digest=hash_text(b"smaller weights"))
            await strange.say(msgspec.structs.replace(hello, models=[cheaper]))
            assert (await strange.hear(link.Eligible)).models == []

    asyncio.run(story())


def test_nobody_is_quoted_for_on_the_registration_of_another(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, heartbeat_ms=5_000) as place:
            async with StrangeProvider(place, name="honest"):
                (registration,) = place.node.places
            thief = await linked(place, "thief")
            await thief.say(link.Registering(tx=registration))
            await until(lambda: f"/rpc/getTx/{registration}" in place.chain.calls)
            await thief.say(link.Registered())
            assert (await thief.hear(link.Eligible)).models == []
            assert place.hub.directory.get(thief.signer.address).announced == frozenset()
            assert (await place.ask_quote()).json()["code"] == "no_provider"
            await thief.connection.close()

    asyncio.run(story())


def test_an_answer_that_was_begun_is_finished_and_paid(tmp_path: Path) -> None:
    """Otherwise a client reads the whole stream and cancels before the last word."""

    async def story() -> None:
        async with market(tmp_path) as place, StrangeProvider(place) as strange:
            quote = await place.begin()
            task = await strange.take_task()
            await strange.say(link.Text(task_id=task.task_id, text=" a strange"))
            await strange.say(link.Progress(task_id=task.task_id, done=1, total=3))
            await progress(place, quote)
            answer = await cancel(place, quote)
            assert (answer.status_code, answer.json()["code"]) == (409, "job_over")
            await strange.deliver(task, *strange.make(task.offer))
            assert (await place.until_state(quote, "settled"))["receipt_id"]

    asyncio.run(story())


def test_a_cancellation_on_its_way_does_not_overtake_text_that_was_shown(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place, StrangeProvider(place) as strange:
            quote = await place.begin()
            task = await strange.take_task()
            await place.until_state(quote, "running")
            inbox = inbox_of(place, quote)
            text = link.Text(task_id=task.task_id, text=" a str")
            inbox.put_nowait(providers.FromProvider(task_id=task.task_id, message=text))
            inbox.put_nowait(providers.CancelAsked())
            await strange.deliver(task, *strange.make(task.offer))
            await place.until_state(quote, "settled")

    asyncio.run(story())


def test_a_job_without_a_word_yet_can_be_canceled(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place, StrangeProvider(place) as strange:
            quote = await place.begin()
            await strange.take_task()
            await place.until_state(quote, "running")
            assert (await cancel(place, quote)).status_code == 202
            await strange.hear(link.Cancel)
            await place.until_state(quote, "canceled")

    asyncio.run(story())


def garbage(strange: StrangeProvider, task: link.Task) -> tuple[Delivery, bytes]:
    """One byte, billed as 256 tokens."""
    return made(strange, task, data=b"x", counts={"in": 1, "out": 256})


def bloated(strange: StrangeProvider, task: link.Task) -> tuple[Delivery, bytes]:
    """Notes in bounds by the character that are far above them by the byte."""
    notes = {f"n{number}": "\x01" * 1000 for number in range(8)}
    delivery, data = made(strange, task, notes=notes)
    assert len(jcs(delivery.details)) > MAX_DETAILS_BYTES
    return delivery, data


def made(strange: StrangeProvider, task: link.Task, **changes: Any) -> tuple[Delivery, bytes]:
    computed: dict[str, Any] = {
        "data": b" a strange story",
        "counts": {"in": 1, "out": 3},
        "transcript": [bytes(32)],
        "notes": {},
        "started_ms": 1_000,
        "finished_ms": 1_001,
        "engine_ms": 1,
    }
    details = build_details(task.offer, Computed(**{**computed, **changes}))
    return strange.sign(details, build_core(task.offer, details)), {**computed, **changes}["data"]


@pytest.mark.parametrize(
    ("lie", "reason"), [(garbage, "counts_mismatch"), (bloated, "details_mismatch")], ids=["tokens", "notes"]
)
def test_a_delivery_that_cannot_be_right_is_refused_and_another_provider_does_it(
    tmp_path: Path, lie: Any, reason: str
) -> None:
    async def story() -> None:
        async with market(tmp_path) as place, StrangeProvider(place) as strange:
            quote = await place.begin(max_tokens=256)
            task = await strange.take_task()
            await strange.deliver(task, *lie(strange, task))
            assert (await strange.hear(link.ResultRefused)).reason == reason
            await place.add_provider()
            await place.until_state(quote, "settled")
            core = (await place.result(quote)).json()["core"]
            assert core["miner_addr"] == place.signers["provider"].address

    asyncio.run(story())


def test_a_bug_that_one_provider_brings_out_does_not_cost_the_client_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = attempts.check_delivery

    def buggy(offer: Any, *args: Any, **options: Any) -> None:
        if offer.attempt == 0:
            raise ZeroDivisionError
        check(offer, *args, **options)

    monkeypatch.setattr(attempts, "check_delivery", buggy)

    async def story() -> None:
        async with market(tmp_path) as place, StrangeProvider(place) as strange:
            quote = await place.begin()
            task = await strange.take_task()
            await strange.deliver(task, *strange.make(task.offer))
            status = await place.until_state(quote, "queued")
            assert status["reason"] == "hub_error"
            await place.add_provider()
            await place.until_state(quote, "settled")

    asyncio.run(story())


def test_connections_that_say_nothing_leave_room_for_those_that_do() -> None:
    places = Handshakes(most=3, most_per_host=2)
    with places.take("a"), places.take("a"):
        with pytest.raises(Refused) as caught, places.take("a"):
            pass
        assert caught.value.reason == JobReason.TOO_MANY_PROVIDERS
        with places.take("b"), pytest.raises(Refused), places.take("c"):
            pass
        with places.take("b"):
            pass
    with places.take("a"), places.take("a"):
        pass


def test_keys_that_never_register_cannot_fill_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "PLACE_S", 0.2)

    async def story() -> None:
        async with (
            market(tmp_path, max_providers=2, heartbeat_ms=10_000) as place,
            StrangeProvider(place, name="useful"),
        ):
            idle = await linked(place, "idle")
            early = await knock(place, "early")
            assert (await early.hear(link.LinkError)).reason == "too_many_providers"
            await asyncio.sleep(0.3)
            late = await linked(place, "late")
            assert (await idle.hear(link.LinkError)).reason == "too_many_providers"
            names = {session.address for session in place.hub.directory.sessions()}
            assert late.signer.address in names and idle.signer.address not in names
            assert len(names) == 2
            assert (await place.ask_quote()).status_code == 200, "the registered one has kept its place"

    asyncio.run(story())


async def knock(place: Market, name: str) -> StrangeProvider:
    strange = StrangeProvider(place, name=name)
    await strange.dial()
    await strange.say(strange.hello(await strange.hear(link.Challenge)))
    return strange


async def linked(place: Market, name: str) -> StrangeProvider:
    strange = await knock(place, name)
    await strange.hear(link.Eligible)
    return strange


def test_a_key_that_is_not_the_addresses_is_not_believed_however_well_it_signs(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            strange = StrangeProvider(place)
            await strange.dial()
            hello = strange.hello(await strange.hear(link.Challenge), provider=EVE.address)
            await strange.say(hello)
            error = await strange.hear(link.LinkError)
            assert (error.reason, error.message) == (
                "not_authenticated",
                "the key is not that of the address",
            )

    asyncio.run(story())


def test_unused_quotes_are_forgotten_soon_and_paid_jobs_late(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            unused, paid = await place.quote(), await place.begin()
            await place.until_state(paid, "settled")
            hub = place.hub
            config, now_ms = hub.config, hub.now_ms()
            await hub._sweep_once(now_ms + config.quote_s * 2000)
            assert (await place.status(unused))["state"] == "expired"
            await hub._sweep_once(now_ms + config.quote_s * 2000 + config.unused_retention_s * 1000 + 1)
            assert (await place.status(unused))["code"] == "unknown_job"
            assert (await place.result(paid)).status_code == 200

    asyncio.run(story())


def test_a_quote_that_was_canceled_meanwhile_is_not_started(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            quote = await place.quote()
            assert (await cancel(place, quote)).status_code == 202
            store = place.hub.store
            record = await place.hub.db(store.job, quote["job_id"])
            with pytest.raises(Refused) as caught:
                await place.hub.jobs.enqueue(record.quote, lock="ab" * 32, first_task=0, randomness=b"")
            assert caught.value.reason == JobReason.JOB_OVER

    asyncio.run(story())


def test_prompts_and_answers_on_disk_are_for_the_operator_only(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            await place.until_state(await place.begin(), "settled")

    before = os.umask(0)
    try:
        asyncio.run(story())
    finally:
        os.umask(before)
    found = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert {path.name for path in found} >= {"hub.sqlite", "jobs.jsonl"}
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in found} == {
        path.name: "0o600" for path in found
    }


async def cancel(place: Market, quote: dict[str, Any]) -> Any:
    return await place.http.post(f"/v1/jobs/{quote['job_id']}/cancel", headers=bearer(quote))


async def progress(place: Market, quote: dict[str, Any]) -> None:
    """Until the hub has heard the provider's last message."""
    while (await place.status(quote))["progress"] == [0, 0]:
        await asyncio.sleep(0.02)
