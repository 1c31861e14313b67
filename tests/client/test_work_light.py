"""A light client where work agrees takes difficulty, work and turns from nobody, and follows the heaviest branch."""

import asyncio
import json
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest

from aitbc.client.errors import ApiError
from aitbc.client.state_proofs import account_of
from aitbc.client.work_light import (
    AsyncWorkLightClient,
    NotDeepEnough,
    WorkLightClient,
    WorkTrust,
    trust_from_plain,
    trust_work_genesis,
    trust_work_header,
)
from aitbc.client.work_rules import agrees_by_work, work_chain
from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.views import header_from_plain, header_to_plain
from aitbc.core.consensus.nakamoto.headers import Link
from aitbc.core.consensus.nakamoto.work import target_of
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import Block, Header
from aitbc.core.types.nakamoto import NakamotoSettings
from aitbc.core.types.reasons import Reason, Rejected
from support.chain import Chain, genesis
from support.people import ALICE, BOB, EVE, person
from support.work import FAST, sealed, work_genesis
from support.work_host import Maker
from support.work_teller import AsyncWorkTeller, WorkTeller

Json = dict[str, Any]
MINERS = tuple(person(f"miner {number}") for number in range(3))
TURNS = NakamotoSettings(
    difficulty=4,
    min_interval_ms=100,
    interval_ms=1_000,
    take_over_ms=500,
    max_ahead_ms=100,
    max_interval_ms=60_000,
    finality_depth=6,
)
ADJUSTING = NakamotoSettings(
    difficulty=64,
    difficulty_rule="adjusting",
    least_difficulty=2,
    block_time_ms=1_000,
    max_ahead_ms=500,
    half_life_ms=10_000,
    finality_depth=6,
)


def said(act: Callable[[], object]) -> str:
    """`fine`, or the reason with which it was refused; anything else that is raised is a bug."""
    try:
        act()
    except Rejected as rejected:
        return str(rejected.reason)
    return "fine"


def trust_of(maker: Maker) -> WorkTrust:
    return trust_work_genesis(json.loads(maker.document))


def light_for(maker: Maker, **options: Any) -> WorkLightClient:
    return WorkLightClient(trust_of(maker), **options)


def teller(maker: Maker, blocks: list[Block] | None = None, **options: Any) -> WorkTeller:
    return WorkTeller(maker.document, maker.blocks if blocks is None else blocks, **options)


def in_turns(count: int) -> Maker:
    """Mode poa-pow; every third block is a late one, by the second miner after the one before."""
    maker = Maker(work_genesis(TURNS, miners=MINERS))
    turn = -1
    for number in range(count):
        late = number % 3 == 2
        turn += 2 if late else 1
        maker.author = MINERS[turn % 3]
        maker.extend(after_ms=1_600 if late else 1_000)
    return maker


# Honest chains


@pytest.mark.parametrize("settings", [FAST, ADJUSTING])
def test_from_genesis_to_the_head_of_a_chain_of_several_pages(settings: NakamotoSettings) -> None:
    maker = Maker(work_genesis(settings))
    random = Random(1)
    for _ in range(230):
        maker.extend(after_ms=random.choice((400, 900, 1_000, 1_700)))
    light, node = light_for(maker), teller(maker)
    head = light.follow(node)
    link = maker.links[-1]
    assert (head.hash, head.height, head.weight) == (link.hash, 230, link.weight)
    assert head.child_target == link.child_target
    assert len(node.asked) == 3
    node.take(maker.grow(2))
    assert light.follow(node).height == 232
    assert len(node.asked) == 4, "from its newest final block on"


def test_listed_miners_in_their_turns() -> None:
    maker = in_turns(12)
    head = light_for(maker).follow(teller(maker))
    assert (head.hash, head.author) == (maker.links[-1].hash, maker.links[-1].author)


def test_a_client_goes_on_where_it_stopped() -> None:
    maker = Maker(work_genesis(ADJUSTING))
    maker.grow(20)
    light = light_for(maker)
    light.follow(teller(maker))
    kept = json.loads(json.dumps(light.trust.to_plain()))
    assert kept["place"]["height"] == 14, "under six blocks"
    chain = work_chain(json.loads(maker.document))
    again = WorkLightClient(trust_from_plain(kept, chain=chain))
    maker.grow(3)
    node = teller(maker)
    assert again.follow(node).hash == maker.links[-1].hash
    assert node.asked == ["/rpc/blocks-range"]
    other = work_chain(json.loads(Maker(work_genesis(FAST)).document))
    assert said(lambda: trust_from_plain(kept, chain=other)) == "wrong_chain"


