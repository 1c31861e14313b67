"""What a validator writes down and signs: log, guard and key behind one thread. docs/spec/simplex.md"""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from aitbc.adapters.agreement.files import CLOCKS_DIFFER_MS, GuardFile, LogFile
from aitbc.adapters.signer.remote import RemoteGuard, RemoteKey, RemoteSigner
from aitbc.core.codec.digests import transaction_id
from aitbc.core.consensus.engine import SignStatements
from aitbc.core.consensus.simplex.wal import (
    MARK_BYTES,
    MAX_LOG_BYTES,
    LogRecord,
    encode_frame,
    frames_of,
    log_head,
    read_log,
)
from aitbc.core.replica import Log
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import Transaction
from aitbc.node.measures import DISK_S, Histogram
from aitbc.ports import ConsensusLog, Signer, SignerGuard, TransactionSigner

LOG_FILE, GUARD_FILE = "agreement.log", "guard"


@contextmanager
def _timed(histogram: Histogram) -> Iterator[None]:
    started = time.perf_counter()
    yield
    histogram.take(time.perf_counter() - started)


class OwnKey:
    """A `TransactionSigner` whose key is in this process."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def auth_key(self) -> bytes:
        return self._signer.auth_key

    @property
    def address(self) -> str:
        return self._signer.address

    def sign_transaction(self, tx: Transaction, genesis_hash: bytes) -> bytes:
        return self._signer.sign(transaction_id(tx, genesis_hash))


class Scribe:
    """Appends to the log and signs, each in the order in which it was asked; on return it is safe on disk.

    `write` runs on `thread`, everything else on the host's.
    """

    def __init__(
        self,
        *,
        log: ConsensusLog,
        guard: SignerGuard,
        signer: Signer,
        genesis_hash: bytes,
        now_ms: int,
        transactions: TransactionSigner | None = None,
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        """`transactions`: for a signer that signs no digests it cannot see through. `let_go`: ends a write that waits
        for another process."""
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="agreement")
        self.records: list[LogRecord] = []
        """What log and guard held at the start."""
        self.log_was_damaged = False
        self.log_writes, self.guard_writes = Histogram(DISK_S), Histogram(DISK_S)
        """How long they took to be safe."""
        self._log, self._guard, self._signer = log, guard, signer
        self._genesis_hash, self._now_ms = genesis_hash, now_ms
        self._mark, self._size = b"", 0
        self._closed = False
        self.let_go = let_go
        """The node stops: a write that waits for a signer in another process fails now, with Stops."""
        self.transactions: TransactionSigner = transactions or OwnKey(signer)
        """For transactions of the validator's own account; statements of agreement go through `write`."""
        self._read()

    def _read(self) -> None:
        """A log that a crash cannot explain is begun anew, and its owner votes in later epochs only."""
        data = self._log.read()
        try:
            found = read_log(data, self._genesis_hash)
        except Rejected:
            self.log_was_damaged = True
            self._guard.begin_anew(self._now_ms + CLOCKS_DIFFER_MS)
            self.rewrite(())
        else:
            self.records += found.records
            self._mark, self._size = found.mark, found.length
            if not found.mark:
                self.rewrite(found.records)
            elif found.length < len(data):
                self._log.cut(found.length)
        self.records += self._guard.signed

    @property
    def auth_key(self) -> bytes:
        return self._signer.auth_key

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
        """First all that is logged, frame by frame, each safe before the next one begins; then the guard for all that
        is signed, as one write; then the signatures of each `SignStatements`. Raises GuardRefuses, a Stops."""
        batches = [effect.records for effect in work if isinstance(effect, Log)]
        for records in frames_of(batches):
            frame = encode_frame(records, self._mark)
            with _timed(self.log_writes):
                self._log.append(frame)
            self._size += len(frame)
        asked = [effect.statements for effect in work if isinstance(effect, SignStatements)]
        if asked:
            with _timed(self.guard_writes):
                self._guard.admit([statement for statements in asked for statement in statements])
        return [[self._signer.sign(statement.digest) for statement in statements] for statements in asked]

    def rewrite(self, records: Sequence[LogRecord]) -> None:
        """Begin the log anew with what is still needed, each record in a frame of its own, under a new mark: frames
        of the old file that the disk may bring up again are not this one's."""
        mark = secrets.token_bytes(MARK_BYTES)
        frames = b"".join(encode_frame([record], mark) for record in records)
        data = log_head(self._genesis_hash, mark) + frames
        self._log.replace(data)
        self._mark, self._size = mark, len(data)

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
    log = LogFile(folder / LOG_FILE)
    return Scribe(log=log, guard=guard, signer=signer, genesis_hash=genesis_hash, now_ms=now_ms)


def open_remote_scribe(folder: Path, *, socket: Path, genesis_hash: bytes, now_ms: int) -> Scribe:
    """The log is the node's, guard and key are a signer's; raises Stops when that does not answer or refuses."""
    remote = RemoteSigner(socket, genesis_hash)
    key = RemoteKey(remote)
    return Scribe(
        log=LogFile(folder / LOG_FILE),
        guard=RemoteGuard(remote, key),
        signer=key,
        genesis_hash=genesis_hash,
        now_ms=now_ms,
        transactions=key,
        let_go=remote.let_go,
    )
