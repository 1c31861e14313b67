"""How a leader's block gets to those who hold its transactions, to those who do not, and past those who lie."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.wire import pack
from aitbc.core.peer import compact, kinds
from aitbc.core.peer.compact import compacted
from aitbc.core.peer.gossip import MAX_FRESH
from aitbc.core.peer.kinds import CANDIDATE, CONSENSUS_GET, FILL
from aitbc.core.types.blocks import Block
from aitbc.core.types.transactions import VerifiedTransaction
from aitbc.node.network import NodeNetwork
from aitbc.node.talk.agreement import Offer
from aitbc.node.talk.puzzles import MAX_PARKED, MAX_PARKED_OF_PEER, MAX_PARTS
from support.chain import Chain
from support.circle import AGAIN_S, Circle, Friend, until
from support.people import ALICE, BOB

PAIR = {"leader": "", "peer": "leader"}
LINE = {"leader": "", "middle": "leader", "end": "middle"}


def transfers(chain: Chain, count: int) -> list[VerifiedTransaction]:
    first = chain.nonce(ALICE) + 1
    payload = {"to": BOB.address, "amount": 1}
    return [chain.verified(ALICE, "TRANSFER", payload, nonce=first + i) for i in range(count)]


def play(friends: dict[str, str], story: Callable[[Circle], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with Circle(friends) as circle:
            await story(circle)

    asyncio.run(whole())


def test_a_block_whose_transactions_a_peer_holds_comes_by_their_names_alone() -> None:
    async def story(circle: Circle) -> None:
        txs = transfers(circle.chain, 60)
        circle["peer"].holds(*txs)
        name = circle.propose("leader", circle.block(*txs))
        await circle.all_have(name)
        assert circle["peer"].asked == {}

    play(PAIR, story)


@pytest.mark.parametrize("lacking", [1, 30, 60])
def test_what_a_peer_lacks_it_asks_the_teller_for_once(lacking: int) -> None:
    async def story(circle: Circle) -> None:
        txs = transfers(circle.chain, 60)
        circle["peer"].holds(*txs[lacking:])
        name = circle.propose("leader", circle.block(*txs))
        await circle.all_have(name)
        assert circle["peer"].asked == {FILL.name: 1}

    play(PAIR, story)


def test_a_transaction_that_nobody_can_hold_yet_comes_along() -> None:
    async def story(circle: Circle) -> None:
        txs = transfers(circle.chain, 10)
        circle["peer"].holds(*txs[1:])
        circle["leader"].network.took([txs[0].wid])
        name = circle.propose("leader", circle.block(*txs))
        await circle.all_have(name)
        assert circle["peer"].asked[FILL.name] == 0

    play(PAIR, story)


def test_who_passes_a_proposal_on_answers_when_it_has_the_block_itself() -> None:
    """The end hears of the block from the middle, which is asking the leader at that moment."""

    async def story(circle: Circle) -> None:
        name = circle.propose("leader", circle.block(*transfers(circle.chain, 20)))
        await circle.all_have(name)
        assert circle["middle"].asked == circle["end"].asked == {FILL.name: 1}
        assert circle["middle"].network.puzzles.parked == []

    play(LINE, story)


def lie(liar: Friend, about: bytes, instead: Block) -> None:
    """The liar answers with another block's transactions."""
    real = liar.read_blocks

    async def read_blocks(block_hash: bytes, above: int, *, most: int) -> list[Block]:
        return [instead] if block_hash == about else await real(block_hash, above, most=most)

    liar.read_blocks = read_blocks  # type: ignore[method-assign]


