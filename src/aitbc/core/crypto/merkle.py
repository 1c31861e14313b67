"""Binary Merkle trees in the manner of RFC 6962: lists of transactions, outcomes, receipt parts.

Leaf and inner nodes hash under different prefixes; the root of a list also commits to its length, so no list can
pose as another.
"""

from hashlib import sha256

import msgspec

from aitbc.core.crypto.hashing import MAX_COUNT, tagged, u64


class ListProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Proof that a leaf is at `index` of a list of `count`: the sibling hashes from the leaf up."""

    index: int
    count: int
    path: list[bytes]


def _leaf(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def _inner(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _levels(leaves: list[bytes]) -> list[list[bytes]]:
    """From hashed leaves to the single top; an odd node at the end moves up as it is (RFC 6962's shape)."""
    levels = [[_leaf(data) for data in leaves]]
    while len(levels[-1]) > 1:
        row = levels[-1]
        above = [_inner(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        if len(row) % 2:
            above.append(row[-1])
        levels.append(above)
    return levels


def _close(count: int, top: bytes) -> bytes:
    return tagged("aitbc/list/1", u64(count), top)


class ListNodes:
    """The nodes of a list's tree, 64 bytes for each leaf: any of them is proved without hashing the others again."""

    def __init__(self, leaves: list[bytes]) -> None:
        assert leaves, "a list without leaves has nothing to prove"
        self._count = len(leaves)
        self._rows = [b"".join(row) for row in _levels(leaves)[:-1]]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum([len(row) for row in self._rows])

    def prove(self, index: int) -> ListProof:
        """Proof for the leaf at `index`."""
        assert 0 <= index < self._count, "the leaf must be in the list"
        path: list[bytes] = []
        position = index
        for row in self._rows:
            at = (position ^ 1) * 32
            if at < len(row):
                path.append(row[at : at + 32])
            position //= 2
        return ListProof(index, self._count, path)


def list_root(leaves: list[bytes]) -> bytes:
    """Root of a list, empty lists included."""
    return _close(len(leaves), _levels(leaves)[-1][0] if leaves else b"")


def prove_item(leaves: list[bytes], index: int) -> ListProof:
    """Proof for the leaf at `index`."""
    return ListNodes(leaves).prove(index)


def prove_range(leaves: list[bytes], start: int, stop: int) -> list[bytes]:
    """The nodes that prove leaves start … stop − 1: level by level those beside the range, left before right."""
    assert 0 <= start < stop <= len(leaves), "the range must be in the list"
    path: list[bytes] = []
    for row in _levels(leaves)[:-1]:
        if start % 2:
            path.append(row[start - 1])
        if stop % 2 and stop < len(row):
            path.append(row[stop])
        start, stop = start // 2, (stop + 1) // 2
    return path


def range_root(leaves: list[bytes], *, start: int, count: int, path: list[bytes]) -> bytes | None:
    """Root of the list of `count` leaves that has these from `start` on; None when the path does not fit."""
    if not leaves or not 0 <= start <= count - len(leaves):
        return None
    row, width = [sha256(b"\x00" + data).digest() for data in leaves], count
    beside = iter(path)
    while width > 1:
        if start % 2:
            left = next(beside, None)
            if left is None:
                return None
            row.insert(0, left)
            start -= 1
        if len(row) % 2 and start + len(row) < width:
            right = next(beside, None)
            if right is None:
                return None
            row.append(right)
        pairs = zip(row[::2], row[1::2], strict=False)
        above = [sha256(b"\x01" + a + b).digest() for a, b in pairs]
        if len(row) % 2:
            above.append(row[-1])
        row, start, width = above, start // 2, (width + 1) // 2
    return _close(count, row[0]) if next(beside, None) is None else None


def check_item(root: bytes, leaf: bytes, proof: ListProof) -> bool:
    """Does `proof` show that `leaf` is in the list with this root?"""
    if not 0 <= proof.index < proof.count < MAX_COUNT:
        return False
    node, position, width = _leaf(leaf), proof.index, proof.count
    path = iter(proof.path)
    while width > 1:
        if position ^ 1 < width:
            sibling = next(path, None)
            if sibling is None:
                return False
            node = _inner(sibling, node) if position % 2 else _inner(node, sibling)
        position //= 2
        width = (width + 1) // 2
    return next(path, None) is None and _close(proof.count, node) == root
