"""A block that no peer of a node has comes from further away, and only the right one."""

import asyncio
from collections.abc import Awaitable, Callable

from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.wire import pack
from aitbc.core.peer.kinds import ANNOUNCE, CONSENSUS_GET, Wids, pack_message
from aitbc.core.types.blocks import Block
from aitbc.core.types.reasons import Rejected
from support.circle import Circle, Friend, until
from support.people import ALICE, BOB

LINE = {"a": "", "b": "a", "c": "b", "d": "c"}


def play(friends: dict[str, str], story: Callable[[Circle], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with Circle(friends) as circle:
            await story(circle)

    asyncio.run(whole())


def a_block(circle: Circle) -> tuple[bytes, Block, Block]:
    """Its name, itself, and the same header over another transaction."""
    tx, other = (
        circle.chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": amount}, nonce=1)
        for amount in (1, 2)
    )
    block = circle.block(tx)
    return header_hash(block.header), block, Block(block.header, [other.tx])


def open_at(friend: Friend) -> int:
    searching = friend.network._network._searching
    return len(searching._paths) + len(searching._tickets) + len(searching._examined)


def test_a_block_comes_from_three_hops_away_after_the_direct_peers_were_asked() -> None:
    async def story(circle: Circle) -> None:
        name, block, _ = a_block(circle)
        circle["d"].blocks[name] = block
        circle["a"].want(name)
        await until(lambda: name in circle["a"].blocks)
        assert circle["a"].blocks[name] == block
        assert circle["a"].asked[CONSENSUS_GET.name] >= 1
        assert name not in circle["b"].blocks, "who only passes it on does not keep it"
        assert [open_at(friend) for friend in circle.friends.values()] == [0, 0, 0, 0]
        assert all(friend.points == 0 for friend in circle.friends.values())

    play(LINE, story)


def test_a_body_that_was_exchanged_goes_one_hop_and_bans_its_sender() -> None:
    async def story(circle: Circle) -> None:
        name, block, exchanged = a_block(circle)
        circle["liar"].blocks[name] = exchanged
        liar = circle["liar"].network

        async def unchecked(block_hash: bytes) -> bytes | None:
            return pack(exchanged)

        liar.searches._packed_block = unchecked  # type: ignore[method-assign]
        circle["d"].blocks[name] = block
        circle["a"].want(name)
        await until(lambda: name in circle["a"].blocks)
        assert circle["a"].blocks[name] == block
        await until(lambda: "liar" not in circle["b"].friends)
        assert "b" in circle["a"].friends

    play(LINE | {"liar": "b"}, story)


def test_an_unchecked_body_that_came_beside_a_proposal_is_not_passed_on_in_good_faith() -> None:
    async def story(circle: Circle) -> None:
        name, _, exchanged = a_block(circle)
        circle["d"].blocks[name] = exchanged
        circle["a"].want(name)
        await asyncio.sleep(0.6)
        assert "d" in circle["c"].friends and circle["c"].points == circle["d"].points == 0

    play(LINE, story)


def test_a_transaction_that_its_announcers_lost_is_found_behind_them() -> None:
    """Both who announced it hold it no more; a friend of theirs does."""

    async def story(circle: Circle) -> None:
        tx = circle.chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=1)
        circle["owner"].holds(tx)
        offered: list[bytes] = []
        asker = circle["asker"].network

        async def offer(packed: list[tuple[bytes, bytes]]) -> list[Rejected]:
            offered.extend(raw for _, raw in packed)
            return []

        asker.transactions.offer = offer  # type: ignore[method-assign,assignment]
        announcement = pack_message(ANNOUNCE, Wids([tx.wid]))
        for name in ("one", "two"):
            teller = circle[name].network
            teller._perform(
                teller._network.say(teller.wires.now(), circle["asker"].key, ANNOUNCE, announcement)
            )
        await until(lambda: offered)
        assert offered == [pack(tx.tx)]

    play({"owner": "", "one": "owner", "two": "owner", "asker": "one two"}, story)


def test_twenty_nodes_fetch_a_block_that_one_of_them_kept() -> None:
    """Five clusters of four in a ring: each node knows its own, the first of each knows the next one's first."""

    async def story(circle: Circle) -> None:
        name, block, _ = a_block(circle)
        circle["a3"].blocks[name] = block
        seekers = [friend for friend in circle.friends.values() if friend.name[0] in "abe"]
        for friend in seekers:
            if friend.name != "a3":
                friend.want(name)
        await until(lambda: all(name in friend.blocks for friend in seekers))
        assert all(friend.points == 0 for friend in circle.friends.values())

    ring = {
        f"{cluster}{number}": " ".join(f"{cluster}{other}" for other in range(number))
        for cluster in "abcde"
        for number in range(4)
    }
    for cluster, following in zip("abcde", "bcdea", strict=True):
        ring[f"{following}0"] = f"{ring[f'{following}0']} {cluster}0".strip()
    play(ring, story)
