"""The queue on disk: what a job goes through, who may have what, and what becomes of the work of the dead."""

import threading

import pytest

from aitbc.core.jobs.lifecycle import State
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.hub.store import JobStore
from aitbc.hub.store.queue import Appetite, Waiting
from hub.store.conftest import Opener
from hub.store.made import MODEL, NOW, attempt, change, delivery, lock_of, queued, quote, reservation

ALL = [Appetite(MODEL, 1, 100)]


def claimed(store: JobStore, process: str, appetites: list[Appetite] = ALL) -> list[tuple[str, int]]:
    return [
        (each.job.quote.job_id, task.part) for each in store.claim(process, appetites) for task in each.tasks
    ]


def test_the_life_of_a_job_from_quote_to_settlement(store: JobStore) -> None:
    made = quote("job_1")
    store.add_quote(made)
    assert store.open_quotes() == ["job_1"]
    assert store.reserve([reservation(made, owner="p")]) == [True]
    assert store.begin_attempts([attempt(made, "p")]) == [True]
    assert store.change_tasks([change(made, "p", State.RUNNING)]) == [True]
    sent = delivery(made, "p")
    assert store.save_deliveries([sent]) == [True]
    (entry,) = store.open_receipts()
    assert entry == sent.entry
    assert store.result_data("job_1") == b" words"
    store.close_receipt(
        entry.receipt_id,
        receipt_state="claimed",
        task_state=State.SETTLED,
        claim_tx="tx",
        reason="",
        message="",
        at_ms=NOW,
    )
    record = store.job("job_1")
    assert record is not None
    assert (record.quote, record.state, record.lock, record.attempts) == (
        made,
        State.SETTLED,
        lock_of("job_1"),
        1,
    )
    assert store.open_receipts() == []
    assert [event["state"] for event in store.events("job_1")] == [
        "quoted",
        "reserved",
        "queued",
        "leased",
        "running",
        "delivered",
        "settled",
    ]


def test_a_quote_is_taken_once_and_a_lock_pays_one_job(store: JobStore) -> None:
    first, second = quote("job_1"), quote("job_2")
    for each in (first, second):
        store.add_quote(each)
    mine, other = reservation(first, owner="p"), reservation(first, owner="q")
    assert store.reserve([mine, other]) == [True, False]
    assert store.reserve([mine]) == [True], "the answer was lost, so it is said again"
    assert store.owned("p") == [("job_1", 0)]
    assert store.reserve([reservation(second, lock=lock_of("job_1"))]) == [False]
    assert store.reserve([reservation(second, lock=lock_of("job_1"), first_task=1)]) == [True], "a session"


def test_parts_are_claimed_fairest_first_and_by_one_process_only(store: JobStore) -> None:
    for name, vfinish, job_class in (("late", 9, 1), ("early", 1, 1), ("batch", 0, 2)):
        queued(store, name, vfinish=vfinish, job_class=job_class)
    queued(store, "other model", cap="another")
    assert claimed(store, "p", [Appetite(MODEL, 1, 1)]) == [("early", 0)]
    assert sorted(claimed(store, "q", [*ALL, Appetite(MODEL, 2, 10)])) == [("batch", 0), ("late", 0)]
    assert claimed(store, "p") == []
    assert sorted(store.waiting()) == [
        Waiting("another", 1, 1, 10),
        Waiting(MODEL, 1, 2, 20),
        Waiting(MODEL, 2, 1, 10),
    ]


def test_what_is_ahead_of_a_job(store: JobStore) -> None:
    for name, vfinish in (("first", 1), ("second", 2), ("mine", 3), ("after", 4)):
        queued(store, name, vfinish=vfinish)
    assert store.ahead_of("mine") == [Waiting(MODEL, 1, 2, 20)]
    assert store.ahead_of("nobody") == []


