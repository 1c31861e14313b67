"""Another branch is made below the head: readers notice nothing until it is published, and nothing at all when it is
given up. Beside a node that went straight to the same block."""

import random

import msgspec
import pytest

from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.executor import Executor
from aitbc.core.types.blocks import Block
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.records import STORES
from support.chain import Chain
from support.people import ALICE, BOB, EVE, HUB
from support.work import work_genesis

PEOPLE = (ALICE, BOB, HUB, EVE)


class Forked:
    """One node, and the blocks that a miner made on each block of it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.chain = Chain(work_genesis(epoch_length=3))
        self.executor = self.chain.executor
        self.blocks: list[Block] = []

    def straight(self, blocks: list[Block]) -> Executor:
        """A node that never left this branch."""
        other = Executor(self.chain.document, None)
        for block in blocks:
            built = other.apply(block)
            other.publish(built, other.seal(built, None).block)
        return other

    def extend(self, blocks: list[Block], count: int) -> list[Block]:
        """Blocks of another miner on these."""
        maker = self.straight(blocks)
        made = []
        for _ in range(count):
            self.chain.now_ms += 1_000
            built = maker.build(self._txs(maker), proposer=EVE.address, timestamp_ms=self.chain.now_ms)
            maker.publish(built, maker.seal(built, None).block)
            made.append(built.block)
        return made

    def _txs(self, maker: Executor) -> list[object]:
        txs = []
        for sender in self.random.sample(PEOPLE[:3], self.random.randrange(3)):
            nonce = maker.state.account(sender.address).nonce + 1
            payload = {"to": self.random.choice(PEOPLE).address, "amount": self.random.randrange(1, 10**6)}
            if self.random.random() < 0.3:
                payload = {"role": "provider", "models": [], "endpoint": "http://x"}
                txs.append(self.chain.verified(sender, "REGISTER", payload, nonce=nonce, fee=500))
            else:
                txs.append(self.chain.verified(sender, "TRANSFER", payload, nonce=nonce, fee=500))
        return txs

    def go_straight(self, count: int) -> None:
        for block in self.extend(self.blocks, count):
            built = self.executor.apply(block)
            self.executor.publish(built, self.executor.seal(built, None).block)
            self.blocks.append(block)

    def make_branch(self, back: int, branch: list[Block]) -> list[BuiltBlock]:
        seen = seen_by_readers(self.executor)
        self.executor.step_back(back)
        built = [self.executor.apply(block) for block in branch]
        assert seen_by_readers(self.executor) == seen, "readers notice nothing"
        return built


def seen_by_readers(executor: Executor) -> tuple[object, ...]:
    state = executor.state
    pages = {
        role: state.registry_page(f"{role}:", after=f"{role}:", limit=50) for role in ("provider", "hub")
    }
    return {store: dict(data) for store, data in state.data.items()}, state.params, executor.head, pages


def assert_alike(one: Executor, other: Executor) -> None:
    assert seen_by_readers(one) == seen_by_readers(other)
    assert (one.tip, one.state.root()) == (other.tip, other.state.root())
    height = one.head.block.header.height
    for back in range(min(one.reach, other.reach, 4)):
        for store in STORES:
            key = next(iter(one.state.data[store]), "nobody")
            assert one.prove(store, key, height=height - back) == other.prove(
                store, key, height=height - back
            )


@pytest.mark.parametrize("seed", range(6))
def test_a_branch_is_published_or_given_up(seed: int) -> None:
    node = Forked(seed)
    node.go_straight(8)
    for _ in range(6):
        back = node.random.randrange(1, min(node.executor.reach, 7) + 1)
        kept = node.blocks[:-back]
        branch = node.extend(kept, node.random.randrange(1, 6))
        built = node.make_branch(back, branch)
        if node.random.random() < 0.4:
            node.executor.step_forward()
        else:
            commits = [node.executor.seal(block, None) for block in built]
            node.executor.publish_branch(
                [(block, commit.block) for block, commit in zip(built, commits, strict=True)]
            )
            node.blocks = kept + branch
        assert_alike(node.executor, node.straight(node.blocks))
        node.go_straight(1)
        assert_alike(node.executor, node.straight(node.blocks))


def test_a_branch_with_a_block_that_is_invalid_leaves_no_trace() -> None:
    node = Forked(7)
    node.go_straight(6)
    good, bad = node.extend(node.blocks[:-3], 2)
    lie = Block(msgspec.structs.replace(bad.header, state_root=bytes(32)), bad.txs)
    with pytest.raises(Rejected):
        node.make_branch(3, [good, lie])
    node.executor.step_forward()
    assert_alike(node.executor, node.straight(node.blocks))


def test_a_deeper_branch_is_made_beside() -> None:
    """A node that has just started has no journal: it begins from the state at the fork, as its store has it."""
    from aitbc.adapters.storage.memory import MemoryStore

    node = Forked(8)
    store = MemoryStore(node.chain.genesis_hash)
    store.commit(node.executor.loaded.first)
    for block in node.extend([], 6):
        built = node.executor.apply(block)
        commit = node.executor.seal(built, None)
        store.commit(commit)
        node.executor.publish(built, commit.block)
        node.blocks.append(block)
    restarted = Executor(node.chain.document, store.load())
    assert restarted.reach == 0
    branch = node.extend(node.blocks[:2], 5)
    stored = store.load(2)
    assert stored is not None
    other = restarted.beside(stored)
    for block in branch:
        built = other.apply(block)
        other.publish(built, other.seal(built, None).block)
    restarted.become(other)
    assert_alike(restarted, node.straight(node.blocks[:2] + branch))
