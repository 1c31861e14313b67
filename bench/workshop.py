"""The workshop profile: tries of its miner, checks of its signatures, blocks from its file.

Goal: at least 1.5 million tries a second and core.
"""

import time

from common import save, spread

from aitbc.workshop.core.chain import Chain, has_work, replay
from aitbc.workshop.core.keys import _verifies, is_signed, key_from_seed
from aitbc.workshop.core.rules import Rules
from aitbc.workshop.core.texts import GENESIS, Block, parse_block
from aitbc.workshop.worker import search

RUNS = 7
EASY = Rules(difficulty=1)
BLOCKS = 500


def tries_per_second() -> float:
    """At a difficulty that nothing reaches."""
    template = Block(2, 0, bytes(32), bytes(25))
    begun = time.process_time()
    search(*template.around_nonce, 32, 100_000, 500)
    return 500_000 / (time.process_time() - begun) / 1e6


def verify_us() -> float:
    key = key_from_seed(b"bench")
    transactions = [key.pay(recipient=key.address, nonce=nonce, amount=0) for nonce in range(300)]
    _verifies.cache_clear()
    begun = time.process_time()
    assert all(is_signed(one) for one in transactions)
    return (time.process_time() - begun) / 300 * 1e6


def texts() -> list[str]:
    tip, found = GENESIS, []
    for _ in range(BLOCKS):
        nonce = 0
        while not has_work((block := Block(tip.number + 1, nonce, tip.hash, bytes(25))).hash, 1):
            nonce += 1
        tip = block
        found.append(block.text)
    return found


def empty_blocks_per_second(lines: list[str]) -> float:
    begun = time.process_time()
    replay(Chain(EASY), (parse_block(line) for line in lines))
    return BLOCKS / (time.process_time() - begun)


def main() -> None:
    lines = texts()
    results = {
        "million_tries_per_second": spread([tries_per_second() for _ in range(RUNS)], 2),
        "verify_us": spread([verify_us() for _ in range(RUNS)], 0),
        "empty_blocks_replayed_per_second": spread([empty_blocks_per_second(lines) for _ in range(RUNS)], 0),
    }
    save("workshop", "1.5 million tries a second and core", results)


if __name__ == "__main__":
    main()
