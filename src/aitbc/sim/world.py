"""One validator under virtual time: the node's loop with a heap instead of asyncio and crashes where they hurt.

Everything random comes from the seed; the trace it writes is the same on every machine and every run.
"""

import heapq
import random
from hashlib import sha256

import msgspec

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core.consensus.engine import SetTimer, SignStatements, StatementsSigned, TimerFired
from aitbc.core.consensus.simplex.wal import LogRecord
from aitbc.core.executor import Executor
from aitbc.core.replica import (
    Announce,
    Answer,
    Built,
    Check,
    Checked,
    Commit,
    Committed,
    Drop,
    Effect,
    Execute,
    Input,
    Log,
    TransactionsSubmitted,
)
from aitbc.core.start import replica_at_head
from aitbc.core.types.blocks import CommittedBlock
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import VerifiedTransaction
from aitbc.ports import Signer, Store


class Scheduled(msgspec.Struct, frozen=True, order=True):
    """A fact that arrives at a time; `life` is the process life it was meant for."""

    at_ms: int
    order: int
    life: int
    timer: str = ""


class World:
    """A validator, its disk, and a clock that jumps from event to event."""

    def __init__(
        self, *, seed: int, genesis: bytes, signer: Signer, start_ms: int, crash_percent: int = 0
    ) -> None:
        self.now_ms = start_ms
        self.trace: list[str] = []
        self.answers: dict[bytes, Rejected | None] = {}
        self._submitted: list[bytes] = []
        """Ids, by ticket."""
        self._random = random.Random(seed)  # noqa: S311 - a simulation repeats, it does not hide
        self._genesis = genesis
        self._signer = signer
        self._crash_percent = crash_percent
        self._heap: list[Scheduled] = []
        self._facts: dict[int, Input] = {}
        self._order = 0
        self._life = 0
        self._timers: dict[str, int] = {}
        self._disk: Store | None = None
        self._log: list[LogRecord] = []
        self._boot()

    @property
    def height(self) -> int:
        return self.executor.head.block.header.height

    def _boot(self) -> None:
        """Start from what is on disk, as a restarted process does."""
        self._life += 1
        self._timers.clear()
        stored = self._disk.load() if self._disk else None
        self.executor = Executor(self._genesis, stored)
        if self._disk is None:
            self._disk = MemoryStore(self.executor.loaded.hash)
            loaded = self.executor.loaded
            self._disk.commit(loaded.first)
        self.replica = replica_at_head(self.executor, address=self._signer.address, records=self._log)
        self._note(f"boot height={self.height}")
        self._perform(self.replica.start(self.now_ms))

    def submit(self, tx: VerifiedTransaction, *, after_ms: int = 0) -> None:
        """A client's transaction arrives after a while; it is lost if the process dies before."""
        self._submitted.append(tx.id)
        self._schedule(after_ms, TransactionsSubmitted([tx], len(self._submitted)))

    def run(self, until_ms: int) -> None:
        """Let events happen up to a time."""
        while self._heap and self._heap[0].at_ms <= until_ms:
            event = heapq.heappop(self._heap)
            self.now_ms = max(self.now_ms, event.at_ms)
            fact = self._facts.pop(event.order)
            if event.life != self._life or (event.timer and self._timers.get(event.timer) != event.order):
                continue
            self._perform(self.replica.step(self.now_ms, fact))
        self.now_ms = max(self.now_ms, until_ms)

    def crash(self) -> None:
        """The process dies and starts again; what it held in memory is gone."""
        self._note("crash")
        self._boot()

    def block(self, height: int) -> CommittedBlock | None:
        """A block from the disk."""
        return self._disk.block_by_height(height) if self._disk else None

    def digest(self) -> str:
        """One hash for everything that happened."""
        return sha256("\n".join(self.trace).encode()).hexdigest()

    def _schedule(self, after_ms: int, fact: Input, timer: str = "") -> int:
        self._order += 1
        self._facts[self._order] = fact
        heapq.heappush(self._heap, Scheduled(self.now_ms + after_ms, self._order, self._life, timer))
        return self._order

    def _note(self, text: str) -> None:
        self.trace.append(f"{self.now_ms} {text}")

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case SetTimer():
                    delay = max(0, effect.at_ms - self.now_ms)
                    self._timers[effect.timer] = self._schedule(delay, TimerFired(effect.timer), effect.timer)
                case Log():
                    self._log += effect.records
                case SignStatements():
                    signatures = [self._signer.sign(item.digest) for item in effect.statements]
                    self._schedule(0, StatementsSigned(signatures))
                case Execute():
                    built = self.executor.build(
                        effect.txs,
                        proposer=self._signer.address,
                        timestamp_ms=effect.timestamp_ms,
                        parent=effect.parent,
                    )
                    self._schedule(self._random.randrange(1, 20), Built(built))
                case Check():
                    built = self.executor.apply(effect.block)
                    self._schedule(self._random.randrange(1, 20), Checked(effect.hash, built))
                case Commit():
                    if self._commit(effect):
                        return
                case Answer():
                    tx_id, (rejection,) = self._submitted[effect.ticket - 1], effect.verdicts
                    self.answers[tx_id] = rejection
                    self._note(f"answer {tx_id.hex()[:8]} {rejection or 'waits'}")
                case Announce():
                    header = effect.block.block.header
                    self._note(
                        f"final {header.height} {effect.block.hash.hex()[:8]} txs={len(effect.block.outcomes)}"
                    )
                case Drop():
                    self._note(f"drop {effect.tx.id.hex()[:8]} {effect.rejection.reason}")

    def _commit(self, effect: Commit) -> bool:
        """Write the block; returns whether the process died before or after the write."""
        assert self._disk is not None
        if self._random.randrange(100) < self._crash_percent:
            self.crash()
            return True
        (built,) = effect.blocks
        committed = self.executor.seal(built, effect.certificate)
        self._disk.commit(committed)
        if self._random.randrange(100) < self._crash_percent:
            self.crash()
            return True
        self.executor.publish(built, committed.block)
        self._schedule(self._random.randrange(1, 10), Committed([committed.block]))
        return False
