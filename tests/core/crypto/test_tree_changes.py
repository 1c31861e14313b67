"""Keys come and go, blocks are taken back, and at every moment the tree is the one that its slots alone define.

The model is the implementation that writes the test vectors: a dict of slots, every hash computed anew.
"""

import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from aitbc.core.crypto import indexed_tree
from aitbc.core.crypto.indexed_tree import (
    IndexedTree,
    TreeProof,
    TreeUndo,
    check_leaf,
    proves_absence,
    proves_value,
)
from support.second_implementation import book

Block = dict[str, bytes | None]

KEYS = ["a", "aa", "aaa", "ab", "b", "ba", "é", "\uff5e", "\U00010000", *[f"key {i:02}" for i in range(20)]]


def told_at_random(seed: int) -> list[Block | int]:
    """Blocks that grow, churn or empty the store, large and small; a number takes so many of them back."""
    chance = random.Random(seed)
    story: list[Block | int] = []
    for _ in range(24):
        if chance.random() < 0.2:
            story.append(chance.choice((1, 2, 5)))
        else:
            story.append(random_block(chance))
    return story


def random_block(chance: random.Random) -> Block:
    """Of the keys that it names, nearly all, about half or few are removed."""
    stay = chance.choice((0.1, 0.5, 0.5, 0.9))
    return {
        key: chance.randbytes(chance.choice((0, 3))) if chance.random() < stay else None
        for key in chance.sample(KEYS, chance.choice((0, 1, 2, 3, 8, 20)))
    }


STORIES = [told_at_random(seed) for seed in range(60)]
ALL_STORIES = pytest.mark.parametrize("story", STORIES, ids=range(60))


@pytest.fixture(autouse=True, scope="module")
def _few_in_a_run() -> Iterator[None]:
    """Runs and chunks so short that a few keys fill many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexed_tree._Order, "RUN", 2)
        patch.setattr(indexed_tree, "CHUNK", 3)
        yield


class Told:
    """A tree, the model of every state that it has been in, and the way back."""

    def __init__(self) -> None:
        self.tree = IndexedTree("accounts")
        self.models = [book.IndexedTree("accounts")]
        self.undos: list[TreeUndo] = []

    def tell(self, step: Block | int) -> None:
        if isinstance(step, int):
            for _ in range(min(step, len(self.undos))):
                self.tree.undo(self.undos.pop())
                self.models.pop()
            return
        model = deepcopy(self.models[-1])
        model.update({key.encode(): value for key, value in step.items()})
        self.models.append(model)
        self.undos.append(self.tree.update(step, Asked(step, values_of(model))))


class Asked:
    """Values of a state; a value that the caller of `update` has just handed over is not asked for."""

    def __init__(self, handed_over: Block, values: dict[str, bytes]) -> None:
        self._handed_over = handed_over
        self._values = values

    def __call__(self, key: str) -> bytes:
        assert key not in self._handed_over
        return self._values[key]


def rows_of(model: Any) -> list[tuple[int, str, bytes]]:
    return [(slot, key.decode(), value) for slot, (key, value) in model.slots.items() if slot]


def values_of(model: Any) -> dict[str, bytes]:
    return {key: value for _, key, value in rows_of(model)}


def loaded(model: Any, *, order: random.Random) -> IndexedTree:
    tree, rows = IndexedTree("accounts"), rows_of(model)
    order.shuffle(rows)
    tree.load(rows)
    return tree


def proof_of(plain: Any) -> TreeProof:
    groups = [tuple(map(bytes.fromhex, group)) for group in plain["groups"]]
    key, value, next_key = (bytes.fromhex(plain[name]) for name in ("key", "value", "next_key"))
    return TreeProof(plain["index"], plain["count"], key, value, next_key, groups)


def assert_is(tree: IndexedTree, model: Any) -> None:
    assert tree.root() == model.root()
    assert {key: tree.index_of(key) for key in KEYS} == {
        key: model.places().get(key.encode()) for key in KEYS
    }
    assert tree.keys() == sorted(values_of(model), key=str.encode)
    assert len(tree) == len(model.slots) - 1


@ALL_STORIES
def test_after_every_step_the_tree_is_what_its_slots_say(story: list[Block | int]) -> None:
    told = Told()
    for step in story:
        told.tell(step)
        assert_is(told.tree, told.models[-1])
    told.tell(len(story))
    assert_is(told.tree, book.IndexedTree("accounts"))


@ALL_STORIES
def test_a_loaded_tree_goes_on_like_the_one_that_has_lived(story: list[Block | int]) -> None:
    told, chance = Told(), random.Random(1)
    for step in story:
        told.tell(step)
        before = told.models[-1]
        tree = loaded(before, order=chance)
        assert_is(tree, before)
        block = random_block(chance)
        told.tell(block)
        undo = tree.update(block, values_of(told.models[-1]).__getitem__)
        assert_is(tree, told.models[-1])
        told.tell(1)
        tree.undo(undo)
        assert_is(tree, before)


@ALL_STORIES
def test_every_past_state_is_proved_key_by_key(story: list[Block | int]) -> None:
    told = Told()
    for step in story:
        told.tell(step)
    for back, model in enumerate(reversed(told.models)):
        since, values, root = told.undos[len(told.undos) - back :], values_of(model), model.root()
        assert told.tree.root_before(since) == root
        for key in KEYS:
            proof = told.tree.prove(key, values.__getitem__, since)
            assert proof == proof_of(model.prove(key.encode()))
            if key in values:
                assert proves_value(root, "accounts", key.encode(), values[key], proof)
            else:
                assert proves_absence(root, "accounts", key.encode(), proof)


def test_what_is_missing_is_proved_without_a_look_at_each_key_that_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Given blocks that add and remove a thousand keys below one that is not there, when its absence before them is
    proved, then the order of the keys is asked once and each block twice."""
    told, crowd = Told(), [f"key {number:04}" for number in range(1_000)]
    told.tell({"a": b"1"})
    told.tell(dict.fromkeys(crowd[::2], b""))
    told.tell({**dict.fromkeys(crowd[::2]), **dict.fromkeys(crowd[1::2], b"")})
    told.tell(dict.fromkeys(crowd[1::2]))
    told.tell(dict.fromkeys(crowd, b""))
    asked: list[str] = []

    def counted(kind: type, name: str) -> None:
        ask = getattr(kind, name)

        def asking(self: object, key: str) -> object:
            asked.append(name)
            return ask(self, key)

        monkeypatch.setattr(kind, name, asking)

    counted(indexed_tree._Order, "before")
    counted(indexed_tree._Past, "slot_of")
    for back, model in enumerate(reversed(told.models[1:])):
        since, values = told.undos[len(told.undos) - back :], values_of(model)
        proof = told.tree.prove("z", values.__getitem__, since)
        assert proof == proof_of(model.prove(b"z"))
        assert asked == ["slot_of", "before", "slot_of"]
        asked.clear()


