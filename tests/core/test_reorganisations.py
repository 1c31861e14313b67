"""A head that goes back: whatever was in the blocks that are taken back waits again, or is dropped with a reason."""

import random

import pytest

from aitbc.core.replica import (
    Abandoned,
    Answer,
    Built,
    Committed,
    Drop,
    Relay,
    Replica,
    TransactionsSubmitted,
)
from aitbc.core.types.blocks import Candidate, Certificate
from aitbc.core.types.transactions import VerifiedTransaction
from support.chain import VERSION_2, Chain, genesis
from support.observer import Observer
from support.people import ALICE, BOB, EVE, HUB, VALIDATOR

SENDERS = (ALICE, BOB, HUB)


class Wavering:
    """A node whose chain goes back and forth, without an engine that would want it to."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.chain = Chain(genesis(activations=VERSION_2))
        executor = self.chain.executor
        self.replica = Replica(
            state=executor.state,
            engine=Observer(),
            genesis_hash=self.chain.genesis_hash,
            head=executor.head.block.header,
            head_hash=executor.head.hash,
            epoch_length=600,
        )
        self.branch: list[list[VerifiedTransaction]] = []
        """Transactions of each block above genesis."""
        self.submitted: dict[bytes, VerifiedTransaction] = {}
        self.dropped: set[bytes] = set()

    def submit(self) -> None:
        sender = self.random.choice(SENDERS)
        nonce = self.replica.mempool.next_nonce(sender.address)
        payload = {"to": EVE.address, "amount": self.random.randrange(1, 10**6)}
        tx = self.chain.verified(sender, "TRANSFER", payload, nonce=nonce, fee=self.random.randrange(50, 99))
        effects = self.replica.step(self.chain.now_ms, TransactionsSubmitted([tx], 0))
        assert effects == [Answer(0, [None]), Relay([tx])]
        self.submitted[tx.id] = tx

    def extend(self) -> None:
        """A block of some of what waits."""
        chosen = self.replica.mempool.select(max_txs=self.random.randrange(1, 6), max_bytes=10**6)
        self.chain.now_ms += 1_000
        executor = self.chain.executor
        built = executor.build(chosen, proposer=VALIDATOR.address, timestamp_ms=self.chain.now_ms)
        assert built.included == chosen
        self._note(self.replica.step(self.chain.now_ms, Built(built)))
        certificate = Certificate("final", Candidate(0, 1, 0, bytes(32), built.hash), 1, [bytes(64)])
        commit = executor.seal(built, certificate)
        executor.publish(built, commit.block)
        self._note(self.replica.step(self.chain.now_ms, Committed([commit.block])))
        self.branch.append(chosen)

    def go_back(self) -> None:
        depth = self.random.randrange(1, min(len(self.branch), 8) + 1)
        abandoned = [tx for txs in self.branch[-depth:] for tx in txs]
        for _ in range(depth):
            self.chain.executor.retract()
        del self.branch[-depth:]
        head = self.chain.executor.head
        message = Abandoned(abandoned, head.block.header, head.hash)
        self._note(self.replica.step(self.chain.now_ms, message))

    def _note(self, effects: list[object]) -> None:
        self.dropped.update(effect.tx.id for effect in effects if isinstance(effect, Drop))

    def check(self) -> None:
        """Each transaction is in exactly one place."""
        on_chain = {tx.id for txs in self.branch for tx in txs}
        waiting = {tx.id for tx in self.replica.mempool.waiting()}
        assert not on_chain & waiting
        assert on_chain | waiting | self.dropped == set(self.submitted)
        assert not self.dropped, "nothing made any of them invalid"


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_on_the_way_back(seed: int) -> None:
    node = Wavering(seed)
    for _ in range(60):
        move = node.random.random()
        if move < 0.5:
            node.submit()
        elif move < 0.8 or not node.branch:
            node.extend()
        else:
            node.go_back()
        node.check()
    while node.replica.mempool.has_ready():
        node.extend()
    assert {tx.id for txs in node.branch for tx in txs} == set(node.submitted)


def test_what_the_shorter_chain_makes_invalid_is_dropped_with_its_reason() -> None:
    """Eve paid out of coins that an abandoned block had given her: she has none to reserve now."""
    node = Wavering(1)
    chain, replica = node.chain, node.replica
    gift = chain.verified(ALICE, "TRANSFER", {"to": EVE.address, "amount": 10**6})
    spent = chain.verified(EVE, "TRANSFER", {"to": BOB.address, "amount": 10}, nonce=1)
    replica.step(chain.now_ms, TransactionsSubmitted([gift], 0))
    node.extend()
    replica.step(chain.now_ms, TransactionsSubmitted([spent], 0))
    node.extend()
    chain.executor.retract()
    chain.executor.retract()
    head = chain.executor.head
    drops = replica.step(chain.now_ms, Abandoned([gift, spent], head.block.header, head.hash))
    assert [(drop.tx, str(drop.rejection.reason)) for drop in drops if isinstance(drop, Drop)] == [
        (spent, "fee_not_covered")
    ]
    assert replica.mempool.waiting() == [gift]
