"""Flags over environment over `.env` over file over defaults, and what nobody knows is an error."""

from pathlib import Path
from typing import Any

import pytest

from aitbc.adapters.config.loader import DEFAULT, Combined, ConfigError, Setting, Table, Value, load
from aitbc.adapters.config.values import (
    address,
    dialled,
    flag,
    integer,
    milliseconds,
    number,
    one_of,
    port,
    ratio,
    text,
    weighted,
    words,
)
from aitbc.core.crypto.address import encode_address
from aitbc.node.settings import NODE


def bind(value: Any) -> dict[str, Any]:
    host, _, tail = str(value).rpartition(":")
    if not host:
        raise ValueError("host:port is wanted")
    return {"rpc_host": host, "rpc_port": tail}


TABLE = Table(
    "node",
    (
        Setting("rpc_host", ("RPC_HOST",), text, "127.0.0.1", ""),
        Setting("rpc_port", ("RPC_PORT", "OLD_PORT"), port, 8080, ""),
        Setting("token", ("TOKEN",), integer(0, 9), None, "", secret=True),
        Setting("pruning", ("PRUNING",), text, "", "", later="it is not built", off=("off",)),
        Setting("keys", ("KEYS",), weighted, {}, ""),
    ),
    (Combined("rpc_bind", ("RPC_BIND",), bind, ""),),
)


def read(
    tmp_path: Path,
    *,
    flags: Any = None,
    env: Any = None,
    dotenv: str = "",
    file: str = "",
    name: str = "c.yaml",
) -> dict[str, Value]:
    (tmp_path / ".env").write_text(dotenv)
    (tmp_path / name).write_text(file)
    return load(
        TABLE,
        flags=flags or {},
        environment=env or {},
        dotenv=tmp_path / ".env",
        file=tmp_path / name if file else None,
        others={"HUB_KEY"},
    )


def test_each_level_gives_way_to_the_one_above(tmp_path: Path) -> None:
    levels: dict[str, Any] = {
        "file": "rpc_port: 1", "dotenv": "RPC_PORT=2\n", "env": {"RPC_PORT": "3"}, "flags": {"rpc_port": 4},
    }  # fmt: skip
    expected = [
        (4, "rpc_port on the command line"),
        (3, "RPC_PORT in the environment"),
        (2, f"RPC_PORT in {tmp_path / '.env'}"),
        (1, f"rpc_port in {tmp_path / 'c.yaml'}"),
        (8080, DEFAULT),
    ]
    for left in (["flags", "env", "dotenv", "file"][i:] for i in range(5)):
        found = read(tmp_path, **{name: levels[name] for name in left})["rpc_port"]
        assert found == expected[4 - len(left)]


def test_one_text_for_host_and_port_gives_way_to_those_given_apart_on_its_level(tmp_path: Path) -> None:
    both = read(tmp_path, env={"RPC_BIND": "0.0.0.0:8080", "RPC_PORT": "9080"})
    assert (both["rpc_host"].value, both["rpc_port"].value) == ("0.0.0.0", 9080)
    assert both["rpc_host"].origin == "RPC_BIND in the environment"
    above = read(tmp_path, env={"RPC_BIND": "0.0.0.0:8080"}, dotenv="RPC_PORT=9080\n")
    assert above["rpc_port"].value == 8080, "a higher level wins whole"


FILES = [
    ("c.yaml", "rpc:\n  host: h\n  port: 9\n"),
    ("c.yaml", "rpc_host: h\nrpc_port: 9\nhub:\n  anything: 1\n"),
    ("c.yaml", "rpc_port: 7\nnode:\n  rpc_host: h\n  rpc_port: 9\n"),
    ("c.toml", 'rpc_host = "h"\n[node.rpc]\nport = 9\n'),
    ("c.json", '{"rpc": {"host": "h", "port": 9}}'),
]


@pytest.mark.parametrize(("name", "file"), FILES)
def test_files_in_either_form(tmp_path: Path, name: str, file: str) -> None:
    found = read(tmp_path, file=file, name=name)
    assert (found["rpc_host"].value, found["rpc_port"].value) == ("h", 9)


def test_a_mapping_may_be_a_value(tmp_path: Path) -> None:
    assert read(tmp_path, file="keys:\n  abcdefgh: 3\n")["keys"].value == {"abcdefgh": 3}


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"env": {"RPC_PORT": "70000"}},
        r"rpc_port \(RPC_PORT in the environment\) cannot be '70000': 70000 is not from",
    ),
    ({"env": {"TOKEN": "x"}}, r"token \(TOKEN in the environment\) cannot be it: an integer"),
    ({"dotenv": "RPC_PROT=1\n"}, r"there is no setting RPC_PROT; did you mean RPC_PORT\?"),
    ({"file": "rpc_prot: 1"}, r"there is no setting rpc_prot; did you mean rpc_port\?"),
    ({"file": "rpc:\n  zzz: 1"}, r"there is no setting rpc_zzz"),
    ({"file": "node: 1"}, r"node is a table of settings"),
    ({"file": "- 1"}, r"holds no settings"),
    ({"file": "a: [", "name": "c.yaml"}, r"cannot be read as YAML"),
    ({"file": "a =", "name": "c.toml"}, r"cannot be read as TOML"),
    ({"file": "a: 1", "name": "c.txt"}, r"ends in \.yaml"),
    ({"file": "rpc_port: !!python/object/apply:os.getcwd []"}, r"cannot be read as YAML"),
    ({"env": {"PRUNING": "on"}}, r"pruning \(PRUNING in the environment\): it is not built; leave it out"),
    ({"env": {"RPC_BIND": "8080"}}, r"rpc_bind \(RPC_BIND in the environment\) cannot be '8080': host:port"),
]


