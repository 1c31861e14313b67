"""`aitbc genesis make`: write a genesis.json; its hash names the chain. Seed 000 §13, §17. docs/spec/genesis.md"""

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from aitbc.cli.genesis_types import chain_name, funded, public_key, write_genesis
from aitbc.cli.genesis_work import import_ccoin, mine
from aitbc.cli.money import amount_or_zero
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.core.types.amounts import BASIS_POINTS

if TYPE_CHECKING:
    from aitbc.core.ledger.genesis import Genesis

DOTENV = ".env"


def ratio(text: str) -> int:
    """`0.05` as 500 basis points, exactly; anything finer is refused."""
    try:
        points = Decimal(text) * BASIS_POINTS
    except InvalidOperation:
        raise click.BadParameter(f"{text!r} is no decimal number such as 0.05") from None
    if not points.is_finite() or points != int(points) or not 0 <= points <= BASIS_POINTS:
        raise click.BadParameter(f"{text} is not between 0 and 1 in steps of 0.0001")
    return int(points)


def block_time(ctx: click.Context, parameter: click.Parameter, text: str) -> int:
    """`2000`, `2000ms` or `2s`; where it was not typed but set (BLOCK_TIME=1) a bare number is seconds."""
    from click.core import ParameterSource

    from aitbc.adapters.config.values import milliseconds

    was_set = ctx.get_parameter_source(parameter.name or "") in (
        ParameterSource.ENVIRONMENT,
        ParameterSource.DEFAULT_MAP,
    )
    try:
        return int(milliseconds(0, 3_600_000)(text if was_set or not text.isdigit() else f"{text}ms"))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


class GenesisCommand(AitbcCommand):
    """Reads what the environment does not say from `.env`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        return super().make_context(info_name, args, parent, **{"default_map": self._dotenv(), **extra})

    def _dotenv(self) -> dict[str, str]:
        if not Path(DOTENV).is_file():
            return {}
        from dotenv import dotenv_values

        said = dotenv_values(DOTENV, interpolate=False)
        names = {str(p.envvar): p.name or "" for p in self.params if isinstance(p, click.Option) and p.envvar}
        return {name: said[variable] or "" for variable, name in names.items() if said.get(variable)}


def ratio_above_one(text: str) -> int:
    """Like `ratio`, up to a thousand."""
    try:
        points = Decimal(text) * BASIS_POINTS
    except InvalidOperation:
        raise click.BadParameter(f"{text!r} is no decimal number such as 1.5") from None
    if not points.is_finite() or points != int(points) or not 0 <= points <= 1_000 * BASIS_POINTS:
        raise click.BadParameter(f"{text} is not between 0 and 1000 in steps of 0.0001")
    return int(points)


@click.group("genesis")
def command() -> None:
    """Make a genesis document."""


@command.command("make", cls=GenesisCommand)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="genesis.json",
    show_default=True,
)
@click.option(
    "--chain-id",
    envvar="CHAIN_ID",
    type=chain_name,
    metavar="NAME",
    required=True,
    help="Lower-case letters, digits and dashes; CHAIN_ID.",
)
@click.option(
    "--timestamp", type=click.IntRange(min=0), required=True, help="Start of the chain, Unix seconds."
)
@click.option(
    "--authority",
    "authorities",
    type=public_key,
    metavar="KEY",
    multiple=True,
    required=True,
    help="Public key of a block author; repeatable.",
)
@click.option(
    "--listed-hub", "hubs", multiple=True, help="Address of a hub that may attest for a mint; repeatable."
)
@click.option(
    "--account", "accounts", type=funded, multiple=True, help="ADDRESS=AMOUNT of a premint; repeatable."
)
@click.option(
    "--mint-per-unit", envvar="MINT_PER_UNIT", type=click.IntRange(min=0), default=1_000, show_default=True
)
@click.option(
    "--coordinator-ratio", envvar="COORDINATOR_RATIO", type=ratio, default="0.05", show_default=True
)
@click.option(
    "--hub-mint-per-bond",
    type=ratio_above_one,
    default="1",
    show_default=True,
    metavar="RATIO",
    help="A listed hub's receipts mint at most this part of its stake in an epoch; 0: no bound.",
)
@click.option(
    "--hub-bond",
    type=amount_or_zero,
    metavar="AMOUNT",
    default="0ait",
    show_default=True,
    help="Stake that a listed hub needs before its receipts mint.",
)
@click.option(
    "--mint-budget-per-day",
    type=amount_or_zero,
    metavar="AMOUNT",
    default="0ait",
    show_default=True,
    help="Most that receipts may mint in 24 hours of block time; 0ait: no budget.",
)
@click.option(
    "--calibration-budget",
    type=amount_or_zero,
    metavar="AMOUNT",
    default="1000ait",
    show_default=True,
    help="What calibration receipts may mint in all: the first coins of a chain without premint.",
)
@click.option(
    "--mode",
    envvar="CONSENSUS_MODE",
    type=click.Choice(["poa", "cbp"]),
    default="poa",
    show_default=True,
    help="Who proposes: the authorities in turn, or by their providers' compute; CONSENSUS_MODE.",
)
@click.option(
    "--block-time-ms",
    envvar="BLOCK_TIME",
    callback=block_time,
    default="2000",
    show_default=True,
    help="Least time between blocks, also as 1s; BLOCK_TIME, where a bare number is seconds.",
)
@click.option("--idle-ms", type=click.IntRange(100, 3_600_000), default=10_000, show_default=True)
@click.option("--force", is_flag=True, help="Overwrite the file.")
@click.pass_obj
def make(settings: Settings, /, output: Path, force: bool, **options: Any) -> None:
    """Write a genesis.json with the seed's keys. A chain without --account has no premint."""
    genesis = _genesis(**options)
    write_genesis(settings, genesis, output, force=force)


def _genesis(
    *,
    chain_id: str,
    timestamp: int,
    authorities: tuple[str, ...],
    hubs: tuple[str, ...],
    accounts: tuple[tuple[str, int], ...],
    mint_per_unit: int,
    coordinator_ratio: int,
    hub_mint_per_bond: int,
    hub_bond: int,
    mint_budget_per_day: int,
    calibration_budget: int,
    mode: Literal["poa", "cbp"],
    block_time_ms: int,
    idle_ms: int,
) -> "Genesis":
    from aitbc.core.ledger.genesis import Authority, ConsensusSettings, Genesis, GenesisAccount
    from aitbc.core.ledger.params import Activation, Params
    from aitbc.core.types.blocks import PROTOCOL_VERSION

    return Genesis(
        chain_id=chain_id,
        timestamp=timestamp,
        accounts=[GenesisAccount(address=address, balance=balance) for address, balance in accounts],
        params=Params(
            activations=[Activation(version=PROTOCOL_VERSION, height=0)],
            mint_per_unit=mint_per_unit,
            coordinator_ratio_bp=coordinator_ratio,
            hubs=list(hubs),
            hub_mint_per_bond_bp=hub_mint_per_bond,
            hub_bond=hub_bond,
            mint_budget_per_day=mint_budget_per_day,
            calibration_budget=calibration_budget,
        ),
        authorities=[Authority(pubkey=key) for key in authorities],
        consensus=ConsensusSettings(mode=mode, block_time_ms=block_time_ms, idle_ms=idle_ms),
    )


command.add_command(mine)
command.add_command(import_ccoin)
