"""What the commands that make a genesis share: their options' types, and writing the file."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aitbc.cli.errors import CliError
from aitbc.cli.money import amount_or_zero
from aitbc.cli.settings import Settings
from aitbc.cli.show import answer

if TYPE_CHECKING:
    from aitbc.core.ledger.genesis import Genesis


def funded(text: str) -> tuple[str, int]:
    """`ait1…=25ait`."""
    address, equals, money = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not ADDRESS=AMOUNT, such as ait1…=25ait")
    return address, amount_or_zero(money)


def chain_name(text: str) -> str:
    """A chain's id."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", text):
        raise click.BadParameter(
            f"{text[:80]!r} is no chain id: 1 to 64 lower-case letters, digits and dashes, no dash in front"
        )
    return text


def public_key(text: str) -> str:
    """A key, not its address."""
    if text.startswith("ait1"):
        raise click.BadParameter(
            "that is an address: give the public key, as `aitbc keys show NAME` shows it"
        )
    return text


def write_genesis(settings: Settings, genesis: "Genesis", output: Path, *, force: bool) -> None:
    from aitbc.core.codec.digests import genesis_hash_of
    from aitbc.core.ledger.genesis import genesis_document, load_genesis, parse_genesis
    from aitbc.node.beginning import check_beginning

    document = genesis_document(genesis)
    load_genesis(parse_genesis(document))
    check_beginning(genesis, now_ms=time.time_ns() // 1_000_000)
    if output.exists() and not force:
        raise CliError(f"{output} exists", "choose another file, or add --force")
    output.write_bytes(document + b"\n")
    digest = genesis_hash_of(document).hex()
    answer(settings, {"file": str(output), "genesis_hash": digest}, f"{output}: genesis hash {digest}")
