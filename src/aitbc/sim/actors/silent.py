"""Says nothing, ever: a validator whose machine is off."""

from typing import Any

from aitbc.sim.process import Process


class Silent(Process):
    def perform(self, effects: list[Any]) -> None:
        """Hears everything and does nothing."""
