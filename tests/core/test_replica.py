"""The node as one step: what it says to those who submit, whatever happens to the block under way."""

import msgspec
import pytest

from aitbc.core.consensus.engine import SignStatements, StatementsSigned, TimerFired
from aitbc.core.replica import Answer, Built, Commit, Committed, Drop, Effect, Execute, TransactionSubmitted
from aitbc.core.start import replica_at_head
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.reasons import Reason
from aitbc.core.types.transactions import VerifiedTransaction
from support.chain import Chain
from support.people import ALICE, BOB, EVE, PROVIDER, VALIDATOR, person


class Node:
    """A replica whose effects a test performs one at a time."""

    def __init__(self) -> None:
        self.chain = Chain()
        self.replica = replica_at_head(self.chain.executor, authors=True)
        self.now_ms = self.chain.now_ms + 60_000

    def submit(self, tx: VerifiedTransaction) -> Answer:
        effects = self.replica.step(self.now_ms, TransactionSubmitted(tx, 7))
        self.dropped = {
            effect.tx.id: effect.rejection.reason for effect in effects if isinstance(effect, Drop)
        }
        return only(effects, Answer)

    def begin(self) -> Execute:
        return only(self.replica.step(self.now_ms, TimerFired("pace")), Execute)

    def finish(self, work: Execute) -> list[Effect]:
        """Build, sign, commit; returns the effects of every step."""
        executor = self.chain.executor
        built = executor.build(work.txs, proposer=VALIDATOR.address, timestamp_ms=work.timestamp_ms)
        effects = self.replica.step(self.now_ms, Built(built))
        statements = only(effects, SignStatements).statements
        signed = StatementsSigned([VALIDATOR.sign(statement.digest) for statement in statements])
        commit = only(self.replica.step(self.now_ms, signed), Commit)
        committed = executor.seal(commit.built, commit.certificate)
        executor.publish(commit.built, committed)
        return effects + self.replica.step(self.now_ms, Committed(committed))


def only(effects: list[Effect], kind: type) -> msgspec.Struct:  # type: ignore[type-arg]
    found = [effect for effect in effects if isinstance(effect, kind)]
    assert len(found) == 1, effects
    return found[0]


@pytest.fixture
def node() -> Node:
    return Node()


def pay(node: Node, *, nonce: int = 1, fee: int = 100, amount: int = 1) -> VerifiedTransaction:
    return node.chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": amount}, nonce=nonce, fee=fee)


def test_strangers_without_coins_cannot_fill_the_pool_with_promised_fees(node: Node) -> None:
    for number in range(20):
        stranger = person(f"stranger {number}")
        for nonce in (1, 2):
            promise = node.chain.verified(
                stranger, "REFUND", {"lock": "ab" * 32}, nonce=nonce, fee=MAX_SIGNED
            )
            assert node.submit(promise).rejection is not None
    assert len(node.replica.mempool) == 0


def test_a_replacement_comes_too_late_for_the_block_being_made(node: Node) -> None:
    first, better = pay(node), pay(node, fee=200, amount=2)
    node.submit(first)
    work = node.begin()
    answer = node.submit(better)
    assert answer.rejection is not None and answer.rejection.reason == Reason.IN_BLOCK
    effects = node.finish(work)
    assert not [effect for effect in effects if isinstance(effect, Drop)]
    assert node.replica.mempool.get(first.id) is None
    assert node.chain.nonce(ALICE) == 1


def test_what_was_promised_to_wait_is_told_when_a_block_overtakes_it(node: Node) -> None:
    """Another author's block can hold what this node had replaced."""
    first, better = pay(node), pay(node, fee=200, amount=2)
    node.submit(first)
    work = node.begin()
    node.replica.mempool.settle([])
    node.submit(better)
    assert node.dropped == {first.id: Reason.MEMPOOL_FULL}
    drops = [effect for effect in node.finish(work) if isinstance(effect, Drop)]
    assert [(drop.tx.id, drop.rejection.reason) for drop in drops] == [(better.id, Reason.BAD_NONCE)]


def test_one_that_is_refused_at_build_does_not_take_its_followers_along(node: Node) -> None:
    first, second = pay(node), pay(node, nonce=2)
    for tx in (first, second):
        node.submit(tx)
    work = node.begin()
    assert work.txs == [first, second]
    built = node.chain.executor.build(
        [second], proposer=VALIDATOR.address, timestamp_ms=node.chain.now_ms + 1_000
    )
    assert [rejection.reason for _, rejection in built.refused] == [Reason.BAD_NONCE]
    effects = node.replica.step(node.now_ms, Built(built))
    assert not [effect for effect in effects if isinstance(effect, Drop)]
    assert node.replica.mempool.get(second.id) == second, "it waits for another first one"


@pytest.mark.parametrize("nonce", [1, 2])
def test_a_forged_witness_does_not_hold_the_place_of_the_good_one(node: Node, nonce: int) -> None:
    node.chain.register(PROVIDER)
    lock = node.chain.lock()
    payload, witness = node.chain.claim_parts(PROVIDER, lock)
    node.replica = replica_at_head(node.chain.executor, authors=True)
    at = node.chain.nonce(EVE) + nonce
    node.chain.do(ALICE, "TRANSFER", {"to": EVE.address, "amount": 1_000_000})
    forged = {**witness, "sig": EVE.sign(b"x" * 32).hex()}
    bad = node.chain.verified(EVE, "RECEIPT_CLAIM", payload, witness=forged, nonce=at)
    good = node.chain.verified(EVE, "RECEIPT_CLAIM", payload, witness=witness, nonce=at)
    assert bad.id == good.id and bad.wid != good.wid
    rejection = node.submit(bad).rejection
    assert rejection is not None and rejection.reason == Reason.BAD_ATTESTATION_SIGNATURE
    assert node.submit(good).rejection is None
    assert node.replica.mempool.get(good.id) == good


def test_a_node_without_a_key_only_watches() -> None:
    chain = Chain()
    replica = replica_at_head(chain.executor, authors=False)
    assert replica.start(chain.now_ms) == []
    tx = chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1})
    effects = replica.step(chain.now_ms + 5_000, TransactionSubmitted(tx, 1))
    assert [type(effect) for effect in effects] == [Answer]
