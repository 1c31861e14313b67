"""The loop around the replica when something goes wrong: a full disk, a bug, too many who wait."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aitbc.adapters.agreement.memory import MemoryGuard, MemoryLog
from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core.consensus.engine import TimerFired
from aitbc.core.executor import VerifiedTransactions
from aitbc.core.ledger.state import Overlay
from aitbc.core.replica import Drop, Effect
from aitbc.core.types.reasons import BrokenInvariant, Reason, Rejected
from aitbc.core.types.records import Commit
from aitbc.core.types.transactions import VerifiedTransaction
from aitbc.node import runtime as module
from aitbc.node.agreement import Scribe
from aitbc.node.runtime import NodeRuntime, SystemClock
from support.chain import Chain
from support.people import ALICE, BOB, VALIDATOR

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
            log=MemoryLog(genesis_hash),
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
        assert caught.value.reason == Reason.MEMPOOL_FULL

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
        assert caught.value.reason == Reason.MEMPOOL_FULL
        waiters[0].cancel()
        await asyncio.wait(waiters[:1])
        await node.wait_final(bytes(32), 0.01)
        waiters[1].cancel()

    run(chain, story)


def test_only_so_many_transactions_are_checked_at_once(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is refused before it costs anything; when the first is through there is room again."""
    monkeypatch.setattr(module, "MAX_VERIFYING", 1)
    gate, verify = threading.Event(), VerifiedTransactions.verify

    def slowly(*args: Any) -> VerifiedTransaction:
        assert gate.wait(NEVER_S)
        return verify(*args)

    monkeypatch.setattr(VerifiedTransactions, "verify", slowly)

    async def story(node: NodeRuntime) -> None:
        first, second = pay(chain), pay(chain, nonce=2)
        under_way = asyncio.create_task(node.submit(first.tx))
        await asyncio.sleep(0)
        try:
            with pytest.raises(Rejected) as caught:
                await asyncio.wait_for(node.submit(second.tx), 1)
        finally:
            gate.set()
        assert caught.value.reason == Reason.MEMPOOL_FULL
        assert await asyncio.wait_for(under_way, SOON_S) == first.id
        assert await asyncio.wait_for(node.submit(second.tx), SOON_S) == second.id

    run(chain, story)
