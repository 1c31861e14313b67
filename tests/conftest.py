"""One BLAS thread for every test, set before numpy is imported anywhere: engines promise bytes, not speed. And a
PostgreSQL for those that ask for one."""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import pytest  # noqa: E402

from support.postgres import postgres_server, postgres_url  # noqa: E402

__all__ = ["postgres_server", "postgres_url"]

LONG_S = 600
"""A seed of many nodes takes a minute of a core, and cores may be shared."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A limit is there to end what hangs: what is long has a longer one unless it names its own."""
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_S))
