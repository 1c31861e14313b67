"""What nobody needs any more leaves the state, a bounded part of it with each block. docs/spec/state.md"""

from typing import Any

import pytest

from aitbc.core.ledger import retention
from aitbc.core.ledger.genesis import ConsensusSettings
from aitbc.core.ledger.state import State
from aitbc.core.types.amounts import AIT
from aitbc.core.types.records import STORES, Lock, Offence
from support.chain import VERSION_2, Chain, fresh_root, genesis
from support.ledger import FEE, MINUTE_MS, Batches, Ledger, Work, slots_of
from support.people import ALICE, BOB, EVE, FAUCET, HUB, PROVIDER, SYNTHETIC, VALIDATOR

RETENTION_MS = 10 * MINUTE_MS
RECEIPT_MS = 20 * MINUTE_MS


@pytest.fixture
def chain() -> Ledger:
    chain = Ledger(lock_retention_ms=RETENTION_MS, receipt_retention_ms=RECEIPT_MS, epoch_length=1_000_000)
    chain.register(PROVIDER)
    return chain


def status(chain: Ledger, lock: str) -> str:
    record = chain.executor.state.get("locks", lock)
    return record.status if isinstance(record, Lock) else "gone"


def at(chain: Ledger, time_ms: int) -> None:
    """An empty block at a time."""
    chain.block(after_ms=time_ms - chain.now_ms)


def test_a_settled_lock_leaves_after_its_retention_and_not_a_millisecond_before(chain: Ledger) -> None:
    lock = chain.lock()
    assert chain.claim(PROVIDER, lock).ok
    closed_ms = chain.now_ms
    at(chain, closed_ms + RETENTION_MS)
    assert status(chain, lock) == "settled"
    at(chain, closed_ms + RETENTION_MS + 1)
    assert status(chain, lock) == "gone"


def test_a_refunded_lock_leaves_after_its_retention(chain: Ledger) -> None:
    lock = chain.lock()
    assert chain.do(BOB, "REFUND", {"lock": lock}, after_ms=3 * MINUTE_MS).ok
    closed_ms = chain.now_ms
    at(chain, closed_ms + RETENTION_MS)
    assert status(chain, lock) == "refunded"
    at(chain, closed_ms + RETENTION_MS + 1)
    assert status(chain, lock) == "gone"


def test_an_escrow_that_everybody_forgot_returns_by_itself_and_leaves_later(chain: Ledger) -> None:
    until_ms = chain.now_ms + 2 * MINUTE_MS
    lock = chain.lock(amount=5 * AIT, tasks=2)
    assert chain.claim(PROVIDER, lock, price=AIT).ok
    before = chain.balance(ALICE)
    at(chain, until_ms + RETENTION_MS)
    assert (status(chain, lock), chain.balance(ALICE)) == ("open", before)
    at(chain, until_ms + RETENTION_MS + 1)
    assert (status(chain, lock), chain.balance(ALICE)) == ("refunded", before + 4 * AIT)
    returned_ms = chain.now_ms
    assert chain.executor.head.outcomes == [], "without a transaction and without an event"
    at(chain, returned_ms + RETENTION_MS)
    assert status(chain, lock) == "refunded"
    at(chain, returned_ms + RETENTION_MS + 1)
    assert status(chain, lock) == "gone"


def test_a_refund_in_the_very_block_comes_first(chain: Ledger) -> None:
    until_ms = chain.now_ms + 2 * MINUTE_MS
    lock = chain.lock()
    wait = until_ms + RETENTION_MS + 1 - chain.now_ms
    outcome = chain.do(BOB, "REFUND", {"lock": lock}, after_ms=wait)
    assert outcome.events == [("refunded", ALICE.address, 5 * AIT)]
    assert status(chain, lock) == "refunded"


