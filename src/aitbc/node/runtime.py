"""The loop that performs the replica's effects: asyncio outside, `step` inside, long work on worker threads.

Facts are appended to one queue and taken from it one at a time, so a handler never nests and `step` never runs twice
at once. A bug in a step stops the node: a ledger that may be wrong must not go on.
"""

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar, assert_never

from aitbc.adapters.signatures import SignaturePool
from aitbc.adapters.signer.remote import LetGo
from aitbc.core.chain.builder import BuiltBlock, WrongBody
from aitbc.core.codec.wire import pack, unpack
from aitbc.core.consensus.engine import (
    ReportFault,
    SendEpochEnd,
    SetTimer,
    SignStatements,
    StatementsSigned,
    TimerFired,
)
from aitbc.core.consensus.simplex.messages import Verified
from aitbc.core.consensus.simplex.rules import Simplex
from aitbc.core.executor import Executor
from aitbc.core.peer.kinds import CONSENSUS_GET
from aitbc.core.replica import (
    Announce,
    Answer,
    BlocksCame,
    Built,
    Check,
    Checked,
    Commit,
    Committed,
    Drop,
    Effect,
    Execute,
    Fetch,
    Heard,
    Log,
    ParentLost,
    Relay,
    Replica,
    ReportBlock,
    Synced,
    Tell,
    TransactionsSubmitted,
)
from aitbc.core.start import address_of_validator, replica_at_head, votes_otherwise
from aitbc.core.sync.ranges import Apply, Final
from aitbc.core.types.blocks import PROTOCOL_VERSION, Block, CommittedBlock, Header
from aitbc.core.types.reasons import BrokenInvariant, Reason, Rejected, Stops
from aitbc.core.types.records import Commit as StoreCommit
from aitbc.core.types.records import Lock
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from aitbc.core.work_replica import WorkReplica
from aitbc.node.agreement import Scribe
from aitbc.node.catching_up import LeftOut, SyncView
from aitbc.node.evidence import Accuser
from aitbc.node.intake import Intake, Verdict
from aitbc.node.measures import Measures
from aitbc.node.network import NodeNetwork, PeerNetwork
from aitbc.node.queues import Line, too_busy
from aitbc.node.subscriptions import Subscriptions
from aitbc.ports import Clock, StorageError, Store

T = TypeVar("T")

log = logging.getLogger("aitbc.node")

MAX_WAITERS = 1_500
"""Requests that may wait for finality at once: fewer than connections, so that a node full of them still answers."""
READERS = 2
"""Threads for reads of the disk: they keep large blocks off the loop, and SQLite gives each its own view."""
MAX_READING = 256
"""Reads of a page or less that may wait for a thread."""
MAX_READING_MUCH = 16
"""Reads of a whole block, on a thread of their own: 0.4 s each when blocks are full, so the last waits 7 s."""
MAX_ON_STATE = 4
"""Proofs between two blocks, on the thread that makes blocks: a few milliseconds each, and a block waits for them."""
MAX_DROPPED = 10_000
"""Refusals after admission remembered for `getTx`."""
MAX_ENVELOPE_BYTES = 64 * 1024
"""A transaction on the wire is about 26 KB at most."""


_FREE = Answer | Relay | Drop | Announce | Fetch | Execute | Check
"""Effects that need not wait for the disk: they tell nobody what this validator says, and a crash undoes them."""
_INCIDENTS = {
    "timeout": "voted to skip a slot: its leader's block was due and did not come, or was not valid",
    "skipped": "a slot was skipped",
    "slow": "a leader was slow",
    "invalid": "a leader proposed what is not valid",
}


class _RaiseFloor(NamedTuple):
    """The guard may forget slots up to this one, in its turn among the effects: what was decided before is signed
    before, or the guard would take it for somebody else's."""

    epoch: int
    slot: int


class _Range(NamedTuple):
    """Final blocks that wait to be executed and written, their transactions that are being verified meanwhile, and who
    waits for them."""

    blocks: list[Final]
    verified: list[Future[list[Verdict]]]
    done: asyncio.Future[int | None]

    def leave_out(self) -> None:
        for work in self.verified:
            work.cancel()
        self.done.set_exception(LeftOut())


class Submitted(NamedTuple):
    """A transaction that waits here, or is final."""

    id: bytes
    known: bool
    """It was here before it was submitted."""


