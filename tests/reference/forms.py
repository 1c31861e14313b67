"""Stateless checks of a transaction. docs/spec/transactions.md, docs/spec/encoding.md

Right for one fault at a time: which of several faults is named, the specification leaves open inside one decoding.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeVar

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.codec.wire import unpack
from aitbc.core.crypto.address import address_of, check_address
from aitbc.core.crypto.hashing import tagged, u64
from aitbc.core.crypto.schemes import scheme_of, verify
from aitbc.core.types.blocks import Header
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import Transaction

Kind = TypeVar("Kind", Header, Transaction)

MAX = 2**53 - 1
UNITS = 10**12
NEEDED: Any = object()
"""The default of a field that has none."""

Check = Callable[[Any], None]
Form = dict[str, tuple[Check, Any]]


class Invalid(Exception):
    """Can be in no block."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def need(condition: bool, reason: str) -> None:
    if not condition:
        raise Invalid(reason)


def integer(low: int, high: int) -> Check:
    def check(value: Any) -> None:
        need(type(value) is int, "wrong_type")
        need(low <= value <= high, "out_of_range")

    return check


def text(low: int = 0, high: int = 10**6, pattern: str = "") -> Check:
    def check(value: Any) -> None:
        need(type(value) is str, "wrong_type")
        need(low <= len(value) <= high, "out_of_range")
        need(not pattern or bool(re.fullmatch(pattern, value)), "wrong_type")

    return check


def choice(*choices: str) -> Check:
    return lambda value: need(type(value) is str and value in choices, "wrong_type")


def boolean(value: Any) -> None:
    need(type(value) is bool, "wrong_type")


def plain_object(value: Any) -> None:
    need(type(value) is dict, "wrong_type")


def list_of(item: Check, low: int = 0, high: int = 10**6) -> Check:
    def check(value: Any) -> None:
        need(type(value) is list, "wrong_type")
        need(low <= len(value) <= high, "out_of_range")
        for one in value:
            item(one)

    return check


SPELLED_OUT: list[str] = []
"""Fields of the value that is being decoded that are there at their default: its bytes are not canonical, which is seen
when all of it has been decoded (encoding.md, "A canonical decoder")."""


def record(form: Form) -> Check:
    def check(value: Any) -> None:
        need(type(value) is dict, "wrong_type")
        for name, (check_field, default) in form.items():
            need(name in value or default is not NEEDED, "missing_field")
            if name in value:
                spelled_out = (
                    default is not NEEDED and value[name] == default and type(value[name]) is type(default)
                )
                if spelled_out:
                    SPELLED_OUT.append(name)
                else:
                    check_field(value[name])
        need(set(value) <= set(form), "unknown_field")

    return check


LABEL = text(1, 128)
HASH = text(pattern=r"sha256:[0-9a-f]{64}")
HASH_OR_NOT = text(pattern=r"(sha256:[0-9a-f]{64})?")
ID = text(pattern=r"[0-9a-f]{64}")
ID_OR_NOT = text(pattern=r"([0-9a-f]{64})?")
AMOUNT = integer(1, MAX)
ANY_AMOUNT = integer(0, MAX)
ROLE = choice("validator", "provider", "hub")

