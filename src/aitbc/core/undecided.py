"""Blocks that agreement talks about: fetched, executed on their parents, kept until one of their height is final.

Answers the engine's `ExecuteBlock`, whatever comes first, the question, the block or its ancestors. Bodies of blocks
are kept for peers that ask, and bounded. Pure: executing and fetching are the host's.
"""

from collections.abc import Iterator
from typing import NamedTuple

from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.codec.wire import pack
from aitbc.core.consensus.engine import BlockExecuted, ExecuteBlock
from aitbc.core.types.blocks import Block, Header
from aitbc.core.types.reasons import Reason

MAX_BODIES = 1_024
MAX_BODY_BYTES = 128 * 1024 * 1024
"""Of all bodies: thirty largest blocks. The oldest that nobody asks about go first."""
MAX_REFUSED = 1_024
MAX_QUESTION_AGE = 64
"""So many blocks later nobody waits for the answer: what a leader never showed is not asked for, for ever."""


class Work(NamedTuple):
    """What is to be done next, and what is known now."""

    check: list[tuple[bytes, Block]]
    """Execute these; each is on an executed parent."""
    fetch: list[bytes]
    """Nobody here has these."""
    verdicts: list[BlockExecuted]


class Undecided:
    """The blocks above the head, by hash."""

    def __init__(self, head: Header, head_hash: bytes) -> None:
        self._head, self._head_hash = head, head_hash
        self._bodies: dict[bytes, Block] = {}
        self._sizes: dict[bytes, int] = {}
        self._bytes = 0
        self._built: dict[bytes, BuiltBlock] = {}
        """Executed and valid, in the order in which they came."""
        self._refused: dict[bytes, Reason] = {}
        self._questions: dict[tuple[bytes, bytes | None], ExecuteBlock] = {}
        self._asked_at: dict[tuple[bytes, bytes | None], int] = {}
        """Height of the head when a question was first asked."""
        self._checking: set[bytes] = set()
        self._deciding: set[bytes] = set()
        """Handed over to be written: they are not executed again, whatever the executor has forgotten."""
        self._wanted: set[bytes] = set()

    # What is here

    def body(self, block_hash: bytes) -> Block | None:
        built = self._built.get(block_hash)
        return self._bodies.get(block_hash) or (built.block if built is not None else None)

    def built(self, block_hash: bytes) -> BuiltBlock | None:
        return self._built.get(block_hash)

    def all_built(self) -> Iterator[BuiltBlock]:
        return iter(self._built.values())

    def is_wanted(self, block_hash: bytes) -> bool:
        """Is somebody to be asked for it still?"""
        return block_hash in self._wanted

    def has_state(self, block_hash: bytes) -> bool:
        """Can a block be built on it?"""
        return block_hash == self._head_hash or block_hash in self._built

    def path(self, block_hash: bytes, above: bytes) -> list[BuiltBlock] | None:
        """Executed blocks from the child of `above` up to this one; None when one is to be executed again first."""
        path = []
        while block_hash != above:
            block = self._built.get(block_hash)
            if block is None:
                return None
            path.append(block)
            block_hash = block.block.header.parent
        return path[::-1]

    # What happens

    def ask(self, question: ExecuteBlock) -> None:
        asked = (question.hash, question.parent)
        self._questions[asked] = question
        self._asked_at.setdefault(asked, self._head.height)

    def keep(self, block_hash: bytes, block: Block) -> None:
        """A body, from a proposal, an answer or this node itself."""
        self._wanted.discard(block_hash)
        if block_hash in self._bodies or block_hash == self._head_hash:
            return
        self._bodies[block_hash] = block
        self._sizes[block_hash] = size = len(pack(block))
        self._bytes += size
        self._forget_bodies()

    def executed(self, block: BuiltBlock) -> None:
        self._checking.discard(block.hash)
        self._built[block.hash] = block
        self.keep(block.hash, block.block)

    def refused(self, block_hash: bytes, reason: Reason) -> None:
        """The block is no valid child of its parent."""
        self._checking.discard(block_hash)
        self._refused[block_hash] = reason
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]

    def deciding(self, path: list[BuiltBlock]) -> None:
        """These are being written."""
        self._deciding.update([block.hash for block in path])

    def unchecked(self, block_hash: bytes) -> None:
        """The executor could not check a block: it has forgotten its parent."""
        self._checking.discard(block_hash)
        body = self._bodies.get(block_hash)
        if body is not None:
            self.lost(body.header.parent)

    def exchanged(self, block_hash: bytes) -> None:
        """The body that came is not this block's: somebody else is asked for it."""
        self._checking.discard(block_hash)
        if block_hash in self._bodies:
            self._forget_body(block_hash)

    def lost(self, block_hash: bytes) -> None:
        """The executor has forgotten this block, or one that it stands on: they, and what stands on them, are executed
        again when they are needed."""
        while block_hash in self._built and block_hash not in self._deciding:
            block_hash = self._built.pop(block_hash).block.header.parent
        self._drop_orphans()

    def _drop_orphans(self) -> None:
        for other in list(self._built.values()):  # parents come before their children
            if not self.has_state(other.block.header.parent) and other.hash not in self._deciding:
                del self._built[other.hash]

    def decided(self, block: BuiltBlock) -> None:
        """A child of the head is the head."""
        self._head, self._head_hash = block.block.header, block.hash
        self._deciding.discard(block.hash)
        self._built.pop(block.hash, None)
        self._drop_orphans()
        for name in [name for name, body in self._bodies.items() if body.header.height <= self._head.height]:
            self._forget_body(name)
        for asked, height in list(self._asked_at.items()):
            if self._head.height - height > MAX_QUESTION_AGE:
                self._forget_question(asked)

    def _forget_question(self, asked: tuple[bytes, bytes | None]) -> None:
        del self._questions[asked]
        del self._asked_at[asked]
        if not any(name == asked[0] for name, _ in self._questions):
            self._wanted.discard(asked[0])

    def work(self) -> Work:
        """Go through the open questions; those that can be answered are."""
        work = Work([], [], [])
        for question in list(self._questions.values()):
            verdict = self._look_at(question, work)
            if verdict is not None:
                self._forget_question((question.hash, question.parent))
                work.verdicts.append(verdict)
        return work

    def _look_at(self, question: ExecuteBlock, work: Work) -> BlockExecuted | None:
        name = question.hash
        if self.has_state(name):
            header = self._head if name == self._head_hash else self._built[name].block.header
            return _verdict(question, header)
        body = self._bodies.get(name)
        if body is not None and question.parent not in (None, body.header.parent):
            return _verdict(question, body.header)
        while True:
            body = self._bodies.get(name)
            if body is None:
                if name not in self._wanted:
                    self._wanted.add(name)
                    work.fetch.append(name)
                return None
            if name in self._refused:
                asked = self._bodies[question.hash].header
                return _verdict(question, asked, self._refused[name])
            parent = body.header.parent
            if self.has_state(parent):
                break
            if body.header.height <= self._head.height + 1:
                return _verdict(question, self._bodies[question.hash].header, Reason.WRONG_PARENT)
            name = parent
        if name not in self._checking:
            self._checking.add(name)
            work.check.append((name, body))
        return None

    def _forget_bodies(self) -> None:
        if len(self._bodies) <= MAX_BODIES and self._bytes <= MAX_BODY_BYTES:
            return
        asked = {name for name, _ in self._questions}
        for name in list(self._bodies):
            if name not in asked and name not in self._checking:
                self._forget_body(name)
            if len(self._bodies) <= MAX_BODIES and self._bytes <= MAX_BODY_BYTES:
                return

    def _forget_body(self, name: bytes) -> None:
        del self._bodies[name]
        self._bytes -= self._sizes.pop(name)


def _verdict(question: ExecuteBlock, header: Header, reason: Reason | None = None) -> BlockExecuted:
    if reason is None and question.parent not in (None, header.parent):
        reason = Reason.WRONG_PARENT
    return BlockExecuted(
        question.hash, question.parent, header.parent, header.height, header.timestamp_ms, reason
    )
