"""Lanes, replacement and bounds of the mempool."""

import random
from contextlib import suppress

import pytest

from aitbc.core.chain import mempool as module
from aitbc.core.chain.mempool import Mempool
from aitbc.core.codec.digests import rotation_digest
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.amounts import AIT
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import Account
from aitbc.core.types.transactions import VerifiedTransaction
from support.chain import VERSION_2, Chain, genesis
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, person


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def pool(chain: Chain) -> Mempool:
    return Mempool(lambda address: Overlay(chain.executor.state).account(address))


def pay(chain: Chain, nonce: int, fee: int = 100, sender=ALICE) -> VerifiedTransaction:  # type: ignore[no-untyped-def]
    return chain.verified(sender, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=nonce, fee=fee)


def test_a_lane_leaves_in_nonce_order_and_a_gap_holds_it_back(chain: Chain, pool: Mempool) -> None:
    for nonce in (3, 1, 2, 5):
        pool.add(pay(chain, nonce), now_ms=0)
    assert [tx.tx.nonce for tx in pool.select(max_txs=10, max_bytes=10**6)] == [1, 2, 3]
    assert pool.next_nonce(ALICE.address) == 4
    assert pool.pending(ALICE.address) == 4


def test_better_paying_lanes_go_first_and_blocks_are_bounded(chain: Chain, pool: Mempool) -> None:
    pool.add(pay(chain, 1, fee=100), now_ms=0)
    pool.add(pay(chain, 1, fee=200, sender=BOB), now_ms=0)
    assert [tx.tx.sender for tx in pool.select(max_txs=10, max_bytes=10**6)] == [BOB.address, ALICE.address]
    assert len(pool.select(max_txs=1, max_bytes=10**6)) == 1
    size = pay(chain, 1).size
    assert len(pool.select(max_txs=10, max_bytes=size)) == 1


def test_replacement_needs_a_tenth_more(chain: Chain, pool: Mempool) -> None:
    first = pay(chain, 1, fee=100)
    pool.add(first, now_ms=0)
    with pytest.raises(Rejected) as caught:
        pool.add(pay(chain, 1, fee=109), now_ms=0)
    assert caught.value.reason == Reason.REPLACEMENT_FEE_TOO_LOW
    better = pay(chain, 1, fee=110)
    assert pool.add(better, now_ms=0) == [first]
    assert (pool.get(first.id), pool.get(better.id), len(pool)) == (None, better, 1)


def test_refusals(chain: Chain, pool: Mempool) -> None:
    for nonce in range(1, 65):
        pool.add(pay(chain, nonce), now_ms=0)
    cases = [
        (pay(chain, 65), Reason.TOO_MANY_PENDING),
        (pay(chain, 65, sender=BOB), Reason.NONCE_GAP),
        (pay(chain, 1), Reason.ALREADY_KNOWN),
        (pay(chain, 1, fee=2_000_000_000), Reason.FEE_NOT_COVERED),
        (pay(chain, 1, sender=EVE), Reason.FEE_NOT_COVERED),
    ]
    for tx, reason in cases:
        with pytest.raises(Rejected) as caught:
            pool.add(tx, now_ms=0)
        assert caught.value.reason == reason
    assert len(pool) == 64


