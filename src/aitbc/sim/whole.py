"""A whole validator under virtual time: the unmodified replica, executor and ledger, on a disk that forgets.

What `aitbc.node` does with threads, files and sockets: one queue of work for the executor, log and guard before what
depends on them, blocks on disk before readers see them, answers of bounded size. docs/spec/simplex.md
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

import msgspec

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core.chain.builder import BuiltBlock, WrongBody
from aitbc.core.codec.digests import header_hash
from aitbc.core.consensus.engine import ReportFault, SendEpochEnd, SetTimer, SignStatements
from aitbc.core.consensus.simplex.guard import raise_floor
from aitbc.core.consensus.simplex.messages import Message, Status, check
from aitbc.core.consensus.simplex.rules import Simplex
from aitbc.core.consensus.simplex.wal import LogRecord
from aitbc.core.crypto.address import address_of
from aitbc.core.executor import Executor
from aitbc.core.ledger.validators import validators_of
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
    Input,
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
from aitbc.core.sync.ranges import Apply
from aitbc.core.types.blocks import Block, Certificate
from aitbc.core.types.reasons import BrokenInvariant, Rejected
from aitbc.core.types.records import Commit as StoreCommit
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from aitbc.sim import keys
from aitbc.sim.disk import Disk
from aitbc.sim.process import Died, Envelope, Process
from aitbc.sim.ranges import Fact, Height, RangeAnswer, RangeAsk, Ranges, answer_of

if TYPE_CHECKING:
    from aitbc.sim.whole_cluster import WholeCluster

BLOCKS_IN_A_REPLY = 8
"""Few, so that whoever is behind asks more than once."""
MAX_LOG_BYTES = 20_000
"""Small, so that logs are rewritten in every run."""
MAX_UNDECIDED = 4
"""Few, so that the executor forgets blocks that are needed again."""

Job = Execute | Check | Commit | Apply
"""What only the executor's thread does."""


class BlockRequest(msgspec.Struct, frozen=True):
    hash: bytes
    above: int


class BlockReply(msgspec.Struct, frozen=True):
    """A block and some of its ancestors, the newest first."""

    blocks: list[tuple[bytes, Block]]


class TxGossip(msgspec.Struct, frozen=True):
    tx: Transaction
    ticket: int = 0
    """Of the client who waits for an answer; 0: a peer passed it on."""


class RaiseFloor(NamedTuple):
    """The guard may forget slots up to this one, in its turn: what was decided before is signed before."""

    epoch: int
    slot: int


class RangeWritten(NamedTuple):
    """What became of an `Apply`."""

    work: Apply
    blocks: list[tuple[BuiltBlock, StoreCommit]]
    """Those that the chain did not have yet."""
    wrong: int | None = None
    """The height of a block that had another's transactions; nothing was written then."""


class WholeDisk(Disk):
    """With a store, in which a commit is whole or not at all."""

    def __init__(self, genesis_hash: bytes) -> None:
        super().__init__(genesis_hash)
        self.store = MemoryStore(genesis_hash)
        self.published = 0
        """The highest block that readers of this node have seen."""