def test_from_a_header_whose_hash_is_known() -> None:
    maker = Maker()
    maker.grow(9)
    chain = work_chain(json.loads(maker.document))
    block = maker.blocks[4]
    view, name = header_to_plain(block.header, maker.links[5].hash), maker.links[5].hash
    light = WorkLightClient(trust_work_header(view, block_hash=name, chain=chain))
    assert light.follow(teller(maker)).hash == maker.links[-1].hash
    assert said(lambda: trust_work_header(view, block_hash=bytes(32), chain=chain)) == "bad_proof"


def test_where_the_difficulty_adjusts_a_header_is_trusted_with_the_target_of_its_children() -> None:
    maker = Maker(work_genesis(ADJUSTING))
    maker.grow(9)
    chain, link = work_chain(json.loads(maker.document)), maker.links[5]
    view = header_to_plain(maker.blocks[4].header, link.hash)
    assert said(lambda: trust_work_header(view, block_hash=link.hash, chain=chain)) == "missing_field"
    trust = trust_work_header(view, block_hash=link.hash, chain=chain, child_target=link.child_target)
    assert WorkLightClient(trust).follow(teller(maker)).hash == maker.links[-1].hash


def test_the_heaviest_of_several_branches_is_followed_whoever_tells_first() -> None:
    maker = Maker()
    maker.grow(4)
    longer = maker.after(maker.blocks[:2])
    longer.extend(after_ms=1_500)
    longer.grow(3)
    short, long = teller(maker), teller(longer)
    for nodes in ((short, long), (long, short)):
        assert light_for(maker).follow(*nodes).hash == longer.links[-1].hash
    asynchronous = AsyncWorkLightClient(trust_of(maker))
    tellers = [AsyncWorkTeller(maker.document, each.blocks) for each in (maker, longer)]
    assert asyncio.run(asynchronous.follow(*tellers)).hash == longer.links[-1].hash  # type: ignore[arg-type]


def test_fewer_blocks_with_more_work_win() -> None:
    maker = Maker(work_genesis(ADJUSTING))
    maker.grow(3)
    slow, quick = maker.after(maker.blocks), maker.after(maker.blocks)
    for _ in range(6):
        slow.extend(after_ms=6_000)
    for _ in range(5):
        quick.extend(after_ms=10)
    assert quick.links[-1].weight > slow.links[-1].weight
    light = light_for(maker)
    assert light.follow(teller(slow)).height == 9
    assert light.follow(teller(quick)).hash == quick.links[-1].hash
    assert light.follow(teller(slow)).hash == quick.links[-1].hash, "it is not left again"


def test_of_equal_weight_the_first_stays_or_where_miners_are_listed_the_lowest_hash() -> None:
    maker = Maker()
    one, two = maker.after([]), maker.after([])
    one.extend(after_ms=1_000)
    two.extend(after_ms=1_100)
    light = light_for(maker)
    assert light.follow(teller(one), teller(two)).hash == one.links[-1].hash
    turns = Maker(work_genesis(TURNS, miners=MINERS), author=MINERS[0])
    three, four = turns.after([]), turns.after([])
    three.extend(after_ms=1_000)
    four.extend(after_ms=1_100)
    lowest = min(three.links[-1].hash, four.links[-1].hash)
    for nodes in ((teller(three), teller(four)), (teller(four), teller(three))):
        assert light_for(turns).follow(*nodes).hash == lowest


def test_a_node_that_is_behind_changes_nothing() -> None:
    maker = Maker()
    maker.grow(20)
    light = light_for(maker)
    light.follow(teller(maker), teller(maker, maker.blocks[:3]))
    assert light.head.height == 20


