"""A validator whose key is in another process, both started as a user starts them."""

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aitbc.client.node import NodeClient
from aitbc.client.signing import KeySigner
from aitbc.client.transactions import prepare_transaction, transfer_payload
from support.devnet import AITBC
from support.lone_node import LoneNode, make_genesis

VALIDATOR, ALICE = KeySigner(b"\x01" * 32), KeySigner(b"\x02" * 32)


class SignerProcess:
    def __init__(self, folder: Path, genesis: Path) -> None:
        self.folder, self._genesis = folder, genesis
        self.socket = Path(tempfile.mkdtemp(prefix="sig")) / "s"
        self.key = folder / "validator.key"
        self.key.touch(mode=0o600)
        self.key.write_text((b"\x01" * 32).hex())
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        with (self.folder / "signer.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(str(AITBC), "signer", "start", "--genesis", str(self._genesis)),
                    *("--data", str(self.folder / "signer"), "--socket", str(self.socket)),
                    *("--key-file", str(self.key), *more),
                ],
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@pytest.fixture
def signer_and_node(tmp_path: Path) -> Iterator[tuple[SignerProcess, LoneNode]]:
    genesis = make_genesis(tmp_path / "genesis.json", VALIDATOR, {ALICE.address: 100})
    running = SignerProcess(tmp_path, genesis)
    node = LoneNode(tmp_path, genesis, ["--signer", str(running.socket)])
    try:
        yield running, node
    finally:
        for process in (running.process, node.process):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


def pay(node: NodeClient) -> str:
    payload = transfer_payload(to=VALIDATOR.address, amount=5)
    return node.send(prepare_transaction(node, "TRANSFER", payload, signer=ALICE))


def test_a_node_outlives_its_signer(signer_and_node: tuple[SignerProcess, LoneNode]) -> None:
    signer, node = signer_and_node
    node.start(wait=False)  # before its signer: both begin with the machine
    time.sleep(0.2)
    signer.start("--never-voted")
    node.await_answer()
    with NodeClient(node.rpc) as client:
        assert client.transaction(pay(client), wait="final", timeout=10)["status"] == "final"
        for crash in (True, False):
            signer.kill() if crash else signer.stop()
            waiting = pay(client)
            assert client.transaction(waiting, wait="final", timeout=1)["status"] == "pending"
            signer.start()
            assert client.transaction(waiting, wait="final", timeout=15)["status"] == "final"
        assert client.health()["status"] == "ok"
    assert node.process is not None and node.process.poll() is None
    assert not (node.folder / "data" / "guard").exists(), "the guard is where the key is"
    signed = (signer.folder / "signer" / "signed.jsonl").read_text()
    assert signed.count('"kind": "final"') >= 3


def test_a_node_stops_at_once_while_its_signer_is_away(
    signer_and_node: tuple[SignerProcess, LoneNode],
) -> None:
    signer, node = signer_and_node
    signer.start("--never-voted")
    node.start()
    signer.kill()
    with NodeClient(node.rpc) as client:
        waiting = pay(client)
    began = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - began < 8
    assert "Traceback" not in node.log
    signer.start()
    node.start()
    with NodeClient(node.rpc) as client:
        assert client.transaction(waiting, wait="final", timeout=15)["status"] == "final"


def test_without_its_guard_a_signer_does_not_start(signer_and_node: tuple[SignerProcess, LoneNode]) -> None:
    signer, _ = signer_and_node
    signer.start()
    assert signer.process is not None and signer.process.wait(20) == 1
    assert "start once with --never-voted" in (signer.folder / "signer.log").read_text()
