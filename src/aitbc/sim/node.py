"""A validator whose blocks are names: the engine alone, with a host that keeps, fetches and commits blocks."""

from __future__ import annotations

from collections import deque
from typing import assert_never

import msgspec

from aitbc.core.consensus.engine import (
    BlockBuilt,
    BlockCommitted,
    BlockExecuted,
    Broadcast,
    BuildBlock,
    EngineEffect,
    EngineEvent,
    EpochBegan,
    ExecuteBlock,
    Finalize,
    MessageArrived,
    Persist,
    ReportFault,
    ReportRefused,
    Send,
    SendEpochEnd,
    SetHead,
    SetTimer,
    SignStatements,
    TransactionsArrived,
)
from aitbc.core.consensus.epoch import Anchor
from aitbc.core.consensus.simplex.guard import raise_floor
from aitbc.core.consensus.simplex.messages import Ahead, Message, check
from aitbc.core.consensus.simplex.pacing import Pace
from aitbc.core.consensus.simplex.rules import Simplex
from aitbc.core.consensus.simplex.wal import CandidateRecord, LogRecord
from aitbc.core.replica import FETCH_MAX_MS, FETCH_MS
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.sim import keys
from aitbc.sim.blocks import GENESIS_BLOCK_HASH, OpaqueBlock, Stored, judge
from aitbc.sim.disk import ChainDisk
from aitbc.sim.process import Envelope, Process

BLOCKS_IN_A_REPLY = 32
MAX_LOG_BYTES = 4_000
"""Small, so that logs are rewritten in every run."""


class BlockRequest(msgspec.Struct, frozen=True):
    hash: bytes


class BlockReply(msgspec.Struct, frozen=True):
    """A block and some of its ancestors."""

    blocks: list[OpaqueBlock]


class TxGossip(msgspec.Struct, frozen=True):
    tx: int


class Fetch(msgspec.Struct):
    """Asked for, and when to ask somebody else."""

    wait_ms: int


