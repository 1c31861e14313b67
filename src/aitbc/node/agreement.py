"""What a validator writes down and signs: log, guard and key behind one thread. docs/spec/simplex.md"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from aitbc.adapters.agreement.files import CLOCKS_DIFFER_MS, GuardFile, LogFile
from aitbc.core.consensus.engine import SignStatements
from aitbc.core.consensus.simplex.wal import (
    MAX_LOG_BYTES,
    BlockRecord,
    LogRecord,
    encode_batch,
    log_head,
    read_log,
)
from aitbc.core.replica import Log
from aitbc.core.types.reasons import Rejected
from aitbc.node.measures import DISK_S, Histogram
from aitbc.ports import ConsensusLog, Signer, SignerGuard

MAX_JOINED = 64
"""Records of one frame that holds several batches: certificates of 8 KiB leave room for the largest block."""
LOG_FILE, GUARD_FILE = "agreement.log", "guard"


@contextmanager
def _timed(histogram: Histogram) -> Iterator[None]:
    started = time.perf_counter()
    yield
    histogram.take(time.perf_counter() - started)


def _frames(logs: Sequence[Log]) -> list[list[LogRecord]]:
    """The records of several batches in few frames: of blocks, which may be large, one batch in each."""
    frames: list[list[LogRecord]] = []
    has_block = False
    for effect in logs:
        block = any(isinstance(record, BlockRecord) for record in effect.records)
        if not frames or (block and has_block) or len(frames[-1]) + len(effect.records) > MAX_JOINED:
            frames.append([])
            has_block = False
        frames[-1] += effect.records
        has_block |= block
    return frames


class Scribe:
    """Appends to the log and signs, each in the order in which it was asked; on return it is safe on disk.

    `write` runs on `thread`, everything else on the host's.
    """

    def __init__(
        self, *, log: ConsensusLog, guard: SignerGuard, signer: Signer, genesis_hash: bytes, now_ms: int
    ) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="agreement")
        self.records: list[LogRecord] = []
        """What log and guard held at the start."""
        self.log_was_damaged = False
        self.log_writes, self.guard_writes = Histogram(DISK_S), Histogram(DISK_S)
        """How long they took to be safe."""
        self._log, self._guard, self._signer = log, guard, signer
        self._genesis_hash, self._now_ms = genesis_hash, now_ms
        self._size = 0
        self._closed = False
        self._read()

    def _read(self) -> None:
        """A log that a crash cannot explain is begun anew, and its owner votes in later epochs only."""
        data = self._log.read()
        try:
            found = read_log(data, self._genesis_hash)
        except Rejected:
            self.log_was_damaged = True
            self._guard.begin_anew(self._now_ms + CLOCKS_DIFFER_MS)
            self._log.replace(log_head(self._genesis_hash))
            self._size = len(log_head(self._genesis_hash))
        else:
            if not found.length:
                self._log.replace(log_head(self._genesis_hash))
            elif found.length < len(data):
                self._log.cut(found.length)
            self.records += found.records
            self._size = found.length
        self.records += self._guard.signed

    @property
    def auth_key(self) -> bytes:
        return self._signer.auth_key

    @property
    def signer(self) -> Signer:
        """For transactions of the validator's own account; statements of agreement go through `write`."""
        return self._signer

    @property
    def vote_after_ms(self) -> int:
        return self._guard.vote_after_ms

    @property
    def floor(self) -> tuple[int, int]:
        """Epoch and slot at or below which the guard signs nothing."""
        return self._guard.floor

    @property
    def is_long(self) -> bool:
        """Is the log to be rewritten?"""
        return self._size > MAX_LOG_BYTES

    def write(self, work: Sequence[Log | SignStatements]) -> list[list[bytes]]:
        """First all that is logged, then the guard for all that is signed, each as one write; then the signatures of
        each `SignStatements`. Raises GuardRefuses, a Stops."""
        for records in _frames([effect for effect in work if isinstance(effect, Log)]):
            batch = encode_batch(records)
            with _timed(self.log_writes):
                self._log.append(batch)
            self._size += len(batch)
        asked = [effect.statements for effect in work if isinstance(effect, SignStatements)]
        if asked:
            with _timed(self.guard_writes):
                self._guard.admit([statement for statements in asked for statement in statements])
        return [[self._signer.sign(statement.digest) for statement in statements] for statements in asked]

    def rewrite(self, records: Sequence[LogRecord]) -> None:
        """Begin the log anew with what is still needed; the records in as many frames."""
        data = log_head(self._genesis_hash) + b"".join(encode_batch([record]) for record in records)
        self._log.replace(data)
        self._size = len(data)

    def raise_floor(self, epoch: int, slot: int) -> None:
        """A block of that slot is final and on disk; the guard hears of it in its turn."""
        self.thread.submit(self._guard.raise_floor, epoch, slot)

    def close(self) -> None:
        """Let another process have the guard; without effect the second time."""
        if self._closed:
            return
        self._closed = True
        self.thread.shutdown(wait=True)
        self._log.close()
        self._guard.close()


def open_scribe(folder: Path, *, signer: Signer, genesis_hash: bytes, now_ms: int, is_new: bool) -> Scribe:
    """With the files of a data folder; raises Stops when another process holds the guard. `is_new`: the key has never
    voted on this chain."""
    guard = GuardFile(folder / GUARD_FILE, genesis_hash, now_ms=now_ms, is_new=is_new)
    log = LogFile(folder / LOG_FILE, genesis_hash)
    return Scribe(log=log, guard=guard, signer=signer, genesis_hash=genesis_hash, now_ms=now_ms)
