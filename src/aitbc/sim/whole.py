"""A whole validator under virtual time: the unmodified replica, executor and ledger, on a disk that forgets.

What `aitbc.node` does with threads, files and sockets: one queue of work for the executor, log and guard before what
depends on them, blocks on disk before readers see them, answers of bounded size. docs/spec/simplex.md
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from aitbc.adapters.storage.memory import MemoryStore
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
    Tell,
    TransactionsSubmitted,
)
from aitbc.core.start import address_of_validator, replica_at_head, votes_otherwise
from aitbc.core.types.blocks import Block
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.records import Commit as StoreCommit
from aitbc.core.types.transactions import Transaction
from aitbc.sim import keys
from aitbc.sim.disk import Disk
from aitbc.sim.process import Died, Envelope, Process

if TYPE_CHECKING:
    from aitbc.sim.whole_cluster import WholeCluster

BLOCKS_IN_A_REPLY = 8
"""Few, so that whoever is behind asks more than once."""
MAX_LOG_BYTES = 20_000
"""Small, so that logs are rewritten in every run."""
MAX_UNDECIDED = 4
"""Few, so that the executor forgets blocks that are needed again."""

Job = Execute | Check | Commit
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
        self.commits: deque[Commit] = deque()
        """One after the other: each is on disk before the next is begun."""
        self.made: dict[bytes, Block] = {}
        """Blocks that only liars hand out."""
        self.executor = Executor(self.cluster.document, self.disk.store.load(), verifier=keys.verify)
        self.executor.branches.limit = MAX_UNDECIDED
        self.auth_key = self._key()
        self.guard, records, vote_after_ms = self.remember()
        self.voting_as = address_of_validator(self.executor, self.auth_key)
        self.replica = self.new_replica(records, vote_after_ms)
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
        elif isinstance(message, BlockReply):
            self.step(BlocksCame([(header_hash(block.header), block) for _, block in message.blocks]))
        else:
            self._hear(sender, envelope)

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

    def perform_one(self, effect: Effect) -> None:
        match effect:
            case Log():
                self.write_log(effect.records)
            case SignStatements():
                self.sign(effect)
            case SetTimer():
                self.set_timer(effect)
            case Execute() | Check():
                self._queue(effect)
            case Commit():
                self.commits.append(effect)
                if len(self.commits) == 1:
                    self._queue(effect)
            case Tell():
                self._tell(effect)
            case Relay():
                for tx in effect.txs:
                    self.cluster.broadcast(self, Envelope(TxGossip(tx.tx)))
            case Fetch():
                self.cluster.send_to_anybody(self, Envelope(BlockRequest(effect.hash, effect.above)))
            case SendEpochEnd():
                self._send_epoch_end(effect)
            case ReportFault():
                self.cluster.checks.on_fault(self, effect.fault)
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
            assert head.certificate is not None, "the last block of an epoch is final by itself"
            self.send(effect.peer, head.certificate)

    # The executor's thread

    def _queue(self, job: Job) -> None:
        self.jobs.append(job)
        if len(self.jobs) == 1:
            self._begin_job()

    def _begin_job(self) -> None:
        delay = self.cluster.work_delay()
        if isinstance(self.jobs[0], Commit):
            delay += self.cluster.disk_delay(self)
        self.cluster.after(delay, self, "job_done", None)

    def job_done(self, _nothing: None) -> None:
        job = self.jobs.popleft()
        match job:
            case Execute():
                fact: Input = self.build(job)
            case Check():
                fact = self.judge(job)
            case Commit():
                fact = self.commit(job)
            case _:
                assert_never(job)
        if self.jobs:
            self._begin_job()
        if isinstance(fact, Committed):
            self.cluster.after(self.cluster.work_delay(), self, "committed", fact)
        else:
            self.step(fact)

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

    def commit(self, job: Commit) -> Committed:
        """On disk whole or not at all, then visible, then the guard may forget."""
        self.cluster.checks.on_commit(self, job)
        last = job.blocks[-1]
        commits = [
            self.executor.seal(built, job.certificate if built is last else None) for built in job.blocks
        ]
        self.maybe_die()
        self.store_blocks(commits)
        self.maybe_die()
        self.publish(job, commits)
        candidate = job.certificate.candidate
        self.guard = raise_floor(self.guard, candidate.epoch, candidate.slot)
        return Committed([commit.block for commit in commits])

    def store_blocks(self, commits: list[StoreCommit]) -> None:
        self.disk.store.commit(*commits)

    def publish(self, job: Commit, commits: list[StoreCommit]) -> None:
        for built, commit in zip(job.blocks, commits, strict=True):
            self.executor.publish(built, commit.block)
            self.cluster.checks.on_published(self, built, commit.block)

    def committed(self, fact: Committed) -> None:
        self.step(fact)
        self.commits.popleft()
        if self.commits:
            self._queue(self.commits[0])
        if self.height % self.cluster.plan.epoch_length == 0:
            self._check_key()

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
