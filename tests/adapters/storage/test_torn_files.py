"""What a power cut or a bad disk leaves of `chain.db` and its log: SQLite recovers to a committed block, or the damage
is found when it is read; nothing that was not committed is ever served.

A log is read as far as its checksums go (https://www.sqlite.org/fileformat2.html#the_write_ahead_log), so the block
that must come out follows from the bytes that are left.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from aitbc.adapters.storage import sqlite
from aitbc.adapters.storage.sqlite import SqliteStore
from aitbc.ports import StorageError, Store
from support.crashes import files_of
from support.made_up import ADDRESSES, GENESIS_HASH, LABELS, MadeUpChain
from support.store_model import check_everything, receipts, replayed, transactions

PAGE = 4_096
WAL_HEADER = 32
FRAME = 24 + PAGE
IN_FILE, IN_LOG = 8, 6
"""Blocks that are in the file already, and blocks after them that are in the log only."""

long = pytest.mark.long


class Torn:
    """The two files of a node that lost power, to be broken further."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "chain.db"
        self.chain = MadeUpChain(seed=51)
        self.chain.grow(IN_FILE + IN_LOG)
        store = SqliteStore(self.path, GENESIS_HASH)
        for commit in self.chain.commits[: IN_FILE + 1]:
            store.commit(commit)
        store.load()  # a connection that has read knows of the log
        with store._database.reading() as session:
            assert session.rows("PRAGMA wal_checkpoint(TRUNCATE)") == [(0, 0, 0)]
        for commit in self.chain.commits[IN_FILE + 1 :]:
            store.commit(commit)
        self.file, self.log = (file.read_bytes() for file in files_of(self.path)[:2])
        store.close()
        self.whole_file = self.path.read_bytes()
        assert (len(self.log) - WAL_HEADER) % FRAME == 0
        assert self._commits_before(len(self.log)) == IN_LOG

    @property
    def frames(self) -> int:
        return (len(self.log) - WAL_HEADER) // FRAME

    def pages_in_log(self) -> set[int]:
        return {
            int.from_bytes(self.log[at : at + 4], "big") for at in range(WAL_HEADER, len(self.log), FRAME)
        }

    def height_before(self, place: int) -> int:
        """Head when the log is good up to a byte."""
        return IN_FILE + self._commits_before(place)

    def _commits_before(self, place: int) -> int:
        """A frame whose header names a size of the file ends a commit."""
        ends = range(WAL_HEADER + FRAME, place + 1, FRAME)
        return sum(self.log[end - FRAME + 4 : end - FRAME + 8] != bytes(4) for end in ends)

    def left(self, file: bytes, log: bytes | None) -> SqliteStore:
        """Open what is left; raises StorageError."""
        for old in files_of(self.path):
            old.unlink(missing_ok=True)
        self.path.write_bytes(file)
        if log is not None:
            files_of(self.path)[1].write_bytes(log)
        return SqliteStore(self.path, GENESIS_HASH)

    def check(self, store: SqliteStore, height: int) -> None:
        try:
            check_everything(store, self.chain.commits[: height + 1])
            if height < self.chain.height:
                store.commit(self.chain.commits[height + 1])
        finally:
            store.close()


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Torn]:
    before = sqlite.WAL_PAGES
    sqlite.WAL_PAGES = 10**6  # nothing is copied into the file by itself
    yield Torn(tmp_path_factory.mktemp("torn"))
    sqlite.WAL_PAGES = before


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=long)])
def test_a_log_that_was_cut_anywhere_gives_the_last_whole_block_in_it(torn: Torn, every: int) -> None:
    seen = set()
    for frame in range(0, torn.frames + 1, every):
        start = WAL_HEADER + frame * FRAME
        for place in {start, start + 1, start + 12, start + 24, start + 2_000, start + FRAME - 1}:
            place = min(place, len(torn.log))
            height = torn.height_before(place)
            seen.add(height)
            torn.check(torn.left(torn.file, torn.log[:place]), height)
    for place in (0, 1, 31):
        torn.check(torn.left(torn.file, torn.log[:place]), IN_FILE)
    torn.check(torn.left(torn.file, None), IN_FILE)
    torn.check(torn.left(torn.file, torn.log), torn.chain.height)
    assert len(seen) > IN_LOG - 2


@pytest.mark.parametrize("tries", [25, pytest.param(600, marks=long)])
def test_a_changed_bit_in_the_log_ends_it_there(torn: Torn, tries: int) -> None:
    draw = random.Random(1)
    for _ in range(tries):
        place = draw.choice((draw.randrange(len(torn.log)), draw.randrange(WAL_HEADER)))
        log = bytearray(torn.log)
        log[place] ^= 1 << draw.randrange(8)
        good = 0 if place < WAL_HEADER else WAL_HEADER + (place - WAL_HEADER) // FRAME * FRAME
        torn.check(torn.left(torn.file, bytes(log)), torn.height_before(good))


@pytest.mark.parametrize("tries", [20, pytest.param(300, marks=long)])
def test_torn_and_swapped_pages_in_the_log_end_it_there(torn: Torn, tries: int) -> None:
    draw = random.Random(2)
    for _ in range(tries):
        frame, other = draw.sample(range(torn.frames), 2)
        start, source = (WAL_HEADER + n * FRAME for n in (frame, other))
        log = bytearray(torn.log)
        match draw.randrange(4):
            case 0:  # sectors that never arrived
                cut = start + 24 + 512 * draw.randrange(8)
                log[cut : start + FRAME] = bytes(start + FRAME - cut)
            case 1:  # the page of another frame
                log[start + 24 : start + FRAME] = torn.log[source + 24 : source + FRAME]
            case 2:  # a whole other frame
                log[start : start + FRAME] = torn.log[source : source + FRAME]
            case _:  # noise
                log[start : start + FRAME] = draw.randbytes(FRAME)
        same = log == torn.log
        torn.check(torn.left(torn.file, bytes(log)), torn.chain.height if same else torn.height_before(start))


