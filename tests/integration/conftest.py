"""Devnets for the stories in this folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.devnet import Network, start, stop


@pytest.fixture
def devnet(tmp_path: Path) -> Iterator[Callable[..., Network]]:
    """Starts devnets with the options it is called with; stops them at the end."""
    running: list[Network] = []

    def begin(*options: str, data: Path | None = None, base: int | None = None) -> Network:
        network = start(*options, data=data or tmp_path / "data", base=base)
        running.append(network)
        return network

    yield begin
    for network in running:
        stop(network)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One devnet for the stories that leave it as they found it; blocks come at once."""
    running = start("--block-time-ms", "0", data=tmp_path_factory.mktemp("devnet") / "data")
    yield running
    stop(running)
