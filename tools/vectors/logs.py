"""Vectors of a validator's log: whole, torn, damaged, and of version 1."""

import zlib
from typing import Any

import by_the_book as book
from fixtures import h

Json = Any

GENESIS_HASH, MARK = h("log genesis"), h("log mark")[:16]
NAME, BLOCK_HASH = h("log candidate"), h("log block")
CANDIDATE = [0, 1, 0, h("log parent"), BLOCK_HASH]
FRAMES: list[list[Json]] = [
    [
        ["block", BLOCK_HASH, b"the block's bytes"],
        ["candidate", CANDIDATE],
        ["vote", "candidate", 0, 1, NAME],
        ["vote", "notar", 0, 1, NAME],
    ],
    [["certificate", ["notar", CANDIDATE, 1, [bytes(range(64))]]], ["vote", "final", 0, 1, NAME]],
    [["vote", "skip", 0, 2, bytes(32)]],
]


# simplex.md, "The log"


def head(mark: bytes) -> bytes:
    content = b"AITBCLG2" + GENESIS_HASH + mark
    return content + crc(content)


def frame(records: list[Json], mark: bytes) -> bytes:
    payload = book.msgpack(records)
    return mark + len(payload).to_bytes(4, "big") + crc(payload) + payload


def crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


def logs() -> Json:
    first, second, third = (frame(records, MARK) for records in FRAMES)
    start = head(MARK) + first
    whole = start + second + third
    old = b"AITBCLG1" + GENESIS_HASH + b"".join(frame(records, b"") for records in FRAMES)
    decoy = frame(FRAMES[2], b"") + frame(FRAMES[2], bytes(16))
    with_decoy = frame([["block", BLOCK_HASH, decoy], *FRAMES[0][1:]], MARK)
    unread = [
        ("a bit of the first frame", start[:-1] + bytes([start[-1] ^ 1]) + second),
        ("a bit of the mark in the head", damaged(whole, 40)),
        ("a bit of the first length", damaged(whole, len(head(MARK)) + 16)),
        ("a bit of the first frame's mark", damaged(whole, len(head(MARK)))),
        ("two frames torn", start[:-1] + second[:-1]),
        ("a torn head", whole[:50]),
        ("another chain", whole.replace(GENESIS_HASH, h("another genesis"))),
        ("version 1, torn", old[:-1]),
    ]
    return {
        "genesis_hash": GENESIS_HASH.hex(),
        "mark": MARK.hex(),
        "frames": [[book.msgpack(record).hex() for record in records] for records in FRAMES],
        "logs": [
            case("new", b"", 0, 0, b""),
            case("a head only", head(MARK), 0, len(head(MARK))),
            case("whole", whole, 3, len(whole)),
            case("the last frame torn", whole[:-1], 2, len(whole) - len(third)),
            case(
                "torn in the last mark", (start + second + third)[: -len(third) + 9], 2, len(start + second)
            ),
            case("torn in a block that holds frames", start + with_decoy[:-1], 1, len(start)),
            case("version 1", old, 3, len(old), b""),
        ],
        "refused": [{"name": name, "log": log.hex(), "reason": "damaged"} for name, log in unread],
    }


def case(name: str, log: bytes, frames: int, length: int, mark: bytes = MARK) -> Json:
    return {"name": name, "log": log.hex(), "frames": frames, "length": length, "mark": mark.hex()}


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
