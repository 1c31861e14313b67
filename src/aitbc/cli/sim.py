"""`aitbc sim`: play agreement under virtual time with everything going wrong that a seed can think of."""

import time

import click

from aitbc.cli.errors import CliError
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note, table
from aitbc.sim.faults import LEDGER_ATTACKS, WHOLE_ATTACKS
from aitbc.sim.network.actors import ATTACKS as NETWORK_ATTACKS
from aitbc.sim.run import TRACE_LINES, Report, play_network_seed, play_seed, replay_command


@click.command(name="sim", cls=AitbcCommand)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, metavar="N", help="The first seed.", show_default=True
)
@click.option(
    "--count", type=click.IntRange(min=1), default=1, metavar="N", help="So many seeds.", show_default=True
)
@click.option(
    "--nodes",
    type=click.IntRange(1, 53),
    metavar="N",
    help="Validators, drawn from the seed if not given; with --network nodes, 20 if not given.",
)
@click.option(
    "--attack",
    type=click.Choice(["drawn", "none", *WHOLE_ATTACKS, "mutator", *NETWORK_ATTACKS]),
    metavar="NAME",
    default="drawn",
    show_default=True,
    help="The bad actor, or none.",
)
@click.option("--whole", is_flag=True, help="Whole nodes: with ledger, mempool, real blocks and clients.")
@click.option(
    "--network", is_flag=True, help="Nodes that only talk: the peer-to-peer network and those who disturb it."
)
@click.option("--verbose", is_flag=True, help="Show the whole story of each run, message by message.")
@click.pass_obj
def command(
    settings: Settings,
    seed: int,
    count: int,
    nodes: int | None,
    attack: str,
    whole: bool,
    network: bool,
    verbose: bool,
) -> None:
    """Simulate validators that crash, lose messages and lie, and check what agreement promises; or, with --network,
    nodes that come, go and are cut off among liars and floods.

    The same seed is the same run, on every machine. A seed that breaks a promise ends the command with the story of its
    last moments and the command that shows it whole.
    """
    _check_attack(attack, whole=whole, network=network)
    chosen = None if attack == "none" else attack
    started, reports = time.process_time(), list[Report]()
    for number in range(seed, seed + count):
        if network:
            report = play_network_seed(number, nodes=nodes, attack=chosen, verbose=verbose)
        else:
            report = play_seed(number, nodes=nodes, attack=chosen, verbose=verbose, whole=whole)
        reports.append(report)
        if verbose:
            click.echo("\n".join(report.trace))
        if report.failure is not None:
            command = replay_command(report, nodes=nodes, attack=chosen, whole=whole, network=network)
            _tell(report, command, verbose)
    seconds = time.process_time() - started
    totals = {
        "seeds": count,
        "events": sum(report.events for report in reports),
        "blocks": sum(report.blocks for report in reports),
        "withEvidence": sum(bool(report.accused) for report in reports),
        "eventsPerCpuSecond": round(sum(report.events for report in reports) / max(seconds, 0.001)),
        "digest": reports[-1].digest,
    }
    answer(settings, totals, *table([(name, f"{value}") for name, value in totals.items()]))


def _check_attack(attack: str, *, whole: bool, network: bool) -> None:
    if network and whole:
        raise CliError("--whole and --network are two simulations", "choose one", code="usage")
    if network and attack not in ("drawn", "none", *NETWORK_ATTACKS):
        raise CliError(f"{attack} is about votes", "leave out --network", code="usage")
    if not network and attack in NETWORK_ATTACKS:
        raise CliError(f"{attack} is about the network", "add --network", code="usage")
    if attack in LEDGER_ATTACKS and not whole:
        raise CliError(f"{attack} needs a ledger", "add --whole", code="usage")


def _tell(report: Report, command: str, verbose: bool) -> None:
    if not verbose:
        note("\n".join(report.trace[-TRACE_LINES:]))
    raise CliError(
        f"seed {report.seed} ({report.nodes} nodes, {report.attack or 'no attack'}): {report.failure}",
        f"see it happen: {command}",
        code="promise_broken",
    )
