"""Says nothing, ever: a validator whose machine is off."""

from aitbc.core.consensus.engine import EngineEffect
from aitbc.sim.node import Node


class Silent(Node):
    def perform(self, effects: list[EngineEffect]) -> None:
        """Hears everything and does nothing."""
