"""Mistakes planted in the real host, between what is decided and what is told, are found."""

import pytest

from node.mutants import MUTANTS, Mutant, hunt

QUICK = (
    "never append to the log",
    "never ask the guard",
    "neither log nor guard",
    "no sync of the log",
    "no sync of the guard",
    "no sync of the folder",
    "the work of a write reversed, by the scribe",
    "the work of a write reversed, by the loop",
    "feed the newest signatures first",
)


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.name in QUICK], ids=lambda mutant: mutant.name)
def test_a_planted_mistake_is_found(mutant: Mutant) -> None:
    assert hunt(mutant) is not None, "it survived"


@pytest.mark.long
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_mistake_is_found(mutant: Mutant) -> None:
    """`make mutants` prints by which story."""
    assert hunt(mutant) is not None, "it survived"


@pytest.mark.long
def test_without_a_mistake_no_story_fails() -> None:
    assert hunt(Mutant("none", Mutant, "name", Mutant.name)) is None