OFFER: Form = {
    "model": (text(), NEEDED),
    "kind": (text(), NEEDED),
    "price_per_kilounit": (ANY_AMOUNT, NEEDED),
    "digest": (text(), ""),
}
ATTESTATION: Form = {
    "receipt_id": (text(), NEEDED),
    "lock": (ID_OR_NOT, NEEDED),
    "job_id": (LABEL, NEEDED),
    "hub": (text(), NEEDED),
    "client": (text(), NEEDED),
    "provider": (text(), NEEDED),
    "task": (integer(0, 4095), NEEDED),
    "attempt": (integer(0, 255), NEEDED),
    "units": (integer(1, UNITS), NEEDED),
    "price": (ANY_AMOUNT, NEEDED),
    "output_hash": (HASH, NEEDED),
    "routed": (choice("random", "chosen", "synthetic", "calibration"), NEEDED),
    "candidates_hash": (HASH_OR_NOT, ""),
}
SIGNED_ATTESTATION: Form = {
    "attestation": (record(ATTESTATION), NEEDED),
    "sig": (text(), NEEDED),
    "pubkey": (text(), ""),
}
VOTE: Form = {
    "kind": (choice("candidate", "notar", "skip", "final"), NEEDED),
    "candidate": (ID, NEEDED),
    "sig": (text(0, 8_192), NEEDED),
}
PAYLOADS: dict[str, Form] = {
    "TRANSFER": {"to": (text(), NEEDED), "amount": (AMOUNT, NEEDED), "data": (text(0, 1024), "")},
    "JOB_LOCK": {
        "hub": (text(), NEEDED),
        "job_id": (LABEL, NEEDED),
        "amount": (AMOUNT, NEEDED),
        "request_hash": (HASH, NEEDED),
        "deliver_by_ms": (ANY_AMOUNT, NEEDED),
        "claim_until_ms": (ANY_AMOUNT, NEEDED),
        "tasks": (integer(1, 4096), 1),
        "session": (boolean, False),
    },
    "RECEIPT_CLAIM": {
        "job_id": (LABEL, NEEDED),
        "client_addr": (text(), NEEDED),
        "miner_addr": (text(), NEEDED),
        "compute_units": (integer(1, UNITS), NEEDED),
        "price": (ANY_AMOUNT, NEEDED),
        "output_hash": (HASH, NEEDED),
        "lock": (ID_OR_NOT, ""),
        "task": (integer(0, 4095), 0),
        "attempt": (integer(0, 255), 0),
        "nonce": (text(0, 64), ""),
        "details_hash": (HASH_OR_NOT, ""),
        "receipt_id": (text(pattern=r"rcpt_[0-9a-f]{64}"), NEEDED),
        "miner_sig": (text(0, 8192), NEEDED),
    },
    "REFUND": {"lock": (ID, NEEDED)},
    "REGISTER": {
        "role": (choice("provider", "hub"), NEEDED),
        "models": (list_of(record(OFFER), 0, 64), NEEDED),
        "endpoint": (text(0, 256), ""),
        "payout": (text(), ""),
        "validator": (text(), ""),
    },
    "RECEIPT_BATCH": {"root": (ID, NEEDED), "count": (integer(1, 1_048_576), NEEDED)},
    "SETTLE": {
        "batch": (ID, NEEDED),
        "start": (integer(0, 1_048_575), NEEDED),
        "locks": (list_of(ID, 1, 256), NEEDED),
        "providers": (list_of(text(), 1, 256), NEEDED),
        "leaves": (text(), NEEDED),
        "proof": (list_of(ID, 0, 40), NEEDED),
    },
    "STAKE": {"role": (ROLE, NEEDED), "amount": (AMOUNT, NEEDED)},
    "UNSTAKE": {"role": (ROLE, NEEDED), "amount": (AMOUNT, NEEDED)},
    "WITHDRAW": {"role": (ROLE, NEEDED)},
    "PARAM_UPDATE": {
        "number": (AMOUNT, NEEDED),
        "set": (plain_object, {}),
        "authorities": (list_of(record({"address": (text(), NEEDED), "pubkey": (text(), "")})), []),
    },
    "KEY_ROTATE": {"pubkey": (text(0, 2_064), NEEDED), "sig": (text(0, 8_192), NEEDED)},
    "EVIDENCE": {
        "votes": (
            record(
                {
                    "validator": (text(), NEEDED),
                    "epoch": (ANY_AMOUNT, NEEDED),
                    "slot": (ANY_AMOUNT, NEEDED),
                    "first": (record(VOTE), NEEDED),
                    "second": (record(VOTE), NEEDED),
                }
            ),
            None,
        ),
        "attestations": (
            record(
                {
                    "first": (record(SIGNED_ATTESTATION), NEEDED),
                    "second": (record(SIGNED_ATTESTATION), NEEDED),
                }
            ),
            None,
        ),
        "block": (
            record(
                {
                    "validator": (text(), NEEDED),
                    **dict.fromkeys(("epoch", "slot", "parent_slot"), (ANY_AMOUNT, NEEDED)),
                    "parent_id": (ID, NEEDED),
                    "sig": (text(0, 8_192), NEEDED),
                    **dict.fromkeys(("header", "tx"), (text(), NEEDED)),
                    **dict.fromkeys(("index", "count"), (ANY_AMOUNT, NEEDED)),
                    "path": (list_of(ID, 0, 40), NEEDED),
                }
            ),
            None,
        ),
    },
    "FAUCET": {"to": (text(), NEEDED), "amount": (AMOUNT, NEEDED)},
}
WITNESSES: dict[str, Form] = {
    "RECEIPT_CLAIM": SIGNED_ATTESTATION,
    "REGISTER": {
        "hub": (text(), ""),
        "sig": (text(), ""),
        "pubkey": (text(), ""),
        "validator_sig": (text(), ""),
    },
    "PARAM_UPDATE": {"bitmap": (AMOUNT, NEEDED), "sigs": (list_of(text(), 0, 50), NEEDED)},
}
UPDATABLE: dict[str, Check] = {
    "base_fee": integer(0, 1_000_000),
    "fee_per_kib": integer(0, 1_000_000),
    "fee_burn_bp": integer(0, 10_000),
    "mint_per_unit": integer(0, 1_000_000_000),
    "coordinator_ratio_bp": integer(0, 5_000),
    "treasury_ratio_bp": integer(0, 5_000),
    "treasury": text(),
    "mint_price_cap_bp": integer(1, 100_000),
    "hubs": list_of(text(), 0, 100),
    "max_lock_ms": integer(60_000, 31_536_000_000),
    "activations": list_of(record({"version": (integer(2, MAX), NEEDED), "height": (ANY_AMOUNT, NEEDED)})),
    "fee_ed25519": integer(0, 1_000_000),
    "fee_secp256k1": integer(0, 1_000_000),
    "fee_rsa_pss": integer(0, 1_000_000),
    "hub_bond": ANY_AMOUNT,
    "hub_mint_per_bond_bp": integer(0, 10_000_000),
    "mint_budget_per_day": ANY_AMOUNT,
    "calibration_budget": ANY_AMOUNT,
    "calibration_until_ms": ANY_AMOUNT,
    "calibration_units": integer(0, 1_000_000),
    "lock_retention_ms": integer(60_000, 31_536_000_000),
    "receipt_retention_ms": integer(60_000, 31_536_000_000),
    "unbonding_ms": integer(60_000, 31_536_000_000),
    "governance_threshold": integer(0, 50),
    "slash_bp": integer(0, 10_000),
    "jail_ms": integer(0, 31_536_000_000),
    "evidence_epochs": integer(1, 1_000_000),
    "min_validator_stake": AMOUNT,
    "max_validators": integer(1, 50),
    "score_decay_bp": integer(0, 10_000),
    "score_units_per_provider": ANY_AMOUNT,
}


