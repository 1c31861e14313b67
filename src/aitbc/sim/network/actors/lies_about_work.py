"""Lies about the heaviest chain: heads that nobody worked for, headers and blocks that belong to none."""

from __future__ import annotations

from aitbc.core.peer.kinds import (
    MAX_LOCATOR,
    MAX_WORK_HEADERS,
    WORK_BLOCK,
    WORK_HEAD,
    WORK_HEADERS,
    BlockNamed,
    Locator,
    WorkHeaders,
    pack_answer,
    pack_message,
)
from aitbc.sim.network.actors.stranger import Line, Stranger


def _head(liar: Stranger, _line: Line) -> bytes:
    return liar.world.draw.randbytes(600)


def _locator(liar: Stranger, _line: Line) -> bytes:
    draw = liar.world.draw
    return pack_message(WORK_HEADERS, Locator([draw.randbytes(32) for _ in range(MAX_LOCATOR)]))


def _headers(liar: Stranger, _question: bytes) -> bytes:
    headers = [liar.world.draw.randbytes(200)] * MAX_WORK_HEADERS
    return pack_answer(WORK_HEADERS, WorkHeaders(True, headers))


def _named(liar: Stranger, _line: Line) -> bytes:
    return pack_message(WORK_BLOCK, BlockNamed(liar.world.draw.randbytes(32)))


def _block(liar: Stranger, _question: bytes) -> bytes:
    return b"another block" + liar.world.draw.randbytes(1_000)


LIES = {
    WORK_HEAD.name: (_head, None),
    WORK_HEADERS.name: (_locator, _headers),
    WORK_BLOCK.name: (_named, _block),
}
