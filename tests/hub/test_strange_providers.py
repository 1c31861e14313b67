"""Bad actors on the provider link: each is refused by name, none is paid, and the honest are served meanwhile."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs import link
from aitbc.core.jobs.receipts import MAX_OUTPUT_BYTES, Delivery
from hub.market import Market, market
from hub.strange_provider import MODEL, StrangeProvider
from support.people import EVE

replace = msgspec.structs.replace


async def refused(strange: StrangeProvider) -> link.LinkError:
    """The hub's last word before it closes."""
    error: link.LinkError = await strange.hear(link.LinkError)
    with pytest.raises(ConnectionClosed):
        await strange.connection.recv()
    return error


HELLOS: list[tuple[str, Callable[[link.Hello], Any], str]] = [
    ("a forged signature", lambda hello: replace(hello, sig="00" * 64), "not_authenticated"),
    (
        "a signature for another connection",
        lambda hello: replace(hello, nonce="22" * 32),
        "not_authenticated",
    ),
    ("somebody else's address", lambda hello: replace(hello, address=EVE.address), "not_authenticated"),
    ("no key", lambda hello: replace(hello, pubkey="zz"), "not_authenticated"),
    ("another version", lambda hello: replace(hello, version=99), "wrong_network"),
    ("no model", lambda hello: replace(hello, models=[]), "unknown_model"),
    ("a model twice", lambda hello: replace(hello, models=[MODEL, MODEL]), "unknown_model"),
    (
        "a model without a formula",
        lambda hello: replace(hello, models=[replace(MODEL, model="big")]),
        "unknown_model",
    ),
    (
        "a model of another kind",
        lambda hello: replace(hello, models=[replace(MODEL, kind="image")]),
        "unknown_model",
    ),
    ("another message first", lambda _: link.Heartbeat(running=[]), "not_authenticated"),
]


@pytest.mark.parametrize(
    ("change", "reason"), [case[1:] for case in HELLOS], ids=[case[0] for case in HELLOS]
)
def test_who_does_not_prove_who_it_is_stays_outside(
    tmp_path: Path, change: Callable[[link.Hello], Any], reason: str
) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            strange = StrangeProvider(place)
            await strange.dial()
            challenge = await strange.hear(link.Challenge)
            await strange.say(change(strange.hello(challenge)))
            assert (await refused(strange)).reason == reason
            assert place.hub.directory.sessions() == []

    asyncio.run(story())


def test_silence_and_garbage_instead_of_a_hello(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, hello_s=0.2) as place:
            strange = StrangeProvider(place)
            for frame, reason in (("garbage", "bad_frame"), (b"\x00\x01", "not_authenticated")):
                await strange.dial()
                await strange.hear(link.Challenge)
                await strange.connection.send(frame)
                assert (await refused(strange)).reason == reason
            await strange.dial()
            await strange.hear(link.Challenge)
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(strange.connection.recv(), 2)
            with place.hub.handshakes.take("127.0.0.1"):
                pass

    asyncio.run(story())


