"""Merkle mountain range over header hashes: `history_root` proves that an old block is an ancestor.

A range of n leaves is one perfect binary tree ("mountain") for each bit of n, highest first. docs/spec/blocks.md
"""

from hashlib import sha256

from aitbc.core.crypto.hashing import tagged, u64
from aitbc.core.types.amounts import MAX_TOTAL

Peaks = list[tuple[int, bytes]]
"""(level of the peak, its hash), highest first."""
Place = tuple[int, int]
"""(level, position): the node over the leaves position · 2^level … (position + 1) · 2^level − 1."""
Node = tuple[int, int, bytes]
"""Level, position, hash."""


def append_leaf(peaks: Peaks, leaf: bytes) -> tuple[Peaks, list[Node]]:
    """The peaks after one more leaf, and the nodes it completes; equal heights merge."""
    result = list(peaks)
    position = leaf_count(peaks)
    level, node = 0, sha256(b"\x00" + leaf).digest()
    nodes = [(level, position, node)]
    while result and result[-1][0] == level:
        _, left = result.pop()
        level, position, node = level + 1, position // 2, sha256(b"\x01" + left + node).digest()
        nodes.append((level, position, node))
    result.append((level, node))
    return result, nodes


def leaf_count(peaks: Peaks) -> int:
    return sum(1 << level for level, _ in peaks)


def peak_places(count: int) -> list[Place]:
    """Where the peaks of a range of `count` leaves are, highest first."""
    places, start = [], 0
    for level in range(count.bit_length() - 1, -1, -1):
        if count >> level & 1:
            places.append((level, start >> level))
            start += 1 << level
    return places


def proof_places(index: int, count: int) -> list[Place]:
    """Which nodes prove the leaf at `index` in a range of `count`: its siblings up to its peak, then the other peaks,
    highest first."""
    assert 0 <= index < count, "the leaf must be in the range"
    mine = next(place for place in peak_places(count) if index >> place[0] == place[1])
    siblings = [(level, (index >> level) ^ 1) for level in range(mine[0])]
    return siblings + [place for place in peak_places(count) if place != mine]


def check_leaf_in_history(root: bytes, leaf: bytes, index: int, count: int, nodes: list[bytes]) -> bool:
    """Do the nodes of `proof_places` show that `leaf` stands at `index` of the range with this root?"""
    if not 0 <= index < count or count > MAX_TOTAL or any(len(node) != 32 for node in nodes):
        return False
    places = peak_places(count)
    mine = next(place for place in places if index >> place[0] == place[1])
    if len(nodes) != mine[0] + len(places) - 1:
        return False
    node = sha256(b"\x00" + leaf).digest()
    for level in range(mine[0]):
        pair = nodes[level] + node if index >> level & 1 else node + nodes[level]
        node = sha256(b"\x01" + pair).digest()
    others = iter(nodes[mine[0] :])
    return peaks_root([(place[0], node if place == mine else next(others)) for place in places]) == root


def peaks_root(peaks: Peaks) -> bytes:
    """One hash for the range; commits to the number of leaves."""
    return tagged("aitbc/history/1", u64(leaf_count(peaks)), b"".join([node for _, node in peaks]))
