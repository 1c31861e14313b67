"""`aitbc genesis mine` and `import-ccoin`: chains that agree by work. docs/spec/genesis.md, docs/spec/nakamoto.md"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aitbc.cli.errors import CliError
from aitbc.cli.genesis_types import chain_name, funded, public_key, write_genesis
from aitbc.cli.money import amount_or_zero
from aitbc.cli.settings import AitbcCommand, Settings

if TYPE_CHECKING:
    from aitbc.core.ledger.genesis import Genesis, GenesisAccount
    from aitbc.core.types.nakamoto import NakamotoSettings

DAY_MS = 24 * 3_600_000


MAX_AHEAD_MS = 2_000
"""Clocks that are set by NTP are closer."""


def milliseconds(default: int, most: int = DAY_MS) -> dict[str, Any]:
    return {"type": click.IntRange(0, most), "default": default, "show_default": True, "metavar": "MS"}


@click.command("mine", cls=AitbcCommand)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="genesis.json",
    show_default=True,
)
@click.option(
    "--chain-id", envvar="CHAIN_ID", type=chain_name, metavar="NAME", required=True, help="CHAIN_ID."
)
@click.option(
    "--timestamp", type=click.IntRange(min=0), required=True, help="Start of the chain, Unix seconds."
)
@click.option(
    "--miner",
    "miners",
    type=public_key,
    metavar="KEY",
    multiple=True,
    help="Public key of who may author blocks, in the order of turns; repeatable. Mode poa-pow; without any, pow.",
)
@click.option(
    "--account", "accounts", type=funded, multiple=True, help="ADDRESS=AMOUNT of a premint; repeatable."
)
@click.option(
    "--difficulty",
    type=click.IntRange(1, 2**53 - 1),
    default=1_048_576,
    show_default=True,
    help="Hashes that a block takes on average; ccoin's n zero digits are 16^n.",
)
@click.option(
    "--block-time-ms",
    type=click.IntRange(100, DAY_MS),
    metavar="MS",
    help="Adjust the difficulty so that blocks come so often; without it, it stays.",
)
@click.option(
    "--half-life-ms",
    type=click.IntRange(1_000, 100 * DAY_MS),
    metavar="MS",
    help="Blocks that come so much later in all halve the difficulty; default 60 block times.",
)
@click.option("--least-difficulty", type=click.IntRange(1, 2**53 - 1), default=1, show_default=True)
@click.option("--min-interval-ms", **milliseconds(0), help="Least time from a block to the next.")
@click.option(
    "--interval-ms", **milliseconds(0), help="Least time from a block to one with few transactions."
)
@click.option("--max-interval-ms", **milliseconds(0), help="Most time from a block to the next; 0: none.")
@click.option(
    "--take-over-ms",
    type=click.IntRange(100, DAY_MS),
    default=5_000,
    show_default=True,
    metavar="MS",
    help="How long each further miner's turn lasts when one is away.",
)
@click.option(
    "--max-ahead-ms",
    type=click.IntRange(0, 7_200_000),
    metavar="MS",
    help="How far a header's clock may be ahead; default 2000, without miners at most half of a block's time.",
)
@click.option(
    "--min-transactions",
    type=click.IntRange(1, 20_000),
    default=1,
    show_default=True,
    help="So many make a block before --interval-ms is over.",
)
@click.option(
    "--max-transactions",
    type=click.IntRange(1, 20_000),
    default=20_000,
    show_default=True,
    help="No block holds more.",
)
@click.option("--no-empty-blocks", is_flag=True, help="A block holds a transaction at least.")
@click.option(
    "--finality-depth",
    type=click.IntRange(1, 64),
    default=60,
    show_default=True,
    help="Blocks on top that make one final.",
)
@click.option(
    "--reward",
    type=amount_or_zero,
    metavar="AMOUNT",
    default="100ait",
    show_default=True,
    help="To the author.",
)
@click.option(
    "--reward-era",
    type=click.IntRange(0, 2**53 - 1),
    default=0,
    show_default=True,
    help="Blocks; 0: for ever.",
)
@click.option(
    "--reward-kept",
    type=click.IntRange(0, 9_900),
    default=5_000,
    show_default=True,
    help="Basis points of it that remain after an era; 5000: halving.",
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
@click.pass_obj
def mine(
    settings: Settings,
    /,
    output: Path,
    chain_id: str,
    timestamp: int,
    accounts: tuple[tuple[str, int], ...],
    force: bool,
    **options: Any,
) -> None:
    """Write the genesis of a chain that agrees by work. The same options make the same file on every machine."""
    from aitbc.core.ledger.genesis import GenesisAccount

    genesis = _genesis(
        chain_id,
        timestamp,
        [GenesisAccount(address=address, balance=balance) for address, balance in accounts],
        _work(**options),
    )
    write_genesis(settings, genesis, output, force=force)


def _work(
    *,
    miners: tuple[str, ...],
    block_time_ms: int | None,
    half_life_ms: int | None,
    max_ahead_ms: int | None,
    no_empty_blocks: bool,
    reward: int,
    reward_era: int,
    reward_kept: int,
    **plain: Any,
) -> "NakamotoSettings":
    from aitbc.core.types.nakamoto import NakamotoSettings, RewardSettings

    rhythm: dict[str, Any] = {}
    if block_time_ms is not None:
        half_life = half_life_ms if half_life_ms is not None else max(1_000, 60 * block_time_ms)
        rhythm = {"difficulty_rule": "adjusting", "block_time_ms": block_time_ms, "half_life_ms": half_life}
    elif half_life_ms is not None:
        raise CliError("--half-life-ms is about --block-time-ms", "add that, or leave it out", code="usage")
    if max_ahead_ms is None:
        max_ahead_ms = MAX_AHEAD_MS
        if not miners and block_time_ms is not None:
            max_ahead_ms = min(MAX_AHEAD_MS, block_time_ms // 2)
    return NakamotoSettings(
        miners=list(miners),
        max_ahead_ms=max_ahead_ms,
        empty_blocks=not no_empty_blocks,
        reward=RewardSettings(initial=reward, era_blocks=reward_era, kept=reward_kept),
        **rhythm,
        **plain,
    )


def _genesis(
    chain_id: str, timestamp: int, accounts: "list[GenesisAccount]", work: "NakamotoSettings"
) -> "Genesis":
    from aitbc.core.ledger.genesis import ConsensusSettings, Genesis
    from aitbc.core.ledger.params import Activation, Params
    from aitbc.core.types.blocks import PROTOCOL_VERSION

    return Genesis(
        chain_id=chain_id,
        timestamp=timestamp,
        accounts=accounts,
        params=Params(activations=[Activation(version=PROTOCOL_VERSION, height=0)]),
        authorities=[],
        consensus=ConsensusSettings(mode="poa-pow" if work.miners else "pow", work=work),
    )


def pair(text: str) -> tuple[str, str]:
    """`OLD=NEW`."""
    old, equals, new = text.partition("=")
    if not equals or not old or not new:
        raise click.BadParameter(f"{text[:80]!r} is not OLD=NEW")
    return old, new


@click.command("import-ccoin", cls=AitbcCommand)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="genesis.json",
    show_default=True,
)
@click.option(
    "--chain-id", type=chain_name, metavar="NAME", help="Default: ccoin- and the file's network_id."
)
@click.option(
    "--timestamp", type=click.IntRange(min=0), required=True, help="Start of the chain, Unix seconds."
)
@click.option(
    "--miner",
    "miners",
    type=pair,
    multiple=True,
    metavar="OLD=KEY",
    help="Public key of who has a listed address there; repeatable.",
)
@click.option(
    "--account",
    "accounts",
    type=pair,
    multiple=True,
    metavar="OLD=ADDRESS",
    help="Address here of who has coins there; a miner's is known. Repeatable.",
)
@click.option(
    "--without",
    multiple=True,
    metavar="FIELD",
    help="Leave out a field that has no counterpart here, such as max_peers; repeatable.",
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
@click.pass_obj
def import_ccoin(
    settings: Settings,
    /,
    file: Path,
    output: Path,
    chain_id: str | None,
    timestamp: int,
    miners: tuple[tuple[str, str], ...],
    accounts: tuple[tuple[str, str], ...],
    without: tuple[str, ...],
    force: bool,
) -> None:
    """Make a genesis of seed 002's file: every field is used, or refused by its name. Keys and addresses are named
    anew, because there an address is made of so few bits of a key that others can be made to have it."""
    from aitbc.cli.ccoin import read_ccoin

    found = read_ccoin(
        file.read_bytes(), miners=dict(miners), accounts=dict(accounts), without=frozenset(without)
    )
    genesis = _genesis(chain_id or found.chain_id, timestamp, found.accounts, found.work)
    write_genesis(settings, genesis, output, force=force)
