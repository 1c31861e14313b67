"""Somebody who owns nine of ten addresses and wants to be everybody's only neighbour.

Its nodes are polite and silent: they take every connection, fill every place, list each other only, and pass nothing
on.
"""

from __future__ import annotations

from aitbc.core.peer.kinds import MAX_LISTED, PeerAddress
from aitbc.sim.network.actors.stranger import Stranger

DIALS = 4
"""Victims of each of its nodes: twice as many as all places of everybody."""


class Eclipse(Stranger):
    back_ms = 10_000

    def victims(self) -> list[str]:
        honest = super().victims()
        return self.world.draw.sample(honest, min(DIALS, len(honest)))

    def known(self) -> list[PeerAddress]:
        bad = [actor for actor in self.run.bad if actor is not self]
        some = self.world.draw.sample(bad, min(MAX_LISTED, len(bad)))
        return [PeerAddress(actor.where, actor.key) for actor in some]
