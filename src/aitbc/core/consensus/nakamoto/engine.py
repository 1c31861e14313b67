"""What agreement by work hears and what it asks for; the host owns blocks, disk, keys, peers, time and the search.

The host's side of the contract stands on each event and effect. Effects of one step are performed in their order; what
they cause comes back as a new event, never from within.

The host also answers other nodes by itself, from the chain that it stands on:
* a question for headers: those after the first hash of the locator that is on its chain, at most `MAX_HEADERS`, or
  that no hash of it is;
* a question for blocks: those that it holds, also of branches that it left, until `ForgetBlocks`;
* a new link: its head is announced there (`HeaderAnnounced` at the other end), and `PeerJoined` told here.
"""

import msgspec

from aitbc.core.consensus.engine import BuildBlock, PenalisePeer, SetTimer, TimerFired, TransactionsArrived
from aitbc.core.consensus.nakamoto.headers import Link
from aitbc.core.types.blocks import Header
from aitbc.core.types.reasons import Reason

MAX_HEADERS = 512
"""In one answer: 200 KB, and 50 ms to check where each is signed."""

# Events, in the past tense; beside them TimerFired and TransactionsArrived.


class PeerJoined(msgspec.Struct, frozen=True, tag=True):
    """There is a link; its name is the host's."""

    peer: str


class PeerLeft(msgspec.Struct, frozen=True, tag=True):
    peer: str


class HeaderAnnounced(msgspec.Struct, frozen=True, tag=True):
    """A peer told its new head. Nothing of it is checked yet."""

    peer: str
    header: Header


class HeadersArrived(msgspec.Struct, frozen=True, tag=True):
    """Answers `FetchHeaders`, from that peer and to that question, late or not; at most `MAX_HEADERS`, unchecked."""

    peer: str
    meets: bool
    """Is a hash of the locator on the peer's chain?"""
    headers: list[Header]


class BlockArrived(msgspec.Struct, frozen=True, tag=True):
    """Answers a hash of `FetchBlocks`: the host holds a block with this header whose transactions are those of
    `txs_root`, and keeps it until `ForgetBlocks`. Also told of one that it held already, which a new engine does not
    know."""

    peer: str
    hash: bytes


class BlockMissed(msgspec.Struct, frozen=True, tag=True):
    """Answers a hash of `FetchBlocks` as well."""

    peer: str
    hash: bytes
    reason: Reason | None
    """What is wrong with what it sent; None: it does not have the block."""


class HeadSwitched(msgspec.Struct, frozen=True, tag=True):
    """Answers `SwitchHead`: done, and on disk."""

    hash: bytes


class SwitchRefused(msgspec.Struct, frozen=True, tag=True):
    """Answers `SwitchHead`: a block of `apply` is invalid for everybody; head and state are what they were before. Not
    for a full disk or a version that this release does not know: these stop the node."""

    hash: bytes
    """The head that was asked for."""
    invalid: bytes
    reason: Reason


class TemplateBuilt(msgspec.Struct, frozen=True, tag=True):
    """Answers `BuildBlock`: a whole block without its seal, on that parent and with that timestamp, executed and held.
    The host holds the newest two."""

    header: Header
    transactions: int
    """How many it holds."""


class TemplateSigned(msgspec.Struct, frozen=True, tag=True):
    """Answers `SignTemplate`."""

    template: bytes
    signature: bytes


class NonceFound(msgspec.Struct, frozen=True, tag=True):
    """Answers `Mine`."""

    search: bytes
    nonce: int


NakamotoEvent = (
    TimerFired
    | TransactionsArrived
    | PeerJoined
    | PeerLeft
    | HeaderAnnounced
    | HeadersArrived
    | BlockArrived
    | BlockMissed
    | HeadSwitched
    | SwitchRefused
    | TemplateBuilt
    | TemplateSigned
    | NonceFound
)

# Effects, in the imperative; beside them SetTimer, BuildBlock and PenalisePeer.


class SwitchHead(msgspec.Struct, frozen=True, tag=True):
    """Undo, the tip first, then apply, the lowest first: all of it, or nothing and `SwitchRefused`. The host holds all
    these blocks. Readers see the old head until the new one is whole; transactions of undone blocks wait again. One
    switch at a time: its answer comes before another is asked for."""

    hash: bytes
    """The new head: the last of `apply`."""
    undo: list[bytes]
    apply: list[bytes]


class Finalize(msgspec.Struct, frozen=True, tag=True):
    """This block of the head's branch, and all below, are never undone: the finality depth lies on top. Final by depth
    is a matter of probability, and to be shown as such."""

    link: Link
    """To be kept on disk beside the block: after a restart the engine begins from it."""


class PartedBelowFinal(msgspec.Struct, frozen=True, tag=True):
    """This peer's branch left ours below the newest final block, so neither side may take the other's. Nothing is held
    against it: the lighter side of a cut shows its head too, and may still come over. Said once while it is so; where
    it stays so, an operator decides."""

    peer: str


class ForgetBlocks(msgspec.Struct, frozen=True, tag=True):
    """Blocks of branches that are given up. One that is not held, or is on the host's own chain because its second
    copy came late, is left alone."""

    hashes: list[bytes]


class FetchHeaders(msgspec.Struct, frozen=True, tag=True):
    peer: str
    locator: list[bytes]
    """Hashes from where this node is down to its newest final block."""


class FetchBlocks(msgspec.Struct, frozen=True, tag=True):
    """Ask one peer for blocks. Each hash is answered by one event or by none: the engine does not wait for ever."""

    peer: str
    hashes: list[bytes]


class Announce(msgspec.Struct, frozen=True, tag=True):
    """Tell all peers the head's header: it is valid and its block can be had here."""

    header: Header


class SignTemplate(msgspec.Struct, frozen=True, tag=True):
    """Sign these 32 bytes with the miner's key. Nothing is to be guarded: to sign two templates is no fault."""

    template: bytes


class Mine(msgspec.Struct, frozen=True, tag=True):
    """Search a nonce with SHA-256(search ‖ u64 nonce) ≤ target, instead of what was searched before."""

    search: bytes
    target: int


class StopMining(msgspec.Struct, frozen=True, tag=True):
    pass


class SealBlock(msgspec.Struct, frozen=True, tag=True):
    """Put this header, which differs from the template's in its seal only, in the place of the template's, and hold
    the block from now on as one that arrived. Safe on disk at the latest with the `SwitchHead` that follows."""

    template: bytes
    header: Header


NakamotoEffect = (
    SetTimer
    | BuildBlock
    | PenalisePeer
    | PartedBelowFinal
    | SwitchHead
    | Finalize
    | ForgetBlocks
    | FetchHeaders
    | FetchBlocks
    | Announce
    | SignTemplate
    | Mine
    | StopMining
    | SealBlock
)
