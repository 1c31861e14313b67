"""The tree of headers: beside a slow model on random trees, then its stories and its limits."""

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.codec.digests import header_hash
from aitbc.core.consensus.nakamoto import tree as tree_module
from aitbc.core.consensus.nakamoto.headers import HeaderRules, genesis_link
from aitbc.core.consensus.nakamoto.orphans import (
    MAX_ORPHAN_BYTES,
    MAX_ORPHANS,
    MAX_ORPHANS_PER_PEER,
    Orphans,
)
from aitbc.core.consensus.nakamoto.tree import TooLight, Tree
from aitbc.core.consensus.nakamoto.work import target_of
from aitbc.core.types.blocks import Header
from aitbc.core.types.nakamoto import NakamotoSettings
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.sim.nakamoto.blocks import CHAIN_ID, genesis_header, miner_named, sealed, template, verify

GENESIS = genesis_header(0)
POW = NakamotoSettings(
    difficulty=4,
    difficulty_rule="adjusting",
    block_time_ms=1_000,
    half_life_ms=10_000,
    finality_depth=5,
)
"""Blocks of one height differ in weight, by the times between them."""
MINER = miner_named("alice")
POA = NakamotoSettings(miners=["alice"], difficulty=2, finality_depth=5)


def tree_of(settings_: NakamotoSettings = POW) -> Tree:
    miners = [MINER] if settings_.miners else []
    rules = HeaderRules(settings_, chain_id=CHAIN_ID, miners=miners, verify=verify)
    return Tree(genesis_link(GENESIS, settings_), rules)


def child_of(tree: Tree, parent: Header, body: bytes, *, after_ms: int = 1_000) -> Header:
    """A valid header on one that is in the tree."""
    target = tree.link(header_hash(parent)).child_target
    header = template(parent, body, timestamp_ms=parent.timestamp_ms + after_ms, author=MINER.address)
    return sealed(header, target, auth_key=MINER.auth_key if tree.tie == "lowest hash" else None)


def chain_on(
    tree: Tree, parent: Header, count: int, name: bytes = b"x", after_ms: int = 1_000
) -> list[Header]:
    headers = []
    for number in range(count):
        parent = child_of(tree, parent, name + b"%d" % number, after_ms=after_ms)
        tree.add(parent, "")
        headers.append(parent)
    return headers


# The model: everything from scratch, by its definition


@dataclass
class Model:
    """All headers that were ever added; what is in, weighs and leads is worked out anew each time."""

    headers: list[tuple[bytes, bytes, int]] = field(default_factory=list)
    """Hash, parent, weight of the branch up to it; in the order in which they came."""
    invalid: list[bytes] = field(default_factory=list)
    root: bytes = header_hash(GENESIS)

    def ancestors(self, hash_: bytes) -> list[bytes]:
        """Down to the genesis block, itself first."""
        line = [hash_]
        parents = {name: parent for name, parent, _ in self.headers}
        while line[-1] in parents:
            line.append(parents[line[-1]])
        return line

    def alive(self) -> list[tuple[bytes, int]]:
        return [
            (name, weight)
            for name, _, weight in self.headers
            if self.root in self.ancestors(name)
            and name != self.root
            and not any(bad in self.ancestors(name) for bad in self.invalid)
        ]

    def best(self, tie: str) -> bytes:
        alive = self.alive()
        if not alive:
            return self.root
        most = max(weight for _, weight in alive)
        heaviest = [name for name, weight in alive if weight == most]
        return heaviest[0] if tie == "first seen" else min(heaviest)

    def path(self, start: bytes, end: bytes) -> tuple[list[bytes], list[bytes]]:
        down, up = self.ancestors(start), self.ancestors(end)
        return [name for name in down if name not in up], [name for name in up if name not in down][::-1]


STEP = st.tuples(st.sampled_from(["add", "add", "add", "add", "bad", "final"]), st.integers(0, 10**6))


