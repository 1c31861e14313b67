"""Virtual time, a network that loses and delays, and everything that a seed makes happen. Same seed, same run.

One heap of events; everything random comes from one generator that the cluster holds. The trace has what a reader needs
to follow the story; with `verbose` every message and timer too.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from aitbc.core.consensus.simplex.guard import GuardRefuses
from aitbc.sim.actors import ACTORS
from aitbc.sim.blocks import START_MS
from aitbc.sim.checks import BUGS, Broken, Checks
from aitbc.sim.epochs import GENESIS_HASH, Epochs
from aitbc.sim.faults import FAULTS_MS, HEAL_MS, Plan, Trouble
from aitbc.sim.node import Node, TxGossip
from aitbc.sim.process import Died, Envelope, Process

RESTART_MS = 200
ENDS_A_LIFE = (Died, GuardRefuses, *BUGS)
EPOCH_WALK_MS = 400
"""Who slept for many epochs walks them here one by one: end, blocks, next set. A real host asks for ranges."""


class Cluster:
    """All nodes of one run."""

    host_class: type[Process] = Node
    """What bad actors are beside being bad."""

    def __init__(self, plan: Plan, *, verbose: bool = False, node_class: type[Any] | None = None) -> None:
        self.plan = plan
        self.verbose = verbose
        self.draw = random.Random(f"{plan.seed}/run")  # noqa: S311 - a simulation repeats, it does not hide
        self.now = 0
        self.events = 0
        self.rejected = 0
        self.trace: list[str] = []
        self.fallen: list[str] = []
        """Guilty ones that died of a bug, and of which."""
        self._heap: list[tuple[int, int, Process | None, int, str, Any]] = []
        self._order = 0
        self._is_healed = False
        self._cut: dict[tuple[int, int], int] = {}
        self._slow: dict[int, int] = {}
        self._skew = list(plan.skew_ms)
        self._paused: dict[int, int] = {}
        self._held: dict[int, list[tuple[Process, int, str, Any]]] = {}
        """What happened to paused nodes, in order."""
        self._next_tx = 0
        self._turns = Counter[int]()
        """Place → how often it has asked somebody for blocks."""
        self.prepare()
        self.nodes: list[Any] = self._make_nodes(node_class or self.host_class)
        self._by_address: dict[str, list[Any]] = {}
        for node in self.nodes:
            self._by_address.setdefault(node.address, []).append(node)

    def prepare(self) -> None:
        """What there is before the nodes are: who votes when, and who watches over it."""
        self.genesis_hash = GENESIS_HASH
        self.epochs = Epochs(
            self.plan.seed,
            nodes=self.plan.nodes,
            weak=self.weak,
            length=self.plan.epoch_length,
            changing=self.plan.changing_sets,
        )
        self.checks: Any = Checks(self)

    @property
    def weak(self) -> frozenset[int]:
        """Who never has a third of the power."""
        careless = self.plan.careless
        return frozenset(self.plan.guilty) | (frozenset() if careless is None else {careless})

    def _make_nodes(self, node_class: type[Process]) -> list[Process]:
        attack = self.plan.attack
        bad = type(attack, (ACTORS[attack], self.host_class), {}) if attack else node_class
        nodes = [
            (bad if place in self.plan.guilty else node_class)(self, place, f"v{place}")
            for place in range(self.plan.nodes)
        ]
        if attack == "twins":
            nodes += [bad(self, place, f"v{place}") for place in self.plan.guilty]
        for node in nodes:
            node.is_honest = node.place not in self.plan.guilty
        return nodes

    @property
    def honest(self) -> list[Any]:
        return [node for node in self.nodes if node.is_honest]

    def peer_is_honest(self, address: str) -> bool:
        return all(node.is_honest for node in self._by_address[address])

    # The run

    def play(self) -> None:
        """Faults, healing, and a last transaction that everybody must have in the end. Raises Broken."""
        self.start()
        self.run(FAULTS_MS)
        self.heal()
        self.run(FAULTS_MS + RESTART_MS)
        tx = self._work()
        heights = [node.height for node in self.honest]
        behind = (max(heights) - min(heights)) // self.plan.epoch_length
        self.run(FAULTS_MS + HEAL_MS + behind * EPOCH_WALK_MS)
        self.checks.after_healing(tx, self.honest)

    def start(self) -> None:
        """Boot everybody; what will go wrong, and what there is to do, is on the heap."""
        for node in self.nodes:
            self.guarded(node, node.boot)
        for trouble in self.plan.troubles:
            self._push(trouble.at_ms, None, "trouble", trouble)
        self._push(self.plan.work_ms, None, "work", None)

    def run(self, until: int) -> None:
        """Let events happen up to a time, in milliseconds since the start."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            at, _, node, life, kind, what = heapq.heappop(heap)
            self.now = at
            self.events += 1
            if node is None:
                self._world(kind, what)
            elif life == node.life and node.is_up:
                if self._paused and node.place in self._paused:
                    self._held[node.place].append((node, life, kind, what))
                else:
                    self._happen(node, kind, what)
        self.now = until

    def _happen(self, node: Process, kind: str, what: Any) -> None:
        if self.verbose and kind == "message":
            self.note(node, f"hears {what[1].message!r} from {what[0]}")
        try:
            node.happen(kind, what)
        except ENDS_A_LIFE as end:
            self._ended(node, end)

    def guarded(self, node: Process, act: Callable[[], object]) -> None:
        try:
            act()
        except ENDS_A_LIFE as end:
            self._ended(node, end)

    def _ended(self, node: Process, end: Exception) -> None:
        """A bug ends the run, but for one of who is guilty: its own lies may be too much for its program. That says
        nothing of anybody else's."""
        if isinstance(end, Died | GuardRefuses):
            self._died(node)
            return
        if node.is_honest or isinstance(end, Broken):
            raise end
        self.fallen.append(f"{node.address}: {type(end).__name__}: {end}")
        self.note(node, f"is no more: {type(end).__name__}: {end}")
        node.die()
        node.is_gone = True

    def _died(self, node: Process) -> None:
        self.note(node, "dies in a write")
        node.die()
        self._push(self.now + RESTART_MS, None, "boot", node)

    def _world(self, kind: str, what: Any) -> None:
        if kind == "work":
            if not self._is_healed:
                self._work()
                self._push(self.now + 1 + self.draw.randrange(2 * self.plan.work_ms), None, "work", None)
        elif kind == "boot":
            if not what.is_up and not what.is_gone:
                self.note(what, "boots")
                self.guarded(what, what.boot)
        elif kind == "resume":
            if self._paused.get(what, self.now + 1) <= self.now:
                self._resume(what)
        elif not self._is_healed:
            self._trouble(what)

    def _resume(self, place: int) -> None:
        del self._paused[place]
        for node, life, kind, what in self._held.pop(place):
            if life == node.life:
                self._push(self.now, node, kind, what)

    def _trouble(self, trouble: Trouble) -> None:
        until = self.now + trouble.for_ms
        self.trace.append(f"{self.now} {trouble.kind} {trouble.nodes} {trouble.others} until {until}")
        if trouble.kind == "cut":
            for place in trouble.nodes:
                for other in trouble.others:
                    self._cut[place, other] = until
            return
        place = trouble.nodes[0]
        if trouble.kind == "pause":
            self._paused[place] = max(until, self._paused.get(place, 0))
            self._held.setdefault(place, [])
            self._push(until, None, "resume", place)
        elif trouble.kind == "slow_disk":
            self._slow[place] = until
        elif trouble.kind == "skew":
            self._skew[place] += self.draw.randrange(-2_000, 2_000)
        else:
            for node in self._by_address[f"v{place}"]:
                node.die()
                if trouble.kind == "lose_disk":
                    self._lose_disk(node)
                self._push(until, None, "boot", node)

    def _lose_disk(self, node: Process) -> None:
        """A new disk without a guard, and sometimes only a damaged guard."""
        if self.draw.randrange(2):
            node.disk = node.new_disk()
        node.disk.guard = [b"", b""]

    def heal(self) -> None:
        """Links, clocks and processes are as they should be."""
        self._is_healed = True
        self.trace.append(f"{self.now} healed")
        self._cut.clear()
        self._slow.clear()
        for place in sorted(self._paused):
            self._resume(place)
        self._skew = [max(-100, min(100, skew)) for skew in self._skew]
        for node in self.nodes:
            if not node.is_up:
                self._push(self.now, None, "boot", node)

    def _work(self) -> int:
        """A client sends a transaction to everybody it reaches."""
        self._next_tx += 1
        tx = self._next_tx
        for node in self.nodes:
            if self._is_healed or self.draw.randrange(4):
                self._push(self.now + self._way(), node, "message", ("client", Envelope(TxGossip(tx))))
        return tx

    # What nodes ask of the world

    def place_of(self, address: str) -> int:
        """Of the validator with an address."""
        return int(address[1:])

    def name_of(self, address: str) -> str:
        return address

    def clock_of(self, place: int) -> int:
        return START_MS + self.now + self._skew[place] + self.now * self.plan.drift_ppm[place] // 1_000_000

    def after(self, delay: int, node: Process, kind: str, what: Any) -> int:
        """Something happens to this node, unless it dies before. Returns a token."""
        token = self._order + 1
        self._push(self.now + delay, node, kind, (what, token) if kind == "timer" else what)
        return token

    def disk_delay(self, node: Process) -> int:
        if self._slow and self._slow.get(node.place, 0) > self.now:
            return 200 + self.draw.randrange(300)
        return self.draw.randrange(self.plan.disk_ms + 1) if self.plan.disk_ms else 0

    def work_delay(self) -> int:
        return 0 if self.plan.disk_ms == 0 else self.draw.randrange(10)

    def dies_now(self) -> bool:
        permille = self.plan.crash_at_write_permille
        return bool(permille) and not self._is_healed and self.draw.randrange(1000) < permille

    def broadcast(self, sender: Process, envelope: Envelope) -> None:
        for node in self.nodes:
            if node is not sender:
                self.transmit(sender, node, envelope)

    def send(self, sender: Process, peer: str, envelope: Envelope) -> None:
        for node in self._by_address.get(peer, ()):
            if node is not sender:
                self.transmit(sender, node, envelope)

    def send_to_anybody(self, sender: Process, envelope: Envelope) -> None:
        """To the next in turn, as nodes ask for blocks."""
        others = [node for node in self.nodes if node.place != sender.place]
        if others:
            self._turns[sender.place] += 1
            self.transmit(sender, others[self._turns[sender.place] % len(others)], envelope)

    def transmit(self, sender: Process, node: Process, envelope: Envelope) -> None:
        if not node.is_up:
            return
        copies = 1
        if not self._is_healed:
            if self._cut and self._cut.get((sender.place, node.place), 0) > self.now:
                return
            plan = self.plan
            if plan.loss_percent and self.draw.random() * 100 < plan.loss_percent:
                return
            if plan.duplicate_percent and self.draw.random() * 100 < plan.duplicate_percent:
                copies = 2
        what = (sender.address, envelope)
        for _ in range(copies):
            self._order += 1
            heapq.heappush(
                self._heap, (self.now + self._way(), self._order, node, node.life, "message", what)
            )

    def _way(self) -> int:
        shortest, longest = self.plan.delay_ms
        if shortest == longest:
            return shortest
        return shortest + int(self.draw.random() * (longest - shortest + 1))

    def _push(self, at: int, node: Process | None, kind: str, what: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, node, node.life if node else 0, kind, what))

    def note(self, node: Process, text: str) -> None:
        self.trace.append(f"{self.now} {node.address} {text}")

    def digest(self) -> str:
        """One hash for everything that happened."""
        end = f"{self.events} {self._order} {[node.height for node in self.nodes]}"
        return sha256("\n".join([*self.trace, end]).encode()).hexdigest()


__all__ = ["Broken", "Cluster"]
