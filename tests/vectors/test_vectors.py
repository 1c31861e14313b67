"""Every published vector against this implementation, in both directions: encode and decode, accept and refuse.

The vectors come from `tools/vectors/`, which is written from docs/spec and never imports the package.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.adapters.keystore.derivation import DEVNET_MNEMONIC, devnet_keys, mnemonic_seed
from aitbc.client.seed003 import seed003_bytes, seed003_hash, seed003_receipt
from aitbc.core.codec import digests
from aitbc.core.codec.canonical import convert, jcs, parse_jcs, plain_json
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.codec.leaves import ROUTED, Leaf, check_leaves, committed_leaves, leaf_bytes_of, pack_leaves
from aitbc.core.codec.records import record_bytes, record_from_bytes
from aitbc.core.codec.views import (
    certificate_to_plain,
    header_from_plain,
    header_to_plain,
    transaction_from_json,
    transaction_from_plain,
    transaction_to_plain,
)
from aitbc.core.codec.wire import pack, unpack
from aitbc.core.consensus.simplex.certificates import check_certificate, quorum_of
from aitbc.core.consensus.simplex.wal import LogRecord, encode_frame, log_head, read_log
from aitbc.core.crypto.address import address_of, decode_address, encode_address
from aitbc.core.crypto.hashing import digest
from aitbc.core.crypto.indexed_tree import (
    IndexedTree,
    TreeProof,
    TreeUndo,
    proves_absence,
    proves_value,
)
from aitbc.core.crypto.merkle import ListProof, check_item, list_root, prove_item, prove_range, range_root
from aitbc.core.crypto.mountains import (
    Peaks,
    append_leaf,
    check_leaf_in_history,
    peak_places,
    peaks_root,
    proof_places,
)
from aitbc.core.crypto.schemes import (
    ED25519,
    SCHEMES,
    ed25519_auth_key,
    scheme_of,
    secp256k1_auth_key,
    sign_ed25519,
    sign_secp256k1,
    verifications,
    verify,
)
from aitbc.core.jobs import draw, matching, requests, units
from aitbc.core.jobs.reasons import Refused
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.ledger.calibration import calibration_job, calibration_nonce
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.devnet import devnet_genesis
from aitbc.core.ledger.execution import check_active, check_sender
from aitbc.core.ledger.fees import required_fee, signature_fee, split_fee
from aitbc.core.ledger.genesis import genesis_document, load_genesis, parse_genesis
from aitbc.core.ledger.params import Params, version_at
from aitbc.core.ledger.state import NEW_ACCOUNT
from aitbc.core.ledger.transactions import param_update, settle
from aitbc.core.ledger.transactions.transfer import Transfer
from aitbc.core.peer.channel import Channel
from aitbc.core.peer.frames import FrameReader, Head, Type, frame
from aitbc.core.peer.handshake import Handshake, prologue_of, public_key_of
from aitbc.core.peer.kinds import BY_NAME, pack_answer, pack_message, unpack_answer, unpack_message
from aitbc.core.peer.reasons import PeerFault, PeerReason
from aitbc.core.types.blocks import Candidate, Certificate, Header, Validator
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.receipts import Attestation, ReceiptCore, ReceiptDetails
from aitbc.core.types.records import Account
from aitbc.core.types.transactions import Outcome, Transaction

Json = Any

HERE = Path(__file__).parent
TOOL = HERE.parents[1] / "tools" / "vectors"
WIRE_LIMIT = 1 << 20

PUBLISHED_BY_OTHERS = {"noise.json", "workshop.json"}
"""Not of our making; each names its source, and the tests of what it is about read it."""

DISAGREEMENTS: dict[str, str] = {}
"""Vectors that this implementation gets wrong, and how. Mending one fails its test here: then drop its line."""


@cache
def vectors(name: str) -> Json:
    return json.loads((HERE / f"{name}.json").read_bytes())


def cases(file: str, *path: str) -> Callable[[Any], Any]:
    """Parametrize `case` over one list of a file, named by the vectors' own names."""
    found = vectors(file)
    for step in path:
        found = found[step]
    return _parametrize(file, found)


def scheme_cases(what: str) -> Callable[[Any], Any]:
    """Parametrize `case` over one list of every scheme in schemes.json."""
    named = [
        case | {"name": f"{scheme}: {case['name']}"}
        for scheme in ("secp256k1", "rsa-pss", "multisig")
        for case in vectors("schemes")[scheme][what]
    ]
    return _parametrize("schemes", named)


def _parametrize(file: str, found: list[Json]) -> Callable[[Any], Any]:
    parameters = []
    for number, case in enumerate(found):
        name = str(case.get("name", number))
        why = DISAGREEMENTS.get(f"{file}: {name}")
        marks = [pytest.mark.xfail(reason=why, strict=True)] if why else []
        parameters.append(pytest.param(case, id=name.replace(" ", "-"), marks=marks))
    return pytest.mark.parametrize("case", parameters)


def reason_of(action: Callable[[], object]) -> str | None:
    """The reason for which something is refused; None when it is accepted."""
    try:
        action()
    except Rejected as rejection:
        return str(rejection.reason)
    return None


# The vectors as files


def test_the_generator_reproduces_every_file(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(TOOL / "make_vectors.py"), "--out", str(tmp_path)], check=True, timeout=60
    )
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ours = [path for path in HERE.glob("*.json") if path.name not in PUBLISHED_BY_OTHERS]
    assert written == {path.name: path.read_bytes() for path in ours}