def filled(value: dict[str, Any], form: Form) -> dict[str, Any]:
    """With every default written out."""
    return {name: value.get(name, default) for name, (_, default) in form.items()}


def decode(raw: bytes, form: Form) -> dict[str, Any]:
    value = json.loads(raw, parse_float=_no_float)
    SPELLED_OUT.clear()
    record(form)(value)
    need(not SPELLED_OUT and jcs(value) == raw, "not_canonical")
    return value  # type: ignore[no-any-return]


def _no_float(number: str) -> None:
    raise Invalid("float_not_allowed")


def transaction_id(tx: Transaction, genesis_hash: bytes) -> bytes:
    return tagged(
        "aitbc/transaction/1",
        genesis_hash,
        tx.type.encode(),
        tx.sender.encode(),
        u64(tx.nonce),
        u64(tx.fee),
        tx.payload,
    )


def check_form(tx: Transaction, genesis_hash: bytes) -> None:
    """Raises Invalid with the first reason."""
    need(tx.type in PAYLOADS, "unknown_type")
    most = 8 * 1024 if tx.type == "PARAM_UPDATE" else 4 * 1024
    need(len(tx.payload) <= 16 * 1024 and len(tx.witness) <= most and len(tx.sig) <= 4096, "too_large")
    need(len(tx.sender) == 42 and tx.sender.startswith("ait1"), "bad_address")
    integer(1, MAX)(tx.nonce)
    integer(0, MAX)(tx.fee)
    need(tx.pubkey != b"", "pubkey_required")
    _same_reason(lambda: scheme_of(tx.pubkey))
    payload = decode(tx.payload, PAYLOADS[tx.type])
    witness = None
    if tx.witness:
        need(tx.type in WITNESSES, "unexpected_witness")
        witness = decode(tx.witness, WITNESSES[tx.type])
    OWN[tx.type](payload, witness, genesis_hash)
    need(verify(tx.pubkey, transaction_id(tx, genesis_hash), tx.sig), "bad_signature")


