"""A node may die anywhere: the file then holds a committed block, whole, and the next start goes on from there.

Children are killed before every SQL statement of every kind of write, by the kernel when the log reaches a size, and
at random moments; what they leave is compared row by row with what was there before and after the write.
"""

import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aitbc.adapters.storage import sqlite
from aitbc.adapters.storage.sqlite import SqliteStore
from support.crashes import Dump, copy, dies, dump, killed_before
from support.made_up import GENESIS_HASH, MadeUpChain
from support.store_model import check_everything, check_state

from .test_migration import GENESIS_HASH as OLD_GENESIS_HASH
from .test_migration import unpacked

Write = Callable[[Path], object]

CHAIN = MadeUpChain(seed=41)
CHAIN.grow(6)
LAST = CHAIN.extend(transactions=6)
FORKED = MadeUpChain(seed=41)
FORKED.grow(6)
FORKED.extend(transactions=6)
FORKED.take_back(3)
BRANCH = FORKED.grow(3)
"""What another miner put on block 3."""
SAMPLE = {
    "create": 4,
    "genesis": 6,
    "commit": 5,
    "rewind": 7,
    "switch": 9,
    "final": 1,
    "waiting": 1,
    "migration": 61,
}
"""In `make test` only some of the places to die are tried, in `make test-long` every one."""


def opened(path: Path) -> SqliteStore:
    return SqliteStore(path, GENESIS_HASH)


def nothing(_path: Path) -> None:
    pass


def an_empty_store(path: Path) -> None:
    opened(path).close()


def seven_blocks(path: Path) -> None:
    store = opened(path)
    for commit in CHAIN.commits[:-1]:
        store.commit(commit)
    store.save_waiting([b"one", b"two"])
    store.close()


def eight_blocks(path: Path) -> None:
    seven_blocks(path)
    store = opened(path)
    store.commit(LAST)
    store.close()


WRITES: dict[str, tuple[Write, Write]] = {
    "create": (nothing, opened),
    "genesis": (an_empty_store, lambda path: opened(path).commit(CHAIN.commits[0])),
    "commit": (seven_blocks, lambda path: opened(path).commit(LAST)),
    "rewind": (eight_blocks, lambda path: opened(path).rewind(3)),
    "switch": (eight_blocks, lambda path: opened(path).switch(3, *BRANCH)),
    "final": (seven_blocks, lambda path: opened(path).keep_final(b"link")),
    "waiting": (seven_blocks, lambda path: opened(path).save_waiting([b"three"])),
    "migration": (unpacked, lambda path: SqliteStore(path, OLD_GENESIS_HASH)),
}


def everything_in(path: Path) -> Dump:
    return dump(path) if path.exists() else {"sqlite_master": []}


@pytest.mark.parametrize(
    ("name", "every"), [*SAMPLE.items(), *[pytest.param(name, 1, marks=pytest.mark.long) for name in WRITES]]
)
def test_killed_before_any_statement_it_is_all_there_or_not_at_all(
    tmp_path: Path, name: str, every: int
) -> None:
    prepare, write = WRITES[name]
    base, path = tmp_path / "base.db", tmp_path / "chain.db"
    prepare(base)
    before = everything_in(base)
    dies(lambda: write(copy(base, path)))
    after = everything_in(path)
    assert after != before
    found = []
    statement = 0
    while True:
        copy(base, path)
        there_was_one = killed_before(statement, lambda: write(path))
        left = everything_in(path)
        assert left in (before, after), f"killed before statement {statement}"
        found.append(left == after)
        dies(lambda: write(path))  # the next start does it again
        assert everything_in(path) == after
        if not there_was_one:
            break
        statement += every
    assert found == sorted(found), "once it is there it stays"
    assert found[0] is False
    assert found[-1] is True, "what returned is on disk"
    assert len(found) > 4


@pytest.mark.parametrize("step", [9_000, pytest.param(1_001, marks=pytest.mark.long)])
def test_killed_when_the_log_reaches_any_size_it_is_all_there_or_not_at_all(
    tmp_path: Path, step: int
) -> None:
    """The kernel kills the process in the middle of a write: the log ends anywhere in a page."""
    base, path = tmp_path / "base.db", tmp_path / "chain.db"
    seven_blocks(base)
    size = base.stat().st_size

    def commit_until(room: int) -> None:
        store = opened(path)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        store.commit(LAST)
        os.kill(os.getpid(), signal.SIGKILL)

    ends: list[int] = []
    for room in range(0, size, step):
        copy(base, path)
        ends.append(dies(lambda room=room: commit_until(room)))  # type: ignore[misc]
        store = opened(path)
        there = store.block_by_height(7) is not None
        assert there or ends[-1] == signal.SIGXFSZ, "what returned is on disk"
        check_everything(store, CHAIN.commits if there else CHAIN.commits[:-1])
        store.close()
    assert set(ends) == {signal.SIGXFSZ, signal.SIGKILL}


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.long) for n in range(2, 40))])
def test_killed_at_a_random_moment_nothing_reported_is_lost(tmp_path: Path, seed: int) -> None:
    """Also in the middle of copying the log into the file, which it does all the time here."""
    draw = random.Random(seed)
    chain = MadeUpChain(seed=100 + seed)
    chain.grow(60)
    path = tmp_path / "chain.db"
    for _ in range(5):
        reported, tell = os.pipe()

        def life(tell: int = tell) -> None:
            sqlite.WAL_PAGES = 5
            store = opened(path)
            stored = store.load()
            height = -1 if stored is None else stored.head.block.header.height
            for commit in chain.commits[height + 1 :]:
                store.commit(commit)
                os.write(tell, bytes([commit.block.block.header.height]))
            time.sleep(60)

        child = os.fork()
        if child == 0:
            try:
                life()
            finally:
                os._exit(1)
        os.close(tell)
        heights = bytearray(os.read(reported, 1))  # it has begun
        time.sleep(draw.random() * 0.1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while said := os.read(reported, 64):
            heights += said
        os.close(reported)
        store = opened(path)
        stored = store.load()
        assert stored is not None
        height = stored.head.block.header.height
        assert heights[-1] <= height <= heights[-1] + 1
        check_state(store, chain.commits[: height + 1])
        store.close()
        if height == chain.height:
            break
    store = opened(path)
    check_everything(store, chain.commits[: height + 1])
    store.close()
