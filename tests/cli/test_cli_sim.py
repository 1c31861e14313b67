"""`aitbc sim`: what it answers, and what it says of a seed that breaks a promise."""

import json

import msgspec
import pytest

from aitbc.cli import root, sim
from aitbc.cli.errors import run
from aitbc.sim.run import Report, play_network_seed, play_seed


def test_seeds_are_counted_and_the_last_run_has_a_digest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, ["--json", "sim", "--seed", "3", "--count", "2", "--nodes", "4"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["seeds"] == 2 and said["blocks"] > 20
    assert said["digest"] == play_seed(4, nodes=4).digest


def test_a_broken_promise_comes_with_its_story_and_the_command_that_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(seed: int, **options: object) -> Report:
        return msgspec.structs.replace(play_seed(1), seed=seed, failure="agreement: two blocks at height 3")

    monkeypatch.setattr(sim, "play_seed", broken)
    assert run(root, ["sim", "--seed", "9", "--nodes", "4", "--attack", "twins"]) == 1
    said = capsys.readouterr()
    assert "agreement: two blocks at height 3" in said.err
    assert "aitbc sim --seed 9 --nodes 4 --attack twins --verbose" in said.err
    assert " final " in said.err


def test_verbose_tells_every_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, ["sim", "--seed", "5", "--verbose"]) == 0
    assert " hears " in capsys.readouterr().out


def test_the_network_alone_has_attackers_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--nodes", "3", "--attack", "liar tx:pull"]
    assert run(root, ["--json", "sim", "--network", "--seed", "3", *chosen]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["digest"] == play_network_seed(3, nodes=3, attack="liar tx:pull").digest
    for wrong in (
        ["sim", *chosen],
        ["sim", "--network", "--attack", "twins"],
        ["sim", "--network", "--whole"],
    ):
        assert run(root, wrong) != 0
        assert "network" in capsys.readouterr().err


def test_whole_nodes_have_attackers_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--nodes", "4", "--attack", "repeating_leader"]
    assert run(root, ["--json", "sim", "--whole", "--seed", "3", *chosen]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["digest"] == play_seed(3, nodes=4, attack="repeating_leader", whole=True).digest
    assert run(root, ["sim", "--seed", "3", *chosen]) != 0
    assert "--whole" in capsys.readouterr().err
