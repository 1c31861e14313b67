"""`aitbc devnet`: chain, hub, provider and a paying client on this machine, ready in seconds. DESIGN §7

Deterministic: keys from a published mnemonic, the same genesis hash on every machine.
"""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from aitbc.adapters.http.ports import PortInUse, check_port
from aitbc.adapters.keystore.derivation import DEVNET_MNEMONIC, devnet_keys, devnet_validators
from aitbc.cli.devnet_folder import devnet_folder, node_name
from aitbc.cli.devnet_rules import MINERS, NODES, Rules, rules_of
from aitbc.cli.errors import CliError
from aitbc.cli.files import write_private
from aitbc.cli.supervisor import Program, Supervisor
from aitbc.client.signing import KeySigner
from aitbc.core.types.amounts import format_ait

if TYPE_CHECKING:
    from aitbc.core.ledger.genesis import Genesis

READY_S = 60.0
"""A machine that needs longer has another problem, and the logs say which."""
HOST = "127.0.0.1"
PROVIDER_MODELS = ("tiny-lm", "tiny-diffusion")
PROPOSER_KEY = "proposer.key"
"""In the folder of each node of several, for `aitbc node start`."""


class Ports(NamedTuple):
    """Where everything listens; node i has RPC `rpc + i` and, when it is not alone, P2P `p2p + i`."""

    rpc: int
    p2p: int
    hub: int
    provider: int


class JobTerms(NamedTuple):
    """How long a job may take and how long after that it may be claimed, in seconds."""

    deliver_s: int
    claim_s: int


class Plan(NamedTuple):
    """One devnet: where it listens, what it writes to and who signs."""

    ports: Ports
    data: Path
    terms: JobTerms
    rules: Rules
    genesis: "Genesis"
    document: bytes
    signers: dict[str, KeySigner]
    nodes: list[KeySigner]
    """The key of each: a validator's, or a miner's."""

    @property
    def has_market(self) -> bool:
        """Are there a hub and a provider? Where work agrees receipts mint nothing, and their files have no certificate
        to check."""
        return not self.rules.is_work

    @property
    def rpc_url(self) -> str:
        """Of the first node, which hub, provider and demo use."""
        return self.rpc_urls[0]

    @property
    def rpc_urls(self) -> list[str]:
        return [f"http://{HOST}:{self.ports.rpc + i}" for i in range(len(self.nodes))]

    def peers_of(self, node: int) -> tuple[str, ...]:
        """Where the other nodes listen to each other."""
        return tuple(f"{HOST}:{self.ports.p2p + i}" for i in range(len(self.nodes)) if i != node)

    @property
    def hub_url(self) -> str:
        return f"http://{HOST}:{self.ports.hub}"

    @property
    def provider_url(self) -> str:
        return f"http://{HOST}:{self.ports.provider}"


@click.command("devnet")
@click.option(
    "--validators",
    type=NODES,
    show_default="1",
    help="So many nodes that agree, each a process of its own; 4 is the least that does without one.",
)
@click.option(
    "--mode",
    type=click.Choice(["poa", "pow", "poa-pow"]),
    default="poa",
    show_default=True,
    help="How nodes agree: by votes, by the most work, or listed miners in turns.",
)
@click.option(
    "--miners", type=NODES, show_default=str(MINERS), help="So many nodes that mine, where work agrees."
)
@click.option(
    "--block-time-ms",
    type=click.IntRange(min=0, max=3_600_000),
    default=1_000,
    show_default=True,
    help="Least time between blocks; 0 makes a block as soon as a transaction waits.",
)
@click.option(
    "--idle-ms",
    type=click.IntRange(min=100, max=3_600_000),
    show_default="10000; poa-pow: 2000",
    help="One empty block in this time when nothing waits; equal to --block-time-ms gives a fixed rhythm.",
)
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Keep everything in this folder."
)
@click.option("--reset", is_flag=True, help="Remove the devnet in the --data folder first.")
@click.option(
    "--port-base",
    type=click.IntRange(min=1024, max=65_000),
    help="Node i: RPC at P+i, peers at P+100+i; hub at P+200, provider at P+300.",
)
@click.option("--no-demo", is_flag=True, help="Do not run the demo job.")
@click.option(
    "--synthetic", type=click.IntRange(min=0, max=1_000_000), default=0, help="Claim so many synthetic jobs."
)
@click.option(
    "--deliver-s", type=click.IntRange(1, 3600), default=120, show_default=True, help="A job's deadline."
)
@click.option(
    "--claim-s", type=click.IntRange(1, 3600), default=120, show_default=True, help="Claim time after that."
)
def command(
    validators: int | None,
    mode: str,
    miners: int | None,
    block_time_ms: int,
    idle_ms: int | None,
    data: Path | None,
    reset: bool,
    port_base: int | None,
    no_demo: bool,
    synthetic: int,
    deliver_s: int,
    claim_s: int,
) -> None:
    """Run a whole network on this machine: node, hub, provider and a client that buys one AI job."""
    if reset and data is None:
        raise CliError(
            "--reset needs --data: without it every devnet starts fresh", "add --data FOLDER", code="usage"
        )
    rules = rules_of(
        mode,
        validators=validators,
        miners=miners,
        block_time_ms=block_time_ms,
        idle_ms=idle_ms,
        synthetic=synthetic,
    )
    ports = _ports(port_base)
    _check_ports(ports, rules.nodes)
    with _stop_signals() as stopped, devnet_folder(data, nodes=rules.nodes, reset=reset) as folder:
        terms = JobTerms(deliver_s, claim_s)
        plan = _plan(ports, folder, terms, rules)
        supervisor = Supervisor(folder / "logs")
        try:
            _start(supervisor, plan, stopped)
            if not stopped:
                _wait_ready(supervisor, plan, stopped)
            if not stopped:
                _say_ready(plan)
                if plan.has_market and (not no_demo or synthetic):
                    supervisor.start("client", lambda: _client(plan, demo=not no_demo, synthetic=synthetic))
            _watch(supervisor, plan, stopped)
        finally:
            supervisor.stop()


