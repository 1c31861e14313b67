"""A block says what executing it does, or it is refused with the field that lies."""

from typing import Any

import msgspec
import pytest

from aitbc.core.chain.builder import BuiltBlock, apply_block
from aitbc.core.codec.digests import header_hash
from aitbc.core.executor import Executor
from aitbc.core.types.blocks import Block
from aitbc.core.types.reasons import Reason, Rejected
from support.chain import Chain
from support.people import ALICE, BOB, EVE, VALIDATOR


def built_block() -> tuple[Chain, BuiltBlock]:
    chain = Chain()
    chain.block()
    txs = [
        chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5}),
        chain.verified(BOB, "TRANSFER", {"to": EVE.address, "amount": 7}),
    ]
    return chain, chain.executor.build(txs, proposer=VALIDATOR.address, timestamp_ms=chain.now_ms + 1_000)


def follower(chain: Chain) -> Executor:
    """Another node at the same head."""
    other = Chain()
    other.block()
    assert other.executor.head.hash == chain.executor.head.hash
    return other.executor


def apply(chain: Chain, block: Block) -> BuiltBlock:
    node = follower(chain)
    return apply_block(node.tip, node.state, block, validators=node.loaded.validators)


def test_another_node_gets_the_same_block_from_the_same_bytes() -> None:
    chain, built = built_block()
    assert len(built.included) == 2
    theirs = apply(chain, built.block)
    assert (theirs.hash, theirs.changes, theirs.outcomes) == (built.hash, built.changes, built.outcomes)


WRONG_HEADERS: list[tuple[dict[str, Any], Reason]] = [
    ({"version": 2}, Reason.WRONG_VERSION),
    ({"chain_id": "other"}, Reason.WRONG_CHAIN),
    ({"height": 3}, Reason.WRONG_HEIGHT),
    ({"parent": bytes(32)}, Reason.WRONG_PARENT),
    ({"timestamp_ms": 1}, Reason.BAD_TIMESTAMP),
    ({"timestamp_ms": 2**53}, Reason.BAD_TIMESTAMP),
    ({"proposer": EVE.address}, Reason.WRONG_PROPOSER),
    ({"txs_root": bytes(32)}, Reason.ROOT_MISMATCH),
    ({"outcomes_root": bytes(32)}, Reason.ROOT_MISMATCH),
    ({"state_root": bytes(32)}, Reason.ROOT_MISMATCH),
    ({"next_validators_hash": bytes(32)}, Reason.ROOT_MISMATCH),
    ({"history_root": bytes(32)}, Reason.ROOT_MISMATCH),
    ({"extra": bytes(257)}, Reason.TOO_LARGE),
    ({"seal": b"x"}, Reason.MALFORMED),
]


@pytest.mark.parametrize(
    ("change", "reason"),
    WRONG_HEADERS,
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else str(value),
)
def test_a_header_with_one_wrong_field_is_refused(change: dict[str, Any], reason: Reason) -> None:
    chain, built = built_block()
    header = msgspec.structs.replace(built.block.header, **change)
    assert header_hash(header) != built.hash
    with pytest.raises(Rejected) as caught:
        apply(chain, Block(header, built.block.txs))
    assert caught.value.reason == reason


def test_transactions_left_out_doubled_or_swapped_are_noticed() -> None:
    chain, built = built_block()
    first, second = built.block.txs
    for txs, reason in [
        ([first], Reason.ROOT_MISMATCH),
        ([second, first], Reason.ROOT_MISMATCH),
        ([first, first], Reason.DUPLICATE_TRANSACTION),
        ([first, msgspec.structs.replace(second, sig=bytes(64))], Reason.BAD_SIGNATURE),
    ]:
        with pytest.raises(Rejected) as caught:
            apply(chain, Block(built.block.header, txs))
        assert caught.value.reason == reason


def test_every_header_field_changes_the_hash() -> None:
    _, built = built_block()
    header = built.block.header
    for name in header.__struct_fields__:
        value = getattr(header, name)
        other: Any = (
            value + 1 if isinstance(value, int) else value + ("x" if isinstance(value, str) else b"x")
        )
        assert header_hash(msgspec.structs.replace(header, **{name: other})) != built.hash, name
