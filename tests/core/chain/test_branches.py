"""Undecided blocks: whichever branch was on the state before, a block always means the same."""

import random

import msgspec
import pytest

from aitbc.core.chain.branches import MAX_UNDECIDED
from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.types.blocks import Candidate, Certificate
from aitbc.core.types.reasons import Reason, Rejected
from support.chain import VERSION_2, Chain, genesis
from support.people import ALICE, BOB, EVE, HUB, VALIDATOR

SENDERS = (ALICE, BOB, HUB)


class Growing:
    """A chain whose undecided blocks branch at random; `nonces` is what each block leaves behind."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.chain = Chain(genesis(activations=VERSION_2))
        self.executor = self.chain.executor
        self.nonces = {self.executor.head.hash: {who.address: 0 for who in SENDERS}}
        self.decided: list[BuiltBlock] = []

    def grow(self, parent: bytes) -> BuiltBlock:
        nonces, txs = dict(self.nonces[parent]), []
        for who in self.draw.sample(SENDERS, self.draw.randrange(len(SENDERS) + 1)):
            nonces[who.address] += 1
            payload = {"to": EVE.address, "amount": self.draw.randrange(1, 10**6)}
            txs.append(self.chain.verified(who, "TRANSFER", payload, nonce=nonces[who.address]))
        self.chain.now_ms += 1_000
        built = self.executor.build(
            txs, proposer=VALIDATOR.address, timestamp_ms=self.chain.now_ms, parent=parent
        )
        assert built.included == txs and built.block.header.parent == parent
        self.nonces[built.hash] = nonces
        return built

    def known(self) -> list[bytes]:
        return [one for one in self.nonces if one in self.executor.branches or one == self.executor.head.hash]

    def decide(self, block: BuiltBlock) -> None:
        certificate = Certificate("final", Candidate(0, 1, 0, bytes(32), block.hash), 1, [bytes(64)])
        self.executor.publish(block, self.executor.seal(block, certificate).block)
        self.decided.append(block)

    def straight_root(self) -> bytes:
        """Of another node that only saw what was decided."""
        other = Chain(genesis(activations=VERSION_2)).executor
        for block in self.decided:
            built = other.apply(block.block)
            assert built.hash == block.hash
            other.publish(built, other.seal(built, None).block)  # type: ignore[arg-type]
        return other.state.root()


@pytest.mark.parametrize("seed", range(20))
def test_a_block_means_the_same_on_whatever_branch_the_state_was(seed: int) -> None:
    run = Growing(seed)
    for _ in range(40):
        block = run.grow(run.draw.choice(run.known()))
        if run.draw.random() < 0.3:
            for step in run.executor.branches.path(block.hash):
                run.decide(step)
            assert run.executor.head.hash == block.hash
        # going to any block and executing it again gives the same one
        some = run.draw.choice(run.known())
        run.executor.branches.tip_at(some)
        if found := run.executor.branches.get(some):
            assert run.executor.state.root() == found.block.header.state_root
    run.executor.branches.tip_at(run.executor.head.hash)
    assert run.executor.state.root() == run.executor.head.block.header.state_root == run.straight_root()


def test_what_does_not_build_on_the_decided_block_is_forgotten() -> None:
    run = Growing(1)
    left, right = run.grow(run.executor.head.hash), run.grow(run.executor.head.hash)
    on_left, on_right = run.grow(left.hash), run.grow(right.hash)
    run.decide(right)
    assert [one.hash in run.executor.branches for one in (left, on_left, right, on_right)] == [
        False,
        False,
        False,
        True,
    ]
    with pytest.raises(Rejected) as caught:
        run.executor.apply(on_left.block)
    assert caught.value.reason is Reason.WRONG_PARENT


def test_a_refused_block_leaves_the_branch_as_it_was() -> None:
    run = Growing(2)
    first = run.grow(run.executor.head.hash)
    second = run.grow(first.hash)
    run.executor.abandon()
    bad = msgspec.structs.replace(
        second.block, header=msgspec.structs.replace(second.block.header, state_root=bytes(32))
    )
    with pytest.raises(Rejected) as caught:
        run.executor.apply(bad)
    assert caught.value.reason is Reason.ROOT_MISMATCH
    assert run.executor.state.root() == first.block.header.state_root
    assert run.executor.apply(second.block).hash == second.hash


def test_undecided_blocks_have_a_bound_and_a_branch_that_is_needed_is_kept() -> None:
    run = Growing(3)
    base = run.grow(run.executor.head.hash)
    blocks = [run.grow(base.hash) for _ in range(MAX_UNDECIDED + 10)]
    kept = [block for block in blocks if block.hash in run.executor.branches]
    assert len(kept) == MAX_UNDECIDED - 1 and kept == blocks[-len(kept) :]
    assert base.hash in run.executor.branches


def test_a_head_that_is_taken_back_takes_the_undecided_with_it() -> None:
    run = Growing(4)
    first = run.grow(run.executor.head.hash)
    run.decide(first)
    above = run.grow(first.hash)
    genesis_root = run.executor.loaded.block.block.header.state_root
    assert run.executor.retract().hash == first.hash
    assert above.hash not in run.executor.branches
    assert run.executor.state.root() == genesis_root
    assert run.executor.apply(first.block).hash == first.hash
