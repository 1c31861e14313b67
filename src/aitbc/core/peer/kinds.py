"""Every kind of message between nodes: one entry says what it holds, how large, how often, and how it is answered.
docs/spec/p2p.md "Kinds"

Adding a kind is one entry of `KINDS` and its row in the specification.
"""

from enum import StrEnum
from typing import Annotated, Any

import msgspec

from aitbc.core.codec.wire import pack, unpack
from aitbc.core.peer.reasons import PeerFault, PeerReason
from aitbc.core.types.blocks import MAX_BLOCK_TXS
from aitbc.core.types.reasons import Rejected

Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Height = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Short = Annotated[str, msgspec.Meta(max_length=64)]
Where = Annotated[str, msgspec.Meta(max_length=80)]
"""`host:port`, IPv6 hosts in brackets; a node tells others numeric addresses only."""

MAX_LISTED = 32
"""Addresses in one answer: enough to find a network, too few to map it."""
MAX_WIDS = 1_024
MAX_BLOCKS = 1_024
MAX_ENDS = 64
MAX_STEP = 2_048
"""A proof is at most so many blocks above the one before it: so many headers are believed by nobody before they lead to
the proved one."""
SEARCH_HOPS = 3
"""A question is passed on so often after the searcher's own peers had it."""
MAX_FILLED = 4_096
"""Transactions of one block that are asked for by their places; of more, the whole block is."""
MAX_LOCATOR = 64
"""A locator's steps double: so many lead from any height to the newest final block."""
MAX_WORK_HEADERS = 512
"""As `consensus.nakamoto.engine.MAX_HEADERS`; a test keeps the two equal."""

# Payloads


class _Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class Status(_Record, frozen=True):
    """How far a node is."""

    head_height: Height
    head_hash: Hash
    finalised_height: Height


class Hello(_Record, frozen=True):
    """Who is there: the dialler's first message; the answer carries the other's."""

    version_min: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    version_max: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    settings_hash: Hash
    """Of the consensus settings: nodes that would disagree on blocks do not talk."""
    status: Status
    clock_ms: Height
    listen: Where
    """Where others may dial this node; an empty host stands for the one it was seen at, an empty text for nowhere."""
    agent: Short
    """Program and version, for people."""
    features: Annotated[list[Short], msgspec.Meta(max_length=16)]
    """`votes`: send me votes. Unknown ones mean nothing."""


class PeerAddress(_Record, frozen=True):
    where: Where
    key: Annotated[bytes, msgspec.Meta(max_length=32)]
    """Node key; empty when the teller does not know it."""


Addresses = Annotated[list[PeerAddress], msgspec.Meta(max_length=MAX_LISTED)]


class Welcome(_Record, frozen=True):
    """Answer to a hello: seed 004's status byte and list, and who answers."""

    accepted: bool
    reason: Short
    """Why not; empty when accepted."""
    hello: Hello
    peers: Addresses


class PeerList(_Record, frozen=True):
    peers: Addresses


class Ping(_Record, frozen=True):
    """Heartbeat; the answer echoes the number and tells the other's status."""

    number: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    status: Status


class Bye(_Record, frozen=True):
    """The last message of a connection: why it ends."""

    reason: Short
    message: Annotated[str, msgspec.Meta(max_length=200)]


class Wids(_Record, frozen=True):
    """Envelope hashes of transactions (docs/spec/transactions.md)."""

    wids: Annotated[list[Hash], msgspec.Meta(min_length=1, max_length=MAX_WIDS)]


class Transactions(_Record, frozen=True):
    """Those that were asked for and are there, as on the wire; in any order."""

    txs: Annotated[list[bytes], msgspec.Meta(max_length=MAX_WIDS)]


class RecordKey(_Record, frozen=True):
    """Which key signs the sender's node records (docs/spec/discovery.md)."""

    key: Hash


class BlockRange(_Record, frozen=True):
    start: Height
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_BLOCKS)]


class Blocks(_Record, frozen=True):
    """From the start of the range on, as many as there are and fit."""

    blocks: Annotated[list[bytes], msgspec.Meta(max_length=MAX_BLOCKS)]


class EndsAsked(_Record, frozen=True):
    """For proofs of blocks above this height."""

    above: Height


class Ends(_Record, frozen=True):
    ends: Annotated[list[bytes], msgspec.Meta(max_length=MAX_ENDS)]


class Headers(_Record, frozen=True):
    """From the start of the range on, as many as there are and fit, and beside each its certificate or nothing."""

    headers: Annotated[list[bytes], msgspec.Meta(max_length=MAX_BLOCKS)]
    certificates: Annotated[list[bytes], msgspec.Meta(max_length=MAX_BLOCKS)]


Places = Annotated[
    list[Annotated[int, msgspec.Meta(ge=0, lt=MAX_BLOCK_TXS)]],
    msgspec.Meta(min_length=1, max_length=MAX_FILLED),
]


class Fill(_Record, frozen=True):
    """The transactions at these places of a block that was told by names, in ascending order."""

    hash: Hash
    places: Places


