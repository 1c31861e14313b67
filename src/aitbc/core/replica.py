"""The whole node as one step: an input in, effects out. DESIGN §2 "The one contract".

Inputs are facts, effects are requests. The host performs persists before sends of the same step, feeds results back,
never calls in from two threads and never nests a call.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import assert_never

import msgspec

from aitbc.core.chain.bad_block import BlockFault
from aitbc.core.chain.builder import BuiltBlock, InvalidTransaction, WrongBody
from aitbc.core.chain.mempool import NOBODY
from aitbc.core.codec.wire import pack
from aitbc.core.consensus.engine import (
    BlockBuilt,
    BlockCommitted,
    Broadcast,
    BuildBlock,
    ConsensusEngine,
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
    StatementsSigned,
    TimerFired,
    TransactionsArrived,
)
from aitbc.core.consensus.epoch import Epoch, anchor_of
from aitbc.core.consensus.simplex.messages import Message, Proposal, Verified, VerifiedProposal
from aitbc.core.consensus.simplex.wal import BlockRecord, CandidateRecord, LogRecord
from aitbc.core.crypto.schemes import verify
from aitbc.core.ledger.context import BlockContext, Verifier
from aitbc.core.ledger.elector import leaders_of
from aitbc.core.ledger.execution import execute
from aitbc.core.ledger.state import Overlay, State
from aitbc.core.ledger.validators import validators_of
from aitbc.core.pool import Dropped, Pool
from aitbc.core.types.blocks import (
    MAX_BLOCK_BYTES,
    MAX_BLOCK_TXS,
    Block,
    Certificate,
    CommittedBlock,
    Header,
)
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import VerifiedTransaction
from aitbc.core.undecided import Undecided

BLOCK_OVERHEAD = 4_096
"""Bytes of a block that are not transactions."""

# Inputs. TimerFired, StatementsSigned: as the engine hears them.


class TransactionsSubmitted(msgspec.Struct, frozen=True):
    txs: list[VerifiedTransaction]
    ticket: int
    """The host's name for whoever waits for the answer; 0: nobody does."""


class Heard(msgspec.Struct, frozen=True):
    """A peer's message about agreement, verified, with the block that came beside a proposal."""

    peer: str
    message: Verified
    block: Block | None = None
    """It has the hash that the proposal names."""


class BlocksCame(msgspec.Struct, frozen=True):
    """Blocks by hash: the answer to a `Fetch`."""

    blocks: list[tuple[bytes, Block]]


class Built(msgspec.Struct, frozen=True):
    """Answers `Execute`."""

    built: BuiltBlock


class ParentLost(msgspec.Struct, frozen=True):
    """Answers `Execute`: the executor has forgotten the block that was to be built on."""

    parent: bytes


class Checked(msgspec.Struct, frozen=True):
    """Answers `Check`."""

    hash: bytes
    built: BuiltBlock | None
    rejection: Rejected | None = None
    """Why it is no valid child of its parent."""


class Committed(msgspec.Struct, frozen=True):
    """Answers `Commit`: the blocks are on disk and their changes are published."""

    blocks: list[CommittedBlock]


class Synced(msgspec.Struct, frozen=True):
    """The host has executed and written blocks that a quorum made final while this node was far behind; they follow the
    head, the oldest first, and the last has a certificate of its own. What was under way before is void."""

    blocks: list[tuple[BuiltBlock, CommittedBlock]]


class Abandoned(msgspec.Struct, frozen=True):
    """The head went back over blocks with these transactions, the oldest first: they wait again."""

    txs: list[VerifiedTransaction]
    head: Header
    head_hash: bytes
    """The head now."""


Input = (
    TransactionsSubmitted
    | TimerFired
    | StatementsSigned
    | Heard
    | BlocksCame
    | Built
    | ParentLost
    | Checked
    | Committed
    | Synced
    | Abandoned
)

# Effects. SetTimer, SignStatements, SendEpochEnd, ReportFault: as the engine asks.


