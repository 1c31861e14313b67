"""Three nodes that mine, in processes of their own: they agree, one is cut off and mines its own branch, is joined
again, leaves the branch, and what was in it comes back. Then one is killed, and another begins from nothing."""

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from aitbc.cli import root
from aitbc.cli.errors import run
from aitbc.client.node import NodeClient
from aitbc.client.signing import KeySigner
from aitbc.client.transactions import prepare_transaction, transfer_payload
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.types.amounts import AIT
from support.cuttable import Line
from support.devnet import AITBC
from support.people import ALICE, BOB, person

Json = dict[str, Any]
MINERS = [person(f"miner {number}") for number in range(3)]
SEEDS = {who.address: name for who, name in zip(MINERS, ("miner 0", "miner 1", "miner 2"), strict=True)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Miner:
    """One node in a process of its own."""

    def __init__(self, folder: Path, place: int, *options: str) -> None:
        from hashlib import sha256

        self.folder, self.place, self.options = folder, place, options
        self.rpc_port = free_port()
        self.key = folder / f"key-{place}"
        self.key.write_text(sha256(f"aitbc test miner {place}".encode()).digest().hex())
        self.key.chmod(0o600)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        command = [str(AITBC), "node", "start", "--genesis", str(self.folder / "genesis.json")]
        command += ["--data", str(self.folder / f"data-{self.place}"), "--port", str(self.rpc_port)]
        command += ["--proposer-key", str(self.key), "--extra", f"node {self.place}", *self.options, *options]
        with (self.folder / f"log-{self.place}").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(f"node {self.place} answers", self.answers)

    def answers(self) -> bool:
        with suppress(OSError):
            return bool(self.ask("/health")["status"] == "ok")
        return False

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.rpc_port}{path}", timeout=70) as answer:
            return json.loads(answer.read())

    @property
    def head(self) -> Json:
        found: Json = self.ask("/rpc/getHead")
        return found

    def pay(self, signer: KeySigner, to: KeySigner, amount: int) -> str:
        with NodeClient(f"http://127.0.0.1:{self.rpc_port}") as client:
            payload = transfer_payload(to=to.address, amount=amount)
            return client.send(prepare_transaction(client, "TRANSFER", payload, signer=signer))

    def status_of(self, tx_id: str) -> str:
        try:
            return str(self.ask(f"/rpc/getTx/{tx_id}")["status"])
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return "unknown"

    def workers(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, *, kill: bool = False) -> None:
        if self.process is None:
            return
        if kill:
            self.process.kill()
        else:
            self.process.send_signal(signal.SIGINT)
        assert self.process.wait(30) == (-9 if kill else 0)
        self.process = None


def until(what: str, holds: Callable[[], bool], *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.2)


class Trio:
    """The first listens, the second dials it, the third reaches it over a line that can be cut."""

    def __init__(self, folder: Path) -> None:
        self.p2p_port = free_port()
        self.line = Line(self.p2p_port)
        first = f"127.0.0.1:{self.p2p_port}"
        self.nodes = [
            Miner(folder, 0, "--p2p-port", str(self.p2p_port)),
            Miner(folder, 1, "--peer", first),
            Miner(folder, 2, "--peer", f"127.0.0.1:{self.line.port}"),
        ]

    def agree(self, *, above: int = 0) -> bool:
        heads = [node.head for node in self.nodes]
        return len({head["hash"] for head in heads}) == 1 and heads[0]["height"] > above


def play(folder: Path, *options: str) -> Iterator[Trio]:
    words = ["genesis", "mine", "-o", str(folder / "genesis.json"), "--chain-id", "trio"]
    words += ["--timestamp", str(int(time.time()) - 60), "--account", f"{ALICE.address}=1000ait", *options]
    assert run(root, words) == 0
    trio = Trio(folder)
    try:
        for node in trio.nodes:
            node.start()
        yield trio
        for node in trio.nodes:
            node.stop()
    finally:
        trio.line.close()
        for node in trio.nodes:
            if node.process is not None:
                node.process.kill()
                node.process.wait()