class Filled(_Record, frozen=True):
    """All of them, as on the wire, in the order of the question."""

    txs: Annotated[list[bytes], msgspec.Meta(max_length=MAX_FILLED)]


class Locator(_Record, frozen=True):
    """Hashes from where the asker is down to its newest final block."""

    hashes: Annotated[list[Hash], msgspec.Meta(min_length=1, max_length=MAX_LOCATOR)]


class WorkHeaders(_Record, frozen=True):
    """Those after the first hash of a locator that is on the teller's chain, parents first; or that none is."""

    meets: bool
    headers: Annotated[list[bytes], msgspec.Meta(max_length=MAX_WORK_HEADERS)]


class BlockNamed(_Record, frozen=True):
    hash: Hash


class Search(_Record, frozen=True):
    """Who has it?"""

    id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    """The searcher's, the same on every hop."""
    hash: Hash
    hops: Annotated[int, msgspec.Meta(ge=0, le=SEARCH_HOPS)]
    """How often it may be passed on."""


# The table


class Lane(StrEnum):
    """Which of two queues a message leaves by: what agreement waits for overtakes what is only large."""

    URGENT = "urgent"
    BULK = "bulk"


class Rate(msgspec.Struct, frozen=True):
    """A token bucket: so many each second, so many at once."""

    per_second: int
    burst: int


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind promises; a peer that breaks it meets a named rejection."""

    name: str
    schema: Any = None
    """Record of the payload; None: bytes that the layer above reads."""
    limit: int
    """Payload bytes, checked before they are kept."""
    count: Rate
    size: Rate
    """In bytes."""
    asks: bool = False
    """It is a request, and only that; the answer carries no kind."""
    answer: Any = None
    answer_limit: int = 0
    timeout_ms: int = 0
    lane: Lane = Lane.URGENT
    before_hello: bool = False
    wire: bytes = b""
    """The name as it is on the wire; follows from it."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "wire", self.name.encode())


KB = 1024
MB = 1024 * KB
WHOLE_BLOCK = 4 * MB + 32 * KB
"""A block of the largest size (docs/spec/blocks.md) with the votes and lists around it."""

