"""One lock for receipts of many jobs, delivered in part and paid as they come. docs/spec/escrow.md"""

from typing import Any

import pytest

from aitbc.core.types.amounts import AIT
from aitbc.core.types.records import Lock
from support.ledger import FEE, MINUTE_MS, Batches, Ledger, Work
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, person

CAROL = person("carol")


@pytest.fixture
def chain() -> Ledger:
    chain = Ledger(more=[EVE])
    chain.register(PROVIDER)
    chain.register(CAROL)
    return chain


def session(chain: Ledger, *, amount: int = 10 * AIT, tasks: int = 64, **fields: Any) -> str:
    return chain.lock(amount=amount, tasks=tasks, session=True, **fields)


def record(chain: Ledger, lock: str) -> Lock:
    found = chain.executor.state.get("locks", lock)
    assert isinstance(found, Lock)
    return found


def test_one_lock_pays_many_jobs_of_many_providers(chain: Ledger) -> None:
    lock = session(chain)
    for seq, (provider, job) in enumerate(
        [(PROVIDER, "a chat"), (CAROL, "a picture"), (PROVIDER, "a chat"), (CAROL, "x" * 128)]
    ):
        outcome = chain.claim(provider, lock, job_id=job, task=seq, price=AIT, compute_units=100)
        assert outcome.events[0] == ("paid", provider.address, AIT)
    assert (record(chain, lock).paid, record(chain, lock).paid_tasks) == (4 * AIT, "f")
    assert record(chain, lock).status == "open"


def test_a_lock_that_is_no_session_pays_its_own_job_only(chain: Ledger) -> None:
    lock = chain.lock(tasks=4)
    assert chain.claim(PROVIDER, lock, job_id="job-2").reason == "wrong_job"
    assert chain.claim(PROVIDER, lock, job_id="job-1").ok


STILL_WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("another client", {"client": BOB}, "wrong_client"),
    ("another hub", {"hub": EVE}, "wrong_hub"),
    ("a provider that never registered", {"provider": EVE}, "unknown_provider"),
    ("a task beyond the last", {"task": 64}, "unknown_task"),
    ("a task that was paid", {"task": 5}, "task_already_paid"),
    ("more than is left", {"price": 8 * AIT + 1}, "price_above_escrow"),
    ("all that is left", {"price": 8 * AIT}, ""),
]


@pytest.mark.parametrize(("story", "fields", "reason"), STILL_WRONG, ids=[row[0] for row in STILL_WRONG])
def test_everything_else_must_fit_as_ever(
    chain: Ledger, story: str, fields: dict[str, Any], reason: str
) -> None:
    lock = session(chain)
    assert chain.claim(PROVIDER, lock, job_id="first", task=5, price=2 * AIT).ok
    fields = {"job_id": "second", **fields}
    assert chain.claim(fields.pop("provider", PROVIDER), lock, **fields).reason == reason


def test_tasks_come_in_any_order_and_the_last_one_closes_the_lock(chain: Ledger) -> None:
    lock = session(chain, tasks=3)
    for task, paid_tasks in ((2, "4"), (0, "5")):
        assert chain.claim(PROVIDER, lock, task=task, price=AIT).ok
        assert record(chain, lock).paid_tasks == paid_tasks
    last = chain.claim(PROVIDER, lock, task=1, price=3 * AIT)
    assert last.events[:2] == [("paid", PROVIDER.address, 3 * AIT), ("returned", ALICE.address, 5 * AIT)]
    closed = record(chain, lock)
    assert (closed.status, closed.paid_tasks, closed.closed_ms) == ("settled", "7", chain.now_ms)


def test_a_task_delivered_in_part_is_paid_in_part_and_once(chain: Ledger) -> None:
    """Paula's card died after a third of the work; the hub attests that third."""
    lock = session(chain, amount=3 * AIT, tasks=2)
    assert chain.claim(PROVIDER, lock, task=0, price=AIT, compute_units=333).ok
    again = chain.claim(PROVIDER, lock, task=0, price=AIT, compute_units=667, attempt=2)
    assert again.reason == "task_already_paid"
    assert chain.claim(CAROL, lock, task=1, price=2 * AIT, compute_units=667).ok, "another does the rest"
    assert record(chain, lock).status == "settled"


def test_what_was_not_delivered_returns_when_claims_end(chain: Ledger) -> None:
    lock = session(chain)
    assert chain.claim(PROVIDER, lock, task=0, price=AIT).ok
    before = chain.balance(ALICE)
    refund = chain.do(BOB, "REFUND", {"lock": lock}, after_ms=3 * MINUTE_MS)
    assert refund.events == [("refunded", ALICE.address, 9 * AIT)]
    assert chain.balance(ALICE) - before == 9 * AIT
    assert chain.claim(PROVIDER, lock, task=1, price=AIT).reason == "lock_closed"
    assert (record(chain, lock).status, record(chain, lock).closed_ms) == ("refunded", chain.now_ms - 1_000)


def test_the_most_tasks_that_a_lock_has(chain: Ledger) -> None:
    """All but one in batches, the last one alone."""
    lock = session(chain, amount=4_096, tasks=4_096)
    works = [Work(lock, PROVIDER.address, task=n, units=1, price=1, routed=0) for n in range(4_095)]
    batch = Batches(works).send(chain)
    for start in range(0, 4_095, 200):
        outcome = chain.do(BOB, "SETTLE", batch.settle(start, min(start + 200, 4_095)), fee=1_100)
        assert outcome.ok, outcome
    assert record(chain, lock).paid_tasks == "7" + "f" * 1_023
    assert chain.claim(PROVIDER, lock, task=4_095, price=2).reason == "price_above_escrow"
    assert chain.claim(PROVIDER, lock, task=4_095, price=1).ok
    assert record(chain, lock).status == "settled"


FORMS: list[tuple[str, dict[str, Any], str]] = [
    ("a session", {"session": True, "tasks": 2}, "done"),
    ("a session of one task", {"session": True}, "done"),
    ("the default, spelled out", {"session": False}, "invalid not_canonical"),
    ("a word", {"session": "true"}, "invalid wrong_type"),
    ("a number", {"session": 1}, "invalid wrong_type"),
    ("the most tasks", {"tasks": 4_096}, "done"),
    ("a task too many", {"tasks": 4_097}, "invalid out_of_range"),
    ("no tasks", {"tasks": 0}, "invalid out_of_range"),
]


@pytest.mark.parametrize(("story", "fields", "outcome"), FORMS, ids=[row[0] for row in FORMS])
def test_the_form_of_a_session(chain: Ledger, story: str, fields: dict[str, Any], outcome: str) -> None:
    payload = {
        "hub": HUB.address,
        "job_id": "job-1",
        "amount": AIT,
        "request_hash": "sha256:" + "cd" * 32,
        "deliver_by_ms": chain.now_ms + MINUTE_MS,
        "claim_until_ms": chain.now_ms + MINUTE_MS,
        **fields,
    }
    assert chain.said(ALICE, "JOB_LOCK", payload) == outcome


def test_a_hubs_own_session_pays_for_its_customers(chain: Ledger) -> None:
    """API keys: the hub is client and hub at once; what it is paid back it can lock again."""
    lock = chain.lock(HUB, amount=2 * AIT, tasks=2, session=True)
    outcome = chain.claim(PROVIDER, lock, sender=PROVIDER, client=HUB, job_id="of a customer", price=AIT)
    assert outcome.ok
    assert chain.balance(PROVIDER) == AIT + 2 * AIT - FEE
    assert chain.claim(PROVIDER, lock, client=ALICE, task=1, price=AIT).reason == "wrong_client"
