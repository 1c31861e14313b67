"""What an honest node asks others, how it checks what they answer, and what it answers itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aitbc.core.peer.compact import ascending
from aitbc.core.peer.kinds import (
    BLOCKS,
    CONSENSUS_GET,
    ENDS,
    FILL,
    HEADERS,
    SEARCH_BLOCK,
    BlockRange,
    Blocks,
    Ends,
    EndsAsked,
    Fill,
    Filled,
    Headers,
    Kind,
)
from aitbc.core.peer.network import NetworkEffect
from aitbc.core.peer.peers import Replied, Requested, Unreplied
from aitbc.sim.network.goods import is_sealed, name_of, sealed

if TYPE_CHECKING:
    from aitbc.sim.network.node import Node

LOOK_MS = 8_000
"""A range of the chain is asked for about so often, of one peer after another."""
AGAIN_MS = 1_000
"""Agreement asks again for a block that it waits for (docs/spec/simplex.md, rule 7)."""
RANGE = 8


class Questions:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._wanted: dict[bytes, int] = {}
        """Blocks that are known by name only, and when they were asked for last."""
        self._asked: dict[int, tuple[Kind, Any]] = {}
        self._ticket = 0
        self._turn = 0
        self._looked_ms = node.world.now_ms

    # Asking

    def want(self, teller: bytes, name: bytes) -> None:
        """A candidate's block; who told of it is asked first."""
        if name not in self._node.blocks and name not in self._wanted:
            self._wanted[name] = self._node.world.now_ms
            self._ask(teller, FILL, Fill(name, [0]))

    def wants(self, name: bytes) -> bool:
        return name in self._wanted

    def have(self, block: bytes) -> None:
        name = name_of(block)
        self._node.blocks[name] = block
        self._wanted.pop(name, None)

    def nobody_has(self, name: bytes) -> None:
        """Agreement goes on asking."""

    def tick(self) -> None:
        now_ms = self._node.world.now_ms
        for name, asked_ms in list(self._wanted.items()):
            if now_ms - asked_ms >= AGAIN_MS:
                self._wanted[name] = now_ms
                self._ask_next(name)
        if now_ms - self._looked_ms >= LOOK_MS and self._node.network.peers:
            self._looked_ms = now_ms
            start = max(0, self._node.run.ledger.height - RANGE)
            for kind, question in (
                (ENDS, EndsAsked(0)),
                (HEADERS, BlockRange(start, RANGE)),
                (BLOCKS, BlockRange(start, RANGE)),
            ):
                self._ask(self._next_peer(), kind, question)

    def _ask_next(self, name: bytes) -> None:
        """One peer after another, and after all of them the peers of peers."""
        peers = self._node.network.peers
        if self._turn % (len(peers) + 1) == len(peers):
            self._turn += 1
            self._node.perform(self._node.network.search(self._node.world.now_ms, SEARCH_BLOCK, name))
        elif peers:
            self._ask(self._next_peer(), CONSENSUS_GET, name)

    def _next_peer(self) -> bytes:
        """In turn, as a real node does: among many who are silent the one who knows is met."""
        self._turn += 1
        peers = self._node.network.peers
        return peers[self._turn % len(peers)]

    def _ask(self, key: bytes, kind: Kind, question: Any) -> None:
        self._ticket += 1
        self._asked[self._ticket] = (kind, question)
        effects = self._node.network.ask(self._node.world.now_ms, key, kind, question, ticket=self._ticket)
        self._node.perform(effects)

    # Checking

    def replied(self, effect: Replied) -> None:
        kind, question = self._asked.pop(effect.ticket)
        if kind is CONSENSUS_GET:
            self._check_block(effect.key, question, effect.message)
        elif kind is FILL:
            self._check_filled(effect.key, question.hash, effect.message.txs)
        elif not _is_true(kind, question, effect.message, self._node.run.ledger.blocks):
            self._node.blame(effect.key, f"{kind.name}: a lie that can be proved")

    def unreplied(self, effect: Unreplied) -> None:
        kind, question = self._asked.pop(effect.ticket)
        if kind is FILL and question.hash in self._wanted:
            self._ask_next(question.hash)

    def _check_block(self, key: bytes, name: bytes, content: bytes) -> None:
        if name_of(content) != name:
            self._node.blame(key, "another block")
        else:
            self.have(content)

    def _check_filled(self, key: bytes, name: bytes, txs: Sequence[bytes]) -> None:
        """A wrong count is its fault; wrong content may be of who it had the list from (docs/spec/p2p.md)."""
        if len(txs) != 1:
            self._node.blame(key, f"{len(txs)} of 1 transactions")
        if len(txs) == 1 and name_of(txs[0]) == name:
            self.have(txs[0])
        elif name in self._wanted:
            self._ask_next(name)

    # Answering

    def answer(self, effect: Requested) -> list[NetworkEffect]:
        if effect.kind is FILL and not ascending(effect.message.places):
            self._node.blame(effect.key, "places that are not in order")
        content = self._content(effect.kind, effect.message)
        if content is None:
            return self._node.network.refuse(effect)
        return self._node.network.answer(effect, content)

    def _content(self, kind: Kind, message: Any) -> Any:
        blocks = self._node.run.ledger.blocks
        if kind is CONSENSUS_GET:
            return self._node.blocks.get(message)
        if kind is FILL:
            block = self._node.blocks.get(message.hash)
            return Filled([block]) if block is not None and message.places == [0] else None
        if kind is ENDS:
            return Ends([_end(blocks)]) if message.above == 0 else Ends([])
        if kind in (HEADERS, BLOCKS):
            found = blocks[message.start : message.start + min(message.count, RANGE)]
            return _headers(found) if kind is HEADERS else Blocks(found)
        return None


def _headers(blocks: list[bytes]) -> Headers:
    return Headers([name_of(block) for block in blocks], [b""] * len(blocks))


def _end(blocks: Sequence[bytes]) -> bytes:
    return sealed(f"final {len(blocks) - 1}")


def _is_true(kind: Kind, question: Any, answer: Any, blocks: Sequence[bytes]) -> bool:
    """Certificates prove what is final, so that anybody can check a range; an answer may be short."""
    if kind is ENDS:
        return all(is_sealed(end) for end in answer.ends)
    true = blocks[question.start : question.start + question.count]
    if kind is HEADERS:
        names = [name_of(block) for block in true]
        return (
            len(answer.certificates) == len(answer.headers) and answer.headers == names[: len(answer.headers)]
        )
    return bool(answer.blocks == true[: len(answer.blocks)])
