"""A hub puts many receipts under one root; whoever likes settles any range of them. docs/spec/batches.md"""

import base64
import random
from collections.abc import Callable
from typing import Any

import pytest

from aitbc.core.codec.leaves import LEAF, leaf_bytes_of
from aitbc.core.crypto.merkle import list_root, prove_range, range_root
from aitbc.core.types.amounts import AIT, MAX_SIGNED, MAX_TOTAL, MAX_UNITS
from aitbc.core.types.records import Batch, Lock, PaidReceipt
from support.chain import REQUEST
from support.ledger import FEE, MINUTE_MS, Batches, Ledger, Work, people
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, person

CAROL = person("carol")
"""A second provider; she is paid at her sister's address."""
SISTER = person("sister")
RIVAL = person("rival hub")
MAX_LOCK_MS = 60 * MINUTE_MS


@pytest.fixture
def chain() -> Ledger:
    chain = Ledger(more=[RIVAL], max_lock_ms=MAX_LOCK_MS)
    chain.register(PROVIDER)
    chain.register(CAROL, payout=SISTER.address)
    assert chain.do(RIVAL, "REGISTER", {"role": "hub", "models": []}).ok
    return chain


def session(chain: Ledger, *, amount: int = 100 * AIT, tasks: int = 100, **fields: Any) -> str:
    return chain.lock(amount=amount, tasks=tasks, session=True, **fields)


def settle(chain: Ledger, batch: Batches, start: int = 0, stop: int | None = None, who: Any = BOB) -> Any:
    return chain.do(who, "SETTLE", batch.settle(start, stop))


def lock_record(chain: Ledger, lock: str) -> Lock:
    record = chain.executor.state.get("locks", lock)
    assert isinstance(record, Lock)
    return record


