"""What a signer does and refuses: it believes nothing that a node says about digests. docs/spec/signer.md"""

import json
import logging
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from aitbc.adapters.signer.wire import (
    MAX_STATEMENTS,
    VERSION,
    Answer,
    BeginAnew,
    Done,
    Hello,
    RaiseFloor,
    Refused,
    Request,
    Sign,
    Signed,
    SignTransaction,
    Welcome,
)
from aitbc.core.codec.digests import transaction_id, vote_digest
from aitbc.core.consensus.engine import Statement
from aitbc.core.consensus.simplex.guard import KINDS, GuardRefuses
from aitbc.core.consensus.simplex.messages import SKIP
from aitbc.core.consensus.simplex.wal import VoteRecord
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.blocks import ZERO_HASH
from aitbc.core.types.transactions import Transaction
from aitbc.ports import Clock, Signer, SignerGuard

log = logging.getLogger("aitbc.signer")

MAX_FEE = 100_000
"""0.1 AIT: a hundred times what an EVIDENCE costs. A node that lies can burn no more than this, so often:"""
MAX_EVIDENCE, EVIDENCE_MS = 64, 3_600_000
"""As many as there can be validators, in an hour."""
MAX_NUMBER = 2**63 - 1


class Journal:
    """What was signed, one line of JSON each, for people. The guard is what the signer itself goes by: this file is not
    synced, and it begins anew when it is large, with the one before kept beside it."""

    MAX_BYTES = 64 * 1024 * 1024
    """A quarter of a million statements: a day at two a second."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._file = self._open()

    def write(self, what: Sequence[dict[str, object]]) -> None:
        now_ms = self._clock.now_ms()
        for entry in what:
            self._file.write(json.dumps({"ms": now_ms, **entry}) + "\n")
        self._file.flush()
        if self._file.tell() > self.MAX_BYTES:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._open()

    def close(self) -> None:
        self._file.close()

    def _open(self) -> TextIO:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")


class Keeper:
    """Holds the key. Requests are answered one at a time."""

    def __init__(
        self,
        *,
        signer: Signer,
        guard: SignerGuard,
        journal: Journal,
        clock: Clock,
        chain_id: str,
        genesis_hash: bytes,
    ) -> None:
        self._signer, self._guard, self._journal, self._clock = signer, guard, journal, clock
        self._chain_id, self._genesis_hash = chain_id, genesis_hash
        self._evidence: deque[int] = deque()
        """When evidence was signed lately."""

    def answer(self, request: Request) -> Answer:
        """Refusals are answers; what only this program can have caused is raised."""
        try:
            return self._answer(request)
        except GuardRefuses as refusal:
            log.error("refused: %s", refusal, extra={"component": "signer", "event": "refused"})
            return Refused(str(refusal))

    def _answer(self, request: Request) -> Answer:
        match request:
            case Hello():
                return self._welcome(request)
            case Sign():
                return Signed(self._sign(request.statements))
            case SignTransaction():
                return Signed([self._sign_transaction(request.tx)])
            case RaiseFloor():
                _require_number(request.epoch, request.slot)
                self._guard.raise_floor(request.epoch, request.slot)
                return Done()
            case BeginAnew():
                _require_number(request.vote_after_ms)
                self._guard.begin_anew(request.vote_after_ms)
                return Done()

    def _welcome(self, hello: Hello) -> Welcome:
        if hello.version != VERSION:
            raise GuardRefuses(
                f"this signer speaks version {VERSION} and not {hello.version}: use one release"
            )
        if hello.genesis_hash != self._genesis_hash:
            raise GuardRefuses(f"this signer is for chain {self._chain_id} {self._genesis_hash.hex()}")
        epoch, slot = self._guard.floor
        return Welcome(self._signer.auth_key, self._guard.vote_after_ms, epoch, slot, self._guard.signed)

    def _sign(self, records: Sequence[VoteRecord]) -> list[bytes]:
        if not 0 < len(records) <= MAX_STATEMENTS:
            raise GuardRefuses(f"{len(records)} statements at once; at most {MAX_STATEMENTS}")
        statements = [self._statement(record) for record in records]
        self._guard.admit(statements)
        signatures = [self._signer.sign(statement.digest) for statement in statements]
        self._journal.write(
            [
                {"kind": s.kind, "epoch": s.epoch, "slot": s.slot, "candidate": s.candidate.hex()}
                for s in statements
            ]
        )
        return signatures

    def _statement(self, record: VoteRecord) -> Statement:
        """With the digest that its fields make, whatever a node would like to have signed."""
        _require_number(record.epoch, record.slot)
        if record.kind not in KINDS or len(record.candidate) != 32:
            raise GuardRefuses(f"{record.kind[:20]!r} is nothing that a validator says")
        if (record.kind == SKIP) != (record.candidate == ZERO_HASH):
            raise GuardRefuses("a skip names no candidate, and everything else does")
        digest = vote_digest(
            kind=record.kind,
            epoch=record.epoch,
            slot=record.slot,
            candidate=record.candidate,
            chain_id=self._chain_id,
            genesis_hash=self._genesis_hash,
        )
        return Statement(
            kind=record.kind, epoch=record.epoch, slot=record.slot, candidate=record.candidate, digest=digest
        )

    def _sign_transaction(self, tx: Transaction) -> bytes:
        """EVIDENCE of the validator's own account, at a fee that ruins nobody."""
        now_ms = self._clock.now_ms()
        while self._evidence and self._evidence[0] <= now_ms - EVIDENCE_MS:
            self._evidence.popleft()
        if tx.type != "EVIDENCE" or tx.sender != self._signer.address or tx.pubkey != self._signer.auth_key:
            raise GuardRefuses("of transactions it signs EVIDENCE of its own account only")
        if not 0 <= tx.fee <= MAX_FEE or len(self._evidence) >= MAX_EVIDENCE:
            raise GuardRefuses(
                f"evidence costs at most {format_ait(MAX_FEE)}, and is sent {MAX_EVIDENCE} times an hour at most"
            )
        _require_number(tx.nonce)
        self._evidence.append(now_ms)
        tx_id = transaction_id(tx, self._genesis_hash)
        self._journal.write([{"transaction": tx_id.hex(), "type": tx.type, "nonce": tx.nonce, "fee": tx.fee}])
        return self._signer.sign(tx_id)


def _require_number(*numbers: int) -> None:
    if not all(0 <= number <= MAX_NUMBER for number in numbers):
        raise GuardRefuses("a number is out of range")
