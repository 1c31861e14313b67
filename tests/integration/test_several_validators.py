"""Four validators in processes of their own: they take turns, do without one, take it back, and punish a cheat."""

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from aitbc.adapters.keystore import devnet_keys, devnet_validators
from aitbc.client.node import NodeClient
from aitbc.client.signing import KeySigner
from aitbc.client.transactions import prepare_transaction, transfer_payload
from aitbc.core.codec.digests import vote_digest
from aitbc.core.consensus.simplex.messages import Vote
from aitbc.core.types.amounts import AIT
from support.devnet import AITBC, Network, free_port_base, start, stop
from support.loud_peer import say

Json = dict[str, Any]
JOINS_S = 2.0
"""From its first answer until its vote is in a certificate: what agreement takes, whatever Python's start takes."""
VOTES_AGAIN_S = 3.0
ALICE, BOB = (KeySigner(devnet_keys()[name]) for name in ("alice", "bob"))
VALIDATORS = [KeySigner(seed) for seed in devnet_validators(4)]


class Four(Network):
    """A devnet of four, and ways to look at each node."""

    @property
    def base(self) -> int:
        return int(self.rpc.rpartition(":")[2])

    def ask(self, node: int, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.base + node}{path}", timeout=10) as answer:
            return json.loads(answer.read())

    def height(self, node: int = 0) -> int:
        return int(self.ask(node, "/rpc/getHead")["height"])

    def transfer(self, node: int, amount: int) -> str:
        with NodeClient(f"http://127.0.0.1:{self.base + node}") as client:
            payload = transfer_payload(to=BOB.address, amount=amount)
            return client.send(prepare_transaction(client, "TRANSFER", payload, signer=ALICE))

    def is_final(self, node: int, tx_id: str) -> bool:
        return bool(self.ask(node, f"/rpc/getTx/{tx_id}?wait=final&timeout=10")["status"] == "final")

    def start_node(self, node: int, *options: str) -> "subprocess.Popen[bytes]":
        """As the devnet says how to start one again."""
        folder = self.data / ("node" if node == 0 else f"node-{node}")
        others = [i for i in range(4) if i != node]
        command = [str(AITBC), "node", "start", "--genesis", str(self.data / "genesis.json")]
        command += ["--data", str(folder), "--port", str(self.base + node), *options]
        for i in others:
            command += ["--peer", f"127.0.0.1:{self.base + 100 + i}"]
        with (self.data / "logs" / f"again-{node}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Four]:
    """Blocks at once, and an empty one each fifth of a second, so that each leads once in a second."""
    options = ("--validators", "4", "--block-time-ms", "100", "--idle-ms", "200")
    running = start(*options, data=tmp_path_factory.mktemp("four") / "data", base=free_port_base())
    yield Four(running.process, running.ready, running.data)
    stop(running)


@contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def until(what: Callable[[], bool], within_s: float) -> float:
    """Seconds until it is so."""
    started = time.monotonic()
    while time.monotonic() - started < within_s:
        with suppress(OSError):
            if what():
                return time.monotonic() - started
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s")


def signers_of(block: Json) -> set[int]:
    """Of its certificate; nobody of a block that is final by a later one's."""
    bitmap = block["certificate"]["bitmap"] if block["certificate"] else 0
    return {i for i in range(4) if bitmap >> i & 1}


def test_a_transaction_sent_to_any_node_is_final_everywhere_and_all_take_turns(four: Four) -> None:
    assert len(four.ready["rpc"]) == 4
    first = four.height()
    for node in range(4):
        tx_id = four.transfer(node, node + 1)
        assert all(four.is_final(other, tx_id) for other in range(4))
    until(lambda: four.height() >= first + 6, 10)
    proposers = {four.ask(0, f"/rpc/getBlock/{first + i}")["proposer"] for i in range(1, 7)}
    assert len(proposers) >= 3, proposers
    consensus = four.ask(2, "/rpc/consensus")
    assert consensus["part"] == "votes"
    assert consensus["rounds"] >= 6
    assert [member["power"] for member in consensus["validators"]] == [1, 1, 1, 1]
    assert len(four.ask(1, "/p2p/peers")) == 3
    assert four.ask(3, "/health")["validating"] is True
    shown = four.cli("node", "status").stdout
    assert "4 of 4 heard, 3 needed: enough" in shown, shown


def test_a_node_without_a_key_follows(four: Four, tmp_path: Path) -> None:
    command = [str(AITBC), "node", "start", "--genesis", str(four.data / "genesis.json")]
    command += ["--data", str(tmp_path / "follower"), "--port", str(four.base + 7)]
    command += ["--peer", f"127.0.0.1:{four.base + 101}"]
    with (tmp_path / "log").open("wb") as log:
        follower = subprocess.Popen(command, stdout=log, stderr=log)
    with ended(follower):
        until(lambda: four.height(7) >= four.height(0) - 1 > 0, 10)
        assert four.ask(7, "/rpc/consensus")["part"] == "follows"
        tx_id = four.transfer(7, 77)
        assert four.is_final(7, tx_id)
        assert four.is_final(3, tx_id)


def test_the_chain_goes_on_without_one_validator_and_takes_it_back(four: Four) -> None:
    (pid,) = four.pids()["node-3"]
    psutil.Process(pid).kill()
    before = four.height()
    until(lambda: four.height() >= before + 8, 15)
    assert four.is_final(1, four.transfer(0, 5))
    until(lambda: four.ask(0, "/rpc/consensus")["skips"] > 0, 10)

    key = str(four.data / "node-3" / "proposer.key")
    seen = four.height()
    again = four.start_node(3, "--proposer-key", key, "--p2p-port", str(four.base + 103))

    def votes() -> bool:
        """Its bit is in a certificate of a block that was made since."""
        nonlocal seen
        while seen < four.height():
            seen += 1
            if 3 in signers_of(four.ask(0, f"/rpc/getBlock/{seen}")):
                return True
        return False

    with ended(again):
        started = until(lambda: four.ask(3, "/health"), 20)
        joined = until(votes, 20)
        print(f"\nvotes again {joined:.2f} s after it answered, {started + joined:.2f} s after its start")
        assert joined <= JOINS_S and started + joined <= VOTES_AGAIN_S
        until(lambda: four.height(3) >= four.height(0) - 1, 5)
        assert four.ask(3, "/rpc/consensus")["part"] == "votes"


def test_who_signs_two_votes_for_one_slot_is_slashed_and_jailed(four: Four) -> None:
    """The third validator's key signs two notarizations, which a stranger brings to the others."""
    cheat, position = VALIDATORS[2], 2
    with NodeClient(four.rpc) as client:
        client.transaction(client.faucet(cheat.address, 100 * AIT), wait="final")
        payload = {"role": "validator", "amount": 1_000 * AIT}
        stake = prepare_transaction(client, "STAKE", payload, signer=cheat)
        client.send(stake)
        assert client.transaction(four_id(four, stake), wait="final")["status"] == "final"
    head, consensus = four.ask(0, "/rpc/getHead"), four.ask(0, "/rpc/consensus")
    genesis_hash = bytes.fromhex(head["genesisHash"])
    slot = consensus["slot"] + 1
    votes = []
    for candidate in (b"\x01" * 32, b"\x02" * 32):
        about = {"kind": "notar", "epoch": consensus["epoch"], "slot": slot, "candidate": candidate}
        digest = vote_digest(**about, chain_id=head["chainId"], genesis_hash=genesis_hash)
        votes.append(Vote("notar", consensus["epoch"], slot, candidate, position, cheat.sign(digest)))
    burned = int(four.ask(0, "/rpc/supply")["burned"])
    where = [f"127.0.0.1:{four.base + 100 + i}" for i in (0, 1)]
    say(where, votes, chain_id=head["chainId"], genesis_hash=genesis_hash)

    def punished() -> bool:
        faults = four.ask(0, "/rpc/consensus")["faults"]
        return bool(faults) and faults[0]["evidence"] == "punished"

    until(punished, 15)
    assert four.ask(0, "/rpc/consensus")["faults"][0]["validator"] == cheat.address
    proof = four.ask(0, f"/rpc/proof/registry/bond:validator:{cheat.address}")
    assert proof["leaf"]["key"].endswith(cheat.address)
    assert int(four.ask(0, "/rpc/supply")["burned"]) - burned >= 50 * AIT, "a twentieth of the stake"
    events = [
        event
        for signer in VALIDATORS
        for item in four.ask(0, f"/rpc/account/{signer.address}/transactions")["items"]
        for event in (item["receipt"] or {}).get("events", [])
    ]
    assert {("slashed", cheat.address), ("jailed", cheat.address)} <= {(e["kind"], e["key"]) for e in events}


def four_id(four: Four, tx: Any) -> str:
    from aitbc.core.codec.digests import transaction_id

    return transaction_id(tx, bytes.fromhex(four.ask(0, "/rpc/getHead")["genesisHash"])).hex()


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    network = start("--validators", "7", data=tmp_path / "data", base=free_port_base())
    processes = psutil.Process(network.process.pid).children(recursive=True)
    assert len(processes) >= 10, "seven nodes, hub, provider and its engine"
    try:
        assert len(network.ready["rpc"]) == 7
        network.process.send_signal(signal.SIGINT)
        assert network.process.wait(20) == 0
        assert not psutil.wait_procs(processes, timeout=12)[1]
    finally:
        stop(network)
