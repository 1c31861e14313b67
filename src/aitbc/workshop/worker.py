"""One process that searches nonces: `python -m aitbc.workshop.worker`, work on stdin, nonces on stdout.

    id difficulty first_thousand before after     →     id nonce

A line replaces the work before it; the end of stdin ends the process. It imports nothing of ours, to start quickly.
"""

import os
import select
import sys
from hashlib import sha256

BATCH = 64
"""Thousands of tries between two looks at stdin: a new template waits for 0.1 s at most."""

Work = tuple[str, int, str, str]
"""Id, difficulty, and the text before and after the nonce."""


def search(before: str, after: str, difficulty: int, first: int, thousands: int) -> int | None:
    """The first nonce with the work, of so many thousands from 1,000 · `first` on.

    The nonce stands at the beginning of a text of two or three SHA-256 blocks, so none can be hashed ahead. What can be
    saved is Python's part: last digits and the rest are one of a thousand ready texts, and to copy a begun hash costs
    less than to begin one.
    """
    tails = [f"{digits:03d}{after}".encode() for digits in range(1_000)]
    most = ((1 << (256 - 4 * difficulty)) - 1).to_bytes(32, "big")
    for thousand in range(first, first + thousands):
        begin = sha256(f"{before}{thousand}".encode()).copy
        for digits, tail in enumerate(tails):
            attempt = begin()
            attempt.update(tail)
            if attempt.digest() <= most:
                return thousand * 1_000 + digits
    return None


def main() -> None:
    work: Work | None = None
    thousand, pending = 1, b""
    stdin = sys.stdin.fileno()
    while True:
        if work is None or select.select([stdin], [], [], 0)[0]:
            data = os.read(stdin, 1 << 16)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            if lines:
                work, thousand = _parse(lines[-1].decode())
            continue
        id_, difficulty, before, after = work
        found = search(before, after, difficulty, thousand, BATCH)
        thousand += BATCH
        if found is not None:
            print(id_, found, flush=True)
            work = None


def _parse(line: str) -> tuple[Work, int]:
    id_, difficulty, first, before, after = line.split(" ")
    return (id_, int(difficulty), before, after), int(first)


if __name__ == "__main__":
    main()
