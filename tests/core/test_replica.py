"""The node as one step: what it says to those who submit, whatever happens to the block under way."""

import msgspec
import pytest

from aitbc.core.codec.digests import transaction_id
from aitbc.core.codec.wire import pack
from aitbc.core.consensus.engine import SetTimer, SignStatements, StatementsSigned, TimerFired
from aitbc.core.consensus.simplex.wal import BlockRecord, CandidateRecord, VoteRecord
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.replica import (
    Announce,
    Answer,
    Built,
    Commit,
    Committed,
    Drop,
    Effect,
    Execute,
    Log,
    Relay,
    Tell,
    TransactionsSubmitted,
)
from aitbc.core.start import replica_at_head
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.reasons import Reason
from aitbc.core.types.transactions import VerifiedTransaction
from support.chain import Chain
from support.ledger import Ledger
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, VALIDATOR, person


class Node:
    """A replica whose effects a test performs one at a time."""

    def __init__(self, chain: Chain | None = None) -> None:
        self.chain = chain or Chain()
        self.replica = replica_at_head(self.chain.executor, address=VALIDATOR.address)
        self.now_ms = self.chain.now_ms + 60_000

    def submit(self, tx: VerifiedTransaction) -> Answer:
        effects = self.replica.step(self.now_ms, TransactionsSubmitted([tx], 7))
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
        (last,) = commit.blocks
        committed = executor.seal(last, commit.certificate)
        executor.publish(last, committed.block)
        return effects + self.replica.step(self.now_ms, Committed([committed.block]))


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
            assert node.submit(promise).verdicts[0] is not None
    assert len(node.replica.mempool) == 0


def test_a_replacement_comes_too_late_for_the_block_being_made(node: Node) -> None:
    first, better = pay(node), pay(node, fee=200, amount=2)
    node.submit(first)
    work = node.begin()
    answer = node.submit(better)
    assert answer.verdicts[0] is not None and answer.verdicts[0].reason == Reason.IN_BLOCK
    effects = node.finish(work)
    assert not [effect for effect in effects if isinstance(effect, Drop)]
    assert node.replica.mempool.get(first.id) is None
    assert node.chain.nonce(ALICE) == 1


def test_what_was_promised_to_wait_is_told_when_a_block_overtakes_it(node: Node) -> None:
    """Another author's block can hold what this node had replaced."""
    first, better = pay(node), pay(node, fee=200, amount=2)
    node.submit(first)
    work = node.begin()
    node.replica.mempool.hold(set())
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
    node.replica = replica_at_head(node.chain.executor, address=VALIDATOR.address)
    at = node.chain.nonce(EVE) + nonce
    node.chain.do(ALICE, "TRANSFER", {"to": EVE.address, "amount": 1_000_000})
    forged = {**witness, "sig": EVE.sign(b"x" * 32).hex()}
    bad = node.chain.verified(EVE, "RECEIPT_CLAIM", payload, witness=forged, nonce=at)
    good = node.chain.verified(EVE, "RECEIPT_CLAIM", payload, witness=witness, nonce=at)
    assert bad.id == good.id and bad.wid != good.wid
    rejection = node.submit(bad).verdicts[0]
    assert rejection is not None and rejection.reason == Reason.BAD_ATTESTATION_SIGNATURE
    assert node.submit(good).verdicts[0] is None
    assert node.replica.mempool.get(good.id) == good


@pytest.mark.parametrize("kind", ["RECEIPT_CLAIM", "REGISTER", "PARAM_UPDATE"])
def test_a_witness_is_judged_long_before_the_transactions_turn(kind: str) -> None:
    """On version 2 each of the three would be invalid in a block."""
    chain = Ledger(more=[PROVIDER])
    chain.register(PROVIDER)
    register = {"role": "hub", "models": [], "validator": VALIDATOR.address}
    payload, witness, spoiled, reason = {
        "RECEIPT_CLAIM": (
            *chain.claim_parts(PROVIDER, chain.lock()),
            {"sig": "00" * 64},
            Reason.BAD_ATTESTATION_SIGNATURE,
        ),
        "REGISTER": (
            register,
            chain.countersigned(BOB, VALIDATOR),
            {"validator_sig": "00" * 64},
            Reason.BAD_COUNTERSIGNATURE,
        ),
        "PARAM_UPDATE": (
            *chain.update({"set": {"base_fee": 3}}, VALIDATOR),
            {"sigs": ["00" * 64]},
            Reason.BAD_APPROVAL,
        ),
    }[kind]
    node, at = Node(chain), chain.nonce(BOB) + 5
    bad = chain.verified(BOB, kind, payload, witness={**witness, **spoiled}, nonce=at)
    rejection = node.submit(bad).verdicts[0]
    assert rejection is not None and rejection.reason == reason
    assert node.submit(chain.verified(BOB, kind, payload, witness=witness, nonce=at)).verdicts[0] is None


def test_a_node_without_a_key_only_watches() -> None:
    chain = Chain()
    replica = replica_at_head(chain.executor, address="")
    assert {type(effect) for effect in replica.start(chain.now_ms)} <= {SetTimer, Tell}
    tx = chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1})
    effects = replica.step(chain.now_ms + 5_000, TransactionsSubmitted([tx], 1))
    assert [type(effect) for effect in effects] == [Answer, Relay]


def waiting(node: Node) -> list[VerifiedTransaction]:
    """What the pool offers to the next block, with the count of all that it holds."""
    ready = node.replica.mempool.select(max_txs=100, max_bytes=10**6)
    assert len(node.replica.mempool) == len(ready)
    return ready


