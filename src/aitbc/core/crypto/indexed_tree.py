"""Indexed 4-ary Merkle tree: a keyed store in a flat array, with links in key order so that absence can be proved.

Each key owns a slot; a slot that was freed is taken again, the lowest first. Each leaf commits to its key, its value
and the next key in order; slot 0 is the sentinel below every key, so the leaf before a missing key proves that it is
missing. What is hashed follows from which key and value each slot holds and from nothing else. The tree keeps hashes
and order but no values: whoever owns them hands them in.
Design and costs: indexed Merkle trees (IACR eprint 2021/1263). docs/spec/state.md
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import takewhile
from typing import Any

import msgspec
from sortedcontainers import SortedList

from aitbc.core.crypto.hashing import MAX_COUNT, fields, tagged, u64

EMPTY = bytes(32)
"""What stands for a missing child and for a free slot."""
SENTINEL = ""
"""Key of slot 0; where a slot's key is asked for, it also says that the slot is free."""
MAX_SLOTS = 1 << 32
"""Slot numbers are kept in four bytes; a tree that large would need 500 GB."""
CHUNK = 4_096
"""Leaves or nodes hashed at a time while loading, so that little is held twice."""

_SIZES = [size.to_bytes(4, "big") for size in range(1_024)]
"""What stands in front of a field of this size."""
_HEADS = [b"\x00" + size for size in _SIZES]
"""What stands in front of a leaf whose key has this size."""

Values = Callable[[str], bytes]
"""Key → the bytes that its leaf commits to; asked only for keys that are there."""


class TreeProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A leaf with the other three hashes of its group on each level, from the leaf up."""

    index: int
    count: int
    key: bytes
    value: bytes
    next_key: bytes
    groups: list[tuple[bytes, bytes, bytes]]


class TreeUndo:
    """What an update changed, as it was before: enough to take it back, or to prove how things stood.

    36 bytes for each hash that changed, which is 130 bytes for each key when blocks are large, and 30
    bytes for each key that came.
    """

    __slots__ = ("added", "below", "count", "gone", "held", "links", "nodes", "removed")

    def __init__(self, count: int) -> None:
        self.count = count
        """Slots before, the sentinel included."""
        self.added: dict[str, int] = {}
        """Key that came → its slot."""
        self.below: dict[str, str] = {}
        """Key that came → the greatest key below it that was there before and stayed."""
        self.removed: dict[str, int] = {}
        """Key that went → the slot it had."""
        self.gone: list[str] = []
        """The keys that went, in order."""
        self.held: dict[int, str] = {}
        """Slot that a key left → that key."""
        self.links: dict[int, int] = {}
        """Slot whose next key changed → the slot of the next key before."""
        self.nodes: list[tuple[array[int], bytes]] = []
        """Per level: positions in ascending order, and the hashes that stood there, joined."""


def hash_leaf(key: bytes, value: bytes, next_key: bytes) -> bytes:
    return sha256(b"\x00" + fields(key, value, next_key)).digest()


def hash_leaves(
    keys: Sequence[bytes], values: Sequence[bytes | None], next_keys: Sequence[bytes]
) -> list[bytes]:
    """Many leaves, in half the time unless a field is very long; a value None stands for a free slot."""
    try:
        return [
            EMPTY
            if v is None
            else sha256(b"".join((_HEADS[len(k)], k, _SIZES[len(v)], v, _SIZES[len(n)], n))).digest()
            for k, v, n in zip(keys, values, next_keys, strict=True)
        ]
    except IndexError:
        return [
            EMPTY if v is None else hash_leaf(k, v, n)
            for k, v, n in zip(keys, values, next_keys, strict=True)
        ]


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
        """Key → slot."""
        self._keys: list[str] = [SENTINEL]
        """Slot → key."""
        self._next = array("I", [0])
        """Slot → slot of the next key; 0: there is none greater, or the slot is free."""
        self._order = _Order(self._keys, array("I", [0]))
        self._free: SortedList[int] = SortedList()
        self._levels = _Levels()
        self._levels.fit([1])
        self._levels.put(0, [0], [hash_leaf(b"", b"", b"")])

    def __len__(self) -> int:
        """Number of keys, the sentinel not counted."""
        return len(self._index) - 1

    def keys(self, prefix: str = "") -> list[str]:
        """Keys with a prefix, in order."""
        found = map(self._keys.__getitem__, self._order.onward(prefix))
        return [key for key in takewhile(lambda key: key.startswith(prefix), found) if key != SENTINEL]

    def index_of(self, key: str) -> int | None:
        return self._index.get(key)

    def root(self) -> bytes:
        count = len(self._keys)
        return close_root(self.name, count, self._levels.node(len(widths_of(count)) - 1, 0))

    # Changing

    def load(self, rows: Sequence[tuple[int, str, bytes]]) -> None:
        """Fill an empty tree with (slot, key, value), in any order; slots that are left out are free.

        Raises ValueError for rows that no tree can have.
        """
        assert len(self._keys) == 1, "only an empty tree is loaded"
        if not rows:
            return
        index = {key: slot for slot, key, _ in rows}
        slots = list(index.values())
        count = max(slots) + 1
        if not 0 < min(slots) < count <= MAX_SLOTS:
            raise ValueError(f"store {self.name} has slots from {min(slots)} to {max(slots)}")
        keys = [SENTINEL] * count
        _each(keys.__setitem__, slots, index)
        if keys.count(SENTINEL) != count - len(rows):
            raise ValueError(f"store {self.name} has a slot or a key twice, or an empty key")
        in_order = array("I", [0, *sorted(slots, key=keys.__getitem__)])
        index[SENTINEL] = 0
        self._index, self._keys = index, keys
        self._next = array("I", bytes(4 * count))
        _each(self._next.__setitem__, in_order, in_order[1:])
        self._order = _Order(keys, in_order)
        self._free = SortedList([slot for slot in range(1, count) if not keys[slot]])
        widths = widths_of(count)
        self._levels.fit(widths)
        self._levels.put(0, [0], self._hash_leaves([0], [b""]))
        for at in range(0, len(rows), CHUNK):
            chunk = slots[at : at + CHUNK]
            values = [value for _, _, value in rows[at : at + CHUNK]]
            self._levels.put(0, chunk, self._hash_leaves(chunk, values))
        for level, width in enumerate(widths[1:], 1):
            for at in range(0, width, CHUNK):
                groups = range(at, min(at + CHUNK, width))
                self._levels.put(level, groups, self._levels.hash_groups(level - 1, groups))

    def update(self, changes: Mapping[str, bytes | None], values: Values) -> TreeUndo:
        """Set keys, and remove those whose value is None; returns how to take it back.

        Removals come first, then new keys take the lowest free slots in key order, then free slots at the end are
        given up. `values` is asked for keys that do not change but whose next key does.
        """
        assert SENTINEL not in changes, "the sentinel belongs to the tree"
        index, undo = self._index, TreeUndo(len(self._keys))
        leaves: dict[int, bytes | None] = {}
        """Slot → value; None: it is free from now on."""
        gone, new = [], []
        for key, value in changes.items():
            slot = index.get(key)
            if slot is None:
                if value is not None:
                    new.append((key, value))
            elif value is None:
                gone.append(key)
            else:
                leaves[slot] = value
        undo.gone = sorted(gone)
        for key in undo.gone:
            self._remove(key, undo)
        for key, value in sorted(new):
            leaves[self._add(key, undo)] = value
        for slot in undo.links.keys() - leaves.keys():
            key = self._keys[slot]
            leaves[slot] = values(key) if key else None if slot else b""
        self._rehash(leaves, undo)
        self._give_up_slots()
        return undo

    def _add(self, key: str, undo: TreeUndo) -> int:
        slot: int = self._free[0] if self._free else len(self._keys)
        before = self._take(key, slot)
        self._link(slot, self._next[before], undo)
        self._link(before, slot, undo)
        undo.added[key] = slot
        name = self._keys[before]
        undo.below[key] = undo.below.get(name, name)
        return slot

    def _remove(self, key: str, undo: TreeUndo) -> None:
        slot, before = self._leave(key)
        self._link(before, self._next[slot], undo)
        self._link(slot, 0, undo)
        undo.removed[key], undo.held[slot] = slot, key

    def _link(self, slot: int, following: int, undo: TreeUndo) -> None:
        undo.links.setdefault(slot, self._next[slot])
        self._next[slot] = following

    def _take(self, key: str, slot: int) -> int:
        """Give a free slot, or one beyond the end, to a key; returns the slot of the key before."""
        if slot < len(self._keys):
            self._free.remove(slot)
        while len(self._keys) <= slot:
            if len(self._keys) < slot:
                self._free.add(len(self._keys))
            self._keys.append(SENTINEL)
            self._next.append(0)
        self._keys[slot] = key
        self._index[key] = slot
        return self._order.add(key, slot)

    def _leave(self, key: str) -> tuple[int, int]:
        """Free a key's slot; returns it and the slot of the key before."""
        slot, before = self._index.pop(key), self._order.remove(key)
        self._keys[slot] = SENTINEL
        self._free.add(slot)
        return slot, before

    def _taken_end(self) -> int:
        """One more than the highest taken slot."""
        end = len(self._keys)
        while end > 1 and not self._keys[end - 1]:
            end -= 1
        return end

    def _give_up_slots(self) -> None:
        """Drop the free slots at the end."""
        for _ in range(self._taken_end(), len(self._keys)):
            self._keys.pop()
            self._next.pop()
            self._free.pop()

    def undo(self, undo: TreeUndo) -> None:
        """Take an update back; the latest one first."""
        most = max(len(self._keys), undo.count)
        for key in undo.added:
            self._leave(key)
        for key, slot in undo.removed.items():
            self._take(key, slot)
        self._give_up_slots()
        assert len(self._keys) == undo.count, "the latest update is taken back first"
        for slot, following in undo.links.items():
            if slot < undo.count:
                self._next[slot] = following
        self._levels.fit(widths_of(most))
        for level, (positions, nodes) in enumerate(undo.nodes):
            self._levels.put(level, positions, _nodes_of(nodes))
        self._levels.fit(widths_of(undo.count))

    # Hashing

    def _rehash(self, leaves: dict[int, bytes | None], undo: TreeUndo) -> None:
        """Hash these leaves and what is above them, level by level; what stood there goes into the undo."""
        count = self._taken_end()
        leaves.update(dict.fromkeys(range(count, undo.count)))
        widths, most = widths_of(count), widths_of(max(count, undo.count))
        positions = sorted(leaves)
        nodes = self._hash_leaves(positions, [leaves[slot] for slot in positions])
        self._levels.fit(most)
        for level in range(len(most)):
            undo.nodes.append((array("I", positions), self._levels.swap(level, positions, nodes)))
            positions = list(dict.fromkeys([position >> 2 for position in positions]))
            width = widths[level + 1] if level + 1 < len(widths) else 0
            nodes = self._levels.hash_groups(level, positions[: bisect_left(positions, width)])
            nodes += [EMPTY] * (len(positions) - len(nodes))
        self._levels.fit(widths)

    def _hash_leaves(self, slots: Sequence[int], values: Sequence[bytes | None]) -> list[bytes]:
        """Leaves of slots with their values; None: the slot is free."""
        keys, following = self._keys, self._next
        names = [keys[slot].encode() for slot in slots]
        next_names = [keys[following[slot]].encode() for slot in slots]
        return hash_leaves(names, values, next_names)

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
        for level in range(len(widths_of(past.count)) - 1):
            start = position // 4 * 4
            group = [past.node(level, start + i) for i in range(4) if start + i != position]
            groups.append((group[0], group[1], group[2]))
            position //= 4
        value = values(key) if slot else b""
        return TreeProof(slot, past.count, key.encode(), value, past.next_key(slot).encode(), groups)