def _same_reason(check: Callable[[], object]) -> None:
    """Run a check of `aitbc.core.codec` or `crypto`; what it refuses is refused here for the same reason."""
    try:
        check()
    except Rejected as error:
        raise Invalid(str(error.reason)) from None


def _address(value: str) -> None:
    _same_reason(lambda: check_address(value))


def _hexadecimal(value: str) -> None:
    need(bool(re.fullmatch(r"([0-9a-f]{2})*", value)), "bad_hex")


Plain = dict[str, Any]


def _offered_key(witness: Plain, address: str) -> None:
    """A witness's `pubkey`, if it has one, is a key text that makes the address."""
    if "pubkey" in witness:
        _key_text_of(witness["pubkey"], address)


def _key_text_of(text: str, address: str) -> None:
    _same_reason(lambda: key_from_text(text))
    need(address_of(key_from_text(text)) == address, "wrong_key")


def _money(payload: Plain, witness: Plain | None, genesis_hash: bytes) -> None:
    _address(payload["to"])


def _job_lock(payload: Plain, witness: Plain | None, genesis_hash: bytes) -> None:
    _address(payload["hub"])


def _nothing(payload: Plain, witness: Plain | None, genesis_hash: bytes) -> None:
    pass


def core_of(payload: Plain) -> Plain:
    return {name: value for name, value in payload.items() if name not in ("receipt_id", "miner_sig")}


def core_digest(payload: Plain, genesis_hash: bytes) -> bytes:
    return tagged("aitbc/receipt/1", genesis_hash, jcs(core_of(payload)))


def attestation_digest(attestation: Plain, genesis_hash: bytes) -> bytes:
    return tagged("aitbc/attestation/1", genesis_hash, jcs(attestation))


def _receipt_claim(payload: Plain, witness: Plain | None, genesis_hash: bytes) -> None:
    _address(payload["client_addr"])
    _address(payload["miner_addr"])
    _hexadecimal(payload["miner_sig"])
    need(payload["receipt_id"] == "rcpt_" + core_digest(payload, genesis_hash).hex(), "receipt_id_mismatch")
    if witness is None:
        raise Invalid("attestation_missing")
    _hexadecimal(witness["sig"])
    _offered_key(witness, witness["attestation"]["hub"])
    claim = filled(payload, PAYLOADS["RECEIPT_CLAIM"])
    said = filled(witness["attestation"], ATTESTATION)
    need(claim["compute_units"] <= said["units"], "units_above_attested")
    for of_claim, of_attestation in (
        ("receipt_id", "receipt_id"),
        ("lock", "lock"),
        ("job_id", "job_id"),
        ("client_addr", "client"),
        ("miner_addr", "provider"),
        ("task", "task"),
        ("attempt", "attempt"),
        ("compute_units", "units"),
        ("price", "price"),
        ("output_hash", "output_hash"),
    ):
        need(claim[of_claim] == said[of_attestation], "attestation_mismatch")
    without_lock = said["routed"] in ("synthetic", "calibration")
    need(without_lock == (claim["lock"] == ""), "attestation_mismatch")


