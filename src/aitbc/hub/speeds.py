"""How long work takes: the last attempts of each model, for hedges and for saying when a job's turn comes."""

from collections import deque

KEPT = 50
LEAST = 5
"""Fewer say nothing about a ninety-fifth percentile."""


class Speeds:
    def __init__(self) -> None:
        self._per_kilounit: dict[str, deque[int]] = {}

    def note(self, model: str, *, units: int, took_ms: int) -> None:
        kept = self._per_kilounit.setdefault(model, deque(maxlen=KEPT))
        kept.append(1_000 * took_ms // max(1, units))

    def p95_ms(self, model: str, units: int) -> int | None:
        """How long so many units take at most, in nineteen of twenty cases; None while too little is known."""
        kept = self._per_kilounit.get(model, ())
        if len(kept) < LEAST:
            return None
        return sorted(kept)[min(len(kept) - 1, len(kept) * 95 // 100)] * units // 1_000

    def units_per_s(self, model: str) -> int:
        """Of one slot, by the median; a reference card does 1,000."""
        kept = sorted(self._per_kilounit.get(model, ()))
        if len(kept) < LEAST:
            return 1_000
        return 1_000_000 // max(1, kept[len(kept) // 2])
