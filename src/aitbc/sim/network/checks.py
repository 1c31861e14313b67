"""What is promised whatever happens: bounded tables, no honest node banned, honest traffic everywhere in time, and one
network again when all is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from aitbc.core.peer.addresses import owner_of
from aitbc.sim.checks import Broken

if TYPE_CHECKING:
    from aitbc.sim.network.node import Node
    from aitbc.sim.network.run import NetworkRun

FEW = 2
"""Who has fewer friends than this may miss something when one connection breaks."""
STEADY_MS = 3_000
"""A node counts as there when it was undisturbed for so long."""
VOTE_MS = 4_000
"""Five hops of the longest way, with one way's bytes lost and sent again."""
TRANSACTION_MS = 45_000
"""One announcer and four others who never deliver, five seconds each, and then a search."""
CALM_TRANSACTION_MS = 8_000
"""The same without anybody who lies: one lost way in each of three hops."""


class Published(msgspec.Struct, frozen=True):
    """Something honest that all shall have."""

    kind: str
    """`vote`, `transaction` or `block`."""
    at_ms: int
    by: str
    name: bytes


class Checks:
    def __init__(self, run: NetworkRun) -> None:
        self._run = run
        self._waiting: list[Published] = []
        self.reached = 0
        """How many things were seen to be everywhere."""
        self.steady_since: dict[str, int] = {}
        """By node; who is not here is disturbed."""
        self._alone_since: dict[str, int] = {}
        """Since when a node has no honest peer, whoever dialled."""
        self.fullest: dict[str, tuple[int, int]] = {}
        """Of each table, the most that any honest node ever had in it, and its bound."""

    def published(self, item: Published) -> None:
        if item.by in self.steady_since:
            self._waiting.append(item)

    def disturb(self, *nodes: Node) -> None:
        """What happens to these from outside may cost them a message."""
        for node in nodes:
            self.steady_since.pop(node.name, None)

    def look(self) -> None:
        """Once a second."""
        for node in self._run.honest:
            if node.is_up:
                self._check_held(node)
                self._check_bans(node)
            self._note_steady(node)
            self._check_eclipse(node)
        self._waiting = [item for item in self._waiting if self._is_on_its_way(item)]

    @property
    def is_all_there(self) -> bool:
        """Nothing is on its way any more."""
        return not self._waiting

    def _note_steady(self, node: Node) -> None:
        if not node.runs or self._run.is_cut or len(self._run.friends(node)) < FEW:
            self.disturb(node)
        else:
            self.steady_since.setdefault(node.name, self._run.world.now_ms)

    def _limit(self, item: Published) -> int:
        if item.kind == "vote":
            return VOTE_MS
        return TRANSACTION_MS if self._run.plan.attack else CALM_TRANSACTION_MS

    def _check_eclipse(self, node: Node) -> None:
        """Whoever fills a node's inbound places and its book: a connection that it chose itself before is honest. Where
        honest nodes leave and start again meanwhile, everybody has an honest peer again within the plan's time."""
        if not self._run.is_dark:
            return
        if self._run.plan.recover_ms:
            self._check_recovery(node)
        elif node.name in self.steady_since and not self.has_chosen_well(node):
            raise Broken(f"{node.name} has no honest peer left among those that it chose")

    def has_chosen_well(self, node: Node) -> bool:
        """Is one of the peers that it dialled honest?"""
        views = node.network.view(self._run.world.now_ms)
        chosen = {bytes.fromhex(view.key) for view in views if view.outbound}
        return bool(chosen & {other.key for other in self._run.honest})

    def _check_recovery(self, node: Node) -> None:
        now_ms = self._run.world.now_ms
        if not node.runs or self._run.friends(node):
            self._alone_since.pop(node.name, None)
        elif now_ms - self._alone_since.setdefault(node.name, now_ms) >= self._run.plan.recover_ms:
            raise Broken(f"{node.name} has found nobody honest in {self._run.plan.recover_ms} ms")

    def _check_held(self, node: Node) -> None:
        held = node.network.held()
        over = {name: (now, most) for name, (now, most) in held.items() if now > most}
        if over:
            raise Broken(f"{node.name} holds more than it may: {over}")
        for name, (now, most) in held.items():
            self.fullest[name] = (max(now, self.fullest.get(name, (0, 0))[0]), most)
        _check_undecided(node)

    def _check_bans(self, node: Node) -> None:
        bans = node.network.bans(self._run.world.now_ms)
        if not bans:
            return
        for other in self._run.honest:
            if other.key in bans or owner_of(other.where) in bans:
                raise Broken(f"{node.name} has banned {other.name}, which did nothing wrong")

    def _is_on_its_way(self, item: Published) -> bool:
        """Whether somebody still lacks it who had the time and the peace to get it."""
        begin_ms = item.at_ms - STEADY_MS
        there = [
            node for node in self._run.honest if self.steady_since.get(node.name, item.at_ms + 1) <= begin_ms
        ]
        missing = [node.name for node in there if not _has(node, item)]
        if item.by not in {node.name for node in there}:
            return False
        if not missing:
            self.reached += len(there) > 1
            return False
        if self._run.world.now_ms >= item.at_ms + self._limit(item):
            raise Broken(
                f"a {item.kind} of {item.by} has not reached {', '.join(missing)} after {self._limit(item)} ms"
            )
        return True

    def after_healing(self) -> None:
        """One network of all honest nodes, whoever else is there."""
        groups = components(self._run)
        if len(groups) > 1:
            told = " | ".join(" ".join(sorted(group)) for group in groups)
            raise Broken(f"the network is in {len(groups)} parts after all was well: {told}")

    def missing_at_end(self, item: Published) -> list[str]:
        return [node.name for node in self._run.honest if not _has(node, item)]


def _check_undecided(node: Node) -> None:
    """What is counted as waiting for a verdict waits: else a node goes deaf in time."""
    gossip = node.network._gossip
    waiting = sum(len(message.payload or b"") for message in gossip._seen.values())
    if not waiting == gossip._undecided == sum(gossip._undecided_of.values()):
        raise Broken(f"{node.name} counts {gossip._undecided} undecided bytes, and has {waiting}")


def _has(node: Node, item: Published) -> bool:
    match item.kind:
        case "vote":
            return item.name in node.heard
        case "transaction":
            return node.pool.has(item.name)
        case _:
            return item.name in node.blocks


def components(run: NetworkRun) -> list[set[str]]:
    """Honest nodes that reach each other over connections between honest nodes."""
    left = {node.name: run.friends(node) for node in run.honest}
    groups = []
    while left:
        group, border = set[str](), {next(iter(left))}
        while border:
            group |= border
            border = {friend for name in border for friend in left[name]} - group
        groups.append(group)
        left = {name: friends for name, friends in left.items() if name not in group}
    return groups
