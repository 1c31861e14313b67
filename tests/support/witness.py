"""Who stands beside a validator and writes down, in order, what it logged, remembered, signed and said."""

import threading
from collections.abc import Sequence
from typing import Any

from aitbc.adapters.agreement.memory import MemoryGuard, MemoryLog
from aitbc.core.codec.wire import unpack
from aitbc.core.consensus.engine import SignStatements, Statement, StatementsSigned
from aitbc.core.consensus.simplex.messages import Status
from aitbc.core.consensus.simplex.wal import (
    MARK_BYTES,
    MAX_FRAME_BYTES,
    BlockRecord,
    CandidateRecord,
    LogRecord,
    VoteRecord,
)
from aitbc.core.replica import Log, Tell
from aitbc.core.types.blocks import Candidate
from support.people import VALIDATOR

CHAIN = bytes(range(32))
A, B = b"a" * 32, b"b" * 32
NEVER_S = 30.0


def vote(slot: int) -> VoteRecord:
    return VoteRecord("notar", 0, slot, A)


def say(slot: int, candidate: bytes = A) -> Statement:
    """A notarization, whose digest and signature tell the slot."""
    digest = slot.to_bytes(8, "big") + candidate[8:]
    return Statement(kind="notar", epoch=0, slot=slot, candidate=candidate, digest=digest)


def log(*slots: int) -> Log:
    return Log([vote(slot) for slot in slots])


def log_block(slot: int, *, size: int = 700) -> Log:
    """With the candidate of a slot its block, and a vote for it."""
    name = bytes([slot]) * 32
    candidate = Candidate(0, slot, 0, A, name)
    return Log([BlockRecord(name, bytes([slot]) * size), CandidateRecord(candidate), vote(slot)])


def sign(*slots: int) -> SignStatements:
    return SignStatements([say(slot) for slot in slots])


def tell(what: str) -> Tell:
    """The peer is the name of what is told."""
    return Tell(Status(0, 0, 0), what, None)


def slots_of(signed: StatementsSigned) -> list[int]:
    return [int.from_bytes(signature[:8], "big") for signature in signed.signatures]


class Diary(list[str]):
    def note(self, what: str, slots: Sequence[int]) -> None:
        self.append(" ".join([what, *map(str, slots)]))


def records_in(frame: bytes) -> list[LogRecord]:
    return unpack(frame[MARK_BYTES + 8 :], list[LogRecord], limit=MAX_FRAME_BYTES)


class WatchedLog(MemoryLog):
    """Each append waits for its turn; `error` is raised instead of it."""

    def __init__(self, diary: Diary, *, turns: threading.Semaphore | None = None) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self._diary, self._turns = diary, turns

    def append(self, frame: bytes) -> None:
        if self._turns is not None:
            assert self._turns.acquire(timeout=NEVER_S)
        if self.error is not None:
            raise self.error
        super().append(frame)
        found = [record.slot for record in records_in(frame) if isinstance(record, VoteRecord)]
        self._diary.note("log", found)


class WatchedGuard(MemoryGuard):
    def __init__(self, diary: Diary) -> None:
        super().__init__(CHAIN)
        self.error: BaseException | None = None
        self._diary = diary

    def admit(self, statements: Sequence[Statement]) -> None:
        if self.error is not None:
            raise self.error
        super().admit(statements)
        self._diary.note("guard", [statement.slot for statement in statements])


class WatchedSigner:
    """A key whose signature is the digest, twice."""

    auth_key, address = VALIDATOR.auth_key, VALIDATOR.address

    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    def sign(self, digest: bytes) -> bytes:
        self._diary.note("sign", [int.from_bytes(digest[:8], "big")])
        return digest * 2


class WatchedNetwork:
    """Tells nobody; what the runtime asks of a network is here."""

    checking = 0

    def __init__(self, diary: Diary) -> None:
        self._diary = diary
        self.catching_up = self
        self.is_fetching = False

    def tell(self, _message: Any, peer: str, _block: Any) -> None:
        self._diary.append(f"tell {peer}")

    def fetch(self, name: bytes, _above: int) -> None:
        self._diary.append(f"fetch {name.decode()}")
