"""A signer in a thread of this process, and a node's side of it."""

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from aitbc.adapters.signer.remote import RemoteGuard, RemoteKey, RemoteSigner
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.ledger.genesis import genesis_document
from aitbc.signer.config import SignerConfig
from aitbc.signer.main import SignerServer
from support.chain import genesis
from support.people import VALIDATOR

DOCUMENT = genesis_document(genesis())
GENESIS_HASH = genesis_hash_of(DOCUMENT)
CHAIN_ID = genesis().chain_id


def signer_config(folder: Path, **changes: object) -> SignerConfig:
    """Its socket has a short name: a Unix socket's has 108 bytes at most."""
    socket = Path(tempfile.mkdtemp(prefix="sig")) / "s"
    settings: dict[str, object] = {
        "genesis": DOCUMENT,
        "data": folder / "signer",
        "socket": socket,
        "signer": VALIDATOR,
        "never_voted": True,
    }
    return SignerConfig(**{**settings, **changes})  # type: ignore[arg-type]


class RunningSigner:
    """Started; `stop` lets the guard go, so that another one can begin on the same folder."""

    def __init__(self, config: SignerConfig) -> None:
        self.config = config
        self.server = SignerServer(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.server.serve()
        self.server.close()

    def stop(self) -> None:
        self.server.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def running_signer(config: SignerConfig) -> Iterator[RunningSigner]:
    running = RunningSigner(config)
    try:
        yield running
    finally:
        running.stop()


def remote_of(config: SignerConfig, *, start_s: float = 5) -> tuple[RemoteGuard, RemoteKey, RemoteSigner]:
    remote = RemoteSigner(config.socket, GENESIS_HASH, start_s=start_s)
    key = RemoteKey(remote)
    return RemoteGuard(remote, key), key, remote


def guard_of_a_signer(folder: Path) -> RemoteGuard:
    """As an adapter of the port; its signer ends with the process."""
    config = signer_config(folder)
    RunningSigner(config)
    return remote_of(config)[0]
