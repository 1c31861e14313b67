"""Bad actors, one file each. Every one has a validator's key and less than a third of the power."""

from aitbc.sim.node import Node

ACTORS: dict[str, type[Node]] = {}
