"""Transactions between arrival and the mempool: verified in batches beside the loop, then offered together.

A thread, or another process, is woken for many and not for each; the more come, the larger the batches.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from aitbc.adapters.signatures import SignaturePool
from aitbc.core.executor import Executor
from aitbc.core.ledger.context import BlockContext
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from aitbc.node.queues import too_busy

T = TypeVar("T")

Verdict = VerifiedTransaction | Exception
"""An exception: Rejected, or what only we can cause."""

MAX_BATCH = 256
"""Verified at once, 15 ms of a core, so that nobody waits long for company; a longer list is one batch."""
IN_FLIGHT = 2
"""Batches that are looked at together: the form of the second while signatures of the first are checked elsewhere."""
MAX_VERIFYING = 4_096
"""Transactions between arrival and admission: a third of a second at the highest pace."""


class _Arrival(NamedTuple):
    txs: Sequence[Transaction]
    verdicts: "asyncio.Future[list[Verdict]]"


class Intake:
    """Everything but `verify` is called on the node's loop."""

    def __init__(
        self,
        executor: Executor,
        *,
        context: Callable[[], BlockContext],
        pool: SignaturePool,
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        """`context`: of the block that would be built now. `spawn` begins a task; a bug in it stops the node."""
        self._executor, self._context, self._pool, self._spawn = executor, context, pool, spawn
        self._threads = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="verify")
        self._arrivals: deque[_Arrival] = deque()
        self._is_verifying = False
        self.under_way = 0
        """Transactions that have come and were neither taken nor refused yet."""

    @contextmanager
    def room_for(self, count: int) -> Iterator[None]:
        """Raises `too_busy` when there is none."""
        if self.under_way + count > MAX_VERIFYING:
            raise too_busy("transactions that are checked", MAX_VERIFYING)
        self.under_way += count
        try:
            yield
        finally:
            self.under_way -= count

    async def verified(self, txs: Sequence[Transaction]) -> list[Verdict]:
        """In their order. What is good is remembered: it will come again in a block."""
        verdicts: asyncio.Future[list[Verdict]] = asyncio.get_running_loop().create_future()
        self._arrivals.append(_Arrival(txs, verdicts))
        if not self._is_verifying:
            self._is_verifying = True
            self._spawn(self._verify_all())
        return await verdicts

    async def _verify_all(self) -> None:
        """Batches end in the order in which they began, so that a sender's nonces stay in order."""
        loop = asyncio.get_running_loop()
        running: deque[tuple[list[_Arrival], asyncio.Future[list[Verdict]]]] = deque()
        while self._arrivals or running:
            while self._arrivals and len(running) < IN_FLIGHT:
                batch = self._next_batch()
                txs = [tx for arrival in batch for tx in arrival.txs]
                running.append((batch, loop.run_in_executor(self._threads, self.verify, txs)))
            batch, work = running.popleft()
            try:
                verdicts = await work
            except BaseException:  # a bug, which stops the node: nobody may wait for what will not come
                for left in [batch, *(other for other, _ in running)]:
                    self._arrivals.extendleft(left)
                raise
            self._hand_out(batch, verdicts)
        self._is_verifying = False

    def _next_batch(self) -> list[_Arrival]:
        batch, count = [self._arrivals.popleft()], 0
        while self._arrivals:
            count += len(batch[-1].txs)
            if count + len(self._arrivals[0].txs) > MAX_BATCH:
                break
            batch.append(self._arrivals.popleft())
        return batch

    def _hand_out(self, batch: Sequence[_Arrival], verdicts: list[Verdict]) -> None:
        self._executor.transactions.remember(
            [verdict for verdict in verdicts if isinstance(verdict, VerifiedTransaction)]
        )
        start = 0
        for arrival in batch:
            end = start + len(arrival.txs)
            if not arrival.verdicts.done():  # whoever asked may have gone
                arrival.verdicts.set_result(verdicts[start:end])
            start = end

    def verify(self, txs: Sequence[Transaction]) -> list[Verdict]:
        """Everything that takes long and needs no order: signatures of the sender and of a witness. What goes wrong
        with one, a bug too, is its sender's answer and nobody else's. On any thread."""
        context = self._context()
        return [
            self._warmed(verdict, context)
            for verdict in self._executor.transactions.verify_all(txs, self._pool.check)
        ]

    def _warmed(self, verdict: Verdict, context: BlockContext) -> Verdict:
        if isinstance(verdict, VerifiedTransaction):
            try:
                self._executor.warm(verdict, context)
            except Exception as error:
                return error
        return verdict

    def begin(self, txs: Sequence[Transaction]) -> "Future[list[Verdict]]":
        """Verify a block's, in turn with what arrives."""
        return self._threads.submit(self.verify, txs)

    async def run(self, work: Callable[[], T]) -> T:
        """Other work that verifies signatures, on the threads for that."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def refuse_all(self, why: Rejected) -> None:
        """Nobody may wait for what will not come."""
        while self._arrivals:
            verdicts = self._arrivals.popleft().verdicts
            if not verdicts.done():
                verdicts.set_exception(why)

    def stop(self) -> None:
        """Waits for what is looked at now."""
        self._threads.shutdown(wait=True)
        self._pool.close()
