"""`aitbc keys`, as a user with an empty home sees it."""

import json
import stat
from pathlib import Path

import pytest

from aitbc.adapters.keystore import stores
from aitbc.adapters.keystore.derivation import DEFAULT_PATH, derive_ed25519, mnemonic_seed
from aitbc.adapters.keystore.wallet_file import KdfCost
from aitbc.cli import root
from aitbc.cli.errors import run

PASSWORD = "correct horse"
WORDS = "abandon " * 11 + "about"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, a password in a file, and cheap guesses."""
    folder = tmp_path / "home"
    password_file = tmp_path / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(PASSWORD + "\n")
    monkeypatch.setenv("AITBC_HOME", str(folder))
    monkeypatch.setenv("AITBC_PASSWORD_FILE", str(password_file))
    monkeypatch.setattr(
        stores.FileKeystore.__init__, "__kwdefaults__", {"cost": KdfCost(time_cost=1, memory_kib=8, lanes=1)}
    )
    return folder


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What the command says on stdout, or on stderr when it is to fail."""
    assert run(root, list(arguments)) == code
    said = capsys.readouterr()
    return said.out if code == 0 else said.err


def test_listing_shows_the_public_keys_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    listed = json.loads(ask(capsys, "keys", "list", "--json"))
    assert {entry["kind"] for entry in listed} == {"public devnet key"}
    assert "alice" in [entry["name"] for entry in listed]
    assert not home.exists()


def test_a_new_key_is_kept_and_its_words_are_shown_once(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert run(root, ["keys", "new", "work"]) == 0
    said = capsys.readouterr()
    name, address = said.out.split()
    words = said.err.splitlines()[2].strip()
    assert name == "work"
    assert len(words.split()) == 12
    assert stat.S_IMODE((home / "keys" / "work.json").stat().st_mode) == 0o600
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (home, home / "keys")] == [0o700, 0o700]
    assert ask(capsys, "keys", "list").splitlines()[0].split() == ["work", address, "yours"]
    assert json.loads(ask(capsys, "--json", "keys", "show", "work"))["address"] == address
    assert ask(capsys, "keys", "export", "work", "--secret").strip() == words


def test_words_restore_the_same_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "words").write_text(WORDS)
    first = ask(capsys, "keys", "import", "one", str(tmp_path / "words"))
    second = ask(capsys, "keys", "import", "two", str(tmp_path / "words"))
    other = ask(capsys, "keys", "import", "three", str(tmp_path / "words"), "--path", "m/44'/2048'/1'")
    assert first.split()[1] == second.split()[1] != other.split()[1]


def test_words_with_a_passphrase_are_another_key_and_are_not_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Whoever read the words without the passphrase would restore an account without money."""
    (tmp_path / "words").write_text(WORDS)
    (tmp_path / "passphrase").write_text("TREZOR\n")
    plain = ask(capsys, "keys", "import", "plain", str(tmp_path / "words"))
    given = ("--passphrase-file", str(tmp_path / "passphrase"))
    other = ask(capsys, "keys", "import", "other", str(tmp_path / "words"), *given)
    assert plain.split()[1] != other.split()[1]
    secret = ask(capsys, "keys", "export", "other", "--secret").strip()
    seed = mnemonic_seed(WORDS, "TREZOR")
    assert seed.hex().startswith("c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e5349553"), (
        "BIP-39's vector"
    )
    assert secret == derive_ed25519(seed, DEFAULT_PATH).hex()
    (tmp_path / "hex").write_text("11" * 32)
    assert "only words have a passphrase" in ask(
        capsys, "keys", "import", "hex", str(tmp_path / "hex"), *given, code=1
    )


def test_a_wallet_file_moves_to_another_home(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = (ask(capsys, "keys", "new", "work")).split()[1]
    ask(capsys, "keys", "export", "work", "-o", str(tmp_path / "copy.json"))
    assert stat.S_IMODE((tmp_path / "copy.json").stat().st_mode) == 0o600
    monkeypatch.setenv("AITBC_HOME", str(tmp_path / "elsewhere"))
    assert ask(capsys, "keys", "import", "work", str(tmp_path / "copy.json")).split()[1] == address


def test_an_exported_secret_is_private_even_where_others_could_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ask(capsys, "keys", "new", "work")
    open_to_all = tmp_path / "open"
    open_to_all.touch(mode=0o644)
    ask(capsys, "keys", "export", "work", "--secret", "-o", str(open_to_all))
    assert stat.S_IMODE(open_to_all.stat().st_mode) == 0o600
    assert len(open_to_all.read_text().split()) == 12


def test_a_secret_key_can_be_imported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "hex").write_text("11" * 32 + "\n")
    ask(capsys, "keys", "import", "work", str(tmp_path / "hex"))
    assert ask(capsys, "keys", "export", "work", "--secret").strip() == "11" * 32


REFUSALS = [
    (["keys", "new", "alice"], 1, "name of a public devnet key"),
    (["keys", "new", "../evil"], 2, "cannot be a key's name"),
    (["keys", "show", "nobody"], 3, "no key named 'nobody'; see: aitbc keys list"),
    (["keys", "export", "nobody"], 3, "no key named"),
    (["keys", "export", "alice"], 1, "add --secret"),
    (["keys", "import", "work", "/dev/null"], 1, "no BIP-39 mnemonic"),
    (["keys", "import", "work", "/no/such/file"], 2, "No such file"),
    (["keys", "import", "work"], 1, "no words were given"),
]


@pytest.mark.parametrize(("arguments", "code", "told"), REFUSALS)
def test_refusals_are_one_line(
    arguments: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    error = ask(capsys, *arguments, code=code)
    assert told in error
    assert error.count("\n") == 1
    assert not home.exists()


def test_a_taken_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, "keys", "new", "work")
    assert "already; choose another name" in ask(capsys, "keys", "new", "work", code=1)


def test_without_a_terminal_a_password_file_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AITBC_PASSWORD_FILE")
    assert "AITBC_PASSWORD_FILE" in ask(capsys, "keys", "new", "work", code=1)


def test_a_missing_password_file_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AITBC_PASSWORD_FILE", "/no/such/file")
    assert "/no/such/file: No such file or directory" in ask(capsys, "keys", "new", "work", code=1)


def test_a_wrong_password_and_a_damaged_file_are_told_apart(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    ask(capsys, "keys", "new", "work")
    (tmp_path / "password").write_text("another password")
    assert "password of 'work' is another" in ask(capsys, "keys", "export", "work", "--secret", code=1)
    file = home / "keys" / "work.json"
    file.write_bytes(file.read_bytes()[:100])
    assert "is cut off" in ask(capsys, "keys", "export", "work", "--secret", code=1)


def test_errors_are_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    error = json.loads(ask(capsys, "keys", "show", "nobody", "--json", code=3))
    assert error["error"]["code"] == "unknown_key"


def test_a_home_that_cannot_be_written_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AITBC_HOME", str(tmp_path / "file" / "home"))
    error = ask(capsys, "keys", "new", "work", code=1)
    assert "choose a folder with --home" in error
    assert error.count("\n") == 1