class Whole(Process):
    """One validator's process, ledger included."""

    cluster: WholeCluster
    disk: WholeDisk

    def __init__(self, cluster: WholeCluster, place: int, address: str) -> None:
        self.generation = 0
        """Of its key: an operator who rotated it starts the node again with the next one."""
        super().__init__(cluster, place, address)

    def new_disk(self) -> WholeDisk:
        disk = WholeDisk(self.cluster.genesis_hash)
        disk.store.commit(self.cluster.loaded.first)
        return disk

    def begin(self) -> None:
        self.jobs: deque[Job] = deque()
        """Of the executor's thread, the first under way."""
        self.commits: deque[Commit | Apply] = deque()
        """One after the other: each is on disk before the next is begun."""
        self.made: dict[bytes, Block] = {}
        """Blocks that only liars hand out."""
        self.executor = Executor(self.cluster.document, self.disk.store.load(), verifier=keys.verify)
        self.executor.branches.limit = MAX_UNDECIDED
        self.auth_key = self._key()
        self.guard, records, vote_after_ms = self.remember()
        self.voting_as = address_of_validator(self.executor, self.auth_key)
        self.replica = self.new_replica(records, vote_after_ms)
        self.ranges = Ranges(self, sizes=self.cluster.ledger.sizes, tick_ms=self.cluster.ledger.tick_ms)
        self.cluster.checks.on_boot(self)
        self._perform(self.replica.start(self.now_ms()))

    def new_replica(self, records: list[LogRecord], vote_after_ms: int) -> Replica:
        return replica_at_head(
            self.executor,
            address=self.voting_as,
            records=records,
            vote_after_ms=vote_after_ms,
            floor=self.guard.floor,
        )

    def _key(self) -> bytes:
        """The key that the set knows this validator by, else the one that its account has, else the first."""
        own = [keys.key_of(self.place, number) for number in range(self.generation + 1)]
        known = [member.auth_key for member in validators_of(self.executor.state) if member.auth_key in own]
        auth = self.executor.state.account(address_of(own[0])).auth
        return known[0] if known else auth or own[0]

    @property
    def engine(self) -> Simplex:  # type: ignore[override]
        engine = self.replica.engine
        assert isinstance(engine, Simplex), "this chain agrees by Simplex"
        return engine

    @property
    def height(self) -> int:
        return self.executor.head.block.header.height

    @property
    def voter(self) -> str:
        return self.voting_as

    def live_records(self) -> list[LogRecord]:
        return self.replica.live_records()

    # Facts

    def step(self, fact: Input) -> None:
        self._perform(self.replica.step(self.now_ms(), fact))

    def _perform(self, effects: list[Effect]) -> None:
        self.cluster.checks.on_epoch(self)
        self.perform(effects)

    def receive(self, sender: str, envelope: Envelope) -> None:
        message = envelope.message
        if isinstance(message, TxGossip):
            self._take_transaction(message)
        elif isinstance(message, BlockRequest):
            self.serve(sender, message)
        elif isinstance(message, Height | RangeAsk | RangeAnswer):
            self.ranges.hear(sender, message)
        elif self.ranges.is_fetching:
            return  # what agreement says is of no use before the blocks are here that everybody else has
        elif isinstance(message, BlockReply):
            self.step(BlocksCame([(header_hash(block.header), block) for _, block in message.blocks]))
        else:
            self._hear(sender, envelope)

    def catch_up(self, fact: Fact) -> None:
        self.ranges.happen(fact)

    def _hear(self, sender: str, envelope: Envelope) -> None:
        engine, message = self.engine, envelope.message
        horizon = 0 if isinstance(message, Status) else engine.horizon
        try:
            verified = check(message, engine.epoch, horizon=horizon, verifier=keys.verify)
        except Rejected:
            self.cluster.rejected += 1
            return
        self.step(Heard(sender, verified, envelope.block))

    def _take_transaction(self, gossip: TxGossip) -> None:
        """Verified, and refused if it is final here, before the replica hears of it."""
        try:
            verified = self.executor.transactions.verify(gossip.tx)
        except Rejected as rejection:
            self.cluster.answered(self, gossip.ticket, rejection)
            return
        if self.disk.store.find_transaction(verified.id) is not None:
            return
        self.executor.warm(verified, self.replica.context(self.now_ms()))
        self.step(TransactionsSubmitted([verified], gossip.ticket))

    # Effects

    def perform_one(self, effect: Effect | RaiseFloor) -> None:
        match effect:
            case RaiseFloor():
                self.guard = raise_floor(self.guard, effect.epoch, effect.slot)
            case Log():
                self.write_log(effect.records)
            case SignStatements():
                self.sign(effect)
            case SetTimer():
                self.set_timer(effect)
            case Execute() | Check():
                self._queue(effect)
            case Commit():
                self.to_commit(effect)
            case Tell():
                self._tell(effect)
            case Relay():
                for tx in effect.txs:
                    self.cluster.broadcast(self, Envelope(TxGossip(tx.tx)))
            case Fetch():
                if not self.ranges.is_fetching:
                    self.cluster.send_to_anybody(self, Envelope(BlockRequest(effect.hash, effect.above)))
            case SendEpochEnd():
                self._send_epoch_end(effect)
            case ReportFault():
                self.cluster.checks.on_fault(self, effect.fault)
                self.cluster.found_out(effect.fault)
            case ReportBlock():
                self.cluster.checks.on_block_fault(self, effect.fault)
                self.cluster.found_out(effect.fault)
            case Answer():
                (rejection,) = effect.verdicts
                self.cluster.answered(self, effect.ticket, rejection)
            case Announce():
                self.cluster.checks.on_announced(self, effect.block)
            case Drop():
                self.cluster.checks.on_dropped(self, effect)
                self.cluster.dropped(self, effect.tx.id, effect.rejection)
            case _:
                assert_never(effect)

    def _written(self, then: str) -> None:
        super()._written(then)
        is_long = then == "log" and len(self.disk.log) > MAX_LOG_BYTES
        waiting = any(isinstance(effect, Log) for effect in self.effects)
        if is_long and not waiting and self.replica.is_settled:
            self.rewrite_log()

    def _tell(self, effect: Tell) -> None:
        """Links have names of their own: what is meant for a validator's address is told to all."""
        if effect.peer is not None and effect.peer.startswith("v"):
            self.send(effect.peer, effect.message)
        else:
            self.broadcast(effect.message)

    def _send_epoch_end(self, effect: SendEpochEnd) -> None:
        head = self.disk.store.head_at((effect.epoch + 1) * self.cluster.plan.epoch_length)
        if head is not None:
            self.cluster.checks.on_epoch_end(self, head.certificate)
            if head.certificate is not None:
                self.send(effect.peer, head.certificate)

    # The executor's thread

    def _queue(self, job: Job) -> None:
        self.jobs.append(job)
        if len(self.jobs) == 1:
            self._begin_job()

    def _begin_job(self) -> None:
        delay = self.cluster.work_delay()
        if isinstance(self.jobs[0], Commit | Apply):
            delay += self.cluster.disk_delay(self)
        self.cluster.after(delay, self, "job_done", None)

    def job_done(self, _nothing: None) -> None:
        job = self.jobs.popleft()
        match job:
            case Execute():
                fact: Input | None = self.build(job)
            case Check():
                fact = self.judge(job)
            case Commit():
                self._later("committed", self.commit(job))
                fact = None
            case Apply():
                self._later("range_written", self.write_range(job))
                fact = None
            case _:
                assert_never(job)
        if self.jobs:
            self._begin_job()
        if fact is not None:
            self.step(fact)

    def _later(self, kind: str, fact: Any) -> None:
        """The host's loop hears of it a moment after the executor's thread is done."""
        self.cluster.after(self.cluster.work_delay(), self, kind, fact)

    def build(self, job: Execute) -> Built | ParentLost:
        try:
            return Built(
                self.executor.build(
                    job.txs, proposer=self.voting_as, timestamp_ms=job.timestamp_ms, parent=job.parent
                )
            )
        except Rejected:
            self.cluster.note(self, f"has forgotten {job.parent.hex()[:8]}")
            return ParentLost(job.parent)

    def judge(self, job: Check) -> Checked:
        try:
            return Checked(job.hash, self.executor.apply(job.block))
        except Rejected as rejection:
            self.cluster.note(self, f"refuses {job.hash.hex()[:8]}: {rejection.reason}")
            return Checked(job.hash, None, rejection)

    def to_commit(self, work: Commit | Apply) -> None:
        """One after the other, what agreement decided and what was fetched."""
        self.commits.append(work)
        if len(self.commits) == 1:
            self._queue(work)

    def commit(self, job: Commit) -> Committed | None:
        """On disk whole or not at all, then visible, then the guard may forget. None: it is void, because a range was
        written meanwhile."""
        if job.blocks[0].block.header.parent != self.executor.head.hash:
            self.cluster.note(self, f"drops the commit of {job.blocks[-1].hash.hex()[:8]}")
            return None
        self.cluster.checks.on_commit(self, job)
        last = job.blocks[-1]
        commits = [
            self.executor.seal(built, job.certificate if built is last else None) for built in job.blocks
        ]
        self.maybe_die()
        self.store_blocks(commits)
        self.maybe_die()
        self.publish(job.blocks, commits)
        self._moved_to(job.certificate)
        return Committed([commit.block for commit in commits])

    def _moved_to(self, certificate: Certificate) -> None:
        """The newest block on disk is this one's."""
        self.perform([RaiseFloor(certificate.candidate.epoch, certificate.candidate.slot)])

    def write_range(self, work: Apply) -> RangeWritten:
        """Execute and write what is new of blocks that a quorum made final; branches above the head are void."""
        written: list[tuple[BuiltBlock, StoreCommit]] = []
        new = [final for final in work.blocks if final.block.header.height > self.height]
        if not new:
            return RangeWritten(work, [])
        self.executor.branches.clear()
        for final in new:
            try:
                built = self.executor.apply(final.block)
            except WrongBody:
                self.executor.branches.clear()
                return RangeWritten(work, [], final.block.header.height)
            except Rejected as error:
                raise BrokenInvariant(f"a block that a quorum made final is {error}") from None
            written.append((built, self.executor.seal(built, final.certificate)))
        self.maybe_die()
        self.store_blocks([commit for _, commit in written])
        self.maybe_die()
        self.publish([built for built, _ in written], [commit for _, commit in written])
        certificate = work.blocks[-1].certificate
        assert certificate is not None, "blocks are written up to a certificate"
        self._moved_to(certificate)
        return RangeWritten(work, written)

    def store_blocks(self, commits: list[StoreCommit]) -> None:
        self.disk.store.commit(*commits)

    def publish(self, blocks: list[BuiltBlock], commits: list[StoreCommit]) -> None:
        for built, commit in zip(blocks, commits, strict=True):
            self.executor.publish(built, commit.block)
            self.cluster.checks.on_published(self, built, commit.block)

    def committed(self, fact: Committed | None) -> None:
        if fact is not None:
            self.step(fact)
        self._next_commit()
        if self.height % self.cluster.plan.epoch_length == 0:
            self._check_key()

    def range_written(self, fact: RangeWritten) -> None:
        if fact.wrong is not None:  # nothing stands below what was handed over behind it
            self.commits = deque(
                work for work in self.commits if work is fact.work or not isinstance(work, Apply)
            )
        elif fact.blocks:
            self.step(Synced([(built, commit.block) for built, commit in fact.blocks]))
            self._check_key()
        self._next_commit()
        if fact.wrong is not None:
            self.ranges.wrong_body(fact.wrong)
        else:
            self.ranges.applied(fact.work.blocks[-1].block.header.height)

    def _next_commit(self) -> None:
        self.commits.popleft()
        if self.commits:
            self._queue(self.commits[0])

    def _check_key(self) -> None:
        """Who votes with another key now, or under another address, stops and starts again; so does, by its operator's
        hand, who is no member while its account gets another key."""
        if votes_otherwise(self.executor, self.auth_key, self.voting_as) or self._key() != self.auth_key:
            self.cluster.note(self, "votes with another key now")
            raise Died

    # Blocks for others

    def block_of(self, name: bytes) -> Block | None:
        return self.made.get(name) or self.replica.body(name)

    def serve(self, peer: str, request: BlockRequest) -> None:
        """Undecided ones first, then what is on disk."""
        blocks: list[tuple[bytes, Block]] = []
        name = request.hash
        while len(blocks) < BLOCKS_IN_A_REPLY:
            block = self.block_of(name) or self._stored(name)
            if block is None or block.header.height <= max(request.above, 0):
                break
            blocks.append((name, block))
            name = block.header.parent
        if blocks:
            self.cluster.send(self, peer, Envelope(BlockReply(blocks)))

    def answer_range(self, peer: str, asked: RangeAsk) -> None:
        """A peer asks for a part of the chain by height."""
        self.cluster.send(
            self, peer, Envelope(RangeAnswer(asked.asker, asked.ticket, answer_of(self, asked)))
        )

    def _stored(self, name: bytes) -> Block | None:
        committed = self.disk.store.block_by_hash(name)
        return committed.block if committed else None

    # What liars make

    def keep(self, block: Block) -> bytes:
        name = header_hash(block.header)
        self.made[name] = block
        return name

    def another_block(self, name: bytes) -> bytes | None:
        block = self.block_of(name)
        if block is None:
            return None
        known = [self.executor.transactions.verify(tx) for tx in block.txs[1:]]
        return self._make(block.header.parent, block.header.timestamp_ms + 1, known)

    def block_with(self, block: Block, more: list[VerifiedTransaction]) -> Block | None:
        """The same block with more in it, whatever that is worth."""
        known = [self.executor.transactions.verify(tx) for tx in block.txs]
        name = self._make(block.header.parent, block.header.timestamp_ms + 1, [*known, *more])
        return self.made[name] if name is not None else None

    def child_of(self, parent: bytes) -> bytes | None:
        return self._make(parent, self.now_ms(), [])

    def _make(self, parent: bytes, timestamp_ms: int, txs: list[Any]) -> bytes | None:
        try:
            tip = self.executor.branches.tip_at(parent)
        except Rejected:  # that block is gone
            return None
        timestamp_ms = max(timestamp_ms, tip.header.timestamp_ms + 1)
        built = self.executor.build(txs, proposer=self.voting_as, timestamp_ms=timestamp_ms, parent=parent)
        return self.keep(built.block)

    def broadcast(self, message: Message) -> None:
        self.cluster.broadcast(self, self.envelope(message))
