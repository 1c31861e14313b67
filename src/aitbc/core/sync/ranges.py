"""Which peer is asked for what while this node is far behind, and what is written next. docs/spec/sync.md

No clock, no thread, no socket: facts come in, effects leave. Whatever a peer claims about its height only makes it be
asked for a proof; agreement is left alone until a quorum's certificate shows that the node is behind.
"""

from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

import msgspec

from aitbc.core.peer.kinds import BLOCKS, ENDS, HEADERS, BlockRange, EndsAsked, Kind
from aitbc.core.sync.answers import Chain, Link, Proved, check_blocks, check_ends, check_headers
from aitbc.core.types.blocks import Block, Certificate, Validator

MIN_BEHIND = 64
"""Fewer blocks are fetched by hash, as agreement asks for them."""
ENDS_AHEAD = 64
"""Proved epochs that wait for their blocks."""
HEADERS_ASKED = 512
HEADERS_AHEAD = 2_048
"""Headers whose blocks were not asked for yet."""
RANGE = 128
"""Blocks in a question: empty ones take 60 ms to execute; of large ones the answer holds fewer."""
WINDOW = 1_024
"""Blocks above the newest written that are asked for, unless the next certificate is further up."""
MAX_HELD_BYTES = 64 * 1024 * 1024
"""Of blocks that wait for one before them; what is on its way comes on top, 4 MiB in each answer."""
MAX_ASKED = 8
"""Questions for blocks under way."""
ASKED_OF_PEER = 2
"""Of one peer: it reads the next answer while the first is on its way."""
BATCH_BLOCKS, BATCH_BYTES = 256, 4 * 1024 * 1024
"""Written together, up to a block with a certificate: half a second of work, so that progress shows."""
BATCHES_AHEAD = 2
"""Handed over and not written yet: signatures of the second are checked while the first is executed and written."""
STALL_MS = 2_000
"""After this another peer is asked too; the first answer counts."""
SULK_MS = 60_000
"""Who said that it is far ahead and proved nothing is not asked again for so long."""
SILENT_MS = 2_000
"""Who gave no answer about that, because its link broke perhaps, is asked again after this, and after twice as long
each further time, up to `SULK_MS`: with one peer there is nobody else."""


class SyncState(StrEnum):
    LIVE = "live"
    """Nobody has proved to be far ahead."""
    PROOFS = "proofs"
    """Somebody says so and is asked for certificates."""
    BLOCKS = "blocks"
    """Blocks up to a proved one are fetched, executed and written."""


class Ask(NamedTuple):
    key: bytes
    kind: Kind
    message: Any
    ticket: int


class Final(NamedTuple):
    """A block that a quorum made final, itself or by a block above it."""

    hash: bytes
    block: Block
    certificate: Certificate | None


class Apply(NamedTuple):
    """Execute these on the head, or on those of the Apply before, and write them together, then call `applied`, or
    `wrong_body`: all that was handed over later is forgotten then. The last has a certificate."""

    blocks: list[Final]


class Blame(NamedTuple):
    """The peer told something that nobody honest tells."""

    key: bytes
    message: str


SyncEffect = Ask | Apply | Blame


class _Question(msgspec.Struct):
    key: bytes
    kind: Kind
    start: int
    count: int
    asked_ms: int
    is_late: bool = False
    """Somebody else was asked too."""


class _Body(NamedTuple):
    block: Block
    size: int
    giver: bytes


class Sizes(NamedTuple):
    """How much is asked for and written at a time; simulations take less, so that little is enough for a story."""

    min_behind: int = MIN_BEHIND
    headers: int = HEADERS_ASKED
    blocks: int = RANGE
    batch: int = BATCH_BLOCKS


