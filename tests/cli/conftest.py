"""A small devnet for every command line test that asks for one."""

from collections.abc import Iterator

import pytest

from support.small_network import SmallNetwork, small_network


@pytest.fixture
def network() -> Iterator[SmallNetwork]:
    with small_network() as running:
        yield running