@pytest.mark.parametrize("tries", [15, pytest.param(300, marks=long)])
def test_a_file_that_is_half_way_through_taking_the_log_over_is_mended_from_the_log(
    torn: Torn, tries: int
) -> None:
    """Any mix of old, new, torn and wrong among the pages that the log has too."""
    draw = random.Random(3)
    for _ in range(tries):
        size = draw.choice((len(torn.file), len(torn.whole_file)))
        file = bytearray(torn.file[:size].ljust(size, b"\0"))
        for page in torn.pages_in_log():
            start, end = (page - 1) * PAGE, page * PAGE
            if end > size:
                continue
            cut = start + 512 * draw.randrange(9)
            match draw.randrange(4):
                case 0:
                    file[start:end] = torn.whole_file[start:end]
                case 1:
                    file[start:cut] = torn.whole_file[start:cut]
                case 2 if page > 1:
                    file[start:end] = draw.randbytes(PAGE)
        torn.check(torn.left(bytes(file), torn.log), torn.chain.height)


# Damage in the file itself


def answers(store: Store, chain: MadeUpChain) -> Iterator[Callable[[], object]]:
    """Everything that can be asked."""
    yield store.load
    yield store.load_waiting
    yield lambda: store.block_hashes(0, 100)
    for commit in chain.commits:
        height, block_hash = commit.block.block.header.height, commit.block.hash
        yield lambda height=height: store.block_by_height(height)  # type: ignore[misc]
        yield lambda block_hash=block_hash: store.block_by_hash(block_hash)  # type: ignore[misc]
        yield lambda height=height: store.head_at(height)  # type: ignore[misc]
        yield lambda height=height: store.transactions_of(height, start=1, limit=2)  # type: ignore[misc]
        for node in commit.history:
            yield lambda node=node: store.history_nodes([(node.level, node.position)])  # type: ignore[misc]
    for item in transactions(chain.commits):
        yield lambda item=item: store.transaction(item.outcome.tx_id)  # type: ignore[misc]
    for paid in receipts(chain.commits):
        yield lambda paid=paid: store.receipt(paid.receipt.receipt_id)  # type: ignore[misc]
    for name in ADDRESSES[:6]:
        yield lambda name=name: store.account_history(name, before=None, limit=1_000)  # type: ignore[misc]
        yield lambda name=name: store.receipts("client", name, before=None, limit=1_000)  # type: ignore[misc]
    for name in LABELS:
        yield lambda name=name: store.receipts("job", name, before=None, limit=1_000)  # type: ignore[misc]


def is_right_but_for_what_is_missing(found: object, truth: object) -> bool:
    """An entry that an index has lost cannot be missed by who reads the index (docs/adr/0004-storage.md)."""
    if isinstance(truth, list) and isinstance(found, list):
        rest = iter(truth)
        return all(item in rest for item in found)
    return found is None or found == truth


@pytest.mark.parametrize("tries", [60, pytest.param(1_500, marks=long)])
def test_whatever_is_changed_in_the_file_nothing_wrong_is_served(torn: Torn, tries: int) -> None:
    whole = torn.left(torn.whole_file, None)
    truth = [ask() for ask in answers(whole, torn.chain)]
    whole.close()
    root = replayed(torn.chain.commits).root()
    draw = random.Random(4)
    refused = 0
    for _ in range(tries):
        file = bytearray(torn.whole_file)
        place = draw.randrange(len(file))
        match draw.randrange(4):
            case 0:
                file[place] ^= 1 << draw.randrange(8)
            case 1:
                file[place : place + 32] = draw.randbytes(len(file[place : place + 32]))
            case 2:
                sector = place - place % 512
                file[sector : sector + 512] = bytes(512)
            case _:
                page, other = place - place % PAGE, draw.randrange(len(file) // PAGE) * PAGE
                file[page : page + PAGE] = file[other : other + PAGE]
        try:
            store = torn.left(bytes(file), None)
        except StorageError:
            refused += 1
            continue
        for number, (ask, true) in enumerate(zip(answers(store, torn.chain), truth, strict=True)):
            try:
                found = ask()
            except StorageError:
                refused += 1
                continue
            if number == 0 and getattr(found, "before_head", None) == []:
                # the undo of the head is gone: the executor then judges its certificate by the set of now
                found = msgspec.structs.replace(found, before_head=true.before_head)  # type: ignore[attr-defined]
            if number == 0 and found != true:
                assert not is_believed(found, root)
            else:
                assert number == 0 or is_right_but_for_what_is_missing(found, true), (number, found, true)
        store.close()
    assert refused > tries / 4


def is_believed(found: object, root: bytes) -> bool:
    """Whether an executor would start from a state."""
    from aitbc.core.ledger.state import State
    from aitbc.core.types.reasons import Rejected

    state = State()
    try:
        state.load(found.records)  # type: ignore[attr-defined]
    except Rejected:
        return False
    return state.root() == root and found.head.block.header.state_root == root  # type: ignore[attr-defined]
