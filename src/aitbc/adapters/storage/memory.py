"""A store in memory: for the simulator and for tests. It keeps the commits and little else; what the suite asks is what
it does."""

import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from aitbc.adapters.storage.rows import stored_receipts, touched
from aitbc.core.codec.digests import validators_hash
from aitbc.core.crypto.mountains import peak_places
from aitbc.core.types.blocks import CommittedBlock, Validator
from aitbc.core.types.records import STORES, Commit, StoredChain, StoredRows
from aitbc.ports import UNDO_DEPTH, ReceiptIndex, StorageError, StoredHead, StoredReceipt, StoredTransaction


class MemoryStore:
    """Keeps what was committed until it is dropped; `close` loses nothing, so a restart can be played."""

    def __init__(self, genesis_hash: bytes) -> None:
        self._genesis_hash = genesis_hash
        self._lock = threading.RLock()
        """Readers see whole blocks."""
        self._commits: list[Commit] = []
        self._heights: dict[bytes, int] = {}
        self._places: dict[bytes, tuple[int, int]] = {}
        self._records: dict[str, dict[str, tuple[int, bytes]]] = {store: {} for store in STORES}
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._of_account: dict[str, list[tuple[int, int]]] = {}
        self._receipts: dict[tuple[str, str], list[StoredReceipt]] = {}
        """By (index, value), the oldest first."""
        self._validators: dict[bytes, list[Validator]] = {}
        self._waiting: list[bytes] = []
        self._final = b""
        self._oldest = 0
        """How far back `rewind` goes."""

    def load(self, height: int | None = None) -> StoredChain | None:
        with self._lock:
            if not self._commits:
                return None
            height = len(self._commits) - 1 if height is None else height
            self._check_reach(height)
            head, records = self._commits[height], {name: dict(rows) for name, rows in self._records.items()}
            for commit in reversed(self._commits[height + 1 :]):
                for change in commit.changes:
                    _put(records, change.store, change.key, change.index, change.before)
            places = peak_places(height)
            return StoredChain(
                genesis_hash=self._genesis_hash,
                head=head.block,
                history_peaks=[(level, self._nodes[level, position]) for level, position in places],
                records={
                    store: StoredRows(sorted((index, key, data) for key, (index, data) in rows.items()))
                    for store, rows in records.items()
                },
                before_head=[(c.store, c.key, c.before) for c in head.changes if height],
            )

    def commit(self, *commits: Commit) -> None:
        with self._lock:
            if self._is_head(commits[-1]):
                return
            self._check_follow(len(self._commits) - 1, commits)
            for commit in commits:
                self._append(commit)

    def _is_head(self, commit: Commit) -> bool:
        return bool(self._commits) and commit.block.hash == self._commits[-1].block.hash

    def _check_follow(self, height: int, commits: Sequence[Commit]) -> None:
        head = self._commits[height].block.hash if height >= 0 else bytes(32)
        for number, commit in enumerate(commits, height + 1):
            header = commit.block.block.header
            if (header.height, header.parent) != (number, head):
                raise StorageError(f"block {header.height} does not follow block {number - 1}; start again")
            head = commit.block.hash

    def _append(self, commit: Commit) -> None:
        block, height = commit.block, len(self._commits)
        self._commits.append(commit)
        self._oldest = max(self._oldest, height - UNDO_DEPTH)
        self._heights[block.hash] = height
        for change in commit.changes:
            self._set(
                change.store, change.key, change.index, change.data if change.record is not None else None
            )
        for node in commit.history:
            self._nodes[node.level, node.position] = node.hash
        for position, (tx, outcome) in enumerate(zip(block.block.txs, block.outcomes, strict=True)):
            self._places[outcome.tx_id] = (height, position)
            for address in touched(tx, outcome):
                self._of_account.setdefault(address, []).append((height, position))
        for name, stored in _indexed(commit):
            self._receipts.setdefault(name, []).append(stored)
        if commit.validators:
            self._validators[validators_hash(commit.validators)] = commit.validators

    def rewind(self, height: int) -> None:
        with self._lock:
            self._check_reach(height)
            while len(self._commits) - 1 > height:
                self._take_back(self._commits.pop())

    def _check_reach(self, height: int) -> None:
        head = len(self._commits) - 1
        if not self._oldest <= height <= head:
            raise StorageError(
                f"cannot go back to block {height} from block {head}: at most {UNDO_DEPTH} can be taken back"
            )

    def switch(self, height: int, *commits: Commit) -> None:
        with self._lock:
            if self._is_head(commits[-1]):
                return
            self._check_reach(height)
            self._check_follow(height, commits)
            self.rewind(height)
            for commit in commits:
                self._append(commit)

    def keep_final(self, link: bytes) -> None:
        self._final = link

    def load_final(self) -> bytes:
        return self._final

    def _take_back(self, commit: Commit) -> None:
        del self._heights[commit.block.hash]
        for change in commit.changes:
            self._set(change.store, change.key, change.index, change.before)
        for node in commit.history:
            del self._nodes[node.level, node.position]
        for tx, outcome in zip(commit.block.block.txs, commit.block.outcomes, strict=True):
            del self._places[outcome.tx_id]
            for address in touched(tx, outcome):
                self._of_account[address].pop()
        for name, _ in _indexed(commit):
            self._receipts[name].pop()

    def _set(self, store: str, key: str, index: int, data: bytes | None) -> None:
        _put(self._records, store, key, index, data)

    def block_by_height(self, height: int) -> CommittedBlock | None:
        with self._lock:
            return self._commits[height].block if 0 <= height < len(self._commits) else None

    def block_by_hash(self, block_hash: bytes) -> CommittedBlock | None:
        with self._lock:
            height = self._heights.get(block_hash)
            return None if height is None else self._commits[height].block

    def head_at(self, height: int) -> StoredHead | None:
        block = self.block_by_height(height)
        if block is None:
            return None
        return StoredHead(header=block.block.header, hash=block.hash, certificate=block.certificate)

    def head_of(self, block_hash: bytes) -> StoredHead | None:
        block = self.block_by_hash(block_hash)
        return None if block is None else self.head_at(block.block.header.height)

    def validators(self, validators_hash: bytes) -> list[Validator] | None:
        with self._lock:
            return self._validators.get(validators_hash)

    def transactions_of(self, height: int, *, start: int, limit: int) -> list[StoredTransaction]:
        assert limit > 0, "a page has at least one item"
        with self._lock:
            block = self.block_by_height(height)
            if block is None or start < 0:
                return []
            return [
                self._transaction_at(height, place)
                for place in range(len(block.outcomes))[start : start + limit]
            ]

    def find_transaction(self, tx_id: bytes) -> tuple[int, int] | None:
        return self._places.get(tx_id)

    def transaction(self, tx_id: bytes) -> StoredTransaction | None:
        with self._lock:
            place = self._places.get(tx_id)
            return None if place is None else self._transaction_at(*place)

    def _transaction_at(self, height: int, position: int) -> StoredTransaction:
        block = self._commits[height].block
        return StoredTransaction(
            height=height,
            position=position,
            timestamp_ms=block.block.header.timestamp_ms,
            tx=block.block.txs[position],
            outcome=block.outcomes[position],
        )

    def account_history(
        self, address: str, *, before: tuple[int, int] | None, limit: int
    ) -> list[StoredTransaction]:
        assert limit > 0, "a page has at least one item"
        with self._lock:
            places = self._of_account.get(address, [])
            end = len(places) if before is None else bisect_left(places, before)
            return [self._transaction_at(*place) for place in reversed(places[max(0, end - limit) : end])]

    def receipts(
        self, by: ReceiptIndex, value: str, *, before: tuple[int, int, int] | None, limit: int
    ) -> list[StoredReceipt]:
        assert limit > 0, "a page has at least one item"
        with self._lock:
            stored = self._receipts.get((by, value), [])
            end = len(stored) if before is None else bisect_left(stored, before, key=_place)
            return stored[max(0, end - limit) : end][::-1]

    def receipt(self, receipt_id: str) -> StoredReceipt | None:
        with self._lock:
            found = self._receipts.get(("id", receipt_id))
            return found[-1] if found else None

    def history_nodes(self, places: Sequence[tuple[int, int]]) -> list[bytes]:
        with self._lock:
            if not self._nodes.keys() >= set(places):
                raise StorageError(f"of the history nodes {list(places)} some are not there")
            return [self._nodes[place] for place in places]

    def block_hashes(self, start: int, stop: int) -> list[bytes]:
        with self._lock:
            return [commit.block.hash for commit in self._commits[max(start, 0) : max(stop, 0)]]

    def save_waiting(self, transactions: Sequence[bytes]) -> None:
        self._waiting = list(transactions)

    def load_waiting(self) -> list[bytes]:
        return list(self._waiting)

    def close(self) -> None:
        """Nothing to release."""


def _put(
    records: dict[str, dict[str, tuple[int, bytes]]], store: str, key: str, index: int, data: bytes | None
) -> None:
    if data is None:
        del records[store][key]
    else:
        records[store][key] = (index, data)


def _place(stored: StoredReceipt) -> tuple[int, int, int]:
    return (stored.height, stored.receipt.tx_position, stored.place)


def _indexed(commit: Commit) -> Iterator[tuple[tuple[str, str], StoredReceipt]]:
    """A block's receipts under everything that they are looked up by."""
    for stored in sorted(stored_receipts(commit.block, commit.receipts), key=_place):
        receipt = stored.receipt
        yield ("provider", receipt.provider), stored
        yield ("client", receipt.client), stored
        yield ("job", receipt.job_id), stored
        yield ("id", receipt.receipt_id), stored
