"""Who proposes: pure functions from the state at an epoch's boundary to a leader for every slot. docs/spec/electors.md

`poa` takes turns; `cbp` and `hybrid` weigh stake and recent compute. Integers only, so every node has the same table.
Voting power is another thing and is not decided here: compute is no collateral, it earns proposing and never votes.

Source: CometBFT's proposer selection for the turns; the weights are this project's (seed 000 §6.2).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import msgspec

from aitbc.core.ledger.state import Base, Overlay
from aitbc.core.ledger.validators import members_of
from aitbc.core.types.nakamoto import WorkMode
from aitbc.core.types.records import Param, Score, ValidatorRecord

Leaders = Callable[[int], int]
"""Slot, from 1 → position of its leader in the set."""

PRECISION = 1_000_000
"""M: shares of stake and of compute are counted in millionths."""
TURNS = 1_024
"""P: the weights of a set add up to this, so a share of a thousandth is still a turn in a cycle."""
CAP = PRECISION // 3
"""κ: compute alone makes nobody the leader of more than about a third of the slots, before the rest is scaled up."""
NEWCOMER = -(TURNS + TURNS // 8)
"""CometBFT's −1.125 · P: whoever leaves and comes back does not jump the queue."""

WeighedMode = Literal["poa", "cbp", "hybrid"]
Mode = WeighedMode | WorkMode
COMPUTE_SHARE: dict[WeighedMode, tuple[int, int]] = {"poa": (0, 1), "cbp": (1, 1), "hybrid": (1, 2)}
"""β as a fraction: how much of the weight is compute, the rest is stake."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A member of the set as the boundary's state has it."""

    address: str
    stake: int
    """Base units; 1 where stake does not count."""
    score: int
    """Verified compute units, decayed: docs/spec/epochs.md"""


def take_turns(count: int, epoch: int) -> Leaders:
    """`poa`: round robin in set order; each epoch begins one further, so that no place always begins."""
    return lambda slot: (epoch + slot - 1) % count


