"""What every keystore promises, run against both; then what only wallet files can get wrong."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aitbc.adapters.keystore import FileKeystore, Keystore, MemoryKeystore, Secret
from aitbc.adapters.keystore.interface import (
    BadKeyName,
    KeyExists,
    KeyFileTampered,
    KeyFileTruncated,
    KeyFileUnreadable,
    KeyNotFound,
    KeystoreError,
    UnknownKeyFile,
    WeakPassword,
    WrongPassword,
)
from aitbc.adapters.keystore.wallet_file import STANDARD_COST, KdfCost, info_of, seal, unseal

FAST = KdfCost(time_cost=1, memory_kib=8, lanes=1)
"""Tests guess no passwords."""
PASSWORD = "correct horse"
SECRET = Secret(seed=bytes(range(32)), mnemonic="some words", path="m/0'")
OTHER = Secret(seed=bytes(32))


@pytest.fixture(params=["file", "memory"])
def keystore(request: pytest.FixtureRequest, tmp_path: Path) -> Keystore:
    return FileKeystore(tmp_path / "keys", cost=FAST) if request.param == "file" else MemoryKeystore()


# Both


def test_a_new_keystore_is_empty(keystore: Keystore) -> None:
    assert keystore.entries() == []


def test_a_key_comes_back_as_it_went_in(keystore: Keystore) -> None:
    added = keystore.add("work", SECRET, PASSWORD)
    assert added == info_of("work", SECRET) == keystore.find("work")
    assert keystore.entries() == [added]
    assert keystore.unlock("work", PASSWORD) == SECRET


def test_keys_are_listed_by_name(keystore: Keystore) -> None:
    keystore.add("work", SECRET, PASSWORD)
    keystore.add("home", OTHER, PASSWORD)
    assert [info.name for info in keystore.entries()] == ["home", "work"]


def test_a_key_is_never_overwritten(keystore: Keystore) -> None:
    keystore.add("work", SECRET, PASSWORD)
    with pytest.raises(KeyExists):
        keystore.add("work", OTHER, PASSWORD)
    assert keystore.unlock("work", PASSWORD) == SECRET


def test_another_password_opens_nothing(keystore: Keystore) -> None:
    keystore.add("work", SECRET, PASSWORD)
    for wrong in ("", PASSWORD + " ", "Correct horse"):
        with pytest.raises(WrongPassword):
            keystore.unlock("work", wrong)


def test_an_unknown_key_is_not_found(keystore: Keystore) -> None:
    for ask in (keystore.find, lambda name: keystore.unlock(name, PASSWORD)):
        with pytest.raises(KeyNotFound, match="no key named 'nobody'"):
            ask("nobody")


@pytest.mark.parametrize("name", ["", "Work", "../evil", "a/b", ".hidden", "-x", "a" * 33, "ä", "a\n", "a b"])
def test_a_name_is_never_a_path(keystore: Keystore, name: str) -> None:
    for ask in (keystore.find, lambda name: keystore.add(name, SECRET, PASSWORD)):
        with pytest.raises(BadKeyName):
            ask(name)


def test_a_short_password_is_refused(keystore: Keystore) -> None:
    with pytest.raises(WeakPassword):
        keystore.add("work", SECRET, "1234567")
    assert keystore.entries() == []


def test_a_secret_is_not_in_its_repr() -> None:
    assert repr(SECRET) == 'Secret(path="m/0\'")'


# Wallet files


@pytest.fixture
def files(tmp_path: Path) -> FileKeystore:
    keystore = FileKeystore(tmp_path / "keys", cost=FAST)
    keystore.add("work", SECRET, PASSWORD)
    return keystore


def file_of(files: FileKeystore) -> Path:
    return files.folder / "work.json"


def test_only_the_owner_can_read_a_wallet_file(files: FileKeystore) -> None:
    assert stat.S_IMODE(file_of(files).stat().st_mode) == 0o600
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700


def test_nothing_else_is_left_in_the_folder(files: FileKeystore) -> None:
    with pytest.raises(KeyExists):
        files.add("work", OTHER, PASSWORD)
    assert [path.name for path in files.folder.iterdir()] == ["work.json"]


def test_looking_writes_nothing(tmp_path: Path) -> None:
    keystore = FileKeystore(tmp_path / "keys")
    keystore.entries()
    with pytest.raises(KeyNotFound):
        keystore.find("work")
    assert list(tmp_path.iterdir()) == []


def test_nothing_secret_is_readable_in_the_file(files: FileKeystore) -> None:
    raw = file_of(files).read_bytes()
    assert SECRET.seed.hex().encode() not in raw
    assert b"words" not in raw


def test_the_file_is_what_the_specification_says(files: FileKeystore) -> None:
    wallet = json.loads(file_of(files).read_bytes())
    assert {key: wallet[key] for key in ("version", "name", "address")} == {
        "version": 1,
        "name": "work",
        "address": info_of("work", SECRET).address,
    }
    assert wallet["kdf"]["name"] == "argon2id"
    assert wallet["cipher"]["name"] == "chacha20-poly1305"


def test_the_standard_cost_is_no_less_than_rfc_9106_asks() -> None:
    assert (STANDARD_COST.time_cost, STANDARD_COST.memory_kib) == (3, 65_536)


def test_two_files_with_one_password_share_nothing() -> None:
    one, two = (json.loads(seal("work", SECRET, PASSWORD, FAST)) for _ in range(2))
    assert one["kdf"]["salt"] != two["kdf"]["salt"]
    assert one["ciphertext"] != two["ciphertext"]


def truncate(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def replace(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        assert old.encode() in raw
        return raw.replace(old.encode(), new.encode())

    return change


DAMAGE = [
    (truncate, KeyFileTruncated, "cut off"),
    (lambda _raw: b"", KeyFileTruncated, "cut off"),
    (lambda _raw: b"[]", KeyFileTruncated, "cut off"),
    (replace('"work"', '"home"'), KeyFileTampered, "was changed"),
    (replace('"time_cost": 1', '"time_cost": 2'), KeyFileTampered, "was changed"),
    (replace('"address": "ait1', '"address": "ait2'), KeyFileTampered, "was changed"),
    (replace('"version": 1', '"version": 2'), UnknownKeyFile, "reads version 1"),
]


@pytest.mark.parametrize(("damage", "error", "told"), DAMAGE)
def test_each_kind_of_damage_has_its_own_error(
    files: FileKeystore, damage: Callable[[bytes], bytes], error: type[KeystoreError], told: str
) -> None:
    path = file_of(files)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(error, match=told) as found:
        files.unlock("work", PASSWORD)
    assert str(path) in found.value.message
    assert "\n" not in found.value.message
    assert found.value.fix
    assert files.entries() == []


def test_every_flipped_bit_is_noticed(files: FileKeystore) -> None:
    raw = file_of(files).read_bytes()
    for position in range(0, len(raw), 3):
        changed = bytearray(raw)
        changed[position] ^= 1
        try:
            assert unseal(bytes(changed), PASSWORD, "file") == SECRET
            assert json.loads(changed) == json.loads(raw), "only white space may change unseen"
        except KeystoreError:
            pass


def test_tampering_with_a_matching_checksum_is_noticed_too() -> None:
    """Who changes the address and mends the checksum is found out by the cipher."""
    from aitbc.adapters.keystore.wallet_file import _checksum

    wallet = json.loads(seal("work", SECRET, PASSWORD, FAST))
    wallet["address"] = info_of("x", OTHER).address
    wallet["checksum"] = _checksum(wallet)
    with pytest.raises(KeyFileTampered):
        unseal(json.dumps(wallet).encode(), PASSWORD, "file")


def test_a_hostile_file_cannot_ask_for_all_memory() -> None:
    from aitbc.adapters.keystore.wallet_file import _checksum

    wallet = json.loads(seal("work", SECRET, PASSWORD, FAST))
    wallet["kdf"]["cost"]["memory_kib"] = 2**31
    wallet["checksum"] = _checksum(wallet)
    with pytest.raises(KeyFileTampered):
        unseal(json.dumps(wallet).encode(), PASSWORD, "file")


@pytest.mark.parametrize(
    "change", [{"salt": "00"}, {"salt": ""}, {"cost": {"time_cost": 1, "memory_kib": 8, "lanes": 4}}]
)
def test_what_argon2_does_not_take_is_tampering_too(change: dict[str, Any]) -> None:
    """A salt that is too short, more lanes than the memory has room for; with a checksum that is right."""
    from aitbc.adapters.keystore.wallet_file import _checksum

    wallet = json.loads(seal("work", SECRET, PASSWORD, FAST))
    wallet["kdf"].update(change)
    wallet["checksum"] = _checksum(wallet)
    with pytest.raises(KeyFileTampered):
        unseal(json.dumps(wallet).encode(), PASSWORD, "file")


def test_a_file_that_cannot_be_read_says_so(files: FileKeystore) -> None:
    path = file_of(files)
    path.unlink()
    path.mkdir()
    with pytest.raises(KeyFileUnreadable, match="Is a directory") as unreadable:
        files.unlock("work", PASSWORD)
    assert "permissions" in unreadable.value.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_somebody_else_says_so(files: FileKeystore) -> None:
    file_of(files).chmod(0)
    with pytest.raises(KeyFileUnreadable, match="Permission denied"):
        files.unlock("work", PASSWORD)


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("in the way")
    with pytest.raises(KeyFileUnreadable):
        FileKeystore(tmp_path / "keys" / "deeper", cost=FAST).add("work", SECRET, PASSWORD)


def test_a_renamed_file_is_the_key_of_its_new_name(files: FileKeystore) -> None:
    file_of(files).rename(files.folder / "home.json")
    assert [info.name for info in files.entries()] == ["home"]
    assert files.unlock("home", PASSWORD) == SECRET
