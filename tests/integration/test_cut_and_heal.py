"""Four validators and a follower in processes of their own: cut off and healed, stopped and gone on, killed, wiped.

Each listens at an address of its own (127.0.1.x) and is dialled through cables only, so that a cut is a cut.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aitbc.core.ledger.genesis import ConsensusSettings, genesis_document
from support.chain import genesis
from support.devnet import free_port_base
from support.people import person
from support.processes import Cable, ask, end, start_node, wait_for

KEYS = [person(f"validator {place}") for place in range(4)]
FOLLOWER = 4
MINUTE_S = 60
FAR_FROM_A_BAN = 50
"""Points: slow starts of others cost a few, a ban is at a hundred."""


class Five:
    """The nodes, the cables between them, and ways to look."""

    def __init__(self, folder: Path) -> None:
        self.base = free_port_base()
        self.folder = folder
        self.genesis = folder / "genesis.json"
        settings = ConsensusSettings(epoch_length=600, idle_ms=250, block_time_ms=100)
        self.genesis.write_bytes(genesis_document(genesis(authorities=tuple(KEYS), consensus=settings)))
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.cables = {
            (one, other): Cable(
                (f"127.0.1.{other + 1}", self.base + 100 + other),
                owner=lambda one=one: self.processes[one].pid,  # type: ignore[misc]
            )
            for one in range(5)
            for other in range(5)
            if one != other and other != FOLLOWER
        }
        for place in range(5):
            self.start(place, is_new=True)

    def start(self, place: int, *, is_new: bool = False) -> None:
        options = ["--p2p-host", f"127.0.1.{place + 1}", "--p2p-port", str(self.base + 100 + place)]
        for (one, _), cable in self.cables.items():
            if one == place:
                options += ["--peer", cable.where]
        if place != FOLLOWER:
            options += ["--proposer-key", str(self._key(place))]
            options += ["--never-voted"] if is_new else []
        self.processes[place] = start_node(self.data(place), self.genesis, self.base + place, *options)

    def data(self, place: int) -> Path:
        return self.folder / f"node-{place}"

    def _key(self, place: int) -> Path:
        path = self.folder / f"key-{place}"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(KEYS[place]._seed.hex())
        return path

    def kill(self, place: int) -> None:
        end(self.processes.pop(place))

    def stop(self) -> None:
        for process in self.processes.values():
            end(process)
        for cable in self.cables.values():
            cable.close()

    def signal(self, number: int, *places: int) -> None:
        for place in places:
            os.kill(self.processes[place].pid, number)

    def between(self, *side: int) -> list[Cable]:
        return [cable for (one, other), cable in self.cables.items() if (one in side) != (other in side)]

    def height(self, place: int) -> int:
        return int(ask(self.base + place, "/rpc/getHead")["height"])

    def block(self, place: int, height: int) -> str:
        return str(ask(self.base + place, f"/rpc/getBlock/{height}")["hash"])

    def grow(self, *places: int, blocks: int = 3, within_s: float = 30) -> None:
        """Each has so many more blocks than any has now."""
        goal = max(self.height(place) for place in places) + blocks
        wait_for(lambda: all(self.height(place) >= goal for place in places), within_s)

    def agree(self) -> None:
        """All five grow, on one chain, and nobody is about to ban anybody."""
        everybody = range(5)
        self.grow(*everybody)
        height = min(self.height(place) for place in everybody)
        assert len({self.block(place, height) for place in everybody}) == 1
        for place in everybody:
            peers: list[dict[str, Any]] = ask(self.base + place, "/p2p/peers")
            assert len(peers) >= 3
            assert all(peer["points"] < FAR_FROM_A_BAN for peer in peers), peers


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Five]:
    running = Five(tmp_path)
    try:
        wait_for(lambda: all(running.height(place) > 0 for place in range(5)), 150)
        yield running
    finally:
        running.stop()


@pytest.mark.timeout(400)
def test_cut_off_healed_killed_and_wiped(five: Five) -> None:
    """One validator behind a cut: the others go on, and it comes back. Then one is killed, and the follower wiped."""
    five.agree()
    for cable in five.between(3):
        cable.cut()
    five.grow(0, 1, 2, FOLLOWER)
    stuck = five.height(3)
    five.grow(0, 1, 2, blocks=5)
    assert five.height(3) <= stuck + 1, "no quorum on its side"
    for cable in five.between(3):
        cable.mend()
    five.kill(1)
    five.kill(FOLLOWER)
    shutil.rmtree(five.data(FOLLOWER))
    five.grow(0, 2, 3, within_s=60)
    five.start(1)
    five.start(FOLLOWER)
    wait_for(lambda: five.height(1) and five.height(FOLLOWER) >= stuck, 60)
    five.agree()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_halves_and_a_stopped_half(five: Five) -> None:
    """No half of four decides anything; the whole goes on where it was. Longer than any timeout of a connection."""
    five.agree()
    for cable in five.between(0, 1):
        cable.cut()
    time.sleep(2)  # what was under way is over
    heights = [five.height(place) for place in range(4)]
    time.sleep(MINUTE_S)
    assert [five.height(place) for place in range(4)] == heights, "nothing is final without three of four"
    for cable in five.between(0, 1):
        cable.mend()
    five.grow(*range(5), within_s=2 * MINUTE_S)
    five.agree()
    five.signal(signal.SIGSTOP, 2, 3)
    time.sleep(MINUTE_S // 3)
    five.signal(signal.SIGCONT, 2, 3)
    five.grow(*range(5), within_s=2 * MINUTE_S)
    five.agree()
