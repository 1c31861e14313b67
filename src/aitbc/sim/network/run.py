"""One run: nodes find each other, work begins, things go wrong, all is well again, and everybody must have it all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from aitbc.core.peer.kinds import BY_NAME, CANDIDATE, CERTIFICATE, KINDS, VOTE, Kind
from aitbc.core.peer.reasons import PeerReason
from aitbc.sim.checks import Broken
from aitbc.sim.network.actors import ACTORS
from aitbc.sim.network.actors.eclipse import Eclipse
from aitbc.sim.network.actors.flood import Flood
from aitbc.sim.network.actors.liar import Liar
from aitbc.sim.network.actors.stranger import Stranger
from aitbc.sim.network.checks import CALM_TRANSACTION_MS, TRANSACTION_MS, Checks, Published, components
from aitbc.sim.network.goods import Ledger, name_of, sealed
from aitbc.sim.network.node import Node, candidate_of
from aitbc.sim.network.plan import Absence, NetworkPlan, Partition
from aitbc.sim.network.world import World

LOOK_MS = 1_000
VOTES_MS = 500
TRANSACTIONS_MS = 300
BLOCKS_MS = 3_000
FLOODERS = 3
ECLIPSE_SHARE = 9
"""Bad addresses for each honest one: nine of ten."""
ECLIPSE_NETWORKS = 12


class NetworkRun:
    """A plan, played. `play` raises Broken."""

    def __init__(
        self, plan: NetworkPlan, *, verbose: bool = False, node_class: type[Any] | None = None
    ) -> None:
        self.plan = plan
        self.world = World(plan, verbose=verbose)
        self.ledger = Ledger()
        self.refusals: Counter[PeerReason] = Counter()
        """Of all honest nodes."""
        self.checks = Checks(self)
        self.is_cut = False
        wheres = [f"{20 + place}.{place}.0.1:7070" for place in range(plan.nodes)]
        known = tuple(wheres[:2])
        self.honest: list[Node] = [
            (node_class or Node)(self, place, where, tuple(one for one in known if one != where))
            for place, where in enumerate(wheres)
        ]
        self.bad: list[Stranger] = _bad(self, plan.attack)
        self._numbers = 0
        self.is_dark = False
        """Nine of ten addresses are bad."""

    # What nodes and checks ask

    def friends(self, node: Node) -> set[str]:
        """Honest nodes that it is connected to, by its own word and theirs."""
        if not node.runs:
            return set()
        keys = set(node.network.peers)
        return {
            other.name
            for other in self.honest
            if other.runs and other.key in keys and node.key in other.network.peers
        }

    # The run

    def play(self) -> None:
        plan, later = self.plan, self.world.later
        for node in self.honest:
            later(self.world.draw.randrange(2_000), node.start)
        self._each(LOOK_MS, self._look)
        self.world.run(plan.settle_ms)
        self.is_dark = plan.attack == "eclipse"
        for bad in self.bad:
            later(self.world.draw.randrange(3_000), bad.start)
        for partition in plan.partitions:
            later(partition.at_ms, lambda partition=partition: self._cut(partition))  # type: ignore[misc]
        for absence in plan.absences:
            later(absence.at_ms, lambda absence=absence: self._leave(absence))  # type: ignore[misc]
        self._until_ms = self.world.now_ms + plan.trouble_ms
        self._each(VOTES_MS, self.vote)
        self._each(TRANSACTIONS_MS, self.transfer)
        self._each(BLOCKS_MS, self.block)
        if plan.tear_ms:
            self._each(plan.tear_ms, self._tear)
        self.world.run(plan.trouble_ms)
        self._heal()

    def _each(self, every_ms: int, action: Any) -> None:
        """Until the time to heal; looking goes on."""

        def again() -> None:
            if action == self._look or self.world.now_ms < self._until_ms:
                action()
                self.world.later(every_ms, again)

        self.world.later(every_ms, again)

    def _look(self) -> None:
        if any(node.life for node in self.honest):
            self.checks.look()

    def _heal(self) -> None:
        """Nothing goes wrong any more, but what the bad do."""
        self.world.cut(())
        self.is_cut = False
        self.world.note("all is well")
        self._run_until(lambda: len(components(self)) == 1, self.plan.heal_ms)
        self.checks.after_healing()
        new = [item for item in (self.vote(), self.transfer()) if item is not None]
        limit = TRANSACTION_MS if self.plan.attack else CALM_TRANSACTION_MS
        self._run_until(
            lambda: self.checks.is_all_there and not any(self.checks.missing_at_end(item) for item in new),
            limit,
        )
        for item in new:
            missing = self.checks.missing_at_end(item)
            if missing:
                raise Broken(f"after all was well a {item.kind} has not reached {', '.join(missing)}")

    def _run_until(self, is_so: Callable[[], bool], limit_ms: int) -> None:
        passed_ms = 0
        while not is_so() and passed_ms < limit_ms:
            passed_ms += LOOK_MS
            self.world.run(LOOK_MS)

    # Work

    def vote(self) -> Published | None:
        node = self._somebody()
        return None if node is None else self._publish(node, self.world.draw.choice((VOTE, CERTIFICATE)))

    def _publish(self, node: Node, kind: Kind) -> Published:
        payload = sealed(f"{kind.name} {self._number()}")
        node.heard.add(payload)
        item = Published("vote", self.world.now_ms, node.name, payload)
        self.checks.published(item)
        node.perform(node.network.publish(self.world.now_ms, kind, payload))
        return item

    def transfer(self) -> Published | None:
        node = self._somebody()
        if node is None:
            return None
        tx = sealed(f"transfer {self._number()} " + "x" * 150)
        item = Published("transaction", self.world.now_ms, node.name, name_of(tx))
        self.checks.published(item)
        node.submit(tx)
        return item

    def block(self) -> None:
        """A leader has made a block, and tells of it."""
        node = self._somebody()
        if node is None:
            return
        block = self.ledger.add()
        payload = sealed(candidate_of(block))
        node.heard.add(payload)
        node.blocks[name_of(block)] = block
        self.checks.published(Published("block", self.world.now_ms, node.name, name_of(block)))
        node.perform(node.network.publish(self.world.now_ms, CANDIDATE, payload))

    def _somebody(self) -> Node | None:
        there = [node for node in self.honest if node.runs]
        return self.world.draw.choice(there) if there else None

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    # Troubles

    def _cut(self, partition: Partition) -> None:
        side = [self.honest[place].where for place in partition.nodes]
        self.world.cut(side)
        self.is_cut = True
        self.checks.disturb(*self.honest)
        self.world.note(f"cut off: {' '.join(f'n{place}' for place in partition.nodes)}")

        def mend() -> None:
            self.world.cut(())
            self.is_cut = False
            self.checks.disturb(*self.honest)
            self.world.note("mended")

        self.world.later(partition.for_ms, mend)

    def _leave(self, absence: Absence) -> None:
        node = self.honest[absence.node]
        if not node.runs:
            return
        if absence.kind == "kill":
            node.kill()
            self.world.later(absence.for_ms, node.start)
        else:
            node.freeze(absence.for_ms)
            self.world.later(absence.for_ms, node.thaw)
        self.checks.disturb(node)

    def _tear(self) -> None:
        node = self._somebody()
        links = node.transport.links if node is not None else []
        if node is not None and links:
            self.world.note(f"{node.name} loses a connection")
            node.transport.tear(self.world.draw.choice(links))


def _bad(run: NetworkRun, attack: str | None) -> list[Stranger]:
    if attack is None:
        return []
    if attack == "eclipse":
        count = ECLIPSE_SHARE * run.plan.nodes
        return [Eclipse(run, f"dark {number}", _dark(number)) for number in range(count)]
    if attack == "liar":
        return [
            Liar(run, f"liar {kind.name}", f"60.{number}.0.1:7070", kinds=(kind,))
            for number, kind in enumerate(KINDS)
        ]
    if attack == "flood":
        return [Flood(run, f"flood {number}", f"61.{number}.0.1:7070") for number in range(FLOODERS)]
    kinds = (BY_NAME[attack.partition(" ")[2].encode()],)
    return [
        ACTORS[attack](run, f"{attack} {number}", f"62.{number}.0.1:7070", kinds=kinds) for number in (1, 2)
    ]


def _dark(number: int) -> str:
    return f"99.{number % ECLIPSE_NETWORKS}.{number // ECLIPSE_NETWORKS}.1:7070"