def test_a_node_that_leaves_its_branch_while_it_is_read_is_read_again() -> None:
    maker = Maker()
    maker.grow(99)
    other = maker.after(maker.blocks[:97])
    other.extend(after_ms=1_500)
    other.grow(8)
    maker.grow(3)
    node = teller(maker)
    turned: list[int] = []

    def turns_round(path: str, answer: Json) -> Json:
        if not turned:
            turned.append(1)
            node.take(other.blocks[97:])
        return answer

    node.twist = turns_round
    assert light_for(maker).follow(node).hash == other.links[-1].hash
    assert len(node.asked) == 3, "a page, one that does not fit, and again from the newest final block on"


def test_a_header_of_the_future_is_neither_taken_nor_a_lie() -> None:
    maker = Maker()
    maker.grow(5)
    early = maker.links[3].timestamp_ms - FAST.max_ahead_ms
    assert light_for(maker, clock=lambda: early).follow(teller(maker)).height == 3


# Lies


def lied(maker: Maker, change: Callable[[Header, Link], Header]) -> str:
    """What is said of a node whose newest header is another one."""
    parent, block = maker.links[-2], maker.blocks[-1]
    header = change(block.header, parent)

    def twist(path: str, answer: Json) -> Json:
        answer["items"][-1] = header_to_plain(header, header_hash(header))
        return answer

    light = light_for(maker)
    verdict = said(lambda: light.follow(teller(maker, twist=twist)))
    assert verdict != "fine"
    return verdict


def test_a_forged_difficulty_is_not_enough_work() -> None:
    """The work is there, for a target that the author made up: nothing in a header says what it has to be."""
    for settings in (FAST, ADJUSTING):
        maker = Maker(work_genesis(msgspec.structs.replace(settings, difficulty=1 << 12, least_difficulty=1)))
        maker.extend()

        def easy(header: Header, parent: Link) -> Header:
            for number in range(1_000):
                found = sealed(msgspec.structs.replace(header, extra=b"%d" % number), target_of(2))
                if said(lambda: maker.rules.check(found, parent)) != "fine":  # noqa: B023
                    return found
            raise AssertionError("no such header")

        assert lied(maker, easy) == "not_enough_work"


def test_work_for_the_first_difficulty_is_too_little_once_it_has_risen() -> None:
    maker = Maker(work_genesis(ADJUSTING))
    for _ in range(20):
        maker.extend(after_ms=20)
    risen = maker.links[-2].child_target
    assert risen < target_of(ADJUSTING.difficulty) // 2

    def stale(header: Header, parent: Link) -> Header:
        """Found for the target of the first blocks, and not by luck for the one that is due."""
        for number in range(1_000):
            found = sealed(
                msgspec.structs.replace(header, extra=b"%d" % number), target_of(ADJUSTING.difficulty)
            )
            if said(lambda: maker.rules.check(found, parent)) != "fine":  # noqa: B023
                return found
        raise AssertionError("no such header")

    assert lied(maker, stale) == "not_enough_work"


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("another miner's turn", "wrong_proposer"),
        ("nobody's turn", "wrong_proposer"),
        ("another's key", "bad_signature"),
        ("no seal", "malformed"),
        ("too early", "bad_timestamp"),
        ("too late", "bad_timestamp"),
        ("empty and early", "bad_timestamp"),
    ],
)
def test_a_wrong_turn_is_refused(what: str, reason: str) -> None:
    maker = in_turns(4)

    def change(header: Header, parent: Link) -> Header:
        author = next(who for who in MINERS if who.address == header.proposer)
        other = next(who for who in MINERS if who != author)
        changes: dict[str, Any] = {
            "another miner's turn": {"proposer": other.address},
            "nobody's turn": {"proposer": EVE.address},
            "too early": {"timestamp_ms": parent.timestamp_ms + 99},
            "too late": {"timestamp_ms": parent.timestamp_ms + 60_001},
            "empty and early": {"timestamp_ms": parent.timestamp_ms + 999},
        }.get(what, {})
        if what == "no seal":
            return msgspec.structs.replace(header, seal=header.seal[:8])
        signer = other if what in ("another's key", "another miner's turn") else author
        return sealed(msgspec.structs.replace(header, **changes), parent.child_target, signer)

    assert lied(maker, change) == reason