@settings(max_examples=120, deadline=None)
@given(st.lists(STEP, max_size=40), st.sampled_from([POW, POA]))
def test_the_tree_chooses_as_the_model_does(steps: list[tuple[str, int]], rules: NakamotoSettings) -> None:
    tree, model = tree_of(rules), Model()
    headers = {header_hash(GENESIS): GENESIS}
    for number, (what, draw) in enumerate(steps):
        alive = [name for name, _ in model.alive()]
        if what == "add":
            parent = headers[[model.root, *alive][draw % (len(alive) + 1)]]
            header = child_of(tree, parent, b"%d" % number, after_ms=1 + draw % 3_000)
            entry = tree.add(header, "")
            headers[entry.link.hash] = header
            model.headers.append((entry.link.hash, header.parent, entry.link.weight))
        elif what == "bad" and alive:
            model.invalid.append(alive[draw % len(alive)])
            gone = tree.mark_invalid(model.invalid[-1])
            assert sorted(gone) == sorted(set(alive) - {name for name, _ in model.alive()})
        elif what == "final" and alive:
            chosen = alive[draw % len(alive)]
            line = model.ancestors(chosen)
            before = {name for name, _ in model.alive()}
            model.root = chosen
            gone = tree.make_final(chosen)
            assert sorted(gone) == sorted(before - {name for name, _ in model.alive()} - set(line))
        alive = [name for name, _ in model.alive()]
        assert tree.best.hash == model.best(tree.tie)
        assert len(tree) == len(alive)
        assert all(name in tree for name in alive)
        if alive:
            start, end = alive[draw % len(alive)], alive[draw // 7 % len(alive)]
            assert tuple(tree.path(start, end)) == model.path(start, end)


# Stories


def test_of_equals_the_first_seen_stays_under_pow() -> None:
    tree = tree_of()
    first, second = child_of(tree, GENESIS, b"1"), child_of(tree, GENESIS, b"2")
    tree.head = tree.add(first, "").link
    other = tree.add(second, "").link
    assert tree.best == tree.head
    assert not tree.beats(other, tree.head)


def test_of_equals_the_lowest_hash_leads_under_poa_pow() -> None:
    tree = tree_of(POA)
    links = [tree.add(child_of(tree, GENESIS, b"%d" % number), "").link for number in range(5)]
    assert tree.best.hash == min(link.hash for link in links)
    assert [tree.beats(link, tree.best) for link in links] == [False] * 5
    assert [tree.beats(tree.best, link) for link in links].count(True) == 4


def test_fewer_blocks_with_more_work_lead() -> None:
    tree = tree_of()
    quick = chain_on(tree, GENESIS, 5, b"quick", after_ms=1)
    slow = chain_on(tree, GENESIS, 5, b"slow", after_ms=6_000)
    assert tree.link(header_hash(quick[4])).weight > tree.link(header_hash(slow[4])).weight
    assert tree.best.hash == header_hash(quick[4])


def test_an_invalid_block_is_never_extended() -> None:
    tree = tree_of()
    bad, worse = chain_on(tree, GENESIS, 2, b"bad")
    on_top = child_of(tree, worse, b"on top")
    good = chain_on(tree, GENESIS, 1, b"good")
    assert tree.mark_invalid(header_hash(bad)) == [header_hash(bad), header_hash(worse)]
    assert tree.best.hash == header_hash(good[0])
    for header in (bad, worse, on_top):
        with pytest.raises(Rejected) as rejected:
            tree.add(header, "mallory")
        assert rejected.value.reason == Reason.INVALID_PARENT


def test_a_branch_below_the_final_block_is_refused() -> None:
    tree = tree_of()
    early = child_of(tree, GENESIS, b"early")
    chain = chain_on(tree, GENESIS, 3)
    tree.make_final(header_hash(chain[0]))
    with pytest.raises(Rejected) as rejected:
        tree.add(early, "mallory")
    assert rejected.value.reason == Reason.BELOW_FINAL


def test_a_light_branch_takes_no_room() -> None:
    """Headers first: a branch shows at least the work of our chain from the fork on, or nothing of it is kept."""
    elsewhere, tree = tree_of(), tree_of()
    light = chain_on(elsewhere, GENESIS, 4, b"light")
    heavy = chain_on(elsewhere, GENESIS, 6, b"heavy")
    ours = chain_on(tree, GENESIS, 5, b"ours")
    tree.head = tree.link(header_hash(ours[-1]))
    with pytest.raises(TooLight):
        tree.extend(light, "mallory", least_weight=tree.head.weight)
    assert len(tree) == 5
    new = tree.extend(heavy, "bob", least_weight=tree.head.weight)
    assert [entry.header for entry in new] == heavy
    assert tree.rivals() == [new[-1].link]


def test_a_chain_of_headers_is_taken_whole_or_not_at_all() -> None:
    elsewhere, tree = tree_of(), tree_of()
    chain = chain_on(elsewhere, GENESIS, 4)
    broken = [*chain[:3], msgspec.structs.replace(chain[3], timestamp_ms=0)]
    with pytest.raises(Rejected):
        tree.extend(broken, "mallory", least_weight=0)
    assert len(tree) == 0
    with pytest.raises(Rejected) as rejected:
        tree.extend([chain[0], chain[2]], "mallory", least_weight=0)
    assert rejected.value.reason == Reason.WRONG_HEIGHT
    assert len(tree.extend(chain, "bob", least_weight=0)) == 4
    assert tree.extend(chain, "carol", least_weight=0) == []


def test_an_answer_that_begins_below_the_final_block_still_counts() -> None:
    """The block became final between the question and the answer."""
    elsewhere, tree = tree_of(), tree_of()
    chain = chain_on(elsewhere, GENESIS, 6)
    tree.extend(chain[:4], "bob", least_weight=0)
    tree.make_final(header_hash(chain[2]))
    new = tree.extend(chain, "bob", least_weight=0)
    assert [entry.header for entry in new] == chain[4:]
    assert tree.extend(chain[:2], "bob", least_weight=0) == []


def test_a_locator_leads_down_to_the_final_block_in_doubling_steps() -> None:
    tree = tree_of()
    chain = [GENESIS, *chain_on(tree, GENESIS, 12)]
    heights = {header_hash(header): header.height for header in chain}
    assert [heights[hash_] for hash_ in tree.locator(header_hash(chain[-1]))] == [12, 11, 9, 5, 0]


# Limits


def test_the_weakest_branches_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "MAX_SIDE", 3)
    monkeypatch.setattr(tree_module, "MAX_AHEAD", 0)
    tree = tree_of()
    ours = chain_on(tree, GENESIS, 5, b"ours")
    tree.head = tree.link(header_hash(ours[-1]))
    weak = chain_on(tree, GENESIS, 2, b"weak")
    strong = chain_on(tree, ours[2], 1, b"strong")
    assert tree.trim() == []
    chain_on(tree, ours[3], 2, b"rival")
    assert tree.trim() == [header_hash(weak[1]), header_hash(weak[0])]
    assert header_hash(strong[0]) in tree
    assert len(tree) == 8