def test_a_provider_that_is_not_registered_gets_no_work(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            strange = StrangeProvider(place)
            await strange.dial()
            await strange.say(strange.hello(await strange.hear(link.Challenge)))
            assert (await strange.hear(link.Eligible)).models == []
            await strange.say(link.Registered())
            assert (await strange.hear(link.Eligible)).models == [], "saying so does not make it so"
            assert (await place.ask_quote()).json()["code"] == "no_provider"
            await strange.connection.close()

    asyncio.run(story())


def forged(strange: StrangeProvider, delivery: Delivery) -> Delivery:
    return strange.sign(delivery.details, delivery.core, signer=EVE)


def greedy(strange: StrangeProvider, delivery: Delivery) -> Delivery:
    return strange.sign(delivery.details, replace(delivery.core, compute_units=10**9))


def swapped(strange: StrangeProvider, delivery: Delivery) -> Delivery:
    return strange.sign(delivery.details, replace(delivery.core, output_hash=hash_text(b"another")))


LIES: list[tuple[Callable[[StrangeProvider, Delivery], Delivery], str]] = [
    (forged, "forged_signature"),
    (greedy, "units_above_offer"),
    (swapped, "output_hash_mismatch"),
]


@pytest.mark.parametrize(("lie", "reason"), LIES, ids=[reason for _, reason in LIES])
def test_a_false_delivery_is_refused_and_the_job_goes_to_an_honest_provider(
    tmp_path: Path, lie: Callable[[StrangeProvider, Delivery], Delivery], reason: str
) -> None:
    async def story() -> None:
        async with market(tmp_path) as place, StrangeProvider(place) as strange:
            quote = await place.begin()
            task = await strange.take_task()
            delivery, data = strange.make(task.offer)
            await strange.deliver(task, lie(strange, delivery), data)
            assert (await strange.hear(link.ResultRefused)).reason == reason
            status = await place.until_state(quote, "queued")
            assert status["reason"] == reason
            await place.add_provider()
            status = await place.until_state(quote, "settled")
            result = (await place.result(quote)).json()
            assert result["core"]["miner_addr"] == place.signers["provider"].address
            assert result["core"]["attempt"] == 1
            assert place.node.account(strange.signer.address)["balance"] == 0

    asyncio.run(story())


def test_a_lie_with_nobody_else_there_fails_the_job_with_its_reason(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, retry_wait_s=0.2) as place, StrangeProvider(place) as strange:
            quote = await place.begin()
            task = await strange.take_task()
            delivery, data = strange.make(task.offer)
            await strange.deliver(task, forged(strange, delivery), data)
            status = await place.until_state(quote, "failed")
            assert status["reason"] == "forged_signature"
            assert (await place.events(quote))[-1]["state"] == "failed"

    asyncio.run(story())


def test_the_streamed_text_must_be_the_delivered_text(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, retry_wait_s=0.2) as place, StrangeProvider(place) as strange:
            quote = await place.begin()
            task = await strange.take_task()
            await strange.say(link.Text(task_id=task.task_id, text=" buy my coin"))
            await strange.deliver(task, *strange.make(task.offer))
            assert (await strange.hear(link.ResultRefused)).reason == "stream_mismatch"
            await place.until_state(quote, "failed")

    asyncio.run(story())


def test_a_second_attempt_does_not_show_the_text_twice(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place, StrangeProvider(place, name="one") as one:
            quote = await place.begin()
            task = await one.take_task()
            await one.say(link.Text(task_id=task.task_id, text=" a str"))
            await one.say(link.Progress(task_id=task.task_id, done=1, total=3))
            await asyncio.sleep(0.1)
            await one.connection.close()
            async with StrangeProvider(place, name="two") as two:
                task = await two.take_task()
                assert task.offer.attempt == 1
                await two.say(link.Text(task_id=task.task_id, text=" a strange"))
                await two.deliver(task, *two.make(task.offer))
                events = await place.events(quote)
            assert "".join([event.get("text", "") for event in events]) == " a strange story"
            gone = next(event for event in events if event.get("reason"))
            assert gone["reason"] == "provider_gone"

    asyncio.run(story())


async def send_for_ever(strange: StrangeProvider, frame: str | bytes) -> None:
    while True:
        await strange.connection.send(frame)
        await asyncio.sleep(0.01)


async def listen_for_ever(strange: StrangeProvider) -> None:
    while True:
        await asyncio.wait_for(strange.connection.recv(), 3)


async def still_good(place: Market, strange: StrangeProvider) -> None:
    quote = await place.begin()
    task = await strange.take_task()
    await strange.deliver(task, *strange.make(task.offer))
    await strange.hear(link.Attested)
    await place.until_state(quote, "settled")


def test_a_wrong_frame_is_named_and_the_link_survives(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, heartbeat_ms=5_000) as place, StrangeProvider(place) as strange:
            for frame, reason in [
                ("garbage", "bad_frame"),
                ("x" * 70_000, "frame_too_large"),
                ('{"type":"heartbeat","running":[],"x":1.5}', "bad_frame"),
                (b"unannounced", "unexpected_message"),
                (link.encode_message(link.Accepted(task_id="job_of_another/0/0")), "wrong_task"),
            ]:
                await strange.connection.send(frame)
                assert (await strange.hear(link.LinkError)).reason == reason
            await still_good(place, strange)

    asyncio.run(story())


def test_too_many_wrong_frames_end_the_link(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, heartbeat_ms=5_000) as place, StrangeProvider(place) as strange:
            with pytest.raises(ConnectionClosed):
                await send_for_ever(strange, "garbage")
            await asyncio.sleep(0.1)
            assert place.hub.directory.sessions() == []

    asyncio.run(story())


def test_an_oversized_frame_ends_the_link_and_the_job_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, heartbeat_ms=5_000) as place, StrangeProvider(place) as strange:
            quote = await place.begin()
            await strange.take_task()
            with pytest.raises(ConnectionClosed):
                await send_for_ever(strange, b"x" * (2 * MAX_OUTPUT_BYTES))
            await place.add_provider()
            await place.until_state(quote, "settled")

    asyncio.run(story())


def test_an_output_announced_too_large_or_cut_short_fails_the_attempt(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            market(tmp_path, heartbeat_ms=5_000, retry_wait_s=0.2) as place,
            StrangeProvider(place) as strange,
        ):
            quote = await place.begin()
            task = await strange.take_task()
            delivery, _ = strange.make(task.offer)
            await strange.say(link.Result(task_id=task.task_id, size=MAX_OUTPUT_BYTES + 1, delivery=delivery))
            assert (await strange.hear(link.LinkError)).reason == "output_too_large"
            await place.until_state(quote, "failed")

            quote = await place.begin()
            task = await strange.take_task()
            delivery, data = strange.make(task.offer)
            await strange.say(link.Result(task_id=task.task_id, size=len(data), delivery=delivery))
            await strange.connection.send(data[:-1])
            status = await place.until_state(quote, "failed")
            assert status["reason"] == "engine_failed"
            assert "announced" in status["message"]

    asyncio.run(story())


def test_a_provider_that_does_not_answer_loses_the_task(tmp_path: Path) -> None:
    async def story() -> None:
        options = {"accept_s": 0.2, "lease_least_s": 0.3, "retry_wait_s": 0.2, "heartbeat_ms": 5_000}
        async with market(tmp_path, **options) as place, StrangeProvider(place) as strange:
            quote = await place.begin()
            await strange.hear(link.Task)
            assert (await strange.hear(link.Cancel)).reason == "provider_silent"
            await place.add_provider()
            status = await place.until_state(quote, "settled", "failed")
            assert status["state"] == "settled"

    asyncio.run(story())


def test_without_heartbeats_a_link_ends(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, heartbeat_ms=100) as place, StrangeProvider(place) as strange:
            with pytest.raises(ConnectionClosed):
                await listen_for_ever(strange)
            assert place.hub.directory.sessions() == []

    asyncio.run(story())


def test_the_newest_link_of_a_provider_wins(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, heartbeat_ms=5_000) as place, StrangeProvider(place) as older:
            newer = StrangeProvider(place)
            await newer.dial()
            await newer.say(newer.hello(await newer.hear(link.Challenge)))
            assert (await newer.hear(link.Eligible)).models == ["tiny-lm"]
            assert (await refused(older)).reason == "replaced"
            await still_good(place, newer)
            await newer.connection.close()

    asyncio.run(story())


def test_one_free_registration_per_link(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, heartbeat_ms=5_000) as place, StrangeProvider(place) as strange:
            await strange.say(link.AskCountersignature())
            assert (await strange.hear(link.LinkError)).reason == "rate_limited"

    asyncio.run(story())
