"""The samples of a PNG, whoever packed it; what is none has none."""

import struct
import zlib

import pytest

from aitbc.core.jobs.pictures import MAX_SIDE, Picture, picture_of

FORMAT = bytes([8, 2, 0, 0, 0])


def png(width: int, height: int, rows: bytes, *, form: bytes = FORMAT, cut: int = 0) -> bytes:
    parts = [(b"IHDR", struct.pack(">II", width, height) + form)]
    packed = zlib.compress(rows)
    parts += [(b"IDAT", packed[:5]), (b"IDAT", packed[5:]), (b"IEND", b"")]
    made = [struct.pack(">I", len(data)) + kind + data + b"\0\0\0\0" for kind, data in parts]
    whole = b"\x89PNG\r\n\x1a\n" + b"".join(made)
    return whole[: len(whole) - cut]


FIRST = [10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize(
    ("kind", "line", "shown"),
    [
        (0, [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]),
        (1, [1, 2, 3, 4, 5, 255], [1, 2, 3, 5, 7, 2]),
        (2, [1, 2, 3, 4, 5, 250], [11, 22, 33, 44, 55, 54]),
        (3, [1, 1, 1, 1, 1, 1], [6, 11, 16, 24, 31, 39]),
        (4, [1, 1, 1, 1, 1, 1], [11, 21, 31, 41, 51, 61]),
    ],
    ids=["none", "left", "up", "mean", "nearest"],
)
def test_every_filter_of_a_row(kind: int, line: list[int], shown: list[int]) -> None:
    rows = bytes([0, *FIRST, kind, *line])
    assert picture_of(png(2, 2, rows)) == Picture(2, 2, bytes([*FIRST, *shown]))


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"no picture at all, but long enough to be looked at",
        png(2, 1, bytes([0, *FIRST]), form=bytes([16, 2, 0, 0, 0])),
        png(2, 1, bytes([0, *FIRST]), form=bytes([8, 2, 0, 0, 1])),
        png(2, 1, bytes([5, *FIRST])),
        png(2, 2, bytes([0, *FIRST])),
        png(2, 1, bytes([0, *FIRST, 0])),
        png(2, 1, bytes([0, *FIRST]), cut=22),
        png(0, 1, b""),
        png(MAX_SIDE + 1, 1, bytes(1 + 3 * (MAX_SIDE + 1))),
        png(1, 1, bytes(100 * 1024 * 1024)),
    ],
    ids=[
        "nothing",
        "text",
        "16 bits",
        "interlaced",
        "filter",
        "short",
        "long",
        "cut",
        "empty",
        "wide",
        "bomb",
    ],
)
def test_what_is_no_picture_of_ours(damaged: bytes) -> None:
    assert picture_of(damaged) is None
