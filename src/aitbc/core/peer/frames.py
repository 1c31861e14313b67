"""Seed 004's frame and message header, byte for byte, cut out of a stream that is not trusted.
docs/spec/p2p.md "Frames"

    u32 big-endian length | u8 type | u32 big-endian id | kind in UTF-8 | 00 | payload

What a frame is comes before what it holds, so its size is judged before its payload is kept.
"""

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

from aitbc.core.peer.reasons import PeerFault, PeerReason

MAX_BODY = 4 * 1024 * 1024 + 256 * 1024
"""A block of the largest size with what surrounds it; nothing else is nearly as large."""
MAX_KIND = 64
LENGTH = struct.Struct(">I")
HEAD = struct.Struct(">IBI")
HEAD_BYTES = 9
MIN_BODY = 6
"""Type, id and the zero after an empty kind."""
LONGEST_HEAD = HEAD_BYTES + MAX_KIND + 1


class Type(IntEnum):
    """The first three are the seed's; it has no refusal, so a request that is not answered waits for its timeout."""

    PLAIN = 0
    REQUEST = 1
    ANSWER = 2
    REFUSAL = 3


FIRST_ANSWER, LAST_TYPE = int(Type.ANSWER), int(Type.REFUSAL)
"""For comparisons in every frame: those of members cost a look-up each."""


class Head(NamedTuple):
    """Everything of a frame but its payload."""

    type: int
    id: int
    kind: bytes
    """Empty in answers and refusals, which are known by the id of their request."""
    size: int
    """Of the payload."""


def frame(type_: Type, id_: int, kind: bytes, payload: bytes) -> bytes:
    return HEAD.pack(MIN_BODY + len(kind) + len(payload), type_, id_) + kind + b"\0" + payload


Cut = tuple[Head, bytes | PeerFault]
"""A frame with its payload, or with the reason for which its payload was skipped."""


class FrameReader:
    """Cuts a stream into frames; holds at most one payload, and that only after `judge` has seen its head.

    `judge` answers None to keep the payload, a fault to skip it as it arrives, and raises what ends the connection.
    """

    def __init__(self, judge: Callable[[Head], PeerFault | None]) -> None:
        self._judge = judge
        self._partial = b""
        """The beginning of a head."""
        self._head: Head | None = None
        self._payload = bytearray()
        self._size = 0
        """Of the payload that is being skipped."""
        self._skip = 0

    @property
    def buffered(self) -> int:
        """Bytes held of a frame that is not complete."""
        return len(self._partial) + len(self._payload)

    @property
    def arrived(self) -> int:
        """Bytes of it that have come, kept or skipped."""
        return self.buffered + self._size - self._skip

    @property
    def inside(self) -> bool:
        """A frame has begun and is not over."""
        return bool(self._partial) or self._head is not None or self._skip > 0

    def feed(self, data: bytes) -> Iterator[Cut]:
        """What is complete now, in order. A frame is judged after the ones before it were taken from here, because
        they may change what is allowed; all must be taken."""
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                self._size = self._size if self._skip else 0
                at += step
                continue
            at, cut = self._collect(self._head, data, at) if self._head else self._open(data, at)
            if cut is not None:
                yield cut

    def _collect(self, head: Head, data: bytes, at: int) -> tuple[int, Cut | None]:
        stop = at + head.size - len(self._payload)
        self._payload += data[at:stop]
        if len(self._payload) < head.size:
            return len(data), None
        payload = bytes(self._payload)
        self._head, self._payload = None, bytearray()
        return stop, (head, payload)

    def _open(self, data: bytes, at: int) -> tuple[int, Cut | None]:
        """Read a head; then the payload in one piece when it is all there."""
        held = len(self._partial)
        if held:
            window, start = self._partial + data[at : at + LONGEST_HEAD], 0
        else:
            window, start = data, at
        parsed = _parse_head(window, start)
        if parsed is None:
            self._partial = window[start:]
            return len(data), None
        head, stop = parsed
        self._partial = b""
        at += stop - start - held
        fault = self._judge(head)
        if fault is not None:
            self._skip = self._size = head.size
            return at, (head, fault)
        end = at + head.size
        if end <= len(data):
            return end, (head, data[at:end])
        self._head = head
        return at, None


def _parse_head(window: bytes, at: int) -> tuple[Head, int] | None:
    """The head at this place and where its payload begins; None when more bytes are needed."""
    there = len(window) - at
    if there < 4:
        return None
    if there < HEAD_BYTES:
        _check_length(LENGTH.unpack_from(window, at)[0])
        return None
    length, type_, id_ = HEAD.unpack_from(window, at)
    if not MIN_BODY <= length <= MAX_BODY:
        _check_length(length)
    if type_ > LAST_TYPE:
        raise PeerFault(PeerReason.BAD_FRAME, f"type {type_}")
    start = at + HEAD_BYTES
    limit = start + min(MAX_KIND + 1, length - MIN_BODY + 1)
    zero = window.find(b"\0", start, limit)
    if zero < 0:
        if len(window) >= limit:
            raise PeerFault(PeerReason.BAD_FRAME, f"no kind that ends within {MAX_KIND} bytes")
        return None
    kind = window[start:zero]
    if (not kind) == (type_ < FIRST_ANSWER):
        raise PeerFault(PeerReason.BAD_FRAME, "a kind in an answer, or none in a message")
    return Head(type_, id_, kind, length - MIN_BODY - len(kind)), zero + 1


def _check_length(length: int) -> None:
    if length < MIN_BODY:
        raise PeerFault(PeerReason.BAD_FRAME, f"a body of {length} bytes")
    if length > MAX_BODY:
        raise PeerFault(PeerReason.FRAME_TOO_LARGE, f"{length} bytes; at most {MAX_BODY} are allowed")