class Node(Process):
    """One validator's process over opaque blocks."""

    engine_class: type[Simplex] = Simplex
    disk: ChainDisk

    def new_disk(self) -> ChainDisk:
        return ChainDisk(self.cluster.genesis_hash)

    def begin(self) -> None:
        self.fetching: dict[bytes, Fetch] = {}
        self.executing: dict[tuple[bytes, bytes | None], ExecuteBlock] = {}
        self.blocks = dict(self.disk.blocks)
        self.executed: set[bytes] = {stored.hash for stored in self.disk.chain}
        self.waiting: dict[int, None] = {}
        self.head = self.disk.chain[-1].hash
        self.committed = {stored.hash: height for height, stored in enumerate(self.disk.chain)}
        self.included = {tx for stored in self.disk.chain for tx in stored.block.txs}
        for stored in self.disk.chain:
            self.blocks[stored.hash] = stored.block
        self.pending_final: deque[Finalize] = deque()
        self.guard, records, vote_after_ms = self.remember()
        self.engine = self._engine(records, vote_after_ms)
        self.perform(self.engine.start(self.now_ms()))

    def _engine(self, records: list[LogRecord], vote_after_ms: int) -> Simplex:
        plan = self.cluster.plan
        anchor = self._anchor()
        return self.engine_class(
            address=self.address,
            pace=Pace(block_time_ms=plan.block_time_ms, idle_ms=plan.idle_ms, max_timeout_ms=5_000),
            epoch=self.cluster.epochs[self.cluster.epochs.number_after(anchor.height)],
            anchor=anchor,
            transactions_wait=self.transactions_wait,
            records=records,
            vote_after_ms=vote_after_ms,
            floor=self.guard.floor,
        )

    def _anchor(self) -> Anchor:
        """The newest block with a certificate of its own in the running epoch, or that epoch's base."""
        chain, length = self.disk.chain, self.cluster.epochs.length
        lowest = (len(chain) - 1) // length * length
        for stored in reversed(chain[lowest + 1 :]):
            if stored.certificate is not None:
                candidate = stored.certificate.candidate
                name = self.cluster.epochs[candidate.epoch].id_of(candidate)
                return self._anchor_at(stored, candidate.slot, name)
        return self._anchor_at(chain[lowest], 0, chain[lowest].hash)

    @staticmethod
    def _anchor_at(stored: Stored, slot: int, name: bytes) -> Anchor:
        return Anchor(
            slot=slot,
            id=name,
            hash=stored.hash,
            height=stored.block.height,
            timestamp_ms=stored.block.timestamp_ms,
            certificate=stored.certificate if slot else None,
        )

    @property
    def height(self) -> int:
        return len(self.disk.chain) - 1

    # Facts

    def step(self, fact: EngineEvent) -> None:
        self.perform(self.engine.on(self.now_ms(), fact))

    def receive(self, sender: str, envelope: Envelope) -> None:
        """A message from the network."""
        message = envelope.message
        if isinstance(message, TxGossip):
            self.take_transaction(message.tx)
        elif isinstance(message, BlockRequest):
            self.serve(sender, message)
        elif isinstance(message, BlockReply):
            self._take_blocks(message.blocks)
        else:
            self._hear(sender, envelope, message)

    def _hear(self, sender: str, envelope: Envelope, message: Message) -> None:
        engine = self.engine
        verified = envelope.verified.get(engine.epoch)
        if verified is None:
            try:
                verified = check(message, engine.epoch, horizon=engine.horizon, verifier=keys.verify)
            except Rejected:
                self.cluster.rejected += 1
                return
            if not isinstance(verified, Ahead):
                envelope.verified[engine.epoch] = verified
        if envelope.block is not None and envelope.block_hash not in self.blocks:
            self._take_blocks([envelope.block])
        self.perform(engine.on(self.now_ms(), MessageArrived(sender, verified)))

    def take_transaction(self, tx: int) -> None:
        if tx not in self.included and tx not in self.waiting:
            self.waiting[tx] = None
            self.step(TransactionsArrived())

    def transactions_wait(self) -> bool:
        """Some that no block of the branch under the head holds."""
        if not self.waiting:
            return False
        return len(self.waiting) > len(self._taken(self.head))

    def _taken(self, tip: bytes) -> set[int]:
        """Waiting transactions in blocks from the tip down to the chain."""
        taken: set[int] = set()
        while tip not in self.committed:
            block = self.blocks[tip]
            taken.update(block.txs)
            tip = block.parent
        return taken & self.waiting.keys()

    def perform_one(self, effect: EngineEffect) -> None:
        match effect:
            case SetTimer():
                self.set_timer(effect)
            case Broadcast():
                self.broadcast(effect.message)
            case Send():
                self.send(effect.peer, effect.message)
            case Persist():
                self.write_log(effect.records)
            case SignStatements():
                self.sign(effect)
            case ExecuteBlock():
                self._execute(effect)
            case BuildBlock():
                self._build(effect)
            case SetHead():
                self.head = effect.hash
            case Finalize():
                self._finalize(effect)
            case SendEpochEnd():
                self._send_epoch_end(effect)
            case ReportFault():
                self.cluster.checks.on_fault(self, effect.fault)
            case ReportRefused():
                self.cluster.checks.on_refused(self, effect.validator)
            case _:
                assert_never(effect)

    def block_of(self, name: bytes) -> OpaqueBlock | None:
        return self.blocks.get(name)

    def live_records(self) -> list[LogRecord]:
        return self.engine.live_records()

    def write_log(self, records: list[LogRecord]) -> None:
        for record in records:
            if isinstance(record, CandidateRecord):
                block = self.blocks[record.candidate.block_hash]
                self.disk.blocks[record.candidate.block_hash] = block
        super().write_log(records)

    # Blocks

    def _build(self, effect: BuildBlock) -> None:
        taken = self._taken(effect.parent)
        txs = tuple(tx for tx in self.waiting if tx not in taken)[:100]
        parent = self.blocks[effect.parent]
        block = OpaqueBlock(
            effect.parent,
            parent.height + 1,
            effect.timestamp_ms,
            self.address,
            txs,
            True,
        )
        name = block.hash
        self.blocks[name] = block
        self.executed.add(name)
        event = BlockBuilt(effect.parent, name, block.height, block.timestamp_ms)
        self.cluster.after(self.cluster.work_delay(), self, "event", event)

    def keep(self, block: OpaqueBlock) -> bytes:
        self.blocks[block.hash] = block
        return block.hash

    def another_block(self, name: bytes) -> bytes:
        block = self.blocks[name]
        return self.keep(msgspec.structs.replace(block, txs=(*block.txs, -1)))

    def child_of(self, parent: bytes) -> bytes | None:
        known = self.blocks.get(parent)
        if known is None:
            return None
        timestamp_ms = max(known.timestamp_ms + 1, self.now_ms())
        return self.keep(OpaqueBlock(parent, known.height + 1, timestamp_ms, self.address, (-2,), True))

    def _execute(self, effect: ExecuteBlock) -> None:
        self.executing[effect.hash, effect.parent] = effect
        self._try_execute(effect)

    def _try_execute(self, effect: ExecuteBlock) -> None:
        """From the newest executed ancestor on; what is missing is fetched."""
        name = effect.hash
        while name not in self.executed or name == effect.hash:
            block = self.blocks.get(name)
            if block is None:
                self._fetch(name)
                return
            if block.parent in self.executed or effect.parent is not None or block.height == 0:
                break
            name = block.parent
        del self.executing[effect.hash, effect.parent]
        self.cluster.after(self.cluster.work_delay(), self, "done_executing", effect)

    def done_executing(self, effect: ExecuteBlock) -> None:
        block = self.blocks[effect.hash]
        reason = self._verdict(effect, block)
        if reason is None:
            name = effect.hash
            while name not in self.executed:
                self.executed.add(name)
                name = self.blocks[name].parent
        event = BlockExecuted(
            effect.hash, effect.parent, block.parent, block.height, block.timestamp_ms, reason
        )
        self.step(event)

    def _verdict(self, effect: ExecuteBlock, block: OpaqueBlock) -> Reason | None:
        if effect.hash in self.executed and effect.parent in (None, block.parent):
            return None
        parent = block.parent if effect.parent is None else effect.parent
        return judge(block, self.blocks[parent], parent)

    def _fetch(self, name: bytes) -> None:
        if name not in self.fetching:
            self.fetching[name] = Fetch(FETCH_MS)
            self.fetch_again(name)

    def fetch_again(self, name: bytes) -> None:
        fetch = self.fetching.get(name)
        if fetch is None:
            return
        self.cluster.send_to_anybody(self, Envelope(BlockRequest(name)))
        self.cluster.after(fetch.wait_ms, self, "fetch_again", name)
        fetch.wait_ms = min(fetch.wait_ms * 3 // 2, FETCH_MAX_MS)

    def serve(self, peer: str, request: BlockRequest) -> None:
        name = request.hash
        blocks: list[OpaqueBlock] = []
        while name in self.blocks and len(blocks) < BLOCKS_IN_A_REPLY and name != GENESIS_BLOCK_HASH:
            blocks.append(self.blocks[name])
            name = self.blocks[name].parent
        if blocks:
            self.cluster.send(self, peer, Envelope(BlockReply(blocks)))

    def _take_blocks(self, blocks: list[OpaqueBlock]) -> None:
        for block in blocks:
            name = block.hash
            self.blocks.setdefault(name, block)
            self.fetching.pop(name, None)
        for effect in list(self.executing.values()):
            if (effect.hash, effect.parent) in self.executing:
                self._try_execute(effect)

    # Final blocks

    def _finalize(self, effect: Finalize) -> None:
        """The block and its uncommitted ancestors, oldest first; each is on disk whole or not at all."""
        path = []
        name = effect.hash
        while name not in self.committed:
            path.append(name)
            name = self.blocks[name].parent
        self.cluster.checks.on_finalize(self, effect, path)
        for name in reversed(path):
            self.maybe_die()
            own = effect.certificate if name == effect.hash else None
            self.disk.chain.append(Stored(self.blocks[name], name, own))
            self.committed[name] = self.height
            self.included.update(self.blocks[name].txs)
            for tx in self.blocks[name].txs:
                self.waiting.pop(tx, None)
            self.cluster.checks.on_committed(self, self.height, name)
        self.pending_final.append(effect)
        self.write("chain", safe=False)
        self.cluster.after(0, self, "done_committing", effect)

    def done_committing(self, effect: Finalize) -> None:
        block, candidate = self.blocks[effect.hash], effect.certificate.candidate
        self._forget(block.height)
        guard = raise_floor(self.guard, candidate.epoch, candidate.slot)
        self.guard = guard
        self.step(BlockCommitted(effect.hash, block.height, block.timestamp_ms))
        epochs = self.cluster.epochs
        if block.height % epochs.length == 0:
            base = self._anchor_at(Stored(block, effect.hash, None), 0, effect.hash)
            self.step(EpochBegan(epochs[epochs.number_after(block.height)], base))
        is_long = len(self.disk.log) > MAX_LOG_BYTES
        if is_long and not self.is_writing and not self.effects and self.engine.is_settled:
            self.rewrite_log()

    def _forget(self, height: int) -> None:
        """Blocks that the chain has now, and those of branches that lost."""
        self.disk.blocks = {name: block for name, block in self.disk.blocks.items() if block.height > height}

    def _send_epoch_end(self, effect: SendEpochEnd) -> None:
        height = (effect.epoch + 1) * self.cluster.epochs.length
        if height < len(self.disk.chain):
            certificate = self.disk.chain[height].certificate
            self.cluster.checks.on_epoch_end(self, certificate)
            if certificate is not None:
                self.send(effect.peer, certificate)