def test_the_stories_are_worth_telling() -> None:
    """Slots stay free in the middle, are taken again, are given up; levels come and go."""
    free = again = given_up = levels = 0
    for story in STORIES:
        told = Told()
        for step in story:
            before = told.models[-1]
            told.tell(step)
            after = told.models[-1]
            new = set(after.slots) - set(before.slots)
            free += after.count() > len(after.slots)
            again += any(slot < before.count() for slot in new)
            given_up += after.count() < before.count()
            levels += len(after.levels()) < len(before.levels())
    assert min(free, again, given_up, levels) > 100, (free, again, given_up, levels)


@pytest.mark.parametrize("prefix", ["", "a", "aa", "b", "key 0", "key 2", "c", "\U00010000"])
def test_keys_are_listed_by_prefix_in_order(prefix: str) -> None:
    told = Told()
    told.tell(dict.fromkeys(KEYS, b""))
    told.tell({"key 03": None, "ab": None})
    there = values_of(told.models[-1])
    assert told.tree.keys(prefix) == sorted([key for key in there if key.startswith(prefix)])


REORGANISATIONS = 1_000
DEEPEST = 64


def test_a_thousand_reorganisations_end_where_a_straight_run_ends() -> None:
    """Given a chain, when branches of up to 64 blocks replace each other, then only the last one counts."""
    chance = random.Random(20_261)
    told, chain = Told(), list[Block]()
    roots = [told.tree.root()]
    values: list[dict[str, bytes]] = [{}]
    deepest = 0
    for _ in range(REORGANISATIONS):
        depth = min(len(told.undos), chance.choice((1, 2, 5, chance.randint(1, DEEPEST))))
        deepest = max(depth, deepest)
        for _ in range(depth):
            told.tree.undo(told.undos.pop())
        del chain[len(chain) - depth :], roots[len(roots) - depth :], values[len(values) - depth :]
        assert told.tree.root() == roots[-1]
        for _ in range(depth + chance.randint(0, 2)):
            block = random_block(chance)
            after = {key: value for key, value in {**values[-1], **block}.items() if value is not None}
            told.undos.append(told.tree.update(block, after.__getitem__))
            chain.append(block)
            roots.append(told.tree.root())
            values.append(after)
        del told.undos[:-DEEPEST]
    straight, model = IndexedTree("accounts"), book.IndexedTree("accounts")
    for block, after, root in zip(chain, values[1:], roots[1:], strict=True):
        straight.update(block, after.__getitem__)
        model.update({key.encode(): value for key, value in block.items()})
        assert straight.root() == root
    assert deepest == DEEPEST
    assert_is(told.tree, model)


