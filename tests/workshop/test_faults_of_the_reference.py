"""What the reference implementation does wrong, done to a node of ours. docs/spec/workshop.md "Faults" """

import asyncio
from pathlib import Path

import pytest

from aitbc.core.peer.frames import Type, frame
from aitbc.workshop.core.chain import Outcome
from aitbc.workshop.core.effects import Close, Dial, Effect, Mine, Send
from aitbc.workshop.core.machine import Machine
from aitbc.workshop.core.reasons import WorkshopFault, WorkshopReason
from aitbc.workshop.core.rules import Rules
from aitbc.workshop.core.texts import GENESIS, Block, Transaction
from support.workshop import ALICE, BOB, CAROL, EASY, body, branch, connect, find, machine, running

NEW_BLOCK, NEW_TX = b"gossip:bc:new_block", b"gossip:bc:new_tx"
SEARCH, FOUND, GET_PEERS = b"gossip:search:block", b"search_response:block", b"p2p:get_peers"


def joined(node: Machine, link: int, where: str, host: str = "127.0.0.1", now_ms: int = 0) -> bytes:
    """A peer comes and says hello; its answer's payload."""
    node.opened(now_ms, link, host, None)
    hello = frame(Type.REQUEST, 1, b"p2p:hello", where.encode())
    return sent(node.received(now_ms, link, hello), link)[0][2]


def sent(effects: list[Effect], link: int) -> list[tuple[int, bytes, bytes]]:
    return [body(one.data) for one in effects if isinstance(one, Send) and one.link == link]


def gossip(
    node: Machine, link: int, kind: bytes, text: str, id_: bytes = b"", now_ms: int = 0
) -> list[Effect]:
    id_ = id_ or bytes(15) + bytes([len(text) % 256])
    return node.received(now_ms, link, frame(Type.PLAIN, 1, kind, id_ + text.encode()))


def test_two_connections_with_the_same_hello_are_one_peer() -> None:
    node = machine()
    assert [joined(node, link, "127.0.0.1:15152")[:1] for link in (1, 2)] == [b"\1", b"\1"]
    assert joined(node, 3, "127.0.0.1:15152")[:1] == b"\0", "a third is refused"
    joined(node, 4, "127.0.0.1:15153")
    [block] = branch(GENESIS, 1)
    effects = gossip(node, 4, NEW_BLOCK, block.text)
    assert len(sent(effects, 1)) == 1 and sent(effects, 2) == []
    effects = gossip(node, 2, NEW_BLOCK, find(block).text, b"n" * 16)
    assert sent(effects, 1) == [] and len(sent(effects, 4)) == 1, "not back to who said it, on either link"


def test_whoever_is_refused_is_closed_and_gets_the_list() -> None:
    """The reference leaves the connection open on both sides, against its README."""
    node = machine(max_peers=1)
    joined(node, 1, "127.0.0.1:1")
    joined(node, 2, "127.0.0.1:2")
    node.opened(0, 3, "127.0.0.1", None)
    effects = node.received(0, 3, frame(Type.REQUEST, 1, b"p2p:hello", b"127.0.0.1:3"))
    assert sent(effects, 3) == [(2, b"", b"\x00127.0.0.1:1,127.0.0.1:2")]
    assert [one.link for one in effects if isinstance(one, Close)] == [3]


def test_a_peer_that_vanished_without_a_word_is_noticed() -> None:
    """It sends no FIN; and its peer-keeping thread hangs until a byte of ours comes."""
    node = machine()
    joined(node, 1, "127.0.0.1:1")
    node.tick(1_000)
    asked, closed_ms = [], 0
    for now_ms in range(2_000, 120_000, 1_000):
        effects = node.tick(now_ms)
        asked += [kind for _, kind, _ in sent(effects, 1)]
        if any(isinstance(one, Close) for one in effects):
            closed_ms = now_ms
            break
    assert GET_PEERS in asked and 10_000 < closed_ms < 60_000