def test_a_teller_that_fills_in_other_transactions_costs_a_question_more() -> None:
    async def story(circle: Circle) -> None:
        txs = transfers(circle.chain, 4)
        other = circle.chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 7}, nonce=3)
        block = circle.block(*txs)
        name = header_hash(block.header)
        circle["honest"].blocks[name] = block
        wrong = Block(block.header, [txs[0].tx, txs[1].tx, other.tx, txs[3].tx])
        lie(circle["leader"], name, wrong)
        circle["peer"].holds(*txs[:2])
        circle.propose("leader", block)
        await until(lambda: name in circle["peer"].blocks)
        assert circle["peer"].blocks[name] == block
        assert circle["peer"].asked[FILL.name] == 1
        assert 1 <= circle["peer"].asked[CONSENSUS_GET.name] <= 4
        assert circle["peer"].network.refused["not_the_block"] == 1
        assert circle["peer"].points == 0, "whose list it was nobody can prove"

    play({"leader": "", "honest": "", "peer": "leader honest"}, story)


@pytest.mark.parametrize(
    "answer",
    [lambda txs: txs[:-1], lambda txs: [*txs, txs[0]], lambda txs: [*txs[:-1], b"\xc0"]],
    ids=["too few", "too many", "no transaction"],
)
def test_an_answer_that_nobody_honest_gives_is_held_against_its_sender(answer: Callable[[Any], Any]) -> None:
    async def story(circle: Circle) -> None:
        block = circle.block(*transfers(circle.chain, 4))
        circle["honest"].blocks[header_hash(block.header)] = block
        teller = circle["leader"].network

        async def answered(effect: Any) -> None:
            filled = kinds.Filled(answer([pack(tx) for tx in block.txs]))
            teller._perform(teller._network.answer(effect, filled))

        teller.puzzles._answer = answered  # type: ignore[method-assign]
        name = circle.propose("leader", block)
        await until(lambda: name in circle["peer"].blocks)
        assert "leader" not in circle["peer"].friends, "banned"

    play({"leader": "", "honest": "", "peer": "leader honest"}, story)


def test_a_teller_that_is_silent_costs_half_a_second() -> None:
    async def story(circle: Circle) -> None:
        block = circle.block(*transfers(circle.chain, 4))
        circle["honest"].blocks[header_hash(block.header)] = block

        async def silent(effect: Any) -> None: ...

        circle["leader"].network.puzzles._answer = silent  # type: ignore[method-assign]
        started = asyncio.get_running_loop().time()
        name = circle.propose("leader", block)
        await until(lambda: name in circle["peer"].blocks)
        assert circle["peer"].whole[name] - started < AGAIN_S + 0.4

    play({"leader": "", "honest": "", "peer": "leader honest"}, story)


def test_an_answer_that_comes_after_the_block_changes_nothing() -> None:
    async def story(circle: Circle) -> None:
        block = circle.block(*transfers(circle.chain, 4))
        circle["honest"].blocks[header_hash(block.header)] = block
        real = circle["leader"].network.puzzles._answer

        async def late(effect: Any) -> None:
            await asyncio.sleep(AGAIN_S + 0.3)
            await real(effect)

        circle["leader"].network.puzzles._answer = late  # type: ignore[method-assign]
        name = circle.propose("leader", block)
        await until(lambda: name in circle["peer"].blocks)
        await asyncio.sleep(0.5)
        assert circle["peer"].blocks[name] == block
        assert circle["peer"].network.puzzles.filling == {} and circle["peer"].points == 0

    play({"leader": "", "honest": "", "peer": "leader honest"}, story)


def test_two_known_transactions_of_one_name_cost_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """With names of one byte, a peer that knows a hundred others beside the block's meets collisions of every kind."""
    monkeypatch.setattr(compact, "SHORT", 1)

    async def story(circle: Circle) -> None:
        txs = transfers(circle.chain, 20)
        others = [
            circle.chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 9}, nonce=nonce)
            for nonce in range(100, 200)
        ]
        circle["peer"].holds(*others, *txs)
        name = circle.propose("leader", circle.block(*txs))
        await circle.all_have(name)
        assert sum(circle["peer"].asked.values()) >= 1
        assert circle["peer"].points == 0

    play(PAIR, story)