@pytest.fixture
def in_turns(tmp_path: Path) -> Iterator[Trio]:
    """Mode poa-pow: who is alone has one turn in three, so that two together are faster."""
    keys = [word for who in MINERS for word in ("--miner", key_to_text(who.auth_key))]
    rhythm = ("--interval-ms", "600", "--min-interval-ms", "200", "--take-over-ms", "900")
    yield from play(
        tmp_path, *keys, *rhythm, "--max-ahead-ms", "400", "--difficulty", "3000", "--finality-depth", "8"
    )


def test_a_branch_that_was_mined_alone_is_left_and_its_transactions_come_back(in_turns: Trio) -> None:
    one, two, alone = in_turns.nodes
    until("three blocks that all have", lambda: in_turns.agree(above=3))
    height = one.head["height"]
    in_turns.line.cut()
    until("the third is alone", lambda: alone.ask("/health")["peers"] == 0)
    lost = alone.pay(ALICE, BOB, 7 * AIT)
    until("its own block with it", lambda: alone.status_of(lost) == "included")
    assert alone.ask(f"/rpc/getTx/{lost}?wait=included&timeout=1")["confirmations"] >= 1
    until("two blocks of its own", lambda: alone.head["height"] > height + 1)
    other_hash = alone.head["hash"]
    until("more work elsewhere", lambda: one.head["height"] > alone.head["height"] + 1)
    assert one.status_of(lost) == "unknown"
    in_turns.line.join()
    until("all agree again", lambda: in_turns.agree(above=height + 3))
    consensus = alone.ask("/rpc/consensus")
    assert consensus["reorganisations"] >= 1
    assert consensus["deepestReorganisation"] >= 1
    with pytest.raises(urllib.error.HTTPError, match="404"):
        alone.ask(f"/rpc/getBlock/{other_hash}")
    until("the transaction on the common chain", lambda: two.status_of(lost) in ("included", "final"))
    final = two.ask(f"/rpc/getTx/{lost}?wait=final&timeout=60")
    assert (final["status"], final["final"]) == ("final", True)
    assert final["confirmations"] > 8
    for node in in_turns.nodes:
        assert node.ask(f"/rpc/getBalance/{BOB.address}")["balance"] == 7 * AIT
    authors = {one.ask(f"/rpc/getBlock/{n}")["proposer"] for n in range(1, one.head["height"] + 1)}
    assert authors == {who.address for who in MINERS}
    block = one.ask("/rpc/getBlock/1")
    assert bytes.fromhex(block["extra"]).decode() == f"node {SEEDS[block['proposer']].split()[1]}"
    assert_status_and_metrics(one)
    assert_killed_node_comes_back(in_turns, two)


def assert_status_and_metrics(node: Miner) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{node.rpc_port}/rpc/metrics", timeout=10) as answer:
        text = answer.read().decode()
    for name in ("blockchain_final_height", "blockchain_blocks_mined_total", "blockchain_mining_tries_total"):
        assert f"\n{name} " in text
    assert node.ask("/sync_status")["state"] == "live"
    assert run(root, ["--rpc", f"http://127.0.0.1:{node.rpc_port}", "node", "status"]) == 0


def assert_killed_node_comes_back(trio: Trio, node: Miner) -> None:
    """Its workers die with it; it goes on from its disk."""
    workers = node.workers()
    assert workers
    node.stop(kill=True)
    until("its workers are gone", lambda: not any(worker.is_running() for worker in workers))
    height = trio.nodes[0].head["height"]
    node.start()
    until("all agree with the one that was killed", lambda: trio.agree(above=height + 2))


@pytest.fixture
def in_the_open(tmp_path: Path) -> Iterator[Trio]:
    yield from play(tmp_path, "--difficulty", "400000", "--finality-depth", "20")


@pytest.mark.long
def test_anybody_mines_and_a_newcomer_fetches_the_chain(in_the_open: Trio, tmp_path: Path) -> None:
    one, two, last = in_the_open.nodes
    until("ten blocks that all have", lambda: in_the_open.agree(above=10), within_s=120)
    in_the_open.line.cut()
    height = one.head["height"]
    until("two more elsewhere", lambda: one.head["height"] > height + 2, within_s=120)
    last.stop()
    for file in (tmp_path / "data-2").glob("*"):
        file.unlink()
    in_the_open.line.join()
    last.start()
    until("the newcomer has the chain", lambda: in_the_open.agree(above=height + 2), within_s=120)
    assert two.head["height"] >= 12
