"""Strangers may say anything: nothing is raised but what is declared, and nothing grows without end."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.peer.frames import Type, frame
from aitbc.workshop.core import chain as chain_module
from aitbc.workshop.core import gossip, mempool
from aitbc.workshop.core.chain import Chain
from aitbc.workshop.core.effects import Close, Note
from aitbc.workshop.core.gossip import Path, Paths, Seen
from aitbc.workshop.core.kinds import KINDS, MAX_PAYLOAD
from aitbc.workshop.core.mempool import Mempool
from aitbc.workshop.core.reasons import WorkshopFault, WorkshopReason
from aitbc.workshop.core.texts import GENESIS, Block, parse_block, parse_transaction
from support.workshop import (
    ALICE,
    BLOCKS,
    BOB,
    CAROL,
    EASY,
    EXCHANGE,
    SESSION,
    branch,
    counting,
    find,
    machine,
)

PIECES = st.sampled_from(
    ["0", "-1", "1", "٣", "0_1", ":", ",", "00" * 32, "ab", "AB", "\0", "é", " ", "9" * 4301]
)
TEXTS = st.one_of(
    st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join), st.lists(PIECES).map(":".join)
)


@given(TEXTS)
def test_any_text_is_read_or_refused_and_what_is_read_is_written_the_same(text: str) -> None:
    for parse in (parse_block, parse_transaction):
        with contextlib.suppress(WorkshopFault):
            assert parse(text).text == text


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Good frames, frames with any payload, and noise, cut and damaged."""
    known = st.sampled_from([*EXCHANGE.values(), *SESSION.values()])
    made = st.builds(
        frame,
        st.sampled_from(list(Type)[:3]),
        st.integers(0, 20),
        st.sampled_from([*KINDS, b"gossip:chat"]),
        st.one_of(st.binary(max_size=120), TEXTS.map(lambda text: bytes(16) + text.encode())),
    )
    answers = st.builds(frame, st.just(Type.ANSWER), st.integers(0, 8), st.just(b""), st.binary(max_size=90))
    data = b"".join(draw(st.lists(st.one_of(known, made, answers, st.binary(max_size=20)), max_size=12)))
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=2)):
        data = data[:place] + bytes([byte]) + data[place + 1 :]
    return data


@settings(max_examples=150, deadline=None)
@given(streams(), st.booleans(), st.integers(1, 300))
def test_any_bytes_are_survived_in_any_pieces(data: bytes, introduced: bool, size: int) -> None:
    node = machine()
    node.opened(0, 1, "127.0.0.1", None if introduced else "127.0.0.1:1")
    if introduced:
        node.received(0, 1, frame(Type.REQUEST, 1, b"p2p:hello", b"127.0.0.1:1"))
    for place in range(0, len(data), size):
        node.received(0, 1, data[place : place + size])
    node.tick(1_000)
    node.tick(40_000)


@pytest.mark.parametrize(
    "data",
    [
        (0xFFFFFFFF).to_bytes(4, "big"),
        (5).to_bytes(4, "big"),
        (MAX_PAYLOAD + 100).to_bytes(4, "big") + bytes(5) + b"gossip:bc:new_block\0",
        (100).to_bytes(4, "big") + b"\0\0\0\0\1" + b"k" * 80,
        (100).to_bytes(4, "big") + b"\3\0\0\0\1\0",
    ],
)
def test_a_frame_that_no_node_sends_ends_the_connection_before_it_is_kept(data: bytes) -> None:
    node = machine()
    node.opened(0, 1, "127.0.0.1", None)
    assert any(isinstance(one, Close) for one in node.received(0, 1, data))
    assert node.received(0, 1, EXCHANGE["hello"]) == []


def test_a_slow_frame_a_silent_stranger_and_an_unanswered_hello_are_closed() -> None:
    node = machine()
    node.opened(0, 1, "127.0.0.1", None)
    node.received(0, 1, b"\0\0\1\0\0")
    node.opened(0, 2, "127.0.0.1", None)
    node.opened(0, 3, "127.0.0.1", "127.0.0.1:3")
    closed = {}
    for now_ms in range(0, 70_000, 1_000):
        for one in node.tick(now_ms):
            if isinstance(one, Close):
                closed[one.link] = now_ms
    assert closed == {1: 30_000, 2: 60_000, 3: 10_000}


def test_a_flood_of_each_kind_is_cut_to_its_rate() -> None:
    node = machine()
    node.opened(0, 1, "127.0.0.1", None)
    node.received(0, 1, EXCHANGE["hello"])
    wrong = parse_transaction(BLOCKS["b2"].transactions[0].text[:-2] + "00").text.encode()
    logged = 0
    for number in range(1_000):
        id_ = number.to_bytes(16, "big")
        effects = node.received(0, 1, frame(Type.PLAIN, 1, b"gossip:bc:new_tx", id_ + wrong))
        logged += sum(isinstance(one, Note) for one in effects)
    assert node.refused[WorkshopReason.BAD_SIGNATURE] <= 400
    assert logged <= 100, "the log is not a stranger's to fill"
    for number in range(6_000):
        query = number.to_bytes(16, "big") * 2 + number.to_bytes(32, "big")
        node.received(0, 1, frame(Type.PLAIN, 1, b"gossip:search:block", query))
    assert len(node._paths) <= gossip.MAX_PATHS_OF_LINK


