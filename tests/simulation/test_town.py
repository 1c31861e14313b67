"""Twenty whole nodes, four of which vote: the real loop of each, from mempool to ledger, on a network that is cut and
heals, with nodes that die, come back, and lose their disks. Everything is virtual time: `tests/support/town.py`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from aitbc.core.peer.kinds import Kind
from aitbc.core.sync.ranges import MIN_BEHIND, SyncState
from support.town import EPOCH, Town, TownNode
from support.virtual_loop import run_virtually

HEAL_S = 30
"""After all is well everybody has so long: two heartbeats, after which a dead connection is noticed."""
SOON_S = 6
"""A payment at any node: a slot or two of the longest way, and a leader that was cut off."""

Story = Callable[[Town], Coroutine[Any, Any, None]]


def play(folder: Path, story: Story, *, nodes: int = 20, validators: int = 4, seed: int = 0) -> Town:
    """Up to one head of all in the end, and one chain all along."""

    async def whole() -> Town:
        town = Town(folder, nodes=nodes, validators=validators, seed=seed)
        await town.start()
        await town.until("everybody has met", lambda: town.agree(town.nodes, 0), HEAL_S)
        await story(town)
        height = max(node.height for node in town.nodes)
        tx_id = await town.pay(town.nodes[-1])
        await town.until("the last payment is final", lambda: town.has_all([tx_id], town.nodes), HEAL_S)
        await town.until("one head", lambda: town.agree(town.nodes, height), HEAL_S)
        town.check_one_chain()
        assert not any(node.runtime.replica.mempool.waiting() for node in town.nodes)
        await town.stop()
        return town

    return run_virtually(whole)


def voters(town: Town) -> list[TownNode]:
    return [node for node in town.nodes if node.key is not None]


def strangers_have_met(town: Town) -> bool:
    """Half of `max_peers` for everybody, if not more."""
    return all(node.network.peers >= town.max_peers // 2 for node in town.nodes)


async def paid_at_every_node(town: Town) -> None:
    await town.until("enough peers", lambda: strangers_have_met(town), 60)
    payments = [await town.pay(node) for node in town.nodes]
    await town.until("payments at all nodes", lambda: town.has_all(payments, town.nodes), SOON_S)


async def cut_and_healed(town: Town) -> None:
    """One validator and five relays are cut off: three go on, the others stand still and lose nothing."""
    alone = voters(town)[1]
    relays = [node for node in town.nodes[2:] if node.key is None]
    few = [alone, *relays[: len(town.nodes) // 4]]
    many = [node for node in town.nodes if node not in few]
    town.cut(few)
    stands = max(node.height for node in few)
    payments = [await town.pay(many[3])]
    await town.until("three of four go on", lambda: town.has_all(payments, many), HEAL_S)
    await asyncio.sleep(20)
    assert max(node.height for node in few) <= stands + 1 < min(node.height for node in many)
    payments.append(await town.pay(few[-1]))
    town.cut(())
    await town.until("both sides have all", lambda: town.has_all(payments, town.nodes), HEAL_S)


async def halves_without_a_quorum(town: Town) -> None:
    """Two validators on each side: nobody decides anything, and everybody goes on when all is well."""
    half = town.nodes[: len(town.nodes) // 2]
    town.cut(half)
    await asyncio.sleep(5)
    heads = {node.name: node.head for node in town.nodes}
    payments = [await town.pay(half[2])]
    await asyncio.sleep(25)
    assert heads == {node.name: node.head for node in town.nodes}
    town.cut(())
    await town.until("they go on together", lambda: town.has_all(payments, town.nodes), HEAL_S)


async def comings_and_goings(town: Town) -> None:
    """A validator and every third relay die one after the other; one comes back with nothing on its disk."""
    gone = [*[node for node in town.nodes[2:] if node.key is None][::3], voters(town)[2]]
    payments: list[bytes] = []
    for node in gone:
        if node.is_up:
            await node.kill()
        payments.append(await town.pay(town.nodes[0]))
        await asyncio.sleep(2)
    there = [node for node in town.nodes if node.is_up]
    await town.until("those who stayed go on", lambda: town.has_all(payments, there), HEAL_S)
    gone[0].wipe()
    for node in gone:
        if not node.is_up:
            await node.start()
            await asyncio.sleep(0.5)
    await town.until("those who came back have all", lambda: town.has_all(payments, town.nodes), HEAL_S)


async def a_late_one_gets_the_chain_in_ranges(town: Town) -> None:
    """Epochs behind: certificates of epochs' ends, headers, and blocks of several peers at once."""
    late = town.nodes[-1]
    await late.kill()
    payments: list[bytes] = []
    while town.nodes[0].height < MIN_BEHIND + EPOCH:
        payments.append(await town.pay(town.nodes[len(payments) % 5]))
        await asyncio.sleep(0.6)
    late.wipe()
    await late.start()
    asked: set[str] = set()
    ask_of = late.network.ask_of

    def note(key: bytes, kind: Kind, *rest: Any) -> None:
        asked.add(kind.name)
        ask_of(key, kind, *rest)

    late.network.ask_of = note  # type: ignore[method-assign]
    await town.until("it has all", lambda: town.has_all(payments, [late]), HEAL_S)
    assert asked == {"sync:ends", "sync:headers", "sync:blocks"}
    assert late.network.catching_up.view().state is SyncState.LIVE


STORIES: list[Story] = [paid_at_every_node, cut_and_healed, halves_without_a_quorum, comings_and_goings]


async def all_of_it(town: Town) -> None:
    for story in STORIES:
        await story(town)
        await town.until("one head", lambda: town.agree(town.nodes, 0), HEAL_S)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 7))])
def test_twenty_whole_nodes_through_cuts_deaths_and_lost_disks(seed: int, tmp_path: Path) -> None:
    play(tmp_path, all_of_it, seed=seed)


@pytest.mark.long
@pytest.mark.parametrize("nodes", [8, 20])
def test_who_is_epochs_behind_gets_the_chain_in_ranges(nodes: int, tmp_path: Path) -> None:
    play(tmp_path, a_late_one_gets_the_chain_in_ranges, nodes=nodes)


def test_the_same_seed_is_the_same_run_in_another_process_too(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    ours = play(tmp_path / "ours", cut_and_healed, nodes=6, seed=3)
    script = (
        "from pathlib import Path; import sys; from simulation.test_town import play, cut_and_healed as story;"
        " print(play(Path(sys.argv[1]), story, nodes=6, seed=3).digest.hexdigest())"
    )
    tests = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": tests}
    theirs = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ours.events > 1_000 and theirs.stdout.strip() == ours.digest.hexdigest()
