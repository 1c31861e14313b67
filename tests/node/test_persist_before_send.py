"""The real loop over a slow disk: nothing is told before what it rests on is safe, and nothing at all when it fails.

The replica is a script: what it does when it hears something. Log, guard, key and network write one diary.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core.consensus.engine import StatementsSigned, TimerFired
from aitbc.core.consensus.simplex.guard import GuardRefuses
from aitbc.core.replica import Effect, Fetch, Input
from aitbc.core.types.blocks import Block, Candidate, Certificate, CommittedBlock
from aitbc.node.agreement import Scribe
from aitbc.node.runtime import NodeRuntime, SystemClock
from support.chain import Chain
from support.witness import (
    CHAIN,
    Diary,
    WatchedGuard,
    WatchedLog,
    WatchedNetwork,
    WatchedSigner,
    log,
    log_block,
    sign,
    slots_of,
    tell,
)

SOON_S = 5.0
QUIET_S = 0.05
"""Longer than a thread needs to do what it must not do."""

Script = dict[str, list[Effect]]


class Watch:
    """A node of which everything is known, and whose log moves when it is told to."""

    def __init__(self, script: Script) -> None:
        self.diary = Diary()
        self.turns = threading.Semaphore(0)
        self.log, self.guard = WatchedLog(self.diary, turns=self.turns), WatchedGuard(self.diary)
        signer = WatchedSigner(self.diary)
        self.scribe = Scribe(log=self.log, guard=self.guard, signer=signer, genesis_hash=CHAIN, now_ms=0)
        self._script = script

    async def begin(self) -> None:
        chain = Chain()
        store = MemoryStore(chain.genesis_hash)
        store.commit(chain.executor.loaded.first)
        self.node = NodeRuntime(chain.executor, store, scribe=self.scribe, clock=SystemClock())
        network: Any = WatchedNetwork(self.diary)
        self.node.network = network
        self.node.replica.step = self._step  # type: ignore[method-assign]

    def _step(self, _now_ms: int, heard: Input) -> list[Effect]:
        if isinstance(heard, TimerFired):
            return self._script[heard.timer]
        assert isinstance(heard, StatementsSigned)
        self.diary.note("signed", slots_of(heard))
        return [tell(f"vote {slot}") for slot in slots_of(heard)]

    def hear(self, *names: str) -> None:
        for name in names:
            self.node.feed(TimerFired(name))

    async def until(self, last: str) -> list[str]:
        """What is new in the diary, up to an entry that must come; nothing else may follow it by itself."""
        async with asyncio.timeout(SOON_S):
            while last not in self.diary and not self.node.stopped.is_set():
                await asyncio.sleep(0.001)
        return await self.news()

    async def news(self) -> list[str]:
        await asyncio.sleep(QUIET_S)
        entries = list(self.diary)
        self.diary.clear()
        return entries


def play(script: Script, story: Callable[[Watch], Coroutine[Any, Any, None]]) -> Watch:
    async def run() -> Watch:
        watch = Watch(script)
        await watch.begin()
        try:
            await story(watch)
        finally:
            asyncio.get_running_loop().call_later(QUIET_S, watch.turns.release, 100)
            await watch.node.stop()
        return watch

    return asyncio.run(run())


def ask(what: str) -> Fetch:
    """Tells nobody anything about this validator."""
    return Fetch(what.encode(), 0)


def test_what_was_decided_before_a_range_was_written_is_signed_before_the_guard_forgets() -> None:
    """Once the guard refused, and with it stopped, a vote that waited for the log while fetched blocks made its slot
    final (`aitbc sim --whole`, the deserter's seed 52)."""
    script: Script = {"one": [log(1), sign(1)], "two": [log(2), sign(2)]}

    async def story(watch: Watch) -> None:
        watch.hear("one")
        await watch.news()
        watch.hear("two")
        watch.node.network = None
        header = Chain().executor.head.block.header
        certificate = Certificate("final", Candidate(0, 2, 1, bytes(32), bytes(32)), 1, [])
        watch.node._moved_to(CommittedBlock(Block(header, []), bytes(32), [], certificate))
        watch.turns.release(2)
        assert "signed 2" in await watch.until("signed 2")
        assert watch.node.failure is None
        async with asyncio.timeout(SOON_S):
            while watch.scribe.floor != (0, 2):
                await asyncio.sleep(0.001)

    play(script, story)


def test_everything_waits_for_what_it_rests_on() -> None:
    script: Script = {
        "one": [log(1), sign(1), tell("after 1"), ask("with 1")],
        "two": [ask("with 2"), log(2), tell("after 2"), sign(2)],
        "three": [tell("before 3"), log_block(3), log(4), sign(3, 4), tell("after 4"), ask("with 4")],
        "four": [sign(5), tell("after 5"), log_block(6)],
        "five": [tell("before 7"), log(7), sign(7), tell("after 7")],
    }

    async def story(watch: Watch) -> None:
        watch.hear("one")
        assert await watch.news() == [], "the disk is slow: nothing has happened"
        watch.hear("two", "three", "four")
        assert await watch.news() == ["fetch with 2", "fetch with 4"], "who asks for blocks need not wait"

        watch.turns.release()
        assert await watch.until("signed 1") == [
            *["log 1", "guard 1", "sign 1"],
            *["tell after 1", "fetch with 1"],
            "signed 1",
        ], "the next write is under way, so the vote waits for it"
        watch.hear("five")
        assert await watch.news() == []

        watch.turns.release()
        assert await watch.news() == ["log 2 3 4"], "of two blocks the second has a frame of its own"
        watch.turns.release()
        assert await watch.until("signed 5") == [
            "log 6",
            *["guard 2 3 4 5", "sign 2", "sign 3", "sign 4", "sign 5"],
            *[
                "tell after 2",
                "tell before 3",
                "tell after 4",
                "tell after 5",
                "tell vote 1",
                "tell before 7",
            ],
            *["signed 2", "signed 3 4", "signed 5"],
        ]
        watch.turns.release()
        assert await watch.until("tell vote 7") == [
            *["log 7", "guard 7", "sign 7"],
            *["tell after 7", "tell vote 2", "tell vote 3", "tell vote 4", "tell vote 5"],
            *["signed 7", "tell vote 7"],
        ]

    play(script, story)


def test_what_is_only_signed_waits_for_the_guard() -> None:
    async def story(watch: Watch) -> None:
        watch.hear("one")
        assert await watch.until("tell vote 2") == [
            *["guard 1 2", "sign 1", "sign 2", "tell after"],
            *["signed 1", "tell vote 1", "signed 2", "tell vote 2"],
        ]

    play({"one": [sign(1), sign(2), tell("after")]}, story)


BOTH: Script = {
    "one": [tell("before"), log(1), sign(1), tell("after 1")],
    "two": [log(2), tell("after 2"), sign(2)],
    "three": [tell("much later")],
}


FAILURES: list[tuple[str, Exception, list[str]]] = [
    ("log", OSError(28, "No space left on device"), []),
    ("guard", OSError(5, "Input/output error"), ["log 1"]),
    ("guard", GuardRefuses("this key has signed something else"), ["log 1"]),
]


@pytest.mark.parametrize(("part", "error", "done"), FAILURES)
def test_when_the_disk_or_the_guard_fails_the_node_stops_and_tells_nothing(
    part: str, error: Exception, done: list[str]
) -> None:
    async def story(watch: Watch) -> None:
        getattr(watch, part).error = error
        watch.hear("one", "two")
        assert await watch.news() == ["tell before"]
        watch.turns.release(10)
        await asyncio.wait_for(watch.node.stopped.wait(), SOON_S)
        watch.hear("three")
        assert await watch.news() == done
        assert watch.node.failure is error

    play(BOTH, story)


def test_when_something_else_fails_during_a_write_nothing_is_told_after_it() -> None:
    """A ledger that counts wrong, say: what was decided before is not said any more."""
    bug = AssertionError("coins are conserved")

    async def fail() -> None:
        raise bug

    async def story(watch: Watch) -> None:
        watch.hear("one", "two")
        watch.node._spawn(fail())
        await asyncio.wait_for(watch.node.stopped.wait(), SOON_S)
        watch.turns.release(10)
        assert await watch.news() == ["tell before", "log 1", "guard 1", "sign 1"]
        assert watch.node.failure is bug

    play(BOTH, story)


def test_who_is_stopped_during_a_write_finishes_that_one_only() -> None:
    async def story(watch: Watch) -> None:
        watch.hear("one", "two")

    watch = play(BOTH, story)
    assert watch.diary == ["tell before", "log 1", "guard 1", "sign 1"]
    assert watch.node.failure is None