def test_the_generator_is_independent() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(TOOL)!r}); import make_vectors;"
        "print(*[name for name in sys.modules if name.split('.')[0] in"
        " ('aitbc', 'msgspec', 'nacl', 'cryptography')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == []


def test_every_reason_in_the_vectors_is_published() -> None:
    named: set[str] = set()

    def collect(value: Json) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("reason"), str):
                named.add(value["reason"])
            for item in value.values():
                collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)

    for path in HERE.glob("*.json"):
        collect(vectors(path.stem))
    published = {str(reason) for reason in (*Reason, *PeerReason)}
    assert named - published - {"", "bad_request"} == set()


# Keys and addresses


@cases("addresses", "keys")
def test_key(case: Json) -> None:
    auth_key = ed25519_auth_key(bytes.fromhex(case["seed"]))
    assert auth_key.hex() == case["auth_key"]
    assert key_to_text(auth_key) == case["key_text"]
    assert key_from_text(case["key_text"]) == auth_key
    assert address_of(auth_key) == case["address"]
    assert decode_address(case["address"]).hex() == case["payload"]


def test_devnet_keys_come_from_their_mnemonic() -> None:
    published = vectors("addresses")
    assert published["mnemonic"] == DEVNET_MNEMONIC
    assert published["mnemonic_seed"] == mnemonic_seed(DEVNET_MNEMONIC).hex()
    assert {f"devnet {name}": seed.hex() for name, seed in devnet_keys().items()} == {
        case["name"]: case["seed"] for case in published["keys"]
    }


@cases("addresses", "payloads")
def test_address(case: Json) -> None:
    assert encode_address(bytes.fromhex(case["payload"])) == case["address"]
    assert decode_address(case["address"]).hex() == case["payload"]


@cases("addresses", "refused")
def test_refused_address(case: Json) -> None:
    assert reason_of(lambda: decode_address(case["address"])) == case["reason"]


@cases("addresses", "refused_keys")
def test_refused_key_text(case: Json) -> None:
    assert reason_of(lambda: key_from_text(case["key_text"])) == case["reason"]


@cases("addresses", "refused_auth_keys")
def test_refused_auth_key(case: Json) -> None:
    auth_key = bytes.fromhex(case["auth_key"])
    assert reason_of(lambda: scheme_of(auth_key)) == case["reason"]
    assert not verify(auth_key, bytes(32), bytes(64))


@cases("ed25519", "cases")
def test_ed25519(case: Json) -> None:
    key, message = b"\x00" + bytes.fromhex(case["public_key"]), bytes.fromhex(case["message"])
    assert verify(key, message, bytes.fromhex(case["signature"])) is case["valid"]


@cases("ed25519", "speccheck")
def test_ed25519_on_which_libraries_differ(case: Json) -> None:
    key, message = b"\x00" + bytes.fromhex(case["public_key"]), bytes.fromhex(case["message"])
    assert verify(key, message, bytes.fromhex(case["signature"])) is case["valid"]


def test_ed25519_of_small_order() -> None:
    """All 196 pairs of ZIP-215, over its message and, because we sign digests only, over that one's digest."""
    published = vectors("ed25519")["small_order"]
    encodings = [bytes.fromhex(encoding["bytes"]) for encoding in published["encodings"]]
    s, message = bytes.fromhex(published["s"]), bytes.fromhex(published["message"])
    assert len(encodings) == 14 and digest(message).hex() == published["digest"]
    for r in encodings:
        for key in encodings:
            assert SCHEMES[ED25519].verify(key, message, r + s) is published["valid"]
            assert verify(b"\x00" + key, digest(message), r + s) is published["valid"]


# The other schemes


@scheme_cases("keys")
def test_key_of_another_scheme(case: Json) -> None:
    auth_key = bytes.fromhex(case["auth_key"])
    assert key_to_text(auth_key) == case["key_text"]
    assert key_from_text(case["key_text"]) == auth_key
    assert address_of(auth_key) == case["address"]
    assert list(verifications(auth_key)) == case["verifications"]


@scheme_cases("cases")
def test_signature_of_another_scheme(case: Json) -> None:
    auth_key = bytes.fromhex(case["auth_key"])
    assert verify(auth_key, bytes.fromhex(case["digest"]), bytes.fromhex(case["signature"])) is case["valid"]


@scheme_cases("refused_keys")
def test_refused_key_of_another_scheme(case: Json) -> None:
    auth_key = bytes.fromhex(case["auth_key"])
    assert reason_of(lambda: scheme_of(auth_key)) == case["reason"]
    assert reason_of(lambda: address_of(auth_key)) == case["reason"]
    assert not verify(auth_key, bytes(32), bytes(64))


@cases("schemes", "refused_key_texts")
def test_refused_key_text_of_another_scheme(case: Json) -> None:
    assert reason_of(lambda: key_from_text(case["key_text"])) == case["reason"]


@cases("schemes", "secp256k1", "keys")
def test_secp256k1_signs_as_published(case: Json) -> None:
    auth_key, secret = bytes.fromhex(case["auth_key"]), bytes.fromhex(case["secret"])
    assert secp256k1_auth_key(secret) == auth_key
    signed = [
        good
        for good in vectors("schemes")["secp256k1"]["cases"]
        if good["auth_key"] == case["auth_key"] and good["name"].startswith("good")
    ]
    assert signed
    for good in signed:
        assert sign_secp256k1(secret, bytes.fromhex(good["digest"])).hex() == good["signature"]


# Canonical JSON


@cases("jcs", "values")
def test_canonical_json(case: Json) -> None:
    raw = bytes.fromhex(case["bytes"])
    assert jcs(case["value"]) == raw
    assert plain_json(raw) == case["value"]


