"""A devnet whose nodes agree by work: miners in processes, their state, one that dies, and a clean end."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import pytest

from aitbc.adapters.keystore import devnet_validators
from aitbc.client.signing import KeySigner
from support.devnet import AITBC, Network, free_port_base

Start = Callable[..., Network]
MINERS = [KeySigner(seed).address for seed in devnet_validators(3)]


def ask(network: Network, node: int, path: str) -> Any:
    url = network.ready["rpc"][node] + path
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def until(what: str, holds: Callable[[], bool], *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.2)


def agree(network: Network, *nodes: int, above: int = 0) -> bool:
    with suppress(OSError):
        heads = [ask(network, node, "/rpc/getHead") for node in nodes]
        return len({head["hash"] for head in heads}) == 1 and heads[0]["height"] > above
    return False


def test_listed_miners_take_turns_do_without_one_and_end_with_ctrl_c(devnet: Start) -> None:
    network = devnet("--mode", "poa-pow", "--miners", "3", "--block-time-ms", "300", "--idle-ms", "500")
    assert (len(network.ready["rpc"]), network.ready["hub"], network.ready["provider"]) == (3, None, None)
    sent = network.json("send", "bob", "25ait", "--from", "alice", "--wait", "included")
    assert sent["status"] in ("included", "final")
    until("a chain with everybody's blocks", lambda: agree(network, 0, 1, 2, above=5))
    authors = {ask(network, 0, f"/rpc/getBlock/{height}")["proposer"] for height in range(1, 6)}
    assert authors == set(MINERS)
    said = network.cli("node", "status").stdout
    assert said.startswith("poa-pow: block ")
    assert "this node (validator) mines" in said and all(address[:14] in said for address in MINERS)
    balance = network.json("balance", MINERS[0])["balance"]
    assert balance and balance % 100_000_000 < 1_000_000, "rewards, and its part of a fee"
    assert_light_clients_agree(network, sent["txHash"])
    family = psutil.Process(network.process.pid).children(recursive=True)
    assert len(family) >= 6, "each node has a process that searches"

    (lost,) = network.pids()["node-2"]
    os.kill(lost, signal.SIGKILL)
    height = ask(network, 0, "/rpc/getHead")["height"]
    until("blocks without the third", lambda: agree(network, 0, 1, above=height + 3))

    network.process.send_signal(signal.SIGINT)
    assert network.process.wait(20) == 0
    _, alive = psutil.wait_procs(family, timeout=12)
    assert not alive
    assert network.process.stderr is not None
    told = network.process.stderr.read()
    assert re.search(r"aitbc node start --genesis \S+ --data \S+node-2 --proposer-key", told)


def assert_light_clients_agree(network: Network, tx_id: str) -> None:
    genesis, trust = str(network.data / "genesis.json"), network.data.parent / "trust.json"
    options = ("--genesis", genesis, "--also", network.ready["rpc"][1], "--trust", str(trust))
    until("a deep chain", lambda: ask(network, 0, "/rpc/getHead")["height"] > 8)
    first = network.json("light", "head", *options)
    assert first["nodes"] == 2
    began = json.loads(trust.read_text())["place"]["height"]
    assert began == first["height"] - 6
    found = network.json("light", "tx", tx_id, *options, "--confirmations", "3")
    assert (found["txHash"], found["status"]) == (tx_id, "ok")
    held = network.json("light", "account", "bob", *options, "--confirmations", "2")
    assert held["balance"] == 1_000_025_000_000
    assert json.loads(trust.read_text())["place"]["height"] >= began
    said = network.cli("light", "account", "bob", *options).stdout
    assert said.startswith("1,000,025 AIT, proved in block ")
    other = json.loads((network.data / "genesis.json").read_text()) | {"chain_id": "other"}
    (network.data.parent / "other.json").write_text(json.dumps(other))
    refused = network.cli("light", "head", "--genesis", str(network.data.parent / "other.json"), check=False)
    assert refused.returncode != 0
    too_deep = network.cli("light", "account", "bob", *options, "--confirmations", "8", check=False)
    assert (too_deep.returncode, "under 7 at most" in too_deep.stderr) == (2, True)
    without_one = network.cli("light", "head", *options, "--also", "http://127.0.0.1:9")
    assert "not counted: http://127.0.0.1:9" in without_one.stderr
    assert "block 0 is not that of this genesis document" in refused.stderr


def test_anybody_mines_and_a_restart_goes_on(devnet: Start) -> None:
    base, options = free_port_base(), ("--mode", "pow", "--miners", "1", "--block-time-ms", "200")
    first = devnet(*options, base=base)
    until("three blocks", lambda: agree(first, 0, above=3))
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(20) == 0
    again = devnet(*options, base=base)
    assert ask(again, 0, "/rpc/getHead")["height"] >= 3
    view = ask(again, 0, "/rpc/consensus")
    assert (view["mode"], view["finalityDepth"]) == ("pow", 6)
    other = subprocess.run(
        [str(AITBC), "devnet", "--data", str(again.data), "--port-base", str(free_port_base())],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert other.returncode == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--miners", "3"), "--miners is for --mode pow and poa-pow"),
        (("--mode", "pow", "--validators", "4"), "--mode pow has no votes"),
        (("--mode", "pow", "--idle-ms", "500"), "--idle-ms has no meaning"),
        (("--mode", "poa-pow", "--block-time-ms", "50"), "100 or more"),
        (("--mode", "poa-pow", "--synthetic", "5"), "--synthetic"),
        (("--mode", "cbp"), "--mode"),
    ],
)
def test_options_of_another_mode_are_one_line(options: tuple[str, ...], word: str) -> None:
    command = [str(AITBC), "devnet", "--port-base", str(free_port_base()), *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode != 0
    assert word in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
