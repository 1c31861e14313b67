"""The host's side of agreement by work: switches on state and disk, what waits, what is held, and the beginning."""

import msgspec
import pytest

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core import work_replica
from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.wire import pack
from aitbc.core.consensus.engine import PenalisePeer, TimerFired
from aitbc.core.consensus.nakamoto.engine import (
    Announce as AnnounceHead,
)
from aitbc.core.consensus.nakamoto.engine import BlockMissed, Finalize, HeaderAnnounced, HeadersArrived
from aitbc.core.consensus.nakamoto.headers import link_from_bytes, link_to_bytes
from aitbc.core.ledger.state import check_whole_supply
from aitbc.core.replica import Announce, Answer, Drop, Relay, TransactionsSubmitted
from aitbc.core.switching import work_replica_at_head
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import Block
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import VerifiedTransaction
from aitbc.core.work_replica import BlockCame, Build, Reorganised
from support.chain import Chain
from support.people import ALICE, BOB, EVE, person
from support.work import FAST, REWARD, work_genesis
from support.work_host import Host, Maker, with_header

WRITER = Chain(work_genesis())
"""Signs transactions for the chain that everybody here is on."""


def pay(nonce: int, amount: int = 5, *, fee: int = 100) -> VerifiedTransaction:
    return WRITER.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": amount}, nonce=nonce, fee=fee)


def same_chain(host: Host, maker: Maker) -> bool:
    stored = host.store.load()
    assert stored is not None
    check_whole_supply(host.executor.state)
    ours = (host.executor.head.hash, stored.head.hash, host.replica.engine.head.hash)
    return (
        set(ours) == {maker.executor.head.hash} and host.executor.state.root() == maker.executor.state.root()
    )


def test_blocks_that_a_peer_shows_become_the_chain() -> None:
    maker = Maker()
    host = Host(maker.document)
    effects = host.show(*maker.grow(3))
    assert same_chain(host, maker)
    assert [effect.block.block for effect in effects if isinstance(effect, Announce)] == maker.blocks
    assert [effect.header for effect in effects if isinstance(effect, AnnounceHead)] == [
        block.header for block in maker.blocks
    ]
    assert host.executor.state.account(EVE.address).balance == 3 * REWARD
    assert host.replica.held == {**host.replica.engine.held, "blocks": 0, "block_bytes": 0}


def test_the_longer_branch_wins_and_its_transactions_stay_while_the_others_wait_again() -> None:
    base = Maker()
    base.grow(2)
    ours, theirs = base.after(base.blocks), base.after(base.blocks)
    kept, lost = pay(1), pay(2)
    ours.extend([kept, lost])
    theirs.extend([kept], after_ms=1_500)
    theirs.extend()
    host = Host(base.document)
    host.show(*ours.blocks)
    assert same_chain(host, ours)
    effects = host.show(*theirs.blocks[2:])
    assert same_chain(host, theirs)
    assert [effect.undone for effect in effects if isinstance(effect, Reorganised)] == [
        [header_hash(ours.blocks[2].header)]
    ]
    assert host.replica.mempool.waiting() == [lost]
    assert [effect.txs for effect in effects if isinstance(effect, Relay)] == [[lost]]
    assert host.replica.held["blocks"] == 1, "the block that was left can be asked for, and come back"
    assert host.replica.body(header_hash(ours.blocks[2].header)) == ours.blocks[2]


def test_what_the_other_branch_spent_is_dropped_with_its_reason() -> None:
    base = Maker()
    ours, theirs = base.after([]), base.after([])
    ours.extend([pay(1, 7)])
    theirs.extend([pay(1, 9)], after_ms=1_500)
    theirs.extend()
    host = Host(base.document)
    host.show(*ours.blocks)
    effects = host.show(*theirs.blocks)
    drops = [effect for effect in effects if isinstance(effect, Drop)]
    assert [(drop.tx.payload.amount, drop.rejection.reason) for drop in drops] == [(7, Reason.BAD_NONCE)]
    assert host.replica.mempool.waiting() == []


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_invalid_block_on_a_better_branch_leaves_everything_as_it_was(place: int) -> None:
    base = Maker()
    ours, theirs = base.after([]), base.after([])
    ours.grow(2)
    theirs.extend(after_ms=1_500)
    theirs.grow(2)
    lie = with_header(theirs.blocks[place], state_root=bytes(32))
    liar = base.after(theirs.blocks[:place])
    lie = Block(liar.seal(lie.header), [])
    shown = [*theirs.blocks[:place], lie]
    parent = liar.rules.check(lie.header, liar.links[-1])
    for _ in range(3):
        header = msgspec.structs.replace(
            lie.header,
            height=shown[-1].header.height + 1,
            parent=header_hash(shown[-1].header),
            timestamp_ms=shown[-1].header.timestamp_ms + 1_000,
        )
        liar.links.append(parent)
        shown.append(Block(liar.seal(header), []))
        parent = liar.rules.check(shown[-1].header, parent)
    host = Host(base.document)
    host.show(*ours.blocks)
    before = host.executor.head, host.executor.tip, dict(host.executor.state.data["accounts"])
    host.show(*shown)
    assert PenalisePeer(Host.PEER, Reason.ROOT_MISMATCH) in host.effects
    assert (host.executor.head, host.executor.tip, host.executor.state.data["accounts"]) == before
    assert same_chain(host, ours)
    assert host.replica.engine.held["headers"] == 2 + place, "what stands on it went with it"
    ours.grow(2)
    host.show(*ours.blocks[2:])
    assert same_chain(host, ours)


