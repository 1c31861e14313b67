"""A block says what executing it does, or it is refused with the field that lies."""

from typing import Any

import msgspec
import pytest

from aitbc.core.chain import builder
from aitbc.core.chain.builder import BuiltBlock, apply_block
from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.wire import pack
from aitbc.core.crypto.merkle import list_root
from aitbc.core.executor import Executor
from aitbc.core.types.blocks import Block
from aitbc.core.types.reasons import Reason, Rejected
from support.chain import START_MS, Chain
from support.people import ALICE, BOB, EVE, VALIDATOR

PARENT_MS = START_MS + 1_000


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
    return apply_block(node.tip, node.state, block)


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
    ({"timestamp_ms": PARENT_MS}, Reason.BAD_TIMESTAMP),
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


@pytest.mark.parametrize("bound", ["MAX_BLOCK_TXS", "MAX_BLOCK_BYTES"])
def test_a_block_may_be_as_large_as_the_protocol_allows_and_no_larger(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    chain, built = built_block()
    size = len(built.block.txs) if bound == "MAX_BLOCK_TXS" else len(pack(built.block))
    monkeypatch.setattr(builder, bound, size)
    assert apply(chain, built.block).hash == built.hash
    monkeypatch.setattr(builder, bound, size - 1)
    with pytest.raises(Rejected) as caught:
        apply(chain, built.block)
    assert caught.value.reason == Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"nonce": 7}, Reason.BAD_NONCE),
        ({"fee": 1}, Reason.FEE_TOO_LOW),
        ({"fee": 2_000_000_000}, Reason.FEE_NOT_COVERED),
    ],
)
def test_one_invalid_transaction_makes_the_block_invalid(change: dict[str, Any], reason: Reason) -> None:
    """Eve's block is right in every root, with Bob's signed but impossible transaction carried along."""
    chain, built = built_block()
    invalid = chain.verified(BOB, "TRANSFER", {"to": EVE.address, "amount": 9}, **{"nonce": 2, **change})
    txs_root = list_root([*(tx.wid for tx in built.included), invalid.wid])
    header = msgspec.structs.replace(built.block.header, txs_root=txs_root)
    with pytest.raises(Rejected) as caught:
        apply(chain, Block(header, [*built.block.txs, invalid.tx]))
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