def test_only_the_owner_moves_a_part_and_saying_it_twice_changes_it_once(store: JobStore) -> None:
    made = queued(store, "job_1", owner="p")
    assert store.begin_attempts([attempt(made, "stranger")]) == [False]
    assert store.begin_attempts([attempt(made, "p")]) == [True]
    assert store.begin_attempts([attempt(made, "p")]) == [True], "the answer was lost, so it is said again"
    assert len(store.attempts("job_1")) == 1
    assert store.begin_attempts([attempt(made, "p", number=2)]) == [False], "that is not the next one"
    assert store.change_tasks([change(made, "stranger", State.RUNNING)]) == [False]
    assert store.save_deliveries([delivery(made, "stranger")]) == [False]
    sent = delivery(made, "p")
    assert [store.save_deliveries([sent]), store.save_deliveries([sent])] == [[True], [True]]
    assert store.change_tasks([change(made, "p", State.QUEUED)]) == [False], "nothing revives it"
    assert len(store.open_receipts()) == 1


def test_two_attempts_at_once_and_the_first_delivery_wins(store: JobStore) -> None:
    made = queued(store, "job_1", owner="p")
    store.begin_attempts([attempt(made, "p")])
    assert store.begin_attempts([attempt(made, "p", number=1, hedge=True)]) == [True]
    assert store.save_deliveries([delivery(made, "p", number=1)]) == [True]
    assert store.save_deliveries([delivery(made, "p", number=0, data=b" other")]) == [False]
    assert [entry.signed.attestation.attempt for entry in store.open_receipts()] == [1]


def test_the_work_of_a_dead_process_is_taken_over_and_its_late_words_change_nothing(store: JobStore) -> None:
    store.alive("dead", until_ms=NOW + 10)
    store.alive("quick", until_ms=NOW + 1_000)
    waiting, running = queued(store, "waiting", owner="dead"), queued(store, "running", owner="dead")
    queued(store, "mine", owner="quick")
    store.begin_attempts([attempt(running, "dead")])
    assert store.reclaim(now_ms=NOW) == 0, "it is alive until then"
    assert store.reclaim(now_ms=NOW + 11) == 2
    assert sorted(claimed(store, "quick")) == [("running", 0), ("waiting", 0)]
    assert [a.reason for a in store.attempts("running")] == ["hub_restarted"]
    assert store.save_deliveries([delivery(running, "dead")]) == [False]
    assert store.begin_attempts([attempt(waiting, "dead")]) == [False]
    assert store.begin_attempts([attempt(running, "quick", number=1)]) == [True]
    assert store.save_deliveries([delivery(running, "quick", number=1)]) == [True]


def test_a_third_attempt_that_died_with_its_process_was_the_last(store: JobStore) -> None:
    made = queued(store, "job_1", owner="dead")
    for number in range(3):
        assert store.begin_attempts([attempt(made, "dead", number=number)]) == [True]
        if number < 2:
            store.change_tasks([change(made, "dead", State.QUEUED, reason="x", ended_attempt=number)])
    assert store.reclaim(now_ms=NOW) == 1
    record = store.job("job_1")
    assert record is not None
    assert (record.state, record.reason) == (State.FAILED, "hub_restarted")


def test_one_process_at_a_time_has_a_duty(store: JobStore) -> None:
    store.alive("a", until_ms=NOW + 10)
    store.alive("b", until_ms=NOW + 99)
    assert store.has_duty("claims", "a", now_ms=NOW)
    assert not store.has_duty("claims", "b", now_ms=NOW)
    assert store.has_duty("claims", "b", now_ms=NOW + 11), "a is dead"
    assert not store.has_duty("claims", "a", now_ms=NOW + 11)
    store.leave("b")
    assert store.has_duty("claims", "a", now_ms=NOW + 12)


def test_a_job_of_parts_is_what_its_parts_make_of_it(store: JobStore) -> None:
    made = queued(store, "job_1", parts=3, owner="p")

    def state() -> State:
        record = store.job("job_1")
        assert record is not None
        return record.state

    for part in range(3):
        store.begin_attempts([attempt(made, "p", part=part)])
    assert state() == State.LEASED
    store.save_deliveries([delivery(made, "p", part=1)])
    assert state() == State.RUNNING
    store.change_tasks([change(made, "p", State.FAILED, part=0, reason="engine_failed")])
    store.save_deliveries([delivery(made, "p", part=2)])
    assert state() == State.DELIVERED, "of which two parts are paid"
    assert [entry.part for entry in store.receipts_of_job("job_1")] == [1, 2]
    for entry in store.open_receipts():
        store.close_receipt(
            entry.receipt_id,
            receipt_state="claimed",
            task_state=State.SETTLED,
            claim_tx="",
            reason="",
            message="",
            at_ms=NOW,
        )
    assert state() == State.SETTLED


