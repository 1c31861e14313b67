"""Weighted fair queueing: whoever asks for much waits behind himself, not others behind him. docs/spec/matching.md

A part's virtual finish is when it would be done if everybody were served at once, each by his weight. Parts go in the
order of class and virtual finish; paying double gets twice the share, not the whole queue. Integers only.
"""

from collections import OrderedDict
from collections.abc import Iterator
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

from sortedcontainers import SortedKeyList

T = TypeVar("T")

SCALE = 1_000
"""Virtual time of one unit at weight 1,000 (a weight of one)."""
LEAST_WEIGHT, MOST_WEIGHT = 250, 8_000
"""Nobody has less than a quarter or more than eight times the share of who pays the going price."""
MAX_CLIENTS = 100_000
"""Clients whose last finish is remembered; who is forgotten begins at the present, as a newcomer does."""
SLICE = 10
"""Every tenth dispatch goes to the lowest class that waits: batch work is slow, never starved."""


class JobClass(IntEnum):
    """Higher classes go first; the number is the order."""

    INTERACTIVE = 0
    NORMAL = 1
    BATCH = 2
    FREE = 3
    """Free work and calibration."""


def weight_of_bid(*, price_per_kilounit: int, reference: int, tier_milli: int = 1_000) -> int:
    """A client's weight in thousandths: its price relative to the going one, times its tier, within bounds."""
    relative = 1_000 * price_per_kilounit // reference if reference > 0 else 1_000
    return min(max(relative * tier_milli // 1_000, LEAST_WEIGHT), MOST_WEIGHT)


def cost_of(units: int, weight_milli: int) -> int:
    """Virtual time that a part takes."""
    return max(1, units * SCALE * 1_000 // weight_milli)


class FairClock:
    """Gives out virtual finishes for one queue."""

    def __init__(self) -> None:
        self.now = 0
        """Virtual start of the part that was dispatched last."""
        self._last: OrderedDict[str, int] = OrderedDict()

    def stamp(self, client: str, cost: int) -> int:
        """The virtual finish of a client's next part."""
        finish = max(self.now, self._last.pop(client, 0)) + cost
        self._last[client] = finish
        if len(self._last) > MAX_CLIENTS:
            self._last.popitem(last=False)
        return finish

    def dispatched(self, vfinish: int, cost: int) -> None:
        self.now = max(self.now, vfinish - cost)

    def heard(self, client: str, vfinish: int) -> None:
        """A part that was stamped elsewhere, or by an earlier run."""
        if vfinish > self._last.get(client, 0):
            self._last[client] = vfinish


class Waiting(NamedTuple, Generic[T]):
    """A part in the queue."""

    key: str
    job_class: int
    vfinish: int
    seq: int
    """Among equals the older one first."""
    cost: int
    item: T


def _place(waiting: "Waiting[T]") -> tuple[int, int]:
    return waiting.vfinish, waiting.seq


class FairQueue(Generic[T]):
    """What waits for one kind of provider."""

    def __init__(self) -> None:
        self.clock = FairClock()
        self._classes: dict[int, SortedKeyList[Waiting[T]]] = {}
        self._by_key: dict[str, Waiting[T]] = {}
        self._turn = 0

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def in_class(self, job_class: int) -> int:
        return len(self._classes.get(job_class, ()))

    def last(self, job_class: int) -> "Waiting[T] | None":
        """Whose turn in this class comes last."""
        parts = self._classes.get(job_class)
        return parts[-1] if parts else None

    def push(self, waiting: "Waiting[T]") -> None:
        assert waiting.key not in self._by_key, "a part waits once"
        parts = self._classes.get(waiting.job_class)
        if parts is None:
            parts = self._classes[waiting.job_class] = SortedKeyList(key=_place)
        parts.add(waiting)
        self._by_key[waiting.key] = waiting

    def remove(self, key: str) -> "Waiting[T] | None":
        """Take a part out, if it is there."""
        waiting = self._by_key.pop(key, None)
        if waiting is not None:
            self._classes[waiting.job_class].remove(waiting)
        return waiting

    def took(self, waiting: "Waiting[T]") -> None:
        """It was dispatched: time goes on."""
        self.remove(waiting.key)
        self.clock.dispatched(waiting.vfinish, waiting.cost)
        self._turn += 1

    def in_order(self) -> "Iterator[Waiting[T]]":
        """Whose turn it is, then who would be next; every tenth turn begins with the lowest class."""
        classes = sorted([number for number, parts in self._classes.items() if parts])
        if classes and self._turn % SLICE == SLICE - 1:
            classes.insert(0, classes.pop())
        for number in classes:
            yield from self._classes[number]

    def ahead_of(self, key: str) -> int:
        """Units of virtual time before a waiting part in its class and in the higher ones."""
        waiting = self._by_key[key]
        higher = sum(
            [
                part.cost
                for number, parts in self._classes.items()
                if number < waiting.job_class
                for part in parts
            ]
        )
        ahead: int = higher + sum(
            [part.cost for part in self._classes[waiting.job_class] if _place(part) < _place(waiting)]
        )
        return ahead
