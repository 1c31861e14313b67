"""Indexed 4-ary Merkle tree: a keyed store in a flat array, with links in key order so that absence can be proved.

Each key owns a slot; a slot that was freed is taken again, the lowest first. Each leaf commits to its key, its value
and the next key in order; slot 0 is the sentinel below every key, so the leaf before a missing key proves that it is
missing. The tree keeps hashes and order but no values: whoever owns them hands them in.
Design and costs: indexed Merkle trees (IACR eprint 2021/1263). docs/spec/state.md
"""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import takewhile

import msgspec
from sortedcontainers import SortedList

from aitbc.core.crypto.hashing import fields, tagged, u64

EMPTY = bytes(32)
"""What stands for a missing child and for a free slot."""
SENTINEL = ""

Values = Callable[[str], bytes]
"""Key → the bytes that its leaf commits to; asked only for keys that are there."""

_LENGTHS = [n.to_bytes(4, "big") for n in range(256)]
"""Length prefixes of short fields: keys and account records."""


class TreeProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A leaf with the other three hashes of its group on each level, from the leaf up."""

    index: int
    count: int
    key: bytes
    value: bytes
    next_key: bytes
    groups: list[tuple[bytes, bytes, bytes]]


class TreeUndo:
    """What an update changed, as it was before: enough to take it back, or to prove how things stood."""

    __slots__ = ("count", "held", "most", "moves", "next", "nodes", "places")

    def __init__(self, count: int) -> None:
        self.count = count
        """Slots before, the sentinel included."""
        self.most = count
        """Most slots while the update ran."""
        self.moves: list[tuple[bool, str, int]] = []
        """(was added, key, slot), in order."""
        self.places: dict[str, int | None] = {}
        """Key that came or went → its slot before; None: it was not there."""
        self.held: dict[int, str | None] = {}
        """Slot that was taken or left → its key before; None: it was free."""
        self.next: dict[int, int] = {}
        """Slot → slot of the next key."""
        self.nodes: list[dict[int, bytes]] = []
        """Per level: position → hash."""


def hash_leaf(key: bytes, value: bytes, next_key: bytes) -> bytes:
    return sha256(b"\x00" + fields(key, value, next_key)).digest()


def hash_group(children: bytes) -> bytes:
    """An inner node: the hash of its four children, 128 bytes."""
    return sha256(b"\x01" + children).digest()


def close_root(name: str, count: int, top: bytes) -> bytes:
    """Root of a store: commits to its name and to how many slots it has, the sentinel included."""
    return tagged("aitbc/store/1", name.encode(), u64(count), top)


def widths_of(count: int) -> list[int]:
    """Nodes on each level over `count` slots, from the leaves up to the one at the top."""
    widths = [count]
    while widths[-1] > 1:
        widths.append((widths[-1] + 3) >> 2)
    return widths


class IndexedTree:
    """The tree of one store."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._index: dict[str, int] = {SENTINEL: 0}
        self._keys: list[str | None] = [SENTINEL]
        """Slot → key; None: free."""
        self._next = array("Q", [0])
        """Slot → slot of the next key; 0: there is none greater."""
        self._order: SortedList[str] = SortedList([SENTINEL])
        """Texts compare like their UTF-8 bytes."""
        self._free: SortedList[int] = SortedList()
        self._levels: list[bytearray] = [bytearray(hash_leaf(b"", b"", b""))]

    def __len__(self) -> int:
        """Number of keys, the sentinel not counted."""
        return len(self._index) - 1

    def keys(self, prefix: str = "") -> list[str]:
        """Keys with a prefix, in order."""
        found = takewhile(lambda key: key.startswith(prefix), self._order.irange(prefix or SENTINEL))
        return [key for key in found if key != SENTINEL]

    def index_of(self, key: str) -> int | None:
        return self._index.get(key)

    def root(self) -> bytes:
        return close_root(self.name, len(self._keys), bytes(self._levels[-1]))

    # Changing

    def load(self, rows: Sequence[tuple[int, str, bytes]]) -> None:
        """Fill an empty tree with (slot, key, value), in slot order; slots that are left out are free.

        Raises ValueError for rows that no tree can have.
        """
        if not rows:
            return
        count = rows[-1][0] + 1
        keys: list[str | None] = [None] * count
        values = [b""] * count
        keys[0] = SENTINEL
        for slot, key, value in rows:
            if not 0 < slot < count or keys[slot] is not None or not key:
                raise ValueError(f"store {self.name} has slot {slot} twice or out of order")
            keys[slot], values[slot] = key, value
        self._keys = keys
        self._index = {key: slot for slot, key in enumerate(keys) if key is not None}
        if len(self._index) != len(rows) + 1:
            raise ValueError(f"store {self.name} has a key twice")
        self._free = SortedList([slot for slot, key in enumerate(keys) if key is None])
        self._order = SortedList(self._index)
        in_order = [self._index[key] for key in self._order]
        self._next = array("Q", bytes(8 * count))
        for slot, following in zip(in_order, in_order[1:], strict=False):
            self._next[slot] = following
        self._levels = [bytearray(32 * width) for width in widths_of(count)]
        self._hash_leaves(range(count), values.__getitem__)
        for level in range(1, len(self._levels)):
            self._hash_groups(level, range(len(self._levels[level]) // 32))

    def update(self, changes: Mapping[str, bytes | None], values: Values) -> TreeUndo:
        """Set keys, and remove those whose value is None; returns how to take it back.

        Removals come first, then new keys take the lowest free slots in key order, then free slots at the end are
        given up. `values` is asked for keys that do not change but whose neighbour does.
        """
        index, undo = self._index, TreeUndo(len(self._keys))
        dirty: set[int] = set()
        for key in sorted([key for key, value in changes.items() if value is None and key in index]):
            self._remove(key, undo, dirty)
        for key in sorted([key for key, value in changes.items() if value is not None and key not in index]):
            self._add(key, undo, dirty)
        while self._keys[-1] is None:
            self._free.remove(len(self._keys) - 1)
            self._keys.pop()
            self._next.pop()
        dirty.update([index[key] for key, value in changes.items() if value is not None])
        self._rehash(dirty, changes, values, undo)
        return undo

    def _add(self, key: str, undo: TreeUndo, dirty: set[int]) -> None:
        if self._free:
            slot: int = self._free.pop(0)
        else:
            slot = len(self._keys)
            self._keys.append(None)
            self._next.append(0)
            undo.most = max(undo.most, slot + 1)
        before = self._index[self._order[self._order.bisect_left(key) - 1]]
        self._link(slot, self._next[before], undo, dirty)
        self._link(before, slot, undo, dirty)
        self._take(key, slot)
        undo.moves.append((True, key, slot))
        undo.places.setdefault(key, None)
        undo.held.setdefault(slot, None)

    def _remove(self, key: str, undo: TreeUndo, dirty: set[int]) -> None:
        slot = self._index[key]
        before = self._index[self._order[self._order.bisect_left(key) - 1]]
        self._link(before, self._next[slot], undo, dirty)
        self._link(slot, 0, undo, dirty)
        self._leave(key, slot)
        undo.moves.append((False, key, slot))
        undo.places.setdefault(key, slot)
        undo.held.setdefault(slot, key)

    def _take(self, key: str, slot: int) -> None:
        self._keys[slot] = key
        self._index[key] = slot
        self._order.add(key)

    def _leave(self, key: str, slot: int) -> None:
        self._keys[slot] = None
        del self._index[key]
        self._order.remove(key)
        self._free.add(slot)

    def _link(self, slot: int, following: int, undo: TreeUndo, dirty: set[int]) -> None:
        undo.next.setdefault(slot, self._next[slot])
        self._next[slot] = following
        dirty.add(slot)

    def undo(self, undo: TreeUndo) -> None:
        """Take an update back; the latest one first."""
        for slot in range(len(self._keys), undo.most):
            self._keys.append(None)
            self._next.append(0)
            self._free.add(slot)
        for added, key, slot in reversed(undo.moves):
            if added:
                self._leave(key, slot)
            else:
                self._free.remove(slot)
                self._take(key, slot)
        for slot in range(undo.count, undo.most):
            self._free.remove(slot)
        del self._keys[undo.count :], self._next[undo.count :]
        for slot, following in undo.next.items():
            if slot < undo.count:
                self._next[slot] = following
        self._fit(widths_of(undo.count))
        for row, nodes in zip(self._levels, undo.nodes, strict=False):
            for position, node in nodes.items():
                row[position * 32 : position * 32 + 32] = node

    # Hashing

    def _rehash(
        self, dirty: set[int], changes: Mapping[str, bytes | None], values: Values, undo: TreeUndo
    ) -> None:
        """Hash what changed, level by level; what stood there goes into the undo first."""
        widths, before = widths_of(len(self._keys)), widths_of(undo.count)
        shrunk = widths[0] < undo.count
        touched = [dirty | {widths[0] - 1} if shrunk else dirty]
        while len(touched) < len(widths):
            touched.append({position >> 2 for position in touched[-1]})
        for level, width in enumerate(before):
            row = self._levels[level]
            now = widths[level] if level < len(widths) else 0
            lost = range(now, width)
            changed = [i for i in touched[level] if i < width] if level < len(widths) else []
            undo.nodes.append({i: bytes(row[i * 32 : i * 32 + 32]) for i in [*changed, *lost]})
        self._fit(widths)
        keys = self._keys

        def value_of(slot: int) -> bytes:
            key = keys[slot]
            return (changes.get(key) or values(key)) if key else b""

        self._hash_leaves([slot for slot in touched[0] if slot < widths[0]], value_of)
        for level in range(1, len(widths)):
            self._hash_groups(level, [i for i in touched[level] if i < widths[level]])

    def _fit(self, widths: list[int]) -> None:
        """Levels of these widths; what is new is empty."""
        del self._levels[len(widths) :]
        for level, width in enumerate(widths):
            if level == len(self._levels):
                self._levels.append(bytearray())
            row = self._levels[level]
            del row[width * 32 :]
            row.extend(bytes(width * 32 - len(row)))

    def _hash_leaves(self, slots: Iterable[int], value_of: Callable[[int], bytes]) -> None:
        row, keys, following = self._levels[0], self._keys, self._next
        for slot in slots:
            key = keys[slot]
            if key is None:
                row[slot * 32 : slot * 32 + 32] = EMPTY
                continue
            after = keys[following[slot]] or SENTINEL
            name, value, next_name = key.encode(), value_of(slot), after.encode()
            if len(name) < 256 > len(value) and len(next_name) < 256:
                data = b"".join(
                    (
                        b"\x00",
                        _LENGTHS[len(name)],
                        name,
                        _LENGTHS[len(value)],
                        value,
                        _LENGTHS[len(next_name)],
                        next_name,
                    )
                )
                row[slot * 32 : slot * 32 + 32] = sha256(data).digest()
            else:
                row[slot * 32 : slot * 32 + 32] = hash_leaf(name, value, next_name)

    def _hash_groups(self, level: int, positions: Iterable[int]) -> None:
        below, row = self._levels[level - 1], self._levels[level]
        for position in positions:
            children = below[position * 128 : position * 128 + 128]
            if len(children) < 128:
                children = children.ljust(128, b"\x00")
            row[position * 32 : position * 32 + 32] = sha256(b"\x01" + children).digest()

    # Proving

    def root_before(self, since: Sequence[TreeUndo]) -> bytes:
        """The root before these updates, the oldest first."""
        past = _Past(self, since)
        return close_root(self.name, past.count, past.node(len(widths_of(past.count)) - 1, 0))

    def prove(self, key: str, values: Values, since: Sequence[TreeUndo] = ()) -> TreeProof:
        """Proof for the key if it is there, else for the leaf before it, whose `next_key` jumps over it.

        `since`: the updates that came after the state to prove, the oldest first; `values` answers for that state.
        """
        past = _Past(self, since)
        if past.slot_of(key) is None:
            key = past.key_before(key)
        slot = past.slot_of(key)
        assert slot is not None, "the sentinel is always there"
        groups: list[tuple[bytes, bytes, bytes]] = []
        position = slot
        for level, _ in enumerate(widths_of(past.count)[:-1]):
            start = position // 4 * 4
            group = [past.node(level, start + i) for i in range(4) if start + i != position]
            groups.append((group[0], group[1], group[2]))
            position //= 4
        value = values(key) if slot else b""
        return TreeProof(slot, past.count, key.encode(), value, past.next_key(slot).encode(), groups)


class _Past:
    """A tree as it stood before some updates, read through what they changed."""

    def __init__(self, tree: IndexedTree, since: Sequence[TreeUndo]) -> None:
        self._tree = tree
        self._since = since
        self.count = since[0].count if since else len(tree._keys)
        self._widths = widths_of(self.count)

    def slot_of(self, key: str) -> int | None:
        for undo in self._since:
            if key in undo.places:
                return undo.places[key]
        return self._tree._index.get(key)

    def key_before(self, key: str) -> str:
        """The greatest key below one that is not there."""
        order = self._tree._order
        position = order.bisect_left(key) - 1
        while self.slot_of(order[position]) is None:
            position -= 1
        gone = [name for undo in self._since for name in undo.places if order[position] < name < key]
        return max([name for name in gone if self.slot_of(name) is not None], default=order[position])

    def next_key(self, slot: int) -> str:
        following = next((undo.next[slot] for undo in self._since if slot in undo.next), None)
        if following is None:
            following = self._tree._next[slot]
        return self._key_at(following)

    def _key_at(self, slot: int) -> str:
        for undo in self._since:
            if slot in undo.held:
                return undo.held[slot] or SENTINEL
        return self._tree._keys[slot] or SENTINEL

    def node(self, level: int, position: int) -> bytes:
        if position >= self._widths[level]:
            return EMPTY
        for undo in self._since:
            if level < len(undo.nodes) and position in undo.nodes[level]:
                return undo.nodes[level][position]
        row = self._tree._levels[level]
        return bytes(row[position * 32 : position * 32 + 32])


def check_leaf(root: bytes, name: str, proof: TreeProof) -> bool:
    """Does the proof's leaf stand in the store with this root?"""
    if not 0 <= proof.index < proof.count:
        return False
    node = hash_leaf(proof.key, proof.value, proof.next_key)
    position, width = proof.index, proof.count
    for others in proof.groups:
        if width <= 1 or any(len(other) != 32 for other in others):
            return False
        children = list(others)
        children.insert(position % 4, node)
        node = hash_group(b"".join(children))
        position, width = position // 4, (width + 3) // 4
    return width == 1 and close_root(name, proof.count, node) == root


def proves_value(root: bytes, name: str, key: bytes, value: bytes, proof: TreeProof) -> bool:
    return proof.key == key and proof.value == value and check_leaf(root, name, proof)


def proves_absence(root: bytes, name: str, key: bytes, proof: TreeProof) -> bool:
    jumps_over = proof.key < key and (proof.next_key == b"" or key < proof.next_key)
    return jumps_over and check_leaf(root, name, proof)
