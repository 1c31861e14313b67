"""What a provider counts since its start, by model and by how jobs ended."""

from bisect import bisect_left
from collections import Counter, deque

OTHER_MODEL = "other"
"""Of offers for what is not served here: a hub cannot make names."""
BOUNDS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
MAX_RECENT = 256
"""Jobs of a model from which its median and its 95th percentile are made."""


class Durations:
    """A histogram, and the newest durations themselves."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0
        self._recent: deque[float] = deque(maxlen=MAX_RECENT)

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds
        self._recent.append(seconds)

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        total, found = 0, []
        for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found

    def percentile(self, share: float) -> float:
        """Of the newest; 0 without any."""
        ordered = sorted(self._recent)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Measures:
    def __init__(self) -> None:
        self.jobs: Counter[tuple[str, str]] = Counter()
        """By model and exit code."""
        self.units: Counter[str] = Counter()
        self.bytes_out: Counter[str] = Counter()
        self.engine_s: dict[str, float] = {}
        self.durations: dict[str, Durations] = {}
        """Of jobs that were delivered."""

    def job_ended(
        self, model: str, exit_code: str, *, seconds: float, engine_s: float, units: int, bytes_out: int
    ) -> None:
        self.jobs[model, exit_code] += 1
        if exit_code != "ok":
            return
        self.units[model] += units
        self.bytes_out[model] += bytes_out
        self.engine_s[model] = self.engine_s.get(model, 0.0) + engine_s
        self.durations.setdefault(model, Durations()).add(seconds)

    @property
    def done(self) -> int:
        return sum(count for (_, exit_code), count in self.jobs.items() if exit_code == "ok")

    @property
    def failed(self) -> int:
        return sum(count for (_, exit_code), count in self.jobs.items() if exit_code != "ok")
