"""`aitbc workshop`: take part in a network of seed 004's workshop. `aitbc node --profile workshop` is its `start`."""

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aitbc.cli.errors import NOT_FOUND, REFUSED, UNREACHABLE, CliError
from aitbc.cli.files import write_private
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, note, table

if TYPE_CHECKING:
    from aitbc.workshop.core.keys import WorkshopKey
    from aitbc.workshop.host import HostSettings

WHERE = "127.0.0.1:15151"
"""The workshop's own default."""

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_node_option = click.option(
    "--node", "where", default=WHERE, show_default=True, metavar="HOST:PORT", help="The node that is asked."
)


def _start_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options: tuple[_Decorator, ...] = (
        click.option("--host", default="127.0.0.1", show_default=True, help="Where other nodes connect."),
        click.option("--port", type=click.IntRange(1, 65535), default=15151, show_default=True),
        click.option(
            "--advertise", metavar="HOST:PORT", help="The address told to others; else --host, --port."
        ),
        click.option(
            "--peer", "peers", multiple=True, metavar="HOST:PORT", help="A node to join by; repeatable."
        ),
        click.option(
            "--max-peers", type=click.IntRange(1, 64), default=4, show_default=True, help="The seed's number."
        ),
        click.option(
            "--data",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder of the blocks; else workshop in your AITBC folder.",
        ),
        click.option(
            "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Mining processes."
        ),
        click.option(
            "--difficulty",
            type=click.IntRange(1, 16),
            default=7,
            show_default=True,
            help="Zero digits; every other than 7 is a network of its own, for trying out.",
        ),
        click.option(
            "--follow-overfull",
            is_flag=True,
            help="Take blocks of more than 10 transactions, as the reference does against its own rules.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group("workshop")
def command() -> None:
    """Take part in a plain workshop network (seed 004). Its coins are worth nothing and its keys are weak."""


@command.command("start", cls=AitbcCommand)
@click.option("--mine", "miner", metavar="NAME", help="Mine too, and pay this key.")
@_start_options
@click.pass_obj
def start(settings: Settings, /, miner: str | None, **options: Any) -> int:
    """Run a node until Ctrl-C: join, relay, follow the chain, answer searches."""
    return _run(_host_settings(settings, miner, **options))


@command.command("mine", cls=AitbcCommand)
@click.argument("name")
@_start_options
@click.pass_obj
def mine(settings: Settings, /, name: str, **options: Any) -> int:
    """Run a node that mines, and pays the key NAME."""
    return _run(_host_settings(settings, name, **options))


@command.group("keys")
def keys() -> None:
    """Make and list keys of workshop networks."""


@keys.command("new", cls=AitbcCommand)
@click.argument("name")
@click.option(
    "--from-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take the 24 bytes of a reference node's `privkey`.",
)
@click.pass_obj
def new_key(settings: Settings, name: str, from_file: Path | None) -> None:
    """Make a key. It is kept as the workshop keeps it, in a file of 24 bytes without a password."""
    from aitbc.workshop.core.keys import WorkshopKey, key_from_seed

    path = _key_path(settings, name)
    if path.exists():
        raise CliError(f"there is a key named {name!r} already", "choose another name")
    try:
        key = (
            WorkshopKey(from_file.read_bytes()[:64]) if from_file else key_from_seed(secrets.token_bytes(32))
        )
    except ValueError as error:
        raise CliError(f"{from_file}: {error}") from None
    _make_folder(path.parent)
    write_private(path, key.secret)
    answer(settings, {"name": name, "address": key.address.hex()}, f"{name}  {key.address.hex()}")


@keys.command("list", cls=AitbcCommand)
@click.pass_obj
def list_keys(settings: Settings) -> None:
    """List your keys and their addresses."""
    names = sorted(path.stem for path in _folder(settings).glob("keys/*.key"))
    rows = [(name, _key(settings, name).address.hex()) for name in names]
    answer(settings, [{"name": name, "address": address} for name, address in rows], *table(rows))


@command.command("balance", cls=AitbcCommand)
@click.argument("account")
@_node_option
@click.pass_obj
def balance(settings: Settings, account: str, where: str) -> None:
    """Show what an account (a key's name or an address) has at the node's tip."""
    from aitbc.workshop import client

    address = _address(settings, account)
    with _answers():
        found = client.account(where, address)
    answer(settings, {"address": address.hex(), **found}, f"{found.get('balance')}")


@command.command("send", cls=AitbcCommand)
@click.argument("recipient")
@click.argument("amount", type=click.IntRange(min=0))
@click.option("--from", "sender", required=True, metavar="NAME", help="The key that pays.")
@_node_option
@click.pass_obj
def send(settings: Settings, recipient: str, amount: int, sender: str, where: str) -> None:
    """Pay whole units to a key's name or an address; there is no fee. A block must take it before it counts."""
    from aitbc.workshop import client

    key, address = _key(settings, sender), _address(settings, recipient)
    with _answers():
        nonce = client.account(where, key.address).get("nextNonce")
        if not isinstance(nonce, int):
            raise client.NoAnswer(f"{where} did not tell the next nonce")
        transaction = key.pay(recipient=address, nonce=nonce, amount=amount)
        refusal = client.submit(where, transaction)
    if refusal:
        raise CliError(refusal, code=refusal.partition(":")[0], exit_code=REFUSED)
    view = {"hash": transaction.hash.hex(), "nonce": nonce, "amount": amount, "to": address.hex()}
    answer(settings, view, f"{amount} to {recipient}, nonce {nonce}: {transaction.hash.hex()}")


@command.command("chain", cls=AitbcCommand)
@click.option("--count", type=click.IntRange(1, 64), default=5, show_default=True, help="So many blocks.")
@_node_option
@click.pass_obj
def chain(settings: Settings, count: int, where: str) -> None:
    """Show where a node stands, and the newest blocks, the tip first."""
    from aitbc.workshop import client

    with _answers():
        status = client.status(where)
        blocks = client.newest_blocks(where)[:count]
    rows = [
        (
            str(one.number),
            one.hash.hex()[:16],
            one.coinbase.hex()[:16],
            f"{len(one.transactions)} transactions",
        )
        for one in blocks
    ]
    peers = status.get("peers")
    lines = table(
        [
            ("height", str(status.get("height"))),
            ("tip", str(status.get("tip"))),
            ("peers", ", ".join(map(str, peers)) if isinstance(peers, list) and peers else "nobody"),
            ("waiting", f"{status.get('waiting')} transactions, {status.get('orphans')} blocks"),
        ]
    )
    if status.get("overfullHeight"):
        note(f"a block of height {status['overfullHeight']} holds too many transactions and is refused here")
    views = [{"number": one.number, "hash": one.hash.hex(), "text": one.text} for one in blocks]
    answer(settings, {**status, "blocks": views}, *lines, *table(rows))


# A running node


def _host_settings(settings: Settings, miner: str | None, **options: Any) -> "HostSettings":
    from aitbc.workshop.core.machine import Settings as MachineSettings
    from aitbc.workshop.core.rules import Rules
    from aitbc.workshop.host import HostSettings

    host, port = options["host"], options["port"]
    if host in ("0.0.0.0", "::") and not options["advertise"]:  # noqa: S104 - what a user asked for
        raise CliError(
            f"{host} is no address that others can dial",
            "say which they can: --advertise HOST:PORT",
            code="usage",
        )
    machine = MachineSettings(
        listen=options["advertise"] or f"{host}:{port}",
        bootstrap=options["peers"],
        max_peers=options["max_peers"],
        coinbase=_key(settings, miner).address if miner else None,
        rules=Rules(difficulty=options["difficulty"], follow_overfull=options["follow_overfull"]),
    )
    data = options["data"] or _folder(settings)
    return HostSettings(machine=machine, host=host, port=port, data=data, workers=options["workers"])


def _run(config: "HostSettings") -> int:
    from aitbc.adapters import loop
    from aitbc.adapters.telemetry.logs import log_as_json
    from aitbc.workshop.host import run_node
    from aitbc.workshop.store import StoreError

    log_as_json()
    note(f"workshop node on {config.machine.listen}, blocks in {config.data}")
    try:
        loop.run(run_node(config))
    except StoreError as error:
        raise CliError(str(error), code="storage") from None
    return 0


# Keys and files


def _folder(settings: Settings) -> Path:
    return settings.home.expanduser() / "workshop"


def _make_folder(folder: Path) -> None:
    from aitbc.adapters.keystore.folders import private_folder

    private_folder(folder)


def _key_path(settings: Settings, name: str) -> Path:
    if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 64:
        raise CliError(f"{name!r} is no name for a key", "use letters, digits, - and _", code="usage")
    return _folder(settings) / "keys" / f"{name}.key"


def _key(settings: Settings, name: str) -> "WorkshopKey":
    from aitbc.workshop.core.keys import WorkshopKey

    path = _key_path(settings, name)
    if not path.exists():
        fix = f"make one: aitbc workshop keys new {name}"
        raise CliError(f"there is no workshop key named {name!r}", fix, exit_code=NOT_FOUND)
    if path.stat().st_mode & 0o077:
        raise CliError(f"{path} can be read by others", f"chmod 600 {path}")
    try:
        return WorkshopKey(path.read_bytes()[:64])
    except ValueError as error:
        raise CliError(f"{path}: {error}") from None


def _address(settings: Settings, account: str) -> bytes:
    """An address in hexadecimal, or the name of one of our keys."""
    from aitbc.workshop.core.keys import ADDRESS_BYTES, is_address

    if len(account) != 2 * ADDRESS_BYTES:
        return _key(settings, account).address
    try:
        address = bytes.fromhex(account)
    except ValueError:
        address = b""
    if not is_address(address):
        raise CliError(f"{account} is no compressed P-192 key", "check it: coins sent there are lost")
    return address


@contextlib.contextmanager
def _answers() -> Any:
    """What a node did not answer, as one line."""
    from aitbc.workshop.client import NoAnswer

    try:
        yield
    except NoAnswer as error:
        fix = "start one: aitbc workshop start"
        raise CliError(str(error), fix, code="unreachable", exit_code=UNREACHABLE) from None
