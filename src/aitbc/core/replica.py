"""The whole node as one step: an input in, effects out. DESIGN §2 "The one contract".

Inputs are facts, effects are requests. The host performs persists before sends of the same step, feeds results back,
never calls in from two threads and never nests a call.
"""

from typing import assert_never

import msgspec

from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.chain.mempool import MAX_WAIT_MS, Mempool
from aitbc.core.consensus.elector import take_turns
from aitbc.core.consensus.engine import (
    BlockBuilt,
    BlockCommitted,
    Broadcast,
    BuildBlock,
    ConsensusEngine,
    EngineEffect,
    EpochBegan,
    ExecuteBlock,
    Finalize,
    PenalisePeer,
    Persist,
    ReportFault,
    Send,
    SendEpochEnd,
    SetHead,
    SetTimer,
    SignStatements,
    StatementsSigned,
    TimerFired,
    TransactionsArrived,
)
from aitbc.core.consensus.epoch import Anchor, Epoch
from aitbc.core.crypto.schemes import verify
from aitbc.core.ledger.context import BlockContext, Verifier
from aitbc.core.ledger.execution import check_active, check_fee, check_sender, check_witness, dry_run
from aitbc.core.ledger.params import version_at
from aitbc.core.ledger.state import Overlay, State
from aitbc.core.ledger.transactions import TYPES
from aitbc.core.ledger.validators import validators_of
from aitbc.core.types.blocks import MAX_BLOCK_BYTES, MAX_BLOCK_TXS, Certificate, CommittedBlock, Header
from aitbc.core.types.reasons import Reason, Rejected, Stops
from aitbc.core.types.records import Account
from aitbc.core.types.transactions import VerifiedTransaction

BLOCK_OVERHEAD = 4_096
"""Bytes of a block that are not transactions."""

# Inputs.


class TransactionSubmitted(msgspec.Struct, frozen=True):
    tx: VerifiedTransaction
    ticket: int
    """The host's name for whoever waits for the answer."""


class Built(msgspec.Struct, frozen=True):
    built: BuiltBlock


class Committed(msgspec.Struct, frozen=True):
    """The block is on disk and its changes are published."""

    block: CommittedBlock


class Abandoned(msgspec.Struct, frozen=True):
    """The head went back over blocks with these transactions, the oldest first: they wait again."""

    txs: list[VerifiedTransaction]
    head: Header
    head_hash: bytes
    """The head now."""


Input = TransactionSubmitted | TimerFired | Built | StatementsSigned | Committed | Abandoned

# Effects. SetTimer, SignStatements: as the engine asks.


class Execute(msgspec.Struct, frozen=True):
    """Build a block on the head from these transactions."""

    txs: list[VerifiedTransaction]
    timestamp_ms: int


class Commit(msgspec.Struct, frozen=True):
    """Write the block, then publish its changes, then feed `Committed` back."""

    built: BuiltBlock
    certificate: Certificate


class Answer(msgspec.Struct, frozen=True):
    """What became of a submitted transaction; no rejection means that it waits."""

    ticket: int
    tx_id: bytes
    rejection: Rejected | None


class Announce(msgspec.Struct, frozen=True):
    """A block is final; subscribers and waiting requests may be told."""

    block: CommittedBlock


class Drop(msgspec.Struct, frozen=True):
    """A waiting transaction will not be in a block."""

    tx: VerifiedTransaction
    rejection: Rejected


Effect = SetTimer | SignStatements | Execute | Commit | Answer | Announce | Drop


