"""Mallory changes what others have signed and committed to: one field, one byte, one place. Nothing of it passes, and
nothing but a refusal comes out.

The long run flips every byte, the short one a sample of them.
"""

from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from aitbc.core import executor
from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import (
    attestation_digest,
    candidate_id,
    names_of,
    outcome_leaf,
    receipt_core_digest,
    receipt_id_of,
    transaction_id,
    vote_digest,
    wid_of,
)
from aitbc.core.codec.wire import pack, unpack
from aitbc.core.consensus.simplex.certificates import check_certificate
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.indexed_tree import TreeProof, check_leaf, proves_absence, proves_value
from aitbc.core.crypto.merkle import ListProof, check_item, list_root, prove_item, prove_range, range_root
from aitbc.core.crypto.mountains import append_leaf, check_leaf_in_history, peaks_root, proof_places
from aitbc.core.crypto.schemes import (
    assemble_multisig,
    multisig_auth_key,
    secp256k1_auth_key,
    sign_secp256k1,
)
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.execution import execute
from aitbc.core.ledger.fees import required_fee, signature_fee
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions import TYPES
from aitbc.core.types.blocks import Block, Candidate, Certificate, Header, Validator
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.receipts import Attestation, ReceiptCore
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from support.chain import certificate_of
from support.everything import ACTORS, Everything, everything
from support.ledger import Holder, Ledger
from support.people import EVE, HUB, PROVIDER, VALIDATOR, person

KINDS = sorted(TYPES)


@cache
def world() -> Everything:
    """Made once: no test here publishes anything."""
    return everything()


def context() -> BlockContext:
    """Of the block that holds everything."""
    chain = world().chain
    return BlockContext(
        version=2,
        chain_id="ait-test",
        genesis_hash=chain.genesis_hash,
        height=chain.height + 1,
        timestamp_ms=chain.now_ms,
        proposer=VALIDATOR.address,
        parent=chain.executor.head.hash,
        epoch_length=chain.epoch_length,
        params=chain.executor.state.params,
    )


def refusal(act: Callable[[], Any]) -> str:
    """The reason for which something is refused; empty when it is not."""
    try:
        act()
    except Rejected as rejected:
        return rejected.reason
    return ""


def fate(tx: Transaction) -> str:
    """What becomes of a transaction alone on the head: `done`, `failed <reason>` or `invalid <reason>`."""
    try:
        verified = verify_transaction(tx, world().chain.genesis_hash)
        outcome = execute(context(), Overlay(world().chain.executor.state), verified)
    except Rejected as rejected:
        return f"invalid {rejected.reason}"
    return "done" if outcome.ok else f"failed {outcome.reason}"


def test_nothing_is_wrong_with_what_mallory_begins_with() -> None:
    for tx in [*world().txs.values(), world().bad_block]:
        assert fate(tx.tx) == "done"
    theirs = world().chain.second.apply(world().built.block)
    world().chain.second.abandon()
    assert theirs.hash == world().built.hash
    assert [tx.type for tx in world().built.block.txs] == KINDS


# Fields of the envelope.


def with_fields(tx: Transaction, **fields: Any) -> Transaction:
    return msgspec.structs.replace(tx, **fields)


