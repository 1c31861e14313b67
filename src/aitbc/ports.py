"""Every hole in the wall on one page: what the core and the programs ask of the world, and nothing else.

A port is a protocol with at least two adapters (one real, one in memory) that pass the same behavioural suite
in `tests/contracts`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from aitbc.core.consensus.engine import Statement
from aitbc.core.consensus.simplex.wal import VoteRecord
from aitbc.core.peer.links import Close, Dial, LinkEvent, Send, Throttle
from aitbc.core.types.blocks import Certificate, CommittedBlock, Header, Validator
from aitbc.core.types.records import Commit, PaidReceipt, StoredChain
from aitbc.core.types.transactions import Outcome, Transaction


class Clock(Protocol):
    """Where time comes from. The core never asks; a host passes what this returns as `now_ms`."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...


class Signer(Protocol):
    """Holds one private key and signs digests with it; the key never leaves."""

    @property
    def auth_key(self) -> bytes:
        """Scheme byte and public key, as in docs/spec/keys.md."""
        ...

    @property
    def address(self) -> str: ...

    def sign(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest."""
        ...


class TransactionSigner(Protocol):
    """Signs transactions of one account. It sees the whole transaction, so it can refuse one; a digest says nothing."""

    @property
    def auth_key(self) -> bytes: ...

    @property
    def address(self) -> str: ...

    def sign_transaction(self, tx: Transaction, genesis_hash: bytes) -> bytes:
        """The signature of a transaction without one; may wait for another process."""
        ...


class ConsensusLog(Protocol):
    """The write-ahead log of a validator, as bytes; the form is `core.consensus.simplex.wal`'s. On return from every
    change it survives `kill -9` and a power cut."""

    def read(self) -> bytes:
        """All of it, torn tail included; a new log is empty."""
        ...

    def append(self, frame: bytes) -> None: ...

    def cut(self, length: int) -> None:
        """Keep so many bytes from the beginning."""
        ...

    def replace(self, data: bytes) -> None:
        """All or nothing."""
        ...

    def close(self) -> None: ...


class SignerGuard(Protocol):
    """A validator's memory of what it signed, apart from everything else."""

    @property
    def signed(self) -> list[VoteRecord]:
        """What an engine begins from, beside the log's records."""
        ...

    @property
    def vote_after_ms(self) -> int:
        """Votes only in epochs whose base block is newer; 0: in all."""
        ...

    @property
    def floor(self) -> tuple[int, int]:
        """Epoch and slot; at or below it nothing is signed."""
        ...

    def admit(self, statements: Sequence[Statement]) -> None:
        """On return these may be signed, whatever happens. Raises GuardRefuses when one contradicts an earlier one."""
        ...

    def raise_floor(self, epoch: int, slot: int) -> None:
        """Nothing at or below this slot, whose block is on disk, is signed again."""
        ...

    def begin_anew(self, vote_after_ms: int) -> None:
        """The log is damaged: from now on vote in epochs only whose base block is newer than this."""
        ...

    def close(self) -> None: ...


UNDO_DEPTH = 64
"""Blocks that a store can take back: the deepest reorganisation that a chain with depth finality allows."""

ReceiptIndex = Literal["provider", "client", "job"]


class StoredTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction of a committed block, with where it is and what it did."""

    height: int
    position: int
    timestamp_ms: int
    """Of its block."""
    tx: Transaction
    outcome: Outcome


class StoredReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """A paid receipt with where it was paid."""

    height: int
    place: int
    """Among the receipts of its transaction, from 0."""
    timestamp_ms: int
    tx_id: bytes
    receipt: PaidReceipt


class StoredHead(msgspec.Struct, frozen=True, kw_only=True):
    """A committed block without its transactions."""

    header: Header
    hash: bytes
    certificate: Certificate | None


class Store(Protocol):
    """Blocks, state and history on disk. A block with all its changes is there whole or not at all.

    Writes come from one thread at a time, reads from any; a reader sees whole blocks. Whatever is read is checked
    against its hash; every read and write raises StorageError when what is stored is damaged or cannot be reached, and
    the next call tries again. An address, id or label that cannot be there is not there: no question is an error.

    Cursors are the place of the last item of the page before; pages go from new to old, hold 1 … `limit` items, and
    cost as much as their items, however long the history is. No item comes twice or is left out while blocks are added.
    """

    def load(self, height: int | None = None) -> StoredChain | None:
        """The stored chain, or None for an empty store; with a `height`, as it was when that block was the head, as far
        as `rewind` could go. The state is checked by whoever compares its root with the head's."""
        ...

    def commit(self, *commits: Commit) -> None:
        """Write a block with its state changes, or several that became final together, in one transaction; on return
        they survive `kill -9` and a power cut.

        The first is a child of the head, each other one of the one before. If the last is the head already nothing
        happens, because after an error it may be there or not: a lost connection does not say.
        """
        ...

    def rewind(self, height: int) -> None:
        """Take back the blocks above `height`, in one transaction: blocks, state, history and indexes are as they
        were when it was the head. At most `UNDO_DEPTH` blocks below the highest block that ever was the head, none
        that another release wrote; more, or a height below 0 or above the head, is refused with StorageError and
        changes nothing."""
        ...

    def switch(self, height: int, *commits: Commit) -> None:
        """Take back the blocks above `height` and write these in their place, all in one transaction: what both
        `rewind` and `commit` say holds. If the last is the head already nothing happens."""
        ...

    def keep_final(self, link: bytes) -> None:
        """What agreement begins from after a restart, where finality is by depth; replaces what was kept."""
        ...

    def load_final(self) -> bytes:
        """What was kept last; empty when nothing was."""
        ...

    def block_by_height(self, height: int) -> CommittedBlock | None: ...

    def block_by_hash(self, block_hash: bytes) -> CommittedBlock | None: ...

    def head_at(self, height: int) -> StoredHead | None:
        """A block's header and certificate, however many transactions it holds."""
        ...

    def head_of(self, block_hash: bytes) -> StoredHead | None: ...

    def validators(self, validators_hash: bytes) -> list[Validator] | None:
        """A validator set that some block has begun, by the `next_validators_hash` of that block's header; it stays
        when the block is taken back."""
        ...

    def transactions_of(self, height: int, *, start: int, limit: int) -> list[StoredTransaction]:
        """A block's transactions from position `start` on; none of a block that is not there."""
        ...

    def find_transaction(self, tx_id: bytes) -> tuple[int, int] | None:
        """Where a committed transaction is: (height, position in the block)."""
        ...

    def transaction(self, tx_id: bytes) -> StoredTransaction | None:
        """A committed transaction without reading the rest of its block."""
        ...

    def account_history(
        self, address: str, *, before: tuple[int, int] | None, limit: int
    ) -> list[StoredTransaction]:
        """Transactions that an account sent or an event of which names it, the newest first.
        Cursor: (height, position)."""
        ...

    def receipts(
        self, by: ReceiptIndex, value: str, *, before: tuple[int, int, int] | None, limit: int
    ) -> list[StoredReceipt]:
        """Paid receipts of a provider, a client or a job, the newest first; also those that have left the state.
        Cursor: (height, position of the transaction, place within it)."""
        ...

    def receipt(self, receipt_id: str) -> StoredReceipt | None:
        """A paid receipt and the transaction that paid it; the newest, should one ever be paid twice."""
        ...

    def history_nodes(self, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """Nodes of the mountain range over the headers before the head, by (level, position); StorageError for a place
        that no node is at."""
        ...

    def save_waiting(self, transactions: Sequence[bytes]) -> None:
        """Keep the mempool's transactions over a restart (seed 000 §12); replaces what was kept."""
        ...

    def load_waiting(self) -> list[bytes]:
        """What was saved last, in that order; it stays until it is replaced."""
        ...

    def block_hashes(self, start: int, stop: int) -> list[bytes]:
        """Hashes of the headers at heights start … stop − 1, as far as there are blocks."""
        ...

    def close(self) -> None:
        """Let go of files and connections; what was committed stays."""
        ...


class StorageError(Exception):
    """A database that cannot be used: another chain's, an unknown schema's, a damaged, full or silent one. The message
    says what to do."""


class Transport(Protocol):
    """Encrypted connections to other nodes. Everything a stranger can do ends in an event with a reason, within a
    time and a size that have names.

    Methods only ask and never wait: what becomes of it is heard later, from the same thread, never from inside a call.
    Each dial ends in one `Linked` or `DialFailed`, each link in one `Unlinked`; nothing comes after it. Links and dials
    that are over may be named without effect. The bytes of a link come in order and whole, an urgent frame before
    bulk ones that have not begun.
    """

    async def start(self, hear: Callable[[LinkEvent], None], admits: Callable[[str], bool]) -> str:
        """Begin to listen, if this node does; the address, empty if not. `admits` says whether a connection from
        an address is worth a handshake."""
        ...

    def dial(self, effect: Dial) -> None: ...

    def send(self, effect: Send) -> None:
        """Queue a frame. A queue that is full or does not move is heard as `Clogged`, once; its frames are lost."""
        ...

    def close(self, effect: Close) -> None:
        """End a link after the last words, or after a second."""
        ...

    def throttle(self, effect: Throttle) -> None:
        """Read nothing from a link for a while; the other side feels it as backpressure."""
        ...

    async def stop(self) -> None:
        """End everything within two seconds; nothing is heard afterwards."""
        ...


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can serve."""

    model: str
    kind: str
    """`chat`, `image` or `embedding`."""
    digest: str
    """`sha256:<hex>` of the weights file."""
    limits: dict[str, int]
    together: int = 1
    """Requests that advance together, step by step; 1 for an engine that does one after the other."""
    memory_bytes: int = 0
    """What the loaded model takes on its device; 0: not known."""


class EngineOutput(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of an engine delivered."""

    data: bytes
    media_type: str
    counts: dict[str, int]
    """What was computed, for the unit formula: chat `in`, `out`; image `steps`, `native_width`, `native_height`,
    `width`, `height`; embedding `in`, `inputs`."""
    transcript: list[bytes]
    """32-byte hashes of the intermediate results, in order."""
    notes: dict[str, str]
    """What the reader of the receipt must know, such as a declared upscale."""
    partial: bool = False
    """The run was cancelled and this is what it had: only text that was emitted, and its counts."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a run will take, said before it begins; computing it is cheap and never loads a model."""

    counts: dict[str, int]
    """The most that the run will count, by the names of `EngineOutput.counts`."""
    memory_bytes: int
    """The most that the run adds to a loaded model, on the device that it runs on."""


ENGINE_REASONS = ("bad_request", "out_of_memory", "failed", "cancelled")


class EngineError(Exception):
    """A run that ended without output; `reason` is one of `ENGINE_REASONS`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Engine(Protocol):
    """Computes. Runs inside the provider's child process: synchronous, called from one thread; same request, same
    bytes.

    `run` asks `cancelled` before it begins and at least every half second, and ends as `cancelled` when it says yes.
    After `load` a run reads no files. Every engine passes `tests/contracts/test_engine.py`.
    """

    name: str

    def models(self) -> list[ModelCard]: ...

    def load(self, model: str) -> None: ...

    def run(
        self,
        model: str,
        request: Mapping[str, Any],
        emit: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool],
    ) -> EngineOutput: ...


@runtime_checkable
class Estimating(Protocol):
    """An engine that says what a run will take. A provider admits by memory only what it can ask about."""

    def estimate(self, model: str, request: Mapping[str, Any]) -> Estimate:
        """Refuses what `run` would refuse, by the same names."""
        ...


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """How far a text is what a model tells for a request, token by token."""

    tokens: int
    differing: int
    """Tokens that the seeded sampler does not choose after the text before them."""


@runtime_checkable
class Replaying(Protocol):
    """An engine that can follow a text which another machine says it has told."""

    def replay(self, model: str, request: Mapping[str, Any], data: bytes) -> Replay:
        """Every token is chosen after the claimed text before it, so that one that a rounding has turned is one."""
        ...


@runtime_checkable
class OwnMemory(Protocol):
    """An engine whose models do not live in the machine's memory."""

    def free_bytes(self, model: str) -> int:
        """On the device of this model, now."""
        ...


class StepRun(Protocol):
    """A request under way in an engine that works in steps."""

    @property
    def shape(self) -> str:
        """Runs of one model and one shape may advance together."""
        ...

    @property
    def over(self) -> bool:
        """Nothing is left to advance: `finish` says how it ended."""
        ...

    @property
    def position(self) -> str:
        """How far it is, for people: `3 of 20 steps`."""
        ...

    events: list[dict[str, Any]]
    """What has happened and was not told yet, as `Engine.run` would emit it; whoever drives the run takes them out."""


@runtime_checkable
class Stepwise(Protocol):
    """An engine whose requests advance together, and may join and leave between steps.

    A request gives the same bytes whoever shares its steps, unless the engine's documentation says how far they differ.
    """

    def begin(self, model: str, request: Mapping[str, Any]) -> StepRun: ...

    def advance(self, runs: Sequence[StepRun]) -> None:
        """One step of each, all of one shape, at most `ModelCard.together`, within a second where the engine can; an
        error leaves all as they were."""
        ...

    def finish(self, run: StepRun) -> EngineOutput:
        """Of a run that is over; raises EngineError when it failed."""
        ...

    def stop(self, run: StepRun) -> EngineOutput | None:
        """Let go of a run that is cancelled. What it has told so far, if that is worth something; None otherwise."""
        ...