@cases("jcs", "texts")
def test_json_text(case: Json) -> None:
    raw = bytes.fromhex(case["bytes"])
    as_canonical = reason_of(lambda: parse_jcs(raw, Transfer))
    as_json = reason_of(lambda: convert(plain_json(raw), Transfer))
    assert as_canonical == case["canonical"]
    assert as_json in case["json"] if isinstance(case["json"], list) else as_json == case["json"]
    if case["canonical"] is None:
        assert jcs(parse_jcs(raw, Transfer)) == raw


# Transactions


@cases("transactions", "good")
def test_transaction(case: Json) -> None:
    genesis_hash = bytes.fromhex(vectors("transactions")["genesis_hash"])
    tx = transaction_from_json(json.dumps(case["json"]).encode())
    assert (tx.payload.hex(), tx.witness.hex()) == (case["payload"], case["witness"])
    tx_id = digests.transaction_id(tx, genesis_hash)
    assert tx_id.hex() == case["id"]
    assert "preimage" not in case or digest(bytes.fromhex(case["preimage"])).hex() == case["id"]
    assert tx.sig.hex() == case["sig"]
    if case["seed"] is not None:
        assert sign_ed25519(bytes.fromhex(case["seed"]), tx_id).hex() == case["sig"]
    assert pack(tx).hex() == case["wire"]
    assert unpack(bytes.fromhex(case["wire"]), Transaction, limit=WIRE_LIMIT) == tx
    assert transaction_to_plain(tx) == case["json"]
    verified = verify_transaction(tx, genesis_hash)
    assert (verified.id.hex(), verified.wid.hex()) == (case["id"], case["wid"])
    assert jcs(verified.payload).hex() == case["payload"]
    check_sender(NEW_ACCOUNT, verified)
    for version in (1, 2):
        context = _context(version)
        expected = None if version >= case["since"] else "not_active"
        assert reason_of(lambda context=context: check_active(context, verified)) == expected


def _context(version: int) -> BlockContext:
    return BlockContext(
        version=version,
        chain_id="ait-devnet",
        genesis_hash=bytes(32),
        height=1,
        timestamp_ms=0,
        proposer="",
        parent=bytes(32),
        epoch_length=600,
        params=Params(),
    )


@cases("transactions", "refused_json")
def test_refused_transaction_json(case: Json) -> None:
    genesis_hash = bytes.fromhex(vectors("transactions")["genesis_hash"])
    raw = case["text"].encode() + b" " * case.get("spaces", 0)
    assert reason_of(lambda: verify_transaction(transaction_from_json(raw), genesis_hash)) == case["reason"]


@cases("transactions", "refused_wire")
def test_refused_transaction_wire(case: Json) -> None:
    genesis_hash, raw = bytes.fromhex(vectors("transactions")["genesis_hash"]), bytes.fromhex(case["wire"])

    def accept() -> None:
        verify_transaction(unpack(raw, Transaction, limit=WIRE_LIMIT), genesis_hash)

    assert reason_of(accept) == case["reason"]


@cases("transactions", "wrong_key")
def test_key_of_somebody_else(case: Json) -> None:
    """Form and signature are good; that the key is not the sender's is for the state to say."""
    genesis_hash = bytes.fromhex(vectors("transactions")["genesis_hash"])
    verified = verify_transaction(transaction_from_plain(case["json"]), genesis_hash)
    assert reason_of(lambda: check_sender(NEW_ACCOUNT, verified)) == case["reason"]


# Batches


@cases("batches", "batches")
def test_batch(case: Json) -> None:
    locks, providers = [bytes.fromhex(lock) for lock in case["locks"]], case["providers"]
    leaves = [
        Leaf(
            bytes.fromhex(entry["receipt"]),
            case["locks"].index(entry["lock"]),
            providers.index(entry["provider"]),
            entry["task"],
            entry["attempt"],
            ROUTED.index(entry["routed"]),
            entry["units"],
            entry["price"],
        )
        for entry in case["receipts"]
    ]
    assert pack_leaves(leaves) == case["leaves"]
    raw = leaf_bytes_of(case["leaves"])
    assert raw.hex() == "".join(entry["leaf"] for entry in case["receipts"])
    check_leaves(raw, locks=len(locks), providers=len(providers))
    committed = committed_leaves(raw, locks, [provider.encode() for provider in providers])
    assert [leaf.hex() for leaf in committed] == [entry["committed"] for entry in case["receipts"]]
    path = [bytes.fromhex(node) for node in case["proof"]]
    root = range_root(committed, start=case["start"], count=case["count"], path=path)
    assert root is not None and root.hex() == case["root"]


@cases("batches", "refused_leaves")
def test_refused_leaves(case: Json) -> None:
    tables = {name: case[name] for name in ("locks", "providers", "leaves")}

    def accept() -> None:
        payload = convert({"batch": "0" * 64, "start": 0, "proof": []} | tables, settle.Settle)
        settle.check(payload, None, bytes(32))

    assert reason_of(accept) == case["reason"]


@cases("batches", "ranges")
def test_ranges(case: Json) -> None:
    count, root = case["count"], bytes.fromhex(case["root"])
    leaves = [f"leaf {i}".encode() for i in range(count)]
    assert list_root(leaves) == root
    for entry in case["proofs"]:
        start, stop = entry["start"], entry["stop"]
        path = prove_range(leaves, start, stop)
        assert [node.hex() for node in path] == entry["proof"]
        assert range_root(leaves[start:stop], start=start, count=count, path=path) == root
        assert range_root(leaves[start:stop], start=start + 1, count=count, path=path) != root


