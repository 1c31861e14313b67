"""Ranges of final blocks that were fetched: handed over two at a time, executed and written one after the other."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aitbc.adapters.agreement.memory import MemoryGuard, MemoryLog
from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core.consensus.simplex.messages import OtherEpoch, VerifiedCertificate, VerifiedProposal, Vote
from aitbc.core.executor import Executor
from aitbc.core.ledger.genesis import ConsensusSettings
from aitbc.core.replica import Commit as DecidedBlocks
from aitbc.core.sync.ranges import Apply, Final
from aitbc.core.types.blocks import Block, Candidate, Certificate
from aitbc.core.types.records import Commit
from aitbc.node.agreement import Scribe
from aitbc.node.catching_up import LeftOut
from aitbc.node.runtime import MAX_READING, NodeRuntime, SystemClock
from support.chain import Chain, genesis
from support.ledger import people
from support.people import ALICE, BOB, VALIDATOR
from support.voters import VotedLedger

SOON_S = 5.0


class SlowStore(MemoryStore):
    """Writes when it may."""

    def __init__(self, genesis_hash: bytes) -> None:
        super().__init__(genesis_hash)
        self.may_write = threading.Event()

    def commit(self, *commits: Commit) -> None:
        if self.load() is not None:
            assert self.may_write.wait(SOON_S)
        super().commit(*commits)


@pytest.fixture
def ranges(chain: Chain) -> list[Apply]:
    """Two ranges of two blocks each, made elsewhere."""
    made = finals(chain, 4)
    return [Apply(made[:2]), Apply(made[2:])]


def finals(chain: Chain, count: int) -> list[Final]:
    made = []
    length = chain.executor.loaded.genesis.consensus.epoch_length
    for height in range(1, count + 1):
        built = chain.block(chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}))
        candidate = Candidate((height - 1) // length, height, height - 1, bytes(32), built.hash)
        certificate = Certificate("final", candidate, 1, [VALIDATOR.sign(bytes(32))])
        made.append(Final(built.hash, built.block, certificate))
    return made


def run(chain: Chain, story: Callable[[NodeRuntime, SlowStore], Coroutine[Any, Any, None]]) -> None:
    """Play a story with a new node that only follows."""

    async def play() -> None:
        executor = Executor(chain.document, None)
        store = SlowStore(executor.loaded.hash)
        store.commit(executor.loaded.first)
        node = NodeRuntime(executor, store, scribe=None, clock=SystemClock())
        try:
            await asyncio.wait_for(story(node, store), SOON_S)
        finally:
            store.may_write.set()
            await node.stop()

    asyncio.run(play())


def test_signatures_of_the_next_range_are_checked_while_one_is_written(
    chain: Chain, ranges: list[Apply], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(node: NodeRuntime, store: SlowStore) -> None:
        checked: list[Block] = []
        begin = node.intake.begin

        def begun(txs: Any) -> Any:
            work = begin(txs)
            work.add_done_callback(lambda _: checked.append(txs))
            return work

        monkeypatch.setattr(node.intake, "begin", begun)
        writing = [asyncio.create_task(node.write_range(work)) for work in ranges]
        while len(checked) < 4:
            await asyncio.sleep(0.001)
        assert node.executor.head.block.header.height == 0
        store.may_write.set()
        assert await asyncio.gather(*writing) == [None, None]
        assert node.executor.head.hash == chain.executor.head.hash
        assert node.executor.state.root() == chain.executor.state.root()

    run(chain, story)


def test_what_stands_behind_a_wrong_block_is_left_out(chain: Chain, ranges: list[Apply]) -> None:
    """And may be handed over again, with the right one."""

    async def story(node: NodeRuntime, store: SlowStore) -> None:
        store.may_write.set()
        first, second = ranges[0].blocks
        other = Final(second.hash, Block(second.block.header, second.block.txs * 2), second.certificate)
        wrong = asyncio.create_task(node.write_range(Apply([first, other])))
        behind = asyncio.create_task(node.write_range(ranges[1]))
        assert await wrong == 2
        with pytest.raises(LeftOut):
            await behind
        assert node.executor.head.block.header.height == 0
        assert [await node.write_range(work) for work in ranges] == [None, None]
        assert node.executor.head.hash == chain.executor.head.hash

    run(chain, story)


def test_what_agreement_decided_behind_a_range_is_not_written_twice(
    chain: Chain, ranges: list[Apply]
) -> None:
    """A block that was being checked when the range came: `Synced` has told agreement that it is on disk."""

    async def story(node: NodeRuntime, store: SlowStore) -> None:
        first = ranges[0].blocks[0]
        assert first.certificate is not None
        built = node.executor.apply(first.block)
        writing = asyncio.create_task(node.write_range(ranges[0]))
        await asyncio.sleep(0)
        node._to_commit(DecidedBlocks([built], first.certificate))
        store.may_write.set()
        assert await writing is None
        assert await node.write_range(ranges[1]) is None
        assert node.failure is None
        assert node.executor.head.hash == chain.executor.head.hash

    run(chain, story)


def test_a_peer_of_an_old_epoch_is_left_without_an_answer_when_too_much_is_read() -> None:
    """A status is not signed: whoever sends one must not be able to stop a busy node."""
    chain = Chain(genesis(consensus=ConsensusSettings(epoch_length=2)))

    async def story(node: NodeRuntime, store: SlowStore) -> None:
        store.may_write.set()
        await node.write_range(Apply(finals(chain, 3)))
        node.start()
        assert node.engine().epoch.number == 1
        hold = threading.Event()
        reading = [asyncio.create_task(node.read(lambda: hold.wait(SOON_S))) for _ in range(MAX_READING)]
        await asyncio.sleep(0)
        node.hear("ab" * 32, OtherEpoch(0), None)
        await asyncio.sleep(0)
        hold.set()
        await asyncio.gather(*reading)
        assert node.failure is None and not node.stopped.is_set()

    run(chain, story)


@pytest.mark.parametrize("heard_first", [False, True])
def test_a_validator_that_got_its_blocks_in_a_range_votes_on_them(heard_first: bool) -> None:
    """Also when it had heard before, in answer to its first status, which one is final."""
    members = people("member", 4)
    chain = VotedLedger(voters=members, authorities=members, more=members, epoch_length=600)
    for _ in range(5):
        chain.block()
    blocks = [chain.store.block_by_height(height) for height in range(1, 6)]
    stored = [block for block in blocks if block is not None]

    async def story(node: NodeRuntime, net: Listener) -> None:
        engine, newest = node.engine(), stored[-1].certificate
        assert newest is not None
        name = engine.epoch.id_of(newest.candidate)
        if heard_first:
            node.hear("ab" * 32, VerifiedCertificate(newest, name), None)
        work = [Final(block.hash, block.block, block.certificate) for block in stored]
        assert await node.write_range(Apply(work)) is None
        assert engine.is_settled
        child = chain.executor.build([], proposer=members[0].address, timestamp_ms=chain.now_ms + 1_000)
        slot = newest.candidate.slot + 1
        candidate = Candidate(newest.candidate.epoch, slot, newest.candidate.slot, name, child.hash)
        proposal = VerifiedProposal(candidate, engine.epoch.id_of(candidate), bytes(64), [])
        node.hear("cd" * 32, proposal, child.block)
        while ("notar", slot) not in net.votes:
            await asyncio.sleep(0.001)

    async def play() -> None:
        executor = Executor(chain.executor.loaded.document, None)
        store = MemoryStore(executor.loaded.hash)
        store.commit(executor.loaded.first)
        genesis_hash = executor.loaded.hash
        scribe = Scribe(
            log=MemoryLog(),
            guard=MemoryGuard(genesis_hash),
            signer=members[3],
            genesis_hash=genesis_hash,
            now_ms=0,
        )
        node = NodeRuntime(executor, store, scribe=scribe, clock=SystemClock())
        net = Listener()
        node.network = net  # type: ignore[assignment]
        node.start()
        try:
            await asyncio.wait_for(story(node, net), SOON_S)
        finally:
            await node.stop()

    asyncio.run(play())


class Listener:
    """A network that only notes what is said."""

    agreement = None
    neighbours = None
    checking = 0

    class catching_up:
        is_fetching = False

    def __init__(self) -> None:
        self.votes: set[tuple[str, int]] = set()

    def tell(self, message: Any, _peer: str | None, _block: Block | None) -> None:
        if isinstance(message, Vote):
            self.votes.add((message.kind, message.slot))

    def fetch(self, *_: Any) -> None:
        pass

    def set_status(self, **_: Any) -> None:
        pass

    def took(self, _wids: list[bytes]) -> None:
        pass
