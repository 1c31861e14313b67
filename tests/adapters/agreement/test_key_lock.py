"""A key votes in one process, whatever folders a second one is given."""

import logging
from pathlib import Path

import pytest

from aitbc.adapters.agreement.key_lock import KeyLock
from aitbc.core.types.reasons import Stops

KEY, OTHER_KEY = bytes(33), bytes([1]) * 33
CHAIN, OTHER_CHAIN = bytes(32), bytes([1]) * 32


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_a_key_is_held_for_a_chain_until_it_is_released() -> None:
    first = KeyLock(KEY, CHAIN)
    with pytest.raises(Stops, match="another process on this machine votes with this key"):
        KeyLock(KEY, CHAIN)
    KeyLock(OTHER_KEY, CHAIN).release()
    KeyLock(KEY, OTHER_CHAIN).release()
    first.release()
    KeyLock(KEY, CHAIN).release()


def test_who_has_no_place_for_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "aitbc.node"):
        KeyLock(KEY, CHAIN).release()
    assert "XDG_STATE_HOME" in caplog.text
