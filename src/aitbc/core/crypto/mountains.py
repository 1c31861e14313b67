"""Merkle mountain range over header hashes: `history_root` proves that an old block is an ancestor.

A range of n leaves is one perfect binary tree ("mountain") for each bit of n, highest first. docs/spec/blocks.md
"""

from hashlib import sha256

from aitbc.core.crypto.hashing import tagged, u64

Peaks = list[tuple[int, bytes]]
"""(height of the mountain, hash of its peak), highest first."""


def append_peak(peaks: Peaks, leaf: bytes) -> Peaks:
    """The peaks after one more leaf; equal heights merge."""
    result = list(peaks)
    height, node = 0, sha256(b"\x00" + leaf).digest()
    while result and result[-1][0] == height:
        _, left = result.pop()
        height, node = height + 1, sha256(b"\x01" + left + node).digest()
    result.append((height, node))
    return result


def peaks_root(peaks: Peaks) -> bytes:
    """One hash for the range; commits to the number of leaves."""
    count = sum(1 << height for height, _ in peaks)
    return tagged("aitbc/history/1", u64(count), b"".join([node for _, node in peaks]))
