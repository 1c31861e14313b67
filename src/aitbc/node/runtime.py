"""The loop that performs the replica's effects: asyncio outside, `step` inside, long work on worker threads.

Facts are appended to one queue and taken from it one at a time, so a handler never nests and `step` never runs twice
at once. A bug in a step stops the node: a ledger that may be wrong must not go on.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, assert_never

from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.codec.wire import pack, unpack
from aitbc.core.consensus.engine import SetTimer, SignStatements, StatementsSigned, TimerFired
from aitbc.core.executor import Executor
from aitbc.core.replica import (
    Announce,
    Answer,
    Built,
    Commit,
    Committed,
    Drop,
    Effect,
    Execute,
    Input,
    TransactionSubmitted,
)
from aitbc.core.start import replica_at_head
from aitbc.core.types.blocks import PROTOCOL_VERSION, CommittedBlock
from aitbc.core.types.reasons import Reason, Rejected, Stops
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from aitbc.ports import Clock, Signer, StorageError, Store

T = TypeVar("T")

log = logging.getLogger("aitbc.node")

MAX_WAITERS = 1_500
"""Requests that may wait for finality at once: fewer than connections, so that a node full of them still answers."""
READERS = 2
"""Threads for reads of the disk: they keep large blocks off the loop, and SQLite gives each its own view."""
MAX_READING = 256
"""Reads that may wait for a thread."""
MAX_DROPPED = 10_000
"""Refusals after admission remembered for `getTx`."""
MAX_ENVELOPE_BYTES = 64 * 1024
"""A transaction on the wire is about 26 KB at most."""
MAX_VERIFYING = 4_096
"""Transactions between arrival and admission."""


class SystemClock:
    """Wall time."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class NodeRuntime:
    """One running node. `start` and everything else are called on one event loop."""

    def __init__(self, executor: Executor, store: Store, *, signer: Signer | None, clock: Clock) -> None:
        self.executor = executor
        self.store = store
        self._signer = signer
        self._clock = clock
        self.replica = replica_at_head(executor, authors=signer is not None)
        self._inputs: deque[Input] = deque()
        self._busy = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tickets: dict[int, asyncio.Future[bytes]] = {}
        self._next_ticket = 0
        self._waiters: dict[bytes, list[asyncio.Future[None]]] = {}
        self._waiting = 0
        self._verifying = 0
        self.dropped: OrderedDict[bytes, Rejected] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="executor")
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="verify")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self._reading = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.stopped = asyncio.Event()
        self.failure: BaseException | None = None
        self.transactions_total = 0
        self.started_height = executor.head.block.header.height
        self.last_commit_ms = 0

    def start(self) -> None:
        """Begin to author blocks; without a signer the node only answers."""
        try:
            self._perform(self.replica.start(self._clock.now_ms()))
        except Stops as error:
            self._fail(error)
        self._warn_of_upgrade()
        if self._signer is not None:
            self._spawn(self._take_up_waiting())

    async def _take_up_waiting(self) -> None:
        """What waited when the node stopped waits again (seed 000 §12)."""
        kept = await asyncio.get_running_loop().run_in_executor(self._checker, self.store.load_waiting)
        for raw in kept:
            if self.stopped.is_set():
                return
            try:
                await self.submit(unpack(raw, Transaction, limit=MAX_ENVELOPE_BYTES))
            except Rejected as rejection:
                log.info(
                    "not taken up again: %s", rejection, extra={"component": "mempool", "event": "dropped"}
                )

    async def stop(self) -> None:
        """Finish the write under way, then let go of threads and timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._end()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)
        if self._signer is not None and self.failure is None:
            waiting = [pack(tx.tx) for tx in self.replica.mempool.waiting()]
            await self._in_worker(lambda: self.store.save_waiting(waiting))
        self._worker.shutdown(wait=True)
        self._checker.shutdown(wait=True)
        self._readers.shutdown(wait=True)

    # Submitting and waiting

    async def submit(self, tx: Transaction) -> bytes:
        """Verify a transaction and offer it to the replica; returns its id. Raises Rejected."""
        if self._signer is None:
            raise Rejected(
                Reason.CANNOT_INCLUDE, "this node has no proposer key and cannot pass transactions on"
            )
        if self._verifying >= MAX_VERIFYING or self.stopped.is_set():
            raise Rejected(Reason.MEMPOOL_FULL, "the node is busy; try again in a second")
        tx = self._with_pubkey(tx)
        loop = asyncio.get_running_loop()
        self._verifying += 1
        try:
            verified = await loop.run_in_executor(self._checker, self._verify, tx)
            if self.store.find_transaction(verified.id) is not None:
                return verified.id
            if self.stopped.is_set():
                raise Rejected(Reason.CANNOT_INCLUDE, "this node has stopped")
            self._next_ticket += 1
            answer: asyncio.Future[bytes] = loop.create_future()
            self._tickets[self._next_ticket] = answer
            self.feed(TransactionSubmitted(verified, self._next_ticket))
            return await answer
        finally:
            self._verifying -= 1

    def _verify(self, tx: Transaction) -> VerifiedTransaction:
        """Everything that takes long and needs no order: signatures of the sender and of a witness."""
        verified = self.executor.transactions.verify(tx)
        self.executor.warm(verified, self.replica.context(self._clock.now_ms()))
        return verified

    def _with_pubkey(self, tx: Transaction) -> Transaction:
        """JSON may leave the key out once the chain knows it."""
        if tx.pubkey:
            return tx
        account = self.executor.state.account(tx.sender)
        if not account.auth:
            raise Rejected(
                Reason.PUBKEY_REQUIRED,
                f"the chain does not know {tx.sender[:60]}'s key yet; send `pubkey` too",
            )
        return Transaction(tx.type, tx.sender, tx.nonce, tx.fee, tx.payload, account.auth, tx.sig, tx.witness)

    async def read(self, work: Callable[[], T]) -> T:
        """Do work that reads the disk on another thread; refused when too much of it waits."""
        return await self._elsewhere(self._readers, work)

    async def on_state(self, work: Callable[[], T]) -> T:
        """Do work that needs the state's trees between two blocks."""
        return await self._elsewhere(self._worker, work)

    async def _elsewhere(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._reading >= MAX_READING or self.stopped.is_set():
            raise Rejected(Reason.MEMPOOL_FULL, "too many requests read at once; try again in a second")
        self._reading += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        finally:
            self._reading -= 1

    async def wait_final(self, tx_id: bytes, timeout_s: float) -> None:
        """Return when the transaction is final or dropped, or after the timeout."""
        if self._waiting >= MAX_WAITERS:
            raise Rejected(Reason.MEMPOOL_FULL, "too many requests wait for finality; poll instead")
        if self.stopped.is_set() or self.store.find_transaction(tx_id) is not None or tx_id in self.dropped:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(tx_id, []).append(future)
        self._waiting += 1
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            return
        finally:
            self._waiting -= 1
            waiters = self._waiters.get(tx_id)
            if waiters is not None:
                waiters.remove(future)
                if not waiters:
                    del self._waiters[tx_id]

    def _wake(self, tx_id: bytes) -> None:
        for future in self._waiters.get(tx_id, ()):
            if not future.done():
                future.set_result(None)

    # The loop

    def feed(self, message: Input) -> None:
        """Add a fact and work the queue off, unless that is happening already."""
        self._inputs.append(message)
        if self._busy:
            return
        self._busy = True
        try:
            while self._inputs and not self.stopped.is_set():
                self._perform(self.replica.step(self._clock.now_ms(), self._inputs.popleft()))
        except Exception as error:
            self._fail(error)
        finally:
            self._busy = False

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, Stops | StorageError):
            log.critical("stopped: %s", error, extra={"event": "stopped", "component": "runtime"})
        else:
            log.critical("stopped", exc_info=error, extra={"event": "bug", "component": "runtime"})
        self.failure = error
        self._end()

    def _end(self) -> None:
        """Nobody may wait for what will not come."""
        self.stopped.set()
        stopped = Rejected(Reason.CANNOT_INCLUDE, "this node has stopped; ask another, or look again later")
        for future in self._tickets.values():
            if not future.done():
                future.set_exception(stopped)
        self._tickets.clear()
        for tx_id in list(self._waiters):
            self._wake(tx_id)

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case SetTimer():
                    self._set_timer(effect)
                case SignStatements():
                    self._sign(effect)
                case Execute():
                    self._spawn(self._execute(effect))
                case Commit():
                    self._spawn(self._commit(effect))
                case Answer():
                    self._answer(effect)
                case Announce():
                    self._announce(effect.block)
                case Drop():
                    self._drop(effect)
                case _:
                    assert_never(effect)

    def _set_timer(self, effect: SetTimer) -> None:
        previous = self._timers.pop(effect.timer, None)
        if previous is not None:
            previous.cancel()
        delay = max(0, effect.at_ms - self._clock.now_ms()) / 1000
        loop = asyncio.get_running_loop()
        self._timers[effect.timer] = loop.call_later(delay, self.feed, TimerFired(effect.timer))

    def _sign(self, effect: SignStatements) -> None:
        """With one validator nothing leaves the machine before the block is on disk, so signing needs no log yet."""
        assert self._signer is not None, "only an author is asked to sign"
        signatures = [self._signer.sign(statement.digest) for statement in effect.statements]
        self.feed(StatementsSigned(signatures))

    def _spawn(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self._fail(error)

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_worker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def _execute(self, effect: Execute) -> None:
        assert self._signer is not None
        auth_key = self._signer.auth_key

        def build() -> BuiltBlock:
            proposer = self.executor.author(auth_key)
            return self.executor.build(effect.txs, proposer=proposer, timestamp_ms=effect.timestamp_ms)

        built = await self._in_worker(build)
        self.feed(Built(built))

    async def _commit(self, effect: Commit) -> None:
        started = time.perf_counter()
        built = effect.built
        committed = self.executor.seal(built, effect.certificate)
        await self._in_worker(lambda: self.store.commit(committed))
        self.last_commit_ms = round((time.perf_counter() - started) * 1000)
        self.executor.publish(built, committed.block)
        self.feed(Committed(committed.block))

    def _answer(self, effect: Answer) -> None:
        future = self._tickets.pop(effect.ticket, None)
        if future is None or future.done():
            return
        if effect.rejection is None:
            self.dropped.pop(effect.tx_id, None)
            future.set_result(effect.tx_id)
        else:
            future.set_exception(effect.rejection)

    def _announce(self, block: CommittedBlock) -> None:
        header = block.block.header
        self.transactions_total += len(block.outcomes)
        log.info(
            "block",
            extra={
                "component": "chain",
                "event": "final",
                "height": header.height,
                "txs": len(block.outcomes),
                "latency_ms": self.last_commit_ms,
            },
        )
        for outcome in block.outcomes:
            self._wake(outcome.tx_id)
        if header.height % self.executor.tip.epoch_length == 0:
            self._warn_of_upgrade()

    def _warn_of_upgrade(self) -> None:
        """Say in time, and again at each boundary, that the chain will leave this release behind."""
        for activation in self.executor.state.params.activations:
            if activation.version > PROTOCOL_VERSION:
                log.warning(
                    "from height %d on this chain runs protocol version %d, which this release does not know:"
                    " install a newer one before",
                    activation.height,
                    activation.version,
                    extra={"event": "upgrade_needed", "component": "runtime"},
                )

    def _drop(self, effect: Drop) -> None:
        self.dropped[effect.tx.id] = effect.rejection
        if len(self.dropped) > MAX_DROPPED:
            self.dropped.popitem(last=False)
        self._wake(effect.tx.id)