def test_a_store_of_many_keys_grows_and_shrinks_over_six_levels() -> None:
    """With runs and chunks of their real length, and with values too long for a ready-made prefix."""
    chance = random.Random(7)
    names = [f"key {number}" for number in range(1_400)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexed_tree._Order, "RUN", 256)
        patch.setattr(indexed_tree, "CHUNK", 4_096)
        told = Told()
        for block in (
            {name: name.encode() for name in names[:1_100]},
            dict.fromkeys(chance.sample(names, 700)),
            {name: chance.randbytes(chance.choice((0, 255, 256, 1_023, 1_024))) for name in names[900:]}
            | dict.fromkeys(names[:50]),
            {name: None for name in names if name != "key 7"} | {"key 7": b"alone"},
        ):
            told.tell(block)
            assert told.tree.root() == told.models[-1].root()
            assert max(len(run) for run in told.tree._order._runs) < 512
            if len(told.models) == 4:
                assert loaded(told.models[-1], order=chance).root() == told.tree.root()
        while told.undos:
            told.tell(1)
            assert told.tree.root() == told.models[-1].root()


@pytest.mark.parametrize(
    "rows",
    [
        [(0, "a", b"")],
        [(-1, "a", b"")],
        [(1, "", b"")],
        [(1, "a", b""), (1, "b", b"")],
        [(1, "a", b""), (2, "a", b"")],
        [(2**32, "a", b"")],
        [(2**80, "a", b"")],
    ],
)
def test_rows_that_no_tree_can_have_are_not_loaded(rows: list[tuple[int, str, bytes]]) -> None:
    tree = IndexedTree("accounts")
    with pytest.raises(ValueError, match="store accounts has"):
        tree.load(rows)
    assert tree.root() == IndexedTree("accounts").root()


def test_an_undo_costs_36_bytes_for_each_hash_that_changed() -> None:
    told = Told()
    told.tell({f"key {number}": b"" for number in range(1_000)})
    undo = told.tree.update({f"key {number}": b"x" for number in range(1_000)}, {}.__getitem__)
    assert (undo.added, undo.removed, undo.links) == ({}, {}, {})
    sizes = [(len(positions), len(positions.tobytes()), len(nodes)) for positions, nodes in undo.nodes]
    assert sizes == [(n, 4 * n, 32 * n) for n in (1_000, 251, 63, 16, 4, 1)]


def test_proofs_of_other_states_do_not_pass() -> None:
    """Given a key that moved to another slot, when its old proof is shown, then the new root refuses it."""
    told = Told()
    told.tell({"a": b"1", "b": b"2"})
    old = told.tree.prove("b", values_of(told.models[-1]).__getitem__)
    told.tell({"a": None, "b": None})
    told.tell({"b": b"2"})
    new = told.tree.prove("b", values_of(told.models[-1]).__getitem__)
    assert (old.index, new.index) == (2, 1)
    assert check_leaf(told.tree.root(), "accounts", new)
    assert not check_leaf(told.tree.root(), "accounts", old)


def test_what_only_we_can_get_wrong_stops() -> None:
    told = Told()
    told.tell({"a": b""})
    with pytest.raises(AssertionError, match="the sentinel belongs to the tree"):
        told.tree.update({"": None}, {}.__getitem__)
    with pytest.raises(AssertionError, match="only an empty tree is loaded"):
        told.tree.load([(1, "a", b"")])
    told.tell({"b": b""})
    with pytest.raises(AssertionError, match="the latest update is taken back first"):
        told.tree.undo(told.undos[0])
