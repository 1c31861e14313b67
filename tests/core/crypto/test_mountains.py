"""A block is proved to be an ancestor by few hashes, whatever the height; the model is the recursion of RFC 6962."""

from hashlib import sha256

import pytest

from aitbc.core.crypto.mountains import (
    Node,
    Peaks,
    append_leaf,
    check_leaf_in_history,
    leaf_count,
    peak_places,
    peaks_root,
    proof_places,
)
from aitbc.core.types.amounts import MAX_TOTAL
from support.second_implementation import book

LEAVES = [sha256(b"block %d" % height).digest() for height in range(70)]


def grown(count: int) -> tuple[Peaks, list[Node]]:
    """A range, and every node that was completed on the way."""
    peaks: Peaks = []
    nodes: list[Node] = []
    for leaf in LEAVES[:count]:
        peaks, made = append_leaf(peaks, leaf)
        nodes += made
    return peaks, nodes


@pytest.mark.parametrize("count", range(71))
def test_the_peaks_are_those_of_the_definition(count: int) -> None:
    peaks, nodes = grown(count)
    assert peaks == book.mountains(LEAVES[:count])
    assert peaks_root(peaks) == book.history_root(LEAVES[:count])
    assert leaf_count(peaks) == count
    by_place = {(level, position): node for level, position, node in nodes}
    assert len(by_place) == len(nodes), "a node is completed once and never changes"
    assert [(place[0], by_place[place]) for place in peak_places(count)] == peaks


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 70])
def test_every_leaf_is_proved_by_nodes_that_a_store_has(count: int) -> None:
    peaks, nodes = grown(count)
    by_place = {(level, position): node for level, position, node in nodes}
    root = peaks_root(peaks)
    for index, leaf in enumerate(LEAVES[:count]):
        proof = [by_place[place] for place in proof_places(index, count)]
        assert proof == book.history_proof(LEAVES[:count], index)
        assert len(proof) <= 2 * count.bit_length()
        assert check_leaf_in_history(root, leaf, index, count, proof)


@pytest.mark.parametrize(("index", "count"), [(0, 1), (6, 7), (5, 11), (9, 11), (10, 11), (16, 17)])
def test_a_bent_proof_proves_nothing(index: int, count: int) -> None:
    root, leaf = book.history_root(LEAVES[:count]), LEAVES[index]
    proof = book.history_proof(LEAVES[:count], index)
    assert check_leaf_in_history(root, leaf, index, count, proof)
    for wrong_index in {*range(-1, count + 2), 2**63, -(2**63)} - {index}:
        assert not check_leaf_in_history(root, leaf, wrong_index, count, proof)
    for wrong_count in {*range(-1, 40), MAX_TOTAL, MAX_TOTAL + 1, 2**200} - {count}:
        assert not check_leaf_in_history(root, leaf, index, wrong_count, proof)
    for other in set(LEAVES) - {leaf} | {b"", leaf[1:], leaf + b"\x00"}:
        assert not check_leaf_in_history(root, other, index, count, proof)
    assert not check_leaf_in_history(root, leaf, index, 2**64, [bytes(32)] * 64)
    assert not check_leaf_in_history(root, leaf, index, count, [*proof, bytes(32)])
    for place, node in enumerate(proof):
        assert not check_leaf_in_history(root, leaf, index, count, proof[:place] + proof[place + 1 :])
        for bent in (bytes([node[0] ^ 1]) + node[1:], node[:-1], node + b"\x00"):
            assert not check_leaf_in_history(
                root, leaf, index, count, [*proof[:place], bent, *proof[place + 1 :]]
            )


def test_bytes_moved_from_one_node_to_its_neighbour_are_noticed() -> None:
    """The peaks are joined before they are hashed, so where one ends must be fixed."""
    leaves = LEAVES[:7]
    proof = book.history_proof(leaves, 0)
    assert len(proof) == 4, "two siblings, two other peaks"
    moved = [*proof[:2], proof[2] + proof[3][:1], proof[3][1:]]
    assert not check_leaf_in_history(book.history_root(leaves), leaves[0], 0, 7, moved)
