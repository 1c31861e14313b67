"""Whose turn it is, in mode poa-pow: one leader for every timestamp, from the parent alone.
docs/spec/nakamoto.md "Authors"

Round robin from the parent's author on, as Clique's in-turn rule (EIP-225); turns pass by the timestamps in the
headers. No clock and no message takes part, so everybody who has the header can check its author.
"""

from collections.abc import Sequence
from typing import NamedTuple

from aitbc.core.types.nakamoto import NakamotoSettings
from aitbc.core.types.reasons import Reason, Rejected


class Miner(NamedTuple):
    address: str
    auth_key: bytes
    """Ed25519, of the genesis: a KEY_ROTATE does not change who seals blocks."""


class Turn(NamedTuple):
    """Timestamps of which one miner is the author: from `begin_ms` on, below `end_ms`."""

    begin_ms: int
    end_ms: int


class Schedule:
    """The listed miners in genesis order."""

    def __init__(self, miners: Sequence[Miner], settings: NakamotoSettings) -> None:
        assert miners, "mode poa-pow lists its miners"
        self._miners = tuple(miners)
        self._positions = {miner.address: position for position, miner in enumerate(miners)}
        self._interval_ms = settings.interval_ms
        self._take_over_ms = settings.take_over_ms

    def leader_at(self, timestamp_ms: int, *, parent_author: str, parent_ms: int) -> Miner:
        """The author of a block with this timestamp."""
        late_ms = timestamp_ms - parent_ms - self._interval_ms
        passed = max(0, late_ms // self._take_over_ms)
        return self._miners[(self._first_after(parent_author) + passed) % len(self._miners)]

    def check(self, proposer: str, timestamp_ms: int, *, parent_author: str, parent_ms: int) -> Miner:
        leader = self.leader_at(timestamp_ms, parent_author=parent_author, parent_ms=parent_ms)
        if proposer != leader.address:
            raise Rejected(
                Reason.WRONG_PROPOSER, f"{proposer} at {timestamp_ms}, the turn of {leader.address}"
            )
        return leader

    def turn_of(self, address: str, *, from_ms: int, parent_author: str, parent_ms: int) -> Turn | None:
        """Its first turn that ends after `from_ms`; None for who is not listed."""
        position = self._positions.get(address)
        if position is None:
            return None
        count = len(self._miners)
        waits = (position - self._first_after(parent_author)) % count
        opened_ms = parent_ms + self._interval_ms
        passed = max(0, (from_ms - opened_ms) // self._take_over_ms)
        rounds = max(0, -(-(passed - waits) // count))
        number = waits + rounds * count
        begin_ms = opened_ms + number * self._take_over_ms
        return Turn(begin_ms if number else parent_ms, begin_ms + self._take_over_ms)

    def _first_after(self, author: str) -> int:
        """Position of the miner after this one; after the genesis block, of the first."""
        position = self._positions.get(author)
        return 0 if position is None else (position + 1) % len(self._miners)