@cases("batches", "refused_ranges", "cases")
def test_refused_range(case: Json) -> None:
    leaves, path = ([bytes.fromhex(part) for part in case[name]] for name in ("leaves", "proof"))
    root = range_root(leaves, start=case["start"], count=case["count"], path=path)
    assert root is None or root.hex() != vectors("batches")["refused_ranges"]["root"]


# Digests of version 2


def _assert_signed(case: Json, signed: bytes) -> None:
    assert signed.hex() == case["digest"] == digest(bytes.fromhex(case["preimage"])).hex()
    assert verify(bytes.fromhex(case["auth_key"]), signed, bytes.fromhex(case["sig"]))


def _genesis_hash() -> bytes:
    return bytes.fromhex(vectors("digests")["genesis_hash"])


@cases("digests", "rotations")
def test_rotation(case: Json) -> None:
    new_key = key_from_text(case["key_text"])
    assert new_key.hex() == case["new_auth_key"]
    _assert_signed(case, digests.rotation_digest(case["sender"], new_key, _genesis_hash()))


@cases("digests", "updates")
def test_update(case: Json) -> None:
    payload = convert(case["payload"], param_update.ParamUpdate)
    _assert_signed(case, digests.param_update_digest(jcs(payload), _genesis_hash()))


@cases("digests", "votes")
def test_vote(case: Json) -> None:
    voted = digests.vote_digest(
        kind=case["kind"],
        epoch=case["epoch"],
        slot=case["slot"],
        candidate=bytes.fromhex(case["candidate"]),
        chain_id=vectors("digests")["chain_id"],
        genesis_hash=_genesis_hash(),
    )
    _assert_signed(case, voted)


@cases("digests", "countersignatures")
def test_countersignatures(case: Json) -> None:
    _assert_signed(case, digests.countersignature_digest(case["provider"], case["hub"], _genesis_hash()))


@cases("digests", "compute_for")
def test_words_of_validators(case: Json) -> None:
    _assert_signed(case, digests.compute_for_digest(case["provider"], case["validator"], _genesis_hash()))


@cases("digests", "calibrations")
def test_calibration(case: Json) -> None:
    drawn = calibration_nonce(_genesis_hash(), case["epoch"], case["seed"], case["provider"])
    assert drawn == case["digest"] == digest(bytes.fromhex(case["preimage"])).hex()
    assert calibration_job(case["epoch"], case["provider"]) == case["job_id"]


@cases("digests", "offences")
def test_offence(case: Json) -> None:
    what = [str(case[name]) for name in ("epoch", "lock", "task", "attempt") if name in case]
    offence = digests.offence_digest(case["kind"], case["offender"], *what)
    assert offence.hex() == case["digest"] == digest(bytes.fromhex(case["preimage"])).hex()


# Fees and parameters


@cases("fees", "tariffs")
def test_least_fee(case: Json) -> None:
    params = convert(case["params"], Params)
    keys = {entry["name"]: bytes.fromhex(entry["auth_key"]) for entry in vectors("fees")["keys"]}
    for entry in case["least"]:
        assert required_fee(params, entry["payload_bytes"], keys[entry["key"]]) == entry["fee"]
    for entry in case["signatures"]:
        assert signature_fee(params, keys[entry["key"]]) == entry["fee"]


@cases("fees", "keys")
def test_verifications(case: Json) -> None:
    assert list(verifications(bytes.fromhex(case["auth_key"]))) == case["verifications"]


@cases("fees", "splits")
def test_fee_split(case: Json) -> None:
    params = Params(fee_burn_bp=case["fee_burn_bp"])
    assert split_fee(params, case["fee"]) == (case["burned"], case["earned"])


@cases("params", "versions")
def test_version(case: Json) -> None:
    params = convert({"activations": case["activations"]}, Params)
    assert [[height, version_at(params, height)] for height, _ in case["of"]] == case["of"]


@cases("params", "updates")
def test_updated_parameter(case: Json) -> None:
    assert _refusal_of_update({"set": {case["parameter"]: case["value"]}}) == case["reason"]


@cases("params", "authorities")
def test_updated_authorities(case: Json) -> None:
    assert _refusal_of_update({"authorities": case["authorities"]}) == case["reason"]


def _refusal_of_update(fields: Json) -> str:
    def accept() -> None:
        payload = convert({"number": 1} | fields, param_update.ParamUpdate)
        param_update.check(payload, param_update.Approvals(bitmap=1, sigs=[]), bytes(32))

    return reason_of(accept) or ""


# Receipts


@cases("receipts", "cores")
def test_receipt_core(case: Json) -> None:
    genesis_hash = bytes.fromhex(vectors("receipts")["genesis_hash"])
    core = parse_jcs(bytes.fromhex(case["jcs"]), ReceiptCore)
    assert core == convert(case["json"], ReceiptCore)
    assert jcs(core).hex() == case["jcs"]
    core_digest = digests.receipt_core_digest(core, genesis_hash)
    assert core_digest.hex() == case["digest"] == digest(bytes.fromhex(case["preimage"])).hex()
    assert digests.receipt_id_of(core, genesis_hash) == case["receipt_id"]
    assert sign_ed25519(bytes.fromhex(case["seed"]), core_digest).hex() == case["miner_sig"]


@cases("receipts", "details")
def test_receipt_details(case: Json) -> None:
    details = parse_jcs(bytes.fromhex(case["jcs"]), ReceiptDetails)
    assert details == convert(case["json"], ReceiptDetails)
    assert digests.details_hash_of(details) == case["details_hash"]