def weights_of(members: Sequence[Member], mode: WeighedMode) -> dict[str, int]:
    """Proposer weights by address: stake and compute by the mode's share, scaled to TURNS, at least 1 each."""
    numerator, denominator = COMPUTE_SHARE[mode]
    stakes = _shares([member.stake for member in members])
    scores = [min(share, CAP) for share in _shares([member.score for member in members])]
    raw = {
        member.address: max(1, ((denominator - numerator) * stake + numerator * score) // denominator)
        for member, stake, score in zip(members, stakes, scores, strict=True)
    }
    return _quantised(raw)


def _shares(amounts: list[int]) -> list[int]:
    total = sum(amounts)
    return [amount * PRECISION // total if total else 0 for amount in amounts]


def _quantised(raw: Mapping[str, int]) -> dict[str, int]:
    """Small integers that add up to TURNS: 1 each, the rest by largest remainder, ties by address."""
    rest, total = TURNS - len(raw), sum(raw.values())
    weights = {address: 1 + weight * rest // total for address, weight in raw.items()}
    by_remainder = sorted(raw, key=lambda address: (-(raw[address] * rest % total), address))
    for address in by_remainder[: TURNS - sum(weights.values())]:
        weights[address] += 1
    return weights


def carried_over(accumulators: Mapping[str, int], weights: Mapping[str, int]) -> dict[str, int]:
    """The accumulators with which an epoch begins, from those that the epoch before ended with.

    As in CometBFT's proposer selection: who left is forgotten, a newcomer begins far behind, a spread of more than
    2 · P is scaled down, and the mean is taken off. The first epoch of a chain begins with zeros: pass zeros.
    """
    assert weights, "somebody votes"
    kept = {address: accumulators.get(address, NEWCOMER) for address in sorted(weights)}
    spread = max(kept.values()) - min(kept.values())
    if spread > 2 * TURNS:
        divisor = -(-spread // (2 * TURNS))
        kept = {address: _truncated(value, divisor) for address, value in kept.items()}
    mean = _truncated(sum(kept.values()), len(kept))
    return {address: value - mean for address, value in kept.items()}


def _truncated(value: int, divisor: int) -> int:
    """Division towards zero, whose result does not depend on which side of zero a value lies."""
    return value // divisor if value >= 0 else -(-value // divisor)


class Rotation:
    """Weighted turns without end: each turn everybody gains its weight, who has most leads and pays P.

    Turns are kept as they are worked out (a list that grows), and never repeated as a table: a newcomer's wait would
    come again in every cycle. A slot costs O(set) once: 29 µs at fifty members. The engine alone asks for new turns;
    threads that check messages ask for turns that are there.
    """

    def __init__(
        self, order: Sequence[str], weights: Mapping[str, int], accumulators: Mapping[str, int]
    ) -> None:
        """`order`: the set's addresses, in set order."""
        self._order = sorted(order)
        self._position = {address: place for place, address in enumerate(order)}
        self._weights = [weights[address] for address in self._order]
        self._now = [accumulators[address] for address in self._order]
        self._turns: list[int] = []

    def leader_of(self, slot: int) -> int:
        """Position in the set of the leader of a slot, from 1."""
        while len(self._turns) < slot:
            self._turns.append(self._turn())
        return self._turns[slot - 1]

    def _turn(self) -> int:
        now = self._now = [value + weight for value, weight in zip(self._now, self._weights, strict=True)]
        leader = now.index(max(now))  # the first of equals has the lowest address
        now[leader] -= TURNS
        return self._position[self._order[leader]]


def accumulators_after(
    weights: Mapping[str, int], accumulators: Mapping[str, int], epoch_length: int
) -> dict[str, int]:
    """What is carried to the next epoch: the accumulators after exactly as many turns as the epoch has heights, because
    how many slots were really used is not agreed."""
    order = sorted(weights)
    rotation = Rotation(order, weights, accumulators)
    rotation.leader_of(epoch_length)
    return dict(zip(order, rotation._now, strict=True))


# Of a state


def mode_of(state: Base) -> Mode:
    record = state.get("params", "consensus.mode")
    assert isinstance(record, Param), "genesis names the mode"
    return cast(Mode, record.value)


def leaders_of(state: Base, epoch: int) -> Leaders:
    """Who leads the slots of an epoch, from the state that it began with, or from any within it: what counts changes
    at boundaries only."""
    mode, voters = mode_of(state), _voters(state)
    if mode == "poa":
        return take_turns(len(voters), epoch)
    assert mode == "cbp" or mode == "hybrid", "where work agrees nobody leads a slot"
    order = [address for address, _ in voters]
    return Rotation(order, _weights(state, mode), _accumulators(voters)).leader_of


def turns_at_end(state: Base, epoch_length: int) -> dict[str, int]:
    """The accumulators with which a running epoch ends; nothing where turns are not weighed."""
    mode = mode_of(state)
    if mode != "cbp" and mode != "hybrid":
        return {}
    return accumulators_after(_weights(state, mode), _accumulators(_voters(state)), epoch_length)


def carry_turns(state: Overlay, ended_with: Mapping[str, int]) -> None:
    """At a boundary, with the set and the scores of the next epoch in the state: give each voter its place in the
    turns."""
    mode = mode_of(state)
    if mode != "cbp" and mode != "hybrid":
        return
    carried = carried_over(ended_with, _weights(state, mode))
    for address, record in members_of(state):
        turns = carried.get(address, 0)
        if record.turns != turns:
            state.put("validators", address, msgspec.structs.replace(record, turns=turns))


def _voters(state: Base) -> list[tuple[str, ValidatorRecord]]:
    return [(address, record) for address, record in members_of(state) if record.power]


def _accumulators(voters: Sequence[tuple[str, ValidatorRecord]]) -> dict[str, int]:
    return {address: record.turns for address, record in voters}


def _weights(state: Base, mode: WeighedMode) -> dict[str, int]:
    members = []
    for address, record in _voters(state):
        score = state.get("validators", f"score:{address}")
        assert score is None or isinstance(score, Score)
        stake = record.power if mode == "hybrid" else 1
        members.append(Member(address=address, stake=stake, score=score.score if score else 0))
    return weights_of(members, mode)
