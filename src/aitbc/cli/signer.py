"""`aitbc signer`: keep a validator's key and its guard apart from the node."""

from pathlib import Path

import click

from aitbc.cli.accounts import complete_account, keystore_of, unlocked
from aitbc.cli.errors import CliError
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import note


def user_id(text: str) -> int:
    """By name or number."""
    import pwd

    try:
        return int(text) if text.isdecimal() else pwd.getpwnam(text).pw_uid
    except KeyError:
        raise click.BadParameter(f"there is no user {text[:40]!r}") from None


@click.group("signer")
def command() -> None:
    """Keep a validator's key and its guard in a process of their own."""


@command.command("start", cls=AitbcCommand)
@click.option("--genesis", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder of the guard and of the journal of what was signed; by default `signer` in the --home folder.",
)
@click.option(
    "--socket",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="Where nodes connect; by default `signer.sock` in the --data folder.",
)
@click.option(
    "--key",
    "name",
    metavar="NAME",
    shell_complete=complete_account,
    help="The validator's key, of your keystore.",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Or a file with its 32 bytes in hexadecimal, for its owner only.",
)
@click.option(
    "--never-voted",
    is_flag=True,
    help="This key has not voted on this chain, anywhere: said once, at the first start.",
)
@click.option(
    "--guard-lost",
    is_flag=True,
    help="The guard is gone for good: vote in later epochs only.",
)
@click.option(
    "--allow-user",
    "users",
    type=user_id,
    metavar="USER",
    multiple=True,
    help="A user, beside yourself, whose node may connect; repeatable.",
)
@click.pass_obj
def start(
    settings: Settings,
    genesis: Path,
    data: Path | None,
    socket: Path | None,
    name: str | None,
    key_file: Path | None,
    never_voted: bool,
    guard_lost: bool,
    users: tuple[int, ...],
) -> int:
    """Sign what a node (aitbc node start --signer SOCKET) asks for, and refuse what the guard refuses, until Ctrl-C."""
    from aitbc.adapters.telemetry.logs import log_as_json
    from aitbc.cli.node import signer_from_file
    from aitbc.client.signing import KeySigner
    from aitbc.ports import StorageError
    from aitbc.signer.config import SignerConfig
    from aitbc.signer.main import run

    if (name is None) == (key_file is None):
        raise CliError("which key?", "give --key NAME or --key-file FILE", code="usage")
    signer = signer_from_file(key_file) if key_file else KeySigner(unlocked(settings, str(name)).seed)
    stored = keystore_of(settings).path_of(str(name))
    folder = data or settings.home.expanduser() / "signer"
    config = SignerConfig(
        genesis=genesis.read_bytes(),
        data=folder,
        socket=socket or folder / "signer.sock",
        signer=signer,
        key_file=key_file or (stored if stored.exists() else None),  # a devnet's keys are in no file
        never_voted=never_voted,
        guard_lost=guard_lost,
        allowed_users=users,
    )
    note(f"signer of {signer.address} at {config.socket}")
    log_as_json()
    try:
        return run(config)
    except StorageError as error:
        raise CliError(str(error), code="storage") from None
