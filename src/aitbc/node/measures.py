"""What a running node counts about itself, for metrics and for `GET /rpc/consensus`."""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence

from aitbc.core.consensus.simplex.record import MAX_INCIDENTS, Incident

FINALITY_S = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 1.0, 2.0, 5.0, 10.0, 30.0)
"""From a block's timestamp until it is final and readable here: the goals are 0.25 and 0.6."""
DISK_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)
"""An append that is safe on disk: 1 ms on a good one, 10 ms on a shared one."""


COMMIT_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""An empty block takes 3 ms on a good disk, a full one half a second."""
INTERVAL_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Counts by upper bound; taken on one thread, read on any."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self.bounds_s = tuple(bounds_s)
        self.counts = [0] * (len(self.bounds_s) + 1)
        self.sum_s = 0.0

    def take(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as the text format wants them."""
        total, rows = 0, []
        for bound, count in zip((*map(str, self.bounds_s), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


class Measures:
    """Of one node since it began."""

    def __init__(self) -> None:
        self.transactions = 0
        """Final ones."""
        self.last_commit_ms = 0
        self.commits = Histogram(COMMIT_S)
        """Writes of blocks, until they are safe on disk and visible."""
        self.intervals = Histogram(INTERVAL_S)
        """Between the timestamps of blocks made since this node began."""
        self._previous_ms: int | None = None
        self.refused: Counter[str] = Counter()
        """Transactions refused at the door, by reason."""
        self.finality = Histogram(FINALITY_S)
        """Of blocks made since this node began: those it caught up with say nothing."""
        self.dropped: Counter[str] = Counter()
        """Transactions refused after admission, by reason."""
        self.incidents: deque[tuple[int, Incident]] = deque(maxlen=MAX_INCIDENTS)
        """The newest, with when they were noticed."""

    def block_came(self, timestamp_ms: int) -> None:
        """One that was made since this node began."""
        if self._previous_ms is not None:
            self.intervals.take((timestamp_ms - self._previous_ms) / 1000)
        self._previous_ms = timestamp_ms