def test_the_list_may_name_the_asker_itself() -> None:
    node = machine(bootstrap=("127.0.0.1:1",), listen="127.0.0.1:9")
    node.tick(0)
    node.opened(0, 1, "127.0.0.1", "127.0.0.1:1")
    node.received(0, 1, frame(Type.ANSWER, 1, b"", b"\x01127.0.0.1:9,127.0.0.1:1"))
    dialled = [
        one for now_ms in range(1_000, 60_000, 1_000) for one in node.tick(now_ms) if isinstance(one, Dial)
    ]
    assert {one.where for one in dialled} <= {"127.0.0.1:1"}, "never itself"


def poison(parent: Block) -> Block:
    """Real work around a payment of coins that nobody has."""
    return find(parent, CAROL.pay(recipient=BOB.address, nonce=0, amount=1), coinbase=BOB.address)


def test_a_poison_block_is_not_stored_as_good_not_relayed_and_never_the_tip() -> None:
    node = machine(coinbase=ALICE.address)
    joined(node, 1, "127.0.0.1:1")
    joined(node, 2, "127.0.0.1:2")
    [good] = branch(GENESIS, 1)
    gossip(node, 1, NEW_BLOCK, good.text)
    bad = poison(good)
    effects = gossip(node, 1, NEW_BLOCK, bad.text, b"a" * 16)
    assert node.chain.tip == good and sent(effects, 2) == [] and node.chain.get(bad.hash) is None
    assert node.refused[WorkshopReason.LOW_BALANCE] == 1
    effects = gossip(node, 1, NEW_BLOCK, find(bad).text, b"b" * 16)
    assert node.chain.tip == good and node.refused[WorkshopReason.INVALID_PARENT] == 1
    gossip(node, 1, NEW_BLOCK, bad.text, b"c" * 16)
    assert node.refused[WorkshopReason.KNOWN_INVALID] == 1
    assert 1 in node.peering.links, "a reference node relays poison without knowing: it stays a peer"
    effects = gossip(node, 1, NEW_BLOCK, find(good).text, b"d" * 16)
    [mine] = [one for one in effects if isinstance(one, Mine)]
    assert mine.template.number == 3, "and mining goes on above the good one"


def test_a_poison_branch_that_was_longer_leaves_the_chain_as_it_was() -> None:
    node = machine()
    chain = node.chain
    ours = branch(GENESIS, 2)
    theirs = branch(GENESIS, 1, BOB.address)
    bad = poison(theirs[0])
    above = find(bad)
    for block in (*ours, *theirs, bad):
        chain.add(block, 0)
    before = chain.accounts.items()
    with pytest.raises(WorkshopFault) as fault:
        chain.add(above, 0)
    assert fault.value.reason is WorkshopReason.LOW_BALANCE
    assert (chain.tip, chain.accounts.items()) == (ours[-1], before)
    assert chain.add(find(ours[-1]), 0).outcome is Outcome.CHAIN


def test_after_a_restart_an_old_block_does_not_become_the_highest(tmp_path: Path) -> None:
    blocks = branch(GENESIS, 3)

    async def run(feed: list[Block]) -> Block:
        async with running(tmp_path, rules=EASY) as node, connect(node) as peer:
            await peer.hello()
            for number, block in enumerate(feed):
                payload = bytes([number]) * 16 + block.text.encode()
                peer.send(frame(Type.PLAIN, 2, NEW_BLOCK, payload))
            await peer.silence()
            return node.machine.chain.tip

    assert asyncio.run(run(blocks)) == blocks[2]
    assert asyncio.run(run([find(GENESIS, coinbase=BOB.address)])) == blocks[2]
    with (tmp_path / "blocks.txt").open("ab") as file:
        file.write(b"4:1")  # a crash in the middle of a line
    assert asyncio.run(run([])) == blocks[2]


def test_a_transaction_lives_long_enough_to_be_mined_and_is_told_again() -> None:
    """The reference drops it one to two minutes after it last saw it."""
    node = machine(coinbase=BOB.address)
    joined(node, 1, "127.0.0.1:1")
    [block] = branch(GENESIS, 1)
    gossip(node, 1, NEW_BLOCK, block.text)
    payment = ALICE.pay(recipient=BOB.address, nonce=0, amount=5)
    effects = node.submit(0, payment)
    told = [content[:16] for _, kind, content in sent(effects, 1) if kind == NEW_TX]
    assert [one.template.transactions for one in node.tick(500) if isinstance(one, Mine)] == [(payment,)], (
        "the template is refreshed"
    )
    for now_ms in range(1_000, 130_000, 1_000):
        effects = node.tick(now_ms)
        told += [content[:16] for _, kind, content in sent(effects, 1) if kind == NEW_TX]
        node.received(now_ms, 1, frame(Type.REQUEST, 9, GET_PEERS, b""))
    assert len(told) == len(set(told)) == 5
    assert len(node.pool) == 1


