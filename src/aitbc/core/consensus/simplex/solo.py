"""Simplex with one validator: own Notar and own Final are a quorum, so a block is final when it is on disk.

The formats are those of any n (slots, candidates, certificates); only the waiting for others is missing. Slots count
from 1 in each epoch; slot 0 stands for the epoch's base block.
"""

from collections.abc import Callable

from aitbc.core.codec.digests import candidate_id, vote_digest
from aitbc.core.consensus.engine import (
    BlockBuilt,
    BlockCommitted,
    BuildBlock,
    EngineEffect,
    EngineEvent,
    Finalize,
    SetHead,
    SetTimer,
    SignStatements,
    Statement,
    StatementsSigned,
    TimerFired,
    TransactionsArrived,
)
from aitbc.core.types.blocks import Candidate, Certificate

PACE = "pace"
FINAL_VOTE = 2
"""Place of the final vote among the three statements of a slot: candidate, notar, final."""


class SoloSimplex:
    """Proposes, notarises and finalises alone, at the pace the genesis asks for."""

    def __init__(
        self,
        *,
        chain_id: str,
        genesis_hash: bytes,
        block_time_ms: int,
        idle_ms: int,
        epoch_length: int,
        head_hash: bytes,
        head_timestamp_ms: int,
        head_certificate: Certificate | None,
        transactions_wait: Callable[[], bool],
    ) -> None:
        self._chain_id = chain_id
        self._genesis_hash = genesis_hash
        self._block_time_ms = block_time_ms
        self._idle_ms = idle_ms
        self._epoch_length = epoch_length
        self._head_hash = head_hash
        self._head_timestamp_ms = head_timestamp_ms
        self._parent = head_certificate.candidate if head_certificate else None
        self._transactions_wait = transactions_wait
        self._building = False
        self._candidate: Candidate | None = None

    def start(self, now_ms: int) -> list[EngineEffect]:
        return self._pace(now_ms)

    def on(self, now_ms: int, event: EngineEvent) -> list[EngineEffect]:
        match event:
            case TimerFired():
                return self._lead(now_ms)
            case TransactionsArrived():
                return [] if self._building else self._pace(now_ms)
            case BlockBuilt():
                return self._propose(event)
            case StatementsSigned():
                return self._certify(event)
            case BlockCommitted():
                return self._advance(now_ms, event)

    def _pace(self, now_ms: int) -> list[EngineEffect]:
        """Wait for the minimum interval with work waiting, for the idle interval without.

        A head from the future means that the clock went back: the interval then counts from now.
        """
        interval = self._block_time_ms if self._transactions_wait() else self._idle_ms
        return [SetTimer(PACE, max(now_ms, min(now_ms, self._head_timestamp_ms) + interval))]

    def _lead(self, now_ms: int) -> list[EngineEffect]:
        """Rule 2: I lead every slot. The timestamp moves forward even when the clock does not."""
        if self._building:
            return []
        self._building = True
        return [BuildBlock(max(now_ms, self._head_timestamp_ms + 1))]

    def _propose(self, built: BlockBuilt) -> list[EngineEffect]:
        """Rules 2–4 in one breath: candidate, Notar, Final."""
        epoch = (built.height - 1) // self._epoch_length
        parent = self._parent
        if parent is not None and parent.epoch == epoch:
            parent_slot, parent_id = parent.slot, candidate_id(parent, self._chain_id, self._genesis_hash)
        else:
            parent_slot, parent_id = 0, self._head_hash
        self._candidate = Candidate(epoch, parent_slot + 1, parent_slot, parent_id, built.hash)
        return [SignStatements([self._statement(kind) for kind in ("candidate", "notar", "final")])]

    def _statement(self, kind: str) -> Statement:
        candidate = self._candidate
        assert candidate is not None, "statements are about the candidate of this slot"
        name = candidate_id(candidate, self._chain_id, self._genesis_hash)
        digest = vote_digest(
            kind=kind,
            epoch=candidate.epoch,
            slot=candidate.slot,
            candidate=name,
            chain_id=self._chain_id,
            genesis_hash=self._genesis_hash,
        )
        return Statement(kind=kind, epoch=candidate.epoch, slot=candidate.slot, candidate=name, digest=digest)

    def _certify(self, signed: StatementsSigned) -> list[EngineEffect]:
        """Rules 6 and 7: one vote is a quorum of one."""
        candidate = self._candidate
        assert candidate is not None, "signatures follow statements"
        certificate = Certificate("final", candidate, 1, [signed.signatures[FINAL_VOTE]])
        return [SetHead(candidate.block_hash), Finalize(candidate.block_hash, certificate)]

    def _advance(self, now_ms: int, committed: BlockCommitted) -> list[EngineEffect]:
        self._building = False
        self._parent, self._candidate = self._candidate, None
        self._head_hash = committed.hash
        self._head_timestamp_ms = committed.timestamp_ms
        return self._pace(now_ms)
