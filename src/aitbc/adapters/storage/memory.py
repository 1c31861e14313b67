"""A store in memory: for the simulator and for tests."""

from collections.abc import Sequence

from aitbc.core.types.blocks import CommittedBlock
from aitbc.core.types.records import Change, StoredChain


class MemoryStore:
    """Keeps what was committed until it is dropped; `close` loses nothing, so a restart can be played."""

    def __init__(self, genesis_hash: bytes) -> None:
        self._genesis_hash = genesis_hash
        self._blocks: list[CommittedBlock] = []
        self._heights: dict[bytes, int] = {}
        self._transactions: dict[bytes, tuple[int, int]] = {}
        self._records: dict[str, dict[str, tuple[int, bytes]]] = {}
        self._peaks: list[tuple[int, bytes]] = []

    def load(self) -> StoredChain | None:
        if not self._blocks:
            return None
        records = {
            store: sorted((index, key, data) for key, (index, data) in rows.items())
            for store, rows in self._records.items()
        }
        return StoredChain(
            genesis_hash=self._genesis_hash, head=self._blocks[-1], history_peaks=self._peaks, records=records
        )

    def commit(
        self, *, block: CommittedBlock, changes: Sequence[Change], history_peaks: list[tuple[int, bytes]]
    ) -> None:
        height = block.block.header.height
        assert height == len(self._blocks), "blocks are committed in order"
        self._blocks.append(block)
        self._heights[block.hash] = height
        for position, outcome in enumerate(block.outcomes):
            self._transactions[outcome.tx_id] = (height, position)
        for change in changes:
            self._records.setdefault(change.store, {})[change.key] = (change.index, change.data)
        self._peaks = history_peaks

    def block_by_height(self, height: int) -> CommittedBlock | None:
        return self._blocks[height] if 0 <= height < len(self._blocks) else None

    def block_by_hash(self, block_hash: bytes) -> CommittedBlock | None:
        height = self._heights.get(block_hash)
        return self._blocks[height] if height is not None else None

    def find_transaction(self, tx_id: bytes) -> tuple[int, int] | None:
        return self._transactions.get(tx_id)

    def block_hashes(self, start: int, stop: int) -> list[bytes]:
        return [block.hash for block in self._blocks[start:stop]]

    def close(self) -> None:
        """Nothing to release."""
