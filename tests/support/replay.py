"""Replay a stored chain from its genesis and print where that ends: `python replay.py FOLDER`.

The folder holds `genesis.json` and `chain.db`. Run in processes of their own, so that hash seed and Python differ.
"""

import sys
from pathlib import Path

from aitbc.adapters.storage.sqlite import SqliteStore
from aitbc.core.executor import Executor


def replay(folder: Path) -> str:
    """Height, hash and state root of the head; every block is checked as if a stranger had sent it."""
    executor = Executor((folder / "genesis.json").read_bytes(), None)
    store = SqliteStore(folder / "chain.db", executor.loaded.hash)
    height = 1
    while (stored := store.block_by_height(height)) is not None:
        built = executor.apply(stored.block)
        assert (built.hash, built.outcomes) == (stored.hash, stored.outcomes)
        executor.publish(built, stored)
        height += 1
    store.close()
    head = executor.head
    return f"{head.block.header.height} {head.hash.hex()} {executor.state.root().hex()}"


if __name__ == "__main__":
    print(replay(Path(sys.argv[1])))
