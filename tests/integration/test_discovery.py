"""Two nodes that know nobody find each other through a discovery service, in processes of their own, and follow a
chain that only one of them makes."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from aitbc.adapters.keystore import devnet_keys
from aitbc.client.signing import KeySigner
from aitbc.core.codec.canonical import jcs
from aitbc.core.ledger.devnet import devnet_genesis
from support.devnet import free_port_base

COMMAND = [sys.executable, "-m", "aitbc"]
KEYS = devnet_keys()


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.loads(answer.read())


def until(what: Callable[[], Any], within_s: float) -> Any:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with suppress(OSError):
            if found := what():
                return found
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s} s")


@contextmanager
def running(*words: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as file:
        process = subprocess.Popen([*COMMAND, *words], stdout=file, stderr=file, env=dict(os.environ))
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    document = devnet_genesis({name: KeySigner(seed).auth_key for name, seed in KEYS.items()})
    path = tmp_path / "genesis.json"
    path.write_bytes(jcs(document))
    (tmp_path / "author.key").touch(mode=0o600)
    (tmp_path / "author.key").write_text(KEYS["validator"].hex())
    return path


def test_nodes_find_each_other_through_a_discovery_service_alone(genesis: Path, tmp_path: Path) -> None:
    base = free_port_base()
    service = f"http://127.0.0.1:{base + 300}"

    def node(number: int, *more: str) -> list[str]:
        words = ["node", "start", "--genesis", str(genesis), "--data", str(tmp_path / f"node-{number}")]
        words += ["--port", str(base + number), "--p2p-port", str(base + 100 + number)]
        return [*words, "--announce", f"127.0.0.1:{base + 100 + number}", "--discovery", service, *more]

    def height(number: int) -> int:
        return int(ask(f"http://127.0.0.1:{base + number}/rpc/getHead")["height"])

    def peers(number: int) -> list[Any]:
        return list(ask(f"http://127.0.0.1:{base + number}/p2p/peers"))

    with ExitStack() as stack:
        words = ["discovery", "--port", str(base + 300), "--data", str(tmp_path / "directory")]
        stack.enter_context(running(*words, "--allow-private", log=tmp_path / "discovery.log"))
        until(lambda: ask(f"{service}/v1/health"), 10)
        stack.enter_context(
            running(
                *node(0, "--proposer-key", str(tmp_path / "author.key"), "--never-voted"),
                log=tmp_path / "0.log",
            )
        )
        until(lambda: ask(f"{service}/v1/health")["listed"] == 1, 10)
        follower = stack.enter_context(running(*node(1), log=tmp_path / "1.log"))
        until(lambda: peers(0) and peers(1), 10)
        assert peers(1)[0]["key"] != peers(0)[0]["key"]
        until(lambda: ask(f"{service}/v1/health")["listed"] == 2, 10)
        until(lambda: height(1) >= 1, 10)

        with connect(f"ws://127.0.0.1:{base}/p2p/ws?streams=peer") as reader:
            assert json.loads(reader.recv(5))["type"] == "hello"
            follower.send_signal(signal.SIGINT)
            left = json.loads(reader.recv(5))
        assert (left["type"], left["data"]["what"]) == ("peer", "left")

        follower.wait(10)
        until(lambda: ask(f"{service}/v1/health")["removed"] == 1, 5)
    logs = "".join((tmp_path / name).read_text() for name in ("discovery.log", "0.log", "1.log"))
    assert "Traceback" not in logs and "a mistake of this program" not in logs, logs
