"""A proof of the state tree proves one leaf in one form; whatever was bent in it proves nothing."""

from typing import Any

import msgspec
import pytest

from aitbc.core.crypto.indexed_tree import IndexedTree, TreeProof, check_leaf, proves_absence, proves_value

COUNTS = (1, 3, 4, 5, 12, 16, 17, 40)


def value_of(key: str) -> bytes:
    return f"value of {key}".encode()


def tree_of(keys: int) -> IndexedTree:
    """Keys that came one by one, in no order; the last slot but one and what is beyond it became free again."""
    tree = IndexedTree("accounts")
    for number in range(keys):
        key = f"key {number * 7 % keys:02}"
        tree.update({key: value_of(key)}, value_of)
    tree.update({"x": b"", "y": b"", "z": value_of("z")}, value_of)
    tree.update({"x": None}, value_of)
    tree.update({"y": None}, value_of)
    return tree


def but(proof: TreeProof, **change: Any) -> TreeProof:
    return msgspec.structs.replace(proof, **change)


@pytest.mark.parametrize("keys", COUNTS)
def test_every_leaf_and_every_absence_is_proved(keys: int) -> None:
    tree = tree_of(keys)
    root = tree.root()
    for number in range(keys):
        key = b"key %02d" % number
        proof = tree.prove(key.decode(), value_of)
        assert proves_value(root, "accounts", key, proof.value, proof)
        assert not proves_value(root, "locks", key, proof.value, proof)
        assert not proves_value(root, "accounts", key, proof.value + b"x", proof)
        assert not proves_value(root, "accounts", key + b"x", proof.value, proof)
        missing = key + b"!"
        absence = tree.prove(missing.decode(), value_of)
        assert proves_absence(root, "accounts", missing, absence)
        assert not proves_absence(root, "accounts", key, absence)
        before = tree.prove(tree.keys()[number - 1] if number else "a", value_of)
        assert before.next_key == key, "it jumps to the key, not over it"
        assert not proves_absence(root, "accounts", key, before)


@pytest.mark.parametrize("keys", COUNTS)
def test_a_bent_proof_proves_nothing(keys: int) -> None:
    tree = tree_of(keys)
    root = tree.root()
    for key in tree.keys("key") + tree.keys("z"):
        proof = tree.prove(key, value_of)
        assert check_leaf(root, "accounts", proof)
        group, slots = proof.groups[0], 4 ** len(proof.groups)
        for bent in (
            but(proof, index=proof.index + 1),
            but(proof, index=-1),
            but(proof, index=proof.index + slots),
            but(proof, index=proof.index - slots),
            but(proof, count=proof.count + 1),
            but(proof, value=proof.value + b"x"),
            but(proof, next_key=b"key 00x"),
            but(proof, groups=proof.groups[:-1]),
            but(proof, groups=[*proof.groups, group]),
            but(proof, groups=[(b"x" * 32, *group[1:]), *proof.groups[1:]]),
        ):
            assert not check_leaf(root, "accounts", bent)


@pytest.mark.parametrize("key", range(16))
@pytest.mark.parametrize("between", [0, 1])
def test_bytes_moved_from_one_node_of_a_group_to_its_neighbour_are_noticed(key: int, between: int) -> None:
    """The hash is over the joined nodes, so where one ends must be fixed; else a leaf has many proofs."""
    tree = tree_of(16)
    root, proof = tree.root(), tree.prove(f"key {key:02}", value_of)
    nodes = list(proof.groups[0])
    nodes[between] += nodes[between + 1][:1]
    nodes[between + 1] = nodes[between + 1][1:]
    moved = but(proof, groups=[(nodes[0], nodes[1], nodes[2]), *proof.groups[1:]])
    assert not check_leaf(root, "accounts", moved)
