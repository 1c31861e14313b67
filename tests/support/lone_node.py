"""A real node in a process of its own: it can be killed with -9 and started again on what it left."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.request import urlopen

from aitbc.cli import root
from aitbc.cli.errors import run
from aitbc.client.signing import KeySigner
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.types.amounts import AIT
from support.devnet import AITBC

STARTED = 1_790_000_000
"""Genesis times in the past are fine: block time begins with the first block."""


def free_port() -> int:
    """One that the system gives to nobody else meanwhile: below its ephemeral range."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for port in range(18_000 + 200 * (worker % 8), 18_200 + 200 * (worker % 8)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def make_genesis(
    file: Path,
    authority: KeySigner,
    funded: Mapping[str, int],
    *,
    chain_id: str = "ait-test",
    more: Sequence[str] = (),
) -> Path:
    """With `aitbc genesis make`; `funded`: address → AIT."""
    accounts = [
        part for address, ait in funded.items() for part in ("--account", f"{address}={ait * AIT}uait")
    ]
    words = ["genesis", "make", "-o", str(file), "--chain-id", chain_id, "--timestamp", str(STARTED)]
    words += ["--authority", key_to_text(authority.auth_key), "--block-time-ms", "0", "--idle-ms", "500"]
    assert run(root, [*words, *accounts, *more]) == 0
    return file


class LoneNode:
    """A chain of one validator, and the process that runs it."""

    def __init__(self, folder: Path, genesis: Path, options: Sequence[str]) -> None:
        self.folder, self.genesis, self.options = folder, genesis, options
        self.port = free_port()
        self.rpc = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(str(AITBC), "node", "start", "--genesis", str(self.genesis)),
                    *("--data", str(self.folder / "data"), "--port", str(self.port), *self.options),
                ],
                stdout=log,
                stderr=log,
            )
        if wait:
            self.await_answer()

    def await_answer(self, timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urlopen(f"{self.rpc}/health", timeout=2) as answer:
                json.load(answer)
                return
            assert self.process is not None and self.process.poll() is None, self.log
            time.sleep(0.03)
        raise AssertionError(f"the node does not answer: {self.log}")

    @property
    def log(self) -> str:
        return (self.folder / "node.log").read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=20)


@contextlib.contextmanager
def lone_node(
    folder: Path,
    seed: bytes,
    funded: Mapping[str, int],
    *,
    more: Sequence[str] = (),
    chain_id: str = "ait-test",
) -> Iterator[LoneNode]:
    """Started, with its validator's key in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "validator.key"
    key.touch(mode=0o600)
    key.write_text(seed.hex())
    genesis = make_genesis(folder / "genesis.json", KeySigner(seed), funded, more=more, chain_id=chain_id)
    node = LoneNode(folder, genesis, ["--proposer-key", str(key), "--never-voted"])
    node.start()
    try:
        yield node
    finally:
        if node.process is not None and node.process.poll() is None:
            node.kill()
