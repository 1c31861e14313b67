"""The tree of valid headers above the newest final block, and which branch is the best. docs/spec/nakamoto.md "Choice"

All branches stand on the root, the newest final block, so none can undo more than the finality depth. What was found
invalid leaves the tree with all that stands on it, and its hash is remembered.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from aitbc.core.codec.digests import header_hash
from aitbc.core.consensus.nakamoto.headers import HeaderRules, Link
from aitbc.core.types.blocks import Header
from aitbc.core.types.reasons import Reason, Rejected

MAX_AHEAD = 2_048
"""Valid headers above the head whose blocks are not here: four answers with headers, a minute of fetching blocks."""
MAX_SIDE = 1_024
"""Headers beside the chain. Each cost its author work; beyond, the weakest branch is forgotten, and whoever builds on
it shows it again."""
MAX_TIPS = 128
"""Ends of branches: each is looked at in every step. A healthy network has one or two."""
MAX_INVALID = 1_024
"""Hashes that are remembered as invalid; a forgotten one would be executed once more."""

TieRule = Literal["first seen", "lowest hash"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A header in the tree."""

    link: Link
    parent: bytes
    header: Header
    order: int
    """The how-manieth header of this tree it is."""
    peer: str
    """Who showed it first; empty: this node's own, or from disk."""


class TooLight(Rejected):
    """A valid branch that shows too little work; whoever sent it need not have lied."""


class Path(NamedTuple):
    """From one block to another: what to undo, the tip first, and then what to apply, the lowest first."""

    undo: list[bytes]
    apply: list[bytes]


