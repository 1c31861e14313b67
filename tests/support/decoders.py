"""Every decoder that a stranger can reach, with good bytes for it to begin from."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import msgspec

from aitbc.core.codec.canonical import convert, jcs, parse_jcs, parse_json, plain_json, unhex
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.codec.leaves import check_leaves, committed_leaves, leaf_bytes_of
from aitbc.core.codec.records import KINDS, record_bytes, record_from_bytes
from aitbc.core.codec.views import (
    certificate_to_plain,
    header_from_plain,
    header_to_plain,
    transaction_from_json,
    transaction_to_plain,
)
from aitbc.core.codec.wire import pack, unpack
from aitbc.core.crypto.address import decode_address
from aitbc.core.crypto.schemes import SCHEMES, scheme_of, verify
from aitbc.core.jobs.link import decode_from_hub, decode_from_provider
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.ledger.genesis import load_genesis, parse_genesis
from aitbc.core.ledger.transactions import TYPES
from aitbc.core.types.blocks import Block, Candidate, Certificate, Header
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import (
    Account,
    Batch,
    Bond,
    KeyHistory,
    Lock,
    Offence,
    OldKey,
    Param,
    ReceiptRecord,
    Record,
    Registration,
    Score,
    Unbonding,
    ValidatorRecord,
)
from aitbc.core.types.transactions import Transaction
from support.chain import OUTPUT, REQUEST
from support.everything import Everything, everything
from support.people import ALICE, HUB, PROVIDER
from support.schemes import every_scheme

LIMIT = 1 << 20
DIGEST = bytes(range(32))


class Decoder(NamedTuple):
    decode: Callable[[bytes], Any]
    samples: list[bytes]
    """Good ones, to begin from."""


@cache
def world() -> Everything:
    return everything()


def texts(decode: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A decoder of texts as one of bytes; what is no UTF-8 stands for the half pairs that a JSON text may hold."""
    return lambda raw: decode(raw.decode("utf-8", "surrogateescape"))


@cache
def decoders() -> dict[str, Decoder]:
    """By name; the name is also the folder of its corpus."""
    return {
        **_payloads(),
        **_records(),
        **_wire(),
        **_json(),
        **_texts(),
        **_keys(),
    }


def _payloads() -> dict[str, Decoder]:
    found = {}
    for kind, tx in [*world().txs.items(), ("EVIDENCE-block", world().bad_block)]:
        payload, witness = TYPES[tx.tx.type].payload, TYPES[tx.tx.type].witness
        found[f"jcs-{kind}"] = Decoder(lambda raw, payload=payload: parse_jcs(raw, payload), [tx.tx.payload])
        found[f"convert-{kind}"] = Decoder(
            lambda raw, payload=payload: jcs(convert(plain_json(raw), payload)), [tx.tx.payload]
        )
        found[f"verify-{kind}"] = Decoder(_verified_with_payload(tx.tx), [tx.tx.payload])
        if witness is not None:
            found[f"jcs-witness-{kind}"] = Decoder(
                lambda raw, witness=witness: parse_jcs(raw, witness), [tx.tx.witness]
            )
            found[f"verify-witness-{kind}"] = Decoder(_verified_with_witness(tx.tx), [tx.tx.witness])
    return found


def _verified_with_payload(tx: Transaction) -> Callable[[bytes], Any]:
    return lambda raw: verify_transaction(
        msgspec.structs.replace(tx, payload=raw), world().chain.genesis_hash
    )


def _verified_with_witness(tx: Transaction) -> Callable[[bytes], Any]:
    return lambda raw: verify_transaction(
        msgspec.structs.replace(tx, witness=raw), world().chain.genesis_hash
    )


def _records() -> dict[str, Decoder]:
    found = {}
    for store, prefixes in KINDS.items():
        for prefix, kind in prefixes.items():
            key = prefix + ALICE.address
            found[f"record-{store}-{prefix.strip(':') or 'other'}"] = Decoder(
                lambda raw, store=store, key=key: record_from_bytes(store, key, raw),
                [record_bytes(RECORDS[kind])],
            )
    return found


RECORDS: dict[type, Record] = {
    type(record): record
    for record in (
        Account(5, 1, ALICE.auth_key),
        Lock(
            client=ALICE.address,
            hub=HUB.address,
            job_id="job",
            amount=5,
            paid=1,
            tasks=3,
            paid_tasks="1",
            request_hash=REQUEST,
            deliver_by_ms=1,
            claim_until_ms=2,
            height=3,
            status="open",
            session=True,
            closed_ms=4,
        ),
        ReceiptRecord(
            job_id="job",
            client=ALICE.address,
            provider=PROVIDER.address,
            hub=HUB.address,
            units=1,
            price=2,
            output_hash=OUTPUT,
            details_hash=OUTPUT,
            lock="ab" * 32,
            task=0,
            attempt=1,
            minted=3,
            height=4,
            claimed_ms=5,
        ),
        Batch(hub=HUB.address, root="ab" * 32, count=1, height=2, expires_ms=3),
        Registration(role="provider", models=[], endpoint="", payout=ALICE.address, validator="", height=1),
        Bond(
            amount=1,
            unbonding=[Unbonding(amount=2, free_ms=3)],
            jailed_until_ms=4,
            epoch=5,
            minted=6,
            offences=7,
        ),
        KeyHistory(keys=[OldKey(key=key_to_text(ALICE.auth_key), until_height=7, until_ms=8)]),
        Offence(offender=ALICE.address, height=1, expires_ms=2),
        ValidatorRecord(auth_key=key_to_text(ALICE.auth_key), power=1, position=0),
        Score(score=1, units=2),
        Param(value="[]"),
    )
}


