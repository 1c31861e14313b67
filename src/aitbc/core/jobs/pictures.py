"""The samples of a PNG, so that two pictures can be compared: files differ where packers do, pictures do not.

Reads what our engines write and their kin: 8 bits, RGB, not interlaced; anything else has no samples.
"""

import zlib
from struct import unpack
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
FORMAT = bytes([8, 2, 0, 0, 0])
"""8 bits a channel, RGB, the only compression and filter methods, not interlaced."""
MAX_SIDE = 4_096
"""Larger than any profile allows; bounds what a small file can unpack to."""
PIXEL = 3


class Picture(NamedTuple):
    width: int
    height: int
    samples: bytes
    """Row by row, red, green and blue of each pixel."""


def picture_of(png: bytes) -> Picture | None:
    """None when it is not such a picture, damaged, or too large."""
    if png[:8] != SIGNATURE or len(png) < 33 or png[12:16] != b"IHDR" or png[24:29] != FORMAT:
        return None
    width, height = unpack(">II", png[16:24])
    if not 0 < width <= MAX_SIDE or not 0 < height <= MAX_SIDE:
        return None
    size = height * (1 + PIXEL * width)
    packed = zlib.decompressobj()
    try:
        rows = packed.decompress(_content(png), size + 1)
    except zlib.error:
        return None
    if len(rows) != size:
        return None
    samples = _unfiltered(rows, PIXEL * width)
    return Picture(width, height, samples) if samples is not None else None


def _content(png: bytes) -> bytes:
    """All IDAT chunks, one after the other; what is cut off is left out."""
    parts, at = [], 8
    while at + 8 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            parts.append(png[at + 8 : at + 8 + length])
        at += 12 + length
    return b"".join(parts)


def _unfiltered(rows: bytes, width: int) -> bytes | None:
    above, result = bytes(width), []
    for start in range(0, len(rows), width + 1):
        line = rows[start + 1 : start + 1 + width]
        if rows[start]:
            filtered = _line(rows[start], line, above)
            if filtered is None:
                return None
            line = filtered
        result.append(line)
        above = line
    return b"".join(result)


def _line(kind: int, line: bytes, above: bytes) -> bytes | None:
    """One row from its filter: 1 left, 2 up, 3 their mean, 4 whichever is nearest to left + up − corner."""
    if kind > 4:
        return None
    done = bytearray(len(line))
    for at, value in enumerate(line):
        left = done[at - PIXEL] if at >= PIXEL else 0
        up, corner = above[at], above[at - PIXEL] if at >= PIXEL else 0
        guess = (left, up, (left + up) // 2, _nearest(left, up, corner))[kind - 1]
        done[at] = (value + guess) & 255
    return bytes(done)


def _nearest(left: int, up: int, corner: int) -> int:
    wanted = left + up - corner
    by_left, by_up, by_corner = abs(wanted - left), abs(wanted - up), abs(wanted - corner)
    if by_left <= by_up and by_left <= by_corner:
        return left
    return up if by_up <= by_corner else corner
