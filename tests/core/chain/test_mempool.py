"""Lanes, replacement and bounds of the mempool."""

import pytest

from aitbc.core.chain import mempool as module
from aitbc.core.chain.mempool import Mempool
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import VerifiedTransaction
from support.chain import Chain
from support.people import ALICE, BOB, EVE


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
        pool.add(pay(chain, nonce), pays_sender=False)
    assert [tx.tx.nonce for tx in pool.select(max_txs=10, max_bytes=10**6)] == [1, 2, 3]
    assert pool.next_nonce(ALICE.address) == 4
    assert pool.pending(ALICE.address) == 4


def test_better_paying_lanes_go_first_and_blocks_are_bounded(chain: Chain, pool: Mempool) -> None:
    pool.add(pay(chain, 1, fee=100), pays_sender=False)
    pool.add(pay(chain, 1, fee=200, sender=BOB), pays_sender=False)
    assert [tx.tx.sender for tx in pool.select(max_txs=10, max_bytes=10**6)] == [BOB.address, ALICE.address]
    assert len(pool.select(max_txs=1, max_bytes=10**6)) == 1
    size = pay(chain, 1).size
    assert len(pool.select(max_txs=10, max_bytes=size)) == 1


def test_replacement_needs_a_tenth_more(chain: Chain, pool: Mempool) -> None:
    first = pay(chain, 1, fee=100)
    pool.add(first, pays_sender=False)
    with pytest.raises(Rejected) as caught:
        pool.add(pay(chain, 1, fee=109), pays_sender=False)
    assert caught.value.reason == Reason.REPLACEMENT_FEE_TOO_LOW
    better = pay(chain, 1, fee=110)
    assert pool.add(better, pays_sender=False) == [first]
    assert (pool.get(first.id), pool.get(better.id), len(pool)) == (None, better, 1)


def test_refusals(chain: Chain, pool: Mempool) -> None:
    for nonce in range(1, 65):
        pool.add(pay(chain, nonce), pays_sender=False)
    cases = [
        (pay(chain, 65), Reason.TOO_MANY_PENDING),
        (pay(chain, 65, sender=BOB), Reason.NONCE_GAP),
        (pay(chain, 1), Reason.ALREADY_KNOWN),
        (pay(chain, 1, fee=2_000_000_000), Reason.FEE_NOT_COVERED),
        (pay(chain, 1, sender=EVE), Reason.FEE_NOT_COVERED),
    ]
    for tx, reason in cases:
        with pytest.raises(Rejected) as caught:
            pool.add(tx, pays_sender=False)
        assert caught.value.reason == reason
    assert len(pool) == 64


def test_a_full_pool_evicts_the_cheapest_or_refuses(
    chain: Chain, pool: Mempool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TXS", 2)
    cheap, dear = pay(chain, 1, fee=50), pay(chain, 1, fee=500, sender=BOB)
    pool.add(cheap, pays_sender=False)
    pool.add(dear, pays_sender=False)
    with pytest.raises(Rejected) as caught:
        pool.add(pay(chain, 2, fee=50), pays_sender=False)
    assert caught.value.reason == Reason.MEMPOOL_FULL
    assert pool.add(pay(chain, 2, fee=400, sender=BOB), pays_sender=False) == [cheap]
    assert len(pool) == 2


def test_an_evicted_sender_may_replace_itself_in_a_full_pool(
    chain: Chain, pool: Mempool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TXS", 1)
    pool.add(pay(chain, 1, fee=100), pays_sender=False)
    evicted = pool.add(pay(chain, 1, fee=300), pays_sender=False)
    assert [tx.tx.fee for tx in evicted] == [100]
    assert len(pool) == 1
