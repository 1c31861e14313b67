"""Blocks that were told by the names of their transactions and are pieced together here. ADR 0016, docs/spec/p2p.md"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from aitbc.core.codec.digests import wid_of
from aitbc.core.codec.wire import pack, unpack
from aitbc.core.consensus.simplex.messages import Verified, VerifiedProposal
from aitbc.core.peer import kinds
from aitbc.core.peer.compact import (
    CompactBlock,
    Puzzle,
    ascending,
    block_of,
    can_be_asked,
    check_compact,
    compacted,
    filled,
    pieced_together,
)
from aitbc.core.peer.kinds import FILL, Kind
from aitbc.core.peer.peers import Replied, Requested, Unreplied
from aitbc.core.types.blocks import Block
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from aitbc.node.talk.wires import MAX_ENVELOPE_BYTES, Wires, hash_of

MAX_PARTS = 16
"""Blocks that are pieced together: those of the slots that may be voted for, and some that nobody asks about."""
MAX_WHOLE = 64
"""Names of blocks that need not be pieced together again: some seconds of the highest pace."""
MAX_PARKED = 64
"""Questions about them that wait until they are whole here."""
MAX_PARKED_OF_PEER = 4


class Part(msgspec.Struct):
    """A proposal whose block is not whole yet."""

    teller: bytes
    proposal: VerifiedProposal
    puzzle: Puzzle
    above: int = 0
    """What else agreement wanted when it asked for the block."""
    is_asked: bool = False
    """Its teller was asked for the rest, which happens once."""


class Shelf(Protocol):
    """Who has transactions and blocks."""

    @property
    def genesis_hash(self) -> bytes: ...

    def envelopes(self) -> list[VerifiedTransaction]:
        """All that are known here; called on any thread."""
        ...

    def wids(self, block_hash: bytes) -> list[bytes] | None:
        """Of an undecided block's transactions, when they are known."""
        ...

    async def read_blocks(self, block_hash: bytes, above: int, *, most: int) -> list[Block]: ...

    def hear(self, peer: str, message: Verified, block: Block | None) -> None: ...


