"""What happens in one run, drawn from its seed before it begins."""

import random

import msgspec

SETTLE_MS = 40_000
"""So long nodes find each other."""
TROUBLE_MS = 80_000
HEAL_MS = 150_000
"""After all troubles everybody has so long until there is one network again: each two minutes a feeler finds others."""


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    at_ms: int
    for_ms: int
    nodes: tuple[int, ...]
    """On the one side; all others, and the bad, are on the other."""


class Absence(msgspec.Struct, frozen=True, kw_only=True):
    """A node is killed, and comes back with the address book that it wrote last; or it is frozen and goes on."""

    kind: str
    """`kill` or `freeze`."""
    node: int
    at_ms: int
    for_ms: int


class NetworkPlan(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    nodes: int
    attack: str | None
    max_peers: int
    delay_ms: tuple[int, int]
    """A pair's shortest and longest way."""
    jitter_ms: int
    loss_percent: int
    tear_ms: int
    """A connection breaks about so often; 0: none does."""
    partitions: tuple[Partition, ...] = ()
    absences: tuple[Absence, ...] = ()
    recover_ms: int = 0
    """In an eclipse, so long may a node be without any honest peer, also after a start. 0: who was undisturbed has at
    all times chosen an honest one."""
    settle_ms: int = SETTLE_MS
    trouble_ms: int = TROUBLE_MS
    heal_ms: int = HEAL_MS


def draw_network_plan(
    seed: int, *, nodes: int | None = None, attack: str | None = "drawn", attacks: tuple[str, ...]
) -> NetworkPlan:
    """Half of the runs have an attacker; of the others some have no trouble of one kind or another."""
    draw = random.Random(f"{seed}/network plan")  # noqa: S311 - a simulation repeats, it does not hide
    nodes = nodes or 20
    drawn = draw.choice(attacks) if draw.randrange(2) else None
    fastest = draw.randrange(2, 60)
    return NetworkPlan(
        seed=seed,
        nodes=nodes,
        attack=drawn if attack == "drawn" else attack,
        max_peers=draw.choice((6, 8, 12)),
        delay_ms=(fastest, fastest + draw.choice((0, 20, 100))),
        jitter_ms=draw.choice((0, 5, 40)),
        loss_percent=draw.choice((0, 0, 1, 5)),
        tear_ms=draw.choice((0, 0, 5_000, 20_000)),
        partitions=_partitions(draw, nodes) if nodes >= 4 else (),
        absences=tuple(_absence(draw, nodes) for _ in range(draw.choice((0, 4, 10)))),
    )


def calm_network_plan(
    nodes: int, *, delay_ms: int = 20, attack: str | None = None, seed: int = 0, max_peers: int = 8
) -> NetworkPlan:
    """Nothing goes wrong but what the attacker does."""
    return NetworkPlan(
        seed=seed,
        nodes=nodes,
        attack=attack,
        max_peers=max_peers,
        delay_ms=(delay_ms, delay_ms),
        jitter_ms=0,
        loss_percent=0,
        tear_ms=0,
        trouble_ms=40_000,
        heal_ms=5_000,
    )


def _partitions(draw: random.Random, nodes: int) -> tuple[Partition, ...]:
    partitions = []
    for start in (0, TROUBLE_MS // 2)[: draw.choice((0, 1, 2))]:
        side = draw.sample(range(nodes), draw.randrange(1, nodes // 2 + 1))
        for_ms = draw.choice((2_000, 15_000, 35_000))
        at_ms = start + draw.randrange(TROUBLE_MS // 2 - for_ms)
        partitions.append(Partition(at_ms=at_ms, for_ms=for_ms, nodes=tuple(sorted(side))))
    return tuple(partitions)


def _absence(draw: random.Random, nodes: int) -> Absence:
    return Absence(
        kind=draw.choice(("kill", "kill", "freeze")),
        node=draw.randrange(nodes),
        at_ms=draw.randrange(TROUBLE_MS - 30_000),
        for_ms=draw.choice((500, 5_000, 15_000, 25_000)),
    )