def test_seen_ids_and_paths_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip, "MAX_SEEN", 100)
    seen, paths = Seen(), Paths()
    for number in range(1_000):
        seen.is_new(number.to_bytes(16, "big"), 0)
        paths.add(number.to_bytes(16, "big"), Path(number % 50, b"", bytes(32), 0))
    assert len(seen) == 100 and len(paths) == 1_000
    paths.forget_old(30_000)
    seen.forget_old(300_000)
    assert len(seen) == len(paths) == 0 and paths.of_hash(bytes(32)) == []


def test_the_pool_is_bounded_and_prefers_what_can_be_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool, "MAX_POOLED", 3)
    chain = Chain(EASY)
    chain.add(find(GENESIS), 0)
    pool = Mempool(chain.accounts)
    for nonce in range(3):
        pool.add(BOB.pay(recipient=CAROL.address, nonce=nonce, amount=1), 0)
    with pytest.raises(WorkshopFault) as fault:
        pool.add(CAROL.pay(recipient=BOB.address, nonce=0, amount=1), 0)
    assert fault.value.reason is WorkshopReason.POOL_FULL
    rich = ALICE.pay(recipient=CAROL.address, nonce=0, amount=1)
    pool.add(rich, 0)
    assert len(pool) == 3 and pool.has(rich)
    with pytest.raises(WorkshopFault) as fault:
        pool.add(ALICE.pay(recipient=CAROL.address, nonce=16, amount=1), 0)
    assert fault.value.reason is WorkshopReason.NONCE_TOO_FAR
    pool.forget_old(3_600_000)
    assert len(pool) == 0


def test_orphans_and_side_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "MAX_ORPHANS", 3)
    monkeypatch.setattr(chain_module, "MAX_SIDE_BLOCKS", 4)
    chain = Chain(EASY)
    for block in branch(GENESIS, 8):
        chain.add(block, 0)
    tip = chain.tip
    for number in range(10):
        side = find(GENESIS, coinbase=bytes([number]))
        chain.add(side, 0)
        chain.add(find(side), 0)
    assert len(chain._side) <= 4 and len(chain._blocks) <= 1 + 8 + 4 and chain.tip == tip
    nowhere = Block(5, 0, b"n" * 32, b"")
    waiting = branch(nowhere, 3)
    for block in waiting:
        chain.add(block, 0)
    with pytest.raises(WorkshopFault) as fault:
        chain.add(find(waiting[-1]), 0)
    assert fault.value.reason is WorkshopReason.ORPHANS_FULL
    chain.add(find(waiting[-1]), 0, wanted=True)
    chain.forget_old_orphans(3_600_000)
    assert chain.orphans == 0 and chain.missing() == set()


def test_strangers_that_came_first_do_not_keep_a_node_from_choosing_half_of_its_peers() -> None:
    node = machine(max_peers=4)
    for link in range(8):
        node.opened(0, link, f"10.0.0.{link}", None)
        node.received(0, link, frame(Type.REQUEST, 1, b"p2p:hello", f"10.0.0.{link}:1".encode()))
    node.opened(0, 50, "10.1.0.1", "10.1.0.1:1")
    listed = ",".join(f"10.2.0.{number}:1" for number in range(9))
    node.received(0, 50, frame(Type.ANSWER, 1, b"", b"\1" + listed.encode()))
    dialled = [
        one for second in range(9) for one in node.tick(second * 1_000) if type(one).__name__ == "Dial"
    ]
    assert dialled and len(node.peering.peers()) <= 8


# A slow, obvious model


def naive_tip(order: list[Block], bad: set[bytes]) -> bytes:
    """Of the blocks with a way to genesis without a bad one: the highest, of equals the first that had such a way."""
    have: dict[bytes, int] = {GENESIS.hash: 0}
    best = GENESIS.hash
    for end in range(1, len(order) + 1):
        grown = True
        while grown:
            grown = False
            for block in order[:end]:
                if block.hash not in have and block.parent in have and block.hash not in bad:
                    have[block.hash] = have[block.parent] + 1
                    grown = True
        top = max(have.values())
        if have[best] < top:
            best = next(one for one, height in have.items() if height == top)
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=14))
def test_the_choice_is_the_naive_ones_in_every_order(seed: int, plan: list[tuple[int, bool]]) -> None:
    tree, bad = [GENESIS], set[bytes]()
    for number, (parent, is_bad) in enumerate(plan):
        above = tree[parent % len(tree)]
        wrong = (
            [CAROL.pay(recipient=BOB.address, nonce=0, amount=10**9)] if is_bad and number % 3 == 0 else []
        )
        tree.append(find(above, *wrong, coinbase=bytes([number])))
        if wrong:
            bad.add(tree[-1].hash)
    draw = counting(str(seed))
    order = sorted(tree[1:], key=lambda _: draw(8))
    chain = Chain(EASY)
    for block in order:
        with contextlib.suppress(WorkshopFault):
            chain.add(block, 0)
    best = naive_tip(order, bad)
    assert chain.height == (0 if best == GENESIS.hash else next(b for b in order if b.hash == best).number)
    assert sum(account.balance for _, account in chain.accounts.items()) == 10_000 * chain.height
    assert chain.accounts.items() == straight(chain).accounts.items()


def straight(chain: Chain) -> Chain:
    again = Chain(EASY)
    for height in range(1, chain.height + 1):
        again.add(chain.at(height), 0)
    return again
