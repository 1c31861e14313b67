"""Indexed 4-ary Merkle tree: a keyed store in a flat array, with links in key order so that absence can be proved.

Key k gets the next free index when it is created and keeps it. Each leaf commits to its key, its value and the next
key in order; leaf 0 is the sentinel below every key, so the leaf before a missing key proves that it is missing.
Design and costs: indexed Merkle trees (IACR eprint 2021/1263). docs/spec/state.md
"""

from hashlib import sha256

import msgspec
from sortedcontainers import SortedList

from aitbc.core.crypto.hashing import fields, tagged, u64

EMPTY = bytes(32)
"""What stands for a missing child."""


class TreeProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A leaf with the other three hashes of its group on each level, from the leaf up."""

    index: int
    count: int
    key: bytes
    value: bytes
    next_key: bytes
    groups: list[tuple[bytes, bytes, bytes]]


def hash_leaf(key: bytes, value: bytes, next_key: bytes) -> bytes:
    return sha256(b"\x00" + fields(key, value, next_key)).digest()


def hash_group(children: bytes) -> bytes:
    """An inner node: the hash of its four children, 128 bytes."""
    return sha256(b"\x01" + children).digest()


def close_root(name: str, count: int, top: bytes) -> bytes:
    """Root of a store: commits to its name and to how many leaves it has, the sentinel included."""
    return tagged("aitbc/store/1", name.encode(), u64(count), top)


class IndexedTree:
    """The tree of one store. `put` collects, `root` hashes what changed since."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._index: dict[bytes, int] = {b"": 0}
        self._keys: list[bytes] = [b""]
        self._values: list[bytes] = [b""]
        self._order: SortedList[bytes] = SortedList([b""])
        self._levels: list[bytearray] = [bytearray(32)]
        self._dirty: set[int] = {0}

    def __len__(self) -> int:
        """Number of keys, the sentinel not counted."""
        return len(self._keys) - 1

    def index_of(self, key: bytes) -> int | None:
        return self._index.get(key)

    def put(self, key: bytes, value: bytes) -> int:
        """Set a key; returns its index. A new key also changes the leaf before it."""
        assert key, "the empty key is the sentinel's"
        index = self._index.get(key)
        if index is None:
            index = len(self._keys)
            self._index[key] = index
            self._keys.append(key)
            self._values.append(value)
            self._levels[0].extend(EMPTY)
            self._order.add(key)
            before = self._order[self._order.index(key) - 1]
            self._dirty.add(self._index[before])
        else:
            self._values[index] = value
        self._dirty.add(index)
        return index

    def root(self) -> bytes:
        """Hash what changed, level by level."""
        self._hash_dirty_leaves()
        return close_root(self.name, len(self._keys), bytes(self._levels[-1]))

    def prove(self, key: bytes) -> TreeProof:
        """Proof for the key if it is there, else for the leaf before it, whose `next_key` jumps over it."""
        self._hash_dirty_leaves()
        if key not in self._index:
            key = self._order[self._order.bisect_left(key) - 1]
        index = self._index[key]
        groups: list[tuple[bytes, bytes, bytes]] = []
        position = index
        for level in self._levels[:-1]:
            start = position // 4 * 4
            group = [self._node(level, start + i) for i in range(4) if start + i != position]
            groups.append((group[0], group[1], group[2]))
            position //= 4
        return TreeProof(index, len(self._keys), key, self._values[index], self._next(key), groups)

    def _next(self, key: bytes) -> bytes:
        position = self._order.index(key) + 1
        return self._order[position] if position < len(self._order) else b""

    @staticmethod
    def _node(level: bytearray, position: int) -> bytes:
        return bytes(level[position * 32 : position * 32 + 32]) or EMPTY

    def _hash_dirty_leaves(self) -> None:
        dirty = sorted(self._dirty)
        self._dirty.clear()
        row = self._levels[0]
        for index in dirty:
            key = self._keys[index]
            row[index * 32 : index * 32 + 32] = hash_leaf(key, self._values[index], self._next(key))
        height = 0
        while len(self._levels[height]) > 32:
            dirty = self._hash_parents(height, dirty)
            height += 1
        del self._levels[height + 1 :]

    def _hash_parents(self, height: int, dirty: list[int]) -> list[int]:
        """Hash the groups above the dirty nodes of one level; returns the dirty nodes of the next."""
        row = self._levels[height]
        width = (len(row) // 32 + 3) // 4
        if height + 1 == len(self._levels):
            self._levels.append(bytearray())
        above = self._levels[height + 1]
        known = len(above) // 32
        if known < width:
            above.extend(bytes(32 * (width - known)))
        parents = sorted({index // 4 for index in dirty} | set(range(known, width)))
        for parent in parents:
            children = bytes(row[parent * 128 : parent * 128 + 128])
            above[parent * 32 : parent * 32 + 32] = hash_group(children.ljust(128, b"\x00"))
        return parents


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
