"""How agreement went, as one node saw it: what was skipped, who was slow, who was silent. For operators; no rule of
docs/spec/simplex.md reads it.
"""

from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec

from aitbc.core.types.reasons import Reason

LATE_SLOTS = 4
"""A vote that has not come when its slot lies so far back is missed: a quorum did without it."""
SLOW_PART = 2
"""A proposal is slow when it takes half of the time that it is waited for, as T₀ has it."""
MAX_INCIDENTS = 64
"""Between two looks of the host: older ones go."""


What = Literal["timeout", "skipped", "slow", "invalid"]
"""This node voted to skip · a quorum did · the proposal came, late · or was not valid."""


class Member(msgspec.Struct):
    """Counts about one validator since this node began."""

    heard_ms: int | None = None
    """When a vote or a proposal of its own came last; None: never."""
    led: int = 0
    """Slots of its own that ended with its candidate."""
    skipped: int = 0
    """Slots of its own that ended without."""
    timeouts: int = 0
    """Slots of its own that this node voted to skip, most often because it had waited long enough."""
    missed: int = 0
    """Slots in which no vote of it was seen in time."""
    invalid: int = 0
    """Proposals of its own that were not valid."""
    late_ms: int | None = None
    """How long after it was due its newest proposal came."""


class Incident(msgspec.Struct, frozen=True):
    """Something that an operator may want in a log."""

    what: What
    epoch: int
    slot: int
    leader: str
    late_ms: int
    reason: Reason | None = None
    """Of one that is `invalid`."""


class Record:
    """Counts by address, of the validators of the running epoch; totals since the node began."""

    def __init__(self) -> None:
        self.rounds = 0
        """Slots that are over."""
        self.skips = 0
        self.timeouts = 0
        self.members: dict[str, Member] = {}
        self.incidents: deque[Incident] = deque(maxlen=MAX_INCIDENTS)
        self._addresses: list[str] = []
        self._voters: dict[int, set[int]] = {}
        """Slot → positions whose vote was seen, of slots that may still get some."""
        self._newest = 0

    def begin_epoch(self, addresses: Sequence[str]) -> None:
        """Who has left is forgotten."""
        self._addresses = list(addresses)
        self.members = {address: self.members.get(address) or Member() for address in addresses}
        self._voters = {}
        self._newest = 0

    def member(self, position: int) -> Member:
        return self.members[self._addresses[position]]

    def heard(self, position: int, now_ms: int) -> None:
        self.member(position).heard_ms = now_ms

    def voted(self, position: int, slot: int, *, live: bool) -> None:
        """Also a vote that comes after its slot is decided. `live`: it came by itself, or is this node's own; a
        certificate holds no more votes than it needs, so a slot of which only that is known says nothing."""
        voters = self._voters.get(slot)
        if voters is not None:
            voters.add(position)
        elif live and slot > self._newest - LATE_SLOTS:
            self._voters[slot] = {position}

    def over(self, frontier: int, newly: int) -> None:
        """`newly` slots below the frontier are over now."""
        self.rounds += newly
        self._newest = frontier
        for slot in [slot for slot in self._voters if slot <= frontier - LATE_SLOTS]:
            voters = self._voters.pop(slot)
            for position in range(len(self._addresses)):
                if position not in voters:
                    self.member(position).missed += 1

    def proposed(self, *, epoch: int, slot: int, leader: int, late_ms: int, timeout_ms: int) -> None:
        """The proposal that everybody waits for has come."""
        self.member(leader).late_ms = late_ms
        if late_ms * SLOW_PART >= timeout_ms:
            self._note("slow", epoch, slot, leader, late_ms)

    def notarized(self, leader: int) -> None:
        self.member(leader).led += 1

    def skipped(self, *, epoch: int, slot: int, leader: int, late_ms: int) -> None:
        self.skips += 1
        self.member(leader).skipped += 1
        self._note("skipped", epoch, slot, leader, late_ms)

    def timed_out(self, *, epoch: int, slot: int, leader: int, late_ms: int) -> None:
        self.timeouts += 1
        self.member(leader).timeouts += 1
        self._note("timeout", epoch, slot, leader, late_ms)

    def refused(self, *, epoch: int, slot: int, leader: int, late_ms: int, reason: Reason) -> None:
        """The leader proposed what is not valid."""
        self.member(leader).invalid += 1
        self._note("invalid", epoch, slot, leader, late_ms, reason)

    def _note(
        self, what: What, epoch: int, slot: int, leader: int, late_ms: int, reason: Reason | None = None
    ) -> None:
        self.incidents.append(Incident(what, epoch, slot, self._addresses[leader], late_ms, reason))
