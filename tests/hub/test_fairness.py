"""A busy pool in virtual time, with the real matcher: equal clients get equal shares, and nobody is forgotten."""

import heapq
import random
import statistics
from hashlib import sha256
from typing import Any

from aitbc.core.jobs.fairness import JobClass, cost_of
from aitbc.core.jobs.matching import Ask
from aitbc.core.jobs.reputation import Standing, succeeded
from aitbc.hub.matcher import Matcher, Want
from aitbc.hub.providers import Directory, Granted
from hub.test_hub_parts import session

CLIENTS, PROVIDERS = 20, 10


class Pool:
    """Jobs come and go by a heap of events; a job of u units takes u milliseconds."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0
        self.directory = Directory(limit=100)
        self.matcher = Matcher(self.directory)
        self.events: list[tuple[int, int, Any]] = []
        self.count = 0
        self.served: dict[str, int] = {}
        self.waits: dict[int, list[int]] = {}
        self.won: dict[str, int] = {}
        for number in range(PROVIDERS):
            found = session(f"ait1p{number:02}", slots=2)
            found.standing = Standing(valid=50)
            self.directory.join(found)

    def at(self, when: int, what: Any) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, what))

    def ask(self, client: str, units: int, job_class: int) -> None:
        self.count += 1
        began, cost = self.now, cost_of(units, 1_000)
        name = f"job {self.count}"

        def granted(_want: Want, grant: Granted) -> None:
            self.waits.setdefault(job_class, []).append(self.now - began)
            self.served[client] = self.served.get(client, 0) + units
            self.won[grant.winner.address] = self.won.get(grant.winner.address, 0) + 1
            self.at(self.now + units, (grant, client))

        self.matcher.ask(
            Want(
                key=(name, 0),
                ask=Ask(model="tiny-lm", price_per_kilounit=1_000_000, client=client),
                lost=frozenset(),
                lock="ab" * 32,
                task=0,
                attempt=0,
                randomness=sha256(name.encode()).digest(),
                job_class=job_class,
                vfinish=self.matcher.queue("tiny-lm").clock.stamp(client, cost),
                seq=self.count,
                cost=cost,
                granted=granted,
            )
        )

    def finish(self, grant: Granted) -> None:
        grant.session.free_slot(grant.task_id)
        grant.session.standing = succeeded(grant.session.standing, now_ms=self.now)
        self.directory.refresh(grant.session)
        self.matcher.match("tiny-lm")

    def run(self, until: int, arrive: Any) -> None:
        while self.events and self.now < until:
            self.now, _, what = heapq.heappop(self.events)
            if isinstance(what, tuple):
                self.finish(what[0])
            else:
                arrive(what)


def jain(shares: list[int]) -> float:
    return float(sum(shares) ** 2 / (len(shares) * sum([share * share for share in shares])))


def test_equal_clients_of_an_overloaded_pool_get_equal_shares() -> None:
    """Each always has work waiting; some ask for much at once, some for little, some for both."""
    pool = Pool(1)

    def arrive(client: str) -> None:
        greedy = int(client) % 3
        for _ in range((1, 5, 20)[greedy]):
            pool.ask(client, pool.rng.randint(*((50, 400), (10, 50), (100, 2_000))[greedy]), JobClass.NORMAL)
        pool.at(pool.now + pool.rng.randint(1, (300, 400, 20_000)[greedy]), client)

    for number in range(CLIENTS):
        pool.at(number, str(number))
    pool.run(100_000, arrive)
    assert len(pool.matcher) > 100, "it was overloaded"
    assert jain([pool.served[str(number)] for number in range(CLIENTS)]) >= 0.95
    assert jain(list(pool.won.values())) >= 0.9, "work does not go to the same few"


def test_nobody_waits_ten_times_as_long_as_his_class() -> None:
    """At nine tenths of what the pool can do, with three classes."""
    pool = Pool(2)
    classes = [JobClass.INTERACTIVE, JobClass.NORMAL, JobClass.BATCH]

    def arrive(client: str) -> None:
        number = int(client)
        pool.ask(client, pool.rng.randint(100, 300), classes[number % 3])
        pool.at(pool.now + pool.rng.randint(100, 344), client)

    for number in range(CLIENTS):
        for _ in range(5 if number % 3 == 2 else 1):  # who sends batches sends many at once
            pool.at(number, str(number))
    pool.run(200_000, arrive)
    for job_class, waits in pool.waits.items():
        median = max(statistics.median(waits), 200)  # below one job's length a wait is none
        assert max(waits) <= 10 * median, (job_class, max(waits), median)
    assert len(pool.waits) == 3
