"""What a list of short names says to whom, whatever else they know."""

import random
from functools import cache

import pytest

from aitbc.core.codec.wire import pack
from aitbc.core.peer import compact
from aitbc.core.peer.compact import (
    MAX_GIVEN_BYTES,
    Puzzle,
    block_of,
    check_compact,
    compacted,
    filled,
    pieced_together,
)
from aitbc.core.peer.kinds import CANDIDATE
from aitbc.core.types.blocks import Block
from aitbc.core.types.transactions import VerifiedTransaction
from support.chain import Chain
from support.people import ALICE, BOB

COUNT = 40


@cache
def world() -> tuple[Chain, list[VerifiedTransaction], list[VerifiedTransaction], Block, bytes]:
    """A chain, a block's transactions, as many others, the block and its hash."""
    chain = Chain()
    txs, others = (
        [chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": amount}, nonce=nonce)]
        for amount, nonce in ((1, 1), (2, 1))
    )
    for nonce in range(2, COUNT + 1):
        txs.append(chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=nonce))
        others.append(chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 2}, nonce=nonce))
    built = chain.block(*txs)
    assert len(built.block.txs) == COUNT
    return chain, txs, others, built.block, built.hash


def told(*known: VerifiedTransaction, fresh: tuple[int, ...] = ()) -> Puzzle:
    """What somebody who knows these makes of the block."""
    chain, txs, _, block, name = world()
    wids = [tx.wid for tx in txs]
    whole = compacted(block, name, wids=wids, fresh={wids[place] for place in fresh})
    check_compact(whole)
    return pieced_together(whole, name, known=known, genesis_hash=chain.genesis_hash)


def test_who_knows_all_has_the_block() -> None:
    _, txs, others, block, _ = world()
    assert block_of(told(*others, *reversed(txs))) == block


@pytest.mark.parametrize("lacking", [[0], [3, 4, 17], [COUNT - 1], list(range(COUNT))])
def test_who_lacks_some_knows_which_and_has_the_block_with_them(lacking: list[int]) -> None:
    chain, txs, others, block, _ = world()
    puzzle = told(*others, *[tx for place, tx in enumerate(txs) if place not in lacking])
    assert puzzle.missing == lacking and block_of(puzzle) is None
    answer = [block.txs[place] for place in lacking]
    assert block_of(filled(puzzle, answer, genesis_hash=chain.genesis_hash)) == block


def test_other_transactions_in_the_gaps_make_no_block() -> None:
    chain, txs, others, _, _ = world()
    puzzle = told(*txs[1:])
    assert block_of(filled(puzzle, [others[0].tx], genesis_hash=chain.genesis_hash)) is None


def test_given_transactions_need_not_be_known() -> None:
    _, txs, _, block, _ = world()
    assert block_of(told(*txs[2:-1], fresh=(0, 1, COUNT - 1))) == block
    assert block_of(told(fresh=tuple(range(COUNT)))) == block


def test_one_name_twice_in_the_list_or_among_the_known_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """All names are equal: nothing can be told apart, and nothing wrong comes of it."""
    _, txs, others, _, _ = world()
    monkeypatch.setattr(compact, "_short_names", lambda _, wids: [b"equal!" for _ in wids])
    assert told(*txs).missing == list(range(COUNT))
    chain = Chain()
    built = chain.block(txs[0])
    whole = compacted(built.block, built.hash, wids=[txs[0].wid], fresh=())
    for known, missing in (([txs[0], others[0]], [0]), ([txs[0], txs[0]], []), (others[:3], [0])):
        puzzle = pieced_together(whole, built.hash, known=known, genesis_hash=chain.genesis_hash)
        assert puzzle.missing == missing
    assert (
        block_of(pieced_together(whole, built.hash, known=others[:1], genesis_hash=chain.genesis_hash))
        is None
    ), "the only one of that name is another one"


def test_with_names_of_one_byte_a_block_is_right_or_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows what, by chance: a block is this one, or there is none, and its gaps filled make it unless a
    stranger's transaction sits in a place."""
    monkeypatch.setattr(compact, "SHORT", 1)
    chain, txs, others, block, _ = world()
    dice = random.Random(7)
    made = 0
    for _ in range(200):
        known = dice.sample(txs, dice.randrange(COUNT)) + dice.sample(others, dice.randrange(4))
        puzzle = told(*known, fresh=tuple(sorted(dice.sample(range(COUNT), dice.randrange(5)))))
        whole = filled(
            puzzle, [block.txs[place] for place in puzzle.missing], genesis_hash=chain.genesis_hash
        )
        strangers = any(tx != right for tx, right in zip(whole.txs, block.txs, strict=True))
        assert block_of(whole) == (None if strangers else block)
        made += not strangers
    assert made > 100


def test_names_change_with_the_block() -> None:
    """Who wants two transactions to share a name has to know the block's hash."""
    _, txs, _, _, name = world()
    wids = [tx.wid for tx in txs]
    assert not set(compact._short_names(name, wids)) & set(compact._short_names(bytes(32), wids))


def test_the_largest_list_that_is_made_fits() -> None:
    """20,000 names, 160 KiB of justification and the most that goes along in full."""
    given_heads = compact.MAX_GIVEN * 4
    header = len(pack(world()[3].header)) + 256
    assert 20_000 * 6 + 160 * 1024 + MAX_GIVEN_BYTES + given_heads + header + 64 <= CANDIDATE.limit
