"""A secret is in no argument, log, traceback or file that others can read."""

import json
import logging
import os
import stat
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from aitbc.adapters.keystore import FileKeystore, Secret, secret_from_mnemonic, stores
from aitbc.adapters.keystore.wallet_file import KdfCost
from aitbc.cli import root
from aitbc.cli.errors import run
from aitbc.client.signing import KeySigner

WORDS = "abandon " * 11 + "about"
SEED = bytes(range(1, 33))
PASSWORD = "correct horse battery"
FAST = KdfCost(time_cost=1, memory_kib=8, lanes=1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AITBC_HOME", str(tmp_path / "home"))
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD)
    monkeypatch.setenv("AITBC_PASSWORD_FILE", str(password))
    monkeypatch.setattr(stores.FileKeystore.__init__, "__kwdefaults__", {"cost": FAST})
    return tmp_path / "home"


def commands(group: click.Group = root, path: str = "aitbc") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield f"{path} {name}", found
        if isinstance(found, click.Group):
            yield from commands(found, f"{path} {name}")


# Arguments

TELLING = ("password", "passphrase", "secret", "mnemonic", "words", "seed-phrase", "private")


def test_no_option_takes_a_secret() -> None:
    """An argument is in the list of processes and in the shell's history: a secret comes from a file or a terminal."""
    seen = 0
    for path, found in commands():
        for parameter in found.params:
            seen += 1
            named = [
                name for name in (parameter.name or "", *parameter.opts) if any(t in name for t in TELLING)
            ]
            is_file = isinstance(parameter.type, click.Path | click.File)
            is_flag = getattr(parameter, "is_flag", False)
            assert not named or is_file or is_flag, f"{path}: {named}"
    assert seen > 200


def test_what_is_called_key_is_a_name_or_a_file_or_public() -> None:
    for path, found in commands():
        for parameter in found.params:
            if any("key" in option.split("-") for option in parameter.opts) and parameter.opts != ["--key"]:
                is_file = isinstance(parameter.type, click.Path | click.File)
                is_public = parameter.metavar in ("KEY", "HEX", "NAME", "NAME|KEY", "ADDRESS|KEY")
                assert is_file or is_public, f"{path}: {parameter.opts}, {parameter.metavar}"


TYPED = [
    WORDS.split(),
    [WORDS],
    [SEED.hex()],
    [SEED.hex().upper()],
    ["0x" + SEED.hex()],
    [f" 0X{SEED.hex()} "],
]


@pytest.mark.parametrize("typed", TYPED)
def test_a_secret_typed_in_place_of_a_file_is_not_repeated(
    typed: list[str], capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert run(root, ["keys", "import", "work", *typed]) == 2
    said = capsys.readouterr()
    assert "a secret on the command line can be seen" in said.err
    assert not any(word in said.out + said.err for word in (*typed, "abandon"))
    assert not home.exists()


# Tracebacks and logs


def secrets_in(text: str) -> list[str]:
    needles = {"words": "abandon", "seed": SEED.hex(), "bytes": repr(SEED)[2:20], "password": PASSWORD}
    return [name for name, needle in needles.items() if needle in text]


def test_nothing_that_holds_a_secret_shows_it() -> None:
    secret = Secret(seed=SEED, mnemonic=WORDS, path="m/0'")
    signer = KeySigner(SEED)
    shown = [f(thing) for thing in (secret, signer) for f in (repr, str, "{}".format)]
    assert secrets_in(" ".join(shown)) == []


def test_a_bug_while_signing_shows_no_secret(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the locals of every frame, as crash reporters print them, only what is a secret's own type is asked for its
    text; so the command line prints the plain traceback."""
    FileKeystore(home / "keys", cost=FAST).add("work", Secret(seed=SEED, mnemonic=WORDS), PASSWORD)

    def broken(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("aitbc.cli.keys.write_private", broken)
    try:
        run(root, ["keys", "export", "work", "--secret", "-o", str(tmp_path / "out")])
    except AssertionError:
        text = traceback.format_exc()
    assert "a bug" in text
    assert secrets_in(text + "".join(capsys.readouterr())) == []


BROKEN = ["wrong", "truncated", "tampered", "not a wallet"]


@pytest.mark.parametrize("how", BROKEN)
def test_errors_of_a_keystore_hold_no_secret(
    how: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    FileKeystore(home / "keys", cost=FAST).add("work", Secret(seed=SEED, mnemonic=WORDS), PASSWORD)
    file = home / "keys" / "work.json"
    match how:
        case "wrong":
            (tmp_path / "password").write_text(PASSWORD + "!")
        case "truncated":
            file.write_bytes(file.read_bytes()[:-40])
        case "tampered":
            view = json.loads(file.read_text())
            view["address"] = KeySigner(bytes(32)).address
            file.write_text(json.dumps(view))
        case _:
            file.write_text(WORDS)
    assert run(root, ["keys", "export", "work", "--secret"]) in (1, 3)
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert secrets_in(said.out + said.err + caplog.text) == []


def test_bad_words_are_not_repeated(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "words").write_text("abandon " * 12)
    assert run(root, ["keys", "import", "work", str(tmp_path / "words")]) == 1
    assert "these 12 words are no BIP-39 mnemonic" in (said := capsys.readouterr().err)
    assert secrets_in(said) == []


# Files


def test_every_file_of_the_home_folder_is_its_owners(home: Path, tmp_path: Path) -> None:
    """Whatever the umask allows."""
    before = os.umask(0)
    try:
        assert run(root, ["keys", "new", "work"]) == 0
        public = KeySigner(SEED).address
        assert run(root, ["keys", "watch", "other", public]) == 0
        assert run(root, ["keys", "export", "work", "--secret", "-o", str(tmp_path / "words")]) == 0
    finally:
        os.umask(before)
    for path in (home, home / "keys", home / "keys" / "work.json", tmp_path / "words"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_password_file_that_others_can_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    (tmp_path / "password").chmod(0o640)
    assert run(root, ["keys", "new", "work"]) == 1
    assert "can be read by others; chmod 600" in capsys.readouterr().err
    assert not (home / "keys" / "work.json").exists()


def test_a_real_process_has_no_secret_in_arguments_or_environment(home: Path, tmp_path: Path) -> None:
    """As another user of the machine sees it while the wallet waits for its input."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "aitbc"), "keys", "import", "work", "-"],
        stdin=reader,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen = Path(f"/proc/{process.pid}/cmdline").read_text() + Path(f"/proc/{process.pid}/environ").read_text()
    os.write(writer, WORDS.encode())
    os.close(writer)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    expected = KeySigner(secret_from_mnemonic(WORDS).seed).address
    assert expected in out
    assert secrets_in(seen + out + err) == []