@pytest.mark.parametrize(("said", "told"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_what_cannot_be_is_named_with_its_place(tmp_path: Path, said: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read(tmp_path, **said)


def test_what_is_harmless_passes(tmp_path: Path) -> None:
    found = read(
        tmp_path, env={"PRUNING": "off", "OTHER": "x", "RPC_PORT": ""}, dotenv="HUB_KEY=1\nOLD_PORT=5\n"
    )
    assert (found["pruning"].value, found["rpc_port"].value) == ("off", 5)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(TABLE, flags={}, environment={}, file=tmp_path / "missing.yaml")


PARSED: list[tuple[Any, Any, Any]] = [
    (milliseconds(0, 10**6), "1s", 1_000),
    (milliseconds(0, 10**6), "500ms", 500),
    (milliseconds(0, 10**6), "1.5s", 1_500),
    (milliseconds(0, 10**6), 2, 2_000),
    (milliseconds(0, 10**6), "2m", 120_000),
    (milliseconds(0, 10**6), "0.0001s", None),
    (milliseconds(0, 10**6), "soon", None),
    (milliseconds(0, 10**6), "1h", None),
    (ratio, "0.05", 500),
    (ratio, 0.05, 500),
    (ratio, "1.00001", None),
    (ratio, "NaN", None),
    (flag, "yes", True),
    (flag, False, False),
    (flag, "maybe", None),
    (number, "0.5", 0.5),
    (number, "nan", None),
    (number, "-1", None),
    (integer(0, 10), 1.0, None),
    (integer(0, 10), True, None),
    (text, 7, "7"),
    (text, [1], None),
    (words, "a, b,,", ("a", "b")),
    (words, ["a"], ("a",)),
    (dialled, "ws://host:7070/,tcp://h:1,x:2", ("host:7070", "h:1", "x:2")),
    (one_of("poa"), "POA", "poa"),
    (one_of("poa"), "pos", None),
    (address, "0x" + "Ab" * 20, encode_address(b"\xab" * 20)),
    (address, "0xabc", None),
    (address, encode_address(bytes(20)), encode_address(bytes(20))),
    (weighted, "abcdefgh:3,ijklmnop:10", {"abcdefgh": 3, "ijklmnop": 10}),
    (weighted, "short:3", None),
    (weighted, "abcdefgh", None),
]


@pytest.mark.parametrize(("parse", "said", "expected"), PARSED)
def test_values_as_people_write_them(parse: Any, said: Any, expected: Any) -> None:
    if expected is None:
        with pytest.raises(ValueError, match=r"wanted|not (from|between)|hexadecimal"):
            parse(said)
    else:
        assert parse(said) == expected


KEY = "ab" * 32
HELD = [
    ("PROPOSER_KEY", KEY, "proposer_key"),
    ("PROPOSER_KEY", "0x" + KEY.upper(), "proposer_key"),
    ("ADMIN_TOKEN", "correct horse", "admin_token"),
    ("RPC_KEYS", "eightormore:2", "rpc_keys"),
    ("DATABASE_URL", "postgresql://me:secret@db/chain", "database"),
    ("PROPOSER_KEY", "./proposer.key", ""),
    ("DATABASE_URL", "sqlite:///chain.db", ""),
    ("RPC_PORT", "9080", ""),
]


@pytest.mark.parametrize(("variable", "said", "held"), HELD)
def test_a_secret_stands_in_no_file_that_others_can_read(
    tmp_path: Path, variable: str, said: str, held: str
) -> None:
    dotenv, file = tmp_path / ".env", tmp_path / "node.yaml"
    name = NODE.variables()[variable].name
    dotenv.write_text(f"{variable}={said}\n")
    file.write_text(f"{name}: {said!r}\n")
    for given in ({"dotenv": dotenv}, {"file": file}):
        (path,) = given.values()
        for mode in (0o644, 0o640):
            path.chmod(mode)
            if not held:
                assert load(NODE, flags={}, environment={}, **given)[name].value
                continue
            with pytest.raises(ConfigError) as caught:
                load(NODE, flags={}, environment={}, **given)
            assert str(caught.value) == f"{path} holds {held} and can be read by others: chmod 600 {path}"
        path.chmod(0o600)
        assert load(NODE, flags={}, environment={}, **given)[name].value
