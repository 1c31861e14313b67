"""Small parts of the hub on their own: the rate limit, the event log, the queue."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from aitbc.core.jobs import link
from aitbc.core.jobs.fairness import JobClass
from aitbc.core.jobs.matching import Ask
from aitbc.hub.events import EventLog
from aitbc.hub.limits import MAX_ADDRESSES, RateLimit
from aitbc.hub.matcher import Matcher, Want
from aitbc.hub.problems import ANSWERS
from aitbc.hub.providers import ROUND_ROBIN, WEIGHTED, Directory, ProviderSession
from hub.market import market, until
from hub.store.made import queued
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


class Line:
    """A matcher, and who was drawn for whom."""

    def __init__(self, *sessions: ProviderSession, policy: str = WEIGHTED) -> None:
        self.directory = Directory(limit=100)
        self.matcher = Matcher(self.directory, policy=policy)
        self.given: list[tuple[str, str]] = []
        for each in sessions:
            self.directory.join(each)

    def ask(self, name: str, **changes: Any) -> Want:
        ask = Ask(
            model="tiny-lm",
            price_per_kilounit=1_000_000,
            client=changes.pop("client", "ait1client"),
            used=frozenset(changes.pop("avoid", ())),
        )
        fields: dict[str, Any] = {
            "key": (name, 0),
            "ask": ask,
            "lost": frozenset(),
            "lock": "ab" * 32,
            "task": 0,
            "attempt": 0,
            "randomness": hashlib.sha256(name.encode()).digest(),
            "job_class": JobClass.NORMAL,
            "vfinish": 0,
            "seq": len(self.given) + len(self.matcher),
            "cost": 1,
            "granted": lambda want, granted: self.given.append((want.key[0], granted.winner.address)),
        }
        want = Want(**{**fields, **changes})
        self.matcher.ask(want)
        return want

    def free(self, address: str, task_id: str) -> None:
        found = self.directory.get(address)
        assert found is not None
        found.free_slot(task_id)
        self.directory.refresh(found)
        self.matcher.match("tiny-lm")


def test_among_equals_first_come_first_served_and_a_slot_is_given_once() -> None:
    async def story() -> None:
        line = Line(session("ait1only"))
        wants = [line.ask(f"job_{number}") for number in range(3)]
        assert line.given == [("job_0", "ait1only")]
        assert len(line.matcher) == 2
        assert line.matcher.withdraw(wants[1])
        assert not line.matcher.withdraw(wants[0]), "it has been given away"
        line.free("ait1only", "job_0/0/0")
        assert line.given == [("job_0", "ait1only"), ("job_2", "ait1only")]

    asyncio.run(story())


def test_who_failed_is_avoided_and_who_vanished_is_the_last_choice() -> None:
    async def story() -> None:
        line = Line(*[session(name) for name in ("ait1bad", "ait1lost", "ait1good")])
        line.ask("job_1", avoid={"ait1bad"}, lost=frozenset({"ait1lost"}))
        line.ask("job_2", avoid={"ait1bad"}, lost=frozenset({"ait1lost"}))
        assert line.given == [("job_1", "ait1good")], "the good one is busy, and busy is better than lost"
        good = line.directory.get("ait1good")
        assert good is not None
        line.directory.leave(good)
        line.matcher.match("tiny-lm")
        assert line.given == [("job_1", "ait1good"), ("job_2", "ait1lost")]

    asyncio.run(story())


def test_nobody_above_the_quoted_price_is_drawn() -> None:
    async def story() -> None:
        line = Line(session("ait1dear", price=2_000_000))
        want = line.ask("job_1")
        assert line.given == []
        assert not line.matcher.feasible(want)
        line.directory.join(session("ait1fair", price=500_000))
        line.matcher.match("tiny-lm")
        assert line.given == [("job_1", "ait1fair")]

    asyncio.run(story())


def test_a_part_that_nobody_free_may_do_holds_up_nobody() -> None:
    async def story() -> None:
        line = Line(session("ait1only"))
        line.ask("mine", client="ait1only")
        line.ask("job_1")
        assert line.given == [("job_1", "ait1only")]

    asyncio.run(story())


def test_round_robin_takes_turns() -> None:
    async def story() -> None:
        names = ["ait1a", "ait1b", "ait1c"]
        line = Line(*[session(name, slots=2) for name in names], policy=ROUND_ROBIN)
        for number in range(6):
            line.ask(f"job_{number}")
        assert [winner for _, winner in line.given] == names * 2

    asyncio.run(story())


def test_every_answer_says_what_to_do() -> None:
    assert all(answer.fix and answer.status >= 400 for answer in ANSWERS.values())


def test_a_part_that_is_ours_on_disk_only_is_given_back(tmp_path: Path) -> None:
    """The connection was lost as a claim's answer was on its way."""

    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            hub = place.hub
            made = queued(hub.store, "job_1", owner=hub.process, deliver_by_ms=hub.now_ms() + 60_000)
            await hub.feeder.mend()
            assert hub.store.owned(hub.process) == [("job_1", 0)], "it may be on its way"
            await hub.feeder.mend()
            await until(lambda: hub.jobs.has(made.job_id, 0) or hub.store.attempts(made.job_id))

    asyncio.run(story())