def test_a_crowd_of_tips_pushes_out_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "MAX_TIPS", 4)
    tree = tree_of()
    (ours,) = chain_on(tree, GENESIS, 1, b"ours")
    tree.head = tree.link(header_hash(ours))
    shown = []
    for number in range(8):
        shown.append(tree.add(child_of(tree, ours, b"%d" % number), "mallory"))
        tree.trim()
    late = tree.add(child_of(tree, ours, b"late"), "bob")
    assert tree.trim() == [shown[3].link.hash]
    assert late.link in tree.rivals()
    assert len(tree.rivals()) == 4


def test_what_is_remembered_as_invalid_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "MAX_INVALID", 2)
    tree = tree_of()
    bad = [child_of(tree, GENESIS, b"%d" % number) for number in range(3)]
    for header in bad:
        tree.add(header, "mallory")
        tree.mark_invalid(header_hash(header))
    assert [tree.is_invalid(header_hash(header)) for header in bad] == [False, True, True]


def orphan(number: int, *, extra: bytes = b"") -> Header:
    header = template(GENESIS, b"", timestamp_ms=1_000, author="mallory")
    header = msgspec.structs.replace(header, parent=number.to_bytes(32, "big"), height=9, extra=extra)
    return sealed(header, target_of(1))


def test_orphans_of_one_peer_push_out_its_own() -> None:
    orphans = Orphans()
    kept = orphan(10**6)
    orphans.add(header_hash(kept), kept, "bob")
    for number in range(3 * MAX_ORPHANS_PER_PEER):
        header = orphan(number)
        orphans.add(header_hash(header), header, "mallory")
    assert len(orphans) == 1 + MAX_ORPHANS_PER_PEER
    assert [found.peer for found in orphans.take_children(kept.parent)] == ["bob"]
    orphans.forget_peer("mallory")
    assert (len(orphans), orphans.size) == (0, 0)


def test_orphans_of_many_peers_stay_within_count_and_bytes() -> None:
    orphans = Orphans()
    for number in range(2 * MAX_ORPHANS):
        header = orphan(number)
        orphans.add(header_hash(header), header, f"peer {number}")
        assert len(orphans) <= MAX_ORPHANS
    assert len(orphans) == MAX_ORPHANS
    for number in range(2 * MAX_ORPHANS):
        header = orphan(number, extra=bytes(256))
        orphans.add(header_hash(header), header, f"peer {number}")
        assert orphans.size <= MAX_ORPHAN_BYTES
    orphans.forget_below(9)
    assert (len(orphans), orphans.size) == (0, 0)
