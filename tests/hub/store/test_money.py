"""The hub's books: nothing is spent twice, made from nothing or held for ever."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.hub.store import JobStore
from aitbc.hub.store.money import Entry, Purse
from hub.store.conftest import Opener
from hub.store.made import NOW

CLIENT, PROVIDER, FEES = "client:1", "provider:ait1p", "hub:fees"


def deposit(store: JobStore, amount: int, *, event: str = "deposit 1", account: str = CLIENT) -> bool:
    lines = [Entry("outside:chain", "deposit", -amount), Entry(account, "deposit", amount)]
    return store.post(event, lines, at_ms=NOW)


def pay(amount: int, fee: int = 0) -> list[Entry]:
    return [
        Entry(CLIENT, "job", -amount),
        Entry(PROVIDER, "earned", amount - fee),
        *([Entry(FEES, "fee", fee)] if fee else []),
    ]


def test_reserve_then_pay_what_it_was_and_free_the_rest(store: JobStore) -> None:
    deposit(store, 100)
    assert store.hold("job_1", CLIENT, 60, expires_ms=NOW + 1)
    assert store.purse(CLIENT) == Purse(balance=100, held=60)
    with pytest.raises(Refused) as caught:
        store.hold("job_2", CLIENT, 41, expires_ms=NOW + 1)
    assert caught.value.reason == JobReason.BUDGET_EXCEEDED
    assert store.settle_hold("job_1", pay(45, fee=5), at_ms=NOW)
    assert store.purse(CLIENT) == Purse(balance=55, held=0)
    assert store.purse(PROVIDER).balance == 40
    assert store.audit_money() == []
    assert [(line.kind, line.amount) for line in store.statement(CLIENT)] == [("job", -45), ("deposit", 100)]
    newest = store.statement(CLIENT, limit=1)[0]
    assert [line.kind for line in store.statement(CLIENT, before=newest.id)] == ["deposit"]


def test_what_is_told_twice_happens_once(store: JobStore) -> None:
    assert [deposit(store, 100), deposit(store, 100)] == [True, False]
    assert [store.hold("job_1", CLIENT, 60, expires_ms=0) for _ in range(2)] == [True, False]
    assert [store.settle_hold("job_1", pay(60), at_ms=NOW) for _ in range(2)] == [True, False]
    assert not store.release_hold("job_1"), "it was paid"
    assert store.purse(CLIENT) == Purse(40, 0)


def test_what_failed_costs_nothing_and_what_is_forgotten_is_freed(store: JobStore) -> None:
    deposit(store, 100)
    store.hold("failed", CLIENT, 50, expires_ms=NOW + 1_000)
    store.hold("forgotten", CLIENT, 50, expires_ms=NOW)
    assert [store.release_hold("failed"), store.release_hold("failed")] == [True, False]
    assert store.release_expired(now_ms=NOW + 1) == ["forgotten"]
    assert store.purse(CLIENT) == Purse(100, 0)
    assert not store.settle_hold("forgotten", pay(50), at_ms=NOW)


def test_held_money_cannot_be_spent_and_nobody_owes(store: JobStore) -> None:
    deposit(store, 100)
    store.hold("job_1", CLIENT, 60, expires_ms=NOW)
    with pytest.raises(Refused):
        store.post("withdrawal", [Entry(CLIENT, "out", -41), Entry("outside:chain", "out", 41)], at_ms=NOW)
    with pytest.raises(Refused):
        store.post("from nothing", [Entry(FEES, "x", -1), Entry(CLIENT, "x", 1)], at_ms=NOW)
    assert store.audit_money() == []
    with pytest.raises(AssertionError, match="never made"):
        store.post("printing", [Entry(CLIENT, "x", 1)], at_ms=NOW)


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE ledger SET amount = amount + 1 WHERE account = 'client:1'", "event deposit 1 does not sum"),
        ("UPDATE balance SET amount = 7 WHERE account = 'client:1'", "balance of client:1 is not the sum"),
        ("UPDATE hold SET amount = 101", "more is held of client:1"),
        ("DELETE FROM balance WHERE account = 'client:1'", "entries of client:1 have no balance"),
    ],
)
def test_the_audit_finds_what_does_not_add_up(store: JobStore, tampering: str, found: str) -> None:
    deposit(store, 100)
    store.hold("job_1", CLIENT, 60, expires_ms=NOW)
    assert store.audit_money() == []
    with store.database.transaction() as session:
        session.run(tampering)
    assert any(line.startswith(found) for line in store.audit_money()), store.audit_money()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["deposit", "hold", "settle", "release", "expire"]),
        st.integers(0, 3),
        st.integers(0, 120),
    ),
    max_size=40,
)


def test_a_naive_model_agrees_whatever_happens(opener: Opener, kind: str) -> None:
    if kind == "postgres":
        pytest.skip("the statements are the same; SQLite is quick enough for hundreds of histories")
    store = opener()
    runs = iter(range(10**9))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def story(steps: list[tuple[str, int, int]]) -> None:
        run = next(runs)
        client, provider = f"client:{run}", f"provider:{run}"
        balance, earned, held = 0, 0, dict[str, int]()
        ended: set[str] = set()
        for place, (step, number, amount) in enumerate(steps):
            name = f"{run}:job {number}"
            free = balance - sum(held.values())
            match step:
                case "deposit":
                    deposit(store, amount, event=f"{run}:{place}", account=client)
                    balance += amount
                case "hold" if name not in held and name not in ended and amount > free:
                    with pytest.raises(Refused):
                        store.hold(name, client, amount, expires_ms=place)
                case "hold":
                    fresh = name not in held and name not in ended
                    assert store.hold(name, client, amount, expires_ms=place) is fresh
                    if fresh:
                        held[name] = amount
                case "settle":
                    spent = min(amount, held.get(name, 0))
                    lines = [Entry(client, "job", -spent), Entry(provider, "earned", spent)]
                    assert store.settle_hold(name, lines, at_ms=place) is (name in held)
                    if name in held:
                        balance, earned = balance - spent, earned + spent
                        del held[name]
                        ended.add(name)
                case "release":
                    assert store.release_hold(name) is (name in held)
                    if held.pop(name, None) is not None:
                        ended.add(name)
                case "expire":
                    freed: Any = [each for each in store.release_expired(now_ms=10**6) if each in held]
                    assert sorted(freed) == sorted(held)
                    ended |= set(held)
                    held.clear()
            assert store.purse(client) == Purse(balance, sum(held.values()))
            assert store.purse(provider).balance == earned

    story()
    assert store.audit_money() == []
