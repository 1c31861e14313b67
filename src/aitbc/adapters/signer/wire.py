"""What a node and a signer say to each other over a Unix socket. docs/spec/signer.md

Each message is a length of four bytes, big-endian, and msgpack. The node asks, the signer answers, one at a time.
"""

import socket
from typing import Any, cast

import msgspec

from aitbc.core.codec.wire import pack, unpack
from aitbc.core.consensus.simplex.wal import VoteRecord
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import Transaction

VERSION = 1
MAX_MESSAGE_BYTES = 128 * 1024
"""A guard's 1,200 entries of 60 bytes are the largest; an EVIDENCE has at most 24 KiB."""
MAX_STATEMENTS = 256
"""One step of a node asks for a few; after a restart it asks again for those of 128 slots at most."""
MESSAGE_S = 10.0
"""A message that has begun is there within this time. Two fsyncs of a slow disk are in it."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello", forbid_unknown_fields=True):
    """The first message of a connection."""

    version: int
    genesis_hash: bytes


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag="welcome", forbid_unknown_fields=True):
    """Whose key this is, and what its guard holds."""

    auth_key: bytes
    vote_after_ms: int
    floor_epoch: int
    floor_slot: int
    signed: list[VoteRecord]


class Sign(msgspec.Struct, frozen=True, array_like=True, tag="sign", forbid_unknown_fields=True):
    """Statements, without their digests: the signer works those out itself."""

    statements: list[VoteRecord]


class SignTransaction(msgspec.Struct, frozen=True, array_like=True, tag="tx", forbid_unknown_fields=True):
    """Whole, for the same reason."""

    tx: Transaction


class RaiseFloor(msgspec.Struct, frozen=True, array_like=True, tag="floor", forbid_unknown_fields=True):
    epoch: int
    slot: int


class BeginAnew(msgspec.Struct, frozen=True, array_like=True, tag="anew", forbid_unknown_fields=True):
    vote_after_ms: int


class Signed(msgspec.Struct, frozen=True, array_like=True, tag="signed", forbid_unknown_fields=True):
    """In the order of what was asked."""

    signatures: list[bytes]


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done", forbid_unknown_fields=True):
    pass


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused", forbid_unknown_fields=True):
    """Asking again changes nothing."""

    why: str


Request = Hello | Sign | SignTransaction | RaiseFloor | BeginAnew
Answer = Welcome | Signed | Done | Refused


class LinkLost(Exception):
    """The other side is gone, too slow, or says what is no message."""


def send_message(link: socket.socket, message: Request | Answer) -> None:
    body = pack(message)
    assert len(body) <= MAX_MESSAGE_BYTES, "a message is smaller than its most"
    try:
        link.settimeout(MESSAGE_S)
        link.sendall(len(body).to_bytes(4, "big") + body)
    except OSError as error:
        raise LinkLost(f"nothing can be sent: {error}") from None


def receive_request(link: socket.socket) -> Request:
    """Waits for its first byte as long as it takes."""
    return cast(Request, _receive(link, Request, patient=True))


def receive_answer(link: socket.socket) -> Answer:
    return cast(Answer, _receive(link, Answer, patient=False))


def _receive(link: socket.socket, kind: Any, *, patient: bool) -> Any:
    try:
        link.settimeout(None if patient else MESSAGE_S)
        first = link.recv(1)
        link.settimeout(MESSAGE_S)
        length = int.from_bytes(first + _exactly(link, 3), "big") if first else 0
        if not 0 < length <= MAX_MESSAGE_BYTES:
            raise LinkLost("closed" if not first else f"a message of {length} bytes")
        return unpack(_exactly(link, length), kind, limit=MAX_MESSAGE_BYTES)
    except TimeoutError:
        raise LinkLost(f"no message in {MESSAGE_S:g} s") from None
    except (OSError, Rejected) as error:
        raise LinkLost(str(error)) from None


def _exactly(link: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = link.recv(length - len(data))
        if not piece:
            raise LinkLost("closed in the middle of a message")
        data += piece
    return bytes(data)