def bitten(data: bytes, at: int = -1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


ENVELOPE: list[tuple[str, Callable[[Transaction], dict[str, Any]], str]] = [
    ("sender", lambda tx: {"sender": EVE.address}, "invalid bad_signature"),
    ("sender", lambda tx: {"sender": tx.sender[:-1]}, "invalid bad_address"),
    ("nonce", lambda tx: {"nonce": tx.nonce + 1}, "invalid bad_signature"),
    ("nonce", lambda tx: {"nonce": 0}, "invalid out_of_range"),
    ("fee", lambda tx: {"fee": tx.fee + 1}, "invalid bad_signature"),
    ("fee", lambda tx: {"fee": -1}, "invalid out_of_range"),
    ("pubkey", lambda tx: {"pubkey": EVE.auth_key}, "invalid bad_signature"),
    ("pubkey", lambda tx: {"pubkey": b""}, "invalid pubkey_required"),
    ("pubkey", lambda tx: {"pubkey": bitten(tx.pubkey)}, "invalid bad_signature"),
    ("sig", lambda tx: {"sig": bitten(tx.sig)}, "invalid bad_signature"),
    ("sig", lambda tx: {"sig": tx.sig + b"\0"}, "invalid bad_signature"),
    ("sig", lambda tx: {"sig": b""}, "invalid bad_signature"),
    ("type", lambda tx: {"type": tx.type.lower()}, "invalid unknown_type"),
    ("payload", lambda tx: {"payload": tx.payload + b" "}, "invalid not_canonical"),
    ("payload", lambda tx: {"payload": b""}, "invalid malformed"),
    ("payload", lambda tx: {"payload": b"{}"}, "invalid missing_field"),
    ("witness", lambda tx: {"witness": tx.witness + b" "}, ""),
    ("witness", lambda tx: {"witness": b"{}"}, ""),
]
"""(field, change, fate; empty: it depends on the type)"""

WITNESSES = {
    "RECEIPT_CLAIM": {b" ": "invalid not_canonical", b"{}": "invalid missing_field"},
    "REGISTER": {b" ": "invalid not_canonical", b"{}": "invalid missing_field"},
    "PARAM_UPDATE": {b" ": "invalid not_canonical", b"{}": "invalid missing_field"},
}
"""Those that take a witness; all others: unexpected_witness, once there is one."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("field", "change", "expected"), ENVELOPE, ids=[f"{n}-{r[0]}" for n, r in enumerate(ENVELOPE)]
)
def test_a_field_of_the_envelope(
    kind: str, field: str, change: Callable[[Transaction], dict[str, Any]], expected: str
) -> None:
    tx = world().txs[kind].tx
    changed = with_fields(tx, **change(tx))
    if field == "witness":
        what = b"{}" if changed.witness == b"{}" else b" "
        expected = WITNESSES.get(kind, {}).get(what, "invalid unexpected_witness")
    if kind == "EVIDENCE" and changed.payload == b"{}":
        expected = "invalid missing_field"
    assert fate(changed) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_transaction_under_another_types_name(kind: str) -> None:
    """STAKE and UNSTAKE have the same payload, TRANSFER and FAUCET nearly; the type is signed all the same."""
    tx = world().txs[kind].tx
    for other in KINDS:
        if other != kind:
            assert fate(with_fields(tx, type=other)).startswith("invalid "), other


def test_who_takes_the_witness_away() -> None:
    fates = {kind: fate(with_fields(world().txs[kind].tx, witness=b"")) for kind in WITNESSES}
    assert fates == {
        "RECEIPT_CLAIM": "invalid attestation_missing",
        "REGISTER": "invalid fee_too_low",
        "PARAM_UPDATE": "invalid not_enough_approvals",
    }


# Fields of payload and witness.


def changes_of(value: Any) -> Iterator[Any]:
    """Other values that look as well as this one."""
    match value:
        case bool():
            yield not value
        case int():
            yield value + 1
            if value > 1:
                yield value - 1
        case str():
            if value.startswith("ait1"):
                yield EVE.address
            elif value:
                last = value[-1]
                yield value[:-1] + ("1" if last != "1" else "2")
            yield value + "0"
        case list():
            yield value[:-1]
            yield [*value, *value[:1]]
            for at, item in enumerate(value):
                for other in changes_of(item):
                    yield [*value[:at], other, *value[at + 1 :]]
        case dict():
            for name, item in value.items():
                yield {other: value[other] for other in value if other != name}
                for other_item in changes_of(item):
                    yield {**value, name: other_item}
            yield {**value, "extra": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_of_the_payload(kind: str) -> None:
    """Whoever did not sign it can change nothing, down to the last field of the last object."""
    tx = world().txs[kind].tx
    count = 0
    for payload in changes_of(msgspec.json.decode(tx.payload)):
        said = fate(with_fields(tx, payload=jcs(payload)))
        assert said.startswith("invalid "), (payload, said)
        count += 1
    assert count >= 4


@pytest.mark.parametrize("kind", WITNESSES)
def test_a_field_of_the_witness(kind: str) -> None:
    """It is not signed by the sender, but by whom it speaks for."""
    tx = world().txs[kind].tx
    for witness in changes_of(msgspec.json.decode(tx.witness)):
        said = fate(with_fields(tx, witness=jcs(witness)))
        assert said != "done", witness


# Evidence about a block: Mallory signs the transaction himself, so only what the leader has signed protects it.


def accused(payload: Any) -> str:
    return fate(world().chain.sign(ACTORS["EVIDENCE"], "EVIDENCE", payload, nonce=1, fee=300))


def test_a_field_of_the_evidence_about_a_block() -> None:
    payload = msgspec.json.decode(world().bad_block.tx.payload)
    assert accused(payload) == "done"
    for changed in changes_of(payload["block"]):
        assert accused({"block": changed}) != "done", changed


def flip_bad_block(step: int) -> None:
    """Of what its block holds no byte is another's to choose."""
    block = msgspec.json.decode(world().bad_block.tx.payload)["block"]
    for name in ("header", "tx", "sig", "parent_id"):
        for at, raw in flips(bytes.fromhex(block[name]), step):
            assert accused({"block": {**block, name: raw.hex()}}) != "done", f"byte {at} of {name}"
    for place, node in enumerate(block["path"]):
        for at, raw in flips(bytes.fromhex(node), step):
            path = [*block["path"][:place], raw.hex(), *block["path"][place + 1 :]]
            assert accused({"block": {**block, "path": path}}) != "done", f"byte {at} of node {place}"


def test_a_byte_of_the_evidence_about_a_block() -> None:
    flip_bad_block(step=7)


@pytest.mark.long
def test_every_byte_of_the_evidence_about_a_block() -> None:
    flip_bad_block(step=1)


# A receipt: whoever lies must have all three to lie with him.

CONTRADICTED = "invalid attestation_mismatch"

LADDER: list[tuple[str, Any, str, str]] = [
    ("job_id", "job-2", CONTRADICTED, "failed wrong_job"),
    ("client_addr", EVE.address, CONTRADICTED, "failed wrong_client"),
    ("miner_addr", EVE.address, CONTRADICTED, "invalid bad_provider_signature"),
    ("compute_units", 2_001, "invalid units_above_attested", "done"),
    ("compute_units", 1_999, CONTRADICTED, "done"),
    ("price", 4_000_000, CONTRADICTED, "done"),
    ("price", 5_000_001, CONTRADICTED, "failed price_above_escrow"),
    ("output_hash", "sha256:" + "00" * 32, CONTRADICTED, "done"),
    ("lock", "00" * 32, CONTRADICTED, "failed unknown_lock"),
    ("task", 1, CONTRADICTED, "failed unknown_task"),
    ("attempt", 2, CONTRADICTED, "done"),
    ("nonce", "other", CONTRADICTED, "done"),
    ("details_hash", "", CONTRADICTED, "done"),
]
"""(field of the core, other value, fate while the attestation says otherwise, fate when everybody lies together)"""

IN_ATTESTATION = {"client_addr": "client", "miner_addr": "provider", "compute_units": "units"}


def claim_of(**core_fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The block's claim and its attestation with other fields in the core, the id made anew, nothing signed anew."""
    tx = world().txs["RECEIPT_CLAIM"].tx
    payload, witness = msgspec.json.decode(tx.payload), msgspec.json.decode(tx.witness)
    signed = payload.pop("miner_sig")
    payload.pop("receipt_id")
    core = ReceiptCore(**{**payload, **core_fields})
    plain = msgspec.json.decode(jcs(core))
    return {
        **plain,
        "receipt_id": receipt_id_of(core, world().chain.genesis_hash),
        "miner_sig": signed,
    }, witness


def sent(payload: dict[str, Any], witness: dict[str, Any]) -> str:
    """Sent and signed by Mallory, so that nothing is wrong with the envelope."""
    chain, carrier = world().chain, ACTORS["RECEIPT_CLAIM"]
    return fate(chain.sign(carrier, "RECEIPT_CLAIM", payload, witness=witness, nonce=1, fee=300))


@pytest.mark.parametrize(
    ("field", "value", "contradicted", "together"), LADDER, ids=[f"{row[0]}-{row[1]}"[:30] for row in LADDER]
)
def test_a_receipt_is_what_provider_and_hub_both_signed(
    field: str, value: Any, contradicted: str, together: str
) -> None:
    """Mallory changes the core; then its id; then the attestation; then Paula signs with him; then Henry does.
    Signatures are looked at before the state; of Eve the chain knows no key, so she has signed nothing."""
    genesis_hash = world().chain.genesis_hash
    payload, witness = claim_of(**{field: value})
    old_id = msgspec.json.decode(world().txs["RECEIPT_CLAIM"].tx.payload)["receipt_id"]
    assert sent({**payload, "receipt_id": old_id}, witness) == "invalid receipt_id_mismatch"
    assert sent(payload, witness) == contradicted

    told = dict(witness["attestation"], receipt_id=payload["receipt_id"])
    if field not in ("nonce", "details_hash"):
        told[IN_ATTESTATION.get(field, field)] = value
    witness = {**witness, "attestation": told}
    assert sent(payload, witness) == "invalid bad_provider_signature"

    core = ReceiptCore(**{name: payload[name] for name in payload if name not in ("receipt_id", "miner_sig")})
    provider = EVE if field == "miner_addr" else PROVIDER
    payload["miner_sig"] = provider.sign(receipt_core_digest(core, genesis_hash)).hex()
    unheard_of = together == "invalid bad_provider_signature"
    assert sent(payload, witness) == (together if unheard_of else "invalid bad_attestation_signature")

    witness["sig"] = HUB.sign(attestation_digest(Attestation(**told), genesis_hash)).hex()
    assert sent(payload, witness) == together


@pytest.mark.parametrize("field", ["client_addr", "miner_addr"])
@pytest.mark.parametrize("value", ["", "paula", EVE.address.upper(), EVE.address[:-1]])
def test_whose_receipt_it_is_must_be_an_address(field: str, value: str) -> None:
    payload, witness = claim_of(**{field: value})
    told = {**witness["attestation"], IN_ATTESTATION[field]: value, "receipt_id": payload["receipt_id"]}
    assert sent(payload, {**witness, "attestation": told}) == "invalid bad_address"


ATTESTED: list[tuple[str, Any, str]] = [
    ("receipt_id", "rcpt_" + "00" * 32, "invalid attestation_mismatch"),
    ("lock", "", "invalid attestation_mismatch"),
    ("job_id", "other", "invalid attestation_mismatch"),
    ("hub", EVE.address, "invalid bad_attestation_signature"),
    ("client", EVE.address, "invalid attestation_mismatch"),
    ("provider", EVE.address, "invalid attestation_mismatch"),
    ("task", 1, "invalid attestation_mismatch"),
    ("attempt", 2, "invalid attestation_mismatch"),
    ("units", 1_999, "invalid units_above_attested"),
    ("units", 2_001, "invalid attestation_mismatch"),
    ("price", 1, "invalid attestation_mismatch"),
    ("output_hash", "sha256:" + "00" * 32, "invalid attestation_mismatch"),
    ("routed", "chosen", "invalid bad_attestation_signature"),
    ("routed", "synthetic", "invalid attestation_mismatch"),
    ("routed", "calibration", "invalid attestation_mismatch"),
    ("routed", "audit", "invalid wrong_type"),
    ("candidates_hash", "sha256:" + "00" * 32, "invalid bad_attestation_signature"),
]


@pytest.mark.parametrize(
    ("field", "value", "expected"), ATTESTED, ids=[f"{row[0]}-{row[1]}"[:40] for row in ATTESTED]
)
def test_a_field_of_the_attestation(field: str, value: Any, expected: str) -> None:
    payload, witness = claim_of()
    told = {**witness["attestation"], field: value}
    assert sent(payload, {**witness, "attestation": told}) == expected


# Bytes.


def flips(data: bytes, step: int) -> Iterator[tuple[int, bytes]]:
    """One bit flipped in every so many-th byte, another bit each time."""
    for at in range(0, len(data), step):
        changed = bytearray(data)
        changed[at] ^= 1 << at // step % 8
        yield at, bytes(changed)


def flip_transaction(kind: str, step: int) -> None:
    """Unsigned bytes are those of signature, key and witness; none of them has a second good value."""
    good = pack(world().txs[kind].tx)
    for at, raw in flips(good, step):
        try:
            tx = unpack(raw, Transaction, limit=len(raw))
        except Rejected:
            continue
        assert fate(tx) != "done", f"byte {at} of a {kind}: {raw.hex()}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_of_a_transaction(kind: str) -> None:
    flip_transaction(kind, step=7)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_of_a_transaction(kind: str) -> None:
    for shift in range(3):
        flip_transaction(kind, step=1 + shift)


def flip_block(step: int) -> None:
    chain, good = world().chain, pack(world().built.block)
    root = chain.second.state.root()
    for at, raw in flips(good, step):

        def try_it(raw: bytes = raw) -> None:
            chain.second.apply(unpack(raw, Block, limit=len(raw)))

        assert refusal(try_it), f"byte {at} of the block"
        assert chain.second.state.root() == root
    assert chain.second.apply(world().built.block).hash == world().built.hash
    chain.second.abandon()


def test_a_byte_of_a_block() -> None:
    flip_block(step=41)


@pytest.mark.long
def test_every_byte_of_a_block() -> None:
    flip_block(step=1)


# A proposer who tampers and mends the roots.


def mended(built: BuiltBlock, txs: list[Transaction], **header: Any) -> Block:
    """The block with other transactions and their own root in the header."""
    wids = [wid_of(tx, world().chain.genesis_hash) for tx in txs]
    return Block(msgspec.structs.replace(built.block.header, txs_root=list_root(wids), **header), txs)


PROPOSERS: list[tuple[str, Callable[[list[Transaction]], list[Transaction]], str]] = [
    ("as it is", lambda txs: txs, ""),
    ("one left out", lambda txs: txs[1:], Reason.ROOT_MISMATCH),
    ("all left out", lambda txs: [], Reason.ROOT_MISMATCH),
    ("in another order", lambda txs: txs[::-1], Reason.ROOT_MISMATCH),
    ("one twice", lambda txs: [*txs, txs[0]], Reason.DUPLICATE_TRANSACTION),
    ("one twice under another signature", lambda txs: [*txs, with_fields(txs[0], sig=bytes(64))], Reason.BAD_SIGNATURE),
    ("a forged one", lambda txs: [with_fields(txs[0], sig=bytes(64)), *txs[1:]], Reason.BAD_SIGNATURE),
    ("one of another chain", lambda txs: [*txs, foreign()], Reason.BAD_SIGNATURE),
    ("one with a nonce to come", lambda txs: [*txs, later()], Reason.BAD_NONCE),
]  # fmt: skip


def foreign() -> Transaction:
    other = type(world().chain)(epoch_length=7)
    return other.sign(EVE, "TRANSFER", {"to": HUB.address, "amount": 1})


def later() -> Transaction:
    return world().chain.sign(ACTORS["STAKE"], "TRANSFER", {"to": HUB.address, "amount": 1}, nonce=7)


@pytest.mark.parametrize(("story", "bend", "reason"), PROPOSERS, ids=[row[0] for row in PROPOSERS])
def test_a_proposer_who_mends_the_root(
    story: str, bend: Callable[[list[Transaction]], list[Transaction]], reason: str
) -> None:
    built, chain = world().built, world().chain
    block = mended(built, bend(list(built.block.txs)))
    assert refusal(lambda: chain.second.apply(block)) == reason
    if not reason:
        chain.second.abandon()


@pytest.mark.parametrize("kind", WITNESSES)
def test_a_proposer_who_swaps_a_witness_gets_no_other_outcome_through(kind: str) -> None:
    """The witness is outside of what the sender signed; what it does is in the roots."""
    built, chain = world().built, world().chain
    at = KINDS.index(kind)
    for witness in changes_of(msgspec.json.decode(built.block.txs[at].witness)):
        txs = list(built.block.txs)
        txs[at] = with_fields(txs[at], witness=jcs(witness))
        assert refusal(lambda txs=txs: chain.second.apply(mended(built, txs)))  # type: ignore[misc]


HEADER: list[tuple[dict[str, Any], str]] = [
    ({"version": 1}, Reason.WRONG_VERSION),
    ({"version": 3}, Reason.WRONG_VERSION),
    ({"chain_id": "ait-test-"}, Reason.WRONG_CHAIN),
    ({"height": 0}, Reason.WRONG_HEIGHT),
    ({"parent": bytes(31)}, Reason.WRONG_PARENT),
    ({"parent": b""}, Reason.WRONG_PARENT),
    ({"timestamp_ms": 0}, Reason.BAD_TIMESTAMP),
    ({"timestamp_ms": -1}, Reason.BAD_TIMESTAMP),
    ({"timestamp_ms": 2**53}, Reason.BAD_TIMESTAMP),
    ({"proposer": ""}, Reason.WRONG_PROPOSER),
    ({"proposer": EVE.address}, Reason.WRONG_PROPOSER),
    ({"txs_root": b""}, Reason.ROOT_MISMATCH),
    ({"outcomes_root": b""}, Reason.ROOT_MISMATCH),
    ({"state_root": b""}, Reason.ROOT_MISMATCH),
    ({"next_validators_hash": b""}, Reason.ROOT_MISMATCH),
    ({"history_root": b""}, Reason.ROOT_MISMATCH),
    ({"extra": bytes(257)}, Reason.TOO_LARGE),
    ({"seal": b"\0"}, Reason.MALFORMED),
]


@pytest.mark.parametrize(
    ("change", "reason"), HEADER, ids=[f"{n}-{next(iter(r[0]))}" for n, r in enumerate(HEADER)]
)
def test_a_field_of_the_header(change: dict[str, Any], reason: str) -> None:
    built, chain = world().built, world().chain
    header = msgspec.structs.replace(built.block.header, **change)
    root = chain.second.state.root()
    assert refusal(lambda: chain.second.apply(Block(header, built.block.txs))) == reason
    assert chain.second.state.root() == root


def test_every_field_of_the_header_is_in_the_table() -> None:
    assert {name for change, _ in HEADER for name in change} == set(Header.__struct_fields__)


# One id, many envelopes.


@pytest.mark.parametrize("kind", WITNESSES)
def test_a_forged_twin_neither_passes_nor_stands_in_the_way(kind: str) -> None:
    """Same id, other signature or witness: the memory of the executor knows each by its wid."""
    chain, good = world().chain, world().txs[kind].tx
    memory = type(chain.executor.transactions)(chain.genesis_hash)
    twins = [with_fields(good, sig=bitten(good.sig)), with_fields(good, witness=good.witness[:-1] + b" }")]
    for twin in twins:
        assert refusal(lambda twin=twin: memory.verify(twin))  # type: ignore[misc]
    remembered = memory.verify(good)
    assert memory.get(remembered.wid) is remembered
    for twin in twins:
        assert wid_of(twin, chain.genesis_hash) != remembered.wid
        assert refusal(lambda twin=twin: memory.verify(twin))  # type: ignore[misc]
        assert memory.get(wid_of(twin, chain.genesis_hash)) is None
    assert memory.verify(good) is remembered


def test_a_block_with_a_forged_twin_of_a_known_transaction_is_refused() -> None:
    """The second node has verified the good one; a block brings it with another signature, root mended."""
    built, chain = world().built, world().chain
    for tx in built.block.txs:
        chain.second.transactions.verify(tx)
    for at, tx in enumerate(built.block.txs):
        txs = list(built.block.txs)
        txs[at] = with_fields(tx, sig=bitten(tx.sig, 40))
        assert refusal(lambda txs=txs: chain.second.apply(mended(built, txs))) == Reason.BAD_SIGNATURE  # type: ignore[misc]
    assert chain.second.apply(built.block).hash == built.hash
    chain.second.abandon()


def test_an_attestation_that_proves_nothing_is_not_remembered_as_one_that_does() -> None:
    """Same transaction id, the hub's signature forged: first it comes, then the good one, then it comes again."""
    chain = world().chain
    good = world().txs["RECEIPT_CLAIM"]
    witness = msgspec.json.decode(good.tx.witness)
    forged = with_fields(good.tx, witness=jcs({**witness, "sig": "00" * 64}))
    memory = msgspec.structs.replace(context(), verify=type(chain.executor.verifier)())

    def outcome(tx: Transaction) -> str:
        verified = verify_transaction(tx, chain.genesis_hash)
        assert verified.id == good.id
        return refusal(lambda: execute(memory, Overlay(chain.executor.state), verified))

    assert [outcome(tx) for tx in (forged, good.tx, forged, good.tx)] == [
        "bad_attestation_signature",
        "",
        "bad_attestation_signature",
        "",
    ]


# Proofs.


def wrong_values(value: Any) -> Iterator[Any]:
    """Other values of a field of a proof: one byte, one place, one length."""
    match value:
        case bytes():
            for at in range(len(value)):
                yield bitten(value, at)
            yield value + b"\0"
            yield value[:-1]
        case int():
            yield from (value + 1, value - 1, -1, 2 * value + 1, 2**64 + value)
        case list() | tuple():
            yield type(value)(value[:-1])
            yield type(value)([*value, bytes(32)])
            yield type(value)(value[::-1])
            for at, item in enumerate(value):
                for other in wrong_values(item):
                    yield type(value)([*value[:at], other, *value[at + 1 :]])


def other_proofs(proof: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    for name in proof.__struct_fields__:
        value = getattr(proof, name)
        for other in wrong_values(value):
            if other != value:
                yield name, msgspec.structs.replace(proof, **{name: other})


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_a_proof_that_something_is_in_a_list(count: int) -> None:
    leaves = [outcome_leaf(outcome) for outcome in world().built.outcomes][:count]
    root, wids = list_root(leaves), [tx.wid for tx in world().txs.values()]
    for at in range(count):
        proof = prove_item(leaves, at)
        assert check_item(root, leaves[at], proof)
        assert not check_item(root, bitten(leaves[at], 3), proof)
        assert not check_item(root, wids[at], proof)
        assert not check_item(bitten(root), leaves[at], proof)
        for name, other in other_proofs(proof):
            assert not check_item(root, leaves[at], other), (at, name, other)


def test_a_proof_of_one_list_is_none_of_another() -> None:
    leaves = [bytes([n]) * 32 for n in range(6)]
    for count in range(1, 6):
        for at in range(count):
            proof = prove_item(leaves[:count], at)
            for other in range(1, 7):
                assert check_item(list_root(leaves[:other]), leaves[at], proof) == (other == count)


def test_a_proof_of_a_range() -> None:
    leaves = [bytes([n]) * 113 for n in range(7)]
    root, path = list_root(leaves), prove_range(leaves, 2, 5)
    for other in wrong_values(path):
        assert range_root(leaves[2:5], start=2, count=7, path=other) != root
    for start, count in [
        (1, 7),
        (3, 7),
        (2, 6),
        (2, 8),
        (2, 2**20),
        (-1, 7),
        (2, 0),
        (2, -1),
        (5, 7),
        (6, 7),
    ]:
        assert range_root(leaves[2:5], start=start, count=count, path=path) != root
    for other_leaves in ([], leaves[2:4], leaves[2:6], leaves[1:4], [*leaves[2:4], bitten(leaves[4])]):
        assert range_root(other_leaves, start=2, count=7, path=path) != root


STORES_OF = {
    "accounts": ACTORS["TRANSFER"].address,
    "locks": "",
    "registry": f"provider:{PROVIDER.address}",
    "params": "base_fee",
}


@pytest.mark.parametrize("store", STORES_OF)
def test_a_proof_of_a_record(store: str) -> None:
    state = world().chain.executor.state
    key = STORES_OF[store] or next(iter(state.data[store]))
    proof, roots = state.prove(store, key)
    root, value = roots[store], state.data[store][key]

    def proves(proof: TreeProof, **change: Any) -> bool:
        said = {"root": root, "name": store, "key": key.encode(), "value": value, **change}
        return proves_value(said["root"], said["name"], said["key"], said["value"], proof)

    assert proves(proof)
    longer = key.encode() + b"0"
    for change in ({"root": bitten(root)}, {"name": "receipts"}, {"key": longer}, {"value": bitten(value)}):
        assert not proves(proof, **change)
    assert not proves_absence(root, store, key.encode(), proof), "what is there is not absent"
    for name, other in other_proofs(proof):
        assert not proves(other), (name, other)


@pytest.mark.parametrize("store", ["accounts", "receipts", "registry"])
def test_a_proof_that_there_is_no_record(store: str) -> None:
    state = world().chain.executor.state
    key = {"accounts": person("nobody").address, "receipts": "rcpt_" + "00" * 32, "registry": "hub:nobody"}[
        store
    ]
    proof, roots = state.prove(store, key)
    assert proves_absence(roots[store], store, key.encode(), proof)
    assert not proves_value(roots[store], store, key.encode(), proof.value, proof)
    assert not proves_absence(roots[store], store, proof.key, proof), "its own key is there"
    assert not proves_absence(roots[store], store, proof.next_key + b"", proof) or not proof.next_key
    assert not proves_absence(bitten(roots[store]), store, key.encode(), proof)
    for name, other in other_proofs(proof):
        assert not proves_absence(roots[store], store, key.encode(), other), (name, other)
        assert not check_leaf(roots[store], store, other)


def test_a_proof_that_a_block_is_an_ancestor() -> None:
    hashes = [bytes([n]) * 32 for n in range(11)]
    peaks: list[tuple[int, bytes]] = []
    nodes: dict[tuple[int, int], bytes] = {}
    for leaf in hashes:
        peaks, made = append_leaf(peaks, leaf)
        nodes.update({(level, position): node for level, position, node in made})
    root = peaks_root(peaks)
    for at, leaf in enumerate(hashes):
        path = [nodes[place] for place in proof_places(at, 11)]
        assert check_leaf_in_history(root, leaf, at, 11, path)
        for other_at in (at + 1, at - 1, -1, 11):
            assert not check_leaf_in_history(root, leaf, other_at, 11, path)
        for count in (-1, 0, 10, 12, 22, 2**64):
            assert not check_leaf_in_history(root, leaf, at, count, path)
        assert not check_leaf_in_history(root, bitten(leaf), at, 11, path)
        assert not check_leaf_in_history(bitten(root), leaf, at, 11, path)
        for other in wrong_values(path):
            if other != path:
                assert not check_leaf_in_history(root, leaf, at, 11, other)


DEEP = [bytes(32)] * 66
"""Enough nodes for a list or a tree that no number of eight bytes can count."""


@pytest.mark.parametrize("what", ["a list", "a tree"])
def test_a_proof_of_more_leaves_than_can_be_counted_is_not_good(what: str) -> None:
    """Mallory answers a client's question with it, and the client must say no instead of falling over."""
    count = 2**64 + 1
    if what == "a list":
        assert not check_item(bytes(32), b"leaf", ListProof(0, count, DEEP[: count.bit_length()]))
    else:
        groups = [(bytes(32), bytes(32), bytes(32))] * ((count.bit_length() + 1) // 2)
        assert not check_leaf(bytes(32), "accounts", TreeProof(0, count, b"k", b"v", b"", groups))


# Certificates.

FOUR = [person(f"signer {n}") for n in range(4)]
SET = [Validator(who.address, who.auth_key, 1) for who in FOUR]


def certificate(kind: str = "final", signers: tuple[int, ...] = (0, 1, 2)) -> Certificate:
    candidate = Candidate(3, 9, 8, bytes([1]) * 32, bytes([2]) * 32)
    digest = vote_digest(
        kind=kind,
        epoch=3,
        slot=9,
        candidate=candidate_id(candidate, "ait-test", bytes(32)),
        chain_id="ait-test",
        genesis_hash=bytes(32),
    )
    bitmap = sum(1 << at for at in signers)
    return Certificate(kind, candidate, bitmap, [FOUR[at].sign(digest) for at in signers])


def check(found: Certificate, chain_id: str = "ait-test", genesis_hash: bytes = bytes(32)) -> None:
    check_certificate(found, SET, chain_id=chain_id, genesis_hash=genesis_hash)


def test_a_field_of_a_certificate() -> None:
    good = certificate()
    check(good)
    for name, other in other_proofs(good):
        assert refusal(lambda other=other: check(other)) == Reason.BAD_CERTIFICATE, name  # type: ignore[misc]
    for name, other in other_proofs(good.candidate):
        wrong = msgspec.structs.replace(good, candidate=other)
        assert refusal(lambda wrong=wrong: check(wrong)) == Reason.BAD_CERTIFICATE, name  # type: ignore[misc]
    assert refusal(lambda: check(good, chain_id="ait-tesT")) == Reason.BAD_CERTIFICATE
    assert refusal(lambda: check(good, genesis_hash=bytes([1]) * 32)) == Reason.BAD_CERTIFICATE


def test_a_byte_of_a_certificate() -> None:
    good = pack(certificate_of(world().built.hash, world().chain.genesis_hash))
    voters = [Validator(VALIDATOR.address, VALIDATOR.auth_key, 1)]
    for at, raw in flips(good, 1):

        def try_it(raw: bytes = raw) -> None:
            found = unpack(raw, Certificate, limit=4_096)
            check_certificate(found, voters, chain_id="ait-test", genesis_hash=world().chain.genesis_hash)

        assert refusal(try_it), f"byte {at}"


def test_what_is_verified_is_made_by_verifying() -> None:
    """The block's transactions as the builder had them are those that the bytes give."""
    for tx in world().txs.values():
        again = verify_transaction(
            unpack(pack(tx.tx), Transaction, limit=1 << 20), world().chain.genesis_hash
        )
        assert isinstance(again, VerifiedTransaction) and again == tx
        assert again.id == transaction_id(tx.tx, world().chain.genesis_hash)


# What the sender did not sign and nobody else vouches for.


def carried(kind: str, **more: Any) -> str:
    """The fate of the good transaction with more in its witness than it had."""
    tx = world().txs[kind].tx
    return fate(with_fields(tx, witness=jcs({**msgspec.json.decode(tx.witness), **more})))


@pytest.mark.parametrize("kind", ["RECEIPT_CLAIM", "REGISTER"])
def test_an_offered_key_that_is_none_is_refused(kind: str) -> None:
    """Mallory stamps other people's claims with his advertisement."""
    assert carried(kind, pubkey="buy at mallory's " * 150).startswith("invalid")


def test_a_validators_word_that_nobody_asked_for_is_refused() -> None:
    chain = world().chain
    tx = chain.sign(
        ACTORS["TRANSFER"],
        "REGISTER",
        {"role": "provider", "models": []},
        witness={"validator_sig": "ab" * 2_000},
        nonce=1,
        fee=4,
    )
    assert fate(tx).startswith("invalid")


def test_a_free_registration_that_fails_is_not_free() -> None:
    """Eve has Henry's word and names a validator that never gave its own."""
    chain = world().chain
    payload = {"role": "provider", "models": [], "validator": VALIDATOR.address, "endpoint": "x" * 256}
    witness = chain.countersignature(EVE, HUB)
    tx = chain.sign(EVE, "REGISTER", payload, witness=witness, nonce=1, fee=0)
    assert fate(tx).startswith("invalid")


SWAPS: list[tuple[str, str]] = [
    ("RECEIPT_CLAIM", "invalid bad_attestation_signature"),
    ("REGISTER", "invalid bad_countersignature"),
    ("PARAM_UPDATE", "invalid bad_approval"),
]


@pytest.mark.parametrize(("kind", "expected"), SWAPS, ids=[row[0] for row in SWAPS])
def test_a_witness_that_somebody_spoiled_costs_the_sender_nothing(kind: str, expected: str) -> None:
    tx = world().txs[kind].tx
    witness = msgspec.json.decode(tx.witness)
    spoiled = {
        "RECEIPT_CLAIM": {**witness, "sig": "00" * 64},
        "REGISTER": {**witness, "validator_sig": "00" * 64},
        "PARAM_UPDATE": {**witness, "sigs": ["00" * 64]},
    }[kind]
    assert fate(with_fields(tx, witness=jcs(spoiled))) == expected


def heavy_key(name: str) -> Holder:
    """A key that takes sixteen secp256k1 verifications."""
    secrets = sorted([sha256(f"{name} {n}".encode()).digest() for n in range(16)], key=secp256k1_auth_key)
    key = multisig_auth_key(16, [secp256k1_auth_key(secret) for secret in secrets])

    def sign(digest: bytes) -> bytes:
        return assemble_multisig(
            key, {place: sign_secp256k1(secret, digest) for place, secret in enumerate(secrets)}
        )

    return Holder(address_of(key), key, sign)


def test_every_verification_that_a_transaction_asks_for_is_paid() -> None:
    """Mallory runs a hub of his own, which attests under its dearest key that nothing was done for nothing."""
    heavy, mallory = heavy_key("mallory"), person("mallory")
    chain = Ledger(more=[mallory, PROVIDER])
    assert chain.do(mallory, "TRANSFER", {"to": heavy.address, "amount": 1_000_000}).ok
    assert chain.do(heavy, "REGISTER", {"role": "hub", "models": []}, fee=200).ok
    chain.register(PROVIDER)
    lock = chain.lock(hub=heavy.address, tasks=4_096, session=True, amount=1)
    payload, witness = chain.claim_parts(PROVIDER, lock, hub=heavy, price=0)  # type: ignore[arg-type]
    size = required_fee(chain.executor.state.params, len(jcs(payload)), mallory.auth_key)
    work = signature_fee(chain.executor.state.params, heavy.auth_key)
    said = chain.said(mallory, "RECEIPT_CLAIM", payload, witness=witness, fee=size + work - 1)
    assert said == "invalid fee_too_low"


def test_the_memory_of_verified_transactions_has_a_size() -> None:
    """Its comment says about 20 MB."""
    genesis_hash = world().chain.genesis_hash
    large = world().chain.sign(EVE, "TRANSFER", {"to": HUB.address, "amount": 1})
    memory = executor.VerifiedTransactions(genesis_hash)
    txs = [with_fields(large, nonce=nonce) for nonce in range(1, executor.MEMORY_OF_TRANSACTIONS)]
    for tx in txs:
        names = names_of(tx, genesis_hash)
        memory.remember([VerifiedTransaction(tx, *names, msgspec.Struct(), None, 16_000)])
    known = sum(1 for tx in txs if memory.get(wid_of(tx, genesis_hash)))
    assert 0 < known * 16_000 <= 64 * 1024 * 1024


def test_a_rule_that_meets_a_record_it_cannot_read_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(_context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Any]:
        state.put("locks", "00" * 32, None)
        raise Rejected(Reason.OUT_OF_RANGE, "a record says a number that no record may hold")

    overlay = Overlay(world().chain.executor.state)
    monkeypatch.setitem(TYPES, "TRANSFER", TYPES["TRANSFER"]._replace(apply=apply))
    with pytest.raises(Rejected):
        execute(context(), overlay, world().txs["TRANSFER"])
    assert not any(overlay.writes.values())