def test_a_list_that_was_changed_on_the_way_costs_a_question_and_no_friend() -> None:
    async def story(circle: Circle) -> None:
        txs = transfers(circle.chain, 4)
        block = circle.block(*txs)
        circle["mallory"]._engine.keeps = lambda _: False  # type: ignore[method-assign]
        name = circle.propose("leader", block)
        await until(lambda: name in circle["mallory"].blocks)
        whole = compacted(block, name, wids=[tx.wid for tx in txs], fresh=())
        changed = msgspec.structs.replace(whole, names=whole.names + b"extra1")
        mallory = circle["mallory"].network
        offer = pack(Offer(circle.proposal(name), changed))
        mallory._perform(mallory._network.publish(mallory.wires.now(), CANDIDATE, offer))
        await until(lambda: name in circle["end"].blocks)
        assert circle["end"].blocks[name] == block
        assert circle["mallory"].points == circle["end"].points == 0

    play({"leader": "", "mallory": "leader", "end": "mallory"}, story)


WRONG = {
    "half a name": lambda whole: {"names": whole.names[:-1]},
    "too many": lambda whole: {"names": bytes(6 * 20_001)},
    "a place twice": lambda whole: {"given": [whole.given[0], whole.given[0]]},
    "a place outside": lambda whole: {"given": [compact.Given(9, whole.given[0].tx)]},
    "another header": lambda whole: {"header": msgspec.structs.replace(whole.header, height=9)},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_list_that_nobody_honest_makes_or_passes_on_bans_its_teller(change: Callable[[Any], Any]) -> None:
    async def story(circle: Circle) -> None:
        txs = transfers(circle.chain, 4)
        block = circle.block(*txs)
        name = header_hash(block.header)
        whole = compacted(block, name, wids=[tx.wid for tx in txs], fresh=[txs[0].wid])
        wrong = msgspec.structs.replace(whole, **change(whole))
        leader = circle["leader"].network
        offer = pack(Offer(circle.proposal(name), wrong))
        leader._perform(leader._network.publish(leader.wires.now(), CANDIDATE, offer))
        await until(lambda: "leader" not in circle["peer"].friends)
        assert circle["peer"].asked == {}

    play(PAIR, story)


class Curious:
    """Asks what agreement never asked for, and does nothing with answers."""

    kinds = (FILL,)

    def requested(self, effect: Any) -> None: ...

    def replied(self, effect: Any) -> None: ...

    def unreplied(self, effect: Any) -> None: ...


def ask_by_hand(network: NodeNetwork, key: bytes, question: kinds.Fill) -> None:
    network._subjects[FILL.wire] = Curious()
    network.wires.ask(key, FILL, question, note=lambda _: None)


@pytest.mark.parametrize("places", [[1, 0], [0, 0]])
def test_a_question_that_nobody_honest_asks_bans_its_asker(places: list[int]) -> None:
    async def story(circle: Circle) -> None:
        name = circle.propose("leader", circle.block(*transfers(circle.chain, 2)))
        await circle.all_have(name)
        peer = circle["peer"].network
        leader = peer._network.peers[0]
        ask_by_hand(peer, leader, kinds.Fill(name, places))
        await until(lambda: "peer" not in circle["leader"].friends)

    play(PAIR, story)


def test_a_place_that_the_block_does_not_have_is_refused_and_forgiven() -> None:
    async def story(circle: Circle) -> None:
        name = circle.propose("leader", circle.block(*transfers(circle.chain, 2)))
        await circle.all_have(name)
        peer = circle["peer"].network
        leader = peer._network.peers[0]
        ask_by_hand(peer, leader, kinds.Fill(name, [7]))
        await until(lambda: peer.refused["refused"] == 1)
        assert circle["leader"].points == 0

    play(PAIR, story)


def test_blocks_that_never_become_whole_and_questions_about_them_are_bounded() -> None:
    """The leader signs one block after another and shows none of them; the end asks the middle again and again."""

    async def story(circle: Circle) -> None:
        async def silent(effect: Any) -> None: ...

        circle["leader"].network.puzzles._answer = silent  # type: ignore[method-assign]
        circle["leader"].read_blocks = lambda *_, **__: asyncio.sleep(0, [])  # type: ignore[method-assign]
        for slot in range(1, MAX_PARTS + 9):
            circle.propose("leader", circle.block(*transfers(circle.chain, 1)), slot=slot)
            await asyncio.sleep(0.03)
        middle, end = circle["middle"].network, circle["end"].network
        assert len(middle.puzzles.parts) == len(end.puzzles.parts) == MAX_PARTS
        (name, *_) = middle.puzzles.parts
        key = next(key for key in end._network.peers if key == circle["middle"].key)
        for _ in range(20):
            ask_by_hand(end, key, kinds.Fill(name, [0]))
        await asyncio.sleep(0.1)
        assert len(middle.puzzles.parked) <= MAX_PARKED_OF_PEER < MAX_PARKED
        middle.set_status(height=10**6, head_hash=bytes(32))
        assert middle.puzzles.parts == {} and middle.puzzles.parked == []

    play(LINE, story)


def test_twenty_nodes_of_which_each_lacks_something() -> None:
    """Four validators know each other; behind each are four followers."""

    async def story(circle: Circle) -> None:
        txs = transfers(circle.chain, 60)
        for number, friend in enumerate(circle.friends.values()):
            friend.holds(*[tx for place, tx in enumerate(txs) if (place + number) % 7])
        started = asyncio.get_running_loop().time()
        name = circle.propose("v0", circle.block(*txs))
        await circle.all_have(name)
        slowest = max(friend.whole.get(name, 0) for friend in circle.friends.values())
        assert slowest - started < AGAIN_S, "nobody had to ask for the whole block"
        others = [friend for friend in circle.friends.values() if friend.name != "v0"]
        assert {tuple(friend.asked.items()) for friend in others} == {((FILL.name, 1),)}
        assert all(friend.points == 0 for friend in circle.friends.values())

    validators = {"v0": "", "v1": "v0", "v2": "v0 v1", "v3": "v0 v1 v2"}
    followers = {f"{letter}{v}": f"v{v}" for letter in "abcd" for v in range(4)}
    play(validators | followers, story)


def test_what_began_here_is_fresh_for_a_moment_and_there_is_little_of_it() -> None:
    async def story(circle: Circle) -> None:
        network = circle["leader"].network._network
        wids = [number.to_bytes(32, "big") for number in range(MAX_FRESH + 5)]
        network.took(1_000, wids)
        assert network.fresh(1_149) == set(wids[5:])
        assert network.fresh(1_150) == set()

    play(PAIR, story)


def test_changed_copies_of_one_proposal_are_pieced_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(circle: Circle) -> None:
        txs = transfers(circle.chain, 4)
        block = circle.block(*txs)
        circle["peer"].holds(*txs)
        name = circle.propose("leader", block)
        await circle.all_have(name)
        looked: list[int] = []
        monkeypatch.setattr(circle["peer"], "envelopes", lambda: looked.append(1) or [])
        whole = compacted(block, name, wids=[tx.wid for tx in txs], fresh=())
        leader = circle["leader"].network
        for number in range(20):
            changed = msgspec.structs.replace(whole, names=whole.names + number.to_bytes(6, "big"))
            offer = pack(Offer(circle.proposal(name), changed))
            leader._perform(leader._network.publish(leader.wires.now(), CANDIDATE, offer))
        await asyncio.sleep(0.3)
        assert looked == [] and circle["peer"].asked == {}

    play(PAIR, story)


def test_a_silent_teller_does_not_have_the_block_fetched_twice() -> None:
    """Two seconds later its question times out: the block is here by then."""

    async def story(circle: Circle) -> None:
        block = circle.block(*transfers(circle.chain, 4))
        circle["honest"].blocks[header_hash(block.header)] = block

        async def silent(effect: Any) -> None: ...

        circle["leader"].network.puzzles._answer = silent  # type: ignore[method-assign]
        name = circle.propose("leader", block)
        await until(lambda: name in circle["peer"].blocks)
        before = circle["peer"].asked[CONSENSUS_GET.name]
        await until(lambda: circle["peer"].network.puzzles.filling == {})
        assert circle["peer"].asked[CONSENSUS_GET.name] == before

    play({"leader": "", "honest": "", "peer": "leader honest"}, story)
