"""Nodes that only talk: whole networks of the real machines over the memory transport, in virtual time."""

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any

from aitbc.adapters.network.memory import MemorySwitch, MemoryTransport
from aitbc.core.peer.book import BookRecord
from aitbc.core.peer.gossip import Delivered, TransactionsCame, Verdict, Wake
from aitbc.core.peer.kinds import Status
from aitbc.core.peer.links import Close, Dial, LinkEvent, Send, Throttle
from aitbc.core.peer.network import Examine, Found, LookUp, Network, NetworkEffect, NotFound
from aitbc.core.peer.peering import TICK_MS
from aitbc.core.peer.peers import (
    ConfiguredPeer,
    PeerDown,
    PeerSettings,
    PeerUp,
    Refusal,
    Replied,
    Requested,
    Unreplied,
)
from aitbc.core.peer.reasons import PeerReason

START_MS = 1_800_000_000_000
SETTINGS_HASH = b"s" * 32
STATUS = Status(head_height=1, head_hash=bytes(32), finalised_height=1)


class Time:
    """A clock that jumps from event to event."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0

    def later(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._order, action))

    def run(self, for_ms: int) -> None:
        until = self.now_ms + for_ms
        while self._heap and self._heap[0][0] <= until:
            self.now_ms, _, action = heapq.heappop(self._heap)
            action()
        self.now_ms = until


class PoolOf:
    """A mempool that believes everything."""

    def __init__(self) -> None:
        self.txs: dict[bytes, bytes] = {}

    def has(self, wid: bytes) -> bool:
        return wid in self.txs

    def get(self, wid: bytes) -> bytes | None:
        return self.txs.get(wid)


class Villager:
    """A node: the network machine, a transport, and opinions."""

    def __init__(self, village: "Village", name: str, where: str, **settings: Any) -> None:
        self.village = village
        self.name = name
        self.where = where
        self.key = name.encode().ljust(32, b".")
        self.pool = PoolOf()
        self.heard: list[tuple[str, bytes]] = []
        """(kind, payload) of what was delivered, once each."""
        self.came: list[bytes] = []
        self.events: list[NetworkEffect] = []
        self.refusals: Counter[PeerReason] = Counter()
        self.treasure: dict[bytes, bytes] = {}
        """What others may search for: whatever is found under a name is good when it begins with that name."""
        self.found: dict[bytes, bytes | None] = {}
        """What this node searched for; None: nobody has it."""
        self.verdict: Callable[[Delivered], Verdict | None] = lambda _: Verdict.ACCEPT
        self.reply: Callable[[Requested], Any] = lambda _: None
        """None leaves the asker waiting."""
        self.is_genuine: Callable[[bytes, bytes], bool] = lambda wid, tx: True
        """Whether a transaction is the one that its hash names."""
        self.clock_offset_ms = 0
        book: BookRecord | None = settings.pop("book", None)
        configured: list[ConfiguredPeer] = settings.pop("configured", [])
        listens: bool = settings.pop("listens", True)
        self.alive = True
        defaults: dict[str, Any] = {
            "settings_hash": SETTINGS_HASH,
            "agent": name,
            "listen": f":{where.rpartition(':')[2]}" if listens else "",
            "features": ("votes",),
        }
        self.network = Network(
            PeerSettings(key=self.key, **(defaults | settings)),
            status=STATUS,
            pool=self.pool,
            secret=name.encode().ljust(32, b"?"),
            book=book,
            configured=configured,
        )
        self.transport = MemoryTransport(village.switch, key=self.key, where=where, listens=listens)
        self.transport.start_now(
            lambda event: village.time.later(0, lambda: self.hear(event)),
            lambda where: self.network.admits(where, self.now_ms),
        )
        self._tick()

    @property
    def now_ms(self) -> int:
        return self.village.time.now_ms + self.clock_offset_ms

    def hear(self, event: LinkEvent) -> None:
        if self.alive:
            self.perform(self.network.step(self.now_ms, event))

    def _tick(self) -> None:
        if self.alive:
            self.perform(self.network.tick(self.now_ms))
            self.village.time.later(TICK_MS, self._tick)

    def perform(self, effects: list[NetworkEffect]) -> None:
        for effect in effects:
            match effect:
                case Dial():
                    self.village.dials.append((self.name, effect.where))
                    self.transport.dial(effect)
                case Send():
                    self.transport.send(effect)
                case Close():
                    self.transport.close(effect)
                case Throttle():
                    self.events.append(effect)
                    self.transport.throttle(effect)
                case Wake():
                    self.village.time.later(
                        max(0, effect.at_ms - self.now_ms), lambda: self.perform(self._woken())
                    )
                case Delivered():
                    self.heard.append((effect.kind.name, effect.payload))
                    verdict = self.verdict(effect)
                    if verdict is not None:
                        self.perform(self.network.judge(self.now_ms, effect.id, verdict))
                case TransactionsCame():
                    self._take(effect)
                case LookUp():
                    self.perform(self.network.looked(self.now_ms, effect.id, self.treasure.get(effect.hash)))
                case Examine():
                    good = effect.content.startswith(effect.hash)
                    self.perform(self.network.examined(self.now_ms, effect.ticket, good=good))
                case Found():
                    self.found[effect.hash] = effect.content
                case NotFound():
                    self.found[effect.hash] = None
                case Requested():
                    self.events.append(effect)
                    answer = self.reply(effect)
                    if isinstance(answer, PeerReason):
                        self.perform(self.network.refuse(effect, answer))
                    elif answer is not None:
                        self.perform(self.network.answer(effect, answer))
                case Refusal():
                    self.refusals[effect.reason] += 1
                    self.events.append(effect)
                case PeerUp() | PeerDown() | Replied() | Unreplied():
                    self.events.append(effect)

    def _take(self, effect: TransactionsCame) -> None:
        good = [(wid, tx) for wid, tx in effect.txs if self.is_genuine(wid, tx)]
        wrong = [wid for wid, tx in effect.txs if not self.is_genuine(wid, tx)]
        self.came += [wid for wid, _ in good]
        self.pool.txs.update(good)
        self.perform(self.network.took(self.now_ms, [wid for wid, _ in good]))
        if wrong:
            self.perform(self.network.blame(self.now_ms, effect.key, PeerReason.INVALID, "another"))
            self.perform(self.network.mistaken(self.now_ms, wrong))

    def _woken(self) -> list[NetworkEffect]:
        return self.network.tick(self.now_ms) if self.alive else []

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def crash(self) -> None:
        self.alive = False
        self.transport.stop_now()

    @property
    def friends(self) -> set[str]:
        return {key.rstrip(b".").decode() for key in self.network.peers}


class Village:
    """Everybody, the clock, and the roads between them."""

    def __init__(self, *, latency_ms: int = 20) -> None:
        self.time = Time()
        self.blocked: Callable[[str, str], bool] = lambda _a, _b: False
        self.switch = MemorySwitch(
            self.time.later, latency_ms=lambda a, b: None if self.blocked(a, b) else latency_ms
        )
        self.people: dict[str, Villager] = {}
        self.dials: list[tuple[str, str]] = []

    def add(self, name: str, where: str = "", **settings: Any) -> Villager:
        where = where or f"20.{len(self.people) + 1}.0.1:7070"
        villager = Villager(self, name, where, **settings)
        self.people[name] = villager
        return villager

    def run(self, seconds: float) -> None:
        self.time.run(int(seconds * 1000))


def where_of(number: int) -> str:
    """A public address in a network of its own."""
    return f"{20 + number // 200}.{number % 200}.0.1:7070"
