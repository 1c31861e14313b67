"""Two honest processes with one key, each with its own disk: the best-known way to sign twice without meaning it."""

from aitbc.sim.node import Node


class Twin(Node):
    """The cluster starts two of them."""
