"""Lies about agreement: votes, candidates and certificates that nobody signed, and blocks that are others."""

from __future__ import annotations

from aitbc.core.peer.kinds import (
    CANDIDATE,
    CERTIFICATE,
    CONSENSUS_GET,
    CONSENSUS_STATUS,
    FILL,
    VOTE,
    Fill,
    Filled,
    pack_answer,
    pack_message,
)
from aitbc.sim.network.actors.stranger import Line, Stranger


def _forged(liar: Stranger, _line: Line) -> bytes:
    return b"vote " + liar.world.draw.randbytes(100)


def _forged_candidate(liar: Stranger, _line: Line) -> bytes:
    return b"candidate " + liar.world.draw.randbytes(20_000)


def _status(liar: Stranger, _line: Line) -> bytes:
    return liar.world.draw.randbytes(60)


def _get(liar: Stranger, _line: Line) -> bytes:
    return liar.world.draw.randbytes(32)


def _block(liar: Stranger, _question: bytes) -> bytes:
    return b"another block" + liar.world.draw.randbytes(1_000)


def _fill(liar: Stranger, _line: Line) -> bytes:
    return pack_message(FILL, Fill(liar.world.draw.randbytes(32), [9, 3, 3]))


def _filled(liar: Stranger, _question: bytes) -> bytes:
    return pack_answer(FILL, Filled([b"another transaction"] * liar.world.draw.choice((0, 1, 2))))


LIES = {
    CANDIDATE.name: (_forged_candidate, None),
    VOTE.name: (_forged, None),
    CERTIFICATE.name: (_forged, None),
    CONSENSUS_STATUS.name: (_status, None),
    CONSENSUS_GET.name: (_get, _block),
    FILL.name: (_fill, _filled),
}
