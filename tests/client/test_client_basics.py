"""Signers, transaction builders, the export to seed 003, and what importing the library costs."""

import copy
import hashlib
import json
import pickle
import subprocess
import sys

import msgspec
import pytest

from aitbc.adapters.keystore import devnet_keys
from aitbc.client import seed003
from aitbc.client.errors import ClientError
from aitbc.client.known_chains import KNOWN_CHAINS
from aitbc.client.seed003 import seed003_bytes, seed003_hash, seed003_receipt
from aitbc.client.signing import KeySigner
from aitbc.client.transactions import (
    build_transaction,
    faucet_payload,
    job_lock_payload,
    receipt_claim_payload,
    refund_payload,
    register_payload,
    transfer_payload,
)
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.ledger.devnet import devnet_genesis
from aitbc.core.ledger.genesis import genesis_document
from aitbc.core.types.receipts import ReceiptCore, ReceiptDetails

ALICE, BOB = (KeySigner(devnet_keys()[name]) for name in ("alice", "bob"))
GENESIS_HASH = bytes(range(32))


def test_a_signer_does_not_show_or_give_away_its_secret() -> None:
    secret = devnet_keys()["alice"]
    signer = KeySigner(secret)
    shown = f"{signer!r} {signer} {vars(type(signer)).keys()}"
    assert secret.hex() not in shown
    assert repr(secret) not in shown
    assert shown.startswith(f"KeySigner({signer.address})")
    for give_away in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="secret"):
            give_away(signer)
    with pytest.raises(ValueError, match="32 bytes"):
        KeySigner(b"short")


LOCK = {"hub": BOB.address, "job_id": "j", "amount": 5, "request_hash": "sha256:" + "00" * 32}
LOCK_TIMES = {"deliver_by_ms": 1, "claim_until_ms": 2}

PAYLOADS = [
    ("TRANSFER", transfer_payload(to=BOB.address, amount=5), {"to": BOB.address, "amount": 5}),
    (
        "TRANSFER",
        transfer_payload(to=BOB.address, amount=5, data="hi"),
        {"to": BOB.address, "amount": 5, "data": "hi"},
    ),
    ("JOB_LOCK", job_lock_payload(**LOCK, **LOCK_TIMES), {**LOCK, **LOCK_TIMES}),
    ("JOB_LOCK", job_lock_payload(**LOCK, **LOCK_TIMES, tasks=2), {**LOCK, **LOCK_TIMES, "tasks": 2}),
    ("REFUND", refund_payload(lock="00" * 32), {"lock": "00" * 32}),
    ("FAUCET", faucet_payload(to=BOB.address, amount=5), {"to": BOB.address, "amount": 5}),
    ("REGISTER", register_payload(role="hub", models=[]), {"role": "hub", "models": []}),
    (
        "REGISTER",
        register_payload(role="hub", models=[], endpoint="http://h", payout=BOB.address),
        {"role": "hub", "models": [], "endpoint": "http://h", "payout": BOB.address},
    ),
]


@pytest.mark.parametrize(("type", "payload", "expected"), PAYLOADS)
def test_every_payload_is_canonical_and_admitted(
    type: str, payload: dict[str, object], expected: dict[str, object]
) -> None:
    assert payload == expected
    tx = build_transaction(type, payload, signer=ALICE, nonce=1, fee=9, genesis_hash=GENESIS_HASH)
    assert verify_transaction(tx, GENESIS_HASH).tx == tx


def test_a_claim_payload_leaves_out_what_the_core_leaves_out() -> None:
    core = ReceiptCore(
        job_id="job_42",
        client_addr=ALICE.address,
        miner_addr=BOB.address,
        compute_units=2500,
        price=50_000,
        output_hash="sha256:" + "ab" * 32,
    )
    payload = receipt_claim_payload(core=core, receipt_id="rcpt_1", provider_sig="00")
    names = "receipt_id job_id client_addr miner_addr compute_units price output_hash miner_sig"
    assert sorted(payload) == sorted(names.split())


def test_the_built_in_devnet_is_known_by_its_hash() -> None:
    """A changed devnet genesis is another chain: put its hash into known_chains.py."""
    keys = {name: KeySigner(seed).auth_key for name, seed in devnet_keys().items()}
    assert genesis_hash_of(genesis_document(devnet_genesis(keys))).hex() in KNOWN_CHAINS


# Seed 003


def details(**fields: object) -> ReceiptDetails:
    some_hash = "sha256:" + "00" * 32
    values: dict[str, object] = {
        "v": 1,
        "chain_id": "ait-devnet",
        "job_id": "2025-09-26-000123",
        "task": 0,
        "attempt": 0,
        "client": "client_public_key_or_id",
        "provider": "0xProviderAddress",
        "hub": "optional-hub",
        "kind": "image",
        "model": "runwayml/stable-diffusion-v1-5",
        "units": 1_900,
        "unit_type": "compute_units",
        "counts": {},
        "notes": {},
        "gpu_ms": 1_900,
        "price": 1,
        "pay": {},
        "started_ms": 1_695_720_000_000,
        "finished_ms": 1_695_720_002_250,
        "status": "complete",
        "nonce": "b7f3",
    }
    for name in ReceiptDetails.__struct_fields__:
        default = "" if name in ("model_digest", "profile", "seed", "verify") else some_hash
        values.setdefault(name, default)
    return msgspec.convert({**values, **fields}, ReceiptDetails)


SEED003 = (
    '{"artifact_sha256":"' + "00" * 32 + '","chain_id":"ait-devnet","client":"client_public_key_or_id",'
    '"finished_at":1695720002.25,"hub_id":"optional-hub","job_id":"2025-09-26-000123",'
    '"model":"runwayml/stable-diffusion-v1-5","nonce":"b7f3","prompt_hash":"sha256:' + "00" * 32 + '",'
    '"provider":"0xProviderAddress","started_at":1695720000,"unit_type":"gpu_seconds","units":1.9}'
)


def test_the_export_has_the_fields_of_seed_003() -> None:
    receipt = seed003_receipt(details())
    assert seed003_bytes(receipt) == SEED003.encode()
    assert json.loads(SEED003) == receipt


def test_the_export_is_hashed_in_both_ways() -> None:
    receipt = seed003_receipt(details())
    assert seed003_hash(receipt) == hashlib.sha256(SEED003.encode()).hexdigest()
    assert seed003_hash(receipt, "keccak256") == (
        "47e12a2e5795b2ee81925844968f652e51569dad4d59cc1d79947b44ff491826"
    )


def test_keccak_is_ethereums_and_not_sha3() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert seed003._keccak256(b"").hex() == empty


@pytest.mark.parametrize("units", [1, 999, 1_000, 1_001, 10**12 - 1, 10**12])
def test_units_survive_the_export_exactly(units: int) -> None:
    text = seed003_bytes(seed003_receipt(details(units=units)))
    assert round(json.loads(text)["units"] * 1000) == units
    assert b"e" not in text.split(b'"units":')[1]


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Crypto.Hash", None)
    with pytest.raises(ClientError) as missing:
        seed003_hash(seed003_receipt(details()), "keccak256")
    assert missing.value.code == "missing_extra"
    assert "pip install 'aitbc[evm]'" in missing.value.fix


def test_verifying_needs_no_http_library() -> None:
    program = "import sys, aitbc.client.verify, aitbc.client.seed003; print('httpx2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
