"""A key's file votes in one process, whatever folders a second one is given."""

from pathlib import Path

import pytest

from aitbc.adapters.agreement.key_lock import KeyLock
from aitbc.core.types.reasons import Stops


def test_a_key_is_held_until_it_is_released(tmp_path: Path) -> None:
    key, other = tmp_path / "key", tmp_path / "other"
    key.touch(mode=0o400)
    other.touch()
    first = KeyLock(key)
    with pytest.raises(Stops, match="another process votes with the key in"):
        KeyLock(key)
    KeyLock(other).release()
    first.release()
    KeyLock(key).release()