class Log(msgspec.Struct, frozen=True):
    """Append one batch to the log; it is safe on disk before any later effect is performed."""

    records: list[LogRecord]


class Tell(msgspec.Struct, frozen=True):
    """A message about agreement, for one peer or, without one, for everybody."""

    message: Message
    peer: str | None
    block: Block | None
    """Beside a proposal."""


class Relay(msgspec.Struct, frozen=True):
    """Transactions wait here now: peers may like to know."""

    txs: list[VerifiedTransaction]


class Fetch(msgspec.Struct, frozen=True):
    """Ask some peer, another one each time, for a block and its ancestors above a height; what comes is fed back."""

    hash: bytes
    above: int


class Execute(msgspec.Struct, frozen=True):
    """Build a block of these transactions."""

    parent: bytes
    txs: list[VerifiedTransaction]
    timestamp_ms: int


class Check(msgspec.Struct, frozen=True):
    """Execute another node's block on its parent."""

    hash: bytes
    block: Block


class Commit(msgspec.Struct, frozen=True):
    """Write these blocks together, the oldest first, then publish their changes, then feed `Committed` back."""

    blocks: list[BuiltBlock]
    certificate: Certificate
    """Of the last."""


class Answer(msgspec.Struct, frozen=True):
    """What became of submitted transactions, in their order; no rejection means that one waits."""

    ticket: int
    verdicts: list[Rejected | None]
    known: list[int] = []
    """Places of those that waited before they were submitted."""


class Announce(msgspec.Struct, frozen=True):
    """A block is final; subscribers and waiting requests may be told."""

    block: CommittedBlock


class Drop(msgspec.Struct, frozen=True):
    """A waiting transaction will not be in a block."""

    tx: VerifiedTransaction
    rejection: Rejected


class ReportBlock(msgspec.Struct, frozen=True):
    """A leader can be punished for its block."""

    fault: BlockFault


Effect = (
    SetTimer
    | SignStatements
    | SendEpochEnd
    | ReportFault
    | ReportBlock
    | Log
    | Tell
    | Relay
    | Fetch
    | Execute
    | Check
    | Commit
    | Answer
    | Announce
    | Drop
)

FETCH = "fetch:"
"""Timers of blocks that were asked for, with their hash in hexadecimal."""
FETCH_MS, FETCH_MAX_MS = 500, 2_000
"""docs/spec/simplex.md, rule 7: half a second, then half as long again each time, up to two seconds."""
MAX_SUSPECTS = 20_000
MAX_INVALID = 64
"""Blocks that wait for what agreement says of them: a few are undecided at a time."""