@cases("receipts", "attestations")
def test_attestation(case: Json) -> None:
    genesis_hash = bytes.fromhex(vectors("receipts")["genesis_hash"])
    attestation = parse_jcs(bytes.fromhex(case["jcs"]), Attestation)
    assert attestation == convert(case["json"], Attestation)
    attested = digests.attestation_digest(attestation, genesis_hash)
    assert attested.hex() == case["digest"]
    assert sign_ed25519(bytes.fromhex(case["seed"]), attested).hex() == case["sig"]


def test_countersignature() -> None:
    case = vectors("receipts")["countersignature"]
    genesis_hash = bytes.fromhex(vectors("receipts")["genesis_hash"])
    signed = digests.countersignature_digest(case["provider"], case["hub"], genesis_hash)
    assert signed.hex() == case["digest"]
    assert sign_ed25519(bytes.fromhex(case["seed"]), signed).hex() == case["sig"]


@cases("receipts", "seed003")
def test_seed003_export(case: Json) -> None:
    receipt = seed003_receipt(convert(case["details"], ReceiptDetails))
    assert seed003_bytes(receipt).decode() == case["json"]
    assert seed003_hash(receipt) == case["sha256"]


@cases("receipts", "seed003")
def test_seed003_export_for_contracts(case: Json) -> None:
    pytest.importorskip("Crypto.Hash.keccak", reason="needs the extra `evm`")
    receipt = seed003_receipt(convert(case["details"], ReceiptDetails))
    assert seed003_hash(receipt, "keccak256") == case["keccak256"]


# Headers, outcomes, trees


@cases("headers", "headers")
def test_header(case: Json) -> None:
    header = header_from_plain(case["json"])
    assert digests.header_hash(header).hex() == case["hash"] == digest(bytes.fromhex(case["preimage"])).hex()
    assert header_to_plain(header, bytes.fromhex(case["hash"])) == case["json"]
    assert pack(header).hex() == case["wire"]
    assert unpack(bytes.fromhex(case["wire"]), Header, limit=WIRE_LIMIT) == header


def test_every_field_changes_the_block_hash() -> None:
    hashes = [case["hash"] for case in vectors("headers")["headers"]]
    assert len(set(hashes)) == len(hashes)


@cases("headers", "refused")
def test_refused_header(case: Json) -> None:
    assert reason_of(lambda: header_from_plain(case["json"])) == case["reason"]


def test_outcomes() -> None:
    published = vectors("headers")["outcomes"]
    leaves = []
    for case in published["list"]:
        events = [(kind, key, amount) for kind, key, amount in case["events"]]
        for message in ("", "the message is for people"):
            outcome = Outcome(
                bytes.fromhex(case["tx_id"]), case["ok"], case["reason"], message, case["fee"], events
            )
            assert digests.outcome_leaf(outcome).hex() == case["leaf"]
        leaves.append(bytes.fromhex(case["leaf"]))
    assert list_root(leaves).hex() == published["outcomes_root"]


def _list_proof(plain: Json) -> ListProof:
    return ListProof(plain["index"], plain["count"], [bytes.fromhex(node) for node in plain["path"]])


@cases("lists", "lists")
def test_list(case: Json) -> None:
    leaves = [bytes.fromhex(leaf) for leaf in case["leaves"]]
    root = list_root(leaves)
    assert root.hex() == case["root"]
    for index, plain in enumerate(case["proofs"]):
        proof = prove_item(leaves, index)
        assert proof == _list_proof(plain)
        assert [check_item(root, leaf, proof) for leaf in leaves] == [i == index for i in range(len(leaves))]


@cases("lists", "refused", "cases")
def test_refused_list_proof(case: Json) -> None:
    root = bytes.fromhex(vectors("lists")["refused"]["root"])
    assert not check_item(root, bytes.fromhex(case["leaf"]), _list_proof(case["proof"]))


def test_mountains() -> None:
    published = vectors("mountains")
    ranges, _ = _mountain_range()
    for case, peaks in zip(published["ranges"], ranges, strict=True):
        assert [[height, node.hex()] for height, node in peaks] == case["peaks"]
        assert [height for height, _ in peak_places(case["count"])] == [height for height, _ in peaks]
        assert peaks_root(peaks).hex() == case["root"]


@cache
def _mountain_range() -> tuple[list[Peaks], dict[tuple[int, int], bytes]]:
    """The peaks after each leaf, and every node by its place."""
    ranges: list[Peaks] = [[]]
    nodes: dict[tuple[int, int], bytes] = {}
    for leaf in vectors("mountains")["leaves"]:
        peaks, made = append_leaf(ranges[-1], bytes.fromhex(leaf))
        ranges.append(peaks)
        nodes.update({(level, position): node for level, position, node in made})
    return ranges, nodes


def _proves_ancestor(root: bytes, plain: Json) -> bool:
    nodes = [bytes.fromhex(node) for node in plain["nodes"]]
    return check_leaf_in_history(root, bytes.fromhex(plain["leaf"]), plain["index"], plain["count"], nodes)


@cases("mountains", "proofs")
def test_history_proof(case: Json) -> None:
    ranges, nodes = _mountain_range()
    index, count = case["index"], case["count"]
    assert [nodes[place].hex() for place in proof_places(index, count)] == case["nodes"]
    assert _proves_ancestor(peaks_root(ranges[count]), case)


@cases("mountains", "refused", "cases")
def test_refused_history_proof(case: Json) -> None:
    assert not _proves_ancestor(bytes.fromhex(vectors("mountains")["refused"]["root"]), case["proof"])