def _ports(base: int | None) -> Ports:
    if base is None:
        return Ports(rpc=8080, p2p=7070, hub=8000, provider=8001)
    return Ports(rpc=base, p2p=base + 100, hub=base + 200, provider=base + 300)


def _check_ports(ports: Ports, nodes: int) -> None:
    wanted = [("rpc", ports.rpc + i) for i in range(nodes)]
    wanted += [("p2p", ports.p2p + i) for i in range(nodes) if nodes > 1]
    for name, port in (*wanted, ("hub", ports.hub), ("provider", ports.provider)):
        try:
            check_port(HOST, port)
        except PortInUse as error:
            raise CliError(f"{name}: {error}", "or start with --port-base", code="port_in_use") from None


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM fill a list instead of tearing a step apart."""
    stopped: list[int] = []
    previous = {
        number: signal.signal(number, lambda received, _frame: stopped.append(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _plan(ports: Ports, folder: Path, terms: JobTerms, rules: Rules) -> Plan:
    from aitbc.core.codec.keytext import key_to_text
    from aitbc.core.ledger.devnet import devnet_genesis
    from aitbc.core.ledger.genesis import genesis_document

    signers = {name: KeySigner(seed) for name, seed in devnet_keys().items()}
    keys = {name: signer.auth_key for name, signer in signers.items()}
    seeds = devnet_validators(rules.nodes)
    nodes = [KeySigner(seed) for seed in seeds]
    several = [signer.auth_key for signer in nodes] if rules.nodes > 1 and not rules.is_work else []
    genesis = devnet_genesis(
        keys,
        validators=several,
        block_time_ms=rules.block_time_ms,
        idle_ms=rules.idle_ms,
        work=rules.work([key_to_text(signer.auth_key) for signer in nodes]),
    )
    document = genesis_document(genesis)
    _check_same_genesis(folder / "genesis.json", document)
    write_private(folder / "genesis.json", document + b"\n")
    write_private(folder / "faucet.key", devnet_keys()["faucet"].hex().encode() + b"\n")
    if rules.nodes > 1:
        for i, seed in enumerate(seeds):
            write_private(folder / node_name(i) / PROPOSER_KEY, seed.hex().encode() + b"\n")
    return Plan(ports, folder, terms, rules, genesis, document, signers, nodes)


def _check_same_genesis(file: Path, document: bytes) -> None:
    """A kept folder goes on only with the genesis that it was made with."""
    if file.exists() and file.read_bytes().strip() != document:
        raise CliError(
            f"{file.parent} holds a devnet with another genesis: other options made it",
            "start it with the options it was made with, or begin again with --reset",
            code="wrong_chain",
        )


def _start(supervisor: Supervisor, plan: Plan, stopped: list[int]) -> None:
    """Fork each program as soon as what it imports is loaded, so that both cores are busy from the start."""

    if plan.has_market:
        supervisor.start("provider", lambda: _provider(plan))

    if stopped:
        return
    if len(plan.nodes) > 1:
        _load_node()
    for i in range(len(plan.nodes)):
        supervisor.start(node_name(i), partial(_node, plan, i))

    if plan.has_market:
        supervisor.start("hub", lambda: _hub(plan))


def _load_node() -> None:
    """Once for all nodes, which then share its memory."""
    import uvicorn  # noqa: F401

    import aitbc.adapters.http.serving
    import aitbc.node.main  # noqa: F401


def _node(plan: Plan, i: int) -> int:
    from aitbc.adapters.telemetry.logs import log_as_json
    from aitbc.node.config import NodeConfig
    from aitbc.node.folder import DATABASE_FILE
    from aitbc.node.main import run

    log_as_json()
    data = plan.data / node_name(i)
    return run(
        NodeConfig(
            genesis=plan.document,
            data=data,
            rpc_host=HOST,
            rpc_port=plan.ports.rpc + i,
            proposer=plan.nodes[i],
            never_voted=len(plan.nodes) == 1 or not (data / DATABASE_FILE).exists(),
            p2p_host=HOST,
            p2p_port=plan.ports.p2p + i if len(plan.nodes) > 1 else None,
            peers=plan.peers_of(i),
            faucet=plan.signers["faucet"],
            synthetic_attester=plan.signers["synthetic-attester"] if plan.has_market else None,
            attest_urls=(plan.hub_url,) if plan.has_market else (),
        )
    )


def _hub(plan: Plan) -> int:
    from aitbc.adapters.telemetry.logs import log_as_json
    from aitbc.hub.config import HubConfig
    from aitbc.hub.main import run

    log_as_json()
    return run(
        HubConfig(
            signer=plan.signers["hub"],
            data_dir=plan.data / "hub",
            rpc_url=plan.rpc_url,
            bind_host=HOST,
            bind_port=plan.ports.hub,
            genesis=json.loads(plan.document),
            deliver_s=plan.terms.deliver_s,
            claim_s=plan.terms.claim_s,
        )
    )


def _provider(plan: Plan) -> int:
    from aitbc.adapters.telemetry.logs import log_as_json
    from aitbc.provider.config import ProviderConfig
    from aitbc.provider.main import run

    log_as_json()
    return run(
        ProviderConfig(
            signer=plan.signers["provider"],
            data_dir=plan.data / "provider",
            rpc_url=plan.rpc_url,
            hub_url=plan.hub_url,
            bind_host=HOST,
            bind_port=plan.ports.provider,
            genesis=json.loads(plan.document),
            claim_after_s=min(20.0, plan.terms.claim_s / 4),
        )
    )


def _client(plan: Plan, *, demo: bool, synthetic: int) -> int:
    from aitbc.cli.devnet_client import run_client

    return run_client(plan.rpc_url, plan.hub_url, plan.signers, demo=demo, synthetic=synthetic)


def _wait_ready(supervisor: Supervisor, plan: Plan, stopped: list[int]) -> None:
    """Until all nodes know each other, the provider answers and the hub has the provider's models."""
    others = len(plan.nodes) - 1
    questions = {
        node_name(i): (plan.ports.rpc + i, "/health", "peers", others) for i in range(len(plan.nodes))
    }
    if plan.has_market:
        questions["provider"] = (plan.ports.provider, "/v1/health", "", 0)
        questions["hub"] = (plan.ports.hub, "/v1/health", "providers", 1)
    deadline = time.monotonic() + READY_S
    while questions and not stopped:
        name, question = next(iter(questions.items()))
        if _answers(*question):
            del questions[name]
            continue
        _complain_about(supervisor)
        if time.monotonic() > deadline:
            raise CliError(
                f"the {name} does not answer after {READY_S:.0f} s", f"read {plan.data}/logs/{name}.log"
            )
        time.sleep(0.02)