class Replica:
    """A node without hands: mempool and agreement over a read-only view of the head's state."""

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
    ) -> None:
        self._state = state
        self._engine = engine
        self._genesis_hash = genesis_hash
        self._head = head
        self._head_hash = head_hash
        self._epoch_length = epoch_length
        self._verify = verifier
        self.mempool = Mempool(self._account)
        self._built: BuiltBlock | None = None

    def start(self, now_ms: int) -> list[Effect]:
        return self._perform(self._engine.start(now_ms))

    def step(self, now_ms: int, message: Input) -> list[Effect]:
        match message:
            case TransactionSubmitted():
                return self._submit(now_ms, message)
            case TimerFired() | StatementsSigned():
                return self._perform(self._engine.on(now_ms, message))
            case Built():
                return self._built_block(now_ms, message.built)
            case Committed():
                return self._committed(now_ms, message.block)
            case Abandoned():
                return self._abandoned(now_ms, message)
            case _:
                assert_never(message)

    def _account(self, address: str) -> Account:
        return self._state.account(address)

    def _submit(self, now_ms: int, message: TransactionSubmitted) -> list[Effect]:
        tx = message.tx
        try:
            evicted = self._admit(now_ms, tx)
        except Rejected as rejection:
            if rejection.reason is Reason.ALREADY_KNOWN:
                return [Answer(message.ticket, tx.id, None)]
            return [Answer(message.ticket, tx.id, rejection)]
        drops = _drops(evicted, PUSHED_OUT)
        wake = self._perform(self._engine.on(now_ms, TransactionsArrived()))
        return [*drops, Answer(message.ticket, tx.id, None), *wake]

    def _admit(self, now_ms: int, tx: VerifiedTransaction) -> list[VerifiedTransaction]:
        """Cheap checks first; a transaction whose turn it is must also succeed on the head's state."""
        kind = TYPES[tx.tx.type]
        account = self._account(tx.tx.sender)
        check_sender(account, tx)
        context = self.context(now_ms)
        check_active(context, tx)
        free = check_fee(context, Overlay(self._state), tx, kind)
        if self.mempool.get(tx.id) is None:
            if tx.tx.nonce == account.nonce + 1:
                dry_run(context, self._state, tx)
            else:
                check_witness(context, Overlay(self._state), tx)
        fee_source = kind.fee_source(tx.payload) if kind.fee_source else ""
        return self.mempool.add(
            tx, now_ms=now_ms, spends=kind.spends(tx.payload), fee_source=fee_source, free=free
        )

    def context(self, now_ms: int) -> BlockContext:
        """Of the block that would be built now."""
        height = self._head.height + 1
        return BlockContext(
            version=version_at(self._state.params, height),
            chain_id=self._head.chain_id,
            height=height,
            parent=self._head_hash,
            epoch_length=self._epoch_length,
            timestamp_ms=max(now_ms, self._head.timestamp_ms + 1),
            proposer=self._head.proposer,
            genesis_hash=self._genesis_hash,
            params=self._state.params,
            verify=self._verify,
        )

    def _built_block(self, now_ms: int, built: BuiltBlock) -> list[Effect]:
        self._built = built
        drops: list[Effect] = []
        for tx, rejection in built.refused:
            if rejection.reason is Reason.BAD_NONCE:
                continue  # one of its sender's before it was refused: it waits for another
            self.mempool.remove(tx)
            drops.append(Drop(tx, rejection))
        header = built.block.header
        event = BlockBuilt(header.parent, built.hash, header.height, header.timestamp_ms)
        return drops + self._perform(self._engine.on(now_ms, event))

    def _committed(self, now_ms: int, block: CommittedBlock) -> list[Effect]:
        assert self._built is not None and self._built.hash == block.hash, (
            "what was built is what is committed"
        )
        settled = self.mempool.settle(self._built.included)
        expired = self.mempool.expire(now_ms)
        self._built = None
        self._head, self._head_hash = block.block.header, block.hash
        drops = [
            *_drops(settled.overtaken, Rejected(Reason.BAD_NONCE, "another transaction has this nonce")),
            *_drops(
                settled.unfunded,
                Rejected(Reason.INSUFFICIENT_BALANCE, "the balance has been spent meanwhile"),
            ),
            *_drops(
                expired,
                Rejected(Reason.WAITED_TOO_LONG, f"waited longer than {MAX_WAIT_MS // 60_000} minutes"),
            ),
        ]
        event = BlockCommitted(block.hash, self._head.height, self._head.timestamp_ms)
        effects = [*self._engine.on(now_ms, event), *self._begin_epoch(now_ms)]
        return [Announce(block), *drops, *self._perform(effects)]

    def _begin_epoch(self, now_ms: int) -> list[EngineEffect]:
        """After an epoch's last block the set of the next one decides."""
        if self._head.height % self._epoch_length:
            return []
        epoch = epoch_after(
            self._state, self._head, genesis_hash=self._genesis_hash, epoch_length=self._epoch_length
        )
        base = Anchor(
            slot=0,
            id=self._head_hash,
            hash=self._head_hash,
            height=self._head.height,
            timestamp_ms=self._head.timestamp_ms,
        )
        return self._engine.on(now_ms, EpochBegan(epoch, base))

    def _abandoned(self, now_ms: int, message: Abandoned) -> list[Effect]:
        """What can wait again does; the rest is dropped with the reason."""
        self._head, self._head_hash = message.head, message.head_hash
        self.mempool.reopen(message.txs)
        drops: list[Effect] = []
        for tx in message.txs:
            try:
                pushed_out = self._admit(now_ms, tx)
            except Rejected as rejection:
                drops.append(Drop(tx, rejection))
            else:
                drops.extend(_drops(pushed_out, PUSHED_OUT))
        return drops

    def _perform(self, effects: list[EngineEffect]) -> list[Effect]:
        """Engine effects as the host sees them; what the replica can do itself it does here."""
        result: list[Effect] = []
        for effect in effects:
            match effect:
                case BuildBlock():
                    assert effect.parent == self._head_hash, "one author, one branch"
                    room = MAX_BLOCK_BYTES - BLOCK_OVERHEAD
                    txs = self.mempool.select(max_txs=MAX_BLOCK_TXS, max_bytes=room)
                    result.append(Execute(txs, effect.timestamp_ms))
                case Finalize():
                    assert self._built is not None and self._built.hash == effect.hash
                    result.append(Commit(self._built, effect.certificate))
                case SetHead():
                    assert self._built is not None and self._built.hash == effect.hash, (
                        "one author, one branch"
                    )
                case SetTimer() | SignStatements():
                    result.append(effect)
                case Persist():
                    """The only author's words leave the machine with the committed block: the store is its log."""
                case ExecuteBlock() | Send() | Broadcast() | SendEpochEnd() | ReportFault() | PenalisePeer():
                    raise Stops(
                        f"from height {self._head.height + 1} on there are other validators; this release runs chains"
                        " of one author: start again without a proposer key"
                    )
                case _:
                    assert_never(effect)
        return result


def epoch_after(state: State, head: Header, *, genesis_hash: bytes, epoch_length: int) -> Epoch:
    """The epoch of the block after the head, of which `state` is the published state."""
    number, validators = head.height // epoch_length, validators_of(state.tip())
    return Epoch(
        number=number,
        validators=validators,
        leaders=take_turns(len(validators), number),
        last_height=(number + 1) * epoch_length,
        chain_id=head.chain_id,
        genesis_hash=genesis_hash,
    )


PUSHED_OUT = Rejected(Reason.MEMPOOL_FULL, "replaced or pushed out by a better-paying transaction")


def _drops(txs: list[VerifiedTransaction], why: Rejected) -> list[Effect]:
    return [Drop(tx, why) for tx in txs]
