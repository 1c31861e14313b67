"""One validator's process without its blocks: effects in order, timers, log, guard and key, and death in every write.

What a real host does on threads happens here one event at a time. Effects are performed in order; those behind a write
wait for it. `Node` adds blocks that are nothing but a name, `Whole` the ledger's.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from aitbc.core.consensus.engine import SetTimer, SignStatements, StatementsSigned, TimerFired
from aitbc.core.consensus.epoch import Epoch
from aitbc.core.consensus.simplex.guard import (
    Guard,
    GuardRefuses,
    admit,
    decode_guard,
    encode_half,
    made_anew,
)
from aitbc.core.consensus.simplex.messages import Message, Proposal, Verified
from aitbc.core.consensus.simplex.rules import Simplex
from aitbc.core.consensus.simplex.wal import LogRecord, encode_frame, frames_of, log_head, read_log
from aitbc.core.types.blocks import Candidate
from aitbc.core.types.reasons import Rejected
from aitbc.sim import keys
from aitbc.sim.disk import MARK, Disk

if TYPE_CHECKING:
    from aitbc.sim.cluster import Cluster

CLOCKS_DIFFER_MS = 5_000
"""More than this clock can have gone back since it voted last."""


class Died(Exception):
    """The process is gone, in the middle of whatever it did."""


class Envelope:
    """A message on its way, with the block beside it. A check is pure, so its result is kept for all receivers."""

    __slots__ = ("block", "block_hash", "message", "verified")

    def __init__(self, message: Any, block: Any = None, block_hash: bytes = b"") -> None:
        self.message = message
        self.block = block
        self.block_hash = block_hash
        self.verified: dict[Epoch, Verified] = {}


class Process:
    """`place` names it; twins share an address."""

    engine: Simplex
    """Whoever agrees for this process in this life."""
    disk: Disk

    def __init__(self, cluster: Cluster, place: int, address: str) -> None:
        self.cluster = cluster
        self.place = place
        self.address = address
        self.auth_key = keys.key_of(place)
        self.life = 0
        self.is_up = False
        self.is_honest = True
        self.is_gone = False
        """Died of its own program, for good."""
        self.disk = self.new_disk()

    # What a kind of process says of itself

    def new_disk(self) -> Disk:
        raise NotImplementedError

    def begin(self) -> None:
        """Start from what is on the disk, as a restarted process does."""
        raise NotImplementedError

    @property
    def height(self) -> int:
        raise NotImplementedError

    @property
    def voter(self) -> str:
        """The address under which it votes."""
        return self.address

    def step(self, fact: Any) -> None:
        """Feed a fact and perform what comes of it."""
        raise NotImplementedError

    def perform_one(self, effect: Any) -> None:
        raise NotImplementedError

    def receive(self, sender: str, envelope: Envelope) -> None:
        raise NotImplementedError

    def live_records(self) -> list[LogRecord]:
        """What a log that is rewritten now must hold."""
        raise NotImplementedError

    def block_of(self, name: bytes) -> Any:
        """An undecided block; None for one that is not here."""
        raise NotImplementedError

    def keep(self, block: Any) -> bytes:
        """Hand this block out from now on; returns its hash."""
        raise NotImplementedError

    def serve(self, peer: str, request: Any) -> None:
        """A peer asks for blocks."""
        raise NotImplementedError

    def another_block(self, name: bytes) -> bytes | None:
        """Another valid child of a block's parent, made and kept; None when there is none."""
        raise NotImplementedError

    def child_of(self, parent: bytes) -> bytes | None:
        """A block on an old one, made and kept; None when that one is gone."""
        raise NotImplementedError

    # Life

    def boot(self) -> None:
        self.life += 1
        self.is_up = True
        self.timers: dict[str, int] = {}
        self.effects: deque[Any] = deque()
        self.is_writing = False
        self.begin()

    def die(self) -> None:
        self.life += 1
        self.is_up = False
        self.disk.crash(self.cluster.draw)

    def now_ms(self) -> int:
        return self.cluster.clock_of(self.place)

    def remember(self) -> tuple[Guard, list[LogRecord], int]:
        """Log and guard. Who lacks a whole log or a whole guard only watches until an epoch that is new to it."""
        genesis_hash = self.cluster.genesis_hash
        try:
            guard = decode_guard(self.disk.guard_file, genesis_hash)
        except Rejected as rejection:
            self.cluster.note(self, f"watches: {rejection.message}")
            guard = made_anew(Guard(genesis_hash=genesis_hash), self.now_ms() + CLOCKS_DIFFER_MS)
        records: list[LogRecord] = []
        try:
            read = read_log(self.disk.log, genesis_hash)
            records += read.records
            self.disk.log = self.disk.log[: read.length]
        except Rejected as rejection:
            self.cluster.note(self, f"watches: {rejection.message}")
            guard = made_anew(guard, self.now_ms() + CLOCKS_DIFFER_MS)
            self.disk.log = log_head(genesis_hash, MARK)
        self.disk.sync()
        self.disk.guard = [encode_half(guard)] * 2
        return guard, [*records, *guard.signed], guard.vote_after_ms

    # Facts

    def happen(self, kind: str, what: Any) -> None:
        """One event of the heap that is this process's."""
        if kind == "message":
            self.receive(what[0], what[1])
        elif kind == "timer":
            if self.timers.get(what[0]) == what[1]:
                self.step(TimerFired(what[0]))
        elif kind == "event":
            self.step(what)
        elif kind == "written":
            self.is_writing = False
            self._written(what)
            self.perform([])
        else:
            getattr(self, kind)(what)

    # Effects, one after the other; those behind a write wait

    def perform(self, effects: list[Any]) -> None:
        self.effects.extend(effects)
        while self.effects and not self.is_writing and self.is_up:
            self.perform_one(self.effects.popleft())

    def set_timer(self, effect: SetTimer) -> None:
        delay = max(0, effect.at_ms - self.now_ms())
        self.timers[effect.timer] = self.cluster.after(delay, self, "timer", effect.timer)

    def broadcast(self, message: Message) -> None:
        self.cluster.broadcast(self, self.envelope(message))

    def send(self, peer: str, message: Message) -> None:
        self.cluster.send(self, peer, self.envelope(message))

    def envelope(self, message: Message) -> Envelope:
        """With the block beside a proposal, if it is here."""
        if not isinstance(message, Proposal):
            return Envelope(message)
        name = message.candidate.block_hash
        block = self.block_of(name)
        return Envelope(message, block, name) if block is not None else Envelope(message)

    # Writing: a process can die before, in and after each

    def write(self, then: str, *, safe: bool = True) -> None:
        """Effects wait until the write is done."""
        if safe:
            self.maybe_die()
        delay = self.cluster.disk_delay(self)
        if delay:
            self.is_writing = True
            self.cluster.after(delay, self, "written", then)
        else:
            self._written(then)

    def _written(self, then: str) -> None:
        if then == "log":
            self.disk.sync()
        self.maybe_die()

    def maybe_die(self) -> None:
        if self.cluster.dies_now():
            raise Died

    def write_log(self, records: list[LogRecord]) -> None:
        self.disk.log += b"".join(encode_frame(frame, MARK) for frame in frames_of([records]))
        self.write("log")

    def sign(self, effect: SignStatements) -> None:
        """The guard is asked, and both of its halves are safe, before anything is signed."""
        try:
            guard = admit(self.guard, effect.statements)
        except GuardRefuses as refusal:
            self.cluster.checks.on_refusal(self, refusal)
            raise
        if guard is not self.guard:
            self.write_guard(guard)
        self.cluster.checks.on_signed(self, effect.statements)
        signatures = [keys.sign(self.auth_key, statement.digest) for statement in effect.statements]
        self.cluster.after(0, self, "event", StatementsSigned(signatures))

    def write_guard(self, guard: Guard) -> None:
        self.guard = guard
        new = encode_half(guard)
        for half in (0, 1):
            if self.cluster.dies_now():
                self.disk.tear(half, new, self.cluster.draw)
                raise Died
            self.disk.guard[half] = new
        self.maybe_die()

    def rewrite_log(self) -> None:
        """As a file is replaced: the new one is whole before its name is."""
        records = self.live_records()
        self.maybe_die()
        frames = [encode_frame([record], MARK) for record in records]
        self.disk.log = log_head(self.cluster.genesis_hash, MARK) + b"".join(frames)
        self.disk.sync()
        self.maybe_die()

    # What liars want to know

    def candidate_on(self, old: Candidate, slot: int, block_hash: bytes) -> Candidate:
        epoch = self.engine.epoch
        return Candidate(epoch.number, slot, old.slot, epoch.id_of(old), block_hash)
