"""One seed, one run: honest nodes and some that are not, a time in which things go wrong, and a time to heal.

Promised, and checked all along: no honest chain holds a block that the state refuses, nothing final is undone, honest
nodes never disagree on what is final, and what is held for strangers stays within its maxima. At the end all honest
nodes have one head.
"""

import random
from functools import partial

import msgspec

from aitbc.core.codec.digests import header_hash
from aitbc.core.consensus.nakamoto.fetching import MAX_IN_FLIGHT
from aitbc.core.consensus.nakamoto.headers import HeaderRules
from aitbc.core.consensus.nakamoto.orphans import MAX_ORPHAN_BYTES, MAX_ORPHANS
from aitbc.core.consensus.nakamoto.rules import MAX_PEERS
from aitbc.core.consensus.nakamoto.tree import MAX_AHEAD, MAX_SIDE
from aitbc.core.types.nakamoto import NakamotoSettings, check_settings
from aitbc.sim.nakamoto.actors import BadAuthor, Liar, Selfish, Withholder
from aitbc.sim.nakamoto.blocks import BAD, CHAIN_ID, genesis_header, miner_named, verify
from aitbc.sim.nakamoto.node import Node
from aitbc.sim.nakamoto.world import Weather, World

START_MS = 1_700_000_000_000
FAULTS_MS = 120_000
HEAL_MS = 60_000
"""Everybody has so long to agree: many times the time between blocks, which alone ends a tie."""
HASHRATE = 8
"""Hashes a second of each node that mines."""
RETURN_MS = 10_000
"""Of an actor that was banned."""
LOOK_MS = 500
"""Promises are checked so often."""
ACTORS: dict[str, type[Node]] = {
    "selfish": Selfish,
    "bad_author": BadAuthor,
    "withholder": Withholder,
    "liar": Liar,
}

POW = NakamotoSettings(
    difficulty=64,
    least_difficulty=8,
    difficulty_rule="adjusting",
    block_time_ms=2_000,
    max_ahead_ms=1_000,
    half_life_ms=60_000,
    finality_depth=40,
)
"""Blocks come every two seconds, a finality depth in eighty: longer than any cut."""
POA_POW = NakamotoSettings(
    miners=["everybody who mines"],
    difficulty=4,
    least_difficulty=2,
    min_interval_ms=500,
    interval_ms=1_500,
    take_over_ms=2_000,
    max_ahead_ms=500,
    finality_depth=40,
)