def _tree_proof(plain: Json) -> TreeProof:
    return TreeProof(
        plain["index"],
        plain["count"],
        bytes.fromhex(plain["key"]),
        bytes.fromhex(plain["value"]),
        bytes.fromhex(plain["next_key"]),
        [(bytes.fromhex(a), bytes.fromhex(b), bytes.fromhex(c)) for a, b, c in plain["groups"]],
    )


@cache
def _grown_tree() -> tuple[IndexedTree, dict[str, bytes]]:
    """The tree after all steps, and its values."""
    published = vectors("indexed_tree")
    tree, values = IndexedTree(published["store"]), dict[str, bytes]()
    for step in published["steps"]:
        key = step["key"]
        if key:
            values[key] = step["value"].encode()
            tree.update({key: values[key]}, values.__getitem__)
        assert tree.index_of(key) == step["index"]
        assert tree.root().hex() == step["root"]
    return tree, values


def test_indexed_tree_grows_as_published() -> None:
    steps = vectors("indexed_tree")["steps"]
    assert len(_grown_tree()[0]) == len({step["key"] for step in steps}) - 1


@cases("indexed_tree", "inclusion")
def test_tree_inclusion(case: Json) -> None:
    tree, values = _grown_tree()
    key, proof = bytes.fromhex(case["key"]), _tree_proof(case["proof"])
    assert tree.prove(key.decode(), values.__getitem__) == proof
    assert proves_value(tree.root(), tree.name, key, proof.value, proof)
    assert not proves_value(tree.root(), "locks", key, proof.value, proof)
    assert not proves_absence(tree.root(), tree.name, key, proof)


@cases("indexed_tree", "absence")
def test_tree_absence(case: Json) -> None:
    tree, values = _grown_tree()
    key, proof = bytes.fromhex(case["key"]), _tree_proof(case["proof"])
    assert tree.prove(key.decode(), values.__getitem__) == proof
    assert proves_absence(tree.root(), tree.name, key, proof)
    assert not proves_value(tree.root(), tree.name, key, proof.value, proof)


@cases("indexed_tree", "refused_inclusion")
def test_refused_tree_inclusion(case: Json) -> None:
    tree, proof = _grown_tree()[0], _tree_proof(case["proof"])
    assert not proves_value(tree.root(), tree.name, proof.key, proof.value, proof)


@cases("indexed_tree", "refused_absence")
def test_refused_tree_absence(case: Json) -> None:
    tree, key = _grown_tree()[0], bytes.fromhex(case["key"])
    assert not proves_absence(tree.root(), tree.name, key, _tree_proof(case["proof"]))


def test_blocks_move_keys_in_and_out_of_the_tree_as_published() -> None:
    """Forward block by block, then back; on the way every proof, and at the end every proof of the past."""
    blocks = vectors("indexed_tree")["blocks"]
    tree, past = IndexedTree("locks"), list[dict[str, bytes]]()
    values: dict[str, bytes] = {}
    undos: list[TreeUndo] = []
    for block in blocks:
        changes = {change["key"]: _value(change["value"]) for change in block["changes"]}
        values = {key: value for key, value in {**values, **changes}.items() if value is not None}
        past.append(values)
        undos.append(tree.update(changes, values.__getitem__))
        assert (tree.root().hex(), len(tree) + 1) == (block["root"], len(block["slots"]))
        assert {key: tree.index_of(key) for key in block["slots"]} == block["slots"]
        loaded = IndexedTree("locks")
        loaded.load([(slot, key, values[key]) for key, slot in block["slots"].items() if key])
        assert loaded.root() == tree.root()
        for case in block["proofs"]:
            _check_block_proof(tree, case, values, [], block)
    for number, block in enumerate(blocks):
        since = undos[number + 1 :]
        assert tree.root_before(since).hex() == block["root"]
        for case in block["proofs"]:
            _check_block_proof(tree, case, past[number], since, block)
    for block in reversed(blocks):
        assert tree.root().hex() == block["root"]
        tree.undo(undos.pop())
    assert tree.root() == IndexedTree("locks").root()