def test_the_life_of_a_transaction_from_the_door_to_the_head(node: Node) -> None:
    """Every effect of every step, in order."""
    tx, executor, head = pay(node), node.chain.executor, node.chain.executor.head
    arrived = node.replica.step(node.now_ms, TransactionsSubmitted([tx], 7))
    soonest = max(node.now_ms, head.block.header.timestamp_ms + 1_000)
    assert arrived == [Answer(7, [None]), Relay([tx]), SetTimer("pace", soonest)]

    assert node.replica.step(node.now_ms, TimerFired("pace")) == [Execute(head.hash, [tx], node.now_ms)]

    built = executor.build([tx], proposer=VALIDATOR.address, timestamp_ms=node.now_ms)
    asked = node.replica.step(node.now_ms, Built(built))
    log, request = asked
    assert isinstance(log, Log) and isinstance(request, SignStatements)
    block, candidate, *votes = log.records
    assert block == BlockRecord(built.hash, pack(built.block))
    assert isinstance(candidate, CandidateRecord) and candidate.candidate.block_hash == built.hash
    assert [vote.kind for vote in votes if isinstance(vote, VoteRecord)] == ["candidate", "notar", "final"]
    assert [(item.kind, item.epoch, item.slot) for item in request.statements] == [
        ("candidate", 0, 1),
        ("notar", 0, 1),
        ("final", 0, 1),
    ]

    signatures = [VALIDATOR.sign(statement.digest) for statement in request.statements]
    signed = node.replica.step(node.now_ms, StatementsSigned(signatures))
    commit = only(signed, Commit)
    assert {type(effect) for effect in signed} == {Log, Tell, Commit}
    assert (commit.blocks, commit.certificate.signatures) == ([built], signatures[-1:])
    assert node.replica.mempool.get(tx.id) == tx, "it waits until the block is on disk"

    committed = executor.seal(built, commit.certificate)
    executor.publish(built, committed.block)
    done = node.replica.step(node.now_ms, Committed([committed.block]))
    assert done == [Announce(committed.block), SetTimer("pace", node.now_ms + 10_000)]
    assert waiting(node) == []


def test_the_same_transaction_twice_waits_once_and_is_welcome_twice(node: Node) -> None:
    tx = pay(node)
    assert node.submit(tx) == Answer(7, [None])
    assert node.replica.step(node.now_ms, TransactionsSubmitted([tx], 8)) == [Answer(8, [None], known=[0])]
    assert waiting(node) == [tx]


@pytest.mark.parametrize("nonce", [1, 2])
def test_a_strangers_key_opens_no_place_in_anybodys_lane(node: Node, nonce: int) -> None:
    """Eve signs for Alice's account; with a nonce ahead nothing but the key says that it is not Alice."""
    unsigned = msgspec.structs.replace(pay(node, nonce=nonce).tx, pubkey=EVE.auth_key)
    sig = EVE.sign(transaction_id(unsigned, node.chain.genesis_hash))
    forged = verify_transaction(msgspec.structs.replace(unsigned, sig=sig), node.chain.genesis_hash)
    (answer,) = node.replica.step(node.now_ms, TransactionsSubmitted([forged], 7))
    assert isinstance(answer, Answer)
    (rejection,) = answer.verdicts
    assert rejection is not None and (answer.ticket, rejection.reason) == (7, Reason.WRONG_KEY)
    assert waiting(node) == []


@pytest.mark.parametrize(("ahead_ms", "reason"), [(1, Reason.DEADLINE_PASSED), (2, None)])
def test_a_clock_behind_the_head_admits_only_what_the_next_block_could_hold(
    node: Node, ahead_ms: int, reason: Reason | None
) -> None:
    """Block time never goes back, so a lock is tried at the earliest time of the next block, not at the clock's."""
    node.chain.block()
    node.replica = replica_at_head(node.chain.executor, address=VALIDATOR.address)
    head_ms = node.chain.executor.head.block.header.timestamp_ms
    node.now_ms = head_ms - 5_000
    payload = {
        "hub": HUB.address,
        "job_id": "job-1",
        "amount": 1,
        "request_hash": "sha256:" + "cd" * 32,
        "deliver_by_ms": head_ms + ahead_ms,
        "claim_until_ms": head_ms + 60_000,
    }
    lock = node.chain.verified(ALICE, "JOB_LOCK", payload)
    rejection = node.submit(lock).verdicts[0]
    assert (rejection.reason if rejection else None) == reason
    assert waiting(node) == ([] if reason else [lock])


def test_what_the_block_refuses_leaves_the_pool_and_is_reported(node: Node) -> None:
    """A provider without coins pays out of its claim; the block comes after the claim's last moment."""
    node.chain.register(PROVIDER)
    lock = node.chain.lock()
    payload, witness = node.chain.claim_parts(PROVIDER, lock)
    node.replica = replica_at_head(node.chain.executor, address=VALIDATOR.address)
    node.now_ms = node.chain.now_ms + 1_000
    claim = node.chain.verified(PROVIDER, "RECEIPT_CLAIM", payload, witness=witness)
    assert node.submit(claim).verdicts[0] is None
    work = node.begin()
    assert work.txs == [claim]
    late = msgspec.structs.replace(work, timestamp_ms=node.chain.now_ms + 121_000)
    drop, log, request, announce, timer = node.finish(late)
    assert isinstance(drop, Drop)
    assert (drop.tx, drop.rejection.reason) == (claim, Reason.CLAIM_TOO_LATE)
    assert [type(effect) for effect in (log, request, announce, timer)] == [
        Log,
        SignStatements,
        Announce,
        SetTimer,
    ]
    assert waiting(node) == []
    assert node.chain.balance(PROVIDER) == 0