def _register(payload: Plain, witness: Plain | None, genesis_hash: bytes) -> None:
    for name in ("payout", "validator"):
        if payload.get(name, "") != "":
            _address(payload[name])
    models = [offer["model"] for offer in payload["models"]]
    need(len(models) == len(set(models)), "duplicate_key")
    if witness is not None:
        said = filled(witness, WITNESSES["REGISTER"])
        need((said["hub"] == "") == (said["sig"] == ""), "missing_field")
        need(said["pubkey"] == "" or said["hub"] != "", "missing_field")
        need(said["sig"] != "" or said["validator_sig"] != "", "missing_field")
        need(said["validator_sig"] == "" or "validator" in payload, "unexpected_witness")
        if said["hub"]:
            _address(said["hub"])
        _offered_key(witness, said["hub"])
        _hexadecimal(said["sig"])
        _hexadecimal(said["validator_sig"])


def leaves_of(packed: str) -> list[Plain]:
    """The leaves of a SETTLE."""
    try:
        raw = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("malformed") from None
    need(base64.urlsafe_b64encode(raw).decode().rstrip("=") == packed, "not_canonical")
    need(len(raw) > 0 and len(raw) % 56 == 0, "malformed")
    leaves = []
    for start in range(0, len(raw), 56):
        leaf = raw[start : start + 56]
        leaves.append(
            {
                "receipt": leaf[:32],
                "lock": int.from_bytes(leaf[32:34], "big"),
                "provider": int.from_bytes(leaf[34:36], "big"),
                "task": int.from_bytes(leaf[36:38], "big"),
                "attempt": leaf[38],
                "routed": leaf[39],
                "units": int.from_bytes(leaf[40:48], "big"),
                "price": int.from_bytes(leaf[48:56], "big"),
                "tail": leaf[36:],
            }
        )
    return leaves


def _settle(payload: Plain, witness: Plain | None, genesis_hash: bytes) -> None:
    for provider in payload["providers"]:
        _address(provider)
    for name in ("locks", "providers"):
        need(payload[name] == sorted(set(payload[name])), "not_canonical")
    leaves = leaves_of(payload["leaves"])
    for leaf in leaves:
        need(
            leaf["lock"] < len(payload["locks"]) and leaf["provider"] < len(payload["providers"]),
            "out_of_range",
        )
        need(leaf["task"] <= 4095 and leaf["routed"] <= 1, "out_of_range")
        need(1 <= leaf["units"] <= UNITS and leaf["price"] <= MAX, "out_of_range")
    need({leaf["lock"] for leaf in leaves} == set(range(len(payload["locks"]))), "not_canonical")
    need({leaf["provider"] for leaf in leaves} == set(range(len(payload["providers"]))), "not_canonical")


def _param_update(payload: Plain, witness: Plain | None, genesis_hash: bytes) -> None:
    need(bool(payload.get("set") or payload.get("authorities")), "missing_field")
    for name, value in payload.get("set", {}).items():
        need(name in UPDATABLE, "unknown_param")
        UPDATABLE[name](value)
        if name == "treasury" and value:
            _address(value)
        if name == "hubs":
            need(len(value) == len(set(value)), "out_of_range")
            for hub in value:
                _address(hub)
    members = payload.get("authorities", [])
    addresses = [member["address"] for member in members]
    need(len(members) <= 50 and len(addresses) == len(set(addresses)), "out_of_range")
    for member in members:
        _address(member["address"])
        if "pubkey" in member:
            _key_text_of(member["pubkey"], member["address"])
    if witness is None:
        raise Invalid("not_enough_approvals")
    for sig in witness["sigs"]:
        _hexadecimal(sig)


