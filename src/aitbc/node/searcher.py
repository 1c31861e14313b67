"""One process that searches nonces: `python -m aitbc.node.searcher`, work on stdin, nonces on stdout.

    id search target first     →     id nonce tries          (search and target in hexadecimal)

A line replaces the work before it, `stop` ends it, and the end of stdin ends the process: however the node ends, nobody
goes on searching for it. It imports nothing of ours, to start quickly. docs/spec/nakamoto.md "Mining"
"""

import os
import select
import sys
from hashlib import sha256

TAILS = [bytes((high, low)) for high in range(256) for low in range(256)]
"""The last two bytes of a nonce. A batch of them takes 30 ms: so soon a new template is heard."""
REPORT = 16
"""Batches between two words about how many tries there were: half a second."""
NICENESS = 10
"""Whoever mines on a core that the node needs too waits for the node."""

Work = tuple[str, bytes, bytes]
"""Id, what is searched for, and the greatest hash that will do."""


def search(digest: bytes, most: bytes, first: int) -> int | None:
    """The first nonce of a batch, from `first` on, that has the work; `first` is a multiple of the batch.

    What is hashed, 32 bytes and the nonce, is one block of SHA-256: nothing of it can be hashed ahead. OpenSSL does it
    with the processor's own instructions; what costs is Python's loop, so the texts before a batch are joined once.
    2.4 M tries a second and core (bench/mining.py); numpy's vectors came to 1.4.
    """
    head = digest + (first >> 16).to_bytes(6, "big")
    for place, tail in enumerate(TAILS):
        if sha256(head + tail).digest() <= most:
            return first + place
    return None


def main() -> None:
    os.nice(NICENESS)
    work: Work | None = None
    first = tries = 0
    pending, stdin = b"", sys.stdin.fileno()
    while True:
        if work is None or select.select([stdin], [], [], 0)[0]:
            data = os.read(stdin, 1 << 16)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            if lines:
                work, first = _parse(lines[-1].decode())
            continue
        id_, digest, most = work
        nonce = search(digest, most, first)
        first += len(TAILS)
        tries += len(TAILS) if nonce is None else nonce % len(TAILS) + 1
        if nonce is not None or tries >= REPORT * len(TAILS):
            print(id_, "-" if nonce is None else nonce, tries, flush=True)
            tries = 0
        if nonce is not None:
            work = None


def _parse(line: str) -> tuple[Work | None, int]:
    if line == "stop":
        return None, 0
    id_, digest, most, first = line.split(" ")
    return (id_, bytes.fromhex(digest), bytes.fromhex(most)), int(first)


if __name__ == "__main__":
    main()
