"""Far behind: which peer is asked for what, and what a lie, a silence or a crash of one of them costs."""

import heapq
import random
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from aitbc.adapters.storage import ranges as served
from aitbc.adapters.storage.memory import MemoryStore
from aitbc.adapters.storage.ranges import read_blocks, read_ends, read_headers
from aitbc.core.chain.builder import WrongBody
from aitbc.core.codec.digests import candidate_id, vote_digest
from aitbc.core.codec.wire import pack
from aitbc.core.executor import Executor
from aitbc.core.ledger.genesis import ConsensusSettings
from aitbc.core.ledger.validators import validators_of
from aitbc.core.peer.kinds import BLOCKS, ENDS, HEADERS, Blocks, Ends, Headers
from aitbc.core.sync import answers, ranges
from aitbc.core.sync.answers import Chain as Rules
from aitbc.core.sync.ranges import (
    ASKED_OF_PEER,
    MAX_ASKED,
    MIN_BEHIND,
    SILENT_MS,
    STALL_MS,
    SULK_MS,
    Apply,
    Ask,
    Blame,
    RangeSync,
    SyncState,
)
from aitbc.core.types.blocks import Block, Candidate, Certificate
from aitbc.core.types.reasons import Rejected
from support.chain import Chain, genesis
from support.people import ALICE, BOB, VALIDATOR

EPOCH = 20
HEIGHT = 330


def grown(height: int, *, certified_every: int = 1) -> tuple[Chain, MemoryStore]:
    """A chain of one validator and its store; not every block has a certificate of its own."""
    chain = Chain(genesis(consensus=ConsensusSettings(epoch_length=EPOCH)))
    store = MemoryStore(chain.genesis_hash)
    store.commit(chain.executor.loaded.first)
    executor = chain.executor
    for number in range(1, height + 1):
        txs = [chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1})] if number % 5 == 0 else []
        chain.now_ms += 1_000
        built = executor.build(txs, proposer=VALIDATOR.address, timestamp_ms=chain.now_ms)
        own = number % certified_every == 0 or number % EPOCH == 0 or number == height
        commit = executor.seal(built, certificate(chain, built.hash, number) if own else None)
        store.commit(commit)
        executor.publish(built, commit.block)
    return chain, store


def certificate(chain: Chain, block_hash: bytes, height: int) -> Certificate:
    epoch, place = divmod(height - 1, EPOCH)
    candidate = Candidate(epoch, place + 1, 0, bytes(32), block_hash)
    digest = vote_digest(
        kind="final",
        epoch=epoch,
        slot=place + 1,
        candidate=candidate_id(candidate, "ait-test", chain.genesis_hash),
        chain_id="ait-test",
        genesis_hash=chain.genesis_hash,
    )
    return Certificate("final", candidate, 1, [VALIDATOR.sign(digest)])


@pytest.fixture(scope="module")
def elsewhere() -> tuple[Chain, MemoryStore]:
    return grown(HEIGHT, certified_every=3)


class Peer:
    """Answers from its store, honestly and soon."""

    def __init__(self, store: MemoryStore, height: int = HEIGHT) -> None:
        self.store = store
        self.height = height
        self.asked: list[str] = []

    def says(self) -> int:
        return self.height

    def answer(self, ask: Ask) -> Any:
        self.asked.append(ask.kind.name)
        if ask.kind is ENDS:
            return read_ends(self.store, above=ask.message.above, epoch_length=EPOCH, height=self.height)
        read = read_headers if ask.kind is HEADERS else read_blocks
        return read(self.store, start=ask.message.start, count=ask.message.count)

    def delay_ms(self, ask: Ask) -> int:
        return 10


class Silent(Peer):
    """Proves and then says nothing more."""

    def answer(self, ask: Ask) -> Any:
        return super().answer(ask) if ask.kind is ENDS else "silence"


class Slow(Peer):
    def delay_ms(self, ask: Ask) -> int:
        return 3 * STALL_MS


class Braggart(Peer):
    def says(self) -> int:
        return 1_000_000


class HeaderForger(Peer):
    def answer(self, ask: Ask) -> Any:
        honest = super().answer(ask)
        if ask.kind is not HEADERS:
            return honest
        return Headers(honest.headers[:-1] + honest.headers[:1], honest.certificates)