def _each(action: Callable[[Any, Any], None], first: Iterable[Any], second: Iterable[Any]) -> None:
    """Call for every pair, at the speed of C."""
    deque(map(action, first, second), maxlen=0)


class _Order:
    """The taken slots in the order of their keys, in short runs, so that one can be put in between."""

    RUN = 256
    """Slots in a run when it is made; it is cut in two at twice as many."""

    def __init__(self, keys: list[str], slots: "array[int]") -> None:
        self._keys = keys
        self._runs = [slots[at : at + self.RUN] for at in range(0, len(slots), self.RUN)]
        self._first = [keys[run[0]] for run in self._runs]
        """The first key of each run; the sentinel's stays in front."""

    def before(self, key: str) -> int:
        """Slot of the greatest key below this one."""
        run = self._runs[bisect_left(self._first, key) - 1]
        return run[bisect_left(run, key, key=self._keys.__getitem__) - 1]

    def onward(self, key: str) -> Iterator[int]:
        """Slots from this key on, itself included."""
        number = bisect_right(self._first, key) - 1
        run = self._runs[number]
        yield from run[bisect_left(run, key, key=self._keys.__getitem__) :]
        for run in self._runs[number + 1 :]:
            yield from run

    def add(self, key: str, slot: int) -> int:
        """Put a slot in its place; returns the one before it."""
        number = bisect_left(self._first, key) - 1
        run = self._runs[number]
        at = bisect_left(run, key, key=self._keys.__getitem__)
        run.insert(at, slot)
        if len(run) == 2 * self.RUN:
            self._runs[number : number + 1] = [run[: self.RUN], run[self.RUN :]]
            self._first.insert(number + 1, self._keys[run[self.RUN]])
        return run[at - 1]

    def remove(self, key: str) -> int:
        """Take a key's slot out; returns the one before it."""
        number = bisect_right(self._first, key) - 1
        run = self._runs[number]
        at = bisect_left(run, key, key=self._keys.__getitem__)
        before = run[at - 1] if at else self._runs[number - 1][-1]
        del run[at]
        if not run:
            del self._runs[number], self._first[number]
        elif not at:
            self._first[number] = self._keys[run[0]]
        return before