class Tree:
    """Headers above `root`; `head` is the block whose state the host has, set by the engine."""

    def __init__(self, root: Link, rules: HeaderRules) -> None:
        self.root = root
        self.head = root
        self._rules = rules
        self.tie: TieRule = "lowest hash" if rules.is_signed else "first seen"
        self._entries: dict[bytes, Entry] = {}
        self._children: dict[bytes, dict[bytes, None]] = {root.hash: {}}
        self._leaves: dict[bytes, None] = {root.hash: None}
        self._invalid: dict[bytes, None] = {}
        self._count = 0
        self._limit = rules.settings.finality_depth + MAX_AHEAD + MAX_SIDE

    # Questions

    def __contains__(self, hash_: bytes) -> bool:
        return hash_ in self._children

    def __len__(self) -> int:
        return len(self._entries)

    def link(self, hash_: bytes) -> Link:
        return self.root if hash_ == self.root.hash else self._entries[hash_].link

    def entry(self, hash_: bytes) -> Entry:
        return self._entries[hash_]

    def is_invalid(self, hash_: bytes) -> bool:
        return hash_ in self._invalid

    @property
    def best(self) -> Link:
        """The tip of the best branch, whether or not its blocks are here."""
        return max((self.link(leaf) for leaf in self._leaves), key=self.rank)

    def rank(self, link: Link) -> tuple[int, int]:
        """Greater is better: more weight, then the lowest hash or who was seen first. The root is nobody's rival."""
        if self.tie == "lowest hash":
            return link.weight, -int.from_bytes(link.hash, "big")
        entry = self._entries.get(link.hash)
        return link.weight, -entry.order if entry else 0

    def beats(self, one: Link, other: Link) -> bool:
        """Would this node leave `other`, where it is, for `one`? Of equals the first seen stays."""
        if one.weight != other.weight or self.tie == "first seen":
            return one.weight > other.weight
        return one.hash < other.hash

    def rivals(self) -> list[Link]:
        """The tips for which the head would be left, if their blocks were here; the best first."""
        tips = [link for link in map(self.link, self._leaves) if self.beats(link, self.head)]
        return sorted(tips, key=self.rank, reverse=True)

    def children(self, hash_: bytes) -> list[bytes]:
        return list(self._children[hash_])

    def path(self, start: bytes, end: bytes) -> Path:
        undo, apply = self.link(start), self.link(end)
        path = Path([], [])
        while undo.hash != apply.hash:
            if undo.height >= apply.height:
                path.undo.append(undo.hash)
                undo = self.link(self._entries[undo.hash].parent)
            else:
                path.apply.append(apply.hash)
                apply = self.link(self._entries[apply.hash].parent)
        path.apply.reverse()
        return path

    def ancestor(self, hash_: bytes, height: int) -> Link:
        """The block at a height, from the root's on, on the branch of another."""
        link = self.link(hash_)
        while link.height > height:
            link = self.link(self._entries[link.hash].parent)
        return link

    def locator(self, tip: bytes) -> list[bytes]:
        """Hashes that lead a peer to the fork: the tip, then in doubling steps down, the root last."""
        hashes, step = [], 1
        link = self.link(tip)
        while link.height > self.root.height:
            hashes.append(link.hash)
            link = self.ancestor(link.hash, max(self.root.height, link.height - step))
            step *= 2
        return [*hashes, self.root.hash]

    # Growing

    def add(self, header: Header, peer: str) -> Entry:
        """A new header whose parent is here; raises Rejected."""
        link, _ = self._step(header, self._parent_of(header))
        return self._put(header, link, peer)

    def extend(self, headers: Sequence[Header], peer: str, *, least_weight: int) -> list[Entry]:
        """A chain of headers whose first one's parent is here: all of it, or Rejected and nothing.

        `least_weight`: what its end must weigh, so that a flood of cheap headers takes no room. What is known already
        is skipped, also what became final since it was asked for; the answer holds what was new.
        """
        above = [header for header in headers if header.height > self.root.height]
        if not above:
            return []
        new: list[tuple[Header, Link]] = []
        link = self._parent_of(above[0])
        for header in above:
            link, is_new = self._step(header, link)
            if is_new:
                new.append((header, link))
        if link.weight < least_weight:
            raise TooLight(Reason.NOT_ENOUGH_WORK, f"a branch of weight {link.weight}, below {least_weight}")
        return [self._put(header, link, peer) for header, link in new]

    def _parent_of(self, header: Header) -> Link:
        if header.parent in self._invalid:
            raise Rejected(Reason.INVALID_PARENT, f"block {header.height} on {header.parent.hex()}")
        if header.parent in self:
            return self.link(header.parent)
        if header.height <= self.root.height + 1:
            raise Rejected(Reason.BELOW_FINAL, f"a branch at {header.height}; {self.root.height} is final")
        raise Rejected(Reason.WRONG_PARENT, f"{header.parent.hex()} is not known")

    def _step(self, header: Header, parent: Link) -> tuple[Link, bool]:
        """The header's link, and whether the tree lacks it."""
        hash_ = header_hash_of(header)
        if hash_ in self._entries:
            if header.parent != parent.hash:
                raise Rejected(Reason.WRONG_PARENT, f"block {header.height} is not on the one before it")
            return self._entries[hash_].link, False
        if hash_ in self._invalid:
            raise Rejected(Reason.INVALID_PARENT, f"block {header.height} {hash_.hex()} was found invalid")
        return self._rules.check(header, parent), True

    def _put(self, header: Header, link: Link, peer: str) -> Entry:
        self._count += 1
        entry = Entry(link=link, parent=header.parent, header=header, order=self._count, peer=peer)
        self._entries[link.hash] = entry
        self._children[link.hash] = {}
        self._children[header.parent][link.hash] = None
        self._leaves.pop(header.parent, None)
        self._leaves[link.hash] = None
        return entry

    # Shrinking: each answers with the hashes that are gone

    def mark_invalid(self, hash_: bytes) -> list[bytes]:
        """A block that the state refused: never in the tree again, nor anything on it."""
        gone = self._cut(hash_)
        for lost in gone:
            self._invalid[lost] = None
        while len(self._invalid) > MAX_INVALID:
            del self._invalid[next(iter(self._invalid))]
        return gone

    def make_final(self, hash_: bytes) -> list[bytes]:
        """A block on the head's branch becomes the root; what does not stand on it goes. The answer leaves out what is
        final now."""
        new_root = self.link(hash_)
        final = self.path(self.root.hash, hash_).apply
        while self.root.hash != new_root.hash:
            del self._children[self.root.hash]
            self.root = self._entries.pop(final.pop(0)).link
        stays = dict.fromkeys(self._family(hash_))
        gone = [lost for lost in self._children if lost not in stays]
        for lost in gone:
            del self._entries[lost], self._children[lost]
            self._leaves.pop(lost, None)
        return gone

    def trim(self) -> list[bytes]:
        """Forget branches, never the head's, until the tree has its size: of too many tips the weakest of who shows
        most, so that a crowd pushes out its own, and of too many headers the weakest of all."""
        gone: list[bytes] = []
        while len(self._leaves) > MAX_TIPS:
            gone += self._cut(self._weakest(self._crowd()))
        while len(self._entries) > self._limit:
            gone += self._cut(self._weakest(self._leaves))
        return gone

    def _crowd(self) -> list[bytes]:
        """The tips of the peer that has shown most of them."""
        shown: dict[str, list[bytes]] = {}
        for leaf in self._leaves:
            if leaf != self.head.hash:
                shown.setdefault(self._entries[leaf].peer, []).append(leaf)
        return max(shown.values(), key=len)

    def _weakest(self, leaves: Iterable[bytes]) -> bytes:
        return min((self.link(leaf) for leaf in leaves if leaf != self.head.hash), key=self.rank).hash

    def _cut(self, hash_: bytes) -> list[bytes]:
        parent = self._entries[hash_].parent
        family = self._family(hash_)
        for lost in family:
            del self._entries[lost]
            del self._children[lost]
            self._leaves.pop(lost, None)
        del self._children[parent][hash_]
        if not self._children[parent]:
            self._leaves[parent] = None
        return family

    def _family(self, hash_: bytes) -> list[bytes]:
        """A block and all that stands on it, parents first."""
        family = [hash_]
        for member in family:
            family += self._children[member]
        return family


def header_hash_of(header: Header) -> bytes:
    """The hash of a stranger's header, of which not even the form is known to be good."""
    try:
        return header_hash(header)
    except (OverflowError, UnicodeEncodeError):
        raise Rejected(Reason.OUT_OF_RANGE, "a field of a header has no bytes") from None
