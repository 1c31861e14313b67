"""The node's side of a signer in another process: a guard and a key whose work is done there. docs/spec/signer.md

The signer may be restarted at any time. Whoever asks meanwhile waits and asks again: what was signed may be signed
again, and Ed25519 gives the same signature.
"""

import logging
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from aitbc.adapters.signer.wire import (
    MAX_STATEMENTS,
    VERSION,
    Answer,
    BeginAnew,
    Done,
    Hello,
    LinkLost,
    RaiseFloor,
    Refused,
    Request,
    Sign,
    Signed,
    SignTransaction,
    Welcome,
    receive_answer,
    send_message,
)
from aitbc.core.codec.digests import transaction_id
from aitbc.core.consensus.engine import Statement
from aitbc.core.consensus.simplex.guard import GuardRefuses
from aitbc.core.consensus.simplex.wal import VoteRecord
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import verify
from aitbc.core.types.reasons import Stops
from aitbc.core.types.transactions import Transaction

log = logging.getLogger("aitbc.node")

RETRY_S, MAX_RETRY_S = 0.1, 2.0
"""Pauses between attempts to reach a signer that is away."""
START_S = 15.0
"""How long a node that starts waits for its signer: both may begin with the machine."""


class SignerAway(Exception):
    """Nothing answers on the socket now."""


class LetGo(Stops):
    """The node stops while it waits for its signer: what was to be signed is not."""


class RemoteSigner:
    """One connection, made again when it is lost. Statements come from one thread, transactions from others."""

    def __init__(self, path: Path, genesis_hash: bytes, *, start_s: float = START_S) -> None:
        """Raises Stops when there is no signer, or it is another chain's."""
        self._path, self.genesis_hash = path, genesis_hash
        self._leaving = threading.Event()
        self._lock = threading.Lock()
        self._link: socket.socket | None = None
        self._welcome: Welcome | None = None
        self._welcome = self._ready(deadline=time.monotonic() + start_s)

    @property
    def welcome(self) -> Welcome:
        """What the signer said first."""
        assert self._welcome is not None, "the constructor has waited for it"
        return self._welcome

    def ask(self, request: Request) -> Answer:
        """The signer's answer, however long it is away; raises Stops when the node stops or the signer refuses."""
        with self._lock:
            while True:
                try:
                    if self._link is None:
                        self._ready(deadline=None)
                    return self._exchange(request)
                except LinkLost as lost:
                    self._lose(lost)

    def ask_now(self, request: Request) -> Answer:
        """On a connection of its own, once; raises SignerAway."""
        try:
            link = self._connect()
        except OSError as error:
            raise SignerAway(str(error)) from None
        with link:
            try:
                self._greet(link)
                send_message(link, request)
                return _granted(receive_answer(link))
            except LinkLost as lost:
                raise SignerAway(str(lost)) from None

    def let_go(self) -> None:
        """The node stops: whoever waits for the signer waits no longer."""
        self._leaving.set()

    def close(self) -> None:
        self.let_go()
        if self._link is not None:
            self._link.close()
            self._link = None

    def _exchange(self, request: Request) -> Answer:
        assert self._link is not None
        send_message(self._link, request)
        return _granted(receive_answer(self._link))

    def _ready(self, *, deadline: float | None) -> Welcome:
        """A connection that has been greeted."""
        pause_s, told = RETRY_S, False
        while True:
            try:
                self._link = self._connect()
                return self._greet(self._link)
            except (OSError, LinkLost) as error:
                self._lose(None)
                if deadline is not None and time.monotonic() > deadline:
                    raise Stops(
                        f"no signer answers at {self._path} ({error}); start it: aitbc signer start"
                    ) from None
                if not told:
                    log.warning(
                        "no signer answers at %s: this validator waits for it",
                        self._path,
                        extra={"component": "signer", "event": "away"},
                    )
                    told = True
                if self._leaving.wait(pause_s):
                    raise LetGo("the node stops while its signer is away") from None
                pause_s = min(2 * pause_s, MAX_RETRY_S)

    def _connect(self) -> socket.socket:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(START_S)
            link.connect(str(self._path))
        except OSError:
            link.close()
            raise
        return link

    def _greet(self, link: socket.socket) -> Welcome:
        send_message(link, Hello(VERSION, self.genesis_hash))
        answer = _granted(receive_answer(link))
        if not isinstance(answer, Welcome):
            raise LinkLost("no greeting")
        first = self._welcome
        if first is not None and answer.auth_key != first.auth_key:
            raise Stops(f"another key answers at {self._path} than before; start the node again")
        if first is not None and answer.vote_after_ms > first.vote_after_ms:
            raise Stops(
                "the signer's guard was made anew meanwhile; start the node again, so that it knows when to vote"
            )
        return answer

    def _lose(self, why: LinkLost | None) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        if why is not None:
            log.warning("the signer is away: %s", why, extra={"component": "signer", "event": "lost"})


