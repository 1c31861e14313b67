"""Blocks asked for by hash, with their ancestors: of one peer after the other, then among theirs."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from aitbc.core.codec.wire import pack, unpack
from aitbc.core.peer.kinds import CONSENSUS_GET, Kind
from aitbc.core.peer.peers import Replied, Requested, Unreplied
from aitbc.core.types.blocks import MAX_BLOCK_BYTES, Block
from aitbc.core.types.reasons import Rejected
from aitbc.node.talk.wires import Wires, hash_of

MAX_BLOCKS_ANSWERED = 128


class BlockRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A block by its hash, and its ancestors above a height."""

    hash: bytes
    above: int


class BlockAnswer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The block first, then parent after parent, as many as fit."""

    blocks: list[bytes]


class Reader(Protocol):
    async def read_blocks(self, block_hash: bytes, above: int, *, most: int) -> list[Block]: ...


class Blocks:
    kinds: tuple[Kind, ...] = (CONSENSUS_GET,)

    def __init__(
        self,
        wires: Wires,
        host: Reader,
        *,
        came: Callable[[Sequence[tuple[bytes, Block]]], None],
        search: Callable[[bytes], None],
    ) -> None:
        self._wires, self._host = wires, host
        self._came, self._search = came, search
        self._next_peer = 0
        self.asked: dict[int, tuple[BlockRequest, int]] = {}
        """What is asked of peers now, by ticket, and how many others may be asked for it."""

    def fetch(self, block_hash: bytes, above: int) -> None:
        """Ask the next peer in turn, and when it has nothing the one after it; when all were asked once, search."""
        self._ask(BlockRequest(block_hash, above), len(self._wires.network.peers))

    def _ask(self, request: BlockRequest, tries: int) -> None:
        peers = self._wires.network.peers
        if not peers:
            return
        if not tries:
            self._search(request.hash)
            return
        self._next_peer += 1

        def note(ticket: int) -> None:
            self.asked[ticket] = (request, tries - 1)

        self._wires.ask(peers[self._next_peer % len(peers)], CONSENSUS_GET, pack(request), note=note)

    def unreplied(self, effect: Unreplied) -> None:
        self._ask(*self.asked.pop(effect.ticket))

    def replied(self, effect: Replied) -> None:
        del self.asked[effect.ticket]
        self._wires.spawn(self._take(effect))

    async def _take(self, effect: Replied) -> None:
        def decode() -> list[tuple[bytes, Block]]:
            answer = unpack(effect.message, BlockAnswer, limit=CONSENSUS_GET.answer_limit)
            blocks = [
                unpack(raw, Block, limit=MAX_BLOCK_BYTES) for raw in answer.blocks[:MAX_BLOCKS_ANSWERED]
            ]
            return [(hash_of(block), block) for block in blocks]

        try:
            blocks = await self._wires.beside(decode)
        except Rejected as rejection:
            self._wires.penalise(effect.key, rejection.message)
            return
        self._came(blocks)

    def requested(self, effect: Requested) -> None:
        self._wires.spawn(self.answer(effect))

    async def answer(self, effect: Requested) -> None:
        try:
            request = unpack(effect.message, BlockRequest, limit=CONSENSUS_GET.limit)
        except Rejected as rejection:
            self._wires.refuse(effect)
            self._wires.penalise(effect.key, rejection.message)
            return
        work = self._host.read_blocks(request.hash, request.above, most=MAX_BLOCKS_ANSWERED)
        blocks = await self._wires.read(work)
        if not blocks:
            self._wires.refuse(effect)
            return
        room, raw = CONSENSUS_GET.answer_limit - 1_024, []
        for block in blocks:
            packed = pack(block)
            room -= len(packed) + 5
            if room < 0:
                break
            raw.append(packed)
        self._wires.answer(effect, pack(BlockAnswer(raw)))