def test_what_has_left_is_unknown(chain: Ledger) -> None:
    lock = chain.lock(tasks=2)
    payload, witness = chain.claim_parts(PROVIDER, lock)
    assert chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness).ok
    assert chain.do(BOB, "REFUND", {"lock": lock}, after_ms=3 * MINUTE_MS).ok
    chain.block(after_ms=RECEIPT_MS + MINUTE_MS)
    assert chain.count("receipts") == chain.count("locks") == 0
    for kind, fields, reason in [
        ("REFUND", {"lock": lock}, "unknown_lock"),
        ("RECEIPT_CLAIM", payload, "unknown_lock"),
    ]:
        options = {"witness": witness} if kind == "RECEIPT_CLAIM" else {}
        assert chain.said(BOB, kind, fields, **options) == f"failed {reason}"


def test_a_receipt_that_left_is_not_paid_again(chain: Ledger) -> None:
    """Its lock, a long session, is open still: the task's bit remembers."""
    lock = chain.lock(tasks=2, session=True, claim_until_ms=chain.now_ms + 10 * RECEIPT_MS)
    payload, witness = chain.claim_parts(PROVIDER, lock)
    assert chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness).ok
    claimed_ms = chain.now_ms
    at(chain, claimed_ms + RECEIPT_MS)
    assert chain.count("receipts") == 1
    at(chain, claimed_ms + RECEIPT_MS + 1)
    assert chain.count("receipts") == 0
    assert chain.said(BOB, "RECEIPT_CLAIM", payload, witness=witness) == "failed task_already_paid"


def test_a_calibration_receipt_that_left_is_not_minted_again() -> None:
    chain = Ledger(calibration_budget=100 * AIT, receipt_retention_ms=MINUTE_MS, epoch_length=20)
    chain.register(PROVIDER)
    chain.close_epoch()
    payload, witness = chain.calibration(PROVIDER)
    assert chain.said(BOB, "RECEIPT_CLAIM", payload, witness=witness) == "done"
    chain.block(after_ms=MINUTE_MS + 1)
    assert chain.count("receipts") == 0
    assert chain.said(BOB, "RECEIPT_CLAIM", payload, witness=witness) == "failed already_calibrated"


def test_a_synthetic_mark_stays_for_ever_and_its_receipt_does_not(chain: Ledger) -> None:
    parts: dict[str, Any] = {"hub": SYNTHETIC, "routed": "synthetic", "job_id": "job_7", "attempt": 0}
    payload, witness = chain.claim_parts(PROVIDER, "", **parts)
    assert chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness).ok
    chain.block(after_ms=100 * RECEIPT_MS)
    assert (chain.count("receipts"), status(chain, "synthetic:7")) == (0, "synthetic")
    assert chain.said(BOB, "RECEIPT_CLAIM", payload, witness=witness) == "failed task_already_paid"


def test_a_batch_leaves_when_it_expires() -> None:
    chain = Ledger(max_lock_ms=30 * MINUTE_MS, epoch_length=1_000_000)
    chain.register(PROVIDER)
    batch = Batches([Work(chain.lock(), PROVIDER.address)]).send(chain)
    expires_ms = chain.now_ms + 30 * MINUTE_MS
    at(chain, expires_ms)
    assert chain.count("receipts", "batch:") == 1
    at(chain, expires_ms + 1)
    assert chain.count("receipts", "batch:") == 0
    assert chain.said(BOB, "SETTLE", batch.settle()) == "failed unknown_batch"


def test_a_hubs_offence_leaves_when_it_can_no_longer_be_brought_up_and_a_validators_stays() -> None:
    chain = Ledger(more=[VALIDATOR], epoch_length=1_000_000)
    chain.stake(VALIDATOR, AIT)
    assert chain.do(BOB, "EVIDENCE", chain.double_vote(VALIDATOR)).ok
    until_ms = chain.now_ms + 2 * MINUTE_MS
    for node in (chain.executor, chain.second):
        overlay = type(chain.view)(node.state)
        overlay.put(
            "registry", "offence:" + "ab" * 32, Offence(offender=EVE.address, height=1, expires_ms=until_ms)
        )
        node.state.stage(overlay.writes)
        node.state.publish()
    at(chain, until_ms)
    assert chain.count("registry", "offence:") == 2
    at(chain, until_ms + 1)
    assert chain.count("registry", "offence:") == 1
    chain.block(after_ms=1_000 * MINUTE_MS)
    assert chain.count("registry", "offence:") == 1


