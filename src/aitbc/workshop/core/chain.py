"""Blocks and their branches, and which of them is the chain. docs/spec/workshop.md "Choice of the chain"

Every block costs the same work, so the highest branch has the most; of equals the first seen stays. A block is on the
chain only after its transactions were applied: one that cannot be is marked invalid, and nothing is built on it.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from aitbc.workshop.core.accounts import Accounts, Undo, check_count
from aitbc.workshop.core.reasons import WorkshopFault, WorkshopReason
from aitbc.workshop.core.rules import Rules
from aitbc.workshop.core.texts import GENESIS, Block

MAX_SIDE_BLOCKS = 4_096
"""Blocks beside the chain; two weeks of a network that finds one in five minutes and never agrees."""
MAX_SIDE_BYTES = 64 * 1024 * 1024
MAX_ORPHANS = 131_072
"""A joining node holds the whole way back to a block that it knows: this much of it, each paid for with work."""
MAX_ORPHAN_BYTES = 64 * 1024 * 1024
ORPHAN_MS = 3_600_000
"""A branch whose beginning nobody shows within an hour is forgotten."""


class Outcome(Enum):
    KNOWN = "known"
    ORPHAN = "orphan"
    """Its parent is not here."""
    SIDE = "side"
    CHAIN = "chain"
    """The tip moved."""


@dataclass(frozen=True)
class Added:
    outcome: Outcome
    missing: bytes | None = None
    """Of an orphan: the first ancestor that is not here."""
    connected: tuple[Block, ...] = ()
    """What is in the tree now and was not, parents first."""
    dropped: tuple[Block, ...] = ()
    """Taken off the chain, the tip first."""
    applied: tuple[Block, ...] = ()
    """Put on it, the lowest first."""


@dataclass
class _Orphans:
    """Blocks with work whose parent is not here."""

    blocks: OrderedDict[bytes, tuple[Block, int]] = field(default_factory=OrderedDict)
    children: dict[bytes, list[bytes]] = field(default_factory=dict)
    size: int = 0
    """Bytes of their texts."""

    def add(self, block: Block, now_ms: int) -> None:
        self.blocks[block.hash] = (block, now_ms)
        self.children.setdefault(block.parent, []).append(block.hash)
        self.size += len(block.text)

    def take_children(self, parent: bytes) -> list[Block]:
        return [self.drop(child) for child in list(self.children.get(parent, ()))]

    def drop(self, hash_: bytes) -> Block:
        block, _ = self.blocks.pop(hash_)
        siblings = self.children[block.parent]
        siblings.remove(hash_)
        if not siblings:
            del self.children[block.parent]
        self.size -= len(block.text)
        return block

    def missing(self, block: Block) -> bytes:
        parent = block.parent
        while parent in self.blocks:
            parent = self.blocks[parent][0].parent
        return parent

    def full(self) -> bool:
        return len(self.blocks) >= MAX_ORPHANS or self.size >= MAX_ORPHAN_BYTES


class Chain:
    """The tree, the chain in it, and the accounts at its tip."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.accounts = Accounts()
        self.overfull_height = 0
        """Of the highest block that was refused for its size alone: where the network may have left this node."""
        self._blocks: dict[bytes, Block] = {GENESIS.hash: GENESIS}
        self._invalid: set[bytes] = set()
        """Of those: blocks that no branch may hold."""
        self._children: dict[bytes, list[bytes]] = {}
        self._chain: list[bytes] = [GENESIS.hash]
        """By height."""
        self._undo: list[Undo] = [{}]
        self._side: OrderedDict[bytes, int] = OrderedDict()
        """Sizes of what is not on the chain, the oldest first."""
        self._side_bytes = 0
        self._orphans = _Orphans()

    @property
    def tip(self) -> Block:
        return self._blocks[self._chain[-1]]

    @property
    def height(self) -> int:
        return len(self._chain) - 1

    @property
    def orphans(self) -> int:
        return len(self._orphans.blocks)

    def get(self, hash_: bytes) -> Block | None:
        """A block that may be served; an invalid one is not."""
        return None if hash_ in self._invalid else self._blocks.get(hash_)

    def has(self, hash_: bytes) -> bool:
        return hash_ in self._blocks or hash_ in self._orphans.blocks

    def at(self, height: int) -> Block:
        return self._blocks[self._chain[height]]

    def missing(self) -> set[bytes]:
        """Parents that somebody must be asked for."""
        return {parent for parent in self._orphans.children if parent not in self._orphans.blocks}

    # In

    def add(self, block: Block, now_ms: int, *, wanted: bool = False) -> Added:
        """Raises WorkshopFault for a block that is refused. `wanted`: it was searched for, so it has a place."""
        if block.hash in self._invalid:
            raise WorkshopFault(WorkshopReason.KNOWN_INVALID, f"block {_name(block)}")
        if self.has(block.hash):
            return Added(Outcome.KNOWN)
        check_work(block, self.rules)
        if block.parent not in self._blocks:
            return self._keep_orphan(block, now_ms, wanted=wanted)
        connected, fault = self._connect(block)
        if fault is not None:
            raise fault
        before = self.tip.hash
        dropped, applied, fault = self._choose(connected)
        self._forget_side()
        if fault is not None and block.hash in self._invalid:
            raise fault
        outcome = Outcome.SIDE if self.tip.hash == before else Outcome.CHAIN
        alive = tuple(one for one in connected if one.hash not in self._invalid)
        return Added(outcome, connected=alive, dropped=dropped, applied=applied)

    def forget_old_orphans(self, now_ms: int) -> None:
        while self._orphans.blocks:
            hash_, (_, came_ms) = next(iter(self._orphans.blocks.items()))
            if now_ms - came_ms < ORPHAN_MS:
                return
            self._orphans.drop(hash_)

    def _keep_orphan(self, block: Block, now_ms: int, *, wanted: bool) -> Added:
        if self._orphans.full() and not wanted:
            raise WorkshopFault(WorkshopReason.ORPHANS_FULL, f"{self.orphans} blocks wait for their parents")
        self._orphans.add(block, now_ms)
        return Added(Outcome.ORPHAN, missing=self._orphans.missing(block))

    # The tree

    def _connect(self, block: Block) -> tuple[list[Block], WorkshopFault | None]:
        """Put a block and the orphans above it in the tree; the fault is the first block's own."""
        connected: list[Block] = []
        first_fault: WorkshopFault | None = None
        queue = [block]
        while queue:
            one = queue.pop(0)
            fault = self._fault_in_place(one)
            if fault is None or fault.reason is not WorkshopReason.WRONG_NUMBER:
                self._put(one)
                queue += self._orphans.take_children(one.hash)
            if fault is None:
                connected.append(one)
            elif fault.reason is not WorkshopReason.WRONG_NUMBER:
                self._invalid.add(one.hash)
            if one is block:
                first_fault = fault
        return connected, first_fault

    def _fault_in_place(self, block: Block) -> WorkshopFault | None:
        """What is wrong with a block whose parent is known, before its transactions are looked at."""
        parent = self._blocks[block.parent]
        if block.number != parent.number + 1:
            message = f"{block.number} on top of {parent.number}"
            return WorkshopFault(WorkshopReason.WRONG_NUMBER, message)
        if block.parent in self._invalid:
            return WorkshopFault(WorkshopReason.INVALID_PARENT, f"block {_name(block)}")
        try:
            check_count(block, self.rules)
        except WorkshopFault as fault:
            self.overfull_height = max(self.overfull_height, block.number)
            return fault
        return None

    def _put(self, block: Block) -> None:
        self._blocks[block.hash] = block
        self._children.setdefault(block.parent, []).append(block.hash)
        self._side[block.hash] = len(block.text)
        self._side_bytes += len(block.text)

    def _forget_side(self) -> None:
        """The oldest beside the chain goes with all that builds on it; who needs it again finds it by search."""
        while len(self._side) > MAX_SIDE_BLOCKS or self._side_bytes > MAX_SIDE_BYTES:
            oldest = next(iter(self._side))
            self._children[self._blocks[oldest].parent].remove(oldest)
            family = [oldest]
            while family:
                hash_ = family.pop()
                family += self._children.pop(hash_, ())
                self._side_bytes -= self._side.pop(hash_)
                self._invalid.discard(hash_)
                del self._blocks[hash_]

    # The choice

    def _choose(
        self, connected: Sequence[Block]
    ) -> tuple[tuple[Block, ...], tuple[Block, ...], WorkshopFault | None]:
        """Move to the highest of the new blocks that can be applied, if it is higher than the tip."""
        fault: WorkshopFault | None = None
        while True:
            higher = [one for one in connected if one.number > self.height and one.hash not in self._invalid]
            if not higher:
                return (), (), fault
            target = max(higher, key=lambda one: one.number)
            try:
                return *self._move_to(target), fault
            except WorkshopFault as wrong:
                fault = fault or wrong

    def _move_to(self, target: Block) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
        """All of it or nothing: a branch that breaks leaves the chain as it was."""
        branch = self._branch_to(target)
        common = branch[0].number - 1
        dropped = [self._take_off() for _ in range(self.height - common)]
        for place, block in enumerate(branch):
            try:
                self._put_on(block)
            except WorkshopFault:
                self._mark_invalid(block)
                for _ in range(place):
                    self._take_off()
                for before in reversed(dropped):
                    self._put_on(before)
                raise
        return tuple(dropped), tuple(branch)

    def _branch_to(self, target: Block) -> list[Block]:
        branch = [target]
        while not self._on_chain(branch[-1].parent):
            branch.append(self._blocks[branch[-1].parent])
        return branch[::-1]

    def _on_chain(self, hash_: bytes) -> bool:
        number = self._blocks[hash_].number
        return number <= self.height and self._chain[number] == hash_

    def _put_on(self, block: Block) -> None:
        self._undo.append(self.accounts.apply_block(block, self.rules))
        self._chain.append(block.hash)
        self._side_bytes -= self._side.pop(block.hash)

    def _take_off(self) -> Block:
        block = self._blocks[self._chain.pop()]
        self.accounts.take_back(self._undo.pop())
        self._side[block.hash] = len(block.text)
        self._side_bytes += len(block.text)
        return block

    def _mark_invalid(self, block: Block) -> None:
        family = [block.hash]
        while family:
            hash_ = family.pop()
            self._invalid.add(hash_)
            family += self._children.get(hash_, ())


def check_work(block: Block, rules: Rules) -> None:
    """What costs a stranger its work before anything of it is kept."""
    if not has_work(block.hash, rules.difficulty):
        message = f"block {block.hash.hex()[:16]} has not {rules.difficulty} zeros"
        raise WorkshopFault(WorkshopReason.NO_WORK, message)
    if block.number < 1:
        raise WorkshopFault(WorkshopReason.WRONG_NUMBER, f"{block.number}")


def has_work(hash_: bytes, difficulty: int) -> bool:
    return hash_.hex().startswith("0" * difficulty)


def replay(chain: Chain, texts: Iterable[Block]) -> None:
    """Blocks that were kept, in the order in which they came; what was refused then is refused again."""
    for block in texts:
        try:
            chain.add(block, 0)
        except WorkshopFault:
            continue


def _name(block: Block) -> str:
    return f"{block.number} {block.hash.hex()[:16]}"
