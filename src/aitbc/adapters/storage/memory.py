"""A store in memory: for the simulator and for tests."""

from collections.abc import Sequence

from aitbc.core.crypto.mountains import peak_places
from aitbc.core.types.blocks import CommittedBlock
from aitbc.core.types.records import Commit, StoredChain
from aitbc.ports import StoredHead


class MemoryStore:
    """Keeps what was committed until it is dropped; `close` loses nothing, so a restart can be played."""

    def __init__(self, genesis_hash: bytes) -> None:
        self._genesis_hash = genesis_hash
        self._commits: list[Commit] = []
        self._heights: dict[bytes, int] = {}
        self._transactions: dict[bytes, tuple[int, int]] = {}
        self._records: dict[str, dict[str, tuple[int, bytes]]] = {}
        self._history: dict[tuple[int, int], bytes] = {}

    def load(self) -> StoredChain | None:
        if not self._commits:
            return None
        records = {
            store: sorted((index, key, data) for key, (index, data) in rows.items())
            for store, rows in self._records.items()
        }
        places = peak_places(len(self._commits) - 1)
        return StoredChain(
            genesis_hash=self._genesis_hash,
            head=self._commits[-1].block,
            history_peaks=[(level, self._history[level, position]) for level, position in places],
            records=records,
            before_head=[(c.store, c.key, c.before) for c in self._commits[-1].changes],
        )

    def commit(self, commit: Commit) -> None:
        block = commit.block
        height = block.block.header.height
        assert height == len(self._commits), "blocks are committed in order"
        self._commits.append(commit)
        self._heights[block.hash] = height
        for position, outcome in enumerate(block.outcomes):
            self._transactions[outcome.tx_id] = (height, position)
        for change in commit.changes:
            rows = self._records.setdefault(change.store, {})
            if change.record is None:
                del rows[change.key]
            else:
                rows[change.key] = (change.index, change.data)
        for node in commit.history:
            self._history[node.level, node.position] = node.hash

    def block_by_height(self, height: int) -> CommittedBlock | None:
        return self._commits[height].block if 0 <= height < len(self._commits) else None

    def block_by_hash(self, block_hash: bytes) -> CommittedBlock | None:
        height = self._heights.get(block_hash)
        return self._commits[height].block if height is not None else None

    def head_at(self, height: int) -> StoredHead | None:
        block = self.block_by_height(height)
        if block is None:
            return None
        return StoredHead(
            header=block.block.header,
            hash=block.hash,
            certificate=block.certificate,
            tx_count=len(block.outcomes),
        )

    def transaction_ids(self, height: int, *, start: int, limit: int) -> list[bytes]:
        block = self.block_by_height(height)
        return [outcome.tx_id for outcome in block.outcomes[start : start + limit]] if block else []

    def find_transaction(self, tx_id: bytes) -> tuple[int, int] | None:
        return self._transactions.get(tx_id)

    def block_hashes(self, start: int, stop: int) -> list[bytes]:
        return [commit.block.hash for commit in self._commits[start:stop]]

    def history_nodes(self, places: Sequence[tuple[int, int]]) -> list[bytes]:
        return [self._history[place] for place in places]

    def close(self) -> None:
        """Nothing to release."""