class Puzzles:
    kinds: tuple[Kind, ...] = (FILL,)

    def __init__(self, wires: Wires, host: Shelf, *, fetch_whole: Callable[[bytes, int], None]) -> None:
        """`fetch_whole`: called for a block that its teller could not complete."""
        self._wires, self._host = wires, host
        self._fetch_whole = fetch_whole
        self.parts: OrderedDict[bytes, Part] = OrderedDict()
        """Blocks that are being pieced together, by hash; the first teller's list counts."""
        self._whole: OrderedDict[bytes, None] = OrderedDict()
        """Blocks that became whole out of lists."""
        self.filling: dict[int, tuple[bytes, Part]] = {}
        """Missing transactions that their teller is asked for: block hash and part, by ticket."""
        self.parked: list[Requested] = []
        """Questions of peers about blocks that are not whole here either."""

    # Telling and hearing

    def compacted(self, block: Block) -> CompactBlock:
        """What stands beside a proposal: whole transactions that no peer can have yet, names of the rest."""
        name = hash_of(block)
        wids = self._host.wids(name) or [wid_of(tx, self._host.genesis_hash) for tx in block.txs]
        return compacted(block, name, wids=wids, fresh=self._wires.network.fresh(self._wires.now()))

    def piece_together(self, proposal: VerifiedProposal, compact: CompactBlock) -> Puzzle | None:
        """On any thread. None for a block that is here or being pieced together: whoever passes lists on can change
        them as often as they like, and each would cost as much as the first. Raises Rejected for what the teller could
        see itself to be wrong."""
        check_compact(compact)
        if hash_of(compact) != proposal.candidate.block_hash:
            raise Rejected(Reason.MALFORMED, "the block beside a proposal is another")
        if proposal.candidate.block_hash in self.parts or proposal.candidate.block_hash in self._whole:
            return None
        return pieced_together(
            compact,
            proposal.candidate.block_hash,
            known=self._host.envelopes(),
            genesis_hash=self._host.genesis_hash,
        )

    def note(self, teller: bytes, proposal: VerifiedProposal, puzzle: Puzzle, block: Block | None) -> None:
        """Nothing is asked for yet: that is for agreement to say. `block`: if nothing of it is missing."""
        name = proposal.candidate.block_hash
        if block is not None:
            self._note_whole(name)
        elif name not in self.parts:
            self.parts[name] = Part(teller, proposal, puzzle)
            if len(self.parts) > MAX_PARTS:
                self.settle(next(iter(self.parts)))

    def _note_whole(self, block_hash: bytes) -> None:
        self._whole[block_hash] = None
        if len(self._whole) > MAX_WHOLE:
            self._whole.popitem(last=False)
        self.settle(block_hash)

    def settle(self, block_hash: bytes) -> None:
        """It is whole, or nobody waits for it any more: who asked about it is answered as well as may be."""
        self.parts.pop(block_hash, None)
        waiting = [request for request in self.parked if request.message.hash == block_hash]
        if waiting:
            self.parked = [request for request in self.parked if request.message.hash != block_hash]
        for request in waiting:
            self.requested(request)

    def head_moved(self, height: int) -> None:
        for name, part in list(self.parts.items()):
            if part.puzzle.header.height <= height:
                self.settle(name)

    # Asking for what is missing

    def fill(self, block_hash: bytes, above: int) -> bool:
        """Ask the teller of a block for what it lacks; False: there is nothing to ask, or it was asked before."""
        part = self.parts.get(block_hash)
        if part is None or part.is_asked or not can_be_asked(part.puzzle):
            return False
        part.is_asked, part.above = True, above

        def note(ticket: int) -> None:
            self.filling[ticket] = (block_hash, part)

        question = kinds.Fill(block_hash, part.puzzle.missing)
        self._wires.ask(part.teller, FILL, question, note=note)
        return True

    def replied(self, effect: Replied) -> None:
        self._wires.spawn(self._take(effect))

    def unreplied(self, effect: Unreplied) -> None:
        self._give_up(*self.filling.pop(effect.ticket))

    def _give_up(self, block_hash: bytes, part: Part) -> None:
        """The teller could not help; unless the block has come another way meanwhile."""
        if self.parts.get(block_hash) is part:
            self._fetch_whole(block_hash, part.above)

    async def _take(self, effect: Replied) -> None:
        """Too few or too many transactions, or what is none, is the teller's fault; that others than those of the list
        came may be the fault of whoever it had the list from."""
        block_hash, part = self.filling.pop(effect.ticket)

        def decode() -> Block | None:
            raw: Sequence[bytes] = effect.message.txs
            if len(raw) != len(part.puzzle.missing):
                raise Rejected(Reason.MALFORMED, f"{len(raw)} of {len(part.puzzle.missing)} transactions")
            txs = [unpack(one, Transaction, limit=MAX_ENVELOPE_BYTES) for one in raw]
            return block_of(filled(part.puzzle, txs, genesis_hash=self._host.genesis_hash))

        try:
            block = await self._wires.beside(decode)
        except Rejected as rejection:
            self._wires.penalise(effect.key, rejection.message)
            block = None
        if block is None:
            self._wires.refused["not_the_block"] += 1
            self._give_up(block_hash, part)
            return
        self._host.hear(effect.key.hex(), part.proposal, block)
        self._note_whole(block_hash)

    # Answering

    def requested(self, effect: Requested) -> None:
        self._wires.spawn(self._answer(effect))

    async def _answer(self, effect: Requested) -> None:
        """A peer lacks some transactions of a block. Its list may have been changed on the way, so a place that the
        block does not have is no fault of its own."""
        fill: kinds.Fill = effect.message
        if not ascending(fill.places):
            self._wires.refuse(effect)
            self._wires.penalise(effect.key, "places that are not in order")
            return
        blocks = await self._wires.read(self._host.read_blocks(fill.hash, 0, most=1))
        if blocks and fill.places[-1] < len(blocks[0].txs):
            txs = blocks[0].txs
            self._wires.answer(effect, kinds.Filled([pack(txs[place]) for place in fill.places]))
        elif not blocks and fill.hash in self.parts and self._has_room_to_park(effect.key):
            self.parked.append(effect)
        else:
            self._wires.refuse(effect)

    def _has_room_to_park(self, key: bytes) -> bool:
        of_peer = sum(request.key == key for request in self.parked)
        return len(self.parked) < MAX_PARKED and of_peer < MAX_PARKED_OF_PEER