@pytest.mark.parametrize("sender", [b"", b"\x02", bytes(25), b"\x02" + b"\xff" * 24, b"\x09" * 49])
def test_a_malformed_key_is_a_bad_signature_and_no_exception(sender: bytes) -> None:
    node = machine()
    transaction = Transaction(sender, BOB.address, 0, 0, bytes(48))
    with pytest.raises(WorkshopFault) as fault:
        node.chain.add(find(GENESIS, transaction), 0)
    assert fault.value.reason is WorkshopReason.BAD_SIGNATURE


def test_transactions_of_an_abandoned_branch_wait_again() -> None:
    node = machine()
    first = find(GENESIS)
    payment = ALICE.pay(recipient=BOB.address, nonce=0, amount=7)
    second = find(first, payment)
    others = [find(first, coinbase=CAROL.address)]
    others.append(find(others[0], coinbase=CAROL.address))
    joined(node, 1, "127.0.0.1:1")
    for number, block in enumerate((first, second, *others)):
        gossip(node, 1, NEW_BLOCK, block.text, bytes([number]) * 16)
    assert node.chain.tip == others[1] and node.pool.transactions() == [payment]
    assert node.chain.accounts[ALICE.address].balance == 10_000


def test_balances_are_the_same_by_every_path() -> None:
    """The reference lists accounts with zero entries, or not, depending on how it came to a block."""
    first = find(GENESIS)
    paid = find(first, ALICE.pay(recipient=b"", nonce=0, amount=0))
    others = branch(first, 2, CAROL.address)
    direct, around = machine().chain, machine().chain
    for block in (first, *others):
        direct.add(block, 0)
    for block in (first, paid, *others):
        around.add(block, 0)
    assert direct.accounts.items() == around.accounts.items()


def test_a_gossip_id_is_noted_before_its_message_is_judged() -> None:
    node = machine()
    joined(node, 1, "127.0.0.1:1")
    joined(node, 2, "127.0.0.1:2")
    wrong = Transaction(ALICE.address, BOB.address, 0, 1, bytes(48)).text
    for link in (1, 2, 1):
        gossip(node, link, NEW_TX, wrong, b"x" * 16)
    assert node.refused[WorkshopReason.BAD_SIGNATURE] == 1, (
        "judged once, where the reference judges it each time"
    )


def test_an_answer_with_another_block_than_was_asked_is_not_passed_on() -> None:
    node = machine()
    joined(node, 1, "127.0.0.1:1")
    joined(node, 2, "127.0.0.1:2")
    wanted, other = branch(GENESIS, 2)
    query = b"g" * 16 + b"s" * 16 + wanted.hash
    assert len(sent(node.received(0, 1, frame(Type.PLAIN, 1, SEARCH, query)), 2)) == 1
    lie = frame(Type.PLAIN, 1, FOUND, b"s" * 16 + other.text.encode())
    assert sent(node.received(0, 2, lie), 1) == []
    assert node.refused[WorkshopReason.WRONG_ANSWER] == 1
    truth = frame(Type.PLAIN, 1, FOUND, b"s" * 16 + wanted.text.encode())
    assert sent(node.received(0, 2, truth), 1) == [(0, FOUND, b"s" * 16 + wanted.text.encode())]
    assert sent(node.received(0, 2, truth), 1) == [], "one answer for one search"


def test_our_searches_end_after_their_hops_and_others_do_not() -> None:
    node = machine()
    joined(node, 1, "127.0.0.1:1")
    joined(node, 2, "127.0.0.1:2")
    for number, (search, seen) in enumerate(
        [
            (b"hop\x02" + bytes(12), b"hop\x01" + bytes(12)),
            (b"hop\x00" + bytes(12), None),
            (b"hop\xff" + bytes(12), b"hop\x07" + bytes(12)),
            (b"any" * 5 + b"!", b"any" * 5 + b"!"),
        ]
    ):
        query = bytes([number]) * 16 + search + bytes([number]) * 32
        passed = [
            content[16:32]
            for _, _, content in sent(node.received(0, 1, frame(Type.PLAIN, 1, SEARCH, query)), 2)
        ]
        assert passed == ([seen] if seen else [])