def test_final_blocks_are_kept_on_disk_and_a_restart_begins_there() -> None:
    maker = Maker()
    host = Host(maker.document)
    host.show(*maker.grow(10))
    assert [effect.link.height for effect in host.said(Finalize)] == [1, 2, 3, 4]
    assert link_from_bytes(host.store.load_final()) == maker.links[4]
    again = host.again()
    assert (again.replica.engine.final, again.replica.engine.head) == (maker.links[4], maker.links[10])
    branch = maker.after(maker.blocks[:5])
    branch.extend(after_ms=1_500)
    branch.grow(5)
    assert again.executor.reach == 0, "nothing of the journal is left"
    again.show(*branch.blocks[5:])
    assert same_chain(again, branch)
    too_deep = maker.after(maker.blocks[:3])
    too_deep.extend(after_ms=1_500)
    too_deep.grow(12)
    again.show(*too_deep.blocks[3:])
    assert same_chain(again, branch), "what is final is not left, whatever weighs more"


@pytest.mark.parametrize("spoil", ["hash", "height", "bytes", "target"])
def test_a_note_of_what_is_final_that_does_not_fit_the_chain_stops_the_start(spoil: str) -> None:
    maker = Maker()
    host = Host(maker.document)
    host.show(*maker.grow(10))
    link = maker.links[4]
    wrong = {
        "hash": link_to_bytes(msgspec.structs.replace(link, hash=bytes(32))),
        "height": link_to_bytes(msgspec.structs.replace(link, height=11)),
        "bytes": b"nonsense",
        "target": link_to_bytes(msgspec.structs.replace(link, child_target=1)),
    }
    host.store.keep_final(wrong[spoil])
    with pytest.raises(Rejected) as rejected:
        host.again()
    assert rejected.value.reason == Reason.DAMAGED


def test_a_transaction_waits_is_told_and_is_settled_by_a_block() -> None:
    maker = Maker()
    host = Host(maker.document)
    tx = host.verified(pay(1).tx)
    assert host.feed(TransactionsSubmitted([tx], 7))[:2] == [Answer(7, [None]), Relay([tx])]
    assert host.feed(TransactionsSubmitted([tx], 8)) == [Answer(8, [None], known=[0])]
    (refused,) = host.feed(TransactionsSubmitted([host.verified(pay(1, 10**15).tx)], 9))
    assert isinstance(refused, Answer)
    assert refused.verdicts[0] is not None
    host.show(maker.extend([tx]))
    assert host.replica.mempool.waiting() == []
    assert host.executor.state.account(BOB.address).balance == 1_000 * AIT + 5


def test_more_blocks_than_there_is_room_for_have_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Maker()
    blocks = maker.grow(3)
    host = Host(maker.document)
    monkeypatch.setattr(work_replica, "MAX_HELD_BYTES", len(pack(blocks[2])) + 10)
    for block in blocks[1:]:
        host.feed(BlockCame(Host.PEER, header_hash(block.header), block, len(pack(block))))
    assert host.replica.held["blocks"] == 0, "nobody asked for them: they are forgotten again"
    host.library = {header_hash(block.header): block for block in blocks[1:]}
    for block in blocks:
        host.feed(HeaderAnnounced(Host.PEER, block.header))
    assert host.replica.held["blocks"] == 1
    monkeypatch.undo()
    host.library = {header_hash(block.header): block for block in blocks}
    host.feed(BlockMissed("nobody", header_hash(blocks[0].header), None))
    host.feed(BlockCame(Host.PEER, header_hash(blocks[0].header), blocks[0], 300))
    assert host.head.height >= 2


def test_a_template_holds_no_more_than_genesis_allows() -> None:
    settings = msgspec.structs.replace(FAST, min_transactions=2, max_transactions=3)
    chain = Chain(work_genesis(settings))
    store = MemoryStore(chain.genesis_hash)
    store.commit(chain.executor.loaded.first)
    replica = work_replica_at_head(chain.executor, store, miner=EVE.address)
    replica.start(10**13)
    txs = [
        chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5}, nonce=nonce)
        for nonce in range(1, 5)
    ]
    replica.step(10**13, TransactionsSubmitted(txs, 1))
    effects = replica.step(10**13 + 5_000, TimerFired("pace"))
    (build,) = [effect for effect in effects if isinstance(effect, Build)]
    assert [tx.tx.nonce for tx in build.txs] == [1, 2, 3]


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    """Attack 13 of the seed: there a late answer crashed the handler."""
    maker = Maker()
    host = Host(maker.document)
    host.show(*maker.grow(2))
    for late in (
        HeadersArrived("stranger", True, [maker.blocks[0].header]),
        HeadersArrived(Host.PEER, False, []),
        BlockMissed(Host.PEER, bytes(32), None),
        BlockCame("stranger", header_hash(maker.blocks[1].header), maker.blocks[1], 300),
    ):
        host.feed(late)
    assert same_chain(host, maker)
    assert host.replica.held["blocks"] == 0


def test_weights_above_64_bits_come_back_from_a_disk() -> None:
    maker = Maker()
    link = msgspec.structs.replace(
        maker.links[0], weight=2**300, child_target=2**255, author=person("x").address
    )
    assert link_from_bytes(link_to_bytes(link)) == link
