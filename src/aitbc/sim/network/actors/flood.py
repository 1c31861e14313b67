"""Ten times what a kind's rate allows, from each connection: most of it is skipped, and its sender goes."""

from __future__ import annotations

from aitbc.core.peer.kinds import KINDS, Kind
from aitbc.sim.network.actors.liar import LIES
from aitbc.sim.network.actors.stranger import ACT_MS, Line, Stranger

TIMES = 10
MOST_BYTES = 256 * 1024
"""An act's bytes to each victim: a fast line, full."""


class Flood(Stranger):
    def act(self) -> None:
        for line in list(self.friends):
            for kind in self.kinds or KINDS:
                self._pour(line, kind)

    def _pour(self, line: Line, kind: Kind) -> None:
        """Of contents that are all different, so that none is known already."""
        payload = LIES[kind.name].say(self, line)
        times = max(1, TIMES * kind.count.per_second * ACT_MS // 1000)
        times = min(times, MOST_BYTES // (len(payload) + 40) // len(self.kinds or KINDS) + 1)
        for _ in range(times):
            self.say(line, kind, LIES[kind.name].say(self, line))
