"""Seed 002's genesis file, field by field. docs/howto/mine.md "From ccoin" """

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from aitbc.cli.errors import CliError
from aitbc.core.codec.canonical import parse_json
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.crypto.address import address_of, check_address
from aitbc.core.ledger.genesis import GenesisAccount
from aitbc.core.types.amounts import AIT, MAX_SIGNED
from aitbc.core.types.blocks import MAX_BLOCK_TXS
from aitbc.core.types.nakamoto import MAX_INTERVAL_MS, NakamotoSettings, RewardSettings

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_DIGITS = 13
"""16^13 is below 2^53."""

NO_COUNTERPART = {
    "block_mining.placeholder_data": "what a miner's blocks say is its own: aitbc node start --extra",
    "transaction": "data of a transfer is the sender's; none is made up",
    "max_peers": "how many peers a node has is its own",
    "genesis_block.coinbase_reward": "nobody earns for block 0: give coins in alloc",
    "genesis_block.difficulty": "block 0 is the same for everybody without a search",
}
"""Fields that mean nothing here: they are left out only where `--without` says so."""


class FromCcoin(NamedTuple):
    chain_id: str
    work: NakamotoSettings
    accounts: list[GenesisAccount]


def without_comments(raw: bytes) -> bytes:
    """The seed's sample has `// …` behind its values."""
    strings_or_comments = re.compile(rb'"(?:\\.|[^"\\\n])*"|//[^\n]*')
    return strings_or_comments.sub(lambda found: found[0] if found[0][:1] == b'"' else b"", raw)


def read_ccoin(
    raw: bytes, *, miners: Mapping[str, str], accounts: Mapping[str, str], without: frozenset[str]
) -> FromCcoin:
    """`miners`: key by old address; `accounts`: new address by old one. Raises Rejected or CliError, by the field."""
    file = _Fields(parse_json(without_comments(raw), dict[str, Any], limit=MAX_FILE_BYTES), without)
    keys = [_mapped(miners, old, "miners", "--miner", "KEY") for old in file.texts("miners")]
    homes = {old: address_of(key_from_text(key)) for old, key in miners.items()} | dict(accounts)
    work = NakamotoSettings(
        miners=keys,
        interval_ms=1_000 * file.number("block_mining.interval", most=MAX_INTERVAL_MS // 1_000),
        difficulty=16 ** file.number("block_mining.difficulty", most=MAX_DIGITS),
        min_transactions=file.number("block_mining.min_bound", least=1, most=MAX_BLOCK_TXS),
        max_transactions=file.number("block_mining.max_bound", least=1, most=MAX_BLOCK_TXS),
        empty_blocks=file.flag("block_mining.allow_empty"),
        reward=RewardSettings(initial=AIT * file.number("block_mining.reward", most=MAX_SIGNED // AIT)),
    )
    if file.take("genesis_block.coinbase", "") != "":
        raise _refused("genesis_block.coinbase", "nobody earns for block 0: give coins in alloc")
    found = FromCcoin(
        f"ccoin-{file.number('network_id', most=MAX_SIGNED)}", work, list(_accounts(file, homes))
    )
    file.check_all_used()
    return found


def _accounts(file: "_Fields", homes: Mapping[str, str]) -> list[GenesisAccount]:
    found: dict[str, int] = {}
    for old in file.keys("alloc"):
        balance = file.number(f"alloc.{old}.balance", most=MAX_SIGNED // AIT)
        if file.take(f"alloc.{old}.nonce", 0) != 0:
            raise _refused(f"alloc.{old}.nonce", "every account begins with nonce 0 here")
        address = _mapped(homes, old, "alloc", "--account", "ADDRESS")
        check_address(address)
        found[address] = found.get(address, 0) + AIT * balance
    return [GenesisAccount(address=address, balance=balance) for address, balance in found.items()]


def _mapped(known: Mapping[str, str], old: str, field: str, option: str, what: str) -> str:
    if old not in known:
        raise CliError(
            f"{field}: {old[:60]} is an address of ccoin's, which anybody's key can be made to have",
            f"say who that is here: {option} {old[:60]}={what}",
            code="usage",
        )
    return known[old]


def _refused(field: str, why: str) -> CliError:
    return CliError(f"{field}: {why}", "change the file", code="usage")


class _Fields:
    """Takes fields by their dotted names, so that what nobody took can be named."""

    def __init__(self, file: dict[str, Any], without: frozenset[str]) -> None:
        self._file = file
        self._without = without

    def take(self, name: str, default: Any = ...) -> Any:
        *path, last = name.split(".")
        place: Any = self._file
        for step in path:
            place = place.get(step, {}) if isinstance(place, dict) else {}
        if not isinstance(place, dict) or last not in place:
            if default is ...:
                raise _refused(name, "is missing")
            return default
        return place.pop(last)

    def number(self, name: str, *, least: int = 0, most: int) -> int:
        value = self.take(name)
        if type(value) is not int or not least <= value <= most:
            raise _refused(name, f"{str(value)[:40]} is no integer from {least} to {most}")
        return value

    def flag(self, name: str) -> bool:
        value = self.take(name)
        if not isinstance(value, bool):
            raise _refused(name, "is true or false")
        return value

    def texts(self, name: str) -> list[str]:
        value = self.take(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise _refused(name, "is a list of texts")
        return value

    def keys(self, name: str) -> list[str]:
        value = self._file.get(name)
        if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
            raise _refused(name, "is an object of objects")
        return list(value)

    def check_all_used(self) -> None:
        left = [name for name in _names(self._file) if not self._is_left_out(name)]
        for name in left:
            if name not in NO_COUNTERPART and name.split(".")[0] not in NO_COUNTERPART:
                raise _refused(name, "is no field of ccoin's genesis")
        if left:
            why = "; ".join(
                f"{name}: {NO_COUNTERPART.get(name) or NO_COUNTERPART[name.split('.')[0]]}" for name in left
            )
            options = " ".join(f"--without {name}" for name in left)
            raise CliError(
                f"fields without a counterpart here: {why}", f"leave them out: {options}", code="usage"
            )

    def _is_left_out(self, name: str) -> bool:
        return any(name == left_out or name.startswith(f"{left_out}.") for left_out in self._without)


def _names(value: dict[str, Any], before: str = "") -> list[str]:
    """Dotted names of what is left; an object that is empty holds nothing."""
    found: list[str] = []
    for key, item in value.items():
        name = f"{before}{key}"
        found += _names(item, f"{name}.") if isinstance(item, dict) else [name]
    return found
