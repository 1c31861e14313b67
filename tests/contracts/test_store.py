"""What every store promises, whichever it is."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.adapters.storage.sqlite import SqliteStore
from aitbc.core.executor import Executor
from aitbc.core.types.amounts import AIT
from aitbc.ports import Store
from support.chain import Chain, certificate_of
from support.people import ALICE, BOB, HUB, PROVIDER, VALIDATOR

Opener = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store each time, as a restarted node does."""
    genesis_hash = Chain().genesis_hash
    memory = MemoryStore(genesis_hash)
    opened: list[Store] = []

    def reopen() -> Store:
        while opened:
            opened.pop().close()
        store = memory if request.param == "memory" else SqliteStore(tmp_path / "chain.db", genesis_hash)
        opened.append(store)
        return store

    yield reopen
    while opened:
        opened.pop().close()


class Recorder(Chain):
    """A chain whose blocks all go to a store."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        loaded = self.executor.loaded
        store.commit(block=loaded.block, changes=loaded.changes, history_peaks=[])

    def block(self, *txs, after_ms: int = 1_000):  # type: ignore[no-untyped-def]
        peaks_before = self.executor.tip
        built = super().block(*txs, after_ms=after_ms)
        assert peaks_before.hash == built.block.header.parent
        self.store.commit(block=self.executor.head, changes=built.changes, history_peaks=built.peaks)
        return built


def play(chain: Recorder) -> list[bytes]:
    """Blocks with every kind of record in them; returns the ids of the transactions."""
    chain.register(PROVIDER)
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    ids = [chain.do(HUB, "RECEIPT_CLAIM", payload, witness=witness).tx_id]
    ids.append(chain.do(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5_000 * AIT}).tx_id)
    chain.block()
    return ids


def test_an_empty_store_holds_no_chain(opener: Opener) -> None:
    assert opener().load() is None


def test_what_was_committed_is_there_after_a_restart(opener: Opener) -> None:
    chain = Recorder(opener())
    ids = play(chain)
    head = chain.executor.head
    store = opener()
    stored = store.load()
    assert stored is not None
    assert stored.head == head
    assert stored.genesis_hash == chain.genesis_hash
    assert stored.history_peaks == chain.executor.tip.peaks
    assert store.block_by_height(head.block.header.height) == head
    assert store.block_by_hash(head.hash) == head
    assert store.block_by_height(0) == chain.executor.loaded.block
    assert [store.find_transaction(tx_id) for tx_id in ids] == [(3, 0), (4, 0)]
    failed = store.block_by_height(4)
    assert failed is not None
    assert [(outcome.ok, outcome.reason) for outcome in failed.outcomes] == [(False, "insufficient_balance")]


def test_a_restored_executor_goes_on_exactly_like_one_that_never_stopped(opener: Opener) -> None:
    chain = Recorder(opener())
    play(chain)
    stored = opener().load()
    assert stored is not None
    certificate = certificate_of(stored.head.hash, chain.genesis_hash)
    stored = msgspec.structs.replace(
        stored, head=msgspec.structs.replace(stored.head, certificate=certificate)
    )
    restored = Executor(chain.document, stored)
    tx = chain.verified(BOB, "TRANSFER", {"to": ALICE.address, "amount": 7})
    now = chain.now_ms + 1_000
    ours = chain.executor.build([tx], proposer=VALIDATOR.address, timestamp_ms=now)
    theirs = restored.build([tx], proposer=VALIDATOR.address, timestamp_ms=now)
    assert ours.hash == theirs.hash
    assert ours.changes == theirs.changes


def test_what_is_not_there_is_none(opener: Opener) -> None:
    chain = Recorder(opener())
    play(chain)
    store = opener()
    assert store.block_by_height(99) is None
    assert store.block_by_height(-1) is None
    assert store.block_by_hash(bytes(32)) is None
    assert store.find_transaction(bytes(32)) is None
    assert store.block_hashes(0, 2) == [chain.executor.loaded.block.hash, store.block_by_height(1).hash]  # type: ignore[union-attr]
