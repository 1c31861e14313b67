"""The whole node as one step, on a chain that agrees by work: an input in, effects out. docs/spec/nakamoto.md "Host"

As `replica` for votes: the host performs effects in their order and feeds back what they cause, never from within. Here
is the host's side of `consensus.nakamoto.engine`: it holds the blocks that are not on the chain, keeps what waits, and
turns what the engine asks for into work on state and disk.
"""

from collections.abc import Iterable
from typing import assert_never

import msgspec

from aitbc.core.chain.builder import BuiltBlock, sealed_block
from aitbc.core.codec.digests import header_hash
from aitbc.core.consensus.engine import BuildBlock, PenalisePeer, SetTimer, TimerFired, TransactionsArrived
from aitbc.core.consensus.nakamoto.engine import (
    Announce as AnnounceHead,
)
from aitbc.core.consensus.nakamoto.engine import (
    BlockArrived,
    BlockMissed,
    FetchBlocks,
    FetchHeaders,
    Finalize,
    ForgetBlocks,
    HeaderAnnounced,
    HeadersArrived,
    HeadSwitched,
    Mine,
    NakamotoEffect,
    NakamotoEvent,
    NonceFound,
    PartedBelowFinal,
    PeerJoined,
    PeerLeft,
    SealBlock,
    SignTemplate,
    StopMining,
    SwitchHead,
    SwitchRefused,
    TemplateBuilt,
    TemplateSigned,
)
from aitbc.core.consensus.nakamoto.rules import Nakamoto
from aitbc.core.consensus.nakamoto.work import template_digest
from aitbc.core.ledger.context import BlockContext
from aitbc.core.pool import Dropped, Pool
from aitbc.core.replica import BLOCK_OVERHEAD, Announce, Answer, Drop, Relay, TransactionsSubmitted
from aitbc.core.types.blocks import MAX_BLOCK_BYTES, Block, CommittedBlock
from aitbc.core.types.reasons import Reason
from aitbc.core.types.transactions import VerifiedTransaction

HELD_TEMPLATES = 2
"""The one that is searched, and the one that is to replace it."""
MAX_HELD_BYTES = 256 * 1024 * 1024
"""Of blocks that are not on the chain, as on the wire: sixty-four full ones. One more is as if it had not come."""

# Inputs. Those not here are the engine's events; TransactionsSubmitted is the other replica's.


class BlockCame(msgspec.Struct, frozen=True):
    """A block that was asked for: its header has this hash, and its transactions are those of the header."""

    peer: str
    hash: bytes
    block: Block
    size: int
    """On the wire."""


class Built(msgspec.Struct, frozen=True):
    """Answers `Build`: a whole block without its seal, taken off the state again."""

    built: BuiltBlock


class Undone(msgspec.Struct, frozen=True):
    """A block that is not on the chain any more."""

    block: Block
    hash: bytes
    size: int
    txs: list[VerifiedTransaction]


class Switched(msgspec.Struct, frozen=True):
    """Answers `Switch`: it is on disk, and readers see it."""

    undone: list[Undone]
    """From the lowest up."""
    applied: list[tuple[BuiltBlock, CommittedBlock]]


Input = (
    TransactionsSubmitted
    | TimerFired
    | PeerJoined
    | PeerLeft
    | HeaderAnnounced
    | HeadersArrived
    | BlockCame
    | BlockMissed
    | Built
    | TemplateSigned
    | NonceFound
    | Switched
    | SwitchRefused
)

# Effects. Those not here are the engine's; Answer, Announce, Drop and Relay are the other replica's.


class Build(msgspec.Struct, frozen=True):
    """Build a block of these transactions on the head, and take it off the state again; answered by `Built`."""

    parent: bytes
    txs: list[VerifiedTransaction]
    timestamp_ms: int


class Switch(msgspec.Struct, frozen=True):
    """Take back so many blocks and put these in their place, on disk in one piece; answered by `Switched` or
    `SwitchRefused`. What was built here is not executed again."""

    hash: bytes
    undo: int
    apply: list[Block | BuiltBlock]


class Reorganised(msgspec.Struct, frozen=True):
    """Blocks left the chain, the lowest first: readers may be told."""

    undone: list[bytes]


Effect = (
    SetTimer
    | PenalisePeer
    | PartedBelowFinal
    | FetchHeaders
    | FetchBlocks
    | AnnounceHead
    | SignTemplate
    | Mine
    | StopMining
    | Finalize
    | Build
    | Switch
    | Answer
    | Relay
    | Announce
    | Drop
    | Reorganised
)


