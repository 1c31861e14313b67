"""What every store promises, whichever it is."""

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.adapters.storage.sqlite import SqliteStore
from aitbc.core.executor import Executor
from aitbc.core.ledger.state import State
from aitbc.core.types.amounts import AIT, MAX_TOTAL
from aitbc.ports import UNDO_DEPTH, StorageError, Store
from support.chain import Chain, certificate_of
from support.made_up import ADDRESSES, GENESIS_HASH, LABELS, MadeUpChain
from support.people import ALICE, BOB, HUB, PROVIDER, VALIDATOR
from support.store_model import (
    check_everything,
    check_state,
    history,
    paged_block,
    paged_history,
    paged_receipts,
    receipts,
    receipts_by,
    transactions,
)

Opener = Callable[..., Store]

NO_BLOCK = bytes(32)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store each time, as a restarted node does."""
    memories: dict[bytes, MemoryStore] = {}
    opened: list[Store] = []

    def make(genesis_hash: bytes) -> Store:
        match request.param:
            case "memory":
                return memories.setdefault(genesis_hash, MemoryStore(genesis_hash))
            case "sqlite":
                return SqliteStore(tmp_path / "chain.db", genesis_hash)
            case _:
                from aitbc.adapters.storage.postgres import PostgresStore

                return PostgresStore(request.getfixturevalue("postgres_url"), genesis_hash)

    def reopen(genesis_hash: bytes = GENESIS_HASH) -> Store:
        while opened:
            opened.pop().close()
        opened.append(make(genesis_hash))
        return opened[0]

    yield reopen
    while opened:
        opened.pop().close()


def given(store: Store, chain: MadeUpChain) -> Store:
    for commit in chain.commits:
        store.commit(commit)
    return store


@pytest.fixture(scope="module")
def long_chain() -> MadeUpChain:
    """150 blocks; only to be read."""
    chain = MadeUpChain(seed=150)
    chain.grow(150)
    return chain


# What is there


def test_an_empty_store_holds_nothing(opener: Opener) -> None:
    store = opener()
    assert store.load() is None
    assert store.block_by_height(0) is None
    assert store.block_hashes(0, 10) == []
    assert store.transaction(NO_BLOCK) is None
    assert store.account_history(ADDRESSES[0], before=None, limit=5) == []
    assert store.load_waiting() == []
    assert opener().load() is None


def test_what_was_committed_is_there_at_once_and_after_a_restart(opener: Opener) -> None:
    chain = MadeUpChain(seed=1)
    chain.grow(40)
    store = given(opener(), chain)
    check_everything(store, chain.commits)
    check_everything(opener(), chain.commits)


def test_genesis_alone_is_a_chain(opener: Opener) -> None:
    chain = MadeUpChain()
    given(opener(), chain)
    check_everything(opener(), chain.commits)


def test_a_real_chain_goes_on_exactly_like_one_that_never_stopped(opener: Opener) -> None:
    chain = Chain()
    store = opener(chain.genesis_hash)
    store.commit(chain.executor.loaded.first)

    def keep(*txs) -> None:  # type: ignore[no-untyped-def]
        built = chain.block(*txs)
        certificate = certificate_of(built.hash, chain.genesis_hash)
        store.commit(chain.executor.seal(built, certificate))

    word = chain.countersignature(PROVIDER, HUB)
    keep(chain.verified(PROVIDER, "REGISTER", {"role": "provider", "models": []}, fee=0, witness=word))
    keep(chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5_000 * AIT}))
    keep(chain.verified(BOB, "TRANSFER", {"to": HUB.address, "amount": 5}))
    stored = opener(chain.genesis_hash).load()
    assert stored is not None
    restored = Executor(chain.document, stored)
    tx = chain.verified(BOB, "TRANSFER", {"to": ALICE.address, "amount": 7})
    now = chain.now_ms + 1_000
    ours = chain.executor.build([tx], proposer=VALIDATOR.address, timestamp_ms=now)
    theirs = restored.build([tx], proposer=VALIDATOR.address, timestamp_ms=now)
    assert ours.hash == theirs.hash
    assert ours.changes == theirs.changes


def test_what_is_not_there_is_not_there_whatever_is_asked(opener: Opener) -> None:
    chain = MadeUpChain(seed=2)
    chain.grow(3)
    store = given(opener(), chain)
    for height in (-1, 4, 2**31, MAX_TOTAL, MAX_TOTAL + 1, 10**30):
        assert store.block_by_height(height) is store.head_at(height) is None
        assert store.transactions_of(height, start=0, limit=5) == []
    for start in (-1, 6, MAX_TOTAL, 10**30):
        assert store.transactions_of(2, start=start, limit=5) == []
    for odd in (NO_BLOCK, b"", b"\xff" * 32, b"short", bytes(1_000)):
        assert store.block_by_hash(odd) is store.head_of(odd) is None
        assert store.find_transaction(odd) is None
        assert store.transaction(odd) is None
    for text in ("", "\0", "a\0b", "ait1", "\ud800", "%s", "?", "'", "x" * 10_000, ADDRESSES[0] + "\0"):
        assert store.account_history(text, before=None, limit=5) == []
        assert store.receipt(text) is None
        for by in ("provider", "client", "job"):
            assert store.receipts(by, text, before=None, limit=5) == []
    assert store.block_hashes(4, 9) == store.block_hashes(2, 2) == store.block_hashes(3, 1) == []
    assert store.block_hashes(-5, 2) == [commit.block.hash for commit in chain.commits[:2]]
    assert store.block_hashes(3, 10**30) == [chain.commits[3].block.hash]
    assert store.history_nodes([]) == []
    for place in ((0, 3), (5, 0), (0, -1)):
        with pytest.raises(StorageError):
            store.history_nodes([(0, 0), place])
    check_everything(store, chain.commits)


# Committing


def test_only_the_child_of_the_head_is_taken(opener: Opener) -> None:
    chain, other = MadeUpChain(seed=3), MadeUpChain(seed=4)
    chain.grow(3)
    other.grow(3)
    store = opener()
    with pytest.raises(StorageError, match="does not follow"):
        store.commit(chain.commits[1])
    for commit in chain.commits[:3]:
        store.commit(commit)
    for wrong in (chain.commits[0], chain.commits[1], other.commits[2], other.commits[3], other.commits[0]):
        with pytest.raises(StorageError, match="does not follow"):
            store.commit(wrong)
    check_everything(store, chain.commits[:3])
    store.commit(chain.commits[3])
    check_everything(store, chain.commits)


def test_the_head_may_be_committed_again_because_an_error_does_not_say_whether_it_is_there(
    opener: Opener,
) -> None:
    chain = MadeUpChain(seed=5)
    store = opener()
    for commit in [chain.commits[0], *chain.grow(5)]:
        store.commit(commit)
        store.commit(commit)
    check_everything(opener(), chain.commits)


def test_blocks_that_became_final_together_are_there_together_or_not_at_all(opener: Opener) -> None:
    chain, other = MadeUpChain(seed=7), MadeUpChain(seed=8)
    chain.grow(9)
    other.grow(9)
    store = opener()
    store.commit(*chain.commits[:3])
    check_everything(store, chain.commits[:3])
    for wrong in (
        [chain.commits[3], other.commits[4]],
        [chain.commits[3], chain.commits[5]],
        [chain.commits[4], chain.commits[3]],
        [chain.commits[2], chain.commits[3]],
    ):
        with pytest.raises(StorageError, match="does not follow"):
            store.commit(*wrong)
        check_everything(store, chain.commits[:3])
    for _ in range(2):
        store.commit(*chain.commits[3:])
        check_everything(store, chain.commits)
    check_everything(opener(), chain.commits)


def test_removed_keys_are_gone_and_their_slots_are_taken_again(opener: Opener) -> None:
    chain = MadeUpChain(seed=6)
    store = given(opener(), chain)
    owners: dict[tuple[str, int], set[str]] = {}
    removed = 0
    for _ in range(30):
        commit = chain.extend()
        store.commit(commit)
        check_state(store, chain.commits, chain.state)
        for change in commit.changes:
            removed += change.record is None
            owners.setdefault((change.store, change.index), set()).add(change.key)
    assert removed > 20
    assert any(len(keys) > 1 for keys in owners.values()), "a slot had more than one owner"
    check_everything(opener(), chain.commits)


# Pages


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1_000])
def test_pages_join_to_the_whole_history(opener: Opener, limit: int) -> None:
    chain = MadeUpChain(seed=7)
    chain.grow(25)
    store = given(opener(), chain)
    for address in ADDRESSES[:3]:
        assert paged_history(store, address, limit) == history(chain.commits, address)
        assert paged_receipts(store, "provider", address, limit) == receipts_by(
            chain.commits, "provider", address
        )
        assert paged_receipts(store, "client", address, limit) == receipts_by(
            chain.commits, "client", address
        )
    for height in range(26):
        whole = [item for item in transactions(chain.commits) if item.height == height][::-1]
        assert paged_block(store, height, limit) == whole
    for label in LABELS:
        assert paged_receipts(store, "job", label, limit) == receipts_by(chain.commits, "job", label)


def test_no_item_comes_twice_or_is_lost_while_blocks_arrive(opener: Opener) -> None:
    chain = MadeUpChain(seed=8)
    chain.grow(20)
    store = given(opener(), chain)
    address = ADDRESSES[1]
    expected = history(chain.commits, address), receipts_by(chain.commits, "client", address)
    seen = (
        store.account_history(address, before=None, limit=2),
        store.receipts("client", address, before=None, limit=2),
    )
    for _ in range(100):
        store.commit(chain.extend())
        last, paid = seen[0][-1], seen[1][-1]
        cursor = (paid.height, paid.receipt.tx_position, paid.place)
        page = store.account_history(address, before=(last.height, last.position), limit=2)
        paid_page = store.receipts("client", address, before=cursor, limit=2)
        seen = seen[0] + page, seen[1] + paid_page
    assert not page
    assert not paid_page
    assert seen == expected


def test_a_cursor_from_before_a_rewind_shows_what_is_still_there(opener: Opener) -> None:
    """A cursor is a place, not an item: its item may have gone."""
    chain = MadeUpChain(seed=9)
    chain.grow(20)
    store = given(opener(), chain)
    address = ADDRESSES[2]
    first = store.account_history(address, before=None, limit=3)
    cursor = (first[-1].height, first[-1].position)
    store.rewind(10)
    chain.take_back(10)
    for commit in chain.grow(2):
        store.commit(commit)
    assert cursor[0] > 12
    assert store.account_history(address, before=cursor, limit=1_000) == history(chain.commits, address)


# Taking back


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(n, marks=pytest.mark.long) for n in range(3, 25))]
)
def test_blocks_are_taken_back_and_others_come(opener: Opener, seed: int) -> None:
    chain, draw = MadeUpChain(seed=1_000 + seed), random.Random(seed)
    store = given(opener(), chain)
    oldest = 0
    for _ in range(8):
        for commit in chain.grow(draw.randrange(1, 50)):
            store.commit(commit)
        oldest = max(oldest, chain.height - UNDO_DEPTH)
        height = draw.randrange(oldest, chain.height + 1)
        store.rewind(height)
        chain.take_back(height)
        if draw.random() < 0.3:
            store = opener()
        check_everything(store, chain.commits)
    store.commit(chain.extend())
    check_everything(opener(), chain.commits)


def test_as_many_blocks_as_promised_are_taken_back_and_no_more(
    opener: Opener, long_chain: MadeUpChain
) -> None:
    store = given(opener(), long_chain)
    head = long_chain.height
    for wrong in (head - UNDO_DEPTH - 1, 0, -1, head + 1, 10**30):
        with pytest.raises(StorageError, match="cannot go back"):
            store.rewind(wrong)
    check_state(store, long_chain.commits, long_chain.state)
    store.rewind(head)
    check_state(store, long_chain.commits, long_chain.state)
    store.rewind(head - UNDO_DEPTH)
    check_everything(store, long_chain.commits[: head - UNDO_DEPTH + 1])
    with pytest.raises(StorageError, match="cannot go back"):
        store.rewind(head - UNDO_DEPTH - 1)
    for commit in long_chain.commits[head - UNDO_DEPTH + 1 :]:
        store.commit(commit)
    check_everything(opener(), long_chain.commits)


def test_a_young_chain_is_taken_back_to_its_genesis_and_not_further(opener: Opener) -> None:
    chain = MadeUpChain(seed=10)
    store = opener()
    with pytest.raises(StorageError, match="cannot go back"):
        store.rewind(0)
    given(store, chain)
    for commit in chain.grow(UNDO_DEPTH):
        store.commit(commit)
    store.rewind(0)
    with pytest.raises(StorageError, match="cannot go back"):
        store.rewind(-1)
    check_everything(store, chain.commits[:1])


def test_a_transaction_may_come_again_in_another_block(opener: Opener) -> None:
    """After a reorganisation the same transactions are mined again, elsewhere."""
    chain = MadeUpChain(seed=11)
    store = given(opener(), chain)
    for commit in chain.grow(5):
        store.commit(commit)
    again = MadeUpChain(seed=11)
    again.grow(5)
    assert [c.block.hash for c in again.commits] == [c.block.hash for c in chain.commits]
    store.rewind(2)
    for commit in again.commits[3:]:
        store.commit(commit)
    check_everything(store, again.commits)


@pytest.mark.parametrize("seed", range(3))
def test_a_switch_puts_other_blocks_in_the_place_of_some(opener: Opener, seed: int) -> None:
    chain, draw = MadeUpChain(seed=2_000 + seed), random.Random(seed)
    store = given(opener(), chain)
    highest = 0
    for _ in range(6):
        for commit in chain.grow(draw.randrange(1, 30)):
            store.commit(commit)
        highest = max(highest, chain.height)
        height = draw.randrange(max(0, highest - UNDO_DEPTH), chain.height)
        chain.take_back(height)
        branch = chain.grow(draw.randrange(1, 5))
        for _ in range(2):
            store.switch(height, *branch)
            check_everything(store, chain.commits)
        if draw.random() < 0.5:
            store = opener()
    check_everything(opener(), chain.commits)


def test_a_switch_that_does_not_fit_changes_nothing(opener: Opener, long_chain: MadeUpChain) -> None:
    store, other = given(opener(), long_chain), MadeUpChain(seed=99)
    head, strangers = long_chain.height, other.grow(2)
    gapped = [long_chain.commits[head - 4], long_chain.commits[head - 2]]
    for height, branch in (
        (head - 2, strangers),
        (head - 5, gapped),
        (head - 2, long_chain.commits[head - 3 : head - 1]),
        (head - UNDO_DEPTH - 1, long_chain.commits[head - UNDO_DEPTH : head - 2]),
        (head + 1, long_chain.commits[head - 1 : head]),
        (-1, long_chain.commits[:2]),
    ):
        with pytest.raises(StorageError):
            store.switch(height, *branch)
        check_state(store, long_chain.commits, long_chain.state)


def test_the_chain_is_loaded_as_it_was_some_blocks_ago(opener: Opener, long_chain: MadeUpChain) -> None:
    store = given(opener(), long_chain)
    for back in (0, 1, 2, 17, UNDO_DEPTH):
        stored = store.load(150 - back)
        assert stored is not None
        again = MemoryStore(GENESIS_HASH)
        for commit in long_chain.commits[: 151 - back]:
            again.commit(commit)
        assert stored == again.load()
    for wrong in (150 - UNDO_DEPTH - 1, 151, -1):
        with pytest.raises(StorageError, match="cannot go back"):
            store.load(wrong)
    check_state(store, long_chain.commits, long_chain.state)


def test_what_agreement_begins_from_is_kept_until_it_is_replaced(opener: Opener) -> None:
    chain = MadeUpChain(seed=16)
    store = given(opener(), chain)
    assert store.load_final() == b""
    for link in (b"\0", b"one", bytes(300), b"two"):
        store.keep_final(link)
        store.commit(chain.extend())
        assert store.load_final() == opener().load_final() == link
        store = opener()


# Waiting transactions


def test_waiting_transactions_are_kept_until_others_replace_them(opener: Opener) -> None:
    chain = MadeUpChain(seed=12)
    store = given(opener(), chain)
    many = [b"", b"\0", b"one", bytes(16_000), *[b"%d" % n for n in range(200)]]
    for waiting in (many, [b"two", b"two"], []):
        store.save_waiting(waiting)
        assert store.load_waiting() == waiting
        store = opener()
        assert store.load_waiting() == store.load_waiting() == waiting
        store.commit(chain.extend())
        store.rewind(chain.height - 1)
        store.commit(chain.commits[-1])
        assert store.load_waiting() == waiting


# Readers beside the writer


def test_readers_see_whole_blocks_while_they_are_written_and_taken_back(opener: Opener) -> None:
    chain = MadeUpChain(seed=13)
    chain.grow(6)
    commits = chain.commits[:]
    store = opener()
    for commit in commits[:4]:
        store.commit(commit)
    states = [State() for _ in commits]
    for height, state in enumerate(states):
        for commit in commits[: height + 1]:
            changes: dict[str, dict[str, object]] = {}
            for change in commit.changes:
                changes.setdefault(change.store, {})[change.key] = change.record
            state.stage(changes)  # type: ignore[arg-type]
            state.publish()
    done = threading.Event()
    wrong: list[BaseException] = []
    reads = itertools.count()

    def read() -> None:
        try:
            while not done.is_set():
                stored = store.load()
                assert stored is not None
                height = stored.head.block.header.height
                check_loaded(stored.records, states[height])
                assert stored.head == commits[height].block
                for at in range(3, 7):
                    assert store.block_by_height(at) in (None, commits[at].block)
                    hashes = store.block_hashes(0, at)
                    assert hashes == [commit.block.hash for commit in commits[: len(hashes)]]
                for address in ADDRESSES[:4]:
                    page = store.account_history(address, before=None, limit=100)
                    assert page in [history(commits[:n], address) for n in range(4, 8)]
                next(reads)
        except BaseException as error:
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        while next(reads) < 40 and not wrong:
            for commit in commits[4:]:
                store.commit(commit)
            store.rewind(3)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert wrong == []


def check_loaded(records: dict[str, list[tuple[int, str, bytes]]], state: State) -> None:
    for store, rows in records.items():
        assert {key: data for _, key, data in rows} == state.data[store]


# Sizes


def test_the_largest_numbers_and_a_full_block_fit(opener: Opener) -> None:
    chain = MadeUpChain(seed=14)
    store = given(opener(), chain)
    commit = chain.extend(transactions=2_000)
    store.commit(commit)
    check_state(opener(), chain.commits, chain.state)
    store = opener()
    assert store.block_by_height(1) == commit.block
    address = ADDRESSES[0]
    assert paged_history(store, address, 100) == history(chain.commits, address)
    paid = receipts(chain.commits)
    assert store.receipt(paid[0].receipt.receipt_id) == paid[0]
    store.rewind(0)
    assert store.account_history(address, before=None, limit=10) == []


def test_a_block_without_a_signature_list_or_records_is_kept(opener: Opener) -> None:
    """An engine with another kind of proof has no certificate."""
    chain = MadeUpChain(seed=15)
    bare = chain.extend(transactions=0)
    bare = msgspec.structs.replace(bare, block=msgspec.structs.replace(bare.block, certificate=None))
    store = opener()
    for commit in (chain.commits[0], bare):
        store.commit(commit)
    assert opener().block_by_height(1) == bare.block
