"""Blocks above the head that agreement has not decided: a small tree, of which one branch at a time is on the state.

Executing a block takes long, putting it on the state again does not: what a block writes is kept until one of its
height is decided, and changing the branch means to take blocks off the state and put others on.
"""

from aitbc.core.chain.builder import BuiltBlock, ChainTip
from aitbc.core.ledger.state import State
from aitbc.core.types.reasons import BrokenInvariant, Reason, Rejected

MAX_UNDECIDED = 32
"""Blocks that are kept; a healthy chain has three. Beyond that the oldest that nothing builds on is forgotten: whoever
needs it again executes it again."""


class Branches:
    """Owns what is staged on a state. `head` is the last decided block."""

    limit = MAX_UNDECIDED

    def __init__(self, state: State, head: ChainTip) -> None:
        self.head = head
        self._state = state
        self._blocks: dict[bytes, BuiltBlock] = {}
        """By hash, in the order in which they came."""
        self._staged: list[bytes] = []
        """What is on the state, from the head's child up."""

    def __contains__(self, block_hash: bytes) -> bool:
        return block_hash in self._blocks

    def get(self, block_hash: bytes) -> BuiltBlock | None:
        return self._blocks.get(block_hash)

    @property
    def top(self) -> bytes:
        """The block whose state the state's tip is."""
        return self._staged[-1] if self._staged else self.head.hash

    def path(self, block_hash: bytes) -> list[BuiltBlock]:
        """The blocks from the head's child to this one; raises Rejected when it does not lead to the head."""
        path: list[BuiltBlock] = []
        while block_hash != self.head.hash:
            block = self._blocks.get(block_hash)
            if block is None:
                raise Rejected(
                    Reason.WRONG_PARENT, f"block {block_hash.hex()} is not known on top of the head"
                )
            path.append(block)
            block_hash = block.block.header.parent
        return path[::-1]

    def tip_at(self, block_hash: bytes) -> ChainTip:
        """Bring the state's tip to a block, which is what its child needs to know. Raises Rejected."""
        path = self.path(block_hash)
        hashes = [block.hash for block in path]
        common = 0
        while common < min(len(hashes), len(self._staged)) and hashes[common] == self._staged[common]:
            common += 1
        for _ in range(len(self._staged) - common):
            self._take_off()
        for block in path[common:]:
            self._put_on(block)
        return self._tip_of(path[-1]) if path else self.head

    def add(self, block: BuiltBlock) -> None:
        """Keep a block that has just been staged on top."""
        assert block.block.header.parent == self.top, "a block is staged on its parent"
        self._staged.append(block.hash)
        self._blocks[block.hash] = block
        self._forget_some()

    def put_back(self, block: BuiltBlock) -> None:
        """Stage a block on the top whose effect is known; what it gives is compared with what it gave."""
        assert block.block.header.parent == self.top, "a block is staged on its parent"
        self._put_on(block)
        self._blocks[block.hash] = block

    def drop_top(self) -> None:
        """Take the newest block off the state and forget it."""
        self._blocks.pop(self._staged[-1])
        self._take_off()

    def decide(self, block: BuiltBlock) -> None:
        """A child of the head is the head now, for readers too; what does not build on it is forgotten."""
        assert block.block.header.parent == self.head.hash, "blocks are decided one after the other"
        if not self._staged or self._staged[0] != block.hash:
            self._blocks[block.hash] = block  # it may have been forgotten
            self.tip_at(block.hash)
        self._state.publish()
        self._staged.pop(0)
        self.head = self._tip_of(block)
        self._blocks.pop(block.hash, None)
        for other in list(self._blocks.values()):  # parents come before their children
            parent = other.block.header.parent
            if parent != self.head.hash and parent not in self._blocks:
                del self._blocks[other.hash]

    def go_back_to(self, head: ChainTip) -> None:
        """The head has been taken back: nothing that was undecided builds on the new one."""
        assert not self._staged, "nothing is staged on a head that is taken back"
        self._blocks.clear()
        self.head = head

    def clear(self) -> None:
        """Take everything off the state and forget it."""
        while self._staged:
            self._take_off()
        self._blocks.clear()

    def _forget_some(self) -> None:
        while len(self._blocks) > self.limit:
            parents = {block.block.header.parent for block in self._blocks.values()}
            idle = [one for one in self._blocks if one not in parents and one not in self._staged]
            if not idle:
                return  # one long branch, every block of which is needed
            del self._blocks[idle[0]]

    def _take_off(self) -> None:
        self._state.unstage()
        self._staged.pop()

    def _put_on(self, block: BuiltBlock) -> None:
        staged = self._state.stage(block.writes)
        if staged.root != block.block.header.state_root:
            raise BrokenInvariant(f"block {block.hash.hex()} gives another state than when it was executed")
        self._staged.append(block.hash)

    def _tip_of(self, block: BuiltBlock) -> ChainTip:
        return ChainTip(
            genesis_hash=self.head.genesis_hash,
            header=block.block.header,
            hash=block.hash,
            peaks=block.peaks,
            epoch_length=self.head.epoch_length,
            work=self.head.work,
        )
