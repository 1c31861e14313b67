"""The loop around the replica when something goes wrong: a full disk, a bug, too many who wait."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from aitbc.adapters.agreement.memory import MemoryGuard, MemoryLog
from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core import executor as core_executor
from aitbc.core.codec.digests import wid_of
from aitbc.core.codec.wire import pack
from aitbc.core.consensus.engine import TimerFired
from aitbc.core.consensus.simplex.wal import BlockRecord, read_log
from aitbc.core.executor import VerifiedTransactions
from aitbc.core.ledger.state import Overlay
from aitbc.core.replica import Drop, Effect
from aitbc.core.types.reasons import BrokenInvariant, Reason, Rejected
from aitbc.core.types.records import Commit
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from aitbc.node import agreement, intake
from aitbc.node import runtime as module
from aitbc.node.agreement import Scribe
from aitbc.node.runtime import NodeRuntime, SystemClock
from aitbc.ports import StorageError
from support.chain import Chain
from support.people import ALICE, BOB, EVE, VALIDATOR

NEVER_S = 30.0
"""Longer than any of these tests may take."""
SOON_S = 5.0


class DiskIsFull(MemoryStore):
    """Takes the genesis block and no other."""

    def commit(self, *commits: Commit) -> None:
        if self.load() is not None:
            raise OSError(28, "No space left on device")
        super().commit(*commits)


def run(
    chain: Chain, story: Callable[[NodeRuntime], Coroutine[Any, Any, None]], store: type[MemoryStore] = MemoryStore
) -> None:  # fmt: skip
    """Play a story on one event loop with a node that authors when the first transaction comes."""

    async def play() -> None:
        opened = store(chain.genesis_hash)
        opened.commit(chain.executor.loaded.first)
        genesis_hash = chain.genesis_hash
        scribe = Scribe(
            log=MemoryLog(),
            guard=MemoryGuard(genesis_hash),
            signer=VALIDATOR,
            genesis_hash=genesis_hash,
            now_ms=0,
        )
        node = NodeRuntime(chain.executor, opened, scribe=scribe, clock=SystemClock())
        try:
            await story(node)
        finally:
            await node.stop()

    asyncio.run(play())


def pay(chain: Chain, nonce: int = 1) -> VerifiedTransaction:
    return chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=nonce)


def test_readers_see_nothing_of_a_block_that_could_not_be_written(chain: Chain) -> None:
    before = dict(chain.executor.state.data["accounts"])

    async def story(node: NodeRuntime) -> None:
        await node.submit(pay(chain).tx)
        await asyncio.wait_for(node.stopped.wait(), SOON_S)
        assert isinstance(node.failure, OSError)
        assert node.executor.head == node.executor.loaded.block
        assert node.executor.state.data["accounts"] == before
        assert node.measures.transactions == 0

    run(chain, story, DiskIsFull)


def test_readers_see_the_old_head_while_the_block_is_being_written(chain: Chain) -> None:
    heights: list[int] = []

    class Watched(MemoryStore):
        def commit(self, *commits: Commit) -> None:
            heights.append(chain.executor.head.block.header.height)
            super().commit(*commits)

    async def story(node: NodeRuntime) -> None:
        tx_id = await node.submit(pay(chain).tx)
        await node.wait_final(tx_id, SOON_S)
        assert node.executor.head.block.header.height == 1
        assert Overlay(node.executor.state).account(ALICE.address).nonce == 1

    run(chain, story, Watched)
    assert heights == [0, 0], "genesis, and the head that readers had while block 1 was written"


def test_a_log_that_is_rewritten_keeps_the_block_that_is_not_on_disk_yet(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else has a lone validator's block: a crash in the middle of the write must find it in the log."""
    monkeypatch.setattr(agreement, "MAX_LOG_BYTES", 0)
    logged: list[bool] = []

    class Watched(MemoryStore):
        def commit(self, *commits: Commit) -> None:
            if nodes:
                time.sleep(0.05)
                scribe = nodes[0].scribe
                assert scribe is not None
                found = read_log(scribe._log.read(), chain.genesis_hash).records
                names = {record.hash for record in found if isinstance(record, BlockRecord)}
                logged.append({commit.block.hash for commit in commits} <= names)
            super().commit(*commits)

    nodes: list[NodeRuntime] = []

    async def story(node: NodeRuntime) -> None:
        nodes.append(node)
        for nonce in (1, 2, 3):
            await node.wait_final(await node.submit(pay(chain, nonce).tx), SOON_S)

    run(chain, story, Watched)
    assert logged == [True] * 3