def test_an_answer_to_a_search_with_hops_has_the_id_that_its_asker_knows() -> None:
    node = machine()
    joined(node, 1, "127.0.0.1:1")
    joined(node, 2, "127.0.0.1:2")
    [wanted] = branch(GENESIS, 1)
    asked, passed = (b"hop" + bytes([hops]) + b"r" * 12 for hops in (5, 4))
    node.received(0, 1, frame(Type.PLAIN, 1, SEARCH, b"g" * 16 + asked + wanted.hash))
    effects = node.received(0, 2, frame(Type.PLAIN, 1, FOUND, passed + wanted.text.encode()))
    assert sent(effects, 1) == [(0, FOUND, asked + wanted.text.encode())]


def test_a_missing_parent_is_asked_of_its_teller_first_and_of_everybody_after_two_seconds() -> None:
    node = machine()
    joined(node, 1, "127.0.0.1:1")
    joined(node, 2, "127.0.0.1:2")
    parent, child = branch(GENESIS, 2)
    effects = gossip(node, 1, NEW_BLOCK, child.text)
    assert [(kind, content[16:20]) for _, kind, content in sent(effects, 1)] == [(SEARCH, b"hop\0")]
    assert SEARCH not in [kind for _, kind, _ in sent(effects, 2)]
    node.tick(1_000)
    effects = node.tick(2_000)
    for link in (1, 2):
        assert [content[16:20] for _, kind, content in sent(effects, link) if kind == SEARCH] == [b"hop\x08"]
    node.received(2_000, 2, frame(Type.PLAIN, 1, FOUND, parent.text.encode()))
    assert node.chain.tip == child


def full(count: int) -> Block:
    first = find(GENESIS)
    return find(first, *(ALICE.pay(recipient=BOB.address, nonce=nonce, amount=1) for nonce in range(count)))


@pytest.mark.parametrize(
    ("count", "follows", "taken"),
    [(10, False, True), (11, False, False), (12, False, False), (12, True, True)],
)
def test_the_limit_of_ten_that_the_reference_does_not_check(count: int, follows: bool, taken: bool) -> None:
    """Refused, such a block may leave this node on a branch of its own; followed, it breaks the network's own rule."""
    node = machine(rules=Rules(difficulty=2, follow_overfull=follows), coinbase=CAROL.address)
    block = full(count)
    node.chain.add(find(GENESIS), 0)
    if taken:
        node.chain.add(block, 0)
    else:
        with pytest.raises(WorkshopFault) as fault:
            node.chain.add(block, 0)
        assert fault.value.reason is WorkshopReason.TOO_MANY_TRANSACTIONS
        assert node.status()["overfullHeight"] == 2
    assert (node.chain.tip == block) == taken


def test_a_block_of_ours_never_holds_more_than_ten() -> None:
    node = machine(rules=Rules(difficulty=2, follow_overfull=True), coinbase=CAROL.address)
    node.chain.add(find(GENESIS), 0)
    for nonce in range(15):
        node.submit(0, ALICE.pay(recipient=BOB.address, nonce=nonce, amount=1))
    [mine] = [one for one in node.tick(0) if isinstance(one, Mine)]
    assert [one.nonce for one in mine.template.transactions] == list(range(10))


def test_a_negative_amount_takes_nothing() -> None:
    node = machine()
    with pytest.raises(WorkshopFault) as fault:
        node.chain.add(find(GENESIS, ALICE.pay(recipient=BOB.address, nonce=0, amount=-1)), 0)
    assert fault.value.reason is WorkshopReason.NEGATIVE_AMOUNT


def test_a_reward_cannot_be_spent_in_its_own_block() -> None:
    node = machine()
    with pytest.raises(WorkshopFault) as fault:
        node.chain.add(find(GENESIS, ALICE.pay(recipient=BOB.address, nonce=0, amount=10_000)), 0)
    assert fault.value.reason is WorkshopReason.LOW_BALANCE
