"""What goes wrong in one run, drawn from its seed before it begins."""

import random

import msgspec

FAULTS_MS = 30_000
"""So long things go wrong."""
HEAL_MS = 10_000
"""So long everybody has, after that, to agree again."""
ATTACKS = (
    "equivocator",
    "twins",
    "withholding_leader",
    "stale_parent_leader",
    "bad_root_leader",
    "vote_splitter",
    "certificate_hoarder",
    "outdated",
    "silent",
    "deserter",
)
LEDGER_ATTACKS = (
    "invalid_receipt_leader",
    "invalid_transaction_leader",
    "repeating_leader",
    "oversize_leader",
    "body_swapper",
)
"""These need real blocks."""
WHOLE_ATTACKS = (*ATTACKS, *LEDGER_ATTACKS)


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happens to one node, or to the links between two groups, for a while."""

    kind: str
    """`crash`, `pause`, `slow_disk`, `lose_disk` (a node); `cut` (links from some nodes to others, one way)."""
    at_ms: int
    for_ms: int
    nodes: tuple[int, ...]
    others: tuple[int, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    nodes: int
    attack: str | None
    guilty: tuple[int, ...]
    careless: int | None
    """A node that may lose its disk: like the guilty, it never has a third of the power."""
    epoch_length: int
    changing_sets: bool
    block_time_ms: int
    idle_ms: int
    delay_ms: tuple[int, int]
    """A message's shortest and longest way: what is between them arrives in any order."""
    loss_percent: int
    duplicate_percent: int
    crash_at_write_permille: int
    """At each write: die before, in the middle of, or after it."""
    disk_ms: int
    """Longest write."""
    skew_ms: tuple[int, ...]
    drift_ppm: tuple[int, ...]
    work_ms: int
    """A transaction about so often."""
    troubles: tuple[Trouble, ...]


def draw_plan(
    seed: int, *, nodes: int | None = None, attack: str | None = "drawn", attacks: tuple[str, ...] = ATTACKS
) -> Plan:
    """A third of the runs have an attacker; the others only bad luck. Some have no fault of one kind or another."""
    draw = random.Random(f"{seed}/plan")  # noqa: S311 - a simulation repeats, it does not hide
    nodes = nodes or draw.choice((1, 2, 3, 4, 4, 4, 4, 5, 7))
    drawn = draw.choice(attacks) if nodes >= 4 and draw.randrange(2) else None
    attack = drawn if attack == "drawn" else attack
    guilty = tuple(sorted(draw.sample(range(nodes), (nodes - 1) // 3))) if attack else ()
    careless = draw.randrange(nodes) if nodes >= 4 and not guilty and draw.randrange(2) else None
    fastest = draw.randrange(1, 30)
    return Plan(
        seed=seed,
        nodes=nodes,
        attack=attack,
        guilty=guilty,
        careless=careless,
        epoch_length=draw.choice((1, 3, 8, 20)),
        changing_sets=bool(draw.randrange(2)),
        block_time_ms=draw.choice((0, 100, 500)),
        idle_ms=draw.choice((1_000, 3_000)),
        delay_ms=(fastest, fastest + draw.choice((0, 5, 40, 120))),
        loss_percent=draw.choice((0, 0, 2, 10, 30)),
        duplicate_percent=draw.choice((0, 0, 10)),
        crash_at_write_permille=draw.choice((0, 0, 2, 10)),
        disk_ms=draw.choice((0, 0, 5, 50)),
        skew_ms=tuple(draw.randrange(-200, 200) for _ in range(nodes)),
        drift_ppm=tuple(draw.randrange(-500, 500) for _ in range(nodes)),
        work_ms=draw.choice((50, 200, 1_000)),
        troubles=tuple(_trouble(draw, nodes, careless) for _ in range(draw.choice((0, 2, 6, 12)))),
    )


def calm_plan(nodes: int, *, delay_ms: int, silent: tuple[int, ...] = (), seed: int = 0) -> Plan:
    """Nothing goes wrong, but that some may be silent, and there is always something to do."""
    return Plan(
        seed=seed,
        nodes=nodes,
        attack="silent" if silent else None,
        guilty=silent,
        careless=None,
        epoch_length=600,
        changing_sets=False,
        block_time_ms=0,
        idle_ms=1_000,
        delay_ms=(delay_ms, delay_ms),
        loss_percent=0,
        duplicate_percent=0,
        crash_at_write_permille=0,
        disk_ms=0,
        skew_ms=(0,) * nodes,
        drift_ppm=(0,) * nodes,
        work_ms=10,
        troubles=(),
    )


def _trouble(draw: random.Random, nodes: int, careless: int | None) -> Trouble:
    kind = draw.choice(("crash", "crash", "pause", "slow_disk", "cut", "cut", "cut", "skew", "lose_disk"))
    if kind == "lose_disk" and careless is None:
        kind = "crash"
    everybody = list(range(nodes))
    draw.shuffle(everybody)
    split = draw.randrange(1, nodes) if nodes > 1 else 1
    return Trouble(
        kind=kind,
        at_ms=draw.randrange(FAULTS_MS),
        for_ms=draw.choice((50, 500, 5_000, 15_000)),
        nodes=_struck(kind, everybody, split, careless),
        others=tuple(everybody[split:]) if kind == "cut" else (),
    )


def _struck(kind: str, everybody: list[int], split: int, careless: int | None) -> tuple[int, ...]:
    if kind == "cut":
        return tuple(everybody[:split])
    return (careless,) if kind == "lose_disk" and careless is not None else (everybody[0],)
