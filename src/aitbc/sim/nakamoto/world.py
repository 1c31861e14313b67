"""Virtual time and a network that delays, reorders, loses and is cut; everything random comes from the seed."""

import heapq
import random
from collections.abc import Callable
from hashlib import sha256

import msgspec


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """What the network does to messages."""

    delay_ms: tuple[int, int] = (10, 80)
    """Shortest and longest way: what is between them arrives in any order."""
    loss_percent: int = 0


class World:
    def __init__(self, seed: int, weather: Weather, *, start_ms: int) -> None:
        self.now_ms = start_ms
        self.random = random.Random(f"{seed}/world")  # noqa: S311 - a simulation repeats, it does not hide
        self.weather = weather
        self.trace: list[str] = []
        self._groups: dict[str, int] = {}
        """Who is cut off together; empty: nobody is."""
        self._heap: list[tuple[int, int]] = []
        self._actions: dict[int, Callable[[], None]] = {}
        self._count = 0

    def after(self, delay_ms: int, action: Callable[[], None]) -> int:
        """Its number, with which it can be called off."""
        self._count += 1
        self._actions[self._count] = action
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._count))
        return self._count

    def call_off(self, number: int) -> None:
        self._actions.pop(number, None)

    def run(self, for_ms: int) -> None:
        until_ms = self.now_ms + for_ms
        while self._heap and self._heap[0][0] <= until_ms:
            at_ms, number = heapq.heappop(self._heap)
            action = self._actions.pop(number, None)
            if action is not None:
                self.now_ms = at_ms
                action()
        self.now_ms = until_ms

    def send(self, sender: str, receiver: str, deliver: Callable[[], None]) -> None:
        """Lost when a cut lies between the two as it leaves or as it arrives."""
        if self.random.randrange(100) < self.weather.loss_percent:
            return

        def arrive() -> None:
            if self.is_linked(sender, receiver):
                deliver()

        if self.is_linked(sender, receiver):
            self.after(self.random.randint(*self.weather.delay_ms), arrive)

    def cut(self, *groups: list[str]) -> None:
        """Only who is in one group hears each other; no groups: everybody does."""
        self._groups = {name: place for place, group in enumerate(groups) for name in group}

    def is_linked(self, one: str, other: str) -> bool:
        return self._groups.get(one) == self._groups.get(other)

    def note(self, text: str) -> None:
        self.trace.append(f"{self.now_ms} {text}")

    def digest(self) -> str:
        """One hash for everything that happened."""
        return sha256("\n".join(self.trace).encode()).hexdigest()