class WorkReplica:
    """A node without hands: mempool, blocks beside the chain, and agreement by work."""

    def __init__(self, *, pool: Pool, engine: Nakamoto, chain: Iterable[tuple[bytes, int]]) -> None:
        """`chain`: hashes and heights of the blocks above the newest final one."""
        self.engine = engine
        self.mempool = pool.mempool
        self._pool = pool
        self._recent = dict(chain)
        """Blocks on the chain that are not final, with their heights."""
        self._held: dict[bytes, Block | BuiltBlock] = {}
        """Blocks that are not on the chain."""
        self._sizes: dict[bytes, int] = {}
        self._held_bytes = 0
        self._templates: dict[bytes, BuiltBlock] = {}
        """By digest, the newest last."""

    def start(self, now_ms: int) -> list[Effect]:
        return self._perform(self.engine.start(now_ms))

    def step(self, now_ms: int, message: Input) -> list[Effect]:
        match message:
            case TransactionsSubmitted():
                return self._submit(now_ms, message)
            case BlockCame():
                return self._take_block(now_ms, message)
            case Built():
                return self._take_template(now_ms, message.built)
            case Switched():
                return self._switched(now_ms, message)
            case _:
                return self._tell_engine(now_ms, message)

    def context(self, now_ms: int) -> BlockContext:
        """Of the block that would be built now."""
        return self._pool.context(now_ms)

    def body(self, block_hash: bytes) -> Block | None:
        """A block that is not on the chain, for a peer that asks."""
        held = self._held.get(block_hash)
        return held.block if isinstance(held, BuiltBlock) else held

    @property
    def held(self) -> dict[str, int]:
        """How much of what strangers send is held, each below its named maximum."""
        return {**self.engine.held, "blocks": len(self._held), "block_bytes": self._held_bytes}

    def is_final(self, height: int) -> bool:
        return height <= self.engine.final.height

    def _tell_engine(self, now_ms: int, event: NakamotoEvent) -> list[Effect]:
        return self._perform(self.engine.on(now_ms, event))

    # Transactions

    def _submit(self, now_ms: int, message: TransactionsSubmitted) -> list[Effect]:
        came = self._pool.take_in(now_ms, message.txs)
        answer = Answer(message.ticket, came.verdicts, came.known)
        if not came.taken:
            return [answer]
        news = self._tell_engine(now_ms, TransactionsArrived())
        return [*_drops(came.pushed_out), answer, Relay(came.taken), *news]

    # Blocks

    def _take_block(self, now_ms: int, came: BlockCame) -> list[Effect]:
        if came.hash not in self._recent and came.hash not in self._held:
            if self._held_bytes + came.size > MAX_HELD_BYTES:
                return self._tell_engine(now_ms, BlockMissed(came.peer, came.hash, None))
            self._hold(came.hash, came.block, came.size)
        return self._tell_engine(now_ms, BlockArrived(came.peer, came.hash))

    def _hold(self, name: bytes, block: Block | BuiltBlock, size: int) -> None:
        self._held[name], self._sizes[name] = block, size
        self._held_bytes += size

    def _forget(self, name: bytes) -> None:
        if self._held.pop(name, None) is not None:
            self._held_bytes -= self._sizes.pop(name)

    def _switched(self, now_ms: int, message: Switched) -> list[Effect]:
        for undone in message.undone:
            del self._recent[undone.hash]
            self._hold(undone.hash, undone.block, undone.size)
        for built, _ in message.applied:
            self._forget(built.hash)
            self._recent[built.hash] = built.block.header.height
        head = message.applied[-1][0]
        drops = self._pool.switch(
            now_ms,
            head.block.header,
            head.hash,
            undone=[tx for undone in message.undone for tx in undone.txs],
            included=[tx for built, _ in message.applied for tx in built.included],
        )
        left = [Reorganised([undone.hash for undone in message.undone])] if message.undone else []
        news = [Announce(block) for _, block in message.applied]
        again = [tx for undone in message.undone for tx in undone.txs if self.mempool.get(tx.id)]
        told = [Relay(again)] if again else []
        effects = self._tell_engine(now_ms, HeadSwitched(head.hash))
        return [*left, *news, *_drops(drops), *told, *effects]

    # Own blocks

    def _build(self, effect: BuildBlock) -> Build:
        room = MAX_BLOCK_BYTES - BLOCK_OVERHEAD
        txs = self.mempool.select(max_txs=self.engine.settings.max_transactions, max_bytes=room)
        return Build(effect.parent, txs, effect.timestamp_ms)

    def _take_template(self, now_ms: int, built: BuiltBlock) -> list[Effect]:
        """What the head's state refuses waits no longer; one with a nonce to come does."""
        header, drops = built.block.header, list[Dropped]()
        if header.parent == self._pool.head_hash:
            for tx, rejection in built.refused:
                if rejection.reason is not Reason.BAD_NONCE:
                    self.mempool.remove(tx)
                    drops.append((tx, rejection))
            drops += self._pool.trim()
        self._templates[template_digest(header)] = built
        while len(self._templates) > HELD_TEMPLATES:
            del self._templates[next(iter(self._templates))]
        return [*_drops(drops), *self._tell_engine(now_ms, TemplateBuilt(header, len(built.included)))]

    # What the engine asks for

    def _perform(self, effects: list[NakamotoEffect]) -> list[Effect]:
        """As the host sees it; what can be done here is."""
        result: list[Effect] = []
        for effect in effects:
            match effect:
                case BuildBlock():
                    result.append(self._build(effect))
                case SwitchHead():
                    apply = [self._held[name] for name in effect.apply]
                    result.append(Switch(effect.hash, len(effect.undo), apply))
                case SealBlock():
                    built = sealed_block(self._templates[effect.template], effect.header)
                    size = sum(tx.size for tx in built.included) + BLOCK_OVERHEAD
                    self._hold(header_hash(effect.header), built, size)
                case ForgetBlocks():
                    for name in effect.hashes:
                        self._forget(name)
                case Finalize():
                    self._recent = {
                        name: height for name, height in self._recent.items() if height > effect.link.height
                    }
                    result.append(effect)
                case (
                    SetTimer()
                    | PenalisePeer()
                    | PartedBelowFinal()
                    | FetchHeaders()
                    | FetchBlocks()
                    | AnnounceHead()
                    | SignTemplate()
                    | Mine()
                    | StopMining()
                ):
                    result.append(effect)
                case _:
                    assert_never(effect)
        return result


def _drops(dropped: list[Dropped]) -> list[Drop]:
    return [Drop(tx, why) for tx, why in dropped]
