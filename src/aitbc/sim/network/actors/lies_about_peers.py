"""Lies about who is there: far heads, invented addresses, heartbeats of others, goodbyes that are none."""

from __future__ import annotations

import msgspec

from aitbc.core.peer.kinds import (
    BYE,
    GET_PEERS,
    HELLO,
    MAX_LISTED,
    PING,
    RECORD_KEY,
    Bye,
    Hello,
    PeerAddress,
    PeerList,
    Ping,
    RecordKey,
    Status,
    Welcome,
    pack_answer,
    pack_message,
)
from aitbc.sim.network.actors.stranger import Line, Stranger

FAR = Status(2**53 - 1, b"\xff" * 32, 2**53 - 1)


def boasting(hello: Hello) -> Hello:
    """Far ahead, with a clock that is just good enough, to be dialled at a neighbour's door."""
    return msgspec.structs.replace(
        hello, status=FAR, clock_ms=hello.clock_ms + 29_000, listen="10.0.0.1:22", agent="\u202e" * 16
    )


def invented(liar: Stranger) -> list[PeerAddress]:
    """Addresses where nobody is, and honest ones under the liar's key."""
    draw = liar.world.draw
    nowhere = [
        PeerAddress(f"{draw.randrange(1, 220)}.{draw.randrange(250)}.{draw.randrange(250)}.1:7070", liar.key)
        for _ in range(MAX_LISTED - 4)
    ]
    return nowhere + [PeerAddress(draw.choice(liar.run.honest).where, liar.key) for _ in range(4)]


def _hello(liar: Stranger, _line: Line) -> bytes:
    return pack_message(HELLO, boasting(liar.hello()))


def _welcome(liar: Stranger, _question: bytes) -> bytes:
    return pack_answer(HELLO, Welcome(False, "go there", boasting(liar.hello()), invented(liar)))


def _no_payload(_liar: Stranger, _line: Line) -> bytes:
    return b""


def _peers(liar: Stranger, _question: bytes) -> bytes:
    return pack_answer(GET_PEERS, PeerList(invented(liar)))


def _ping(liar: Stranger, _line: Line) -> bytes:
    return pack_message(PING, Ping(liar.world.draw.randrange(2**32), FAR))


def _pong(liar: Stranger, _question: bytes) -> bytes:
    return pack_answer(PING, Ping(liar.world.draw.randrange(2**32), FAR))


def _bye(_liar: Stranger, _line: Line) -> bytes:
    return pack_message(BYE, Bye("banned", "your fault"))


def _record_key(liar: Stranger, _question: bytes) -> bytes:
    return pack_answer(RECORD_KEY, RecordKey(liar.world.draw.randbytes(32)))


LIES = {
    HELLO.name: (_hello, _welcome),
    GET_PEERS.name: (_no_payload, _peers),
    PING.name: (_ping, _pong),
    BYE.name: (_bye, None),
    RECORD_KEY.name: (_no_payload, _record_key),
}