class RemoteKey:
    """A `Signer` for statements that `RemoteGuard.admit` let through, and for EVIDENCE. Signs no other digest: a
    digest alone does not say what it is of."""

    def __init__(self, remote: RemoteSigner) -> None:
        self._remote = remote
        self.ready: dict[bytes, bytes] = {}
        """Digest → signature, from `admit` until it is asked for."""

    @property
    def auth_key(self) -> bytes:
        return self._remote.welcome.auth_key

    @property
    def address(self) -> str:
        return address_of(self.auth_key)

    def sign(self, digest: bytes) -> bytes:
        return self.ready.pop(digest)

    def sign_transaction(self, tx: Transaction, genesis_hash: bytes) -> bytes:
        """Raises SignerAway, or GuardRefuses for what the signer does not sign."""
        answer = self._remote.ask_now(SignTransaction(tx))
        (signature,) = _signatures(answer, 1)
        if not verify(self.auth_key, transaction_id(tx, genesis_hash), signature):
            raise SignerAway("its signature is not good")
        return signature


class RemoteGuard:
    """A `SignerGuard` that is kept where the key is. `admit` brings the signatures along."""

    def __init__(self, remote: RemoteSigner, key: RemoteKey) -> None:
        self._remote, self._key = remote, key
        self._vote_after_ms = remote.welcome.vote_after_ms

    @property
    def signed(self) -> list[VoteRecord]:
        return list(self._fresh().signed)

    @property
    def vote_after_ms(self) -> int:
        return self._vote_after_ms

    @property
    def floor(self) -> tuple[int, int]:
        welcome = self._fresh()
        return welcome.floor_epoch, welcome.floor_slot

    def admit(self, statements: Sequence[Statement]) -> None:
        self._key.ready.clear()
        for start in range(0, len(statements), MAX_STATEMENTS):
            part = statements[start : start + MAX_STATEMENTS]
            records = [VoteRecord(s.kind, s.epoch, s.slot, s.candidate) for s in part]
            signatures = _signatures(self._remote.ask(Sign(records)), len(part))
            self._key.ready.update(
                (statement.digest, signature) for statement, signature in zip(part, signatures, strict=True)
            )

    def raise_floor(self, epoch: int, slot: int) -> None:
        _done(self._remote.ask(RaiseFloor(epoch, slot)))

    def begin_anew(self, vote_after_ms: int) -> None:
        _done(self._remote.ask(BeginAnew(vote_after_ms)))
        self._vote_after_ms = self._fresh().vote_after_ms

    def close(self) -> None:
        self._remote.close()

    def _fresh(self) -> Welcome:
        """What the guard holds now."""
        answer = self._remote.ask(Hello(VERSION, self._remote.genesis_hash))
        assert isinstance(answer, Welcome), "a greeting is answered by one"
        return answer


def _granted(answer: Answer) -> Answer:
    if isinstance(answer, Refused):
        raise GuardRefuses(f"the signer refuses: {answer.why}")
    return answer


def _signatures(answer: Answer, count: int) -> list[bytes]:
    if not isinstance(answer, Signed) or len(answer.signatures) != count:
        raise GuardRefuses("the signer's answer is none; do node and signer have the same release?")
    return answer.signatures


def _done(answer: Answer) -> None:
    if not isinstance(answer, Done):
        raise GuardRefuses("the signer's answer is none; do node and signer have the same release?")
