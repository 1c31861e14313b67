"""What a chain's genesis fixes about work, authors, time and reward. docs/spec/nakamoto.md "Settings"

Agreement checks headers by it, the ledger pays the reward by it, and neither imports the other.
"""

from typing import Annotated, Literal

import msgspec

from aitbc.core.types.amounts import BASIS_POINTS, MAX_SIGNED, AmountOrZero
from aitbc.core.types.blocks import MAX_BLOCK_TXS
from aitbc.core.types.reasons import Reason, Rejected

MAX_INTERVAL_MS = 24 * 3_600_000
"""No chain waits for a block longer than a day on purpose."""
MAX_FINALITY_DEPTH = 64
"""So many blocks a store can take back (`ports.UNDO_DEPTH`; a test keeps the two equal): a branch that left deeper
could be chosen and not be switched to. It is also well below one answer with headers (512), so that an honest branch
shows more work than the chain that it replaces within the first answer."""
MAX_MINERS = 100
"""Each is waited for in turn: at the default take-over a whole round of silent ones is eight minutes."""
MIN_HALF_LIFE_BLOCKS = 10
"""With it one block makes the next at most 2^(5/10) times as easy and 2^(1/10) times as hard."""

WorkMode = Literal["pow", "poa-pow"]
WORK_MODES: tuple[WorkMode, ...] = ("pow", "poa-pow")
"""Values of `consensus.mode` under which chains agree by work."""

Difficulty = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIGNED)]
"""How many hashes a block takes on average; ccoin's five zero digits are 1,048,576."""
Interval = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTERVAL_MS)]
TransactionCount = Annotated[int, msgspec.Meta(ge=1, le=MAX_BLOCK_TXS)]


class RewardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an author earns: `initial`, of which after every `era_blocks` blocks `kept` basis points remain."""

    initial: AmountOrZero = 0
    era_blocks: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIGNED)] = 0
    """0: the reward never changes."""
    kept: Annotated[int, msgspec.Meta(ge=0, le=9_900)] = 5_000
    """5,000 is halving. At most 9,900, so that the reward is 0 after fewer than 4,000 eras."""


class NakamotoSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`consensus.work` of a genesis; whether there are `miners` is the only difference between the two modes."""

    miners: Annotated[list[str], msgspec.Meta(max_length=MAX_MINERS)] = []
    """`poa-pow`: public keys of who may author blocks, in the order of their turns; empty: anybody may."""
    difficulty: Difficulty = 1_048_576
    """Of block 1; with the rule `fixed`, of every block."""
    difficulty_rule: Literal["fixed", "adjusting"] = "fixed"
    least_difficulty: Difficulty = 1
    """No block is easier, however slow the chain becomes."""
    block_time_ms: Annotated[int, msgspec.Meta(ge=100, le=MAX_INTERVAL_MS)] = 60_000
    """What `adjusting` aims at."""
    half_life_ms: Annotated[int, msgspec.Meta(ge=1_000, le=100 * MAX_INTERVAL_MS)] = 3_600_000
    """Blocks that come together so much later than they should halve the difficulty."""
    min_interval_ms: Interval = 0
    """Least time from a block to the next."""
    interval_ms: Interval = 0
    """Least time from a block to one with fewer than `min_transactions`. The first leader's turn lasts so long and
    `take_over_ms` more."""
    max_interval_ms: Interval = 0
    """Most time from a block to the next, as timestamps have it; 0: no such bound."""
    take_over_ms: Annotated[int, msgspec.Meta(ge=100, le=MAX_INTERVAL_MS)] = 5_000
    """`poa-pow`: each further turn lasts so long."""
    min_transactions: TransactionCount = 1
    """So many make a block before `interval_ms` is over; 1: only an empty one waits for it."""
    max_transactions: TransactionCount = MAX_BLOCK_TXS
    """No block holds more."""
    empty_blocks: bool = True
    max_ahead_ms: Annotated[int, msgspec.Meta(ge=0, le=7_200_000)] = 2_000
    """How far a header may be ahead of the reader's clock: a condition for taking it now, not of validity."""
    finality_depth: Annotated[int, msgspec.Meta(ge=1, le=MAX_FINALITY_DEPTH)] = 60
    """A block with so many on top is reported as final and never undone."""
    reward: RewardSettings = RewardSettings()


def check_settings(settings: NakamotoSettings, *, mode: WorkMode) -> None:
    """Raises Rejected where a genesis contradicts itself."""
    miners = len(settings.miners)
    if settings.least_difficulty > settings.difficulty:
        raise _contradiction("difficulty is below least_difficulty")
    adjusting = settings.difficulty_rule == "adjusting"
    if adjusting and settings.half_life_ms < MIN_HALF_LIFE_BLOCKS * settings.block_time_ms:
        raise _contradiction(f"half_life_ms is below {MIN_HALF_LIFE_BLOCKS} x block_time_ms")
    if settings.interval_ms < settings.min_interval_ms:
        raise _contradiction("interval_ms is below min_interval_ms")
    if settings.max_transactions < settings.min_transactions:
        raise _contradiction("max_transactions is below min_transactions")
    if (mode == "poa-pow") != (miners > 0):
        raise _contradiction("miners are listed in mode poa-pow, and only there")
    if len(set(settings.miners)) != miners:
        raise _contradiction("miners lists a key twice")
    if miners and 2 * settings.max_ahead_ms > settings.take_over_ms:
        raise _contradiction("max_ahead_ms is above half of take_over_ms: a miner could take a turn early")
    if mode == "pow" and 2 * settings.max_ahead_ms > settings.block_time_ms:
        raise _contradiction(
            "max_ahead_ms is above half of block_time_ms: a block of the future could stop all miners for that long"
        )
    whole_round = settings.interval_ms + settings.take_over_ms * miners
    if 0 < settings.max_interval_ms < whole_round:
        raise _contradiction(f"max_interval_ms is below {whole_round}: some miner would never have a turn")


def _contradiction(message: str) -> Rejected:
    return Rejected(Reason.BAD_GENESIS, message)


def reward_at(settings: RewardSettings, height: int) -> int:
    """What the author of the block at this height earns, in base units; the block itself never says it."""
    assert height >= 1, "block 0 has no author"
    eras = (height - 1) // settings.era_blocks if settings.era_blocks else 0
    reward = settings.initial
    while eras and reward:
        reward = reward * settings.kept // BASIS_POINTS
        eras -= 1
    return reward