def test_two_thousand_of_a_kind_leave_with_one_block(chain: Ledger) -> None:
    """Of two kinds at once, 2,001 of each: one of each is left for the next block."""
    assert chain.do(BOB, "TRANSFER", {"to": EVE.address, "amount": 3_000}).ok
    now_ms = chain.now_ms
    lock = Lock(
        client=EVE.address,
        hub=HUB.address,
        job_id="job",
        amount=1,
        paid=0,
        tasks=1,
        paid_tasks="0",
        request_hash="",
        deliver_by_ms=0,
        claim_until_ms=now_ms - RETENTION_MS,
        height=1,
        status="open",
    )
    for node in (chain.executor, chain.second):
        overlay = type(chain.view)(node.state)
        for number in range(2_001):
            offence = Offence(offender=EVE.address, height=1, expires_ms=now_ms)
            overlay.put("registry", f"offence:{number:064x}", offence)
            overlay.put("locks", f"{number:064x}", lock)
        overlay.debit(EVE.address, 2_001)
        node.state.stage(overlay.writes)
        node.state.publish()
    chain.block()
    assert (chain.count("registry", "offence:"), chain.balance(EVE)) == (1, 2_999)
    assert status(chain, f"{2_000:064x}") == "open", "of the same age the last by key"
    chain.block()
    assert (chain.count("registry", "offence:"), chain.balance(EVE)) == (0, 3_000)


