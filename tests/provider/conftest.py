"""The engine children of these tests import engines from the tests' folder."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _engines_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