class _Levels:
    """The hashes. Level 0 holds the leaves, each level above it one node for four of the level below.

    Four nodes lie together as they are hashed, behind a byte 0x01; what is missing in the last group is EMPTY.
    """

    GROUP = 129

    def __init__(self) -> None:
        self._rows: list[bytearray] = []

    def fit(self, widths: Sequence[int]) -> None:
        """Make the levels this wide; what is new is EMPTY, what is cut off must have been made so."""
        del self._rows[len(widths) :]
        self._rows.extend([bytearray() for _ in range(len(widths) - len(self._rows))])
        for row, width in zip(self._rows, widths, strict=True):
            groups = (width + 3) >> 2
            if len(row) < groups * self.GROUP:
                row.extend((b"\x01" + 4 * EMPTY) * (groups - len(row) // self.GROUP))
            elif len(row) > groups * self.GROUP:
                del row[groups * self.GROUP :]

    def node(self, level: int, position: int) -> bytes:
        at = _offset(position)
        return bytes(self._rows[level][at : at + 32])

    def put(self, level: int, positions: Sequence[int], nodes: Sequence[bytes]) -> None:
        with memoryview(self._rows[level]) as row:
            for position, node in zip(positions, nodes, strict=True):
                row[(at := (position << 5) + (position >> 2) + 1) : at + 32] = node

    def swap(self, level: int, positions: Sequence[int], nodes: Sequence[bytes]) -> bytes:
        """Put nodes; returns those that stood there, joined."""
        row, before = self._rows[level], []
        with memoryview(row) as view:
            for position, node in zip(positions, nodes, strict=True):
                at = (position << 5) + (position >> 2) + 1
                before.append(row[at : at + 32])
                view[at : at + 32] = node
        return b"".join(before)

    def hash_groups(self, level: int, groups: Sequence[int]) -> list[bytes]:
        """The nodes above groups of a level."""
        size = self.GROUP
        with memoryview(self._rows[level]) as row:
            return [sha256(row[(at := group * size) : at + size]).digest() for group in groups]


def _offset(position: int) -> int:
    """Where a node lies in its row: a byte in front of every four."""
    return (position << 5) + (position >> 2) + 1


def _nodes_of(joined: bytes) -> list[bytes]:
    return [joined[at : at + 32] for at in range(0, len(joined), 32)]


class _Past:
    """A tree as it stood before some updates, read through what they changed."""

    def __init__(self, tree: IndexedTree, since: Sequence[TreeUndo]) -> None:
        self._tree = tree
        self._since = since
        self.count = since[0].count if since else len(tree._keys)
        self._widths = widths_of(self.count)

    def slot_of(self, key: str) -> int | None:
        for undo in self._since:
            if key in undo.removed:
                return undo.removed[key]
            if key in undo.added:
                return None
        return self._tree._index.get(key)

    def key_before(self, key: str) -> str:
        """The greatest key below one that is not there: one update after the other is looked through, however much
        it changed. What was there before an update is what stayed and what went."""
        found = self._tree._keys[self._tree._order.before(key)]
        for undo in reversed(self._since):
            found = undo.below.get(found, found)
            at = bisect_left(undo.gone, key) - 1
            if at >= 0 and undo.gone[at] > found:
                found = undo.gone[at]
        return found

    def next_key(self, slot: int) -> str:
        links = [undo.links[slot] for undo in self._since if slot in undo.links]
        following = links[0] if links else self._tree._next[slot]
        held = [undo.held[following] for undo in self._since if following in undo.held]
        return held[0] if held else self._tree._keys[following]

    def node(self, level: int, position: int) -> bytes:
        if position >= self._widths[level]:
            return EMPTY
        for undo in self._since:
            positions, nodes = undo.nodes[level]
            at = bisect_left(positions, position)
            if at < len(positions) and positions[at] == position:
                return nodes[32 * at : 32 * at + 32]
        return self._tree._levels.node(level, position)


def check_leaf(root: bytes, name: str, proof: TreeProof) -> bool:
    """Does the proof's leaf stand in the store with this root?"""
    if not 0 <= proof.index < proof.count < MAX_COUNT:
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
