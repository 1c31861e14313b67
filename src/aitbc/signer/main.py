"""Open the guard and the socket, and answer nodes until told to stop. docs/spec/signer.md"""

import contextlib
import logging
import os
import signal
import socket
import struct
import threading
import time
from pathlib import Path
from types import FrameType

from aitbc.adapters.agreement.files import GuardFile
from aitbc.adapters.agreement.key_lock import KeyLock
from aitbc.adapters.keystore.folders import private_folder
from aitbc.adapters.signer.wire import LinkLost, receive_request, send_message
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.ledger.genesis import genesis_document, parse_genesis
from aitbc.core.types.reasons import Stops
from aitbc.ports import StorageError
from aitbc.signer.config import SignerConfig
from aitbc.signer.keeper import Journal, Keeper

log = logging.getLogger("aitbc.signer")

GUARD_FILE, JOURNAL_FILE = "guard", "signed.jsonl"
MAX_LINKS = 8
"""A node has one, and a second while it sends evidence; a spare node as many."""


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class SignerServer:
    """Listens on the socket; one thread for each connection, one request at a time."""

    def __init__(self, config: SignerConfig) -> None:
        """Raises StorageError with what to do, Rejected for a genesis document that is none."""
        genesis = parse_genesis(config.genesis)
        genesis_hash = genesis_hash_of(genesis_document(genesis))
        self._config = config
        self._guard = _open_guard(config, genesis_hash)
        try:
            self._key_lock = KeyLock(config.key_file) if config.key_file else None
        except (OSError, Stops) as error:
            self._guard.close()
            raise StorageError(str(error)) from None
        self._journal = Journal(config.data / JOURNAL_FILE, SystemClock())
        self._keeper = Keeper(
            signer=config.signer,
            guard=self._guard,
            journal=self._journal,
            clock=SystemClock(),
            chain_id=genesis.chain_id,
            genesis_hash=genesis_hash,
        )
        self._turn = threading.Lock()
        self._links: set[socket.socket] = set()
        self._stopping = threading.Event()
        self.failure: BaseException | None = None
        try:
            self._listener = _listen(config)
        except BaseException:
            self._let_go()
            raise

    def serve(self) -> None:
        """Until `stop`, or until something cannot be written."""
        while not self._stopping.is_set():
            try:
                link, _ = self._listener.accept()
            except OSError:
                break
            if not self._may_connect(link) or len(self._links) >= MAX_LINKS:
                link.close()
                continue
            self._links.add(link)
            threading.Thread(target=self._attend, args=(link,), daemon=True).start()

    def stop(self) -> None:
        """From any thread or a signal handler: no request is answered after it."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        """After `serve` has returned."""
        with self._turn:
            for link in list(self._links):
                link.close()
            self._let_go()
            self._journal.close()
        with contextlib.suppress(FileNotFoundError):
            self._config.socket.unlink()

    def _let_go(self) -> None:
        self._guard.close()
        if self._key_lock is not None:
            self._key_lock.release()

    def _attend(self, link: socket.socket) -> None:
        try:
            while True:
                request = receive_request(link)
                with self._turn:
                    if self._stopping.is_set():
                        return
                    answer = self._keeper.answer(request)
                send_message(link, answer)
        except LinkLost as lost:
            log.info("a node is gone: %s", lost, extra={"component": "signer", "event": "gone"})
        except Exception as error:
            self._fail(error)
        finally:
            self._links.discard(link)
            link.close()

    def _fail(self, error: Exception) -> None:
        """A guard that cannot be written, or a bug: nothing more is signed."""
        log.critical("stopped", exc_info=error, extra={"component": "signer", "event": "stopped"})
        self.failure = error
        self.stop()

    def _may_connect(self, link: socket.socket) -> bool:
        """The kernel says who is at the other end."""
        user = peer_user(link)
        if user in (0, os.getuid(), *self._config.allowed_users):
            return True
        log.warning(
            "user %s may not connect: name it with --allow-user",
            user,
            extra={"component": "signer", "event": "turned_away"},
        )
        return False


def peer_user(link: socket.socket) -> int | None:
    """The user id of the process at the other end; None where the system does not say."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return int(user)


def run(config: SignerConfig) -> int:
    """Serve until SIGINT or SIGTERM; exit code 1 when something cannot be written."""
    server = SignerServer(config)

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    log.info(
        "signs for %s at %s",
        config.signer.address,
        config.socket,
        extra={"component": "signer", "event": "ready"},
    )
    try:
        server.serve()
    finally:
        server.close()
    return 0 if server.failure is None else 1


def _open_guard(config: SignerConfig, genesis_hash: bytes) -> GuardFile:
    """Where a guard is missing, somebody must say why: it is what stands between a lying node and two signatures."""
    private_folder(config.data)
    path = config.data / GUARD_FILE
    if not path.exists() and not config.never_voted and not config.guard_lost:
        raise StorageError(
            f"{config.data} has no signer guard: if this key has never voted on this chain, start once with"
            " --never-voted; bring the guard along from the node that voted with it until now; if it is lost,"
            " start once with --guard-lost and the validator watches until the next epoch"
        )
    try:
        return GuardFile(path, genesis_hash, now_ms=SystemClock().now_ms(), is_new=config.never_voted)
    except (OSError, Stops) as error:
        raise StorageError(str(error)) from None


def _listen(config: SignerConfig) -> socket.socket:
    """The guard's lock was taken before: a socket that lies there is nobody's."""
    path: Path = config.socket
    private_folder(path.parent)
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        if config.allowed_users:
            path.chmod(0o666)
        listener.listen(MAX_LINKS)
    except OSError as error:
        listener.close()
        raise StorageError(f"{path}: {error.strerror or error}; choose another --socket") from None
    finally:
        os.umask(before)
    return listener
