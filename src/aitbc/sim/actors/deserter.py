"""Takes part like everybody else until somebody is far behind, and is silent from then on: now nobody can do without
the one who is to catch up."""

from typing import Any

from aitbc.sim.actors.silent import Silent
from aitbc.sim.faults import FAULTS_MS
from aitbc.sim.process import Process

EARLIEST_MS = FAULTS_MS // 3
"""First there is to be a chain to be behind of."""
FAR = 3
"""Blocks."""


class Deserter(Silent):
    has_gone = False

    def perform(self, effects: list[Any]) -> None:
        self.has_gone = self.has_gone or self._is_missed()
        if not self.has_gone:
            Process.perform(self, effects)

    def _is_missed(self) -> bool:
        if self.cluster.now < EARLIEST_MS:
            return False
        heights: list[int] = [node.height for node in self.cluster.honest]
        return max(heights) - min(heights) >= FAR