def _wire() -> dict[str, Decoder]:
    built = world().built
    certificate = Certificate("final", Candidate(0, 1, 0, bytes(32), built.hash), 1, [bytes(64)])
    good: dict[Any, list[Any]] = {
        Transaction: [tx.tx for tx in [*world().txs.values(), world().bad_block]],
        Block: [Block(built.block.header, built.block.txs[:2])],
        Header: [built.block.header],
        Certificate: [certificate],
    }
    found = {
        f"wire-{kind.__name__}": Decoder(
            lambda raw, kind=kind: unpack(raw, kind, limit=LIMIT), [pack(sample) for sample in samples]
        )
        for kind, samples in good.items()
    }

    def admitted(raw: bytes) -> Any:
        return verify_transaction(unpack(raw, Transaction, limit=LIMIT), world().chain.genesis_hash)

    def applied(raw: bytes) -> Any:
        block = unpack(raw, Block, limit=LIMIT)
        world().chain.second.apply(block)
        world().chain.second.abandon()

    found["verify-wire"] = Decoder(admitted, found["wire-Transaction"].samples)
    found["apply-wire"] = Decoder(applied, [pack(built.block)])
    return found


def _json() -> dict[str, Decoder]:
    built = world().built
    transactions = [jcs(transaction_to_plain(tx.tx)) for tx in [*world().txs.values(), world().bad_block]]
    header = jcs(header_to_plain(built.block.header, built.hash))
    certificate = Certificate("final", Candidate(0, 1, 0, bytes(32), built.hash), 1, [bytes(64)])
    document = world().chain.document
    hello = jcs(
        {
            "type": "hello",
            "version": 1,
            "address": ALICE.address,
            "pubkey": key_to_text(ALICE.auth_key),
            "nonce": "ab" * 32,
            "sig": "cd" * 64,
            "models": [{"model": "m", "kind": "chat", "digest": "", "price_per_kilounit": 1}],
            "slots": 1,
            "device": "card",
        }
    )
    welcome = b'{"heartbeat_ms":1000,"pubkey":"ab","sig":"cd","type":"welcome"}'
    return {
        "json-plain": Decoder(plain_json, [*transactions[:3], jcs(certificate_to_plain(certificate))]),
        "json-transaction": Decoder(transaction_from_json, transactions),
        "json-header": Decoder(lambda raw: header_from_plain(plain_json(raw)), [header]),
        "json-genesis": Decoder(lambda raw: load_genesis(parse_genesis(raw)), [document]),
        "json-any": Decoder(
            lambda raw: parse_json(raw, TYPES["TRANSFER"].payload, limit=LIMIT),
            [world().txs["TRANSFER"].tx.payload],
        ),
        "json-from-provider": Decoder(texts(decode_from_provider), [hello]),
        "json-from-hub": Decoder(texts(decode_from_hub), [welcome]),
    }


def _texts() -> dict[str, Decoder]:
    leaves = msgspec.json.decode(world().txs["SETTLE"].tx.payload)["leaves"].encode()

    def leaves_of(text: str) -> Any:
        raw = leaf_bytes_of(text)
        check_leaves(raw, locks=1, providers=1)
        return committed_leaves(raw, [bytes(32)], [b"provider"])

    return {
        "text-key": Decoder(
            texts(key_from_text), [key_to_text(who.auth_key).encode() for who in every_scheme().values()]
        ),
        "text-address": Decoder(texts(decode_address), [ALICE.address.encode()]),
        "text-hex": Decoder(texts(unhex), [b"00ff"]),
        "text-leaves": Decoder(texts(leaves_of), [leaves]),
    }


def _keys() -> dict[str, Decoder]:
    """Keys and signatures of each scheme; a signature that is not good is refused like everything else."""
    found = {}
    for name, signer in every_scheme().items():

        def under_this_key(raw: bytes, key: bytes = signer.auth_key) -> None:
            if not verify(key, DIGEST, raw):
                raise Rejected(Reason.BAD_SIGNATURE, "not good")

        def with_this_signature(raw: bytes, sig: bytes = signer.sign(DIGEST)) -> None:
            scheme_of(raw)
            if not verify(raw, DIGEST, sig):
                raise Rejected(Reason.BAD_SIGNATURE, "not good")

        found[f"sig-{name}"] = Decoder(under_this_key, [signer.sign(DIGEST)])
        found[f"key-{name}"] = Decoder(with_this_signature, [signer.auth_key])
    assert len(found) == 2 * len(SCHEMES)
    return found