def test_one_block_takes_out_a_bounded_number_the_oldest_first(
    chain: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = []
    for _ in range(5):
        locks.append(chain.lock())
        assert chain.claim(PROVIDER, locks[-1], price=1).ok
    monkeypatch.setattr(retention, "MAX_RETIRED", 2)
    chain.block(after_ms=RETENTION_MS + MINUTE_MS)
    assert [status(chain, lock) for lock in locks] == ["gone", "gone", "settled", "settled", "settled"]
    assert chain.count("receipts") == 5, "receipts are another kind, and not due yet"
    chain.block()
    assert [status(chain, lock) for lock in locks] == ["gone"] * 4 + ["settled"]
    chain.block(after_ms=RECEIPT_MS)
    assert (chain.count("locks"), chain.count("receipts")) == (0, 3)


def test_of_the_same_age_the_lower_key_goes_first(chain: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four locks that end at the same time; each closes in the block that returns it."""
    until_ms = chain.now_ms + 10 * MINUTE_MS
    locks = [chain.lock(claim_until_ms=until_ms, amount=n + 1) for n in range(4)]
    monkeypatch.setattr(retention, "MAX_RETIRED", 3)
    at(chain, until_ms + RETENTION_MS + 1)
    assert [status(chain, lock) for lock in sorted(locks)] == ["refunded", "refunded", "refunded", "open"]


def test_open_and_closed_locks_wait_in_one_line(chain: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The open one's claim time was before the other was closed."""
    open_one = chain.lock(claim_until_ms=chain.now_ms + 61_000)
    other = chain.lock(claim_until_ms=chain.now_ms + 90_000)
    chain.block(after_ms=80_000)
    assert chain.claim(PROVIDER, other, price=1).ok
    monkeypatch.setattr(retention, "MAX_RETIRED", 1)
    chain.block(after_ms=2 * RETENTION_MS)
    assert (status(chain, open_one), status(chain, other)) == ("refunded", "settled")
    chain.block()
    assert (status(chain, open_one), status(chain, other)) == ("refunded", "gone")


def test_a_slot_that_became_free_is_taken_again(chain: Ledger) -> None:
    for _ in range(3):
        assert chain.claim(PROVIDER, chain.lock(), price=1).ok
    before = chain.slots()
    chain.block(after_ms=RECEIPT_MS + MINUTE_MS)
    for _ in range(3):
        assert chain.claim(PROVIDER, chain.lock(), price=1).ok
    assert chain.slots() == before
    assert chain.executor.head.block.header.state_root == chain.executor.state.root()
    assert fresh_root(chain) == chain.executor.state.root()


def test_a_block_that_takes_records_out_can_be_taken_back(chain: Ledger) -> None:
    """Abandoned before it counts, or retracted after: what had left is there again, and leaves again."""
    lock = chain.lock()
    assert chain.claim(PROVIDER, lock).ok
    state = chain.executor.state

    def picture() -> tuple[Any, ...]:
        return dict(state.data), state.root(), {age: list(rows) for age, rows in state.expiry._ages.items()}

    before = picture()
    chain.now_ms += 2 * RECEIPT_MS
    built = chain.executor.build([], proposer=VALIDATOR.address, timestamp_ms=chain.now_ms)
    chain.executor.abandon()
    assert picture() == before
    again = chain.block(after_ms=0)
    assert (again.hash, status(chain, lock)) == (built.hash, "gone")
    chain.executor.retract()
    assert picture() == before
    assert chain.executor.build([], proposer=VALIDATOR.address, timestamp_ms=chain.now_ms).hash == built.hash


def test_a_node_that_starts_again_knows_what_is_due(chain: Ledger) -> None:
    for price in (1, 2):
        lock = chain.lock()
        assert chain.claim(PROVIDER, lock, price=price).ok
    chain.lock(tasks=3)
    Batches([Work(chain.lock(), PROVIDER.address)]).send(chain)
    state, other = chain.executor.state, State()
    other.load(
        {
            store: sorted((state.index_of(store, key), key, data) for key, data in rows.items())
            for store, rows in state.data.items()
        }
    )
    assert {age: list(rows) for age, rows in other.expiry._ages.items()} == {
        age: list(rows) for age, rows in state.expiry._ages.items()
    }


def test_the_state_stays_flat() -> None:
    """2,000 blocks of jobs, batches and forgotten escrows; when retention and the first epoch are behind, the state
    has as many records, and its trees as many places, as ever after."""
    chain = Chain(
        genesis(
            consensus=ConsensusSettings(epoch_length=100),
            activations=VERSION_2,
            lock_retention_ms=MINUTE_MS,
            receipt_retention_ms=MINUTE_MS,
            max_lock_ms=2 * MINUTE_MS,
        )
    )
    chain.register(PROVIDER)
    nonces = {who: chain.nonce(who) for who in (ALICE, BOB, HUB)}

    def signed(who: Any, kind: str, payload: dict[str, Any], **options: Any) -> Any:
        nonces[who] += 1
        return chain.verified(who, kind, payload, nonce=nonces[who], fee=FEE, **options)

    sizes: list[tuple[int, ...]] = []
    waiting = ""
    for number in range(2_000):
        txs = []
        if waiting and number % 4 < 2:
            payload, witness = chain.claim_parts(PROVIDER, waiting, price=1, compute_units=1)
            txs.append(signed(BOB, "RECEIPT_CLAIM", payload, witness=witness))
        elif waiting and number % 4 == 2:
            batch = Batches([Work(waiting, PROVIDER.address, price=1, units=1)])
            sent = signed(HUB, "RECEIPT_BATCH", batch.payload)
            batch.id = sent.id.hex()
            txs += [sent, signed(BOB, "SETTLE", batch.settle())]
        lock = {
            "hub": HUB.address,
            "job_id": "job-1",
            "amount": 2,
            "request_hash": "sha256:" + "cd" * 32,
            "deliver_by_ms": chain.now_ms + 30_000,
            "claim_until_ms": chain.now_ms + 30_000,
        }
        txs.append(signed(ALICE, "JOB_LOCK", lock))
        waiting = txs[-1].id.hex()
        chain.now_ms += 1_000
        built = chain.executor.build(txs, proposer=VALIDATOR.address, timestamp_ms=chain.now_ms)
        assert [outcome.ok for outcome in built.outcomes] == [True] * len(txs), built.outcomes
        chain.executor.publish(built, chain.executor.seal(built, None).block)  # type: ignore[arg-type]
        state = chain.executor.state
        if number >= 400 and number % 8 == 0:
            sizes.append((*[len(state.data[store]) for store in STORES], *slots_of(state).values()))
    assert len(set(sizes)) == 1, "the same four phases of jobs leave the same state again and again"
    records = dict(zip(STORES, sizes[0], strict=False))
    assert records["locks"] < 130 and records["receipts"] < 70
    assert chain.executor.state.root() == fresh_root(chain)
    assert FAUCET.address in chain.executor.state.data["accounts"]