def test_what_waits_too_long_ends_and_is_forgotten(store: JobStore) -> None:
    queued(store, "late", deliver_by_ms=NOW + 1_000)
    queued(store, "in an index", deliver_by_ms=NOW + 1_000, owner="p")
    queued(store, "good", deliver_by_ms=NOW + 9_000)
    assert store.expire_waiting(now_ms=NOW, margin_ms=5_000) == 1
    assert store.unfinished() == 2
    record = store.job("late")
    assert record is not None
    assert (record.state, record.reason) == (State.EXPIRED, JobReason.DEADLINE_MISSED)
    assert store.forget(ended_before_ms=NOW + 1, unused_before_ms=0) == 1
    assert store.job("late") is None
    assert store.tasks("late") == store.events("late") == []


def test_quotes_that_nobody_paid_for_expire(store: JobStore) -> None:
    for name in ("spared", "gone", "canceled"):
        store.add_quote(quote(name))
    store.cancel_quote("canceled", at_ms=NOW)
    with pytest.raises(Refused) as caught:
        store.cancel_quote("canceled", at_ms=NOW)
    assert caught.value.reason == JobReason.JOB_OVER
    late = NOW + 30_001
    assert store.expire_quotes(late, spare={"spared"}, reason="quote_expired", message="") == ["gone"]
    assert store.reserve([reservation(quote("gone"))]) == [False]


def test_a_waiting_job_is_canceled_where_nobody_has_it(store: JobStore) -> None:
    queued(store, "free", parts=2)
    queued(store, "held", owner="p")
    assert (store.cancel_waiting("free", at_ms=NOW), store.cancel_waiting("held", at_ms=NOW)) == (2, 0)
    record = store.job("free")
    assert record is not None
    assert record.state == State.CANCELED
    assert claimed(store, "p") == []


def test_it_is_all_there_after_a_restart(opener: Opener) -> None:
    first = opener()
    made = queued(first, "job_1", parts=2, owner="dead")
    first.begin_attempts([attempt(made, "dead", part=1)])
    first.close()
    again = opener()
    assert again.reclaim(now_ms=NOW) == 2
    assert sorted(claimed(again, "p")) == [("job_1", 0), ("job_1", 1)]
    assert [task.attempts for task in again.tasks("job_1")] == [0, 1]


def test_a_thousand_parts_go_to_eight_processes_each_to_one(opener: Opener, kind: str) -> None:
    """On PostgreSQL they claim at the same time, each with a connection of its own."""
    store = opener()
    for start in range(0, 1_000, 250):
        made = [quote(f"job_{number:04}") for number in range(start, start + 250)]
        with store.group():
            for each in made:
                store.add_quote(each)
        store.reserve([reservation(each, vfinish=int(each.job_id[4:])) for each in made])
    got: dict[str, list[tuple[str, int]]] = {}

    def work(name: str) -> None:
        mine = opener() if kind == "postgres" else store
        got[name] = []
        while batch := claimed(mine, name, [Appetite(MODEL, 1, 20)]):
            got[name] += batch

    threads = [threading.Thread(target=work, args=(f"p{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    everything = [part for parts in got.values() for part in parts]
    assert len(everything) == len(set(everything)) == 1_000


def test_in_a_group_what_fails_takes_only_itself_back(store: JobStore) -> None:
    with store.group():
        store.add_quote(quote("job_1"))
        with pytest.raises(Refused):
            store.cancel_quote("nobody", at_ms=NOW)
        store.add_quote(quote("job_2"))
    assert sorted(store.open_quotes()) == ["job_1", "job_2"]