class SetForger(Peer):
    def answer(self, ask: Ask) -> Any:
        honest = super().answer(ask)
        return Ends([raw[:-1] + b"\xff" for raw in honest.ends]) if ask.kind is ENDS else honest


class BlockSwapper(Peer):
    def answer(self, ask: Ask) -> Any:
        honest = super().answer(ask)
        return Blocks(honest.blocks[::-1]) if ask.kind is BLOCKS and len(honest.blocks) > 1 else honest


class BodyForger(Peer):
    """Good headers over other transactions."""

    def answer(self, ask: Ask) -> Any:
        if ask.kind is not BLOCKS:
            return super().answer(ask)
        found = [self.store.block_by_height(ask.message.start + place) for place in range(ask.message.count)]
        return Blocks([pack(Block(one.block.header, one.block.txs * 2)) for one in found if one is not None])


class Play:
    """Virtual time, one node behind, and its peers by name."""

    def __init__(self, document: bytes, peers: dict[bytes, Peer]) -> None:
        self.executor = Executor(document, None)
        self.store = MemoryStore(self.executor.loaded.hash)
        self.store.commit(self.executor.loaded.first)
        self.peers = peers
        self.here = set(peers)
        """Who is connected."""
        rules = Rules("ait-test", self.executor.loaded.hash, EPOCH)
        self.sync = RangeSync(
            chain=rules,
            height=0,
            block_hash=self.executor.head.hash,
            validators=validators_of(self.executor.state),
        )
        self.now_ms = 0
        self.blamed: list[tuple[bytes, str]] = []
        self.states: list[SyncState] = []
        self.most_asked = self.most_told = 0
        self._heap: list[tuple[int, int, Callable[[], list[Any]]]] = []
        self._order = count()

    def run(self, until_ms: int) -> None:
        for at_ms in range(self.now_ms, until_ms, 1_000):
            self._at(at_ms, self._tick)
        while self._heap and self._heap[0][0] <= until_ms:
            self.now_ms, _, happen = heapq.heappop(self._heap)
            self._perform(happen())
            self.states.append(self.sync.state)

    def _tick(self) -> list[Any]:
        return self.sync.tick(self.now_ms, {key: self.peers[key].says() for key in sorted(self.here)})

    def _at(self, at_ms: int, happen: Callable[[], list[Any]]) -> None:
        heapq.heappush(self._heap, (at_ms, next(self._order), happen))

    def _perform(self, effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case Ask():
                    self._ask(effect)
                case Apply():
                    self._at(self.now_ms + 5, lambda work=effect: self._write(work))
                case Blame():
                    self.blamed.append((effect.key, effect.message))
        under_way = self.sync._questions.values()
        for key in self.peers:
            assert sum(one.key == key and one.kind is BLOCKS for one in under_way) <= ASKED_OF_PEER
        self.most_told = max(self.most_told, len(self.sync._told))
        self.most_asked = max(self.most_asked, sum(one.kind is BLOCKS for one in under_way))

    def _ask(self, ask: Ask) -> None:
        peer = self.peers[ask.key]
        answer = peer.answer(ask)
        if answer != "silence" and ask.key in self.here:
            self._at(self.now_ms + peer.delay_ms(ask), lambda: self._hear(ask.ticket, answer))

    def _hear(self, ticket: int, answer: Any) -> list[Any]:
        work = self.sync.checker(ticket, answer)
        if work is None:
            return []
        try:
            result = work()
        except Rejected as rejection:
            return self.sync.lied(self.now_ms, ticket, rejection.message)
        return self.sync.take(self.now_ms, ticket, result)

    def _write(self, work: Apply) -> list[Any]:
        if work.blocks[0].block.header.parent != self.executor.head.hash:
            return []  # it was handed over behind a block that was not what its header says
        written = []
        self.executor.branches.clear()
        for final in work.blocks:
            try:
                written.append((self.executor.apply(final.block), final.certificate))
            except WrongBody:
                self.executor.branches.clear()
                return self.sync.wrong_body(self.now_ms, final.block.header.height)
        commits = [self.executor.seal(built, own) for built, own in written]
        assert commits[-1].block.certificate is not None, "blocks are written up to a certificate"
        self.store.commit(*commits)
        for (built, _), commit in zip(written, commits, strict=True):
            self.executor.publish(built, commit.block)
        return self.sync.applied(self.now_ms, work.blocks[-1].block.header.height)

    @property
    def height(self) -> int:
        return self.executor.head.block.header.height


def test_a_new_node_gets_the_whole_chain_from_several_peers(elsewhere: tuple[Chain, MemoryStore]) -> None:
    chain, store = elsewhere
    peers = {b"a": Peer(store), b"b": Peer(store), b"c": Peer(store)}
    play = Play(chain.document, peers)
    play.run(3_000)
    assert (play.height, play.executor.head.hash) == (HEIGHT, chain.executor.head.hash)
    assert play.executor.state.root() == chain.executor.state.root()
    assert (play.sync.state, play.blamed) == (SyncState.LIVE, [])
    assert [state for state, _ in _groups(play.states)] == [
        SyncState.PROOFS,
        SyncState.BLOCKS,
        SyncState.LIVE,
    ]
    assert all(BLOCKS.name in peer.asked for peer in peers.values()), "everybody helps"
    assert 1 < play.most_asked <= MAX_ASKED
    reopened = Executor(chain.document, play.store.load())
    assert reopened.head.hash == chain.executor.head.hash, "and it is there after a restart"


def test_proofs_block_by_block_need_no_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where an epoch is one block long: to ask for each header would cost a way there and back for each block."""
    monkeypatch.setattr(served, "MAX_STEP", 1)
    chain, store = grown(70, certified_every=1)
    peer = Peer(store, 70)
    play = Play(chain.document, {b"a": peer})
    play.run(10_000)
    assert (play.height, play.executor.state.root()) == (70, chain.executor.state.root())
    assert HEADERS.name not in peer.asked
    assert peer.asked.count(BLOCKS.name) <= 3, "one question for what came together"


def test_who_gives_no_answer_about_proofs_is_asked_again_each_time_later(
    elsewhere: tuple[Chain, MemoryStore],
) -> None:
    """A link that broke is no lie; once the only peer of a node was left alone for a minute."""
    sync = Play(elsewhere[0].document, {b"a": Peer(elsewhere[1])}).sync
    now_ms, waited = 0, []
    for _ in range(7):
        asked_ms = now_ms
        while not (
            asks := [effect for effect in sync.tick(now_ms, {b"a": 1_000}) if isinstance(effect, Ask)]
        ):
            now_ms += 500
        waited.append(now_ms - asked_ms)
        assert sync.unanswered(now_ms, asks[0].ticket) == []
    assert waited == [0, SILENT_MS, 4_000, 8_000, 16_000, 32_000, SULK_MS]


def _groups(states: list[SyncState]) -> list[tuple[SyncState, int]]:
    found: list[tuple[SyncState, int]] = []
    for state in states:
        if not found or found[-1][0] is not state:
            found.append((state, 0))
    return found


def test_who_is_only_a_little_behind_is_left_to_agreement(elsewhere: tuple[Chain, MemoryStore]) -> None:
    chain, store = elsewhere
    play = Play(chain.document, {b"a": Peer(store, height=MIN_BEHIND - 1)})
    play.run(3_000)
    assert (play.height, set(play.states)) == (0, {SyncState.LIVE})


def test_boasting_costs_nobody_anything(elsewhere: tuple[Chain, MemoryStore]) -> None:
    """A height that nobody proves does not take a node out of agreement."""
    chain, store = elsewhere
    boaster = Braggart(store, height=10)
    play = Play(chain.document, {b"a": boaster})
    play.run(30_000)
    assert SyncState.BLOCKS not in play.states
    assert boaster.asked == [ENDS.name], "it is asked once in a minute"


@pytest.mark.parametrize("liar", [HeaderForger, SetForger, BlockSwapper, BodyForger])
def test_a_liar_is_blamed_and_the_others_are_asked(
    elsewhere: tuple[Chain, MemoryStore], liar: type[Peer]
) -> None:
    chain, store = elsewhere
    play = Play(chain.document, {b"a": Peer(store), b"z": liar(store, height=HEIGHT)})
    play.run(20_000)
    assert play.executor.head.hash == chain.executor.head.hash
    assert {key for key, _ in play.blamed} == {b"z"}


@pytest.mark.parametrize("idler", [Silent, Slow])
def test_who_keeps_others_waiting_is_overtaken(
    elsewhere: tuple[Chain, MemoryStore], idler: type[Peer]
) -> None:
    chain, store = elsewhere
    play = Play(chain.document, {b"a": Peer(store), b"z": idler(store)})
    play.run(40_000)
    assert play.executor.head.hash == chain.executor.head.hash
    assert play.blamed == []


class LateProver(Peer):
    """Tells its proofs when others have told them."""

    def delay_ms(self, ask: Ask) -> int:
        return 3 * STALL_MS if ask.kind is ENDS else 10


def test_a_proof_that_comes_late_is_dropped(elsewhere: tuple[Chain, MemoryStore]) -> None:
    """It begins where this node no longer is, and another set may vote there."""
    chain, store = elsewhere
    late = LateProver(store, height=HEIGHT)
    play = Play(chain.document, {b"a": Peer(store, height=HEIGHT - 3), b"z": late})
    play.run(20_000)
    assert play.height >= HEIGHT - 3 and late.asked[0] == ENDS.name
    assert play.blamed == []


def test_a_long_epoch_is_proved_in_steps(
    elsewhere: tuple[Chain, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more headers are believed before they lead to a proved block than a step has."""
    for module in (answers, served):
        monkeypatch.setattr(module, "MAX_STEP", 7)
    chain, store = elsewhere
    play = Play(chain.document, {b"a": Peer(store), b"b": Peer(store)})
    play.run(10_000)
    assert play.executor.head.hash == chain.executor.head.hash
    assert play.most_told <= 7 and play.blamed == []


class Jumper(Peer):
    """Leaves steps out."""

    def answer(self, ask: Ask) -> Any:
        honest = super().answer(ask)
        return Ends(honest.ends[1::2]) if ask.kind is ENDS else honest


def test_a_proof_further_away_than_a_step_is_a_lie(
    elsewhere: tuple[Chain, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (answers, served):
        monkeypatch.setattr(module, "MAX_STEP", 7)
    chain, store = elsewhere
    play = Play(chain.document, {b"z": Jumper(store)})
    play.run(2_000)
    assert [key for key, _ in play.blamed] == [b"z"] and play.height == 0


@pytest.mark.parametrize("seed", range(12))
def test_whoever_comes_and_goes_the_chain_arrives(elsewhere: tuple[Chain, MemoryStore], seed: int) -> None:
    """An honest peer is enough, among liars and idlers that leave and come back."""
    chain, store = elsewhere
    draw = random.Random(seed)
    kinds = [HeaderForger, SetForger, BlockSwapper, BodyForger, Silent, Slow, Braggart, LateProver, Peer]
    crowd: dict[bytes, Peer] = {bytes([name]): draw.choice(kinds)(store) for name in range(6)}
    play = Play(chain.document, {b"honest": Peer(store), **crowd})
    for until_ms in range(2_000, 120_000, 2_000):
        play.here = {b"honest", *(name for name in crowd if draw.randrange(2))}
        play.run(until_ms)
    assert play.executor.head.hash == chain.executor.head.hash
    assert b"honest" not in {key for key, _ in play.blamed}


class Stingy(Peer):
    """Its answers hold few blocks, as those about full ones do."""

    def answer(self, ask: Ask) -> Any:
        honest = super().answer(ask)
        return Blocks(honest.blocks[:5]) if ask.kind is BLOCKS else honest

    def delay_ms(self, ask: Ask) -> int:
        return 10 + 200 * (ask.kind is BLOCKS and ask.message.start == 1)


def test_what_is_held_never_keeps_the_lowest_block_from_being_asked_for(
    elsewhere: tuple[Chain, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several peers gave so much of what is higher that nothing was asked for any more."""
    monkeypatch.setattr(ranges, "MAX_HELD_BYTES", 3_000)
    chain, store = elsewhere
    play = Play(chain.document, {bytes([name]): Stingy(store) for name in range(6)})
    play.run(120_000)
    assert play.executor.head.hash == chain.executor.head.hash


class Mute(Peer):
    """Says that it is furthest, and answers no question about proofs."""

    def says(self) -> int:
        return 10**9

    def answer(self, ask: Ask) -> Any:
        return "silence" if ask.kind is ENDS else super().answer(ask)


def test_a_crowd_that_proves_nothing_does_not_keep_others_from_being_asked(
    elsewhere: tuple[Chain, MemoryStore],
) -> None:
    chain, store = elsewhere
    crowd: dict[bytes, Peer] = {bytes([name]): Mute(store) for name in range(12)}
    play = Play(chain.document, {**crowd, b"honest": Peer(store)})
    play.run(40_000)
    assert play.executor.head.hash == chain.executor.head.hash
