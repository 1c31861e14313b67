"""Every published frame, said to a node of ours by a scripted peer over a real socket, or expected from it."""

import asyncio
from pathlib import Path

from aitbc.core.peer.frames import Type, frame
from support.workshop import (
    ALICE,
    BLOCKS,
    EXCHANGE,
    KEYS,
    SESSION,
    TRANSACTIONS,
    VECTORS,
    Running,
    body,
    connect,
    listening,
    running,
    with_id,
)

NEW_BLOCK, NEW_TX = b"gossip:bc:new_block", b"gossip:bc:new_tx"
SEARCH, FOUND = b"gossip:search:block", b"search_response:block"


def check_state(node: Running, state: dict[str, object]) -> None:
    chain = node.machine.chain
    assert chain.tip == BLOCKS[str(state["tip"])]
    expected = {name: (balance, 0) for name, balance in state["balances"].items()}  # type: ignore[attr-defined]
    for name, nonce in state["nonces"].items():  # type: ignore[attr-defined]
        expected[name] = (expected[name][0], nonce)
    names = {key.address: name for name, key in KEYS.items()}
    found = {names[key]: (account.balance, account.nonce) for key, account in chain.accounts.items()}
    assert found == expected


def test_hello_and_get_peers_as_the_acceptor(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            running(tmp_path, listen="127.0.0.1:15151") as node,
            connect(node) as b,
            connect(node) as b_again,
            connect(node) as c,
            connect(node) as c_again,
        ):
            b.send(EXCHANGE["hello"])
            assert await b.frame() == EXCHANGE["welcome_to_nobody"]
            b_again.send(with_id(EXCHANGE["hello"], 2))
            assert await b_again.frame() == EXCHANGE["welcome_with_one"]
            b.send(EXCHANGE["get_peers"])
            assert await b.frame() == EXCHANGE["peer_list"]
            await c.hello("127.0.0.1:15153", 1)
            assert await c_again.hello("127.0.0.1:15153", 2) == EXCHANGE["welcome_with_two"]

    asyncio.run(story())


def test_hello_and_get_peers_as_the_dialler(tmp_path: Path) -> None:
    async def story() -> None:
        async with listening() as (first, at_first), listening() as (second, at_second):
            settings = {"listen": "127.0.0.1:15152", "bootstrap": (first, second), "max_peers": 6}
            async with running(tmp_path, **settings) as node:
                a, b = await at_first.get(), await at_second.get()
                hellos = {await a.frame(b"p2p:hello"), await b.frame(b"p2p:hello")}
                assert hellos == {EXCHANGE["hello"], with_id(EXCHANGE["hello"], 2)}
                for peer in (a, b):
                    peer.send(EXCHANGE["welcome_to_nobody"])
                    peer.send(EXCHANGE["welcome_with_two"])  # one of the two answers what this peer was asked
                asked = {await a.frame(b"p2p:get_peers"), await b.frame(b"p2p:get_peers")}
                assert EXCHANGE["get_peers"] in asked
                a.send(EXCHANGE["peer_list"])
                b.send(EXCHANGE["peer_list"])
                await node.until(lambda: len(node.machine.peering.addresses()) == 2)

    asyncio.run(story())


def test_the_session_of_an_orphan_a_search_a_tie_and_a_reorganisation(tmp_path: Path) -> None:
    """The frames that an unmodified reference node accepted, in their order."""

    async def story() -> None:
        async with running(tmp_path) as node, connect(node) as peer, connect(node) as other:
            await other.hello("127.0.0.1:15198")
            peer.send(SESSION["t1_before_hello"])
            await peer.silence()
            assert len(node.machine.pool) == 0
            peer.send(SESSION["hello"])
            assert body(await peer.frame()) == (2, b"", b"\x01127.0.0.1:15198")
            peer.send(SESSION["t1"])
            assert body(await other.frame(NEW_TX)) == body(SESSION["t1"])
            assert node.machine.pool.transactions() == [TRANSACTIONS["t1"]]

            peer.send(SESSION["gossip_b2"])
            assert body(await other.frame(NEW_BLOCK)) == body(SESSION["gossip_b2"])
            search = body(await peer.frame(SEARCH))
            assert search[0] == 0 and search[2][32:] == BLOCKS["b1"].hash
            sample = body(SESSION["found_b1"])[2]
            peer.send(frame(Type.PLAIN, 8, FOUND, search[2][16:32] + sample[16:]))
            await node.until(lambda: node.machine.chain.height == 2)
            check_state(node, VECTORS["states"][0])
            assert len(node.machine.pool) == 0

            peer.send(SESSION["search_b2"])
            answer = await peer.frame(FOUND)
            assert with_id(answer, 7) == SESSION["answer_b2"]

            peer.send(SESSION["gossip_c1"])
            peer.send(SESSION["gossip_c2"])
            await peer.silence()
            check_state(node, VECTORS["states"][1])
            peer.send(SESSION["gossip_c3"])
            await node.until(lambda: node.machine.chain.height == 3)
            check_state(node, VECTORS["states"][2])
            for name in ("gossip_c1", "gossip_c2", "gossip_c3"):
                assert body(await other.frame(NEW_BLOCK)) == body(SESSION[name])
            assert node.machine.pool.transactions() == [TRANSACTIONS["t1"]], "a lost branch's wait again"

    asyncio.run(story())


