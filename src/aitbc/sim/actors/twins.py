"""Two honest processes with one key, each with its own disk: the best-known way to sign twice without meaning it."""

from aitbc.sim.process import Process


class Twin(Process):
    """The cluster starts two of them."""