def _value(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _check_block_proof(
    tree: IndexedTree, case: Json, values: dict[str, bytes], since: list[TreeUndo], block: Json
) -> None:
    key, proof, root = case["asked"], _tree_proof(case["proof"]), bytes.fromhex(block["root"])
    assert proof.count == block["count"]
    assert tree.prove(key, values.__getitem__, since) == proof
    if key in values:
        assert proves_value(root, "locks", key.encode(), values[key], proof)
    else:
        assert proves_absence(root, "locks", key.encode(), proof)


# Ledger records and genesis


@cases("records", "accounts")
def test_account_record(case: Json) -> None:
    account = Account(int(case["balance"]), case["nonce"], bytes.fromhex(case["auth"]))
    assert record_bytes(account).hex() == case["bytes"]
    assert record_from_bytes("accounts", "", bytes.fromhex(case["bytes"])) == account


@cases("records", "json_records")
def test_json_record(case: Json) -> None:
    record = record_from_bytes(case["store"], case["key"], bytes.fromhex(case["bytes"]))
    assert record_bytes(record).hex() == case["bytes"]
    assert msgspec.json.decode(record_bytes(record)) == case["record"]


@cases("records", "refused")
def test_refused_record(case: Json) -> None:
    raw = bytes.fromhex(case["bytes"])
    assert reason_of(lambda: record_from_bytes(case["store"], case["key"], raw)) == case["reason"]


@cases("genesis", "chains")
def test_genesis(case: Json) -> None:
    loaded = load_genesis(parse_genesis(json.dumps(case["document"]).encode()))
    assert loaded.document.hex() == genesis_document(loaded.genesis).hex() == case["canonical"]
    assert loaded.hash.hex() == case["genesis_hash"]
    assert [
        {"store": change.store, "key": change.key, "index": change.index, "bytes": change.data.hex()}
        for change in loaded.first.changes
    ] == case["records"]
    assert {name: root.hex() for name, root in loaded.state.store_roots().items()} == case["store_roots"]
    assert loaded.state.root().hex() == case["state_root"]
    assert digests.validators_hash(loaded.validators).hex() == case["validators_hash"]
    assert loaded.block.hash.hex() == case["block_hash"]
    assert header_to_plain(loaded.block.block.header, loaded.block.hash) == case["header"]
    roots = loaded.state.store_roots()
    assert loaded.state.prove("params", "base_fee") == (_tree_proof(case["inclusion"]), roots)
    provider = address_of(ed25519_auth_key(devnet_keys()["provider"]))
    assert loaded.state.prove("accounts", provider) == (_tree_proof(case["absence"]), roots)
    assert proves_absence(roots["accounts"], "accounts", provider.encode(), _tree_proof(case["absence"]))


def test_the_devnet_has_the_published_genesis() -> None:
    auth_keys = {name: ed25519_auth_key(seed) for name, seed in devnet_keys().items()}
    assert genesis_document(devnet_genesis(auth_keys)).hex() == vectors("genesis")["chains"][0]["canonical"]


@cases("genesis", "refused")
def test_refused_genesis(case: Json) -> None:
    document = vectors("genesis")["chains"][0]["document"] | case.get("change", {})
    document = {key: value for key, value in document.items() if key != case.get("without")}
    assert reason_of(lambda: parse_genesis(json.dumps(document).encode())) == case["reason"]


# Agreement


def _certificate(plain: Json) -> Certificate:
    candidate = Candidate(
        plain["epoch"],
        plain["slot"],
        plain["parentSlot"],
        bytes.fromhex(plain["parentId"]),
        bytes.fromhex(plain["blockHash"]),
    )
    signatures = [bytes.fromhex(signature) for signature in plain["signatures"]]
    return Certificate(plain["kind"], candidate, plain["bitmap"], signatures)


def _members(plain: Json) -> list[Validator]:
    return [
        Validator(member["address"], bytes.fromhex(member["auth_key"]), member["power"])
        for member in plain["members"]
    ]


def _check(certificate: Certificate, members: list[Validator]) -> None:
    published = vectors("certificates")
    check_certificate(
        certificate,
        members,
        chain_id=published["chain_id"],
        genesis_hash=bytes.fromhex(published["genesis_hash"]),
    )


@cases("certificates", "sets")
def test_certificates(case: Json) -> None:
    published, members = vectors("certificates"), _members(case)
    chain_id, genesis_hash = published["chain_id"], bytes.fromhex(published["genesis_hash"])
    assert digests.validators_hash(members).hex() == case["validators_hash"]
    assert quorum_of(members) == case["quorum"]
    for entry in case["certificates"]:
        certificate = _certificate(entry["json"])
        _check(certificate, members)
        assert certificate_to_plain(certificate) == entry["json"]
        assert pack(certificate).hex() == entry["wire"]
        assert unpack(bytes.fromhex(entry["wire"]), Certificate, limit=WIRE_LIMIT) == certificate
        candidate = certificate.candidate
        name = digests.candidate_id(candidate, chain_id, genesis_hash)
        assert name.hex() == case["candidate_id"]
        assert case["vote_digests"] == {
            kind: digests.vote_digest(
                kind=kind,
                epoch=candidate.epoch,
                slot=candidate.slot,
                candidate=name,
                chain_id=chain_id,
                genesis_hash=genesis_hash,
            ).hex()
            for kind in ("candidate", "notar", "skip", "final")
        }


@cases("certificates", "refused")
def test_refused_certificate(case: Json) -> None:
    members = _members(vectors("certificates")["sets"][1])
    assert reason_of(lambda: _check(_certificate(case["json"]), members)) == case["reason"]


@cases("certificates", "powers")
def test_quorum(case: Json) -> None:
    assert quorum_of([Validator("", b"", power) for power in case["powers"]]) == case["quorum"]


# Jobs


@cases("jobs", "profiles")
def test_profile(case: Json) -> None:
    profile = units.profile_of(case["profile"]["model"])
    assert json.loads(jcs(profile)) == case["profile"]
    assert units.profile_digest(profile) == case["digest"]


@cases("jobs", "requests")
def test_request(case: Json) -> None:
    profile = units.profile_of(case["model"])
    request = requests.normalise_request(profile, case["fields"], nonce=case["nonce"])
    assert request == case["request"]
    assert jcs(request).hex() == case["jcs"]
    assert requests.request_hash_of(request) == case["request_hash"]
    assert requests.prompt_hash_of(request) == case["prompt_hash"]
    requests.check_normalised(profile, request)


@cases("jobs", "refused_requests")
def test_refused_request(case: Json) -> None:
    with pytest.raises(Refused) as refused:
        requests.normalise_request(units.profile_of(case["model"]), case["fields"], nonce="0" * 32)
    assert str(refused.value.reason) == case["reason"]


@cases("jobs", "units")
def test_units(case: Json) -> None:
    profile = units.profile_of(case["model"])
    request = requests.normalise_request(profile, case["fields"], nonce="0" * 32)
    assert units.actual_units(profile, request, case["counts"]) == case["units"]
    assert units.worst_case_units(profile, request) == case["worst_case"]


@cases("jobs", "prices")
def test_price(case: Json) -> None:
    assert units.price_of(case["units"], case["price_per_kilounit"]) == case["price"]


@cases("jobs", "draws")
def test_draw(case: Json) -> None:
    table = [convert(row, draw.Candidate) for row in case["table"]]
    assert draw.candidates_hash(table) == case["candidates_hash"]
    ticket = draw.ticket_of(lock=case["lock"], task=case["task"], attempt=case["attempt"])
    assert ticket == case["ticket"]
    winner = draw.draw(table=table, ticket=ticket, randomness=bytes.fromhex(case["randomness"]))
    assert winner.address == case["winner"]


@cases("jobs", "weights")
def test_weight(case: Json) -> None:
    facts = matching.Facts(
        address="", model="", model_digest="", price_per_kilounit=case["price_per_kilounit"], slots=1
    )
    got = matching.weight_on_wheel(
        facts, quoted_per_kilounit=case["quoted_per_kilounit"], quality=case["quality"]
    )
    assert got == case["weight"]


# Between nodes


def log_frames() -> list[list[LogRecord]]:
    return [
        [unpack(bytes.fromhex(record), LogRecord, limit=WIRE_LIMIT) for record in records]  # type: ignore[arg-type]
        for records in vectors("logs")["frames"]
    ]


def test_a_log_is_written_as_published() -> None:
    case = vectors("logs")
    mark = bytes.fromhex(case["mark"])
    frames = b"".join(encode_frame(records, mark) for records in log_frames())
    (whole,) = [found for found in case["logs"] if found["name"] == "whole"]
    assert (log_head(bytes.fromhex(case["genesis_hash"]), mark) + frames).hex() == whole["log"]


@cases("logs", "logs")
def test_log(case: Json) -> None:
    read = read_log(bytes.fromhex(case["log"]), bytes.fromhex(vectors("logs")["genesis_hash"]))
    assert read.records == [record for records in log_frames()[: case["frames"]] for record in records]
    assert (read.length, read.mark.hex()) == (case["length"], case["mark"])


@cases("logs", "refused")
def test_refused_log(case: Json) -> None:
    log, genesis_hash = bytes.fromhex(case["log"]), bytes.fromhex(vectors("logs")["genesis_hash"])
    assert reason_of(lambda: read_log(log, genesis_hash)) == case["reason"]


def test_a_conversation_of_two_nodes() -> None:
    case = vectors("p2p")["conversation"]
    prologue = prologue_of(chain_id=case["chain_id"], genesis_hash=bytes.fromhex(case["genesis_hash"]))
    assert prologue.hex() == case["prologue"]
    shakes = {
        name: Handshake(
            initiator=name == "alice",
            prologue=prologue,
            static=bytes.fromhex(case[f"{name}_static"]),
            ephemeral=bytes.fromhex(case[f"{name}_ephemeral"]),
        )
        for name in ("alice", "bob")
    }
    sides = {name: Channel(shake) for name, shake in shakes.items()}
    plaintexts = [(said["from"], bytes.fromhex(said["bytes"])) for said in case["plaintexts"]]
    for number, record in enumerate(case["records"]):
        writer, reader = sides[record["from"]], sides["bob" if record["from"] == "alice" else "alice"]
        if number < 3:
            data, expected = writer.outgoing(), []
        else:
            assert plaintexts[number - 3][0] == record["from"]
            expected = [plaintexts[number - 3][1]]
            data = writer.seal(expected[0])
        assert data.hex() == record["bytes"]
        assert reader.receive(data) == expected
    for name, other in (("alice", "bob"), ("bob", "alice")):
        assert sides[name].remote.hex() == case[f"{other}_node_key"]
        assert public_key_of(bytes.fromhex(case[f"{name}_static"])).hex() == case[f"{name}_node_key"]
        assert shakes[name].hash.hex() == case["handshake_hash"]


@cases("p2p", "frames")
def test_frame(case: Json) -> None:
    kind, payload = bytes.fromhex(case["kind"]), bytes.fromhex(case["payload"])
    data = bytes.fromhex(case["bytes"])
    assert frame(Type(case["type"]), case["id"], kind, payload) == data
    head = Head(case["type"], case["id"], kind, len(payload))
    assert list(FrameReader(lambda _: None).feed(data)) == [(head, payload)]


@cases("p2p", "refused_frames")
def test_refused_frame(case: Json) -> None:
    data = bytes.fromhex(case["bytes"])
    reader = FrameReader(lambda _: None)
    assert list(reader.feed(data[:-1])) == []
    with pytest.raises(PeerFault) as caught:
        list(reader.feed(data[-1:]))
    assert caught.value.reason == case["reason"]


@cases("p2p", "payloads")
def test_peer_payload(case: Json) -> None:
    kind, data = BY_NAME[case["kind"].encode()], bytes.fromhex(case["bytes"])
    decode, encode = (
        (unpack_message, pack_message) if case["part"] == "message" else (unpack_answer, pack_answer)
    )
    message = decode(kind, data)
    assert encode(kind, message) == data

    def shown(value: Any) -> Json:
        if isinstance(value, bytes):
            return "0x" + value.hex()
        return [shown(item) for item in value] if isinstance(value, list | tuple) else value

    assert shown(msgspec.to_builtins(message, builtin_types=(bytes,))) == case["record"]


@cases("p2p", "refused_payloads")
def test_refused_peer_payload(case: Json) -> None:
    with pytest.raises(PeerFault) as caught:
        unpack_message(BY_NAME[case["kind"].encode()], bytes.fromhex(case["bytes"]))
    assert caught.value.reason == case["reason"]