class SystemClock:
    """Wall time."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class NodeRuntime:
    """One running node. `start` and everything else are called on one event loop."""

    block_event = "final"
    """What the log says of a new block."""

    def __init__(
        self,
        executor: Executor,
        store: Store,
        *,
        scribe: Scribe | None,
        clock: Clock,
        timeout_ms: int = 600,
        processes: int = 0,
    ) -> None:
        """`scribe`: for a node that votes when its key is in the validator set; others follow. `timeout_ms`: how long a
        leader is waited for at first. `processes`: how many check signatures once there are many."""
        self.executor = executor
        self.store = store
        self.scribe = scribe
        self._clock = clock
        self.measures = Measures()
        self.accuser = Accuser(self, scribe.transactions if scribe else None)
        self.address = address_of_validator(executor, scribe.auth_key) if scribe else ""
        """Under which this node votes in epochs whose set it is in; empty for a node without a key of its own."""
        self.replica: Replica | WorkReplica = self._first_replica(timeout_ms)
        self.network: NodeNetwork | None = None
        self.subscriptions = Subscriptions(clock.now_ms(), self._job_of_lock, self.standing)
        self._effects: deque[Effect] = deque()
        self._writing = False
        """Log or guard are being written: effects wait."""
        self._inputs: deque[Any] = deque()
        self._busy = False
        self._taken: list[bytes] = []
        """Transactions that wait now and that peers have not heard of."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tickets: dict[int, asyncio.Future[Answer]] = {}
        self._next_ticket = 0
        self._waiters: dict[bytes, list[asyncio.Future[None]]] = {}
        self._waiting = 0
        self.dropped: OrderedDict[bytes, Rejected] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="executor")
        self.intake = Intake(
            executor,
            context=lambda: self.replica.context(clock.now_ms()),
            pool=SignaturePool(processes),
            spawn=self._spawn,
        )
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self._committing: deque[Commit | _Range] = deque()
        self._much_reader = ThreadPoolExecutor(1, thread_name_prefix="read-much")
        self._light = Line(self._readers, most=MAX_READING, what="reads")
        self._heavy = Line(self._much_reader, most=MAX_READING_MUCH, what="reads of whole blocks")
        self._on_state = Line(self._worker, most=MAX_ON_STATE, what="proofs of the state")
        self._not_taken_up: deque[bytes] = deque()
        """What waited when the node stopped last and has not been looked at since."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.stopped = asyncio.Event()
        self.failure: BaseException | None = None
        self.started_height = executor.head.block.header.height
        self._started_ms = clock.now_ms()

    def _first_replica(self, timeout_ms: int) -> Replica | WorkReplica:
        """For the head that the executor holds."""
        scribe = self.scribe
        return replica_at_head(
            self.executor,
            address=self.address,
            records=scribe.records if scribe else (),
            vote_after_ms=scribe.vote_after_ms if scribe else 0,
            floor=scribe.floor if scribe else (0, 0),
            timeout_ms=timeout_ms,
        )

    @property
    def votes(self) -> Replica:
        """The replica of a chain that agrees by votes."""
        assert isinstance(self.replica, Replica), "this chain agrees by votes"
        return self.replica

    @property
    def neighbours(self) -> PeerNetwork | None:
        """The network, whatever agreement says on it."""
        return self.network

    def sync_view(self) -> SyncView | None:
        """How catching up goes; None for a node that is alone."""
        return self.network.catching_up.view() if self.network is not None else None

    def standing(self, _height: int) -> dict[str, Any]:
        """How sure a block on the chain is, where that needs to be said: a certificate says it by itself."""
        return {}

    def start(self) -> None:
        """Take part in agreement, or follow it."""
        try:
            self._perform([*self.replica.start(self._clock.now_ms())])
        except Stops as error:
            self.fail(error)
        self._warn_of_upgrade()
        if self.takes_transactions:
            self._spawn(self._take_up_waiting())

    def now_ms(self) -> int:
        return self._clock.now_ms()

    @property
    def validates(self) -> bool:
        """Does it vote now?"""
        return self.engine().may_vote and not self.stopped.is_set()

    @property
    def is_author(self) -> bool:
        """Is it to make blocks?"""
        return self.scribe is not None

    @property
    def takes_transactions(self) -> bool:
        """Can a transaction that comes here get into a block?"""
        return bool(self.address) or self.network is not None

    async def _take_up_waiting(self) -> None:
        """What waited when the node stopped waits again (seed 000 §12)."""
        self._not_taken_up.extend(await self.intake.run(lambda: take_waiting(self.store)))
        while self._not_taken_up and not self.stopped.is_set():
            try:
                await self.submit(unpack(self._not_taken_up[0], Transaction, limit=MAX_ENVELOPE_BYTES))
            except Rejected as rejection:
                if rejection.reason is Reason.NODE_STOPPED:
                    return
                log.info(
                    "not taken up again: %s", rejection, extra={"component": "mempool", "event": "dropped"}
                )
            self._not_taken_up.popleft()

    async def stop(self) -> None:
        """Finish the write under way, then let go of threads and timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._end()
        if self.scribe is not None:
            self.scribe.let_go()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)
        if self.takes_transactions and self.failure is None:
            waiting = [*[pack(tx.tx) for tx in self.replica.mempool.waiting()], *self._not_taken_up]
            await self._in_worker(lambda: self.store.save_waiting(waiting))
        if self.scribe is not None:
            await asyncio.get_running_loop().run_in_executor(None, self.scribe.close)
        self._worker.shutdown(wait=True)
        await asyncio.get_running_loop().run_in_executor(None, self.intake.stop)
        self._readers.shutdown(wait=True)
        self._much_reader.shutdown(wait=True)

    # Submitting and waiting

    async def submit(self, tx: Transaction) -> bytes:
        """Verify a transaction and offer it to the replica; returns its id. Raises Rejected."""
        return (await self.submit_one(tx)).id

    async def submit_one(self, tx: Transaction) -> Submitted:
        """`submit`, and whether it was here already."""
        (verdict,) = await self.submit_all([tx])
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    async def submit_all(self, txs: Sequence[Transaction]) -> list[Submitted | Exception]:
        """Verify transactions and offer them to the replica together: what became of each, or why it was not taken.
        Raises Rejected when none of them is looked at."""
        if not self.takes_transactions:
            raise Rejected(
                Reason.CANNOT_INCLUDE, "this node has no proposer key and nobody to pass transactions on to"
            )
        self._refuse_when_stopped()
        with self.intake.room_for(len(txs)):
            result = await self._take(txs)
            refused = [
                place for place, one in enumerate(result) if isinstance(one.verdict, Rejected) and one.id
            ]
            if refused and not self.stopped.is_set():
                # sent again, perhaps while the block that holds it was being written
                final = await self._are_final([result[place].id for place in refused])
                for place, is_final in zip(refused, final, strict=True):
                    if is_final:
                        result[place] = _Taken(result[place].id, None, True)
        return [Submitted(one.id, one.known) if one.verdict is None else one.verdict for one in result]

    async def _take(self, txs: Sequence[Transaction]) -> list["_Taken"]:
        result: list[_Taken] = []
        complete: list[Transaction] = []
        for tx in txs:
            try:
                complete.append(self.with_pubkey(tx))
                result.append(_Taken(b"", None))
            except Rejected as rejection:
                result.append(_Taken(b"", rejection))
        verdicts = iter(await self.intake.verified(complete)) if complete else iter(())
        good: list[tuple[int, VerifiedTransaction]] = []
        for place, one in enumerate(result):
            if one.verdict is None:
                verdict = next(verdicts)
                if isinstance(verdict, Exception):
                    result[place] = _Taken(b"", verdict)
                else:
                    good.append((place, verdict))
        answer = await self._offer([verified for _, verified in good])
        known = {good[at][0] for at in answer.known}
        for (place, verified), refusal in zip(good, answer.verdicts, strict=True):
            result[place] = _Taken(verified.id, refusal, place in known)
            if refusal is None:
                self.dropped.pop(verified.id, None)
        return result

    def _job_of_lock(self, lock_id: str) -> str:
        lock = self.executor.state.get("locks", lock_id)
        return lock.job_id if isinstance(lock, Lock) else ""

    async def check(self, work: Callable[[], T]) -> T:
        """Do work that verifies signatures on the thread for that; refused when too much of it waits."""
        self._refuse_when_stopped()
        with self.intake.room_for(1):
            return await self.intake.run(work)

    async def submit_next(self, tx: Transaction) -> bytes | None:
        """Submit if its nonce is still the sender's next one, so that nothing that waits is replaced; else None."""
        self._refuse_when_stopped()
        with self.intake.room_for(1):
            (verified,) = await self.intake.verified([tx])
            if isinstance(verified, Exception):
                raise verified
            if self.replica.mempool.next_nonce(tx.sender) != tx.nonce:
                return None
            (refusal,) = (await self._offer([verified])).verdicts
            if refusal is not None:
                raise refusal
            return verified.id

    async def _offer(self, txs: list[VerifiedTransaction]) -> Answer:
        """Ask the replica to take them in."""
        if not txs:
            return Answer(0, [])
        self._refuse_when_stopped()
        self._next_ticket += 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._tickets[self._next_ticket] = answer
        self.feed(TransactionsSubmitted(txs, self._next_ticket))
        return await answer

    def _refuse_when_stopped(self) -> None:
        if self.stopped.is_set():
            raise Rejected(Reason.NODE_STOPPED, "this node has stopped; ask another, or look again later")

    def queues(self) -> dict[str, int]:
        """How much waits, by what for."""
        return {
            "inputs": len(self._inputs),
            "effects": len(self._effects),
            "verifying": self.intake.under_way,
            "reading": self._light.taken + self._heavy.taken + self._on_state.taken,
            "committing": len(self._committing),
            "waiting_for_finality": self._waiting,
            "checking": self.neighbours.checking if self.neighbours else 0,
        }

    def with_pubkey(self, tx: Transaction) -> Transaction:
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
        """Do work that reads a page of the disk, or writes a long answer, on another thread; refused when too much of
        it waits."""
        self._refuse_when_stopped()
        return await self._light.do(work)

    async def read_much(self, work: Callable[[], T]) -> T:
        """Do work that reads a whole block; others who read do not wait for it."""
        self._refuse_when_stopped()
        return await self._heavy.do(work)

    async def on_state(self, work: Callable[[], T]) -> T:
        """Do work that needs the state's trees between two blocks."""
        self._refuse_when_stopped()
        return await self._on_state.do(work)

    async def _is_final(self, tx_id: bytes) -> bool:
        (is_final,) = await self._are_final([tx_id])
        return is_final

    async def _are_final(self, tx_ids: Sequence[bytes]) -> list[bool]:
        """Whether each is in a block on disk. Who asks is counted already, so this is never refused."""

        def look() -> list[bool]:
            return [self.store.find_transaction(tx_id) is not None for tx_id in tx_ids]

        return await asyncio.get_running_loop().run_in_executor(self._readers, look)

    async def wait_final(self, tx_id: bytes, timeout_s: float) -> None:
        """Return when the transaction is final or dropped, or after the timeout."""
        if self._waiting >= MAX_WAITERS:
            raise too_busy("requests that wait for finality", MAX_WAITERS)
        if self.stopped.is_set() or tx_id in self.dropped:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(tx_id, []).append(future)
        self._waiting += 1
        looking = asyncio.create_task(self._is_final(tx_id))
        try:
            async with asyncio.timeout(timeout_s):  # a block that is announced from now on wakes this one up
                first: set[asyncio.Future[Any]] = {looking, future}
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
                if not future.done() and not looking.result():
                    await future
        except TimeoutError:
            return
        finally:
            looking.cancel()
            self._waiting -= 1
            waiters = self._waiters.get(tx_id)
            if waiters is not None:
                waiters.remove(future)
                if not waiters:
                    del self._waiters[tx_id]

    async def wait_included(self, tx_id: bytes, timeout_s: float) -> None:
        """A block is told once it is final."""
        await self.wait_final(tx_id, timeout_s)

    def _wake(self, tx_id: bytes) -> None:
        for future in self._waiters.get(tx_id, ()):
            if not future.done():
                future.set_result(None)

    # What the network asks

    def engine(self) -> Simplex:
        engine = self.votes.engine
        assert isinstance(engine, Simplex), "this chain agrees by Simplex"
        return engine

    def hear(self, peer: str, message: Verified, block: Block | None) -> None:
        if not self.stopped.is_set() and not self._is_far_behind():
            self.feed(Heard(peer, message, block))

    def blocks_came(self, blocks: Sequence[tuple[bytes, Block]]) -> None:
        if not self.stopped.is_set() and not self._is_far_behind():
            self.feed(BlocksCame(list(blocks)))

    def _is_far_behind(self) -> bool:
        """What agreement says is of no use before the blocks are here that everybody else has."""
        return self.network is not None and self.network.catching_up.is_fetching

    async def take_transactions(self, txs: Sequence[tuple[bytes, Transaction]]) -> list[Rejected | None]:
        """What a peer sent under these names: verified together, then offered together."""
        if not txs:
            return []
        try:
            self._refuse_when_stopped()
            with self.intake.room_for(len(txs)):
                verified = await self.intake.verified([tx for _, tx in txs])
                good, verdicts = _named_rightly(txs, verified)
                answers = iter((await self._offer(good)).verdicts)
        except Rejected as rejection:  # too much waits, or the node has stopped
            return [rejection] * len(txs)
        return [next(answers) if verdict is None else verdict for verdict in verdicts]

    async def read_blocks(self, block_hash: bytes, above: int, *, most: int) -> list[Block]:
        """Undecided ones first, then what is on disk; no more than an answer holds."""
        blocks: list[Block] = []
        room = CONSENSUS_GET.answer_limit
        while len(blocks) < most and (body := self.replica.body(block_hash)) is not None:
            if body.header.height <= above:
                return blocks
            blocks.append(body)
            room -= len(pack(body))
            if room < 0:
                return blocks
            block_hash = body.header.parent
        if len(blocks) >= most:
            return blocks  # all of it was in memory: it waits for nobody who reads the disk

        def stored() -> list[Block]:
            name, found, left = block_hash, list[Block](), room
            while len(blocks) + len(found) < most and left > 0:
                committed = self.store.block_by_hash(name)
                if committed is None or committed.block.header.height <= max(above, 0):
                    break
                found.append(committed.block)
                left -= len(pack(committed.block))
                name = committed.block.header.parent
            return found

        return blocks + await self.read_much(stored)

    @property
    def genesis_hash(self) -> bytes:
        return self.executor.loaded.hash

    def envelopes(self) -> list[VerifiedTransaction]:
        known = self.executor.transactions
        return known.all() + [tx for tx in self.replica.mempool.all() if known.get(tx.wid) is None]

    def wids(self, block_hash: bytes) -> list[bytes] | None:
        return self.votes.wids(block_hash)

    def has_transaction(self, wid: bytes) -> bool:
        return self.executor.transactions.get(wid) is not None

    def transaction(self, wid: bytes) -> bytes | None:
        verified = self.executor.transactions.get(wid)
        if verified is None or self.replica.mempool.get(verified.id) is None:
            return None
        return pack(verified.tx)

    async def read_range(self, work: Callable[[Store], T]) -> T:
        return await self.read_much(lambda: work(self.store))

    # The loop

    def feed(self, message: Any) -> None:
        """Add a fact and work the queue off, unless that is happening already."""
        self._inputs.append(message)
        self._work_off()

    def _work_off(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            while self._inputs and not self.stopped.is_set():
                self._perform([*self.replica.step(self._clock.now_ms(), self._inputs.popleft())])
            self._announce_taken()
            self._note_incidents()
        except Exception as error:
            self.fail(error)
        finally:
            self._busy = False

    def _announce_taken(self) -> None:
        """Peers hear of all that came in together."""
        taken, self._taken = self._taken, []
        if taken and self.neighbours is not None:
            self.neighbours.took(taken)

    def _note_incidents(self) -> None:
        """Who was slow or skipped, for logs and RPC."""
        engine = self.replica.engine
        incidents = engine.record.incidents if isinstance(engine, Simplex) else ()
        while incidents:
            incident = incidents.popleft()
            self.measures.incidents.append((self._clock.now_ms(), incident))
            self.subscriptions.incident(incident, self._clock.now_ms())
            log.info(
                _INCIDENTS[incident.what],
                extra={
                    "component": "consensus",
                    "event": incident.what,
                    "epoch": incident.epoch,
                    "slot": incident.slot,
                    "leader": incident.leader,
                    "latency_ms": incident.late_ms,
                    **({} if incident.reason is None else {"reason": incident.reason}),
                },
            )

    def fail(self, error: BaseException) -> None:
        """A bug, or what cannot be gone on from: nothing is done any more."""
        if isinstance(error, Stops | StorageError):
            log.critical("stopped: %s", error, extra={"event": "stopped", "component": "runtime"})
        else:
            log.critical("stopped", exc_info=error, extra={"event": "bug", "component": "runtime"})
        self.failure = error
        self._end()

    def _end(self) -> None:
        """Nobody may wait for what will not come."""
        self.stopped.set()
        self.subscriptions.stop()
        stopped = Rejected(Reason.NODE_STOPPED, "this node has stopped; ask another, or look again later")
        for future in self._tickets.values():
            if not future.done():
                future.set_exception(stopped)
        self._tickets.clear()
        self.intake.refuse_all(stopped)
        for tx_id in list(self._waiters):
            self._wake(tx_id)

    def _perform(self, effects: list[Any]) -> None:
        """In order; those behind a write wait for it, but for those that say and keep nothing. Who has stopped performs
        none. Who never votes has nothing to write down: what it knew it asks for again."""
        for effect in effects:
            if self._writing and isinstance(effect, _FREE):
                self._perform_one(effect)
            else:
                self._effects.append(effect)
        while self._effects and not self._writing and not self.stopped.is_set():
            effect = self._effects.popleft()
            if isinstance(effect, Log) and self.scribe is None:
                continue
            if isinstance(effect, Log | SignStatements):
                self._write(effect)
            else:
                self._perform_one(effect)

    def _perform_one(self, effect: Any) -> None:
        match effect:
            case SetTimer():
                self._set_timer(effect)
            case Execute():
                self._spawn(self._execute(effect))
            case Check():
                self._spawn(self._check(effect))
            case Commit():
                self._to_commit(effect)
            case Tell():
                if self.network is not None:
                    self.network.tell(effect.message, effect.peer, effect.block)
            case Relay():
                self._taken += [tx.wid for tx in effect.txs]
                for tx in effect.txs:
                    self.subscriptions.transaction(tx, self._clock.now_ms())
            case Fetch():
                if self.network is not None and not self._is_far_behind():
                    self.network.fetch(effect.hash, effect.above)
            case SendEpochEnd():
                self._spawn(self._send_epoch_end(effect))
            case ReportFault() | ReportBlock():
                self._spawn(self.accuser.report(effect.fault))
            case Answer():
                self._answer(effect)
            case Announce():
                self._announce(effect.block)
            case Drop():
                self._drop(effect)
            case _RaiseFloor():
                assert self.scribe is not None, "only who votes has a guard"
                self.scribe.raise_floor(effect.epoch, effect.slot)
            case Log() | SignStatements():
                raise AssertionError("written before")
            case _:
                assert_never(effect)

    def _write(self, first: Log | SignStatements) -> None:
        """All that is to be written is written together; what stands between waits a little longer than it must."""
        assert self.scribe is not None, "only who votes is asked to write"
        work = [first, *(effect for effect in self._effects if isinstance(effect, Log | SignStatements))]
        self._effects = deque(
            effect for effect in self._effects if not isinstance(effect, Log | SignStatements)
        )
        self._writing = True
        self._spawn(self._write_down(self.scribe, work))

    async def _write_down(self, scribe: Scribe, work: list[Log | SignStatements]) -> None:
        loop = asyncio.get_running_loop()
        try:
            signed = await loop.run_in_executor(scribe.thread, scribe.write, work)
        except LetGo:
            return
        if scribe.is_long and self._is_settled():
            await loop.run_in_executor(scribe.thread, scribe.rewrite, self.votes.live_records())
        self._writing = False
        for signatures in signed:
            self._inputs.append(StatementsSigned(signatures))
        self._perform([])
        self._work_off()

    def _is_settled(self) -> bool:
        """Does nothing wait to be logged, and is every final block on disk? A log that is rewritten then forgets no
        block that nobody else may have."""
        return self.votes.is_settled and not any(isinstance(effect, Log) for effect in self._effects)

    def _set_timer(self, effect: SetTimer) -> None:
        previous = self._timers.pop(effect.timer, None)
        if previous is not None:
            previous.cancel()
        delay = max(0, effect.at_ms - self._clock.now_ms()) / 1000
        loop = asyncio.get_running_loop()
        self._timers[effect.timer] = loop.call_later(delay, self._fire, effect.timer)

    def _fire(self, timer: str) -> None:
        """Timers of blocks that are fetched have names of their own: none may remain."""
        self._timers.pop(timer, None)
        self.feed(TimerFired(timer))

    def _spawn(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self.fail(error)

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_worker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def _execute(self, effect: Execute) -> None:
        def build() -> Built | ParentLost:
            try:
                return Built(
                    self.executor.build(
                        effect.txs,
                        proposer=self.address,
                        timestamp_ms=effect.timestamp_ms,
                        parent=effect.parent,
                    )
                )
            except Rejected:
                return ParentLost(effect.parent)

        self.feed(await self._in_worker(build))

    async def _check(self, effect: Check) -> None:
        def check() -> Checked:
            try:
                verified = _all_good(self.intake.verify(effect.block.txs))
                return Checked(effect.hash, self.executor.apply(effect.block, verified))
            except Rejected as rejection:
                return Checked(effect.hash, None, rejection)

        self.feed(await self._in_worker(check))

    def _to_commit(self, work: "Commit | _Range") -> None:
        self._committing.append(work)
        if len(self._committing) == 1:
            self._spawn(self._commit_all())

    async def write_range(self, work: Apply) -> int | None:
        """Execute and write blocks that a quorum made final, after whatever is being written; the height of the first
        whose transactions are not those of its header, of which nothing was written, or None. Raises LeftOut when
        such a block is below them."""
        done: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        verified = [self.intake.begin(final.block.txs) for final in work.blocks]
        self._to_commit(_Range(work.blocks, verified, done))
        return await done

    async def _commit_range(self, work: "_Range") -> None:
        executor, loop, published = self.executor, asyncio.get_running_loop(), threading.Event()
        height = executor.head.block.header.height
        new = [
            (final, signatures)
            for final, signatures in zip(work.blocks, work.verified, strict=True)
            if final.block.header.height > height
        ]
        written: list[tuple[BuiltBlock, StoreCommit]] = []

        def publish() -> None:
            try:
                for built, commit in written:
                    executor.publish(built, commit.block)
            finally:
                published.set()

        def write() -> int | None:
            """Signatures are verified on another thread, a little ahead of this one."""
            executor.branches.clear()
            for final, signatures in new:
                height = final.block.header.height
                try:
                    built = executor.apply(final.block, _all_good(signatures.result()))
                except WrongBody:
                    executor.branches.clear()
                    return height
                except Rejected as error:
                    raise BrokenInvariant(f"block {height}, which a quorum made final, is {error}") from None
                written.append((built, executor.seal(built, final.certificate)))
            self.store.commit(*[commit for _, commit in written])
            loop.call_soon_threadsafe(publish)
            published.wait()
            return None

        wrong = await self._in_worker(write) if new else None
        if wrong is not None:
            self._leave_out_ranges(behind=work)
        elif new:
            self._moved_to(written[-1][1].block)
            self.feed(Synced([(built, commit.block) for built, commit in written]))
            self._check_key()
        work.done.set_result(wrong)

    def _leave_out_ranges(self, behind: "_Range") -> None:
        """Nothing stands below them any more."""
        queued, self._committing = self._committing, deque[Commit | _Range]()
        for work in queued:
            if work is behind or not isinstance(work, _Range):
                self._committing.append(work)
            else:
                work.leave_out()

    async def _commit_all(self) -> None:
        """One after the other: each is on disk before readers see it, and before the next."""
        while self._committing:
            work = self._committing[0]
            if isinstance(work, _Range):
                await self._commit_range(work)
            else:
                await self._commit(work)
            self._committing.popleft()

    async def _commit(self, effect: Commit) -> None:
        if effect.blocks[0].block.header.parent != self.executor.head.hash:
            return  # a range that holds these blocks was written before; `Synced` has told so
        started = time.perf_counter()
        last = effect.blocks[-1]
        commits = [
            self.executor.seal(built, effect.certificate if built is last else None)
            for built in effect.blocks
        ]
        loop, published = asyncio.get_running_loop(), threading.Event()

        def publish() -> None:
            try:
                for built, commit in zip(effect.blocks, commits, strict=True):
                    self.executor.publish(built, commit.block)
            finally:
                published.set()

        def write() -> None:
            """The executor's thread stands still while the host's makes the blocks visible."""
            self.store.commit(*commits)
            loop.call_soon_threadsafe(publish)
            published.wait()

        await self._in_worker(write)
        took_s = time.perf_counter() - started
        self.measures.last_commit_ms = round(took_s * 1000)
        self.measures.commits.take(took_s)
        self._moved_to(commits[-1].block)
        self.feed(Committed([commit.block for commit in commits]))
        if last.block.header.height % self.executor.tip.epoch_length == 0:
            self._check_key()

    def _moved_to(self, head: CommittedBlock) -> None:
        """A block with a certificate is the newest on disk."""
        assert head.certificate is not None, "blocks are written up to a certificate"
        candidate = head.certificate.candidate
        if self.scribe is not None:
            self._perform([_RaiseFloor(candidate.epoch, candidate.slot)])
        if self.network is not None:
            self.network.set_status(height=head.block.header.height, head_hash=head.hash)

    def _check_key(self) -> None:
        """A validator whose key in the set is another now would only say what nobody believes."""
        if self.scribe is None:
            return
        why = votes_otherwise(self.executor, self.scribe.auth_key, self.address)
        if why:
            raise Stops(f"from height {self.executor.head.block.header.height + 1} on {why}")

    async def _send_epoch_end(self, effect: SendEpochEnd) -> None:
        height = (effect.epoch + 1) * self.executor.tip.epoch_length
        try:
            head = await self.read(lambda: self.store.head_at(height))
        except Rejected as rejection:  # too much waits: who asked asks again
            log.debug("%s", rejection.message, extra={"component": "p2p"})
            return
        if head is not None and head.certificate is not None and self.network is not None:
            self.network.tell(head.certificate, effect.peer, None)

    def _answer(self, effect: Answer) -> None:
        future = self._tickets.pop(effect.ticket, None)
        if future is None or future.done():
            return
        for verdict in effect.verdicts:
            if verdict is not None:
                self.measures.refused[str(verdict.reason)] += 1
        future.set_result(effect)

    def _measure(self, header: Header) -> None:
        if header.timestamp_ms > self._started_ms:
            self.measures.finality.take((self._clock.now_ms() - header.timestamp_ms) / 1000)
            self.measures.block_came(header.timestamp_ms)

    def _announce(self, block: CommittedBlock) -> None:
        header = block.block.header
        self.measures.transactions += len(block.outcomes)
        self._measure(header)
        log.info(
            "block",
            extra={
                "component": "chain",
                "event": self.block_event,
                "height": header.height,
                "txs": len(block.outcomes),
                "latency_ms": self.measures.last_commit_ms,
            },
        )
        self.subscriptions.block(block)
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
        self.measures.dropped[str(effect.rejection.reason)] += 1
        if len(self.dropped) > MAX_DROPPED:
            self.dropped.popitem(last=False)
        self._wake(effect.tx.id)


class _Taken(NamedTuple):
    """A submitted transaction."""

    id: bytes
    """Empty for one whose signature is not good."""
    verdict: Exception | None
    known: bool = False
    """It waited, or was in a block, before it came."""


def _named_rightly(
    asked: Sequence[tuple[bytes, Transaction]], verified: Sequence[Verdict]
) -> tuple[list[VerifiedTransaction], list[Rejected | None]]:
    """Those that are good and what was asked for, and what is wrong with the others; raises what only we can cause."""
    good: list[VerifiedTransaction] = []
    verdicts: list[Rejected | None] = []
    for (wid, _), verdict in zip(asked, verified, strict=True):
        if isinstance(verdict, VerifiedTransaction) and verdict.wid == wid:
            good.append(verdict)
            verdicts.append(None)
        elif isinstance(verdict, VerifiedTransaction):
            verdicts.append(Rejected(Reason.MALFORMED, f"not the transaction {wid.hex()}"))
        elif isinstance(verdict, Rejected):
            verdicts.append(verdict)
        else:
            raise verdict
    return good, verdicts


def _all_good(verdicts: Sequence[Verdict]) -> list[VerifiedTransaction]:
    """Nothing unless all are: what is wrong is then found where it is told to the peer that is to blame."""
    good = [verdict for verdict in verdicts if isinstance(verdict, VerifiedTransaction)]
    return good if len(good) == len(verdicts) else []


def take_waiting(store: Store) -> list[bytes]:
    """What waited at the last stop, once: what has been taken up does not come back after a crash. Rows that are
    damaged are no reason to stop: whoever sent those transactions can send them again."""
    try:
        kept = store.load_waiting()
    except StorageError as error:
        log.warning(
            "what waited when the node stopped is lost: %s",
            error,
            extra={"component": "mempool", "event": "waiting_lost"},
        )
        kept = []
    store.save_waiting([])
    return kept
