"""What an agreement engine hears and what it asks for; the host owns blocks, disk, keys and time.

Everything engine-specific leaves through two verbs: `SetHead` (the host may switch branch, never below what is
finalised) and `Finalize` (monotonic).
"""

from typing import Protocol

import msgspec

from aitbc.core.types.blocks import Certificate


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """Something to sign; the host persists it before a signature leaves the machine."""

    kind: str
    epoch: int
    slot: int
    candidate: bytes
    digest: bytes


# Events, in the past tense.


class TimerFired(msgspec.Struct, frozen=True, tag=True):
    timer: str


class TransactionsArrived(msgspec.Struct, frozen=True, tag=True):
    """A block could be filled now."""


class BlockBuilt(msgspec.Struct, frozen=True, tag=True):
    hash: bytes
    height: int


class StatementsSigned(msgspec.Struct, frozen=True, tag=True):
    signatures: list[bytes]
    """In the order of the statements that were asked for."""


class BlockCommitted(msgspec.Struct, frozen=True, tag=True):
    """On disk, whole."""

    hash: bytes
    height: int
    timestamp_ms: int


EngineEvent = TimerFired | TransactionsArrived | BlockBuilt | StatementsSigned | BlockCommitted

# Effects, in the imperative.


class SetTimer(msgspec.Struct, frozen=True, tag=True):
    """Replaces the timer of the same name."""

    timer: str
    at_ms: int


class BuildBlock(msgspec.Struct, frozen=True, tag=True):
    timestamp_ms: int


class SignStatements(msgspec.Struct, frozen=True, tag=True):
    statements: list[Statement]


class SetHead(msgspec.Struct, frozen=True, tag=True):
    hash: bytes


class Finalize(msgspec.Struct, frozen=True, tag=True):
    hash: bytes
    certificate: Certificate


EngineEffect = SetTimer | BuildBlock | SignStatements | SetHead | Finalize


class ConsensusEngine(Protocol):
    """Pure: `now_ms` arrives as an argument, answers leave as effects, handlers never nest."""

    def start(self, now_ms: int) -> list[EngineEffect]: ...

    def on(self, now_ms: int, event: EngineEvent) -> list[EngineEffect]: ...