def test_a_batch_is_paid_in_one_sum_for_each_provider(chain: Ledger) -> None:
    """Three receipts of two providers out of two locks; the second lock has paid its last task."""
    one, other = sorted([session(chain), chain.lock(amount=5 * AIT)])
    long, short = (one, other) if lock_record(chain, one).session else (other, one)
    batch = Batches(
        [
            Work(long, PROVIDER.address, task=0, price=2 * AIT, units=2_000),
            Work(short, CAROL.address, task=0, price=3 * AIT, units=1_000),
            Work(long, PROVIDER.address, task=9, price=4 * AIT, units=3_000, attempt=2),
        ]
    ).send(chain)
    outcome = settle(chain, batch)
    first = (PROVIDER.address, 6 * AIT, 5 * AIT)
    second = (SISTER.address, 3 * AIT, 1 * AIT)
    in_order = [first, second] if PROVIDER.address < CAROL.address else [second, first]
    assert outcome.events == [
        ("returned", ALICE.address, 2 * AIT),
        *[("paid", who, paid) for who, paid, _ in in_order],
        *[("minted", who, minted) for who, _, minted in in_order],
        ("minted", HUB.address, 6 * AIT * 5 // 100),
    ]
    assert (chain.balance(PROVIDER), chain.balance(SISTER), chain.balance(CAROL)) == (11 * AIT, 4 * AIT, 0)
    assert lock_record(chain, long).paid_tasks == f"{1 | 1 << 9:x}"
    assert (lock_record(chain, long).paid, lock_record(chain, long).status) == (6 * AIT, "open")
    assert lock_record(chain, short).status == "settled"
    assert chain.count("receipts", "rcpt_") == 0, "the lock's bit is all that is kept"


def test_what_a_batch_leaves_on_the_chain(chain: Ledger) -> None:
    batch = Batches([Work(session(chain), PROVIDER.address)])
    outcome = chain.do(HUB, "RECEIPT_BATCH", batch.payload)
    assert outcome.events == [("batched", outcome.tx_id.hex(), 1)]
    assert chain.executor.state.get("receipts", f"batch:{outcome.tx_id.hex()}") == Batch(
        hub=HUB.address,
        root=list_root(batch.leaves).hex(),
        count=1,
        height=chain.height,
        expires_ms=chain.now_ms + MAX_LOCK_MS,
    )


def test_ranges_are_settled_in_any_order_by_anybody(chain: Ledger) -> None:
    lock = session(chain)
    works = [Work(lock, (PROVIDER, CAROL)[n % 2].address, task=n, price=n + 1) for n in range(11)]
    batch = Batches(works).send(chain)
    ranges = [(7, 8), (0, 3), (8, 11), (3, 7)]
    for who, (start, stop) in zip((BOB, ALICE, HUB, BOB), ranges, strict=True):
        outcome = settle(chain, batch, start, stop, who=who)
        paid = sum(amount for kind, _, amount in outcome.events if kind == "paid")
        assert paid == sum(range(start + 1, stop + 1)), (start, stop)
    assert lock_record(chain, lock).paid == 66
    assert lock_record(chain, lock).paid_tasks == f"{(1 << 11) - 1:x}"


def test_overlapping_ranges_pay_each_receipt_once(chain: Ledger) -> None:
    lock = session(chain)
    batch = Batches([Work(lock, PROVIDER.address, task=n, price=AIT) for n in range(6)]).send(chain)
    assert settle(chain, batch, 0, 4).ok
    outcome = settle(chain, batch, 2, 6)
    assert outcome.events[:3] == [
        ("skipped", "2:task_already_paid", 0),
        ("skipped", "3:task_already_paid", 0),
        ("paid", PROVIDER.address, 2 * AIT),
    ]
    again = settle(chain, batch)
    assert (again.ok, again.reason, again.events) == (False, "nothing_to_settle", [])
    assert lock_record(chain, lock).paid == 6 * AIT


def test_a_receipt_is_paid_once_whichever_way_it_comes(chain: Ledger) -> None:
    lock = session(chain)
    batch = Batches([Work(lock, PROVIDER.address, task=n, price=2 * AIT) for n in range(3)]).send(chain)
    assert chain.claim(PROVIDER, lock, task=1, job_id="any job").ok
    outcome = settle(chain, batch)
    assert outcome.events[:2] == [("skipped", "1:task_already_paid", 0), ("paid", PROVIDER.address, 4 * AIT)]
    late = chain.claim(PROVIDER, lock, task=2, job_id="any job")
    assert (late.ok, late.reason) == (False, "task_already_paid")
    assert lock_record(chain, lock).paid == 6 * AIT


def test_two_batches_may_name_the_same_work_and_it_is_paid_once(chain: Ledger) -> None:
    """An indebted hub doubles its batch; the second one finds nothing."""
    work = Work(session(chain), PROVIDER.address)
    first, second = Batches([work]).send(chain), Batches([work]).send(chain)
    assert settle(chain, second).ok
    assert settle(chain, first).reason == "nothing_to_settle"


# One leaf that cannot be paid beside one that can.


def no_registration(chain: Ledger, good: Work) -> Work:
    return good._replace(task=1, provider=EVE.address)


def no_lock(chain: Ledger, good: Work) -> Work:
    return good._replace(task=1, lock="00" * 32)


def another_hubs_lock(chain: Ledger, good: Work) -> Work:
    return good._replace(lock=chain.lock(hub=RIVAL.address))


def a_refunded_lock(chain: Ledger, good: Work) -> Work:
    lock = chain.lock(deliver_by_ms=chain.now_ms + 1_001, claim_until_ms=chain.now_ms + 2_000)
    assert chain.do(BOB, "REFUND", {"lock": lock}, after_ms=5_000).ok
    return good._replace(lock=lock)


def a_late_lock(chain: Ledger, good: Work) -> Work:
    lock = chain.lock(deliver_by_ms=chain.now_ms + 1_001, claim_until_ms=chain.now_ms + 2_000)
    chain.block(after_ms=1_001)
    return good._replace(lock=lock)


def no_such_task(chain: Ledger, good: Work) -> Work:
    return good._replace(task=100)


def a_paid_task(chain: Ledger, good: Work) -> Work:
    assert chain.claim(PROVIDER, good.lock, task=7).ok
    return good._replace(task=7)


def more_than_the_lock_has(chain: Ledger, good: Work) -> Work:
    return good._replace(task=1, price=98 * AIT + 1)


def its_own_twin(chain: Ledger, good: Work) -> Work:
    return good._replace(receipt="22" * 32)


UNPAYABLE: list[tuple[Callable[[Ledger, Work], Work], str]] = [
    (no_registration, "unknown_provider"),
    (no_lock, "unknown_lock"),
    (another_hubs_lock, "wrong_hub"),
    (a_refunded_lock, "lock_closed"),
    (a_late_lock, "claim_too_late"),
    (no_such_task, "unknown_task"),
    (a_paid_task, "task_already_paid"),
    (its_own_twin, "task_already_paid"),
    (more_than_the_lock_has, "price_above_escrow"),
]


@pytest.mark.parametrize(("spoil", "reason"), UNPAYABLE, ids=[row[0].__name__ for row in UNPAYABLE])
def test_a_leaf_that_cannot_be_paid_does_not_stop_the_others(
    chain: Ledger, spoil: Callable[[Ledger, Work], Work], reason: str
) -> None:
    good = Work(session(chain), PROVIDER.address, price=2 * AIT)
    batch = Batches([good, spoil(chain, good), good._replace(task=50)]).send(chain)
    before = chain.balance(PROVIDER)
    outcome = settle(chain, batch)
    assert outcome.ok
    assert [event for event in outcome.events if event[0] == "skipped"] == [("skipped", f"1:{reason}", 0)]
    assert ("paid", PROVIDER.address, 4 * AIT) in outcome.events
    assert chain.balance(PROVIDER) - before == 8 * AIT, "two prices and two mints"


@pytest.mark.parametrize(("spoil", "reason"), UNPAYABLE, ids=[row[0].__name__ for row in UNPAYABLE])
def test_a_batch_of_nothing_but_such_leaves_fails(
    chain: Ledger, spoil: Callable[[Ledger, Work], Work], reason: str
) -> None:
    good = Work(session(chain), PROVIDER.address, price=2 * AIT)
    bad = spoil(chain, good)
    if spoil is its_own_twin:
        assert settle(chain, Batches([good]).send(chain)).ok
    if spoil is more_than_the_lock_has:
        bad = bad._replace(price=100 * AIT + 1)
    batch = Batches([bad]).send(chain)
    held = chain.balance(PROVIDER)
    outcome = settle(chain, batch)
    assert (outcome.ok, outcome.reason, outcome.events) == (False, "nothing_to_settle", [])
    assert chain.balance(PROVIDER) == held


def test_the_order_of_reasons_of_one_leaf(chain: Ledger) -> None:
    """Everything is wrong with it; what is mended one by one uncovers the next."""
    lock = session(chain, hub=RIVAL.address, amount=1, tasks=2)
    works = [
        Work("00" * 32, EVE.address, task=9, price=2),
        Work("00" * 32, PROVIDER.address, task=9, price=2),
        Work(lock, PROVIDER.address, task=9, price=2),
    ]
    mine = session(chain, amount=1, tasks=2)
    works += [Work(mine, PROVIDER.address, task=9, price=2), Work(mine, PROVIDER.address, task=0, price=2)]
    good = Work(session(chain), PROVIDER.address)
    outcome = settle(chain, Batches([*works, good]).send(chain))
    assert [key.partition(":")[2] for kind, key, _ in outcome.events if kind == "skipped"] == [
        "unknown_provider",
        "unknown_lock",
        "wrong_hub",
        "unknown_task",
        "price_above_escrow",
    ]


def test_a_skipped_leaf_stays_claimable(chain: Ledger) -> None:
    """Eve registers after the hub has batched her work."""
    lock = session(chain)
    batch = Batches([Work(lock, PROVIDER.address, task=0), Work(lock, EVE.address, task=1)]).send(chain)
    assert settle(chain, batch).events[0] == ("skipped", "1:unknown_provider", 0)
    chain.register(EVE)
    assert ("paid", EVE.address, 2 * AIT) in settle(chain, batch, 1, 2).events


def test_leaves_share_a_lock_in_their_order(chain: Ledger) -> None:
    """7 AIT in the lock: 4, then 4 that does not fit, then 3 that does."""
    lock = session(chain, amount=7 * AIT, tasks=3)
    works = [Work(lock, PROVIDER.address, task=n, price=p * AIT) for n, p in enumerate((4, 4, 3))]
    batch = Batches(works).send(chain)
    outcome = settle(chain, batch)
    assert outcome.events[0] == ("skipped", "1:price_above_escrow", 0)
    assert ("paid", PROVIDER.address, 7 * AIT) in outcome.events
    assert lock_record(chain, lock).status == "open", "its second task is not paid"


# Who may, and when.


def test_only_a_hub_in_good_standing_batches(chain: Ledger) -> None:
    payload = Batches([Work("00" * 32, PROVIDER.address)]).payload
    for who, outcome in [
        (ALICE, "failed unknown_hub"),
        (RIVAL, "done"),
        (HUB, "done"),
    ]:
        assert chain.said(who, "RECEIPT_BATCH", payload) == outcome


def test_a_batch_pays_only_out_of_its_own_hubs_locks(chain: Ledger) -> None:
    """The rival batches work that was locked for the hub, and takes nothing."""
    batch = Batches([Work(session(chain), PROVIDER.address)]).send(chain, RIVAL)
    assert settle(chain, batch).reason == "nothing_to_settle"


def test_a_rival_that_nobody_listed_pays_and_mints_nothing(chain: Ledger) -> None:
    batch = Batches([Work(chain.lock(hub=RIVAL.address), PROVIDER.address)]).send(chain, RIVAL)
    outcome = settle(chain, batch)
    assert outcome.events == [("returned", ALICE.address, 3 * AIT), ("paid", PROVIDER.address, 2 * AIT)]


@pytest.mark.parametrize(("late_ms", "reason"), [(0, ""), (1, "batch_expired")])
def test_a_batch_is_settled_until_it_expires(chain: Ledger, late_ms: int, reason: str) -> None:
    """Alice signs her lock, the hub batches its receipt, then the lock comes and lives longer than the batch."""
    signed = chain.verified(
        ALICE,
        "JOB_LOCK",
        {
            "hub": HUB.address,
            "job_id": "job-1",
            "amount": 5 * AIT,
            "request_hash": REQUEST,
            "deliver_by_ms": chain.now_ms + MAX_LOCK_MS + 2_000,
            "claim_until_ms": chain.now_ms + MAX_LOCK_MS + 2_000,
        },
    )
    batch = Batches([Work(signed.id.hex(), PROVIDER.address)]).send(chain)
    expires_ms = chain.now_ms + MAX_LOCK_MS
    assert chain.block(signed).outcomes[0].ok
    wait = expires_ms - chain.now_ms + late_ms
    assert chain.do(BOB, "SETTLE", batch.settle(), after_ms=wait).reason == reason


def test_a_provider_without_a_coin_settles_for_itself(chain: Ledger) -> None:
    """Its fee comes out of what the range pays it."""
    batch = Batches([Work(session(chain), PROVIDER.address, price=AIT)]).send(chain)
    assert chain.balance(PROVIDER) == 0
    assert settle(chain, batch, who=PROVIDER).ok
    assert chain.balance(PROVIDER) == AIT + 2 * AIT - FEE


def test_a_stranger_without_a_coin_cannot_settle_for_others(chain: Ledger) -> None:
    batch = Batches([Work(session(chain), PROVIDER.address)]).send(chain)
    assert chain.said(EVE, "SETTLE", batch.settle()) == "invalid fee_not_covered"
    assert settle(chain, batch).ok, "and it is still there to be settled"


def test_a_proceeds_payer_whose_settlement_fails_leaves_no_trace(chain: Ledger) -> None:
    batch = Batches([Work("00" * 32, PROVIDER.address)]).send(chain)
    root = chain.executor.state.root()
    assert chain.said(PROVIDER, "SETTLE", batch.settle()) == "invalid nothing_to_settle"
    assert chain.executor.state.root() == root


# What is minted.


def test_settled_or_claimed_one_by_one_a_provider_earns_the_same() -> None:
    """Odd numbers, so that rounding shows: the hub's share is rounded once for all, never less than one by one."""
    earned = {}
    numbers = [(1_001, 1_999_999), (7, 33), (123, 777), (999, 1_000_001)]
    for way in ("settled", "claimed"):
        chain = Ledger(mint_price_cap_bp=3_333, treasury=BOB.address, treasury_ratio_bp=777)
        chain.register(PROVIDER)
        lock = session(chain)
        before = chain.balance(HUB)
        if way == "settled":
            works = [
                Work(lock, PROVIDER.address, task=n, units=units, price=price)
                for n, (units, price) in enumerate(numbers)
            ]
            batch = Batches(works).send(chain)
            assert settle(chain, batch, who=ALICE).ok
            before -= FEE
        else:
            for n, (units, price) in enumerate(numbers):
                assert chain.claim(
                    PROVIDER, lock, sender=ALICE, task=n, compute_units=units, price=price, job_id="x"
                ).ok
        earned[way] = (chain.balance(PROVIDER), chain.balance(HUB) - before, chain.balance(BOB) - 1_000 * AIT)
    assert earned["settled"][0] == earned["claimed"][0]
    for share in (1, 2):
        assert 0 <= earned["settled"][share] - earned["claimed"][share] < len(numbers)


NO_MINT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("work that the client gave to its own provider", {"routed": 0}, {}),
    ("free work", {"price": 0}, {}),
    ("a hub that nobody lists", {}, {"hubs": [RIVAL.address]}),
    ("a hub without the bond", {}, {"hub_bond": 1}),
]


