"""One process that searches nonces: `python -m aitbc.workshop.worker`, work on stdin, nonces on stdout.

    id difficulty first_nonce before after     →     id nonce

A line replaces the work before it; the end of stdin ends the process. It imports nothing of ours, to start quickly.
"""

import os
import select
import sys
from hashlib import sha256

BATCH = 65_536
"""Tries between two looks at stdin: a new template waits for 0.1 s at most."""


def search(before: str, after: str, difficulty: int, first: int, count: int) -> int | None:
    """The first nonce of so many whose block has the work. The nonce stands at the beginning of a text of two or three
    SHA-256 blocks, so nothing can be hashed ahead; formatting costs as much as hashing."""
    text = (before + "%d" + after).encode()
    zeros = "0" * difficulty
    for nonce in range(first, first + count):
        if sha256(text % nonce).hexdigest().startswith(zeros):
            return nonce
    return None


def main() -> None:
    work: tuple[str, int, str, str] | None = None
    nonce, pending = 0, b""
    stdin = sys.stdin.fileno()
    while True:
        if work is None or select.select([stdin], [], [], 0)[0]:
            data = os.read(stdin, 1 << 16)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            if lines:
                work, nonce = _parse(lines[-1].decode())
            continue
        id_, difficulty, before, after = work
        found = search(before, after, difficulty, nonce, BATCH)
        nonce += BATCH
        if found is not None:
            print(id_, found, flush=True)
            work = None


def _parse(line: str) -> tuple[tuple[str, int, str, str], int]:
    id_, difficulty, first, before, after = line.split(" ")
    return (id_, int(difficulty), before, after), int(first)


if __name__ == "__main__":
    main()