def test_another_block_0_is_another_chain() -> None:
    maker = Maker()
    maker.grow(2)
    for field, value in {"timestampMs": 5, "extra": "00" * 32, "height": 1, "proposer": EVE.address}.items():

        def twist(_: str, answer: Json, field: str = field, value: Any = value) -> Json:
            view = answer["items"][0] | {field: value}
            view["timestamp"] = view["timestampMs"] // 1000
            answer["items"][0] = view | {"hash": header_hash(header_from_plain(view)).hex()}
            return answer

        verdict = said(lambda twist=twist: light_for(maker).follow(teller(maker, twist=twist)))  # type: ignore[misc]
        assert verdict == ("wrong_height" if field == "height" else "wrong_chain")


def test_a_branch_that_left_below_what_is_final_is_refused_whatever_it_weighs() -> None:
    maker = Maker()
    maker.grow(10)
    other = maker.after(maker.blocks[:2])
    other.extend(after_ms=1_500)
    other.grow(30)
    light = light_for(maker)
    light.follow(teller(maker))
    assert said(lambda: light.follow(teller(other))) == "below_final"
    assert light.head.height == 10


@pytest.mark.parametrize("seed", range(3))
def test_the_verdict_is_the_nodes_own_on_headers_changed_at_random(seed: int) -> None:
    """The rules were written twice from one chapter."""
    random = Random(seed)
    maker = (in_turns(8), Maker(work_genesis(ADJUSTING)), Maker())[seed]
    if not maker.blocks:
        for _ in range(8):
            maker.extend(after_ms=random.choice((1, 700, 1_300, 9_000)))
    chain = work_chain(json.loads(maker.document))
    view = header_to_plain(maker.executor.loaded.block.block.header, maker.links[0].hash)
    assert view["height"] == 0
    place = chain.first(maker.executor.loaded.block.block.header)
    verdicts = set()
    for block, parent, link in zip(maker.blocks, maker.links, maker.links[1:], strict=False):
        for _ in range(40):
            header = changed(random, block.header, parent)
            theirs = said(lambda: maker.rules.check(header, parent))  # noqa: B023
            ours = said(lambda: chain.check(header, place))  # noqa: B023
            assert ours == theirs, header
            verdicts.add(ours)
        place = chain.check(block.header, place)
        assert (place.hash, place.weight, place.child_target) == (link.hash, link.weight, link.child_target)
    assert {"fine", "not_enough_work", "bad_timestamp", "wrong_parent"} <= verdicts


def changed(random: Random, header: Header, parent: Link) -> Header:
    time = parent.timestamp_ms + random.choice((0, 1, 99, 100, 999, 1_000, 1_499, 1_500, 2_000, 70_000))
    changes: dict[str, Any] = random.choice(
        (
            {"timestamp_ms": time},
            {"proposer": random.choice((*MINERS, EVE)).address},
            {"proposer": "a" * random.choice((90, 91))},
            {"height": header.height + random.choice((-1, 1))},
            {"parent": bytes(32)},
            {"chain_id": "other"},
            {"extra": bytes(random.choice((256, 257)))},
            {"seal": header.seal + b"\0"},
            {"state_root": bytes(32)},
            {},
        )
    )
    header = msgspec.structs.replace(header, **changes)
    if "seal" not in changes and random.random() < 0.8:
        signer = random.choice(MINERS) if len(header.seal) > 8 else None
        header = sealed(header, random.choice((parent.child_target, 2**256 - 1)), signer)
    return header


# What hangs below a header


@pytest.fixture(scope="module")
def paid() -> tuple[Maker, str]:
    """Alice pays Bob in block 3 of 12."""
    maker = Maker()
    writer = Chain(work_genesis())
    tx = writer.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5 * AIT, "data": "rent"}, nonce=1)
    maker.grow(2)
    maker.extend([tx])
    maker.grow(9)
    return maker, tx.id.hex()


def test_a_balance_with_so_many_confirmations(paid: tuple[Maker, str]) -> None:
    maker, _ = paid
    light, node = light_for(maker), teller(maker)
    light.follow(node)
    for confirmations in (1, 4, 7):
        record = light.record(node, "accounts", BOB.address, confirmations=confirmations)
        assert record.data is not None
        assert account_of(record.data).balance == 1_005 * AIT
        assert (record.confirmations, record.header.height) == (confirmations, 13 - confirmations)
    assert light.record(node, "accounts", person("nobody").address, confirmations=1).data is None
    with pytest.raises(ValueError, match="from 1 to 7"):
        light.record(node, "accounts", BOB.address, confirmations=8)


