"""Flags over environment over `.env` over file over defaults; who said what is remembered, and what nobody knows is an
error. docs/howto/configure.md
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aitbc.adapters.config.values import Parser
from aitbc.ports import StorageError

MAX_FILE_BYTES = 1024 * 1024
SECTIONS = ("node", "hub")
"""Tables of a file that only this program reads."""
DOTENV = ".env"


class ConfigError(StorageError):
    """A setting that cannot be: its name, where it stands and what is wanted instead."""


class Setting(NamedTuple):
    """One thing that can be set."""

    name: str
    """In a file, and of its value."""
    env: tuple[str, ...]
    parse: Parser
    default: Any
    help: str
    secret: bool = False
    later: str = ""
    """What is missing for it: any value but those in `off` is refused with this."""
    off: tuple[str, ...] = ()


class Combined(NamedTuple):
    """One text for two settings, such as RPC_BIND for host and port: those given apart on the same level win."""

    name: str
    env: tuple[str, ...]
    parts: Callable[[Any], Mapping[str, Any]]
    help: str


class Value(NamedTuple):
    value: Any
    origin: str
    """Where it was said, for people: `RPC_PORT in the environment`, `rpc_port in devnet.yaml`, `default` …"""

    @property
    def is_default(self) -> bool:
        return self.origin == DEFAULT


DEFAULT = "default"
Levels = Sequence[Mapping[str, tuple[Any, str]]]


class Table(NamedTuple):
    """Everything that one program can be told."""

    program: str
    settings: tuple[Setting, ...]
    combined: tuple[Combined, ...] = ()

    def names(self) -> dict[str, Setting | Combined]:
        found: dict[str, Setting | Combined] = {setting.name: setting for setting in self.settings}
        found.update({combined.name: combined for combined in self.combined})
        return found

    def variables(self) -> dict[str, Setting | Combined]:
        return {name: setting for setting in self.names().values() for name in setting.env}


def load(
    table: Table,
    *,
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    file: Path | None = None,
    dotenv: Path | None = None,
    others: Collection[str] = (),
    unread: Collection[str] = (),
) -> dict[str, Value]:
    """Every setting with its value and where that was said. Raises ConfigError, also for a secret in a file that others
    can read.

    `flags`: by name, None for those that were not given. `others`: variables in `.env` that other programs read;
    `unread`: those that programs read from the environment only.
    """
    levels = [
        {name: (value, f"{name} on the command line") for name, value in flags.items() if value is not None},
        _from_variables(table, environment, "in the environment"),
        _from_variables(table, _dotenv(table, dotenv, others, unread), f"in {dotenv}"),
        _from_file(table, file),
    ]
    for path, level in ((dotenv, levels[2]), (file, levels[3])):
        if path is not None:
            _refuse_open_secrets(table, path, level)
    whole = [_taken_apart(table, level) for level in levels]
    return {setting.name: _resolve(setting, whole) for setting in table.settings}


_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")


def _refuse_open_secrets(table: Table, path: Path, level: Mapping[str, tuple[Any, str]]) -> None:
    """A file with a secret in it is as private as a key's file has to be."""
    held = [
        setting.name
        for setting in table.settings
        if setting.name in level and _is_secret_text(setting, level[setting.name][0])
    ]
    if held and path.stat().st_mode & 0o077:
        raise ConfigError(f"{path} holds {', '.join(held)} and can be read by others: chmod 600 {path}")


def _is_secret_text(setting: Setting, said: Any) -> bool:
    """The secret itself, not the name of a file with it, nor a database's address without a password."""
    if not setting.secret or setting.later or not said:
        return False
    written = str(said).strip()
    if setting.name.endswith("_key"):
        return _KEY.fullmatch(written) is not None
    if setting.name == "database":
        return "@" in urlsplit(written).netloc
    return True


def _resolve(setting: Setting, levels: Levels) -> Value:
    for level in levels:
        if setting.name in level:
            said, origin = level[setting.name]
            return Value(_parsed(setting, said, origin), origin)
    return Value(setting.default, DEFAULT)