class Broken(Exception):
    """A promise that did not hold."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    height: int
    final_height: int
    deepest_undo: int
    penalised: list[tuple[str, str]]
    """Who was penalised by an honest node, and for what."""
    healed_ms: int
    """After the end of all faults, until all honest nodes had one head."""
    digest: str
    """Of everything that happened: equal for equal seeds."""


class Run:
    """`actors`: names of ACTORS, one node each, beside `honest` nodes that mine and one that only follows."""

    def __init__(
        self,
        seed: int,
        settings: NakamotoSettings,
        *,
        honest: int = 4,
        actors: tuple[str, ...] = (),
        weather: Weather | None = None,
    ) -> None:
        self.world = World(seed, weather or Weather(), start_ms=START_MS)
        self._draw = random.Random(f"{seed}/plan")  # noqa: S311 - a simulation repeats, it does not hide
        names = [f"n{place}" for place in range(honest)]
        miners = [miner_named(name) for name in [*names, *actors]]
        listed = miners if settings.miners else []
        settings = msgspec.structs.replace(settings, miners=[miner.address for miner in listed])
        check_settings(settings, mode="poa-pow" if listed else "pow")
        rules = HeaderRules(settings, chain_id=CHAIN_ID, miners=listed, verify=verify)
        genesis = genesis_header(START_MS - 60_000)
        self.honest = [
            Node(
                self.world,
                miner_named(name),
                rules=rules,
                genesis=genesis,
                hashrate=0 if name == "follower" else HASHRATE,
                skew_ms=self._draw.randrange(-100, 100),
            )
            for name in [*names, "follower"]
        ]
        self.others = [
            ACTORS[name](
                self.world,
                miner_named(name),
                rules=rules,
                genesis=genesis,
                hashrate=0 if name == "liar" else HASHRATE,
            )
            for name in actors
        ]
        self.all = [*self.honest, *self.others]

    def play(self) -> Report:
        for node in self.all:
            node.start()
        for node in self.all:
            for other in self.all:
                if other is not node:
                    node.meet(other)
        self._trouble()
        self._return_banned()
        self._go(FAULTS_MS)
        self.world.cut()
        self.world.weather = Weather()
        healed_ms = self._heal()
        return Report(
            height=len(self.honest[0].chain) - 1,
            final_height=min(node.final_height for node in self.honest),
            deepest_undo=max(len(switch.undo) for node in self.honest for switch in node.switches),
            penalised=sorted(
                {(peer, str(reason)) for node in self.honest for peer, reason in node.penalties}
            ),
            healed_ms=healed_ms,
            digest=self.world.digest(),
        )

    def _trouble(self) -> None:
        """Work for all, two cuts of which none lasts as long as the finality depth, and a restart."""
        for number in range(FAULTS_MS // 700):
            self.world.after(number * 700, partial(self._draw.choice(self.honest).submit, b"tx %d" % number))
        names = [node.name for node in self.all]
        for begin_ms in (20_000, 70_000):
            self._draw.shuffle(names)
            split = self._draw.randrange(1, len(names))
            self.world.after(begin_ms, partial(self.world.cut, names[:split], names[split:]))
            self.world.after(begin_ms + self._draw.randrange(5_000, 30_000), self.world.cut)
        self.world.after(self._draw.randrange(FAULTS_MS), self._draw.choice(self.honest).restart)

    def _return_banned(self) -> None:
        """Who was banned is there again a little later, as with a new key; honest nodes have no reason to."""
        for actor in self.others:
            for node in self.honest:
                if node.name not in actor.others:
                    actor.meet(node)
                    node.meet(actor)
        self.world.after(RETURN_MS, self._return_banned)

    def _go(self, for_ms: int) -> None:
        for _ in range(for_ms // LOOK_MS):
            self.world.run(LOOK_MS)
            self._check()

    def _heal(self) -> int:
        """How long it takes until all honest nodes have one head, and that for a moment."""
        for passed_ms in range(0, HEAL_MS, LOOK_MS):
            self._go(LOOK_MS)
            if len({node.chain[-1] for node in self.honest}) == 1:
                return passed_ms + LOOK_MS
        heads = {node.name: f"{len(node.chain) - 1} {node.chain[-1].hex()[:8]}" for node in self.honest}
        raise Broken(f"no agreement {HEAL_MS} ms after all was well: {heads}")

    def _check(self) -> None:
        for node in self.honest:
            if any(node.blocks[hash_].body.startswith(BAD) for hash_ in node.chain[-50:]):
                raise Broken(f"{node.name} stands on a block that the state refuses")
            _check_held(node)
        lowest = min(node.final_height for node in self.honest)
        if len({node.chain[lowest] for node in self.honest}) != 1:
            raise Broken(f"what is final at {lowest} differs")


def _check_held(node: Node) -> None:
    held = node.engine.held
    limits = {
        "headers": node.rules.settings.finality_depth + MAX_AHEAD + MAX_SIDE,
        "orphans": MAX_ORPHANS,
        "orphan_bytes": MAX_ORPHAN_BYTES,
        "requests": MAX_IN_FLIGHT,
        "peers": MAX_PEERS,
    }
    over = {name: held[name] for name, most in limits.items() if held[name] > most}
    if over:
        raise Broken(f"{node.name} holds more than it may: {over}")
    assert header_hash(node.head) == node.engine.head.hash, "host and engine have one head"