def test_the_exchange_of_a_node_that_joins_late(tmp_path: Path) -> None:
    """b1, t1 and b2 come, then c3 whose parents are searched: c2 and c1 with the reference's own frames."""

    async def story() -> None:
        async with running(tmp_path) as node, connect(node) as a, connect(node) as other:
            await a.hello()
            await other.hello("127.0.0.1:15198")
            for name in ("gossip_b1", "gossip_t1", "gossip_b2"):
                a.send(EXCHANGE[name])
                kind = body(EXCHANGE[name])[1]
                assert body(await other.frame(kind)) == body(EXCHANGE[name])
            a.send(EXCHANGE["gossip_c3_relayed"])
            assert body(await other.frame(NEW_BLOCK)) == body(EXCHANGE["gossip_c3_relayed"])
            for wanted in ("c2", "c1"):
                search = body(await a.frame(SEARCH))[2]
                assert search[32:] == BLOCKS[wanted].hash
                a.send(frame(Type.PLAIN, 10, FOUND, search[16:32] + BLOCKS[wanted].text.encode()))
            await node.until(lambda: node.machine.chain.tip == BLOCKS["c3"])
            a.send(EXCHANGE["search_c2"])
            assert with_id(await a.frame(FOUND), 10) == EXCHANGE["found_c2"]

    asyncio.run(story())


def test_a_search_over_three_hops_comes_back_with_its_id(tmp_path: Path) -> None:
    """asker → node → node → who has it; the reference loses the id on the way."""

    async def story() -> None:
        async with running(tmp_path / "near") as near, connect(near) as asker:
            address = f"127.0.0.1:{near.port}"
            settings = {"bootstrap": (address,), "listen": "127.0.0.1:15197"}
            async with running(tmp_path / "far", **settings) as far, connect(far) as holder:
                await asker.hello()
                await holder.hello("127.0.0.1:15198")
                await near.until(lambda: len(near.machine.peering.peers()) == 2)
                await far.until(lambda: len(far.machine.peering.peers()) == 2)
                asker.send(SESSION["search_b2"])
                assert body(await holder.frame(SEARCH)) == body(SESSION["search_b2"])
                holder.send(SESSION["answer_b2"])
                assert body(await asker.frame(FOUND)) == body(SESSION["answer_b2"])
                holder.send(SESSION["answer_b2"])
                await holder.silence()
                await asker.silence(FOUND)

    asyncio.run(story())


def test_an_answer_that_a_reference_node_relayed_without_its_id(tmp_path: Path) -> None:
    vector = VECTORS["relayed_without_id"]
    text = BLOCKS[vector["of"]].text.encode()
    assert text.hex().startswith(vector["payload_begins"])

    async def story() -> None:
        async with running(tmp_path) as node, connect(node) as asker, connect(node) as reference:
            await asker.hello()
            await reference.hello("127.0.0.1:15198")
            asker.send(SESSION["search_b2"])
            await reference.frame(SEARCH)
            reference.send(frame(Type.PLAIN, 4, FOUND, text))
            assert body(await asker.frame(FOUND)) == body(SESSION["answer_b2"])
            reference.send(EXCHANGE["gossip_c3_relayed"])
            await reference.frame(SEARCH)
            reference.send(frame(Type.PLAIN, 5, FOUND, BLOCKS["c2"].text.encode()))
            search = body(await reference.frame(SEARCH))[2]
            assert search[32:] == BLOCKS["c1"].hash, "the answer for ourselves was taken as well"

    asyncio.run(story())


def test_refused_odd_and_unknown(tmp_path: Path) -> None:
    """The negative vectors: nothing is pooled, relayed or answered, and the connection stays."""
    wrong, other_s = (one["text"].encode() for one in VECTORS["odd"])

    async def story() -> None:
        async with running(tmp_path) as node, connect(node) as peer, connect(node) as other:
            await other.hello("127.0.0.1:15198")
            await peer.hello()
            peer.send(frame(Type.REQUEST, 2, b"no:such_kind", b""))
            peer.send(frame(Type.PLAIN, 3, NEW_TX, bytes(16) + wrong))
            for number, vector in enumerate(VECTORS["refused_spellings"]):
                kind = NEW_BLOCK if "block" in vector else NEW_TX
                text = vector.get("block") or vector["transaction"]
                peer.send(frame(Type.PLAIN, 4, kind, bytes([1] * 15 + [number]) + text.encode()))
            await peer.silence()
            await other.silence(NEW_TX)
            await other.silence(NEW_BLOCK)
            assert len(node.machine.pool) == 0 and node.machine.chain.height == 0
            peer.send(frame(Type.PLAIN, 5, NEW_TX, b"2" * 16 + TRANSACTIONS["t1"].text.encode()))
            peer.send(frame(Type.PLAIN, 6, NEW_TX, b"3" * 16 + other_s))
            await peer.silence()
            assert node.machine.pool.transactions() == [TRANSACTIONS["t1"]], (
                "the other s is no second payment"
            )
            assert ALICE.address == TRANSACTIONS["t1"].sender

    asyncio.run(story())