def _answers(port: int, path: str, counted: str, least: int) -> bool:
    """Does it answer, and has it so many of what it counts?"""
    connection = HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = json.loads(response.read())
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return response.status == 200 and int(body.get(counted, 0)) >= least


def _complain_about(supervisor: Supervisor) -> None:
    dead = supervisor.dead()
    if dead is not None:
        raise CliError(_story_of(dead), "with --data its whole log is in logs/", code="program_stopped")


def _story_of(program: Program) -> str:
    """Why it ended: the signal that killed it, else the error that its log ends with, if it does."""
    code = program.exit_code or 0
    if code > 128:
        return f"the {program.name} was killed by signal {code - 128} ({_signal_name(code - 128)})"
    why = _error_in(program.last_words())
    return f"the {program.name} stopped (exit code {code})" + (f": {why}" if why else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _error_in(line: str) -> str:
    """The message of a JSON log line that is an error, or a line that is no JSON; "" for what was merely done."""
    try:
        entry = json.loads(line)
        return str(entry["message"]) if entry["level"] in ("error", "critical") else ""
    except (ValueError, KeyError, TypeError):
        return line


def _say_ready(plan: Plan) -> None:
    ready = {
        "ready": True,
        "rpc": plan.rpc_urls,
        "hub": plan.hub_url if plan.has_market else None,
        "provider": plan.provider_url if plan.has_market else None,
        "console": plan.rpc_url + "/",
        "faucet_key": str(plan.data / "faucet.key"),
    }
    click.echo(json.dumps(ready))
    sys.stdout.flush()
    click.echo(_welcome(plan), err=True)


def _welcome(plan: Plan) -> str:
    """What a person wants to know first: who has money, what to type."""
    balances = {account.address: account.balance for account in plan.genesis.accounts}
    accounts = [
        f"  {name:<10} {signer.address}  {format_ait(balances.get(signer.address, 0)):>15}"
        for name, signer in plan.signers.items()
        if name in ("alice", "bob", "carol", *(("hub", "provider") if plan.has_market else ()))
    ]
    hub_flag = f" --hub {plan.hub_url}" if plan.has_market else ""
    flags = "" if plan.ports == _ports(None) else f"  --rpc {plan.rpc_url}{hub_flag}"
    hub = f"   hub {plan.hub_url}   provider {plan.provider_url}  ({', '.join(PROVIDER_MODELS)})"
    jobs = [
        f'  aitbc image "a red circle on blue" -o out.png --from alice{flags}',
        f'  aitbc chat "Once upon" --from alice{flags}',
    ]
    nodes = [
        f"  {node_name(i):<10} {signer.address}  {url}"
        for i, (signer, url) in enumerate(zip(plan.nodes, plan.rpc_urls, strict=True))
        if len(plan.nodes) > 1 or plan.rules.is_work
    ]
    status = [f"  aitbc node status{flags}"] if nodes else []
    return "\n".join(
        [
            "",
            f"AITBC devnet   chain {plan.genesis.chain_id}   {plan.rules.rhythm}   data {plan.data}",
            f"  node {plan.rpc_url}{hub if plan.has_market else ''}",
            *accounts,
            *nodes,
            f"  mnemonic   {DEVNET_MNEMONIC}   (published: never use it for money)",
            "Try:",
            f"  aitbc send bob 25ait --from alice --wait final{flags}",
            *(jobs if plan.has_market else ()),
            *status,
            "Ctrl-C stops everything.",
            "",
        ]
    )


def _watch(supervisor: Supervisor, plan: Plan, stopped: list[int]) -> None:
    """Until somebody asks to stop or the last node dies; without hub, provider or another node the chain may go on,
    and it is said."""
    nodes = {node_name(i): i for i in range(len(plan.nodes))}
    told = 0
    while not stopped:
        for program in list(supervisor.programs):
            if program.name == "client":
                told = _relay(program.log, told)
            code = program.poll()
            if code is None:
                continue
            node = nodes.pop(program.name, None)
            if not nodes:
                _complain_about(supervisor)
            supervisor.programs.remove(program)
            if program.name == "client":
                told = _relay(program.log, told)
            if code:
                click.echo(_story_of(program), err=True)
            if node is not None:
                click.echo(f"to start it again:\n  {_start_again(plan, node)}", err=True)
        time.sleep(0.1)


def _start_again(plan: Plan, node: int) -> str:
    """What to type for one node of this devnet."""
    data = plan.data / node_name(node)
    peers = " ".join(f"--peer {where}" for where in plan.peers_of(node))
    return (
        f"aitbc node start --genesis {plan.data}/genesis.json --data {data} --proposer-key {data / PROPOSER_KEY}"
        f" --port {plan.ports.rpc + node} --p2p-port {plan.ports.p2p + node} {peers}"
    )


def _relay(log: Path, told: int) -> int:
    """Show what the client has said since; returns how far its log was read."""
    if not log.exists():
        return told
    with log.open("rb") as file:
        file.seek(told)
        chunk = file.read()
    end = chunk.rfind(b"\n") + 1
    if end:
        click.echo(chunk[:end].decode(errors="replace"), nl=False, err=True)
    return told + end
