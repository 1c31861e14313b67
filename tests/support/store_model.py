"""What a store must answer, the slow and obvious way: by looking through all commits each time."""

from collections.abc import Sequence

from aitbc.adapters.storage.rows import touched
from aitbc.core.crypto.mountains import append_leaf, peak_places
from aitbc.core.ledger.state import State
from aitbc.core.types.records import Commit
from aitbc.ports import ReceiptIndex, Store, StoredHead, StoredReceipt, StoredTransaction
from support.made_up import ADDRESSES, LABELS, records_of, replayed


def transactions(commits: Sequence[Commit]) -> list[StoredTransaction]:
    """All, the newest first."""
    found = [
        StoredTransaction(
            height=height,
            position=position,
            timestamp_ms=commit.block.block.header.timestamp_ms,
            tx=tx,
            outcome=outcome,
        )
        for height, commit in enumerate(commits)
        for position, (tx, outcome) in enumerate(
            zip(commit.block.block.txs, commit.block.outcomes, strict=True)
        )
    ]
    return found[::-1]


def receipts(commits: Sequence[Commit]) -> list[StoredReceipt]:
    """All, the newest first."""
    found = []
    for height, commit in enumerate(commits):
        for position, outcome in enumerate(commit.block.outcomes):
            paid = [receipt for receipt in commit.receipts if receipt.tx_position == position]
            found += [
                StoredReceipt(
                    height=height,
                    place=place,
                    timestamp_ms=commit.block.block.header.timestamp_ms,
                    tx_id=outcome.tx_id,
                    receipt=receipt,
                )
                for place, receipt in enumerate(paid)
            ]
    return found[::-1]


def history(commits: Sequence[Commit], address: str) -> list[StoredTransaction]:
    return [item for item in transactions(commits) if address in touched(item.tx, item.outcome)]


def receipts_by(commits: Sequence[Commit], by: ReceiptIndex, value: str) -> list[StoredReceipt]:
    return [item for item in receipts(commits) if getattr(item.receipt, FIELD[by]) == value]


FIELD: dict[ReceiptIndex, str] = {"provider": "provider", "client": "client", "job": "job_id"}
ALL = 1_000_000


def check_state(store: Store, commits: Sequence[Commit], state: State | None = None) -> None:
    """What a node reads when it starts."""
    stored = store.load()
    assert stored is not None
    state = state or replayed(commits)
    assert stored.head == commits[-1].block
    assert stored.records == records_of(state)
    assert state.root() == stored.head.block.header.state_root
    peaks: list[tuple[int, bytes]] = []
    for commit in commits[:-1]:
        peaks, _ = append_leaf(peaks, commit.block.hash)
    assert stored.history_peaks == peaks
    if len(commits) > 1:
        before = [(change.store, change.key, change.before) for change in commits[-1].changes]
        assert stored.before_head == before


def check_everything(store: Store, commits: Sequence[Commit]) -> None:
    """Every method, over the whole chain."""
    check_state(store, commits)
    hashes = [commit.block.hash for commit in commits]
    assert [store.block_by_height(height) for height in range(len(commits))] == [c.block for c in commits]
    assert [store.block_by_hash(block_hash) for block_hash in hashes] == [c.block for c in commits]
    heads = [
        StoredHead(header=c.block.block.header, hash=c.block.hash, certificate=c.block.certificate)
        for c in commits
    ]
    assert [store.head_at(height) for height in range(len(commits))] == heads
    assert [store.head_of(block_hash) for block_hash in hashes] == heads
    assert store.block_by_height(len(commits)) is store.head_at(len(commits)) is None
    for height, commit in enumerate(commits):
        assert store.validators(commit.block.block.header.next_validators_hash) == commit.validators
        whole = [item for item in transactions(commits) if item.height == height][::-1]
        assert store.transactions_of(height, start=0, limit=ALL) == whole
        assert len(whole) == len(commit.block.outcomes)
    assert store.block_hashes(0, len(commits) + 5) == hashes
    for item in transactions(commits):
        assert store.transaction(item.outcome.tx_id) == item
        assert store.find_transaction(item.outcome.tx_id) == (item.height, item.position)
    for address in ADDRESSES:
        assert store.account_history(address, before=None, limit=ALL) == history(commits, address)
        for by in ("provider", "client"):
            assert store.receipts(by, address, before=None, limit=ALL) == receipts_by(commits, by, address)
    for label in LABELS:
        assert store.receipts("job", label, before=None, limit=ALL) == receipts_by(commits, "job", label)
    for paid in receipts(commits):
        assert store.receipt(paid.receipt.receipt_id) == paid
    nodes = {(node.level, node.position): node.hash for commit in commits for node in commit.history}
    assert store.history_nodes(list(nodes)) == list(nodes.values())
    assert set(peak_places(len(commits) - 1)) <= nodes.keys()


def paged_block(store: Store, height: int, limit: int) -> list[StoredTransaction]:
    """All pages, one after the other."""
    items: list[StoredTransaction] = []
    while page := store.transactions_of(height, start=len(items), limit=limit):
        assert len(page) <= limit
        items += page
    return items


def paged_history(store: Store, address: str, limit: int) -> list[StoredTransaction]:
    """All pages, one after the other."""
    items: list[StoredTransaction] = []
    before = None
    while page := store.account_history(address, before=before, limit=limit):
        assert len(page) <= limit
        items += page
        before = (page[-1].height, page[-1].position)
    return items


def paged_receipts(store: Store, by: ReceiptIndex, value: str, limit: int) -> list[StoredReceipt]:
    items: list[StoredReceipt] = []
    before = None
    while page := store.receipts(by, value, before=before, limit=limit):
        assert len(page) <= limit
        items += page
        last = page[-1]
        before = (last.height, last.receipt.tx_position, last.place)
    return items
