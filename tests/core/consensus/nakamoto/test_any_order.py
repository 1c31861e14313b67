"""Whatever strangers say in whatever order: the engine neither breaks nor grows, and ends on the best valid branch."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.codec.digests import header_hash
from aitbc.core.consensus.engine import SetTimer, TimerFired
from aitbc.core.consensus.nakamoto.engine import (
    BlockArrived,
    BlockMissed,
    FetchBlocks,
    FetchHeaders,
    HeaderAnnounced,
    HeadersArrived,
    HeadSwitched,
    NakamotoEffect,
    PeerJoined,
    PeerLeft,
    SwitchHead,
    SwitchRefused,
)
from aitbc.core.consensus.nakamoto.headers import HeaderRules, Link, genesis_link
from aitbc.core.consensus.nakamoto.rules import Nakamoto
from aitbc.core.types.blocks import Header
from aitbc.core.types.nakamoto import NakamotoSettings
from aitbc.core.types.reasons import Reason
from aitbc.sim.nakamoto.blocks import CHAIN_ID, genesis_header, sealed, template, verify

GENESIS = genesis_header(0)
SETTINGS = NakamotoSettings(difficulty=2, finality_depth=50)
RULES = HeaderRules(SETTINGS, chain_id=CHAIN_ID, miners=[], verify=verify)
ROOT = genesis_link(GENESIS, SETTINGS)


class Forest:
    """A fixed tree of headers, some of whose blocks the state refuses, and some lies."""

    def __init__(self) -> None:
        self.links: dict[bytes, Link] = {ROOT.hash: ROOT}
        self.headers: dict[bytes, Header] = {ROOT.hash: GENESIS}
        self.bad: list[bytes] = []
        trunk = self.grow(GENESIS, 6, b"trunk")
        self.grow(trunk[1], 3, b"short")
        self.grow(trunk[2], 6, b"longer", bad=4)
        self.grow(trunk[3], 9, b"longest but bad", bad=0)
        self.grow(GENESIS, 5, b"other")
        self.lies = [
            msgspec.structs.replace(trunk[5], timestamp_ms=0),
            msgspec.structs.replace(trunk[4], parent=bytes(32), height=40),
            msgspec.structs.replace(trunk[3], version=-1),
            msgspec.structs.replace(trunk[2], seal=b""),
        ]

    def grow(self, parent: Header, count: int, name: bytes, *, bad: int | None = None) -> list[Header]:
        grown = []
        for number in range(count):
            link = self.links[header_hash(parent)]
            body = name + b"%d" % number
            header = template(parent, body, timestamp_ms=parent.timestamp_ms + 1_000, author="ann")
            parent = sealed(header, link.child_target)
            hash_ = header_hash(parent)
            self.links[hash_], self.headers[hash_] = RULES.check(parent, link), parent
            if number == bad:
                self.bad.append(hash_)
            grown.append(parent)
        return grown

    def line(self, hash_: bytes) -> list[bytes]:
        """From the genesis block's child up to a block."""
        line = []
        while hash_ != ROOT.hash:
            line.append(hash_)
            hash_ = self.headers[hash_].parent
        return line[::-1]

    def most_work(self) -> int:
        return max(
            link.weight
            for hash_, link in self.links.items()
            if not any(bad in self.line(hash_) for bad in self.bad)
        )


FOREST = Forest()
HASHES = list(FOREST.headers)
PEERS = ["ann", "bob", "carol"]
STEP = st.tuples(st.integers(0, 7), st.sampled_from(PEERS), st.integers(0, 10**6), st.integers(1, 6))


class Host:
    """Obeys at once or later, as the draw says."""

    def __init__(self) -> None:
        self.now_ms = 10**9
        self.engine = Nakamoto(rules=RULES, root=ROOT, transactions_wait=lambda: False)
        self.chain: list[bytes] = []
        self.switch: SwitchHead | None = None
        self.asked: list[FetchHeaders | FetchBlocks] = []
        self.timers: dict[str, int] = {}
        self.take(self.engine.start(self.now_ms))

    def on(self, event: Any) -> None:
        self.now_ms += 7
        self.take(self.engine.on(self.now_ms, event))

    def take(self, effects: list[NakamotoEffect]) -> None:
        for effect in effects:
            match effect:
                case SwitchHead():
                    assert self.switch is None, "one switch at a time"
                    self.switch = effect
                case FetchHeaders() | FetchBlocks():
                    self.asked.append(effect)
                case SetTimer():
                    self.timers[effect.timer] = effect.at_ms
                case _:
                    pass

    def answer_switch(self) -> None:
        if self.switch is None:
            return
        switch, self.switch = self.switch, None
        kept = self.chain[: len(self.chain) - len(switch.undo)]
        assert self.chain[len(kept) :][::-1] == switch.undo
        assert FOREST.line(switch.hash) == [*kept, *switch.apply]
        wrong = next((hash_ for hash_ in switch.apply if hash_ in FOREST.bad), None)
        if wrong is not None:
            self.on(SwitchRefused(switch.hash, wrong, Reason.ROOT_MISMATCH))
        else:
            self.chain = FOREST.line(switch.hash)
            self.on(HeadSwitched(switch.hash))

    def fire(self) -> None:
        for timer in sorted(self.timers):
            self.now_ms = max(self.now_ms, self.timers.pop(timer))
            self.on(TimerFired(timer))


def play(host: Host, step: tuple[int, str, int, int]) -> None:
    what, peer, draw, count = step
    hash_ = HASHES[draw % len(HASHES)]
    line = FOREST.line(hash_)
    match what:
        case 0:
            host.on(PeerJoined(peer))
        case 1:
            host.on(PeerLeft(peer))
        case 2:
            host.on(HeaderAnnounced(peer, FOREST.headers[hash_]))
        case 3:
            host.on(HeaderAnnounced(peer, FOREST.lies[draw % len(FOREST.lies)]))
        case 4:
            part = [FOREST.headers[name] for name in line[-count:]]
            host.on(HeadersArrived(peer, bool(draw % 2), part + FOREST.lies[: draw % 3 // 2]))
        case 5:
            host.on(BlockArrived(peer, hash_))
        case 6:
            host.on(BlockMissed(peer, hash_, Reason.ROOT_MISMATCH if draw % 2 else None))
        case _:
            host.answer_switch()
            host.fire()


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=60))
def test_whatever_strangers_say_the_best_valid_branch_wins_in_the_end(
    steps: list[tuple[int, str, int, int]],
) -> None:
    host = Host()
    for step in steps:
        play(host, step)
        assert not any(bad in host.chain for bad in FOREST.bad)
        assert host.engine.held["headers"] < len(HASHES)
    # Then an honest peer comes, and gives whatever it is asked for.
    host.answer_switch()
    host.on(PeerJoined("dave"))
    for hash_ in HASHES:
        host.on(HeaderAnnounced("dave", FOREST.headers[hash_]))
    for _ in range(60):
        asked, host.asked = host.asked, []
        for effect in asked:
            if isinstance(effect, FetchBlocks):
                for hash_ in effect.hashes:
                    host.on(BlockArrived(effect.peer, hash_))
        host.answer_switch()
        host.fire()
    assert host.engine.head.weight == FOREST.most_work()
    assert host.chain == FOREST.line(host.engine.head.hash)
