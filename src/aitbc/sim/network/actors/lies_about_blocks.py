"""Lies about the chain: headers, ends and blocks that no certificate names."""

from __future__ import annotations

from aitbc.core.peer.kinds import (
    BLOCKS,
    ENDS,
    HEADERS,
    MAX_BLOCKS,
    SEARCH_BLOCK,
    BlockRange,
    Blocks,
    Ends,
    EndsAsked,
    Headers,
    Search,
    pack_answer,
    pack_message,
)
from aitbc.sim.network.actors.stranger import Line, Stranger

LAST = 2**53 - 1


def _range(_liar: Stranger, _line: Line) -> bytes:
    return pack_message(BLOCKS, BlockRange(LAST, MAX_BLOCKS))


def _ends_asked(_liar: Stranger, _line: Line) -> bytes:
    return pack_message(ENDS, EndsAsked(LAST))


def _ends(liar: Stranger, _question: bytes) -> bytes:
    return pack_answer(ENDS, Ends([liar.world.draw.randbytes(200)] * 64))


def _headers(liar: Stranger, _question: bytes) -> bytes:
    return pack_answer(HEADERS, Headers([liar.world.draw.randbytes(200)] * MAX_BLOCKS, []))


def _blocks(liar: Stranger, _question: bytes) -> bytes:
    return pack_answer(BLOCKS, Blocks([liar.world.draw.randbytes(200)] * MAX_BLOCKS))


def _search(liar: Stranger, _line: Line) -> bytes:
    draw = liar.world.draw
    return pack_message(SEARCH_BLOCK, Search(draw.randbytes(16), draw.randbytes(32), 3))


def _found(liar: Stranger, _question: bytes) -> bytes:
    return b"another block" + liar.world.draw.randbytes(1_000)


LIES = {
    ENDS.name: (_ends_asked, _ends),
    HEADERS.name: (_range, _headers),
    BLOCKS.name: (_range, _blocks),
    SEARCH_BLOCK.name: (_search, _found),
}