def test_a_bug_in_a_step_stops_the_node(chain: Chain) -> None:
    bug = AssertionError("what was built is what is committed")

    def broken(_now_ms: int, _message: object) -> list[Effect]:
        raise bug

    async def story(node: NodeRuntime) -> None:
        node.replica.step = broken  # type: ignore[method-assign]
        node.feed(TimerFired("pace"))
        assert (node.stopped.is_set(), node.failure) == (True, bug)
        with pytest.raises(Rejected) as caught:
            await node.submit(pay(chain).tx)
        assert caught.value.reason == Reason.NODE_STOPPED

    run(chain, story)


def test_who_submitted_is_answered_when_a_bug_stops_the_node(chain: Chain) -> None:
    def broken(_now_ms: int, _message: object) -> list[Effect]:
        raise AssertionError("a bug")

    async def story(node: NodeRuntime) -> None:
        node.replica.step = broken  # type: ignore[method-assign]
        with pytest.raises(Rejected):
            await asyncio.wait_for(node.submit(pay(chain).tx), 0.5)

    run(chain, story)


def test_a_ledger_that_counts_wrong_stops_the_node(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The invariant breaks on the worker's thread, while the block is built."""
    broken = BrokenInvariant("coins are conserved")

    def build(*_args: object, **_options: object) -> None:
        raise broken

    monkeypatch.setattr(chain.executor, "build", build)

    async def story(node: NodeRuntime) -> None:
        await node.submit(pay(chain).tx)
        await asyncio.wait_for(node.stopped.wait(), SOON_S)
        assert node.failure is broken
        assert node.executor.head.block.header.height == 0

    run(chain, story)


def test_who_waits_for_a_dropped_transaction_is_told_at_once(chain: Chain) -> None:
    tx, why = pay(chain), Rejected(Reason.CLAIM_TOO_LATE, "too late")

    async def story(node: NodeRuntime) -> None:
        waiter = asyncio.create_task(node.wait_final(tx.id, NEVER_S))
        await asyncio.sleep(0)
        node.replica.step = lambda _now_ms, _message: [Drop(tx, why)]  # type: ignore[method-assign]
        node.feed(TimerFired("pace"))
        await asyncio.wait_for(waiter, SOON_S)
        assert node.dropped == {tx.id: why}

    run(chain, story)


def test_only_so_many_may_wait_for_finality(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITERS", 2)

    async def story(node: NodeRuntime) -> None:
        waiters = [asyncio.create_task(node.wait_final(bytes(32), NEVER_S)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Rejected) as caught:
            await node.wait_final(bytes(32), 0.01)
        assert caught.value.reason == Reason.TOO_BUSY
        waiters[0].cancel()
        await asyncio.wait(waiters[:1])
        await node.wait_final(bytes(32), 0.01)
        waiters[1].cancel()

    run(chain, story)


def test_only_so_many_transactions_are_checked_at_once(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is refused before it costs anything; when the first is through there is room again."""
    monkeypatch.setattr(intake, "MAX_VERIFYING", 1)
    gate, verify_all = threading.Event(), VerifiedTransactions.verify_all

    def slowly(*args: Any) -> Any:
        assert gate.wait(NEVER_S)
        return verify_all(*args)

    monkeypatch.setattr(VerifiedTransactions, "verify_all", slowly)

    async def story(node: NodeRuntime) -> None:
        first, second = pay(chain), pay(chain, nonce=2)
        under_way = asyncio.create_task(node.submit(first.tx))
        await asyncio.sleep(0)
        try:
            with pytest.raises(Rejected) as caught:
                await asyncio.wait_for(node.submit(second.tx), 1)
        finally:
            gate.set()
        assert caught.value.reason == Reason.TOO_BUSY
        assert await asyncio.wait_for(under_way, SOON_S) == first.id
        assert await asyncio.wait_for(node.submit(second.tx), SOON_S) == second.id

    run(chain, story)


class Hanging(MemoryStore):
    """A server that stops answering when it is asked for a transaction, until the gate opens."""

    gate = threading.Event()

    def find_transaction(self, tx_id: bytes) -> tuple[int, int] | None:
        assert self.gate.wait(NEVER_S)
        return super().find_transaction(tx_id)


def test_a_database_that_hangs_does_not_hold_the_loop(chain: Chain) -> None:
    """Who waits and who sends again wait for the database; everybody else is answered."""
    Hanging.gate.clear()

    async def story(node: NodeRuntime) -> None:
        tx = pay(chain)
        waiter = asyncio.create_task(node.wait_final(tx.id, NEVER_S))
        sent = asyncio.create_task(node.submit(tx.tx))
        await asyncio.wait_for(sent, SOON_S)
        while node.executor.head.block.header.height == 0:
            await asyncio.sleep(0.01)
        again = asyncio.create_task(node.submit(tx.tx))
        await asyncio.sleep(0.05)
        assert (waiter.done(), again.done()) == (True, False), "the block itself woke the waiter up"
        Hanging.gate.set()
        assert await asyncio.wait_for(again, SOON_S) == tx.id

    try:
        run(chain, story, Hanging)
    finally:
        Hanging.gate.set()


def test_a_block_between_the_question_and_the_wait_is_not_missed(chain: Chain) -> None:
    """The store says `not there`, then the block is announced, then the answer arrives."""
    asked, answered = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def find_transaction(self, tx_id: bytes) -> tuple[int, int] | None:
            found = super().find_transaction(tx_id)
            asked.set()
            assert answered.wait(NEVER_S)
            return found

    async def story(node: NodeRuntime) -> None:
        tx = pay(chain)
        waiter = asyncio.create_task(node.wait_final(tx.id, NEVER_S))
        await asyncio.get_running_loop().run_in_executor(None, asked.wait)
        await node.submit(tx.tx)
        while node.executor.head.block.header.height == 0:
            await asyncio.sleep(0.01)
        answered.set()
        await asyncio.wait_for(waiter, SOON_S)

    run(chain, story, Slow)


@pytest.mark.parametrize("kind", ["read", "read_much", "on_state"])
def test_each_kind_of_read_has_a_line_of_its_own_with_an_end(
    chain: Chain, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAX_READING", "MAX_READING_MUCH", "MAX_ON_STATE"):
        monkeypatch.setattr(module, name, 1)

    async def story(node: NodeRuntime) -> None:
        gate = threading.Event()
        first = asyncio.create_task(getattr(node, kind)(lambda: gate.wait(NEVER_S)))
        await asyncio.sleep(0)
        try:
            with pytest.raises(Rejected) as caught:
                await getattr(node, kind)(lambda: "served")
            assert caught.value.reason == Reason.TOO_BUSY
            for other in {"read", "read_much", "on_state"} - {kind}:
                assert await asyncio.wait_for(getattr(node, other)(lambda: "served"), SOON_S) == "served"
        finally:
            gate.set()
        await first
        assert await getattr(node, kind)(lambda: "served") == "served"
        node.stopped.set()
        with pytest.raises(Rejected) as caught:
            await getattr(node, kind)(lambda: "served")
        assert caught.value.reason == Reason.NODE_STOPPED

    run(chain, story)


def test_what_was_taken_up_again_does_not_come_back_after_a_crash(chain: Chain) -> None:
    """After `kill -9` nobody saves anything, so what the store still has is what comes back."""
    late = pay(chain, nonce=2)

    class Stopped(MemoryStore):
        def __init__(self, genesis_hash: bytes) -> None:
            super().__init__(genesis_hash)
            self.save_waiting([pack(late.tx)])

    async def story(node: NodeRuntime) -> None:
        node.start()
        while node.replica.mempool.get(late.id) is None:
            await asyncio.sleep(0.01)
        assert node.store.load_waiting() == []

    run(chain, story, Stopped)


def test_a_damaged_snapshot_of_what_waited_is_thrown_away(
    chain: Chain, caplog: pytest.LogCaptureFixture
) -> None:
    class Damaged(MemoryStore):
        def load_waiting(self) -> list[bytes]:
            raise StorageError("waiting transaction 7 on disk is damaged")

        def save_waiting(self, transactions: Sequence[bytes]) -> None:
            saved.append(list(transactions))

    saved: list[list[bytes]] = []

    async def story(node: NodeRuntime) -> None:
        node.start()
        while not saved:
            await asyncio.sleep(0.01)
        assert saved == [[]]
        tx = pay(chain)
        assert await node.submit(tx.tx) == tx.id

    run(chain, story, Damaged)
    assert "waiting transaction 7 on disk is damaged" in caplog.text


def test_a_bad_witness_is_verified_once_and_not_on_the_loop(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim whose attestation was signed by another than its hub."""
    verify, threads = core_executor.verify, []

    def watched(auth_key: bytes, digest: bytes, signature: bytes) -> bool:
        threads.append(threading.current_thread().name.partition("_")[0])
        return verify(auth_key, digest, signature)

    monkeypatch.setattr(chain.executor.verifier, "_verify", watched)
    payload, witness = chain.claim_parts(ALICE, "ab" * 32, client=BOB)
    forged = {**witness, "sig": EVE.sign(bytes(32)).hex()}
    tx = chain.sign(BOB, "RECEIPT_CLAIM", payload, nonce=2, witness=forged)

    async def story(node: NodeRuntime) -> None:
        with pytest.raises(Rejected) as caught:
            await node.submit(tx)
        assert caught.value.reason == Reason.BAD_ATTESTATION_SIGNATURE
        assert threads == ["verify"] * 2, "the provider's signature and the attestation's"

    run(chain, story)


def test_a_transaction_that_comes_under_another_name_is_refused_alone(chain: Chain) -> None:
    good, other = (
        chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": amount}, nonce=amount)
        for amount in (1, 2)
    )
    forged = Transaction(
        good.type, good.sender, 3, good.fee, good.payload, good.pubkey, good.sig, good.witness
    )
    wids = [wid_of(tx, chain.genesis_hash) for tx in (good, other, forged)]

    async def story(node: NodeRuntime) -> None:
        verdicts = await node.take_transactions([(wids[0], good), (bytes(32), other), (wids[2], forged)])
        assert [None if verdict is None else verdict.reason for verdict in verdicts] == [
            None,
            Reason.MALFORMED,
            Reason.BAD_SIGNATURE,
        ]

    run(chain, story)


def test_who_waits_for_signatures_is_answered_when_a_bug_stops_the_node(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise AssertionError("a bug")

    monkeypatch.setattr(VerifiedTransactions, "verify_all", broken)

    async def story(node: NodeRuntime) -> None:
        with pytest.raises(Rejected) as caught:
            await asyncio.wait_for(node.submit(pay(chain).tx), SOON_S)
        assert caught.value.reason == Reason.NODE_STOPPED
        assert node.stopped.is_set() and isinstance(node.failure, AssertionError)

    run(chain, story)
