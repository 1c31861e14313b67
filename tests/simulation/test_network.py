"""The network under everything a seed can think of. `aitbc sim --network --seed N --verbose` tells the story of one."""

import os
import subprocess
import sys

import msgspec
import pytest

from aitbc.core.peer.kinds import KINDS
from aitbc.core.peer.reasons import PeerReason
from aitbc.sim.checks import Broken
from aitbc.sim.network import run as network_run
from aitbc.sim.network.actors.liar import LIES
from aitbc.sim.network.checks import components
from aitbc.sim.network.node import Node
from aitbc.sim.network.plan import Absence, NetworkPlan, Partition, calm_network_plan
from aitbc.sim.network.run import NetworkRun
from aitbc.sim.run import play_network_plan, play_network_seed, replay_command


def play(plan: NetworkPlan) -> NetworkRun:
    """Everything is promised; the run for whoever wants to see more."""
    run = NetworkRun(plan)
    try:
        run.play()
    except Broken as broken:
        raise AssertionError(f"{broken}\n" + "\n".join(run.world.trace[-30:])) from None
    return run


def play_seeds(seeds: range, *, attack: str | None = "drawn") -> None:
    for seed in seeds:
        report = play_network_seed(seed, attack=attack)
        command = replay_command(report, nodes=None, attack=attack, network=True)
        assert report.failure is None, f"{report.failure}\n{command}\n" + "\n".join(report.trace[-30:])


def test_whatever_happens_promises_hold() -> None:
    """Seed 2: a partition of half a minute, losses, and connections that break."""
    play_seeds(range(2, 3))


@pytest.mark.long
@pytest.mark.parametrize("start", range(10, 70, 10))
def test_whatever_happens_to_more_seeds_promises_hold(start: int) -> None:
    play_seeds(range(start, start + 10))


# Liars and floods


def test_there_is_a_liar_for_every_kind_and_every_question_is_answered_with_a_lie() -> None:
    """Who registers a kind writes down what somebody could lie about in it: `sim/network/actors/lies_about_*.py`."""
    assert set(LIES) == {kind.name for kind in KINDS}
    assert {name for name, lie in LIES.items() if lie.answer} == {kind.name for kind in KINDS if kind.asks}


BLAMED = {
    "p2p:hello": PeerReason.SECOND_HELLO,
    "p2p:get_peers": None,
    "p2p:ping": None,
    "p2p:bye": None,
    "p2p:record_key": None,
    "tx:announce": None,
    "tx:pull": PeerReason.INVALID,
    "gossip:consensus:candidate": PeerReason.INVALID,
    "gossip:consensus:vote": PeerReason.INVALID,
    "gossip:consensus:certificate": PeerReason.INVALID,
    "consensus:status": PeerReason.INVALID,
    "consensus:get": PeerReason.INVALID,
    "sync:ends": PeerReason.INVALID,
    "sync:headers": PeerReason.INVALID,
    "consensus:fill": PeerReason.INVALID,
    "sync:blocks": PeerReason.INVALID,
    "gossip:search:block": PeerReason.INVALID,
    "gossip:search:transaction": PeerReason.INVALID,
}
"""What a lie is called once it is found out; None: it can harm nobody, so nobody need find out."""


@pytest.mark.parametrize(("kind", "reason"), BLAMED.items())
def test_a_liar_in_one_kind_harms_nobody(kind: str, reason: PeerReason | None) -> None:
    plan = calm_network_plan(8, attack=f"liar {kind}", max_peers=4)
    run = play(msgspec.structs.replace(plan, settle_ms=10_000, trouble_ms=25_000))
    bans = {key for node in run.honest for key in node.network.bans(run.world.now_ms)}
    assert run.checks.reached > 50
    assert all(bad.said > 20 for bad in run.bad), "they had their chance"
    if reason is not None:
        assert run.refusals[reason] > 0
        assert bans >= {bad.key for bad in run.bad} or reason is PeerReason.SECOND_HELLO


@pytest.mark.parametrize("nodes", [8, pytest.param(20, marks=pytest.mark.long)])
def test_liars_in_all_kinds_at_once_harm_nobody(nodes: int) -> None:
    plan = calm_network_plan(nodes, attack="liar")
    run = play(msgspec.structs.replace(plan, settle_ms=15_000, trouble_ms=12_000))
    assert run.checks.reached > 30


@pytest.mark.parametrize("nodes", [8, pytest.param(20, marks=pytest.mark.long)])
def test_a_flood_of_all_kinds_at_once_leaves_room_for_the_others(nodes: int) -> None:
    plan = calm_network_plan(nodes, attack="flood")
    run = play(msgspec.structs.replace(plan, settle_ms=15_000, trouble_ms=12_000))
    assert run.checks.reached > 30 and run.refusals[PeerReason.RATE_EXCEEDED] > 100


@pytest.mark.long
@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_a_flood_of_one_kind_leaves_room_for_the_others(kind: str) -> None:
    run = play(calm_network_plan(8, attack=f"flood {kind}"))
    assert run.checks.reached > 100


# Eclipse


