"""What a transport tells about connections, and what it is asked to do. The port is `aitbc.ports.Transport`.

A *link* is one open connection, a *dial* one attempt to open one; both are numbers that are never used twice.
"""

import msgspec

from aitbc.core.peer.kinds import Lane
from aitbc.core.peer.reasons import PeerReason

# Facts, in the past tense.


class Linked(msgspec.Struct, frozen=True):
    """A connection is open and the other side has proved its key."""

    link: int
    key: bytes
    where: str
    """Address that the connection goes to or comes from, numeric."""
    dial: int | None
    """Which attempt of ours it was; None when the other side came."""


class DialFailed(msgspec.Struct, frozen=True):
    dial: int
    reason: PeerReason
    message: str


class Received(msgspec.Struct, frozen=True):
    """The next bytes of the stream, decrypted."""

    link: int
    data: bytes


class Clogged(msgspec.Struct, frozen=True):
    """The other side reads more slowly than we write, and its queue is full or has not moved."""

    link: int


class Unlinked(msgspec.Struct, frozen=True):
    """The connection is over; also the last word after `Close`."""

    link: int
    reason: PeerReason
    message: str


LinkEvent = Linked | DialFailed | Received | Clogged | Unlinked

# Effects, in the imperative.


class Dial(msgspec.Struct, frozen=True):
    dial: int
    where: str
    key: bytes
    """Who must answer; empty when anyone may."""


class Send(msgspec.Struct, frozen=True):
    link: int
    data: bytes
    """One frame."""
    lane: Lane


class Close(msgspec.Struct, frozen=True):
    """Send what is queued and the farewell, but wait for a second at most."""

    link: int
    reason: PeerReason
    farewell: bytes = b""
    drop_queue: bool = False
    """Send the farewell alone."""


class Throttle(msgspec.Struct, frozen=True):
    """Read nothing from this link for so long."""

    link: int
    for_ms: int


LinkEffect = Dial | Send | Close | Throttle
