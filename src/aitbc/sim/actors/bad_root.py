"""Leads with blocks whose state root is wrong: nobody may vote for them."""

from aitbc.sim.node import Node


class BadRootLeader(Node):
    def makes_valid_blocks(self) -> bool:
        return False
