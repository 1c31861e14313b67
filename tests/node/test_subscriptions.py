"""The queues of those who follow a node: numbered, bounded, and never waited for."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aitbc.adapters.storage.rows import touched
from aitbc.core.consensus.simplex.record import Incident
from aitbc.core.peer.kinds import Rate
from aitbc.core.types.blocks import CommittedBlock
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node.subscriptions import (
    HELD,
    MAX_READERS,
    MAX_READERS_AT_OWNER,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    TELLINGS,
    TX_RATE,
    Ended,
    Reader,
    Subscriptions,
    TooOld,
)
from aitbc.node.topics import topic_of
from support.chain import Chain
from support.people import ALICE, BOB, HUB, PROVIDER, VALIDATOR

KEY = bytes(32)
PEER, TX = topic_of("peer"), topic_of("tx")


def play(story: Callable[[Subscriptions], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        return await asyncio.wait_for(story(Subscriptions(0)), 10)  # type: ignore[arg-type]

    return asyncio.run(whole())


async def said(reader: Reader) -> Any:
    text = await reader.next()
    return None if text is None else json.loads(text)


def test_each_reader_hears_its_streams_with_their_numbers() -> None:
    async def story(hub: Subscriptions) -> None:
        hub.peer_joined(KEY, "early")  # nobody follows, and it is counted
        peers = hub.join([PEER], host="127.0.0.1")
        both = hub.join([PEER, topic_of("consensus")], host="127.0.0.1")
        hub.peer_left(KEY, "idle")
        hub.incident(Incident("slow", 1, 2, "ait1x", 30), 7)
        left = {"type": "peer", "seq": 2, "data": {"what": "left", "key": "00" * 32, "reason": "idle"}}
        assert await said(peers) == await said(both) == left
        slow = {
            "what": "slow",
            "epoch": 1,
            "slot": 2,
            "leader": "ait1x",
            "lateMs": 30,
            "timestampMs": 7,
            "reason": None,
        }
        assert await said(both) == {"type": "consensus", "seq": 1, "data": slow}
        hub.leave(peers)
        hub.peer_left(KEY, "lost")
        assert (await said(both))["seq"] == 3
        assert hub.numbers == {"block": 0, "tx": 0, "consensus": 1, "peer": 3, "outcome": 0}

    play(story)


def test_a_reader_waits_until_something_happens() -> None:
    async def story(hub: Subscriptions) -> None:
        reader = hub.join([PEER], host="")
        waiting = asyncio.create_task(said(reader))
        await asyncio.sleep(0)
        assert not waiting.done()
        hub.peer_joined(KEY, "x")
        assert (await waiting)["data"]["agent"] == "x"

    play(story)


@pytest.mark.parametrize(
    "text", ["x", "x" * (MAX_WAITING_BYTES // 100)], ids=["too many events", "too many bytes"]
)
def test_attack_a_reader_that_does_not_read_is_let_go_and_keeps_nothing(text: str) -> None:
    async def story(hub: Subscriptions) -> None:
        slow, good = hub.join([PEER], host=""), hub.join([PEER], host="")
        for _ in range(MAX_WAITING + 1):
            hub.peer_joined(KEY, text)
            assert (await said(good))["data"]["agent"] == text
        assert slow.ended is Ended.TOO_SLOW
        assert len(slow._texts) == 0
        assert await said(slow) is None

    play(story)


def test_attack_there_are_so_many_places_and_fewer_for_one_address() -> None:
    async def story(hub: Subscriptions) -> None:
        for _ in range(MAX_READERS_AT_OWNER):
            hub.join([PEER], host="9.9.9.9")
        with pytest.raises(Rejected, match=r"at 9\.9\.9\.9"):
            hub.join([PEER], host="9.9.9.9")
        readers = [hub.join([PEER], host="127.0.0.1") for _ in range(MAX_READERS - MAX_READERS_AT_OWNER)]
        with pytest.raises(Rejected) as caught:
            hub.join([PEER], host="8.8.8.8")
        assert caught.value.reason is Reason.TOO_BUSY
        hub.leave(readers[0])
        hub.join([PEER], host="8.8.8.8")

    play(story)


def test_transactions_above_the_rate_are_counted_and_left_out() -> None:
    chain = Chain()
    tx = chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1})

    async def story(hub: Subscriptions) -> None:
        reader = hub.join([TX], host="")
        for _ in range(TX_RATE.burst + 50):
            hub.transaction(tx, 0)
        hub.transaction(tx, 1_000)
        numbers = [(await said(reader))["seq"] for _ in range(TX_RATE.burst + 1)]
        assert numbers == [*range(1, TX_RATE.burst + 1), TX_RATE.burst + 51]

    play(story)


def test_nobody_follows_a_node_that_has_stopped() -> None:
    async def story(hub: Subscriptions) -> None:
        reader = hub.join([PEER], host="")
        hub.stop()
        assert await said(reader) is None
        assert reader.ended is Ended.NODE_STOPPED
        with pytest.raises(Rejected) as caught:
            hub.join([PEER], host="")
        assert caught.value.reason is Reason.NODE_STOPPED

    play(story)


def test_with_many_readers_fewer_transactions_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain()
    tx = chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1})

    async def story(hub: Subscriptions) -> None:
        readers = [hub.join([TX], host="127.0.0.1") for _ in range(MAX_READERS)]
        for _ in range(TX_RATE.burst):
            hub.transaction(tx, 0)
        told = len(readers[0]._texts)
        assert told == TELLINGS.burst // MAX_READERS
        assert hub.numbers["tx"] == TX_RATE.burst

    play(story)


def test_the_newest_are_held_and_older_ones_are_named_as_gone() -> None:
    async def story(hub: Subscriptions) -> None:
        for _ in range(HELD["peer"] + 5):
            hub.peer_joined(KEY, "x")
        assert [json.loads(text)["seq"] for text in hub.again(PEER, hub.run, 5)][::1_023] == [6, 1_029]
        with pytest.raises(TooOld) as caught:
            hub.again(PEER, hub.run, 4)
        assert (caught.value.stream, caught.value.oldest) == ("peer", 6)
        assert list(hub.again(PEER, hub.run, HELD["peer"] + 5)) == []
        with pytest.raises(TooOld):
            hub.again(PEER, "another run", 6)

    play(story)


def test_final_transactions_are_held_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitbc.node.subscriptions.HELD_OUTCOMES", 3)
    chain = Chain()
    about = topic_of(f"address:{BOB.address}")

    def block(*nonces: int) -> CommittedBlock:
        txs = [
            chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=nonce)
            for nonce in nonces
        ]
        built = chain.block(*txs)
        return CommittedBlock(built.block, built.hash, built.outcomes, None)

    async def story(hub: Subscriptions) -> None:
        for nonces in ((1, 2), (3,), (4, 5)):
            hub.block(block(*nonces))
        seqs = [json.loads(text)["seq"] for text in hub.again(about, hub.run, 2)]
        assert seqs == [3, 4, 5]
        with pytest.raises(TooOld) as caught:
            hub.again(about, hub.run, 1)
        assert caught.value.oldest == 3

    play(story)


# Told again


def crowded(hub: Subscriptions, blocks: int, each: int) -> CommittedBlock:
    """Blocks full of transfers from Alice to Bob; the last one."""
    chain = Chain()
    for first in range(1, blocks * each, each):
        txs = [
            chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=nonce)
            for nonce in range(first, first + each)
        ]
        built = chain.block(*txs)
        last = CommittedBlock(built.block, built.hash, built.outcomes, None)
        hub.block(last)
    return last


def test_attack_however_many_topics_ask_again_a_block_is_looked_through_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[Any] = []
    monkeypatch.setattr(
        "aitbc.node.topics.touched", lambda tx, outcome: looked.append(tx) or touched(tx, outcome)
    )

    async def story(hub: Subscriptions) -> None:
        crowded(hub, 2, 3)
        assert looked == [], "nobody has asked"
        strangers = [topic_of(f"address:{person.address}") for person in (HUB, PROVIDER, VALIDATOR)]
        for topic in [*strangers, *strangers]:
            assert list(hub.again(topic, hub.run, 0)) == []
        about = topic_of(f"address:{BOB.address}")
        assert [json.loads(text)["seq"] for text in hub.again(about, hub.run, 4)] == [5, 6]
        assert len(looked) == 6

    play(story)


def test_attack_what_is_told_again_counts_for_the_address_of_who_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aitbc.node.subscriptions.AGAIN", Rate(1, 10))
    monkeypatch.setattr("aitbc.node.subscriptions.LOCAL_AGAIN", Rate(1, 80))
    about, nobody = topic_of(f"address:{BOB.address}"), topic_of(f"address:{HUB.address}")

    async def story(hub: Subscriptions) -> None:
        crowded(hub, 2, 3)
        one, two = (hub.join([], host="9.9.9.9") for _ in range(2))
        hub.count_again(one, hub.run, {about: 0})
        hub.count_again(two, hub.run, {about: 2, nobody: 0})
        with pytest.raises(Rejected, match="2 events to tell again are too many") as caught:
            hub.count_again(two, hub.run, {about: 4})
        assert caught.value.reason is Reason.TOO_BUSY
        hub.count_again(two, hub.run, {nobody: 0})
        hub.count_again(two, "another run", {about: 0})
        hub.count_again(hub.join([], host="8.8.8.8"), hub.run, {about: 0, topic_of("block"): 0})
        near = hub.join([], host="127.0.0.1")
        for _ in range(13):
            hub.count_again(near, hub.run, {about: 0})
        with pytest.raises(Rejected):
            hub.count_again(near, hub.run, {about: 0})

    play(story)