def _parsed(setting: Setting, said: Any, origin: str) -> Any:
    if setting.later and str(said).strip().lower() not in setting.off:
        raise ConfigError(f"{setting.name} ({origin}): {setting.later}; leave it out until then")
    try:
        return setting.parse(said)
    except ValueError as error:
        shown = "it" if setting.secret else repr(said)[:80]
        raise ConfigError(f"{setting.name} ({origin}) cannot be {shown}: {error}") from None


def _taken_apart(table: Table, level: Mapping[str, tuple[Any, str]]) -> dict[str, tuple[Any, str]]:
    whole = dict(level)
    for combined in table.combined:
        if combined.name in whole:
            said, origin = whole.pop(combined.name)
            try:
                parts = combined.parts(said)
            except ValueError as error:
                raise ConfigError(f"{combined.name} ({origin}) cannot be {said!r:.80}: {error}") from None
            for name, part in parts.items():
                whole.setdefault(name, (part, origin))
    return whole


def _from_variables(table: Table, environment: Mapping[str, str], where: str) -> dict[str, tuple[Any, str]]:
    """By the first of a setting's variables that is set; an empty one is not."""
    found: dict[str, tuple[Any, str]] = {}
    for variable, setting in table.variables().items():
        said = environment.get(variable, "")
        if said and setting.name not in found:
            found[setting.name] = (said, f"{variable} {where}")
    return found


def _dotenv(
    table: Table, path: Path | None, others: Collection[str], unread: Collection[str]
) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    from dotenv import dotenv_values

    said = {
        name: value or "" for name, value in dotenv_values(stream=_opened(path), interpolate=False).items()
    }
    vain = sorted(set(said) & set(unread))
    if vain:
        raise ConfigError(
            f"{path}: {vain[0]} has no effect here, it is read from the environment only: take it out and export it"
        )
    unknown = set(said) - set(table.variables()) - set(others)
    if unknown:
        raise ConfigError(f"{path}: {_nearest(sorted(unknown)[0], table.variables())}")
    return said


def _from_file(table: Table, path: Path | None) -> dict[str, tuple[Any, str]]:
    if path is None:
        return {}
    content = _content(path)
    own = content.get(table.program, {})
    shared = {name: value for name, value in content.items() if name not in SECTIONS}
    if not isinstance(own, dict):
        raise ConfigError(f"{path}: {table.program} is a table of settings")
    names = table.names()
    found: dict[str, tuple[Any, str]] = {}
    for name, value in (*_flat(shared, names), *_flat(own, names)):
        if name not in names:
            raise ConfigError(f"{path}: {_nearest(name, names)}")
        found[name] = (value, f"{name} in {path}")
    return found


def _flat(
    content: Mapping[str, Any], names: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """`rpc: {port: 9080}` is `rpc_port: 9080`."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in names:
            yield from _flat(value, names, f"{name}_")
        elif value is not None:
            yield name, value


def _content(path: Path) -> dict[str, Any]:
    """YAML or TOML, by the file's name."""
    try:
        if path.suffix == ".toml":
            import tomllib

            found: Any = tomllib.loads(_opened(path).read())
        elif path.suffix in (".yaml", ".yml", ".json"):
            import yaml

            found = yaml.safe_load(_opened(path)) or {}
        else:
            raise ConfigError(f"{path}: a file's name ends in .yaml, .yml, .json or .toml")
    except ConfigError:
        raise
    except Exception as error:  # whatever the two parsers say of what is not theirs
        first = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path} cannot be read as {path.suffix[1:].upper()}: {first}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no settings: write name: value")
    return found


def _opened(path: Path) -> Any:
    import io

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        return io.StringIO(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def _nearest(name: str, names: Collection[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(names), n=1)
    hint = f"; did you mean {close[0]}?" if close else "; `aitbc config show` lists what there is"
    return f"there is no setting {name[:80]}{hint}"
