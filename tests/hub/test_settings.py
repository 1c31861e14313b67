"""One name for the hub's database; seed 001's file URL is left to the node."""

import pytest

from aitbc.hub.settings import shared_database


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("sqlite:///blockchain.db", ""),
        ("postgresql://hub:secret@db/hub", "postgresql://hub:secret@db/hub"),
        (" postgres://db/hub", "postgres://db/hub"),
    ],
)
def test_where_the_hub_keeps_what_it_keeps(given: str, kept: str) -> None:
    assert shared_database(given) == kept


@pytest.mark.parametrize("given", ["mysql://db/hub", "/srv/hub.sqlite", True])
def test_another_database_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="wanted"):
        shared_database(given)
