"""Which validators decide when, in a simulation: drawn from the seed, the same for every node."""

import random

from aitbc.core.consensus.epoch import Epoch
from aitbc.core.ledger.elector import Rotation
from aitbc.sim import keys

CHAIN_ID = "ait-sim"
GENESIS_HASH = b"\x01" * 32


class Epochs:
    """Epoch by number. Powers and proposer weights change with every epoch, and so does who is in the set; the weak
    (attackers, and who may lose its disk) never hold a third of it."""

    def __init__(self, seed: int, *, nodes: int, weak: frozenset[int], length: int, changing: bool) -> None:
        self.length = length
        self._seed = seed
        self._nodes = nodes
        self._weak = weak
        self._changing = changing
        self._known: dict[int, Epoch] = {}

    def __getitem__(self, number: int) -> Epoch:
        if number not in self._known:
            self._known[number] = self._draw(number)
        return self._known[number]

    def number_after(self, height: int) -> int:
        """The epoch of the block after this height."""
        return height // self.length

    def _draw(self, number: int) -> Epoch:
        draw = random.Random(f"{self._seed}/epoch/{number}")  # noqa: S311 - a simulation repeats, it does not hide
        members = list(range(self._nodes))
        powers = dict.fromkeys(members, 1)
        if self._changing:
            if self._nodes > 4 and not draw.randrange(3):
                members.remove(draw.choice([place for place in members if place not in self._weak]))
            powers = {place: draw.randrange(1, 6) for place in members}
            draw.shuffle(members)
        honest = sum(powers[place] for place in members if place not in self._weak)
        for place in members:
            if place in self._weak:
                powers[place] = max(1, min(powers[place], (honest - 1) // (2 * len(self._weak))))
        order = [f"v{place}" for place in members]
        weights = {f"v{place}": 1024 // len(members) for place in members}
        weights[order[0]] += 1024 - sum(weights.values())
        rotation = Rotation(order, weights, dict.fromkeys(order, 0))
        return Epoch(
            number=number,
            validators=[keys.validator(place, powers[place]) for place in members],
            leaders=rotation.leader_of,
            last_height=(number + 1) * self.length,
            chain_id=CHAIN_ID,
            genesis_hash=GENESIS_HASH,
        )