def test_who_owns_nine_addresses_of_ten_does_not_own_the_network() -> None:
    """Nodes that had chosen honest peers keep one at least all along, and what they say reaches everybody."""
    plan = calm_network_plan(14, attack="eclipse")
    run = play(msgspec.structs.replace(plan, settle_ms=15_000, trouble_ms=20_000))
    dark = [len([key for key in node.network.peers if key[-1:] != b"."]) for node in run.honest]
    assert len(run.bad) == 9 * len(run.honest)
    assert min(dark) >= 1 and max(dark) >= 6, "everybody is crowded by them"


def restarts_in_the_dark(nodes: int, seed: int) -> NetworkRun:
    """Every third honest node is killed and starts again while nine addresses of ten are bad."""
    plan = calm_network_plan(nodes, attack="eclipse", seed=seed)
    absences = tuple(
        Absence(kind="kill", node=place, at_ms=25_000 + 3_000 * number, for_ms=10_000)
        for number, place in enumerate(range(0, nodes, 3))
    )
    return play(
        msgspec.structs.replace(
            plan, settle_ms=15_000, trouble_ms=65_000, absences=absences, recover_ms=15_000
        )
    )


@pytest.mark.parametrize(
    ("nodes", "seed"),
    [(9, 0), (9, 1), *(pytest.param(14, seed, marks=pytest.mark.long) for seed in range(2, 12))],
)
def test_who_restarts_in_a_full_eclipse_finds_somebody_honest(nodes: int, seed: int) -> None:
    """Bitcoin's anchors, and places for those who have told something before; once two of four found nobody."""
    run = restarts_in_the_dark(nodes, seed)
    again = [node for node in run.honest if node.life > 1]
    assert len(again) == (nodes + 2) // 3
    assert all(run.checks.has_chosen_well(node) for node in again)


# Partition, and what it is checked with


def test_two_halves_are_one_again_after_healing() -> None:
    half = tuple(range(6))
    plan = calm_network_plan(12, max_peers=6)
    plan = msgspec.structs.replace(
        plan,
        settle_ms=15_000,
        trouble_ms=50_000,
        heal_ms=150_000,
        partitions=(Partition(at_ms=1_000, for_ms=45_000, nodes=half),),
    )
    run = NetworkRun(plan)
    apart: list[int] = []
    run.world.later(60_000, lambda: apart.append(len(components(run))))
    run.play()
    assert apart == [2]


class Forgetful(Node):
    """Passes nothing on that it was told."""

    def _judge(self, effect: object) -> None:
        pass


class Hoarding(Node):
    """Keeps what it should not."""

    def start(self) -> None:
        super().start()
        self.network.held = lambda: {"hoard": (2, 1)}  # type: ignore[method-assign]


class Unjust(Node):
    """Bans who says something good."""

    def _judge(self, effect: object) -> None:
        super()._judge(effect)  # type: ignore[arg-type]
        self.blame(effect.key, "I do not like it")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("mistaken", "word"), [(Forgetful, "has not reached"), (Hoarding, "holds more"), (Unjust, "has banned")]
)
def test_a_mistake_is_found_and_the_run_says_which(mistaken: type[Node], word: str) -> None:
    with pytest.raises(Broken, match=word):
        NetworkRun(calm_network_plan(6), node_class=mistaken).play()


def test_two_networks_are_not_one() -> None:
    """What the check for one network after healing sees when there are two."""
    plan = msgspec.structs.replace(calm_network_plan(6), settle_ms=1_000, trouble_ms=60_000, heal_ms=100)
    run = NetworkRun(plan)
    run.world.later(500, lambda: setattr(run.world, "cut", lambda _: None))
    run.world.cut([node.where for node in run.honest[:3]])
    with pytest.raises(Broken, match=r"in [2-6] parts"):
        run.play()


# Same seed, same run


def test_the_same_seed_is_the_same_run_in_another_process_too() -> None:
    ours = play_network_seed(4, nodes=5, attack="liar tx:pull").digest
    told = play_network_seed(4, nodes=5, attack="liar tx:pull", verbose=True)
    assert told.digest == ours and any(" hears " in line for line in told.trace)
    script = (
        "from aitbc.sim.run import play_network_seed as p; print(p(4, nodes=5, attack='liar tx:pull').digest)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    theirs = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert theirs.stdout.strip() == ours


def test_a_bug_is_a_broken_promise_with_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_run.NetworkRun, "vote", lambda self: 1 // 0 if self.bad else {}["no"])
    report = play_network_plan(calm_network_plan(3))
    assert report.failure is not None and "KeyError" in report.failure
    command = replay_command(report, nodes=3, attack="liar tx:pull", network=True)
    assert command == "aitbc sim --seed 0 --network --nodes 3 --attack 'liar tx:pull' --verbose"


STORIES = [
    (11, None, "where everybody has enough peers a newcomer was everybody's youngest, and thrown out by all"),
    (22, None, "after a partition honest nodes exceeded each other's rates with searches"),
]


@pytest.mark.long
@pytest.mark.parametrize(("seed", "attack", "story"), STORIES)
def test_seeds_that_once_hurt(seed: int, attack: str | None, story: str) -> None:
    play_seeds(range(seed, seed + 1), attack=attack)
