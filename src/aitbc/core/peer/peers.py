"""What a node is told about peers, what it tells about them, and what it hears from them."""

from typing import Any

import msgspec

from aitbc.core.peer.kinds import Hello, Kind
from aitbc.core.peer.links import LinkEffect
from aitbc.core.peer.reasons import PeerReason

PROTOCOL_VERSION = 2
"""Of the messages; with 1 a candidate carried its block."""
VOTES = "votes"
"""Feature of a node that wants votes: validators, and relays between them."""
ARCHIVE = "archive"
"""Feature of a node that promises to keep everything for ever."""
DISCOVERY = "discovery"
"""Feature of a node that tells addresses and has nothing else."""
MAX_CONFIGURED = 128


class ConfiguredPeer(msgspec.Struct, frozen=True):
    """A node that the operator or the validator set names: always dialled, never pruned or banned, only throttled."""

    where: str
    """`host:port`, names allowed; empty when it only comes to us."""
    key: bytes = b""
    """Empty: whoever answers there."""


class PeerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a node tells its peers and how many it wants."""

    key: bytes
    """Our node key, public."""
    settings_hash: bytes
    """Of the consensus settings."""
    agent: str
    listen: str = ""
    """`host:port`, `:port` for "where you see me", empty for nowhere."""
    max_peers: int = 20
    """Half of them are dialled by us: ten, from different networks."""
    features: tuple[str, ...] = ()
    record_key: bytes = b""
    """Signs what discovery services tell about us (docs/spec/discovery.md); empty: nothing does."""
    bootstrap: tuple[str, ...] = ()
    """Dialled while there is nobody else."""
    lists_only: bool = False
    """This node tells addresses and asks for them, and is nobody's peer: every conversation ends with the welcome."""
    version_min: int = PROTOCOL_VERSION
    version_max: int = PROTOCOL_VERSION


class PeerView(msgspec.Struct, frozen=True, kw_only=True):
    """A peer as people and `/p2p/peers` see it."""

    key: str
    where: str
    outbound: bool
    configured: bool
    since_ms: int
    last_seen_ms: int
    latency_ms: int | None
    """Of the last heartbeat; None before the first."""
    clock_skew_ms: int
    points: int
    agent: str
    features: list[str]
    role: str
    """`archive`, or empty: a validator does not say that it is one, so nobody else says what it is not."""
    head_height: int
    finalised_height: int


# Effects beyond those on links: what the layers above hear.


class PeerUp(msgspec.Struct, frozen=True):
    """A node is introduced: it may be talked to."""

    key: bytes
    hello: Hello


class PeerDown(msgspec.Struct, frozen=True):
    key: bytes
    reason: PeerReason


class Heard(msgspec.Struct, frozen=True):
    """A peer said something."""

    key: bytes
    kind: Kind
    message: Any


class Requested(msgspec.Struct, frozen=True):
    """A peer asks; `answer` or `refuse` with link and id before the kind's timeout."""

    key: bytes
    link: int
    id: int
    kind: Kind
    message: Any


class Replied(msgspec.Struct, frozen=True):
    """A request of ours was answered."""

    key: bytes
    ticket: int
    kind: Kind
    message: Any


class Unreplied(msgspec.Struct, frozen=True):
    """A request of ours will not be answered."""

    key: bytes
    ticket: int
    kind: Kind
    reason: PeerReason
    message: str


class Refusal(msgspec.Struct, frozen=True):
    """Something a peer did was not taken: for counters and logs."""

    key: bytes
    reason: PeerReason
    message: str


PeerEffect = LinkEffect | PeerUp | PeerDown | Heard | Requested | Replied | Unreplied | Refusal
