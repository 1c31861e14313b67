"""How the blocks of a devnet come about: by votes, or with `--mode pow` and `poa-pow` by work. docs/howto/mine.md"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from aitbc.cli.errors import CliError

if TYPE_CHECKING:
    from aitbc.core.types.nakamoto import NakamotoSettings

MAX_NODES = 50
MINERS = 3
"""Without --miners: one is away and blocks still come in turns of two."""
WORK_IDLE_MS = 2_000
"""Final takes six blocks: with the idle time of votes a lone payment would wait a minute for it."""
FINALITY_DEPTH = 6
"""Branches of a devnet, whose nodes meet on one machine, are a block or two deep."""
HASHES_PER_MS = 1_000
"""Where difficulty begins under `pow`: half of what one core tries; from block 3 on it follows the machine."""
LEAST_DIFFICULTY = 1_000
HALF_LIFE_BLOCKS = 20
"""A slow machine has its block time after a minute of blocks."""
LISTED_DIFFICULTY = 16**4
"""Under `poa-pow`: ccoin's four zero digits, 30 ms of a core, since turns and not work space its blocks."""
TAKE_OVER_MS = 2_000
MAX_AHEAD_MS = 500
LEAST_BLOCK_TIME_MS = 100


class Rules(NamedTuple):
    """What the options of `aitbc devnet` say of blocks."""

    mode: str
    nodes: int
    block_time_ms: int
    idle_ms: int

    @property
    def is_work(self) -> bool:
        return self.mode != "poa"

    def work(self, keys: Sequence[str]) -> "NakamotoSettings | None":
        """For `consensus.work` of the genesis; `keys`: of the nodes, as texts."""
        from aitbc.core.types.amounts import AIT
        from aitbc.core.types.nakamoto import NakamotoSettings, RewardSettings

        if not self.is_work:
            return None
        common: dict[str, Any] = {
            "finality_depth": FINALITY_DEPTH,
            "reward": RewardSettings(initial=100 * AIT),
        }
        if self.mode == "pow":
            return NakamotoSettings(
                difficulty=max(LEAST_DIFFICULTY, HASHES_PER_MS * self.block_time_ms),
                difficulty_rule="adjusting",
                least_difficulty=LEAST_DIFFICULTY,
                block_time_ms=self.block_time_ms,
                half_life_ms=HALF_LIFE_BLOCKS * self.block_time_ms,
                max_ahead_ms=min(MAX_AHEAD_MS, self.block_time_ms // 2),
                **common,
            )
        return NakamotoSettings(
            miners=list(keys),
            difficulty=LISTED_DIFFICULTY,
            min_interval_ms=self.block_time_ms,
            interval_ms=self.idle_ms,
            take_over_ms=TAKE_OVER_MS,
            max_ahead_ms=MAX_AHEAD_MS,
            **common,
        )

    @property
    def rhythm(self) -> str:
        """For people."""
        if self.mode == "pow":
            return f"{self.mode}: a block in {self.block_time_ms} ms or so; final under {FINALITY_DEPTH} more"
        blocks = f"blocks every {self.block_time_ms} ms (empty: {self.idle_ms} ms)"
        return f"{self.mode}: {blocks}; final under {FINALITY_DEPTH} more" if self.is_work else blocks


def rules_of(
    mode: str,
    *,
    validators: int | None,
    miners: int | None,
    block_time_ms: int,
    idle_ms: int | None,
    synthetic: int,
) -> Rules:
    """Raises CliError for options that belong to another mode."""
    if mode == "poa":
        _refuse(miners is not None, "--miners is for --mode pow and poa-pow", "votes take --validators")
        return Rules(mode, validators or 1, block_time_ms, 10_000 if idle_ms is None else idle_ms)
    _refuse(validators is not None, f"--validators vote, and --mode {mode} has no votes", "use --miners")
    _refuse(
        mode == "pow" and idle_ms is not None,
        "--idle-ms has no meaning under --mode pow: its miners never pause",
        "leave it out",
    )
    _refuse(
        block_time_ms < LEAST_BLOCK_TIME_MS,
        f"--block-time-ms {block_time_ms} is too short for work",
        f"give {LEAST_BLOCK_TIME_MS} or more",
    )
    _refuse(synthetic > 0, f"--synthetic jobs mint, and --mode {mode} rewards its miners", "leave it out")
    idle = max(block_time_ms, WORK_IDLE_MS if idle_ms is None else idle_ms)
    return Rules(mode, miners or MINERS, block_time_ms, idle)


def _refuse(wrong: bool, what: str, fix: str) -> None:
    if wrong:
        raise CliError(what, fix, code="usage")


NODES = click.IntRange(min=1, max=MAX_NODES)