class Replica:
    """A node without hands: mempool, undecided blocks and agreement over a read-only view of the head's state."""

    def __init__(
        self,
        *,
        state: State,
        engine: ConsensusEngine,
        genesis_hash: bytes,
        head: Header,
        head_hash: bytes,
        epoch_length: int,
        verifier: Verifier = verify,
        bodies: Sequence[tuple[bytes, Block]] = (),
    ) -> None:
        """`bodies`: blocks that the log holds."""
        self.engine = engine
        self._pool = Pool(
            lambda: state,
            genesis_hash=genesis_hash,
            head=head,
            head_hash=head_hash,
            epoch_length=epoch_length,
            verifier=verifier,
        )
        self.mempool = self._pool.mempool
        self._state = state
        self._genesis_hash = genesis_hash
        self._head = head
        self._head_hash = head_hash
        self._epoch_length = epoch_length
        self._undecided = Undecided(head, head_hash)
        for block_hash, block in bodies:
            self._undecided.keep(block_hash, block)
        self._tip = head_hash
        """The block that the engine builds on next."""
        self._final = head_hash
        """The newest block whose commit was asked for."""
        self._owed: deque[Finalize] = deque()
        """Final, and to be executed again before they can be written."""
        self._building: set[bytes] = set()
        """Ids of transactions in the block that is being built."""
        self._ahead: dict[bytes, Mapping[str, int]] = {}
        """Undecided block → sender → its transactions in the blocks up to it."""
        self._fetching: dict[bytes, int] = {}
        """Hash → milliseconds until somebody else is asked."""
        self._suspects: dict[bytes, VerifiedTransaction] = {}
        """Refused on an undecided block: judged again on the next final one."""
        self._invalid: dict[bytes, int] = {}
        """Block → the place of a transaction in it that no state makes valid."""

    def start(self, now_ms: int) -> list[Effect]:
        return self._perform(now_ms, self.engine.start(now_ms))

    def step(self, now_ms: int, message: Input) -> list[Effect]:
        match message:
            case TransactionsSubmitted():
                return self._submit(now_ms, message)
            case TimerFired():
                return self._timer_fired(now_ms, message)
            case StatementsSigned():
                return self._tell_engine(now_ms, message)
            case Heard():
                return self._heard(now_ms, message)
            case BlocksCame():
                return self._take_blocks(now_ms, message.blocks)
            case Built():
                return self._built_block(now_ms, message.built)
            case ParentLost():
                return self._parent_lost(now_ms, message.parent)
            case Checked():
                return self._checked(now_ms, message)
            case Committed():
                return self._committed(now_ms, message.blocks)
            case Synced():
                return self._synced(now_ms, message.blocks)
            case Abandoned():
                return self._abandoned(now_ms, message)
            case _:
                assert_never(message)

    def has_work(self) -> bool:
        """Does a transaction wait that the next block could hold?"""
        return self.mempool.has_ready(self._ahead_of(self._tip))

    def body(self, block_hash: bytes) -> Block | None:
        """An undecided block, for a peer that asks."""
        return self._undecided.body(block_hash)

    @property
    def is_settled(self) -> bool:
        """May the log be rewritten now? Not while a final block is on its way to the disk."""
        return self.engine.is_settled and not self._owed

    def wids(self, block_hash: bytes) -> list[bytes] | None:
        """Of the transactions of an undecided block that was executed."""
        built = self._undecided.built(block_hash)
        return None if built is None else [tx.wid for tx in built.included]

    def live_records(self) -> list[LogRecord]:
        """What a log that is rewritten now must hold, with the blocks of its candidates."""
        records: list[LogRecord] = []
        seen: set[bytes] = set()
        for record in self.engine.live_records():
            if isinstance(record, CandidateRecord):
                records += self._block_record(record.candidate.block_hash, seen)
            records.append(record)
        return records

    def _submit(self, now_ms: int, message: TransactionsSubmitted) -> list[Effect]:
        came = self._pool.take_in(now_ms, message.txs)
        answer = Answer(message.ticket, came.verdicts, came.known)
        if not came.taken:
            return [answer]
        wake = self._tell_engine(now_ms, TransactionsArrived())
        return [*_drops(came.pushed_out), answer, Relay(came.taken), *wake]

    def context(self, now_ms: int) -> BlockContext:
        """Of the block that would be built now."""
        return self._pool.context(now_ms)

    # Agreement

    def _tell_engine(self, now_ms: int, event: EngineEvent) -> list[Effect]:
        return self._perform(now_ms, self.engine.on(now_ms, event))

    def _timer_fired(self, now_ms: int, message: TimerFired) -> list[Effect]:
        if not message.timer.startswith(FETCH):
            return self._tell_engine(now_ms, message)
        return self._fetch(now_ms, bytes.fromhex(message.timer.removeprefix(FETCH)))

    def _heard(self, now_ms: int, message: Heard) -> list[Effect]:
        """A body is kept before the engine asks for it, if the proposal is of use or somebody waits for the block."""
        proposal = message.message
        effects: list[Effect] = []
        if isinstance(proposal, VerifiedProposal) and message.block is not None:
            name = proposal.candidate.block_hash
            if self.engine.keeps(proposal) or self._undecided.is_wanted(name):
                self._undecided.keep(name, message.block)
        effects += self._tell_engine(now_ms, MessageArrived(message.peer, message.message))
        return effects + self._go_on(now_ms)

    def _take_blocks(self, now_ms: int, blocks: list[tuple[bytes, Block]]) -> list[Effect]:
        """Only what was asked for, and what it stands on."""
        wanted = next((name for name, _ in blocks if self._undecided.is_wanted(name)), None)
        for name, block in blocks:
            if name == wanted:
                self._undecided.keep(name, block)
                self._fetching.pop(name, None)
                wanted = block.header.parent
        return self._go_on(now_ms)

    def _go_on(self, now_ms: int) -> list[Effect]:
        """Whatever has become possible with undecided blocks."""
        effects = self._pay_owed()
        work = self._undecided.work()
        effects += [Check(name, block) for name, block in work.check]
        for name in work.fetch:
            self._fetching[name] = FETCH_MS
            effects += self._fetch(now_ms, name)
        for verdict in work.verdicts:
            effects += self._tell_engine(now_ms, verdict)
        return effects

    def _fetch(self, now_ms: int, name: bytes) -> list[Effect]:
        wait_ms = self._fetching.get(name)
        if wait_ms is None or not self._undecided.is_wanted(name):
            self._fetching.pop(name, None)
            return []
        self._fetching[name] = min(wait_ms * 3 // 2, FETCH_MAX_MS)
        return [Fetch(name, self._head.height), SetTimer(FETCH + name.hex(), now_ms + wait_ms)]

    def _built_block(self, now_ms: int, built: BuiltBlock) -> list[Effect]:
        self._building = set()
        self._take_in(built)
        header = built.block.header
        drops: list[Effect] = []
        for tx, rejection in built.refused:
            if rejection.reason is Reason.BAD_NONCE:
                continue  # one of its sender's before it was refused: it waits for another
            if header.parent == self._head_hash:
                self.mempool.remove(tx)
                drops.append(Drop(tx, rejection))
            elif len(self._suspects) < MAX_SUSPECTS:
                self._suspects[tx.id] = tx
        drops += _drops(self._pool.trim())
        event = BlockBuilt(header.parent, built.hash, header.height, header.timestamp_ms)
        return drops + self._tell_engine(now_ms, event) + self._go_on(now_ms)

    def _checked(self, now_ms: int, message: Checked) -> list[Effect]:
        if message.built is not None:
            self._take_in(message.built)
        elif message.rejection is not None and message.rejection.reason is Reason.WRONG_PARENT:
            self._undecided.unchecked(message.hash)
        elif isinstance(message.rejection, WrongBody):
            self._undecided.exchanged(message.hash)
        elif message.rejection is not None:
            if isinstance(message.rejection, InvalidTransaction):
                self._note_invalid(message.hash, message.rejection.index)
            self._undecided.refused(message.hash, message.rejection.reason)
        return self._go_on(now_ms)

    def _note_invalid(self, block_hash: bytes, index: int) -> None:
        self._invalid[block_hash] = index
        if len(self._invalid) > MAX_INVALID:
            del self._invalid[next(iter(self._invalid))]

    def _report(self, refused: ReportRefused) -> list[Effect]:
        """With its block, if that holds what can be shown to be invalid."""
        name = refused.candidate.block_hash
        index, block = self._invalid.get(name), self._undecided.body(name)
        if index is None or block is None:
            return []
        fault = BlockFault(
            validator=refused.validator,
            candidate=refused.candidate,
            signature=refused.signature,
            block=block,
            index=index,
        )
        return [ReportBlock(fault)]

    def _take_in(self, built: BuiltBlock) -> None:
        """A block was executed: what it holds waits for its fate."""
        self._undecided.executed(built)
        counts = Counter(self._ahead_of(built.block.header.parent))
        counts.update([tx.tx.sender for tx in built.included])
        self._ahead[built.hash] = counts
        self._hold()

    def _hold(self) -> None:
        held = set(self._building)
        for block in self._undecided.all_built():
            held.update([tx.id for tx in block.included])
        self.mempool.hold(held)

    def _ahead_of(self, block_hash: bytes) -> Mapping[str, int]:
        return self._ahead.get(block_hash, NOBODY)

    def _committed(self, now_ms: int, blocks: list[CommittedBlock]) -> list[Effect]:
        effects: list[Effect] = []
        for block in blocks:
            effects += self._settle(now_ms, block)
        self._count_ahead()
        effects += self._judge_suspects(now_ms)
        head = self._head
        event = BlockCommitted(self._head_hash, head.height, head.timestamp_ms)
        effects += self._tell_engine(now_ms, event)
        if head.height % self._epoch_length == 0:
            effects += self._tell_engine(now_ms, self._epoch_began(blocks[-1].certificate))
        return effects + self._go_on(now_ms)

    def _settle(self, now_ms: int, block: CommittedBlock) -> list[Effect]:
        """One block is the head now."""
        built = self._undecided.built(block.hash)
        assert built is not None, "what was executed is what is committed"
        self._undecided.decided(built)
        return self._follow(now_ms, block, built.included)

    def _follow(
        self, now_ms: int, block: CommittedBlock, included: list[VerifiedTransaction]
    ) -> list[Effect]:
        """The head is this block; what waits is looked at again."""
        self._head, self._head_hash = block.block.header, block.hash
        drops = self._pool.settle(now_ms, self._head, self._head_hash, included)
        return [Announce(block), *_drops(drops)]

    def _count_ahead(self) -> None:
        """Count again what undecided blocks hold above the new head."""
        self._ahead.clear()
        for block in self._undecided.all_built():
            counts = Counter(self._ahead_of(block.block.header.parent))
            counts.update([tx.tx.sender for tx in block.included])
            self._ahead[block.hash] = counts
        self._hold()

    def _judge_suspects(self, now_ms: int) -> list[Effect]:
        """What an undecided block refused is dropped if the head refuses it too."""
        drops: list[Effect] = []
        suspects, self._suspects = self._suspects, {}
        context = self.context(now_ms)
        for tx in suspects.values():
            if self.mempool.get(tx.id) is None or tx.tx.nonce != self._pool.account(tx.tx.sender).nonce + 1:
                continue
            try:
                execute(context, Overlay(self._state), tx)
            except Rejected as rejection:
                self.mempool.remove(tx)
                drops.append(Drop(tx, rejection))
        return drops + _drops(self._pool.trim())

    def _epoch_began(self, certificate: Certificate | None) -> EpochBegan:
        epoch = epoch_after(
            self._state, self._head, genesis_hash=self._genesis_hash, epoch_length=self._epoch_length
        )
        return EpochBegan(epoch, anchor_of(self._head, self._head_hash, certificate, epoch))

    def _synced(self, now_ms: int, blocks: list[tuple[BuiltBlock, CommittedBlock]]) -> list[Effect]:
        effects: list[Effect] = []
        for built, block in blocks:
            assert block.block.header.parent == self._head_hash, "blocks are written one after the other"
            effects += self._follow(now_ms, block, built.included)
        self._start_anew()
        effects += self._judge_suspects(now_ms)
        return effects + self._tell_engine(now_ms, self._epoch_began(blocks[-1][1].certificate))

    def _start_anew(self) -> None:
        """Nothing above the head is known."""
        self._undecided = Undecided(self._head, self._head_hash)
        self._tip = self._final = self._head_hash
        self._owed.clear()
        self._fetching.clear()
        self._count_ahead()

    def _abandoned(self, now_ms: int, message: Abandoned) -> list[Effect]:
        """What can wait again does; the rest is dropped with the reason."""
        self._head, self._head_hash = message.head, message.head_hash
        self._start_anew()
        return _drops(self._pool.reopen(now_ms, self._head, self._head_hash, message.txs))

    def _perform(self, now_ms: int, effects: list[EngineEffect]) -> list[Effect]:
        """Engine effects as the host sees them; what the replica can do itself it does here."""
        result: list[Effect] = []
        asked = False
        for effect in effects:
            match effect:
                case BuildBlock():
                    result.append(self._build(effect))
                case ExecuteBlock():
                    self._undecided.ask(effect)
                    asked = True
                case Persist():
                    result.append(self._log(effect.records))
                case Send():
                    result.append(self._message(effect.message, effect.peer))
                case Broadcast():
                    result.append(self._message(effect.message, None))
                case SetHead():
                    self._tip = effect.hash
                case Finalize() if effect.hash == self._head_hash:  # written before agreement heard of it
                    head = self._head
                    written = BlockCommitted(self._head_hash, head.height, head.timestamp_ms)
                    result += self._tell_engine(now_ms, written)
                case Finalize():
                    self._owed.append(effect)
                    result += self._pay_owed()
                    asked |= bool(self._owed)
                case SetTimer() | SignStatements() | SendEpochEnd() | ReportFault():
                    result.append(effect)
                case ReportRefused():
                    result += self._report(effect)
                case _:
                    assert_never(effect)
        return result + self._go_on(now_ms) if asked else result

    def _pay_owed(self) -> list[Effect]:
        """Have final blocks written; one that the executor has forgotten is executed again first."""
        commits: list[Effect] = []
        while self._owed:
            final = self._owed[0]
            path = self._undecided.path(final.hash, self._final)
            if path is None:
                self._undecided.ask(ExecuteBlock(final.hash, None))
                break
            self._owed.popleft()
            self._final = final.hash
            self._undecided.deciding(path)
            commits.append(Commit(path, final.certificate))
        return commits

    def _parent_lost(self, now_ms: int, parent: bytes) -> list[Effect]:
        """This slot is lost; the next leader may need the block."""
        self._building = set()
        self._undecided.lost(parent)
        self._undecided.ask(ExecuteBlock(parent, None))
        self._hold()
        return self._go_on(now_ms)

    def _build(self, effect: BuildBlock) -> Execute:
        room = MAX_BLOCK_BYTES - BLOCK_OVERHEAD
        ahead = self._ahead_of(effect.parent)
        txs = self.mempool.select(max_txs=MAX_BLOCK_TXS, max_bytes=room, ahead=ahead)
        self._building = {tx.id for tx in txs}
        self._hold()
        return Execute(effect.parent, txs, effect.timestamp_ms)

    def _log(self, records: list[LogRecord]) -> Log:
        """With each candidate its block."""
        result: list[LogRecord] = []
        seen: set[bytes] = set()
        for record in records:
            if isinstance(record, CandidateRecord):
                result += self._block_record(record.candidate.block_hash, seen)
            result.append(record)
        return Log(result)

    def _block_record(self, block_hash: bytes, seen: set[bytes]) -> list[LogRecord]:
        body = self._undecided.body(block_hash)
        if body is None or block_hash in seen:
            return []
        seen.add(block_hash)
        return [BlockRecord(block_hash, pack(body))]

    def _message(self, message: Message, peer: str | None) -> Tell:
        block = None
        if isinstance(message, Proposal) and peer is None:  # one who asked for little fetches what it lacks
            block = self._undecided.body(message.candidate.block_hash)
        return Tell(message, peer, block)


def epoch_after(state: State, head: Header, *, genesis_hash: bytes, epoch_length: int) -> Epoch:
    """The epoch of the block after the head, of which `state` is the published state."""
    number, validators = head.height // epoch_length, validators_of(state)
    return Epoch(
        number=number,
        validators=validators,
        leaders=leaders_of(state, number),
        last_height=(number + 1) * epoch_length,
        chain_id=head.chain_id,
        genesis_hash=genesis_hash,
    )


def _drops(dropped: Sequence[Dropped]) -> list[Effect]:
    return [Drop(tx, why) for tx, why in dropped]
