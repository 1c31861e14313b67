"""One node that agrees by work without threads, peers and clock, and a miner elsewhere that makes blocks for it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.client.signing import KeySigner
from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.wire import pack
from aitbc.core.consensus.nakamoto.engine import (
    FetchBlocks,
    Finalize,
    HeaderAnnounced,
    PeerJoined,
    SwitchRefused,
)
from aitbc.core.consensus.nakamoto.headers import Link, genesis_link, link_to_bytes
from aitbc.core.executor import Executor
from aitbc.core.ledger.genesis import Genesis, genesis_document
from aitbc.core.switching import Ready, Switcher, header_rules, work_replica_at_head
from aitbc.core.types.blocks import Block, Header
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from aitbc.core.work_replica import BlockCame, Build, Effect, Input, Switch
from support.people import EVE
from support.work import sealed, work_genesis


class Maker:
    """A miner elsewhere, which follows the rules and its own branch."""

    def __init__(self, genesis: Genesis | None = None, *, author: KeySigner = EVE) -> None:
        self.document = genesis_document(genesis or work_genesis())
        self.author = author
        self.executor = Executor(self.document, None)
        self.rules = header_rules(self.executor)
        self.links: list[Link] = [genesis_link(self.executor.head.block.header, self.rules.settings)]
        self.blocks: list[Block] = []

    def after(self, blocks: Sequence[Block]) -> "Maker":
        """The same on another branch."""
        other = Maker.__new__(Maker)
        other.document, other.author, other.rules = self.document, self.author, self.rules
        other.executor = Executor(self.document, None)
        other.links, other.blocks = self.links[:1], []
        for block in blocks:
            other.take(block)
        return other

    def take(self, block: Block) -> Block:
        built = self.executor.apply(block)
        self.executor.publish(built, self.executor.seal(built, None).block)
        self.links.append(self.rules.check(block.header, self.links[-1]))
        self.blocks.append(block)
        return block

    def template(self, txs: Sequence[VerifiedTransaction] = (), *, after_ms: int = 1_000) -> Block:
        """A block without its seal."""
        at_ms = self.links[-1].timestamp_ms + after_ms
        built = self.executor.build(list(txs), proposer=self.author.address, timestamp_ms=at_ms)
        assert not built.refused, built.refused
        self.executor.abandon()
        return built.block

    def seal(self, header: Header, *, signer: KeySigner | None = None) -> Header:
        signer = signer or (self.author if self.rules.is_signed else None)
        return sealed(header, self.links[-1].child_target, signer)

    def extend(self, txs: Sequence[VerifiedTransaction] = (), *, after_ms: int = 1_000) -> Block:
        block = self.template(txs, after_ms=after_ms)
        return self.take(Block(self.seal(block.header), block.txs))

    def grow(self, count: int) -> list[Block]:
        return [self.extend() for _ in range(count)]


class Host:
    """A node that follows. Blocks that it asks for come from `library`; nothing else of its effects is performed, but
    all are noted."""

    PEER = "peer"

    def __init__(self, document: bytes, store: MemoryStore | None = None) -> None:
        self.executor = Executor(document, store.load() if store else None)
        self.store = store or MemoryStore(self.executor.loaded.hash)
        if store is None:
            self.store.commit(self.executor.loaded.first)
        self.document = document
        self.switcher = Switcher(self.executor, self.store)
        self.replica = work_replica_at_head(self.executor, self.store, miner=None)
        self.now_ms = 10**13
        self.library: dict[bytes, Block] = {}
        self.effects: list[Effect] = []
        self.answers: list[Input] = []
        """What performing has caused and is fed next."""
        self._perform(self.replica.start(self.now_ms))
        self.feed(PeerJoined(self.PEER))

    def again(self) -> "Host":
        """The node begins anew from its disk."""
        return Host(self.document, self.store)

    @property
    def head(self) -> Header:
        return self.executor.head.block.header

    def feed(self, message: Input) -> list[Effect]:
        """The effects of this and of all that followed."""
        first = len(self.effects)
        self.answers.append(message)
        while self.answers:
            self._perform(self.replica.step(self.now_ms, self.answers.pop(0)))
        return self.effects[first:]

    def show(self, *blocks: Block) -> list[Effect]:
        """A peer announces these, one after the other, and has them."""
        self.library.update({header_hash(block.header): block for block in blocks})
        first = len(self.effects)
        for block in blocks:
            self.feed(HeaderAnnounced(self.PEER, block.header))
        return self.effects[first:]

    def verified(self, tx: Transaction) -> VerifiedTransaction:
        return self.executor.transactions.verify(tx)

    def said(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            match effect:
                case FetchBlocks():
                    for name in effect.hashes:
                        if name in self.library:
                            block = self.library[name]
                            self.answers.append(BlockCame(effect.peer, name, block, len(pack(block))))
                case Switch():
                    done = self.switcher.switch(effect)
                    if isinstance(done, Ready):
                        done.publish()
                        self.answers.append(done.switched)
                    else:
                        assert isinstance(done, SwitchRefused)
                        self.answers.append(done)
                case Build():
                    raise AssertionError("it only follows")
                case Finalize():
                    self.store.keep_final(link_to_bytes(effect.link))
                case _:
                    pass


def with_header(block: Block, **changes: Any) -> Block:
    return Block(msgspec.structs.replace(block.header, **changes), block.txs)