def test_a_transaction_new_or_old_and_what_became_of_it(paid: tuple[Maker, str]) -> None:
    maker, tx_id = paid
    light, node = light_for(maker), teller(maker)
    with pytest.raises(NotDeepEnough, match="no node has shown"):
        light.transaction(node, tx_id, confirmations=1)
    light.follow(node)
    found = light.transaction(node, tx_id, confirmations=10)
    assert (found.tx.sender, found.outcome.ok, found.confirmations) == (ALICE.address, True, 10)
    assert "/rpc/proof/history/3" in node.asked, "it is older than what the client keeps"
    assert light.ancestor(node, 1) == maker.blocks[0].header
    with pytest.raises(NotDeepEnough, match="10 confirmations, not 11"):
        light.transaction(node, tx_id, confirmations=11)
    with pytest.raises(ApiError):
        light.transaction(node, "00" * 32, confirmations=1)
    young = light_for(maker)
    young.follow(teller(maker, maker.blocks[:4]))
    assert young.transaction(teller(maker, maker.blocks[:4]), tx_id, confirmations=2).confirmations == 2


def test_what_is_not_on_the_heaviest_branch_is_not_believed(paid: tuple[Maker, str]) -> None:
    """A node that stayed on the lighter branch proves what it has, and its blocks are not ours."""
    maker, tx_id = paid
    other = maker.after(maker.blocks[:2])
    other.extend(after_ms=1_500)
    other.grow(4)
    behind, ahead = teller(maker, maker.blocks[:4]), teller(other)
    light = light_for(maker)
    assert light.follow(behind, ahead).hash == other.links[-1].hash
    assert said(lambda: light.transaction(behind, tx_id, confirmations=1)) == "bad_proof"
    assert said(lambda: light.record(teller(maker), "accounts", BOB.address, confirmations=1)) == "bad_proof"
    with pytest.raises(NotDeepEnough):
        light.ancestor(teller(maker), 1)


LIES: dict[str, tuple[str, ...]] = {
    "another amount in the transaction": ("tx", "payload", "amount"),
    "another outcome": ("receipt", "fee"),
    "another place": ("proof", "txProof", "index"),
    "an outcome from another place": ("proof", "outcomeProof", "count"),
    "another header": ("proof", "header", "timestampMs"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_transaction_with_something_else_in_it_is_refused(paid: tuple[Maker, str], lie: str) -> None:
    maker, tx_id = paid
    light = light_for(maker)
    light.follow(teller(maker))

    def twist(path: str, answer: Json) -> Json:
        place = answer
        if path.startswith("/rpc/getTx/"):
            for name in LIES[lie][:-1]:
                place = place[name]
            place[LIES[lie][-1]] += 1
        return answer

    verdict = said(lambda: light.transaction(teller(maker, twist=twist), tx_id, confirmations=1))
    assert verdict in ("bad_proof", "not_canonical")


def test_a_record_with_another_value_is_refused(paid: tuple[Maker, str]) -> None:
    maker, _ = paid
    light = light_for(maker)
    light.follow(teller(maker))

    def twist(_: str, answer: Json) -> Json:
        answer["leaf"]["value"] = "ff" + answer["leaf"]["value"][2:]
        return answer

    ask = teller(maker, twist=twist)
    assert said(lambda: light.record(ask, "accounts", BOB.address, confirmations=1)) == "bad_proof"


def test_a_document_of_votes_is_no_chain_by_work() -> None:
    document = json.loads(Chain(genesis()).document)
    assert not agrees_by_work(document)
    assert said(lambda: trust_work_genesis(document)) in ("wrong_type", "missing_field", "malformed")
    work = json.loads(Maker().document)
    assert agrees_by_work(work)
    assert said(lambda: trust_work_genesis(work, genesis_hash=bytes(32))) == "wrong_chain"
    broken = work | {"consensus": work["consensus"] | {"mode": "poa-pow"}}
    assert said(lambda: trust_work_genesis(broken)) == str(Reason.BAD_GENESIS)