class RangeSync:
    """`head` is the newest block on disk."""

    def __init__(
        self,
        *,
        chain: Chain,
        height: int,
        block_hash: bytes,
        validators: list[Validator],
        sizes: Sizes = Sizes(),  # noqa: B008 - it is frozen
    ) -> None:
        """`validators`: the set of the block after the head."""
        self._chain = chain
        self._sizes = sizes
        self._ticket = 0
        self._questions: dict[int, _Question] = {}
        self._peers: dict[bytes, int] = {}
        """Peer → the height of the newest final block that it says it has."""
        self._sulking: dict[bytes, int] = {}
        """Peer → until when it is not asked for proofs."""
        self._silent: Counter[bytes] = Counter()
        """Peer → how often in a row it gave no answer about proofs; of those that are connected."""
        self._begin(height, block_hash, validators)

    def _begin(self, height: int, block_hash: bytes, validators: list[Validator]) -> None:
        self._height = height
        self._validators = validators
        """Of the block after the highest that is proved."""
        self._ends: deque[tuple[Proved, list[Validator]]] = deque()
        """Proved blocks without headers yet, with the set that proved each."""
        self._top = (height, block_hash)
        """The newest block with a known header."""
        self._teller: bytes | None = None
        """Who tells the headers up to the next proved block."""
        self._told: list[Link] = []
        """What it has told so far; good once it leads to the proved block."""
        self._links: dict[int, Link] = {}
        """By height: final blocks that are not written."""
        self._unasked: list[tuple[int, int]] = []
        """(start, count), the lowest first: ranges of them to ask for."""
        self._bodies: dict[int, _Body] = {}
        self._held = 0
        """Bytes of these."""
        self._applying: deque[int] = deque()
        """The last height of each batch that is handed over and not written, the lowest first."""

    # What is seen from outside

    @property
    def state(self) -> SyncState:
        if self._links or self._ends:
            return SyncState.BLOCKS
        asked = any(question.kind is ENDS for question in self._questions.values())
        return SyncState.PROOFS if asked else SyncState.LIVE

    @property
    def height(self) -> int:
        return self._height

    @property
    def target(self) -> int:
        """The highest block that is proved to be final."""
        return self._ends[-1][0].height if self._ends else self._top[0]

    # Facts

    def tick(self, now_ms: int, peers: Mapping[bytes, int]) -> list[SyncEffect]:
        """Call every second or so, with who is connected and how far each says it is."""
        self._peers = dict(peers)
        self._sulking = {key: until for key, until in self._sulking.items() if until > now_ms}
        for key in [key for key in self._silent if key not in peers and key not in self._sulking]:
            del self._silent[key]
        for ticket, question in list(self._questions.items()):
            if question.key not in self._peers:
                self._give_up(ticket)
            elif now_ms - question.asked_ms >= STALL_MS and not question.is_late:
                question.is_late = True
                if question.kind is ENDS:
                    self._note_silence(now_ms, question.key)
                self._ask_again(question)
        return self._go_on(now_ms)

    def moved(self, height: int, block_hash: bytes, validators: list[Validator]) -> None:
        """Agreement has written blocks itself while nothing was fetched here."""
        assert self.state is not SyncState.BLOCKS, "agreement rests while blocks are fetched"
        self._begin(height, block_hash, validators)

    def checker(self, ticket: int, answer: Any) -> Callable[[], Any] | None:
        """What to do with an answer, on any thread; its result goes to `take`, a Rejected to `lied`. None: nobody waits
        for it any more."""
        question = self._questions.get(ticket)
        if question is None:
            return None
        if question.kind is ENDS:
            if question.start != self.target:  # more was proved meanwhile, and another set votes perhaps
                self._give_up(ticket)
                return None
            return partial(
                check_ends,
                answer.ends,
                above=question.start,
                validators=self._validators,
                chain=self._chain,
            )
        if question.kind is HEADERS:
            if question.key != self._teller or question.start != self._next_header or not self._ends:
                self._give_up(ticket)
                return None
            end, validators = self._ends[0]
            return partial(
                check_headers,
                answer.headers,
                answer.certificates,
                start=question.start,
                parent=self._told[-1].hash if self._told else self._top[1],
                end=end,
                validators=validators,
                chain=self._chain,
            )
        wanted = range(question.start, question.start + question.count)
        hashes = [self._links[height].hash for height in wanted if height in self._links]
        if len(hashes) < question.count:
            self._give_up(ticket)
            return None
        return partial(_with_sizes, answer.blocks, hashes)

    def take(self, now_ms: int, ticket: int, result: Any) -> list[SyncEffect]:
        question = self._questions.pop(ticket, None)
        if question is None:
            return []
        if question.kind is ENDS:
            self._take_ends(now_ms, question, result)
        elif question.kind is HEADERS:
            self._take_headers(question, result)
        else:
            self._take_blocks(question, result)
        return self._go_on(now_ms)

    def lied(self, now_ms: int, ticket: int, message: str) -> list[SyncEffect]:
        """The answer was one that nobody honest gives."""
        question = self._questions.get(ticket)
        if question is None:
            return []
        self._sulking[question.key] = now_ms + SULK_MS
        self._peers.pop(question.key, None)
        self._give_up(ticket)
        return [Blame(question.key, message), *self._go_on(now_ms)]

    def unanswered(self, now_ms: int, ticket: int) -> list[SyncEffect]:
        """The peer has not got it, is busy, or gone."""
        question = self._questions.get(ticket)
        if question is None:
            return []
        if question.kind is ENDS and not question.is_late:
            self._note_silence(now_ms, question.key)
        self._peers.pop(question.key, None)  # until the next tick
        self._give_up(ticket)
        return self._go_on(now_ms)

    def applied(self, now_ms: int, height: int) -> list[SyncEffect]:
        """What `Apply` asked for is on disk."""
        for done in range(self._height + 1, height + 1):
            self._links.pop(done, None)
            self._forget_body(done)
        self._height = height
        self._applying.popleft()
        return self._go_on(now_ms)

    def wrong_body(self, now_ms: int, height: int) -> list[SyncEffect]:
        """The transactions of this block, and maybe of those after it, are not those of its header: whoever gave it
        lied. Those before it were not written either."""
        giver = self._bodies[height].giver
        for other, body in list(self._bodies.items()):
            if body.giver == giver:
                self._forget_body(other)
                insort(self._unasked, (other, 1))
        self._applying.clear()
        self._sulking[giver] = now_ms + SULK_MS
        self._peers.pop(giver, None)
        return [Blame(giver, f"block {height} with other transactions"), *self._go_on(now_ms)]

    # Taking answers in

    def _take_ends(self, now_ms: int, question: _Question, proved: Sequence[Proved]) -> None:
        if question.start != self.target:
            return
        del self._silent[question.key]
        is_live = not self._ends and not self._links
        if not proved or (is_live and proved[-1].height - self._height < self._sizes.min_behind):
            self._sulking[question.key] = now_ms + SULK_MS
            return
        for end in proved:
            self._ends.append((end, self._validators))
            self._validators = end.next_validators or self._validators

    @property
    def _next_header(self) -> int:
        return self._top[0] + len(self._told) + 1

    def _take_headers(self, question: _Question, links: Sequence[Link]) -> None:
        if question.key != self._teller or question.start != self._next_header or not self._ends:
            return
        self._told += links
        end, _ = self._ends[0]
        if self._next_header <= end.height:
            return
        for height, link in enumerate(self._told, self._top[0] + 1):
            self._links[height] = link
        step = self._sizes.blocks
        for start in range(self._top[0] + 1, end.height + 1, step):
            self._unasked.append((start, min(step, end.height + 1 - start)))
        self._top = (end.height, end.hash)
        self._ends.popleft()
        self._forget_told()

    def _take_blocks(self, question: _Question, blocks: Sequence[tuple[Block, int]]) -> None:
        for height, (block, size) in enumerate(blocks, question.start):
            if height in self._links and height not in self._bodies:
                self._bodies[height] = _Body(block, size, question.key)
                self._held += size
        came = question.start + len(blocks)
        rest = question.start + question.count - came
        if rest and not question.is_late:
            insort(self._unasked, (came, rest))

    def _forget_told(self) -> None:
        self._teller = None
        self._told = []

    def _forget_body(self, height: int) -> None:
        body = self._bodies.pop(height, None)
        if body is not None:
            self._held -= body.size

    def _give_up(self, ticket: int) -> None:
        question = self._questions.pop(ticket)
        if not question.is_late:
            self._ask_again(question)

    def _ask_again(self, question: _Question) -> None:
        """What was asked of one peer is to be asked of another."""
        if question.kind is HEADERS:
            self._forget_told()
        elif question.kind is BLOCKS:
            insort(self._unasked, (question.start, question.count))

    # What to do next

    def _go_on(self, now_ms: int) -> list[SyncEffect]:
        effects: list[SyncEffect] = []
        self._link_neighbours()
        self._ask_for_ends(now_ms, effects)
        self._ask_for_headers(now_ms, effects)
        self._ask_for_blocks(now_ms, effects)
        self._apply(effects)
        return effects

    def _ask(self, now_ms: int, key: bytes, kind: Kind, start: int, count: int) -> Ask:
        self._ticket += 1
        self._questions[self._ticket] = _Question(key, kind, start, count, now_ms)
        message = EndsAsked(start) if kind is ENDS else BlockRange(start, count)
        return Ask(key, kind, message, self._ticket)

    def _is_asking(self, kind: Kind) -> bool:
        return any(one.kind is kind and not one.is_late for one in self._questions.values())

    def _free_peer(self, height: int, most: int) -> bytes | None:
        """Who has this block and is asked for little; the furthest of equals."""
        busy = Counter(question.key for question in self._questions.values())
        able = [
            (busy[key], -far, key) for key, far in self._peers.items() if far >= height and busy[key] < most
        ]
        return min(able)[2] if able else None

    def _ask_for_ends(self, now_ms: int, effects: list[SyncEffect]) -> None:
        if self._is_asking(ENDS) or len(self._ends) >= ENDS_AHEAD:
            return
        behind = self._sizes.min_behind if self.state is SyncState.LIVE else 1
        willing = {key: far for key, far in self._peers.items() if key not in self._sulking}
        able = [key for key, far in willing.items() if far >= self.target + behind]
        if able:  # who was silent comes after everybody else, whatever it says of itself
            chosen = max(able, key=lambda key: (-self._silent[key], willing[key], key))
            effects.append(self._ask(now_ms, chosen, ENDS, self.target, 0))

    def _note_silence(self, now_ms: int, key: bytes) -> None:
        wait_ms = SILENT_MS << min(self._silent[key], 5)
        self._sulking[key] = now_ms + min(wait_ms, SULK_MS)
        self._silent[key] += 1

    def _link_neighbours(self) -> None:
        """A proved block right above the newest one with a known header needs nobody to tell its header."""
        while self._ends and not self._told and self._ends[0][0].height == self._top[0] + 1:
            end, _ = self._ends.popleft()
            self._links[end.height] = Link(end.hash, end.certificate)
            start, count = self._unasked[-1] if self._unasked else (0, 0)
            if start + count == end.height and count < self._sizes.blocks:
                self._unasked[-1] = (start, count + 1)
            else:
                self._unasked.append((end.height, 1))
            self._top = (end.height, end.hash)

    def _ask_for_headers(self, now_ms: int, effects: list[SyncEffect]) -> None:
        if not self._ends or self._is_asking(HEADERS) or self._top[0] - self._height >= HEADERS_AHEAD:
            return
        end, _ = self._ends[0]
        if self._teller is None or self._teller not in self._peers:
            self._forget_told()
            self._teller = self._free_peer(end.height, ASKED_OF_PEER + 1)
        if self._teller is not None:
            count = min(self._sizes.headers, end.height + 1 - self._next_header)
            effects.append(self._ask(now_ms, self._teller, HEADERS, self._next_header, count))

    def _ask_for_blocks(self, now_ms: int, effects: list[SyncEffect]) -> None:
        edge, gap = max(self._height + WINDOW, self._next_certificate()), self._gap()
        while self._unasked:
            start, count = self._unasked[0]
            if self._held >= MAX_HELD_BYTES and start > gap:
                return  # what is held waits for what is lower, which is on its way
            under_way = sum(question.kind is BLOCKS for question in self._questions.values())
            if start > edge or under_way >= MAX_ASKED:
                return
            missing = [height for height in range(start, start + count) if self._is_missing(height)]
            if not missing:
                self._unasked.pop(0)
                continue
            key = self._free_peer(missing[-1], ASKED_OF_PEER)
            if key is None:
                return
            self._unasked.pop(0)
            effects.append(self._ask(now_ms, key, BLOCKS, missing[0], missing[-1] + 1 - missing[0]))

    def _gap(self) -> int:
        """The lowest height without a block: nothing above it can be written before."""
        height = self._height + 1
        while height in self._bodies:
            height += 1
        return height

    def _is_missing(self, height: int) -> bool:
        return height in self._links and height not in self._bodies

    def _next_certificate(self) -> int:
        """The height of the next block that blocks can be written up to."""
        height = self._height + 1
        while height in self._links and self._links[height].certificate is None:
            height += 1
        return height

    def _apply(self, effects: list[SyncEffect]) -> None:
        """As many blocks as are here without a gap, up to one with a certificate."""
        while len(self._applying) < BATCHES_AHEAD:
            chosen = self._next_batch(self._applying[-1] if self._applying else self._height)
            if not chosen:
                return
            self._applying.append(chosen[-1])
            effects.append(Apply([self._final(height) for height in chosen]))

    def _next_batch(self, written: int) -> range:
        """Heights above `written`; none when no block with a certificate can be reached."""
        last, size, height = written, 0, written + 1
        while height in self._bodies:
            if self._links[height].certificate is not None:
                last = height
            size += self._bodies[height].size
            height += 1
            if last > written and (size > BATCH_BYTES or height - written > self._sizes.batch):
                break
        return range(written + 1, last + 1)

    def _final(self, height: int) -> Final:
        link = self._links[height]
        return Final(link.hash, self._bodies[height].block, link.certificate)


def _with_sizes(raw: Sequence[bytes], hashes: Sequence[bytes]) -> list[tuple[Block, int]]:
    blocks = check_blocks(raw, hashes=hashes)
    return [(block, len(packed)) for block, packed in zip(blocks, raw, strict=True)]
