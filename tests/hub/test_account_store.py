"""The books of accounts, in SQLite and in PostgreSQL: what is set aside, what is paid, and that nothing gets lost."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.hub.accounts import ledger
from aitbc.hub.accounts.database import PostgresAccounts, SqliteAccounts
from aitbc.hub.accounts.records import ApiKey, Hold, Session, Usage
from aitbc.hub.accounts.store import AccountStore
from aitbc.ports import StorageError

GENESIS = "ab" * 32


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AccountStore]:
    if request.param == "sqlite":
        database: Any = SqliteAccounts(tmp_path / "accounts.sqlite")
    else:
        database = PostgresAccounts(request.getfixturevalue("postgres_url"))
    opened = AccountStore(database, genesis_hash=GENESIS)
    yield opened
    opened.close()


def hold(job: str, amount: int, *, account: str = "alice", key: str = "") -> Hold:
    return Hold(
        job_id=job,
        account=account,
        key_id=key,
        purse="",
        lock="",
        amount=amount,
        tokens=0,
        route="/v1/jobs",
        state="held",
        created_ms=5,
    )


def usage(of: Hold, price: int) -> Usage:
    return Usage(
        at_ms=6,
        job_id=of.job_id,
        account=of.account,
        key_id=of.key_id,
        route=of.route,
        kind="chat",
        model="tiny-lm",
        state="complete",
        units=price,
        price=price,
        receipt_id="",
        duration_ms=1,
    )


def session(
    lock: str, *, owner: str = "", amount: int = 1_000, places: int = 100, end: int = 1_000
) -> Session:
    return Session(
        lock=lock,
        owner=owner,
        client=owner or "hub",
        amount=amount,
        committed=0,
        places=places,
        next_place=0,
        deliver_by_ms=end,
        claim_until_ms=end + 100,
        randomness=b"\x01" * 32,
        state="open",
    )


def key(name: str, **changes: Any) -> ApiKey:
    fields: dict[str, Any] = {
        "id": name,
        "account": "alice",
        "label": "",
        "budget": None,
        "spent": 0,
        "held": 0,
        "rpm": None,
        "tpm": None,
        "models": ["tiny-lm"],
        "expires_ms": 0,
        "created_ms": 1,
        "revoked_ms": 0,
    }
    return ApiKey(**{**fields, **changes})


def reason_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    return str(caught.value.reason)


def check_books(store: AccountStore) -> dict[str, int]:
    assert store.audit() == []
    return store.balances()


def test_a_job_from_deposit_to_change(store: AccountStore) -> None:
    assert store.post(ledger.deposited(tx_id="t1", account="alice", amount=500), at_ms=1)
    assert not store.post(ledger.deposited(tx_id="t1", account="alice", amount=500), at_ms=2), "counted once"
    store.add_session(session("lock"), at_ms=1)
    store.add_key(key("k", budget=100), key_hash="h")
    seat, noted = store.reserve(hold("j1", 80, key="k"), deliver_by_ms=900)
    assert (seat.lock, seat.place, seat.client, seat.randomness) == ("lock", 0, "hub", b"\x01" * 32)
    assert store.account("alice").free == 420 and store.account("alice").held == 80
    assert reason_of(store.reserve, hold("j2", 30, key="k"), deliver_by_ms=900) == JobReason.BUDGET_EXCEEDED
    assert store.settle(noted, price=50, usage=usage(noted, 50))
    assert not store.settle(noted, price=50, usage=usage(noted, 50)), "settled once"
    assert check_books(store) == {"chain:": -500, "free:alice": 450, "held:alice": 0, "income:": 50}
    spent = store.key_by_hash("h")
    assert spent is not None and (spent.spent, spent.held, spent.models) == (50, 0, ["tiny-lm"])
    (row,) = store.usage(account="alice", from_ms=0, until_ms=10, limit=10)
    assert row == usage(noted, 50)
    assert store.sessions("")[0].committed == 50


def test_what_is_refused_changes_nothing(store: AccountStore) -> None:
    store.post(ledger.granted(name="g", account="alice", amount=100), at_ms=1)
    assert reason_of(store.reserve, hold("j", 10), deliver_by_ms=900) == JobReason.NO_SESSION
    store.add_session(session("lock", amount=50, places=2), at_ms=1)
    before = check_books(store)
    for wanted, end, why in [
        (hold("j", 101), 900, JobReason.PAYMENT_REQUIRED),
        (hold("j", 60), 900, JobReason.NO_SESSION),
        (hold("j", 10), 1_001, JobReason.NO_SESSION),
        (hold("j", 1, account="bob"), 900, JobReason.PAYMENT_REQUIRED),
    ]:
        assert reason_of(store.reserve, wanted, deliver_by_ms=end) == why
    assert check_books(store) == before
    assert store.sessions("")[0].next_place == 0
    taking_back = ledger.granted(name="back", account="alice", amount=-101)
    assert reason_of(store.post, taking_back, at_ms=1) == JobReason.PAYMENT_REQUIRED
    assert check_books(store) == before


def test_a_session_of_the_accounts_own_comes_first(store: AccountStore) -> None:
    store.post(ledger.granted(name="g", account="alice", amount=100), at_ms=1)
    store.add_session(session("hubs"), at_ms=1)
    store.add_session(session("late", owner="alice", amount=40, end=2_000), at_ms=1)
    store.add_session(session("soon", owner="alice", amount=40, places=1), at_ms=1)
    assert not store.add_session(session("soon", owner="alice", amount=40), at_ms=1)
    taken = [store.reserve(hold(f"j{number}", 30), deliver_by_ms=900)[0].lock for number in range(3)]
    assert taken == ["soon", "late", "hubs"]
    for open_hold in store.open_holds(before_ms=10):
        store.settle(open_hold, price=10, usage=usage(open_hold, 10))
    for own in store.sessions_over(5_000):
        store.end_session(own, at_ms=9)
        store.end_session(own, at_ms=9)
    books = check_books(store)
    assert (books["free:alice"], books["income:"], books["escrow:"]) == (90, 10, 0 - 80 + 60 + 20)
    assert books["free:soon"] == books["free:late"] == 0
    assert store.sessions("alice") == []


def test_a_lock_that_is_being_opened_pays_nothing_yet(store: AccountStore) -> None:
    import msgspec

    store.post(ledger.granted(name="g", account="alice", amount=100), at_ms=1)
    store.add_session(msgspec.structs.replace(session("lock"), state="opening", randomness=b""), at_ms=1)
    assert reason_of(store.reserve, hold("j", 1), deliver_by_ms=900) == JobReason.NO_SESSION
    assert [one.lock for one in store.sessions_opening()] == ["lock"]
    store.open_session("lock", randomness=b"\x02" * 32)
    assert store.reserve(hold("j", 1), deliver_by_ms=900)[0].randomness == b"\x02" * 32
    store.drop_session("lock")
    assert store.sessions("") != [], "what is open is not dropped"


def test_nonces_and_idempotency_keys(store: AccountStore) -> None:
    assert store.use_nonce("a", "n", expires_ms=10, now_ms=1)
    assert not store.use_nonce("a", "n", expires_ms=10, now_ms=2)
    assert store.use_nonce("b", "n", expires_ms=10, now_ms=2)
    assert store.use_nonce("a", "n", expires_ms=30, now_ms=11), "forgotten when its time is past belief"
    first = store.remember("a", "k", body_hash="h", jobs=["j1"], now_ms=1, expires_ms=10)
    again = store.remember("a", "k", body_hash="x", jobs=["j2"], now_ms=2, expires_ms=10)
    assert first == again == ("h", ["j1"])
    store.forget_key("a", "k")
    assert store.remember("a", "k", body_hash="x", jobs=["j2"], now_ms=2, expires_ms=10) == ("x", ["j2"])


@pytest.mark.parametrize("seed", range(3))
def test_the_books_balance_whatever_happens(store: AccountStore, seed: int) -> None:
    """Random deposits, jobs, failures and repetitions, against the plainest of models: a dict of balances."""
    dice = random.Random(seed)
    free: dict[str, int] = {"alice": 0, "bob": 0}
    income, held = 0, 0
    store.add_session(session("hubs", amount=10_000, places=4_096), at_ms=1)
    open_holds: list[Hold] = []
    known: list[ledger.Event] = []
    for step in range(120):
        who = dice.choice(list(free))
        match dice.choice(["deposit", "reserve", "reserve", "settle", "again"]):
            case "deposit":
                event = ledger.deposited(tx_id=f"t{step}", account=who, amount=dice.randrange(1, 200))
                assert store.post(event, at_ms=step)
                known.append(event)
                free[who] += event.postings[1].amount
            case "reserve":
                wanted = hold(f"j{step}", dice.randrange(0, 150), account=who)
                if wanted.amount > free[who]:
                    assert reason_of(store.reserve, wanted, deliver_by_ms=900) == JobReason.PAYMENT_REQUIRED
                    continue
                open_holds.append(store.reserve(wanted, deliver_by_ms=900)[1])
                free[who] -= wanted.amount
                held += wanted.amount
            case "settle" if open_holds:
                done = open_holds.pop(dice.randrange(len(open_holds)))
                price = dice.choice([0, dice.randint(0, done.amount)])
                store.settle(done, price=price, usage=usage(done, price))
                free[done.account] += done.amount - price
                income, held = income + price, held - done.amount
            case "again" if known:
                assert not store.post(dice.choice(known), at_ms=step)
    books = check_books(store)
    assert {who: books.get(f"free:{who}", 0) for who in free} == free
    assert sum([books.get(f"held:{who}", 0) for who in free]) == held
    assert books.get("income:", 0) == income
    assert store.sessions("")[0].committed == income + held


def test_nothing_is_spent_twice_at_the_same_time(store: AccountStore) -> None:
    """Eight threads reserve 10 of 100 each, twenty times: ten win."""
    store.post(ledger.granted(name="g", account="alice", amount=100), at_ms=1)
    store.add_session(session("lock"), at_ms=1)
    places: list[int] = []

    def spend(thread: int) -> None:
        for number in range(20):
            try:
                places.append(store.reserve(hold(f"{thread}-{number}", 10), deliver_by_ms=900)[0].place)
            except Refused:
                continue

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(places) == list(range(10))
    assert check_books(store)["held:alice"] == 100


def test_a_file_of_another_chain_is_refused(tmp_path: Path) -> None:
    AccountStore(SqliteAccounts(tmp_path / "a"), genesis_hash=GENESIS).close()
    with pytest.raises(StorageError, match="another chain"):
        AccountStore(SqliteAccounts(tmp_path / "a"), genesis_hash="cd" * 32)
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0
    (tmp_path / "b").write_text("this is no database, only a text that is long enough to be looked at")
    with pytest.raises(StorageError):
        AccountStore(SqliteAccounts(tmp_path / "b"), genesis_hash=GENESIS)


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        (
            "UPDATE account_posting SET amount = amount + 1 WHERE account = 'chain:'",
            "event deposit:t does not",
        ),
        (
            "UPDATE account_balance SET amount = 7 WHERE account = 'free:alice'",
            "balance of free:alice is not",
        ),
        ("UPDATE account_hold SET amount = 61", "what is held of held:alice is not"),
        (
            "DELETE FROM account_balance WHERE account = 'free:alice'",
            "postings of free:alice have no balance",
        ),
        ("UPDATE account_balance SET amount = -1 WHERE account = 'held:alice'", "held:alice is below zero"),
    ],
)
def test_the_audit_finds_what_does_not_add_up(store: AccountStore, tampering: str, found: str) -> None:
    store.post(ledger.deposited(tx_id="t", account="alice", amount=100), at_ms=1)
    store.add_session(session("lock"), at_ms=1)
    store.reserve(hold("job", 60), deliver_by_ms=900)
    assert store.audit() == []
    with store._database.transaction() as sql:
        sql.run(tampering)
    assert any(line.startswith(found) for line in store.audit()), store.audit()


def test_the_hub_pays_itself_for_checks_and_uses_what_the_last_one_left(store: AccountStore) -> None:
    store.add_session(session("lock"), at_ms=1)
    _, first = store.reserve(hold("one", 60, account=ledger.CHECKS), deliver_by_ms=900)
    store.settle(first, price=20, usage=usage(first, 20))
    store.reserve(hold("two", 50, account=ledger.CHECKS), deliver_by_ms=900)
    books = check_books(store)
    assert (books["checking:"], books["income:"], books[f"held:{ledger.CHECKS}"]) == (-70, 20, 50)
    assert store.sessions("")[0].committed == 70