HELLO = Kind(
    name="p2p:hello",
    schema=Hello,
    limit=1 * KB,
    count=Rate(1, 2),
    size=Rate(1 * KB, 2 * KB),
    asks=True,
    answer=Welcome,
    answer_limit=8 * KB,
    timeout_ms=5_000,
    before_hello=True,
)
GET_PEERS = Kind(
    name="p2p:get_peers",
    limit=0,
    count=Rate(1, 4),
    size=Rate(1, 1),
    asks=True,
    answer=PeerList,
    answer_limit=8 * KB,
    timeout_ms=5_000,
    before_hello=True,
)
PING = Kind(
    name="p2p:ping",
    schema=Ping,
    limit=128,
    count=Rate(1, 8),
    size=Rate(128, 1 * KB),
    asks=True,
    answer=Ping,
    answer_limit=128,
    timeout_ms=10_000,
)
BYE = Kind(
    name="p2p:bye", schema=Bye, limit=1 * KB, count=Rate(1, 2), size=Rate(1 * KB, 2 * KB), before_hello=True
)
RECORD_KEY = Kind(
    name="p2p:record_key",
    limit=0,
    count=Rate(1, 4),
    size=Rate(1, 1),
    asks=True,
    answer=RecordKey,
    answer_limit=64,
    timeout_ms=5_000,
    before_hello=True,
)
ANNOUNCE = Kind(
    name="tx:announce",
    schema=Wids,
    limit=36 * KB,
    count=Rate(200, 400),
    size=Rate(2 * MB, 4 * MB),
    lane=Lane.BULK,
)
PULL = Kind(
    name="tx:pull",
    schema=Wids,
    limit=36 * KB,
    count=Rate(200, 400),
    size=Rate(2 * MB, 4 * MB),
    asks=True,
    answer=Transactions,
    answer_limit=256 * KB,
    timeout_ms=5_000,
    lane=Lane.BULK,
)
CANDIDATE = Kind(
    name="gossip:consensus:candidate",
    limit=1 * MB + 320 * KB,
    count=Rate(20, 60),
    size=Rate(8 * MB, 24 * MB),
)
"""A justification of 160 KiB, names of 20,000 transactions, and 1 MiB of transactions in full with their places."""
VOTE = Kind(name="gossip:consensus:vote", limit=2 * KB, count=Rate(2_000, 4_000), size=Rate(1 * MB, 2 * MB))
CERTIFICATE = Kind(
    name="gossip:consensus:certificate", limit=16 * KB, count=Rate(200, 400), size=Rate(2 * MB, 4 * MB)
)
CONSENSUS_STATUS = Kind(name="consensus:status", limit=64, count=Rate(20, 100), size=Rate(2 * KB, 8 * KB))
CONSENSUS_GET = Kind(
    name="consensus:get",
    limit=4 * KB,
    count=Rate(50, 100),
    size=Rate(200 * KB, 400 * KB),
    asks=True,
    answer_limit=WHOLE_BLOCK,
    timeout_ms=10_000,
    lane=Lane.BULK,
)
ENDS = Kind(
    name="sync:ends",
    schema=EndsAsked,
    limit=64,
    count=Rate(5, 20),
    size=Rate(1 * KB, 2 * KB),
    asks=True,
    answer=Ends,
    answer_limit=1 * MB,
    timeout_ms=10_000,
    lane=Lane.BULK,
)
HEADERS = Kind(
    name="sync:headers",
    schema=BlockRange,
    limit=64,
    count=Rate(10, 40),
    size=Rate(1 * KB, 4 * KB),
    asks=True,
    answer=Headers,
    answer_limit=1 * MB,
    timeout_ms=10_000,
    lane=Lane.BULK,
)
FILL = Kind(
    name="consensus:fill",
    schema=Fill,
    limit=16 * KB,
    count=Rate(20, 60),
    size=Rate(256 * KB, 1 * MB),
    asks=True,
    answer=Filled,
    answer_limit=WHOLE_BLOCK,
    timeout_ms=2_000,
)
"""Once for each candidate, so as often; a vote waits for the answer, so both are urgent, and nobody needs it later."""
BLOCKS = Kind(
    name="sync:blocks",
    schema=BlockRange,
    limit=64,
    count=Rate(40, 80),
    size=Rate(4 * KB, 8 * KB),
    asks=True,
    answer=Blocks,
    answer_limit=WHOLE_BLOCK,
    timeout_ms=10_000,
    lane=Lane.BULK,
)
WORK_HEAD = Kind(name="work:head", limit=1 * KB, count=Rate(20, 100), size=Rate(20 * KB, 100 * KB))
"""A header of the largest size has 800 bytes. A node tells each head of its own, and passes nothing on."""
WORK_HEADERS = Kind(
    name="work:headers",
    schema=Locator,
    limit=4 * KB,
    count=Rate(5, 40),
    size=Rate(20 * KB, 160 * KB),
    asks=True,
    answer=WorkHeaders,
    answer_limit=512 * KB,
    timeout_ms=10_000,
    lane=Lane.BULK,
)
WORK_BLOCK = Kind(
    name="work:block",
    schema=BlockNamed,
    limit=64,
    count=Rate(80, 160),
    size=Rate(8 * KB, 16 * KB),
    asks=True,
    answer_limit=WHOLE_BLOCK,
    timeout_ms=10_000,
    lane=Lane.BULK,
)
"""One at a time, so that what stalls can be asked of another."""
SEARCH_BLOCK = Kind(
    name="gossip:search:block",
    schema=Search,
    limit=64,
    count=Rate(2, 8),
    size=Rate(128, 512),
    asks=True,
    answer_limit=WHOLE_BLOCK,
    timeout_ms=10_000,
    lane=Lane.BULK,
)
"""Seldom: who lacks a block has asked all of its peers before."""
SEARCH_TRANSACTION = Kind(
    name="gossip:search:transaction",
    schema=Search,
    limit=64,
    count=Rate(2, 8),
    size=Rate(128, 512),
    asks=True,
    answer_limit=64 * KB,
    timeout_ms=10_000,
    lane=Lane.BULK,
)

KINDS = (
    HELLO,
    GET_PEERS,
    PING,
    BYE,
    RECORD_KEY,
    ANNOUNCE,
    PULL,
    CANDIDATE,
    VOTE,
    CERTIFICATE,
    CONSENSUS_STATUS,
    CONSENSUS_GET,
    ENDS,
    HEADERS,
    FILL,
    BLOCKS,
    WORK_HEAD,
    WORK_HEADERS,
    WORK_BLOCK,
    SEARCH_BLOCK,
    SEARCH_TRANSACTION,
)
BY_NAME = {kind.wire: kind for kind in KINDS}


def pack_message(kind: Kind, message: Any) -> bytes:
    """Payload of a message; a message to many peers is packed once."""
    return _pack(kind.schema, message, kind.limit)


def pack_answer(kind: Kind, message: Any) -> bytes:
    return _pack(kind.answer, message, kind.answer_limit)


def unpack_message(kind: Kind, payload: bytes) -> Any:
    return _unpack(kind.schema, payload, kind.limit)


def unpack_answer(kind: Kind, payload: bytes) -> Any:
    return _unpack(kind.answer, payload, kind.answer_limit)


def _pack(schema: Any, message: Any, limit: int) -> bytes:
    payload: bytes = message if schema is None else pack(message)
    assert len(payload) <= limit, f"{len(payload)} bytes of our own are more than {limit}"
    return payload


def _unpack(schema: Any, payload: bytes, limit: int) -> Any:
    if schema is None:
        return payload
    try:
        return unpack(payload, schema, limit=limit)
    except Rejected as rejection:
        raise PeerFault(PeerReason.BAD_PAYLOAD, str(rejection)[:200]) from None