@pytest.mark.parametrize(("story", "work", "params"), NO_MINT, ids=[row[0] for row in NO_MINT])
def test_what_mints_nothing_is_paid_all_the_same(
    story: str, work: dict[str, Any], params: dict[str, Any]
) -> None:
    chain = Ledger(more=[PROVIDER], **params)
    assert chain.do(PROVIDER, "REGISTER", {"role": "provider", "models": []}).ok
    if params:
        assert chain.do(HUB, "REGISTER", {"role": "hub", "models": []}).ok
    outcome = settle(chain, Batches([Work(session(chain), PROVIDER.address, **work)]).send(chain))
    price = work.get("price", 2 * AIT)
    assert outcome.events == ([("paid", PROVIDER.address, price)] if price else [])
    assert outcome.ok


def test_a_mixed_range_mints_for_its_own_part_only(chain: Ledger) -> None:
    lock = session(chain)
    works = [Work(lock, PROVIDER.address, task=n, routed=n % 2, units=1_000) for n in range(4)]
    outcome = settle(chain, Batches(works).send(chain))
    assert outcome.events == [
        ("paid", PROVIDER.address, 8 * AIT),
        ("minted", PROVIDER.address, 2 * AIT),
        ("minted", HUB.address, AIT // 10),
    ]


def test_netted_payouts_equal_the_sum_of_what_was_not_skipped() -> None:
    """Random ranges of random work, compared with adding up by hand."""
    rng = random.Random("netting")
    chain = Ledger()
    providers = people("netted", 4)
    for provider in providers:
        chain.register(provider)
    for _ in range(12):
        locks = [session(chain, amount=AIT, tasks=6) for _ in range(3)]
        works = [
            Work(
                rng.choice(locks),
                rng.choice(providers).address,
                task=rng.randrange(8),
                price=rng.choice([0, 1, AIT // 3, AIT]),
                units=rng.choice([1, 999, MAX_UNITS]),
                routed=rng.randrange(2),
            )
            for _ in range(rng.randrange(1, 12))
        ]
        batch = Batches(works).send(chain)
        start = rng.randrange(len(works))
        stop = rng.randrange(start + 1, len(works) + 1)
        expected, taken, left = {who.address: 0 for who in providers}, set(), dict.fromkeys(locks, AIT)
        for work in works[start:stop]:
            if work.task < 6 and (work.lock, work.task) not in taken and work.price <= left[work.lock]:
                taken.add((work.lock, work.task))
                left[work.lock] -= work.price
                expected[work.provider] += work.price
        outcome = settle(chain, batch, start, stop)
        paid = dict.fromkeys(expected, 0)
        paid.update({key: amount for kind, key, amount in outcome.events if kind == "paid"})
        assert paid == expected
        assert outcome.ok == bool(taken)


def test_a_batch_on_a_chain_without_a_bound_for_locks() -> None:
    """params.md: max_lock_ms 1 … 2^53 - 1."""
    chain = Ledger(max_lock_ms=MAX_SIGNED)
    chain.register(PROVIDER)
    batch = Batches([Work(chain.lock(), PROVIDER.address)]).send(chain)
    assert chain.said(BOB, "SETTLE", batch.settle()) == "done"


# What the history is told.


def test_each_receipt_is_told_with_its_part_of_the_mint(chain: Ledger) -> None:
    """Two thirds of the units, two thirds of what was minted; a claim is told likewise."""
    lock = session(chain)
    works = [
        Work(lock, PROVIDER.address, task=3, attempt=2, units=2_000, price=5, receipt="aa" * 32),
        Work(lock, CAROL.address, task=4, units=1_000, price=7, receipt="bb" * 32),
        Work(lock, CAROL.address, task=4, units=1, price=1, receipt="cc" * 32),
        Work(lock, CAROL.address, task=5, units=9, price=0, routed=0, receipt="dd" * 32),
    ]
    batch = Batches(works).send(chain)
    paying = chain.verified(BOB, "SETTLE", batch.settle())
    other = chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1})
    built = chain.block(other, paying)
    common = {"tx_position": 1, "job_id": "job-1", "client": ALICE.address, "hub": HUB.address, "lock": lock}
    told = {"output_hash": "", "provider_sig": "", **common}

    def receipt(name: str, provider: Any, units: int, price: int, minted: int, **fields: int) -> PaidReceipt:
        parts = {"provider": provider.address, "units": units, "price": price, "minted": minted}
        return PaidReceipt(receipt_id="rcpt_" + name * 32, **parts, **fields, **told)

    assert built.receipts == [
        receipt("aa", PROVIDER, 2_000, 5, 2 * AIT, task=3, attempt=2),
        receipt("bb", CAROL, 1_000, 7, AIT, task=4, attempt=0),
        receipt("dd", CAROL, 9, 0, 0, task=5, attempt=0),
    ]
    payload, witness = chain.claim_parts(PROVIDER, lock, task=9)
    built = chain.block(chain.verified(BOB, "RECEIPT_CLAIM", payload, witness=witness))
    assert built.receipts == [
        PaidReceipt(
            receipt_id=payload["receipt_id"],
            provider=PROVIDER.address,
            units=2_000,
            price=2 * AIT,
            minted=2 * AIT,
            output_hash=payload["output_hash"],
            provider_sig=payload["miner_sig"],
            task=9,
            attempt=1,
            **{**common, "tx_position": 0},
        )
    ]


def test_a_settlement_that_fails_is_not_told(chain: Ledger) -> None:
    """The leaf is paid in the rules and then the supply is full: nothing of it happened."""
    batch = Batches([Work(session(chain), PROVIDER.address)]).send(chain)
    chain.endow(person("whale"), MAX_TOTAL - chain.supply() - 1)
    built = chain.block(chain.verified(BOB, "SETTLE", batch.settle()))
    assert ([outcome.reason for outcome in built.outcomes], built.receipts) == (["supply_exhausted"], [])


# Forms.


def good_settle(chain: Ledger) -> dict[str, Any]:
    lock = session(chain)
    works = [Work(lock, (PROVIDER, CAROL)[n % 2].address, task=n) for n in range(5)]
    return Batches(works).send(chain).settle(1, 4)


def leaf_changed(payload: dict[str, Any], number: int, **change: Any) -> dict[str, Any]:
    names = ("receipt", "lock", "provider", "task", "attempt", "routed", "units", "price")
    leaves = [list(leaf) for leaf in LEAF.iter_unpack(leaf_bytes_of(payload["leaves"]))]
    for name, value in change.items():
        leaves[number][names.index(name)] = value
    raw = b"".join(LEAF.pack(*leaf) for leaf in leaves)
    return {**payload, "leaves": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}


def changed(**change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda payload: {**payload, **{name: act(payload[name]) for name, act in change.items()}}


def in_leaf(number: int, **change: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda payload: leaf_changed(payload, number, **change)


def flipped(text: str) -> str:
    return ("1" if text[0] == "0" else "0") + text[1:]


WRONG: list[tuple[str, Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    ("as it is", lambda payload: payload, "done"),
    ("another batch", changed(batch=flipped), "failed unknown_batch"),
    ("no batch", changed(batch=lambda _: "batch:1"), "invalid wrong_type"),
    ("a place too early", changed(start=lambda n: n - 1), "failed bad_proof"),
    ("a place too late", changed(start=lambda n: n + 1), "failed bad_proof"),
    ("beyond the end", changed(start=lambda _: 3), "failed bad_proof"),
    ("the greatest place", changed(start=lambda _: (1 << 20) - 1), "failed bad_proof"),
    ("a place too great", changed(start=lambda _: 1 << 20), "invalid out_of_range"),
    ("a negative place", changed(start=lambda _: -1), "invalid out_of_range"),
    ("no locks", changed(locks=lambda _: []), "invalid out_of_range"),
    ("a lock twice", changed(locks=lambda x: [*x, *x]), "invalid not_canonical"),
    ("a lock that no leaf names", changed(locks=lambda x: sorted([*x, "00" * 32])), "invalid"),
    ("another lock", changed(locks=lambda x: [flipped(x[0])]), "failed bad_proof"),
    ("no providers", changed(providers=lambda _: []), "invalid out_of_range"),
    ("providers in disorder", changed(providers=lambda x: x[::-1]), "invalid not_canonical"),
    ("a provider too few", changed(providers=lambda x: x[:1]), "invalid out_of_range"),
    ("a provider of another kind", changed(providers=lambda x: [x[0], "z"]), "invalid bad_address"),
    ("another provider", changed(providers=lambda x: sorted([x[0], EVE.address])), "failed bad_proof"),
    ("leaves of nothing", changed(leaves=lambda _: ""), "invalid malformed"),
    ("leaves that are no base64", changed(leaves=lambda x: "*" + x[1:]), "invalid malformed"),
    ("leaves with padding", changed(leaves=lambda x: x + "="), "invalid not_canonical"),
    ("leaves of the other alphabet", changed(leaves=lambda x: "+" + x[1:]), "invalid malformed"),
    ("half a leaf", changed(leaves=lambda x: x[:40]), "invalid malformed"),
    ("a leaf too few", changed(leaves=lambda x: x[:-75]), "invalid malformed"),
    ("bits after the end", changed(leaves=lambda x: x[:74] + "B"), "invalid not_canonical"),
    ("a leaf's other receipt", in_leaf(0, receipt=bytes(32)), "failed bad_proof"),
    ("a leaf's lock that is not there", in_leaf(0, lock=1), "invalid out_of_range"),
    ("a leaf's other provider", in_leaf(0, provider=0), "failed bad_proof"),
    ("a leaf's provider that is not there", in_leaf(0, provider=2), "invalid out_of_range"),
    ("a leaf's other task", in_leaf(1, task=9), "failed bad_proof"),
    ("a leaf's task beyond all", in_leaf(1, task=4_096), "invalid out_of_range"),
    ("a leaf's last task", in_leaf(1, task=4_095), "failed bad_proof"),
    ("a leaf's other attempt", in_leaf(1, attempt=1), "failed bad_proof"),
    ("a leaf's other route", in_leaf(1, routed=0), "failed bad_proof"),
    ("a leaf's route that does not exist", in_leaf(1, routed=2), "invalid out_of_range"),
    ("a leaf's other units", in_leaf(2, units=2_001), "failed bad_proof"),
    ("a leaf of nothing", in_leaf(2, units=0), "invalid out_of_range"),
    ("a leaf's most units", in_leaf(2, units=MAX_UNITS), "failed bad_proof"),
    ("a leaf's units beyond all", in_leaf(2, units=MAX_UNITS + 1), "invalid out_of_range"),
    ("a leaf's higher price", in_leaf(2, price=2 * AIT + 1), "failed bad_proof"),
    ("a leaf's highest price", in_leaf(2, price=MAX_SIGNED), "failed bad_proof"),
    ("a leaf's price beyond all", in_leaf(2, price=MAX_SIGNED + 1), "invalid out_of_range"),
    ("no proof", changed(proof=lambda _: []), "failed bad_proof"),
    ("a node too few", changed(proof=lambda x: x[:-1]), "failed bad_proof"),
    ("a node too many", changed(proof=lambda x: [*x, "00" * 32]), "failed bad_proof"),
    ("nodes in disorder", changed(proof=lambda x: x[::-1]), "failed bad_proof"),
    ("another first node", changed(proof=lambda x: [flipped(x[0]), *x[1:]]), "failed bad_proof"),
    ("another last node", changed(proof=lambda x: [*x[:-1], flipped(x[-1])]), "failed bad_proof"),
    ("forty nodes", changed(proof=lambda _: ["00" * 32] * 40), "failed bad_proof"),
    ("forty-one nodes", changed(proof=lambda _: ["00" * 32] * 41), "invalid out_of_range"),
    ("a node of another length", changed(proof=lambda x: [x[0][:-2], *x[1:]]), "invalid wrong_type"),
]  # fmt: skip


@pytest.mark.parametrize(("story", "spoil", "outcome"), WRONG, ids=[row[0] for row in WRONG])
def test_a_settlement_that_is_not_of_the_batch(
    chain: Ledger, story: str, spoil: Callable[[dict[str, Any]], dict[str, Any]], outcome: str
) -> None:
    """Where the order of a table decides which rule is met first, only that it is invalid is said here."""
    payload = spoil(good_settle(chain))
    held = chain.balance(PROVIDER)
    assert chain.said(BOB, "SETTLE", payload, fee=1_000).startswith(outcome)
    assert (chain.balance(PROVIDER) > held) == (outcome == "done")


BATCHES: list[tuple[str, dict[str, Any], str]] = [
    ("one receipt", {"root": "ab" * 32, "count": 1}, "done"),
    ("a day of a million", {"root": "ab" * 32, "count": 1 << 20}, "done"),
    ("none", {"root": "ab" * 32, "count": 0}, "invalid out_of_range"),
    ("one too many", {"root": "ab" * 32, "count": (1 << 20) + 1}, "invalid out_of_range"),
    ("half a root", {"root": "ab" * 16, "count": 1}, "invalid wrong_type"),
    ("a root in capitals", {"root": "AB" * 32, "count": 1}, "invalid wrong_type"),
]


@pytest.mark.parametrize(("story", "payload", "outcome"), BATCHES, ids=[row[0] for row in BATCHES])
def test_the_form_of_a_batch(chain: Ledger, story: str, payload: dict[str, Any], outcome: str) -> None:
    assert chain.said(HUB, "RECEIPT_BATCH", payload) == outcome


def test_the_last_leaf_of_the_largest_batch(chain: Ledger) -> None:
    """2^20 receipts of which the test knows one, and for the others twenty nodes."""
    count = 1 << 20
    only = Batches([Work(session(chain), PROVIDER.address)])
    nodes = [bytes([level]) * 32 for level in range(20)]
    root = range_root(only.leaves, start=count - 1, count=count, path=nodes)
    assert root is not None
    batch = chain.do(HUB, "RECEIPT_BATCH", {"root": root.hex(), "count": count})
    payload = {
        **only.settle(),
        "batch": batch.tx_id.hex(),
        "start": count - 1,
        "proof": [node.hex() for node in nodes],
    }
    assert chain.said(BOB, "SETTLE", {**payload, "start": count - 2}, fee=1_000) == "failed bad_proof"
    assert chain.said(BOB, "SETTLE", payload, fee=1_000) == "done"


def test_every_range_of_every_small_list_has_one_proof() -> None:
    """Compared with the root of the whole list; no proof is good for another place, length or list."""
    for count in range(1, 12):
        leaves = [b"leaf %d" % n for n in range(count)]
        root = list_root(leaves)
        for start in range(count):
            for stop in range(start + 1, count + 1):
                part, path = leaves[start:stop], prove_range(leaves, start, stop)
                assert range_root(part, start=start, count=count, path=path) == root
                for other in ({"start": start - 1}, {"start": start + 1}, {"count": count + 1}):
                    assert range_root(part, **{"start": start, "count": count, "path": path, **other}) != root
                assert range_root(part, start=start, count=count, path=[*path, bytes(32)]) is None
                for at in range(len(path)):
                    short = path[:at] + path[at + 1 :]
                    assert range_root(part, start=start, count=count, path=short) != root
    assert range_root([], start=0, count=1, path=[]) is None