def _key_rotate(payload: Plain, witness: Plain | None, genesis_hash: bytes) -> None:
    _same_reason(lambda: key_from_text(payload["pubkey"]))
    _hexadecimal(payload["sig"])


def _evidence(payload: Plain, witness: Plain | None, genesis_hash: bytes) -> None:
    need(len(payload) == 1, "missing_field")
    if "block" in payload:
        _bad_block(payload["block"], genesis_hash)
        return
    both = payload.get("votes") or payload["attestations"]
    _address(both["validator"] if "votes" in payload else both["first"]["attestation"]["hub"])
    for signed in (both["first"], both["second"]):
        _hexadecimal(signed["sig"])
        if "attestations" in payload:
            _offered_key(signed, signed["attestation"]["hub"])
    conflict = _votes_conflict if "votes" in payload else _attestations_conflict
    need(conflict(both["first"], both["second"]), "no_conflict")


def _votes_conflict(first: Plain, second: Plain) -> bool:
    if (first["kind"], second["kind"]) == ("final", "skip"):
        return bool(second["candidate"] == "00" * 32)
    return bool(first["kind"] == second["kind"] != "skip" and first["candidate"] < second["candidate"])


def _attestations_conflict(first: Plain, second: Plain) -> bool:
    one, other = first["attestation"], second["attestation"]
    same = all(one[name] == other[name] for name in ("hub", "lock", "task", "attempt"))
    return bool(same and one["lock"] != "" and one["receipt_id"].encode() < other["receipt_id"].encode())


def _bad_block(said: Plain, genesis_hash: bytes) -> None:
    _address(said["validator"])
    _hexadecimal(said["sig"])
    header, tx = header_in(said), transaction_in(said)
    for number in (header.version, header.height, header.timestamp_ms, tx.nonce, tx.fee):
        need(0 <= number < 2**64, "out_of_range")
    path = [bytes.fromhex(node) for node in said["path"]]
    root = _root_over(wid_of(tx, genesis_hash), said["index"], said["count"], path)
    need(root == header.txs_root, "bad_proof")


def header_in(said: Plain) -> Header:
    return _in_wire_form(said["header"], Header)


def transaction_in(said: Plain) -> Transaction:
    return _in_wire_form(said["tx"], Transaction)


def _in_wire_form(hexadecimal: str, kind: type[Kind]) -> Kind:
    _hexadecimal(hexadecimal)
    raw = bytes.fromhex(hexadecimal)
    try:
        return unpack(raw, kind, limit=8 * 1024)
    except Rejected as error:
        raise Invalid(str(error.reason)) from None


def wid_of(tx: Transaction, genesis_hash: bytes) -> bytes:
    return tagged("aitbc/envelope/1", transaction_id(tx, genesis_hash), tx.pubkey, tx.sig, tx.witness)


def _root_over(leaf: bytes, index: int, count: int, path: list[bytes]) -> bytes | None:
    """docs/spec/blocks.md, Lists: the root that a path leads to; None if it has too few nodes or too many."""
    if not index < count:
        return None
    node, position, width = sha256(b"\0" + leaf).digest(), index, count
    while width > 1:
        if position ^ 1 < width:
            if not path:
                return None
            other, *path = path
            node = sha256(b"\1" + (other + node if position % 2 else node + other)).digest()
        position, width = position // 2, -(-width // 2)
    return None if path else tagged("aitbc/list/1", u64(count), node)


OWN: dict[str, Callable[[Plain, Plain | None, bytes], None]] = {
    "TRANSFER": _money,
    "FAUCET": _money,
    "JOB_LOCK": _job_lock,
    "RECEIPT_CLAIM": _receipt_claim,
    "REFUND": _nothing,
    "REGISTER": _register,
    "RECEIPT_BATCH": _nothing,
    "SETTLE": _settle,
    "STAKE": _nothing,
    "UNSTAKE": _nothing,
    "WITHDRAW": _nothing,
    "PARAM_UPDATE": _param_update,
    "KEY_ROTATE": _key_rotate,
    "EVIDENCE": _evidence,
}