def test_a_full_pool_evicts_the_cheapest_or_refuses(
    chain: Chain, pool: Mempool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TXS", 2)
    cheap, dear = pay(chain, 1, fee=50), pay(chain, 1, fee=500, sender=BOB)
    pool.add(cheap, now_ms=0)
    pool.add(dear, now_ms=0)
    with pytest.raises(Rejected) as caught:
        pool.add(pay(chain, 2, fee=50), now_ms=0)
    assert caught.value.reason == Reason.MEMPOOL_FULL
    assert pool.add(pay(chain, 2, fee=400, sender=BOB), now_ms=0) == [cheap]
    assert len(pool) == 2


def test_an_evicted_sender_may_replace_itself_in_a_full_pool(
    chain: Chain, pool: Mempool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TXS", 1)
    pool.add(pay(chain, 1, fee=100), now_ms=0)
    evicted = pool.add(pay(chain, 1, fee=300), now_ms=0)
    assert [tx.tx.fee for tx in evicted] == [100]
    assert len(pool) == 1


def refund(
    chain: Chain, sender, *, nonce: int = 1, fee: int = 100, lock: str = "ab" * 32
) -> VerifiedTransaction:  # type: ignore[no-untyped-def]
    return chain.verified(sender, "REFUND", {"lock": lock}, nonce=nonce, fee=fee)


def test_eviction_is_by_fee_for_each_byte(
    chain: Chain, pool: Mempool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TXS", 2)
    payload = {"to": BOB.address, "amount": 1, "data": "x" * 1000}
    big = chain.verified(ALICE, "TRANSFER", payload, nonce=1, fee=120)
    small = chain.verified(BOB, "TRANSFER", {"to": ALICE.address, "amount": 1}, nonce=1, fee=100)
    pool.add(big, now_ms=0)
    pool.add(small, now_ms=0)
    assert pool.add(pay(chain, 1, fee=110, sender=HUB), now_ms=0) == [big], "120 for 1,200 bytes is the least"


def test_the_bound_in_bytes_holds(chain: Chain, pool: Mempool, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [pay(chain, nonce, fee=10) for nonce in (1, 2, 3)]
    payload = {"to": BOB.address, "amount": 1, "data": "x" * 400}
    big = chain.verified(HUB, "TRANSFER", payload, nonce=1, fee=100_000)
    monkeypatch.setattr(module, "MAX_BYTES", max(3 * small[0].size, big.size))
    for tx in small:
        pool.add(tx, now_ms=0)
    assert set(pool.add(big, now_ms=0)) >= {small[2]}
    assert pool.total_bytes <= module.MAX_BYTES
    giant = chain.verified(
        BOB, "TRANSFER", {"to": ALICE.address, "amount": 1, "data": "x" * 1000}, nonce=1, fee=10**6
    )
    with pytest.raises(Rejected) as caught:
        pool.add(giant, now_ms=0)
    assert caught.value.reason == Reason.MEMPOOL_FULL
    assert pool.get(big.id) == big, "a newcomer that cannot fit pushes nobody out"


def test_who_is_pushed_out_takes_along_what_builds_on_it(
    chain: Chain, pool: Mempool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TXS", 3)
    lane = [pay(chain, 1, fee=50), pay(chain, 2, fee=10), pay(chain, 3, fee=300)]
    for tx in lane:
        pool.add(tx, now_ms=0)
    assert pool.add(pay(chain, 1, fee=100, sender=BOB), now_ms=0) == lane[1:]
    assert pool.next_nonce(ALICE.address) == 2


def test_a_newcomer_never_pushes_out_what_it_builds_on(
    chain: Chain, pool: Mempool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TXS", 1)
    pool.add(pay(chain, 1, fee=10), now_ms=0)
    with pytest.raises(Rejected) as caught:
        pool.add(pay(chain, 2, fee=1000), now_ms=0)
    assert caught.value.reason == Reason.MEMPOOL_FULL


def test_fees_out_of_proceeds_wait_only_in_turn_alone_and_one_for_each_record(
    chain: Chain, pool: Mempool
) -> None:
    """A stranger without coins must not be able to fill the pool with promises."""
    with pytest.raises(Rejected) as caught:
        pool.add(refund(chain, EVE, nonce=2), now_ms=0, fee_source="lock 1")
    assert caught.value.reason == Reason.FEE_NOT_COVERED
    first = refund(chain, EVE)
    pool.add(first, now_ms=0, fee_source="lock 1")
    with pytest.raises(Rejected) as caught:
        pool.add(refund(chain, EVE, nonce=2), now_ms=0, fee_source="lock 2")
    assert caught.value.reason == Reason.FEE_NOT_COVERED, "not behind another in the lane"
    with pytest.raises(Rejected) as caught:
        pool.add(refund(chain, PROVIDER), now_ms=0, fee_source="lock 1")
    assert caught.value.reason == Reason.REPLACEMENT_FEE_TOO_LOW, "not a second one for the same lock"
    better = refund(chain, PROVIDER, fee=110)
    assert pool.add(better, now_ms=0, fee_source="lock 1") == [first]
    assert pool.add(refund(chain, EVE, lock="cd" * 32), now_ms=0, fee_source="lock 2") == []
    assert pool.add(refund(chain, ALICE), now_ms=0, fee_source="lock 1") == [], "who can pay needs no record"


def test_a_sender_covers_the_fees_of_its_whole_lane(chain: Chain, pool: Mempool) -> None:
    """Alice has 1,000 AIT: to the last base unit for two fees, not one more, and a replacement counts once."""
    pool.add(pay(chain, 1, fee=400 * AIT), now_ms=0)
    with pytest.raises(Rejected) as caught:
        pool.add(pay(chain, 2, fee=600 * AIT + 1), now_ms=0)
    assert caught.value.reason == Reason.FEE_NOT_COVERED
    pool.add(pay(chain, 2, fee=500 * AIT), now_ms=0)
    with pytest.raises(Rejected) as caught:
        pool.add(pay(chain, 1, fee=500 * AIT + 1), now_ms=0)
    assert caught.value.reason == Reason.FEE_NOT_COVERED
    pool.add(pay(chain, 1, fee=500 * AIT), now_ms=0)
    assert (pool.pending(ALICE.address), len(pool)) == (2, 2)


def test_a_free_transaction_leaves_no_gap(chain: Chain, pool: Mempool) -> None:
    with pytest.raises(Rejected) as caught:
        pool.add(refund(chain, EVE, nonce=2, fee=0), now_ms=0, free=True)
    assert caught.value.reason == Reason.NONCE_GAP
    pool.add(refund(chain, EVE, nonce=1, fee=0), now_ms=0, free=True)
    pool.add(refund(chain, EVE, nonce=2, fee=0), now_ms=0, free=True)
    assert pool.pending(EVE.address) == 2


def test_what_is_in_the_block_being_made_can_be_neither_replaced_nor_pushed_out(
    chain: Chain, pool: Mempool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TXS", 1)
    first = pay(chain, 1)
    pool.add(first, now_ms=0)
    assert pool.select(max_txs=10, max_bytes=10**6) == [first]
    pool.hold({first.id})
    with pytest.raises(Rejected) as caught:
        pool.add(pay(chain, 1, fee=1000), now_ms=0)
    assert caught.value.reason == Reason.IN_BLOCK
    with pytest.raises(Rejected) as caught:
        pool.add(pay(chain, 1, fee=1000, sender=BOB), now_ms=0)
    assert caught.value.reason == Reason.MEMPOOL_FULL
    assert pool.expire(module.MAX_WAIT_MS * 2) == []
    chain.block(first)
    assert pool.settle([first]) == ([], [], [])
    assert (len(pool), pool.has_ready()) == (0, False)


def test_a_block_overtakes_what_waits_at_its_nonces(chain: Chain, pool: Mempool) -> None:
    ours, theirs = pay(chain, 1, fee=100), pay(chain, 1, fee=200)
    later = pay(chain, 2)
    pool.add(ours, now_ms=0)
    pool.add(later, now_ms=0)
    chain.block(theirs)
    assert pool.settle([theirs]) == ([ours], [], [])
    assert pool.has_ready(), "the next one is ready now"
    assert pool.select(max_txs=9, max_bytes=10**6) == [later]


def test_nothing_waits_for_ever(chain: Chain, pool: Mempool) -> None:
    old, young = pay(chain, 5), pay(chain, 1)
    pool.add(old, now_ms=1)
    pool.add(young, now_ms=2)
    assert pool.expire(module.MAX_WAIT_MS + 1) == []
    assert pool.expire(module.MAX_WAIT_MS + 2) == [old]
    assert pool.has_ready()
    assert pool.expire(module.MAX_WAIT_MS + 3) == [young]
    assert not pool.has_ready()


def test_a_clock_that_has_gone_back_keeps_nothing_for_ever(chain: Chain, pool: Mempool) -> None:
    """It stood in the future when the transaction came; by the right time three hours would never be over."""
    tx = pay(chain, 1)
    pool.add(tx, now_ms=10 * module.MAX_WAIT_MS)
    assert pool.expire(9 * module.MAX_WAIT_MS) == []
    assert pool.expire(0) == [tx]


def test_what_pays_its_own_fee_stays_when_the_head_went_back_and_came_again(chain: Chain) -> None:
    """Eve has nothing; her claim's fee comes out of what it pays. It waits as her second transaction, a reorganisation
    brings the first one back, and a block takes that one again."""
    account = Account(0, 1, EVE.auth_key)
    pool = Mempool(lambda _address: account)
    first, claim = pay(chain, 1, fee=0, sender=EVE), pay(chain, 2, sender=EVE)
    pool.add(claim, now_ms=0, fee_source="the lock")
    account = Account(0, 0, EVE.auth_key)
    pool.reopen([first])
    account = Account(0, 1, EVE.auth_key)
    assert pool.settle([first]) == ([], [], [])
    assert pool.select(max_txs=9, max_bytes=10**6) == [claim]


def test_fees_that_were_covered_once_must_stay_covered(chain: Chain, pool: Mempool) -> None:
    """Otherwise one balance, moved from account to account, fills the pool with promises of its fees."""
    promises = [pay(chain, nonce, fee=900_000) for nonce in (3, 4, 5)]
    for tx in promises:
        pool.add(tx, now_ms=0)
    rest = 1_000_000
    spent = {"to": BOB.address, "amount": chain.balance(ALICE) - 2 * rest - 100}
    move = chain.verified(ALICE, "TRANSFER", spent, nonce=1, fee=100)
    pool.add(move, now_ms=0)
    chain.block(move)
    overtaken, unfunded, _ = pool.settle([move])
    assert (overtaken, unfunded) == ([], [promises[2]]), "the last one goes first: the others build on less"
    assert pool.pending(ALICE.address) == 2


def test_what_waits_for_a_missing_nonce_gets_a_tenth_of_the_places(
    chain: Chain, pool: Mempool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GAPPED", 2)
    for nonce in (3, 5):
        pool.add(pay(chain, nonce), now_ms=0)
    with pytest.raises(Rejected) as caught:
        pool.add(pay(chain, 2, sender=BOB), now_ms=0)
    assert caught.value.reason == Reason.NONCE_GAP
    pool.add(pay(chain, 1, sender=BOB), now_ms=0)
    pool.add(pay(chain, 1), now_ms=0)
    pool.add(pay(chain, 2), now_ms=0)
    pool.add(pay(chain, 3, sender=BOB), now_ms=0)
    with pytest.raises(Rejected):
        pool.add(pay(chain, 4, sender=BOB), now_ms=0)
    chain.block(*pool.select(max_txs=9, max_bytes=10**6))
    assert pool.pending(BOB.address) == 2


def test_what_waits_reserves_what_it_spends(chain: Chain, pool: Mempool) -> None:
    """Alice has 1,000 AIT: two payments of 600 do not wait together, one of 600 and one of 300 do."""
    pool.add(pay(chain, 1), now_ms=0, spends=600 * AIT)
    with pytest.raises(Rejected) as caught:
        pool.add(pay(chain, 2), now_ms=0, spends=600 * AIT)
    assert caught.value.reason == Reason.INSUFFICIENT_BALANCE
    assert "600.0001 AIT are reserved for what waits already" in caught.value.message
    pool.add(pay(chain, 2), now_ms=0, spends=300 * AIT)
    pool.add(pay(chain, 1, fee=200), now_ms=0, spends=700 * AIT - 300)
    assert len(pool) == 2, "a replacement reserves instead of what it replaces"


def test_a_payment_that_a_block_made_too_dear_is_dropped(chain: Chain, pool: Mempool) -> None:
    """Bob's second payment was covered until his first one turned out to be another, larger one."""
    small, next_one = pay(chain, 1, sender=BOB), pay(chain, 2, sender=BOB)
    pool.add(small, now_ms=0, spends=100 * AIT)
    pool.add(next_one, now_ms=0, spends=500 * AIT)
    large = chain.verified(BOB, "TRANSFER", {"to": ALICE.address, "amount": 900 * AIT}, nonce=1)
    chain.block(large)
    settled = pool.settle([large])
    assert (settled.overtaken, settled.unfunded) == ([small], [next_one])
    assert len(pool) == 0


def test_a_snapshot_has_each_lane_in_order(chain: Chain, pool: Mempool) -> None:
    for nonce in (3, 1, 2):
        pool.add(pay(chain, nonce), now_ms=0)
    pool.add(pay(chain, 1, sender=BOB), now_ms=0)
    assert [(tx.tx.sender, tx.tx.nonce) for tx in pool.waiting()] == [
        (ALICE.address, 1),
        (ALICE.address, 2),
        (ALICE.address, 3),
        (BOB.address, 1),
    ]


def test_a_head_that_goes_back_opens_the_earlier_nonces(chain: Chain, pool: Mempool) -> None:
    first, second = pay(chain, 1), pay(chain, 2)
    pool.add(first, now_ms=0)
    pool.add(second, now_ms=0)
    chain.block(first)
    pool.settle([first])
    assert pool.has_ready(), "the second is next"
    chain.executor.retract()
    pool.reopen([first])
    assert not pool.has_ready(), "the first is next again, and it is not here"
    pool.add(first, now_ms=0)
    assert pool.select(max_txs=9, max_bytes=10**6) == [first, second]


def test_a_block_on_undecided_ones_takes_what_comes_after_them(chain: Chain, pool: Mempool) -> None:
    """Alice's first two are in undecided blocks, Bob's only one is: Alice's third is next, and Bob has nothing."""
    of_alice = [pay(chain, nonce) for nonce in (1, 2, 3)]
    for tx in [*of_alice, pay(chain, 1, sender=BOB)]:
        pool.add(tx, now_ms=0)
    ahead = {ALICE.address: 2, BOB.address: 1}
    assert pool.select(max_txs=9, max_bytes=10**6, ahead=ahead) == [of_alice[2]]
    assert pool.has_ready(ahead)
    assert not pool.has_ready({ALICE.address: 3, BOB.address: 1})
    assert pool.has_ready({ALICE.address: 3}), "Bob's is still free on that branch"


def test_what_the_next_block_could_hold_is_counted_up_to_what_is_asked(chain: Chain, pool: Mempool) -> None:
    for nonce in (1, 2, 4):
        pool.add(pay(chain, nonce), now_ms=0)
    pool.add(pay(chain, 1, sender=BOB), now_ms=0)
    assert [pool.count_ready(most) for most in (1, 2, 3, 4, 9)] == [1, 2, 3, 3, 3], "the fourth has a gap"


def test_what_is_held_is_let_go_when_its_blocks_are_not_decided(chain: Chain, pool: Mempool) -> None:
    first = pay(chain, 1)
    pool.add(first, now_ms=0)
    pool.hold({first.id})
    with pytest.raises(Rejected):
        pool.add(pay(chain, 1, fee=1000), now_ms=0)
    pool.hold(set())
    assert pool.add(pay(chain, 1, fee=1000), now_ms=0) == [first]


def rotation(chain: Chain, nonce: int) -> VerifiedTransaction:
    key = person("alice's next key")
    digest = rotation_digest(ALICE.address, key.auth_key, chain.genesis_hash)
    payload = {"pubkey": key_to_text(key.auth_key), "sig": key.sign(digest).hex()}
    return chain.verified(ALICE, "KEY_ROTATE", payload, nonce=nonce)


def test_what_an_old_key_has_signed_leaves_with_the_rotation() -> None:
    """Eve's way to fill a pool for nothing: a rotation first, and behind it what can never be in a block."""
    chain = Chain(genesis(activations=VERSION_2))
    pool = Mempool(chain.executor.state.account)
    followers = [pay(chain, nonce) for nonce in (2, 3, 5)]
    for tx in followers:
        pool.add(tx, now_ms=0)
    rotating = rotation(chain, 1)
    pool.add(rotating, now_ms=0)
    with pytest.raises(Rejected) as caught:
        pool.add(pay(chain, 4), now_ms=0)
    assert caught.value.reason is Reason.ROTATION_WAITS
    chain.block(rotating)
    settled = pool.settle([rotating])
    assert sorted(tx.tx.nonce for tx in settled.rekeyed) == [2, 3, 5]
    assert len(pool) == 0 and not pool.has_ready()


def test_gaps_that_others_leave_are_bounded_too(
    chain: Chain, pool: Mempool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GAPPED", 2)
    for sender in (ALICE, BOB):
        for nonce in (1, 2, 3):
            pool.add(pay(chain, nonce, sender=sender), now_ms=0)
    first_of = {
        sender: next(tx for tx in pool.waiting() if tx.tx.sender == sender.address) for sender in (ALICE, BOB)
    }
    pool.remove(first_of[ALICE])
    assert pool.trim() == [], "two wait behind a gap, as many as may"
    pool.remove(first_of[BOB])
    assert [(tx.tx.sender, tx.tx.nonce) for tx in pool.trim()] == [(BOB.address, 2), (BOB.address, 3)]
    assert len(pool) == 2 and pool.trim() == []


class Slow:
    """The same questions, each answered by looking at everything that waits."""

    def __init__(self, pool: Mempool, accounts: dict[str, Account]) -> None:
        self.waiting = {(tx.tx.sender, tx.tx.nonce): tx for tx in pool.waiting()}
        self.accounts = accounts

    def next_nonce(self, address: str) -> int:
        nonce = self.accounts[address].nonce + 1
        while (address, nonce) in self.waiting:
            nonce += 1
        return nonce

    def gapped(self) -> int:
        return sum(nonce > self.next_nonce(address) for address, nonce in self.waiting)

    def ready(self) -> bool:
        return any(self.next_nonce(address) > account.nonce + 1 for address, account in self.accounts.items())


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_sums_are_those_of_what_waits(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comes, is replaced, pushed out, put into blocks, taken back, removed; balances run short."""
    monkeypatch.setattr(module, "MAX_TXS", 24)
    monkeypatch.setattr(module, "MAX_LEFT", 4)
    draw, chain = random.Random(seed), Chain()
    senders = [ALICE, BOB, EVE, HUB]
    accounts = {who.address: Account(2_000, 0, who.auth_key) for who in senders}
    pool, in_blocks = Mempool(lambda address: accounts[address]), list[list[VerifiedTransaction]]()
    made: dict[tuple[str, int, int], VerifiedTransaction] = {}
    for step in range(300):
        who = draw.choice(senders)
        match draw.randrange(10):
            case 0:
                block = pool.select(max_txs=draw.randrange(1, 9), max_bytes=10**6)
                for tx in block:
                    account = accounts[tx.tx.sender]
                    accounts[tx.tx.sender] = Account(account.balance - tx.tx.fee, tx.tx.nonce, account.auth)
                in_blocks.append(block)
                pool.settle(block)
            case 1 if in_blocks:
                block = in_blocks.pop()
                for tx in reversed(block):
                    account = accounts[tx.tx.sender]
                    accounts[tx.tx.sender] = Account(
                        account.balance + tx.tx.fee, tx.tx.nonce - 1, account.auth
                    )
                pool.reopen(block)
            case 2 if len(pool):
                pool.remove(draw.choice(pool.waiting()))
            case _:
                nonce = pool.next_nonce(who.address) + draw.choice((0, 0, 0, 0, 1, 3, -1))
                fee = draw.randrange(10, 200)
                key = (who.address, max(1, nonce), fee)
                if key not in made:
                    made[key] = pay(chain, key[1], fee=fee, sender=who)
                with suppress(Rejected):
                    pool.add(made[key], now_ms=step, spends=1)
        slow = Slow(pool, accounts)
        assert {who.address: pool.next_nonce(who.address) for who in senders} == {
            who.address: slow.next_nonce(who.address) for who in senders
        }
        assert (pool.has_ready(), pool._gapped_total) == (slow.ready(), slow.gapped())
        for address, lane in pool._lanes.items():
            fees = [tx.tx.fee for (sender, _), tx in slow.waiting.items() if sender == address]
            assert (lane.fees, lane.cost) == (sum(fees), sum(fees) + len(fees))
        assert len(pool._by_rate) <= 2 * 24 + module.MAX_LEFT + 1
        assert len(pool) <= 24


def test_pages_are_those_of_a_list_that_is_sorted_whole(chain: Chain, pool: Mempool) -> None:
    draw = random.Random(7)
    everybody = [ALICE, BOB, HUB]
    for nonce in range(1, 9):
        for sender in everybody:
            if draw.random() < 0.6:
                pool.add(pay(chain, nonce, sender=sender), now_ms=0)
    whole = sorted(pool.all(), key=lambda tx: (tx.tx.sender, tx.tx.nonce))
    assert len({tx.tx.sender for tx in whole}) == 3
    places = [("", 0), *[(tx.tx.sender, tx.tx.nonce) for tx in whole], ("ait1q", 3), ("zzz", 0)]
    for place in places:
        for most in (1, 2, 5, 100):
            behind = [tx for tx in whole if (tx.tx.sender, tx.tx.nonce) > place]
            assert pool.page(place, most) == behind[:most], (place, most)
    for sender in (*everybody, EVE):
        assert pool.lane(sender.address) == [tx for tx in whole if tx.tx.sender == sender.address]
