"""Virtual time, and roads that delay, break and are cut. Everything random comes from the seed."""

import heapq
import random
from collections.abc import Callable, Collection
from hashlib import sha256

from aitbc.adapters.network.memory import MemorySwitch
from aitbc.sim.network.plan import NetworkPlan

START_MS = 1_800_000_000_000
RESEND_MS = 200
"""TCP sends again what was lost after this, and after twice as long each time."""
MAX_RESENDS = 5


class World:
    """One heap of actions, one generator, one story."""

    def __init__(self, plan: NetworkPlan, *, verbose: bool) -> None:
        self.plan = plan
        self.verbose = verbose
        self.now_ms = START_MS
        self.events = 0
        self.draw = random.Random(f"{plan.seed}/network run")  # noqa: S311 - a simulation repeats, it does not hide
        self.trace: list[str] = []
        self.switch = MemorySwitch(self.later, latency_ms=self._way_ms)
        self._digest = sha256()
        self._sides: dict[str, int] = {}
        """Who is cut off together, by address; empty: nobody is."""
        self._ways: dict[tuple[str, str], int] = {}
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0

    def later(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._order, action))

    def run(self, for_ms: int) -> None:
        until = self.now_ms + for_ms
        while self._heap and self._heap[0][0] <= until:
            self.now_ms, _, action = heapq.heappop(self._heap)
            self.events += 1
            action()
        self.now_ms = until

    def cut(self, side: Collection[str]) -> None:
        """Nothing passes between these addresses and the others; nobody: everything passes."""
        self._sides = dict.fromkeys(side, 1)

    def is_cut(self, one: str, other: str) -> bool:
        return bool(self._sides) and self._sides.get(one) != self._sides.get(other)

    def heard(self, name: str, data: bytes) -> None:
        """Bytes that arrived: the digest has them all, the story only when it is told whole."""
        self._digest.update(b"%d %s " % (self.now_ms, name.encode()) + data)
        if self.verbose:
            self.note(f"{name} hears {len(data)} bytes {sha256(data).hexdigest()[:8]}")

    def note(self, text: str) -> None:
        line = f"{self.now_ms - START_MS} {text}"
        self.trace.append(line)
        if not self.verbose or " hears " not in text:
            self._digest.update(line.encode())

    def digest(self) -> str:
        """One hash for everything that happened, told whole or not."""
        return self._digest.hexdigest()

    def _way_ms(self, one: str, other: str) -> int | None:
        """A pair's own distance, something on top, and waiting when it was lost."""
        if self.is_cut(one, other):
            return None
        pair = (min(one, other), max(one, other))
        way = self._ways.get(pair)
        if way is None:
            way = self._ways[pair] = self.draw.randint(*self.plan.delay_ms)
        way += self.draw.randint(0, self.plan.jitter_ms)
        for tried in range(MAX_RESENDS):
            if self.draw.randrange(100) >= self.plan.loss_percent:
                break
            way += RESEND_MS << tried
        return way
