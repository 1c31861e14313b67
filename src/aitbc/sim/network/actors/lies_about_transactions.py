"""Lies about transactions: hashes of nothing, and something else under the hashes of others."""

from __future__ import annotations

from aitbc.core.peer.kinds import (
    ANNOUNCE,
    PULL,
    SEARCH_TRANSACTION,
    Search,
    Transactions,
    Wids,
    pack_answer,
    pack_message,
    unpack_message,
)
from aitbc.sim.network.actors.stranger import Line, Stranger


def _announce(liar: Stranger, _line: Line) -> bytes:
    return pack_message(ANNOUNCE, Wids([liar.world.draw.randbytes(32) for _ in range(200)]))


def _pull(liar: Stranger, _line: Line) -> bytes:
    return pack_message(PULL, Wids([liar.world.draw.randbytes(32) for _ in range(200)]))


def _delivered(_liar: Stranger, question: bytes) -> bytes:
    wids: Wids = unpack_message(PULL, question)
    return pack_answer(PULL, Transactions([b"something else" for _ in wids.wids]))


def _search(liar: Stranger, _line: Line) -> bytes:
    draw = liar.world.draw
    return pack_message(SEARCH_TRANSACTION, Search(draw.randbytes(16), draw.randbytes(32), 3))


def _found(_liar: Stranger, _question: bytes) -> bytes:
    return b"something else"


LIES = {
    ANNOUNCE.name: (_announce, None),
    PULL.name: (_pull, _delivered),
    SEARCH_TRANSACTION.name: (_search, _found),
}
