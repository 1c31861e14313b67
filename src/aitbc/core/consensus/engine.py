"""What an agreement engine hears and what it asks for; the host owns blocks, disk, keys, peers and time.

Everything engine-specific leaves through two verbs: `SetHead` (the host may switch branch, never below what is
finalised) and `Finalize` (monotonic). The host's side of the contract stands on each event and effect.
"""

from typing import Protocol

import msgspec

from aitbc.core.consensus.epoch import Anchor, Epoch
from aitbc.core.consensus.simplex.messages import Message, Verified
from aitbc.core.consensus.simplex.wal import LogRecord
from aitbc.core.types.blocks import Candidate, Certificate
from aitbc.core.types.reasons import Reason


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """Something to sign. The host's signer guard is asked first, and what it notes is safe on disk before a signature
    leaves the machine."""

    kind: str
    """`candidate`, `notar`, `skip` or `final`."""
    epoch: int
    slot: int
    candidate: bytes
    """Its id, 32 bytes; zeros for a skip."""
    digest: bytes


class SignedStatement(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    candidate: bytes
    signature: bytes


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Two statements that one validator must not both sign, as the transaction EVIDENCE takes them:
    docs/spec/evidence.md"""

    validator: str
    epoch: int
    slot: int
    first: SignedStatement
    second: SignedStatement


# Events, in the past tense.


class TimerFired(msgspec.Struct, frozen=True, tag=True):
    timer: str


class TransactionsArrived(msgspec.Struct, frozen=True, tag=True):
    """A block could be filled now."""


class BlockBuilt(msgspec.Struct, frozen=True, tag=True):
    """Answers `BuildBlock`. The block counts as executed; the host holds it."""

    parent: bytes
    hash: bytes
    height: int
    timestamp_ms: int


class BlockExecuted(msgspec.Struct, frozen=True, tag=True):
    """Answers `ExecuteBlock`, echoing both of its fields, as soon as the block and its ancestors are there."""

    hash: bytes
    asked_parent: bytes | None
    parent: bytes
    """As its header says."""
    height: int
    timestamp_ms: int
    reason: Reason | None
    """Why it is no valid child of that parent; None: it is one."""


class MessageArrived(msgspec.Struct, frozen=True, tag=True):
    """A message that passed its check (`simplex.messages`), which the host may do on any thread."""

    peer: str
    """The host's name for whoever sent it; a validator's link is named by its address."""
    message: Verified


class StatementsSigned(msgspec.Struct, frozen=True, tag=True):
    """Answers the oldest `SignStatements` that is not answered yet."""

    signatures: list[bytes]
    """In the order of the statements that were asked for."""


class BlockCommitted(msgspec.Struct, frozen=True, tag=True):
    """Answers `Finalize`: on disk, whole, and its state is readable."""

    hash: bytes
    height: int
    timestamp_ms: int


class EpochBegan(msgspec.Struct, frozen=True, tag=True):
    """Follows the `BlockCommitted` of an epoch's last block; also tells of blocks that the host has written without
    being asked, because the node was far behind."""

    epoch: Epoch
    base: Anchor
    """The newest block on disk: slot 0 of the new epoch, or, with a certificate, a later one; of the running epoch then
    too."""


EngineEvent = (
    TimerFired
    | TransactionsArrived
    | BlockBuilt
    | BlockExecuted
    | MessageArrived
    | StatementsSigned
    | BlockCommitted
    | EpochBegan
)

# Effects, in the imperative.


class SetTimer(msgspec.Struct, frozen=True, tag=True):
    """Replaces the timer of the same name."""

    timer: str
    at_ms: int


class BuildBlock(msgspec.Struct, frozen=True, tag=True):
    """Make a block from what waits. It may be empty, and must come: an engine that leads waits for it."""

    parent: bytes
    timestamp_ms: int


class ExecuteBlock(msgspec.Struct, frozen=True, tag=True):
    """Say whether a block is a valid child of a parent that was executed before; fetch it if need be, from any peer,
    as long as it takes (0.5 s, then × 1.5 up to 2 s between attempts: with 30 s a network that is whole again would
    not agree within ten)."""

    hash: bytes
    parent: bytes | None
    """None: a quorum has vouched for the block, so its ancestors are fetched and executed too."""


class SignStatements(msgspec.Struct, frozen=True, tag=True):
    statements: list[Statement]


class Persist(msgspec.Struct, frozen=True, tag=True):
    """Append one batch to the log. It is first among the effects of its step, and safe on disk before any other of
    them is performed; with a CandidateRecord the block that it names is safe as well."""

    records: list[LogRecord]


class Send(msgspec.Struct, frozen=True, tag=True):
    """To one peer; dropped when there is no link to it."""

    peer: str
    message: Message


class Broadcast(msgspec.Struct, frozen=True, tag=True):
    """To all other validators. Proposals travel together with their block where the host can."""

    message: Message


class SendEpochEnd(msgspec.Struct, frozen=True, tag=True):
    """Send a peer the final certificate of the last block of an epoch that is over, if the store has it."""

    peer: str
    epoch: int


class SetHead(msgspec.Struct, frozen=True, tag=True):
    hash: bytes


class Finalize(msgspec.Struct, frozen=True, tag=True):
    """Commit this block and its uncommitted ancestors, the oldest first, then answer with its `BlockCommitted`."""

    hash: bytes
    certificate: Certificate
    """Of this block; for the ancestors it is the proof that a descendant is final."""


class ReportFault(msgspec.Struct, frozen=True, tag=True):
    """Once for each validator and epoch."""

    fault: Fault


class ReportRefused(msgspec.Struct, frozen=True, tag=True):
    """A leader's candidate is not valid: the host, which has the block, knows whether that can be proved. Once for each
    slot."""

    validator: str
    candidate: Candidate
    signature: bytes
    """The leader's, over its candidate."""


class PenalisePeer(msgspec.Struct, frozen=True, tag=True):
    """Of engines whose peers are links. Under Simplex nobody knows whose link a validator's is, on purpose: who knows
    could flood a leader in its slot. There evidence punishes, and the record tells the operator."""

    peer: str
    reason: Reason


EngineEffect = (
    SetTimer
    | BuildBlock
    | ExecuteBlock
    | SignStatements
    | Persist
    | Send
    | Broadcast
    | SendEpochEnd
    | SetHead
    | Finalize
    | ReportFault
    | ReportRefused
)


class ConsensusEngine(Protocol):
    """Pure: `now_ms` arrives as an argument, answers leave as effects, handlers never nest."""

    def start(self, now_ms: int) -> list[EngineEffect]: ...

    def on(self, now_ms: int, event: EngineEvent) -> list[EngineEffect]: ...

    def keeps(self, message: Verified) -> bool:
        """Is a message of use now?"""
        ...

    @property
    def is_settled(self) -> bool:
        """May the log be rewritten now? Not while a final block is on its way to the disk."""
        ...

    def live_records(self) -> list[LogRecord]:
        """What a log that is rewritten now must hold."""
        ...
