"""Small parts of the hub on their own: the rate limit, the event log, the queue."""

import asyncio
from typing import Any

from aitbc.core.jobs import link
from aitbc.hub.events import EventLog
from aitbc.hub.limits import MAX_ADDRESSES, RateLimit
from aitbc.hub.matcher import Matcher, Want
from aitbc.hub.problems import ANSWERS
from aitbc.hub.providers import Directory, Granted, ProviderSession
from hub.strange_provider import MODEL
from support.people import PROVIDER


def test_the_bucket_fills_with_time_and_no_further() -> None:
    now = [0.0]
    limit = RateLimit(per_second=2, burst=3, monotonic=lambda: now[0])
    assert [limit.allow("a") for _ in range(4)] == [True, True, True, False]
    assert limit.allow("b"), "everybody has a bucket of his own"
    now[0] = 0.5
    assert [limit.allow("a"), limit.allow("a")] == [True, False]
    now[0] = 1_000
    assert [limit.allow("a") for _ in range(4)] == [True, True, True, False]


def test_the_buckets_are_bounded() -> None:
    limit = RateLimit(per_second=1, burst=1, monotonic=lambda: 0.0)
    for number in range(MAX_ADDRESSES + 50):
        limit.allow(str(number))
    assert len(limit._buckets) == MAX_ADDRESSES


def test_every_reader_gets_every_event_from_the_start() -> None:
    async def story() -> None:
        log = EventLog(limit=3)
        early = asyncio.create_task(_all(log))
        await asyncio.sleep(0)
        for number in range(3):
            log.append({"progress": [number, 3]})
            await asyncio.sleep(0)
        assert log.full
        late = asyncio.create_task(_all(log))
        log.close()
        assert await early == await late == [b'{"progress":[%d,3]}' % number for number in range(3)]

    asyncio.run(story())


def test_a_silent_log_says_that_it_lives() -> None:
    async def story() -> None:
        log = EventLog(limit=3)
        async for event in log.follow(idle_s=0.01):
            assert event is None
            log.close()

    asyncio.run(story())


async def _all(log: EventLog) -> list[bytes | None]:
    return [event async for event in log.follow(idle_s=1)]


def session(address: str, *, slots: int = 1, price: int = 1_000_000) -> ProviderSession:
    model: Any = link.LinkModel(model=MODEL.model, kind="chat", digest=MODEL.digest, price_per_kilounit=price)
    hello = link.Hello(
        version=1,
        address=address,
        pubkey="",
        nonce="0" * 64,
        sig="",
        models=[model],
        slots=slots,
        device="cpu",
    )
    made = ProviderSession(hello, auth_key=PROVIDER.auth_key)
    made.eligible = frozenset({"tiny-lm"})
    return made


def want(name: str, inbox: Any, **changes: Any) -> Want:
    fields: dict[str, Any] = {
        "job_id": name,
        "model": "tiny-lm",
        "price_per_kilounit": 1_000_000,
        "lock": "ab" * 32,
        "task": 0,
        "attempt": 0,
        "randomness": bytes(32),
        "avoid": set(),
        "lost": set(),
        "inbox": inbox,
    }
    return Want(**{**fields, **changes})


def test_first_come_first_served_and_a_slot_is_given_once() -> None:
    async def story() -> None:
        directory = Directory(limit=10, changed=lambda: None)
        matcher = Matcher(directory)
        only = session("ait1only")
        directory.join(only)
        inboxes = [asyncio.Queue() for _ in range(3)]
        for number, inbox in enumerate(inboxes):
            matcher.ask(want(f"job_{number}", inbox))
        assert [inbox.qsize() for inbox in inboxes] == [1, 0, 0]
        assert len(matcher) == 2
        only.free_slot("job_0/0/0")
        matcher.withdraw("job_1")
        matcher.match()
        assert [inbox.qsize() for inbox in inboxes] == [1, 0, 1]

    asyncio.run(story())


def test_who_failed_is_avoided_and_who_vanished_is_the_last_choice() -> None:
    async def story() -> None:
        directory = Directory(limit=10, changed=lambda: None)
        matcher = Matcher(directory)
        for name in ("ait1bad", "ait1lost", "ait1good"):
            directory.join(session(name))
        inbox: asyncio.Queue[Any] = asyncio.Queue()
        matcher.ask(want("job_1", inbox, avoid={"ait1bad"}, lost={"ait1lost"}))
        assert winner(inbox) == "ait1good"
        matcher.ask(want("job_2", inbox, avoid={"ait1bad"}, lost={"ait1lost"}))
        assert inbox.empty(), "the good one is busy, and busy is better than lost"
        good = directory.get("ait1good")
        assert good is not None
        directory.leave(good)
        matcher.match()
        assert winner(inbox) == "ait1lost"

    asyncio.run(story())


def test_nobody_above_the_quoted_price_is_drawn() -> None:
    async def story() -> None:
        directory = Directory(limit=10, changed=lambda: None)
        matcher = Matcher(directory)
        directory.join(session("ait1dear", price=2_000_000))
        inbox: asyncio.Queue[Any] = asyncio.Queue()
        matcher.ask(want("job_1", inbox))
        assert inbox.empty()
        assert not matcher.feasible("tiny-lm", 1_000_000, set())
        directory.join(session("ait1fair", price=500_000))
        matcher.match()
        assert winner(inbox) == "ait1fair"

    asyncio.run(story())


def winner(inbox: "asyncio.Queue[Any]") -> str:
    granted = inbox.get_nowait()
    assert isinstance(granted, Granted)
    return granted.winner.address


def test_every_answer_says_what_to_do() -> None:
    assert all(answer.fix and answer.status >= 400 for answer in ANSWERS.values())
