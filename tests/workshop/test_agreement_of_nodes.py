"""Nodes of ours and a peer of the old kind on one chain, over real sockets and with real miners."""

import asyncio
import re
from pathlib import Path

from click.testing import CliRunner

from aitbc.cli import root
from aitbc.core.peer.frames import Type, frame
from aitbc.workshop import client
from aitbc.workshop.core.rules import Rules
from aitbc.workshop.core.texts import GENESIS, parse_block
from aitbc.workshop.worker import search
from support.workshop import ALICE, BLOCKS, BOB, CAROL, EASY, body, branch, connect, find, running

NEW_BLOCK, SEARCH, FOUND = b"gossip:bc:new_block", b"gossip:search:block", b"search_response:block"
QUICK = Rules(difficulty=4)
"""65,536 tries: a twentieth of a second."""


def test_two_nodes_and_an_old_peer_agree(tmp_path: Path) -> None:
    """One mines, one relays, the old peer hears every block; then it tells of a longer branch, and all follow."""

    async def story() -> None:
        settings = {"listen": "127.0.0.1:15152", "coinbase": ALICE.address, "rules": QUICK, "workers": 1}
        async with running(tmp_path / "one", rules=QUICK) as relay:
            joins = {**settings, "bootstrap": (f"127.0.0.1:{relay.port}",)}
            async with running(tmp_path / "two", **joins) as miner, connect(relay) as old:
                await old.hello("127.0.0.1:15199")
                heard = [parse_block(body(await old.frame(NEW_BLOCK))[2][16:].decode()) for _ in range(2)]
                assert [one.coinbase for one in heard] == [ALICE.address] * 2

                await miner.host._miner.stop()  # type: ignore[union-attr]
                await relay.until(lambda: relay.machine.chain.tip == miner.machine.chain.tip)
                height = miner.machine.chain.height
                longer = [GENESIS]
                for _ in range(height + 1):
                    longer.append(find(longer[-1], coinbase=CAROL.address, rules=QUICK))
                known = {one.hash: one for one in longer}
                old.send(frame(Type.PLAIN, 7, NEW_BLOCK, b"l" * 16 + longer[-1].text.encode()))
                for _ in range(height):
                    query = body(await old.frame(SEARCH))[2]
                    answer = query[16:32] + known[query[32:]].text.encode()
                    old.send(frame(Type.PLAIN, 8, FOUND, answer))
                for node in (relay, miner):
                    await node.until(lambda node=node: node.machine.chain.tip == longer[-1])  # type: ignore[misc]
                    assert node.machine.chain.accounts[ALICE.address].balance == 0
                    assert node.machine.chain.accounts[CAROL.address].balance == 10_000 * (height + 1)

    asyncio.run(story())


def test_a_node_of_ours_that_joins_asks_for_the_tip_and_has_the_chain_without_waiting_for_a_block(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with running(tmp_path / "old", rules=EASY) as old, connect(old) as peer:
            await peer.hello()
            blocks = branch(GENESIS, 150)
            for number, block in enumerate(blocks):
                payload = number.to_bytes(16, "big") + block.text.encode()
                peer.send(frame(Type.PLAIN, 1, NEW_BLOCK, payload))
            await old.until(lambda: old.machine.chain.height == 150)
            settings = {"listen": "127.0.0.1:15197", "bootstrap": (f"127.0.0.1:{old.port}",)}
            async with running(tmp_path / "new", rules=EASY, **settings) as new:
                await new.until(lambda: new.machine.chain.tip == blocks[-1])
            kept = (tmp_path / "new" / "blocks.txt").read_text().splitlines()
            assert kept == [block.text for block in blocks]

    asyncio.run(story())


def test_a_worker_finds_the_nonce_of_a_real_block() -> None:
    block = BLOCKS["b1"]
    thousand = block.nonce // 1_000
    assert search(*block.around_nonce, 7, thousand, 1) == block.nonce
    assert search(*block.around_nonce, 7, thousand - 2, 2) is None


def test_a_user_makes_keys_asks_and_pays(tmp_path: Path) -> None:
    """The commands of the howto against a node in another process' place: keys, balance, send, chain."""
    home = tmp_path / "home"

    def aitbc(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(root, ["--home", str(home), "workshop", *words])
        assert (result.exit_code != 0) == bool(code), result.output
        return result.output if not code else str(result.exception)

    (tmp_path / "privkey").write_bytes(ALICE.secret)
    assert ALICE.address.hex() in aitbc("keys", "new", "alice", "--from-file", str(tmp_path / "privkey"))
    assert re.fullmatch(r"bob  0[23][0-9a-f]{48}\n", aitbc("keys", "new", "bob"))
    assert len(aitbc("keys", "list").splitlines()) == 2
    assert "already" in aitbc("keys", "new", "bob", code=1)
    assert "no workshop key" in aitbc("send", "bob", "1", "--from", "nobody", code=1)
    assert "P-192" in aitbc("balance", "00" * 25, code=1)
    (home / "workshop" / "keys" / "bob.key").chmod(0o644)
    assert "can be read by others" in aitbc("keys", "list", code=1)
    (home / "workshop" / "keys" / "bob.key").chmod(0o600)

    async def story() -> None:
        async with running(tmp_path / "node", rules=EASY, coinbase=BOB.address) as node:
            node.machine.chain.add(find(GENESIS), 0)
            where = f"127.0.0.1:{node.port}"
            ask = asyncio.to_thread
            assert await ask(aitbc, "balance", "alice", "--node", where) == "10000\n"
            for nonce in range(2):
                said = await ask(aitbc, "send", "bob", "2500", "--from", "alice", "--node", where)
                assert said.startswith(f"2500 to bob, nonce {nonce}: ")
            assert [one.nonce for one in node.machine.pool.choose(10)] == [0, 1]
            text = await ask(aitbc, "chain", "--node", where)
            assert "height   1" in text and "2 transactions" in text
            twin = ALICE.pay(recipient=CAROL.address, nonce=0, amount=1)
            assert (await ask(client.submit, where, twin)).startswith("nonce_taken")

    asyncio.run(story())
    assert "127.0.0.1:1" in aitbc("chain", "--node", "127.0.0.1:1", code=1)


def test_the_profile_of_the_node_command_is_the_workshops_start() -> None:
    for words in (["--profile", "workshop"], ["--profile=workshop"]):
        result = CliRunner().invoke(root, ["node", *words, "--help"])
        assert result.exit_code == 0 and "--follow-overfull" in result.output
    assert "--genesis" in CliRunner().invoke(root, ["node", "start", "--help"]).output
