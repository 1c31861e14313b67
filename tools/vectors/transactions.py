"""Vectors of transactions, receipts and attestations."""

import json
from functools import cache
from hashlib import sha256
from typing import Any

import by_the_book as book
from fixtures import AIT, NOW_MS, genesis_hash, h, keys, sha
from schemes import Owner, key_text

Json = Any


class Envelope:
    """A signed transaction in every form; `payload` and `witness` may be replaced by raw bytes."""

    def __init__(
        self,
        signer: str | book.Key | Owner,
        type: str,
        payload: Json,
        *,
        nonce: int = 1,
        fee: int = 100,
        witness: Json = None,
        **changed: Any,
    ) -> None:
        owner = keys()[signer] if isinstance(signer, str) else signer
        self.type, self.nonce, self.fee = type, nonce, fee
        self.sender = changed.get("sender", owner.address)
        self.pubkey: bytes = changed.get("pubkey", owner.auth)
        self.payload = payload if isinstance(payload, bytes) else book.jcs(payload)
        self.witness = _raw_witness(witness)
        self.preimage = book.preimage(
            "aitbc/transaction/1",
            changed.get("genesis_hash", genesis_hash()),
            self.type.encode(),
            self.sender.encode(),
            book.u64(max(0, nonce)),
            book.u64(max(0, fee)),
            self.payload,
        )
        self.id = sha256(self.preimage).digest()
        self.sig: bytes = changed.get("sig", owner.sign(self.id))
        self.wid = book.envelope_id(self.id, self.pubkey, self.sig, self.witness)

    def plain(self) -> dict[str, Json]:
        view: dict[str, Json] = {
            "type": self.type,
            "sender": self.sender,
            "nonce": self.nonce,
            "fee": self.fee,
            "payload": json.loads(self.payload),
            "sig": self.sig.hex(),
            "pubkey": key_text(self.pubkey),
        }
        return view | ({"witness": json.loads(self.witness)} if self.witness else {})

    def array(self) -> list[Any]:
        return [
            self.type, self.sender, self.nonce, self.fee, self.payload, self.pubkey, self.sig, self.witness,
        ]  # fmt: skip


def _raw_witness(witness: Json) -> bytes:
    if isinstance(witness, bytes):
        return witness
    return b"" if witness is None else book.jcs(witness)


def transfer(**more: Json) -> dict[str, Json]:
    return {"to": keys()["bob"].address, "amount": 25 * AIT} | more


def job_lock(**more: Json) -> dict[str, Json]:
    base = {
        "hub": keys()["hub"].address,
        "job_id": "job-7c1f",
        "amount": 2 * AIT,
        "request_hash": sha("request"),
    }
    return base | {"deliver_by_ms": NOW_MS + 120_000, "claim_until_ms": NOW_MS + 900_000} | more


@cache
def the_lock() -> Envelope:
    """The JOB_LOCK whose id the receipts name."""
    return Envelope("alice", "JOB_LOCK", job_lock(), nonce=3)


def core(**more: Json) -> dict[str, Json]:
    base: dict[str, Json] = {
        "job_id": "job-7c1f",
        "client_addr": keys()["alice"].address,
        "miner_addr": keys()["provider"].address,
        "compute_units": 1_900,
        "price": 1_900_000,
        "output_hash": sha("output"),
        "lock": the_lock().id.hex(),
        "attempt": 1,
        "nonce": "b7f3" * 8,
        "details_hash": book.hash_text(book.jcs(details())),
    }
    return base | more


def seed_core(**more: Json) -> dict[str, Json]:
    """A synthetic devnet claim: the seed's fields and no more."""
    base: dict[str, Json] = {
        "job_id": "job_42",
        "client_addr": keys()["alice"].address,
        "miner_addr": keys()["provider"].address,
        "compute_units": 1_500,
        "price": 50,
        "output_hash": sha("synthetic output"),
    }
    return base | more


def details(**more: Json) -> dict[str, Json]:
    base: dict[str, Json] = {
        "v": 1,
        "chain_id": "ait-devnet",
        "job_id": "job-7c1f",
        "task": 0,
        "attempt": 1,
        "ticket": book.ticket_of(the_lock().id.hex(), 0, 1),
        "client": keys()["alice"].address,
        "provider": keys()["provider"].address,
        "hub": keys()["hub"].address,
        "kind": "image",
        "model": "tiny-diffusion",
        "model_digest": sha("weights"),
        "profile": sha("profile"),
        "seed": "7",
        "request_hash": sha("request"),
        "prompt_hash": sha("a red circle on blue"),
        "output_hash": sha("output"),
        "transcript_root": "sha256:" + book.list_root([h("step 1"), h("step 2")]).hex(),
        "candidates_hash": sha("candidates"),
        "units": 1_900,
        "unit_type": "megapixel_steps",
        "counts": {"steps": 38, "width": 128, "height": 128, "native_width": 64, "native_height": 64},
        "notes": {"upscale": "64×64 → 128×128, nearest"},
        "gpu_ms": 1_874,
        "price": 1_900_000,
        "pay": {"mode": "lock", "id": the_lock().id.hex()},
        "started_ms": NOW_MS + 1_000,
        "finished_ms": NOW_MS + 2_900,
        "status": "complete",
        "verify": "delivery",
        "nonce": "b7f3" * 8,
    }
    return base | more


def receipt_id(fields: Json) -> str:
    return "rcpt_" + book.receipt_digest(fields, genesis_hash()).hex()


def claim_payload(fields: dict[str, Json], **more: Json) -> dict[str, Json]:
    signature = keys()["provider"].sign(book.receipt_digest(fields, genesis_hash()))
    return fields | {"receipt_id": receipt_id(fields), "miner_sig": signature.hex()} | more


def attestation(fields: dict[str, Json], **more: Json) -> dict[str, Json]:
    synthetic = "lock" not in fields
    base: dict[str, Json] = {
        "receipt_id": receipt_id(fields),
        "lock": fields.get("lock", ""),
        "job_id": fields["job_id"],
        "hub": keys()["synthetic-attester" if synthetic else "hub"].address,
        "client": fields["client_addr"],
        "provider": fields["miner_addr"],
        "task": fields.get("task", 0),
        "attempt": fields.get("attempt", 0),
        "units": fields["compute_units"],
        "price": fields["price"],
        "output_hash": fields["output_hash"],
        "routed": "synthetic" if synthetic else "random",
    }
    return base | ({} if synthetic else {"candidates_hash": sha("candidates")}) | more


def witness_of(statement: dict[str, Json]) -> dict[str, Json]:
    signer = next(key for key in keys().values() if key.address == statement["hub"])
    return {
        "attestation": statement,
        "sig": signer.sign(book.attestation_digest(statement, genesis_hash())).hex(),
    }


def claim(fields: dict[str, Json] | None = None, **attested: Json) -> Envelope:
    chosen = core() if fields is None else fields
    witness = witness_of(attestation(chosen, **attested))
    return Envelope("provider", "RECEIPT_CLAIM", claim_payload(chosen), nonce=2, fee=50, witness=witness)


def offer(**more: Json) -> dict[str, Json]:
    return {"model": "tiny-lm", "kind": "chat", "price_per_kilounit": 1_000_000} | more


def register(**more: Json) -> dict[str, Json]:
    return {"role": "provider", "models": [offer(digest=sha("weights"))]} | more


def countersignature() -> dict[str, Json]:
    hub, provider = keys()["hub"], keys()["provider"]
    digest = book.countersignature_digest(provider.address, hub.address, genesis_hash())
    return {"hub": hub.address, "sig": hub.sign(digest).hex()}


def transactions() -> Json:
    bob = keys()["bob"].address
    session = job_lock(job_id="session \U0001f600", tasks=4096)
    good = {
        "TRANSFER": Envelope("alice", "TRANSFER", transfer(), fee=10),
        "TRANSFER with data": Envelope("alice", "TRANSFER", transfer(amount=2**53 - 1, data="für 3 \"Bilder\"\n\U0001f600"), nonce=2),
        "TRANSFER with the highest nonce and fee": Envelope("alice", "TRANSFER", transfer(), nonce=2**53 - 1, fee=2**53 - 1),
        "JOB_LOCK": the_lock(),
        "JOB_LOCK of a session": Envelope("alice", "JOB_LOCK", session, nonce=4),
        "RECEIPT_CLAIM": claim(),
        "RECEIPT_CLAIM, provider chosen by the client": claim(routed="chosen"),
        "RECEIPT_CLAIM, synthetic": claim(seed_core()),
        "REFUND": Envelope("bob", "REFUND", {"lock": the_lock().id.hex()}, nonce=1, fee=7),
        "REGISTER, free with a hub's countersignature": Envelope("provider", "REGISTER", register(), fee=0, witness=countersignature()),
        "REGISTER with everything": Envelope("provider", "REGISTER", register(models=[offer(), offer(model="tiny-diffusion", kind="image", digest=sha("w"))], endpoint="https://provider.example", payout=bob, validator=keys()["validator"].address), nonce=2),
        "REGISTER of a hub": Envelope("hub", "REGISTER", {"role": "hub", "models": [], "endpoint": "https://hub.example"}),
        "FAUCET": Envelope("faucet", "FAUCET", {"to": bob, "amount": 1_000 * AIT}, fee=0),
    }  # fmt: skip
    return {
        "spec": "docs/spec/transactions.md",
        "genesis_hash": genesis_hash().hex(),
        "good": [transaction(name, envelope) for name, envelope in good.items()],
        "refused_json": [refused_json(*case) for case in _refused_json()],
        "refused_wire": [{"name": n, "wire": raw.hex(), "reason": why} for n, raw, why in _refused_wire()],
        "wrong_key": [
            {"name": name, "json": envelope.plain(), "reason": "wrong_key"}
            for name, envelope in {
                "another account's key": Envelope("alice", "TRANSFER", transfer(), sender=bob),
                "a sender whose checksum is wrong": Envelope("alice", "TRANSFER", transfer(), sender=bob[:-1] + "q"),
            }.items()
        ],
    }  # fmt: skip


def transaction(name: str, envelope: Envelope) -> Json:
    return {
        "name": name,
        "seed": next((key.seed.hex() for key in keys().values() if key.auth == envelope.pubkey), None),
        "json": envelope.plain(),
        "payload": envelope.payload.hex(),
        "witness": envelope.witness.hex(),
        "preimage": envelope.preimage.hex(),
        "id": envelope.id.hex(),
        "sig": envelope.sig.hex(),
        "wid": envelope.wid.hex(),
        "wire": book.msgpack(envelope.array()).hex(),
    }


def refused_json(name: str, text: str, reason: str) -> Json:
    """A long row of spaces at the end is counted."""
    spaces = len(text) - len(text.rstrip(" "))
    counted = {"spaces": spaces} if spaces else {}
    return {"name": name, "text": text[: len(text) - spaces]} | counted | {"reason": reason}


def _refused_json() -> list[tuple[str, str, str]]:
    """(name, the JSON text as sent to /rpc/sendTx, reason)."""
    base = Envelope("alice", "TRANSFER", transfer(), fee=10)
    plain = base.plain()
    text = json.dumps(plain, ensure_ascii=False)

    def changed(**more: Json) -> str:
        return json.dumps(plain | more, ensure_ascii=False)

    def without(name: str) -> str:
        return json.dumps({key: value for key, value in plain.items() if key != name})

    def signed(type: str, payload: Json, *, signer: str = "alice", **more: Any) -> str:
        return json.dumps(Envelope(signer, type, payload, **more).plain(), ensure_ascii=False)

    other_prefix = book.bech32(bytes(20), prefix="aiu")
    wrong_checksum = plain["payload"]["to"][:-1] + "q"
    long_names = [offer(model=f"{i:0300}") for i in range(64)]
    lock = the_lock().id.hex()
    cases = [
        ("not JSON", text[:-1], "malformed"),
        ("a list", "[]", "wrong_type"),
        ("too long", json.dumps(plain) + " " * 65_536, "too_large"),
        ("unknown type", signed("MINT", {}), "unknown_type"),
        ("type in lower case", signed("transfer", transfer()), "unknown_type"),
        ("type of 33 characters", changed(type="T" * 33), "out_of_range"),
        ("sender too short", signed("TRANSFER", transfer(), sender=base.sender[:-1]), "bad_address"),
        ("sender of another prefix", signed("TRANSFER", transfer(), sender=other_prefix), "bad_address"),
        ("sender in capitals", signed("TRANSFER", transfer(), sender=base.sender.upper()), "bad_address"),
        ("sender of 65 characters", changed(sender="a" * 65), "out_of_range"),
        ("nonce 0", signed("TRANSFER", transfer(), nonce=0), "out_of_range"),
        ("nonce 2^53", signed("TRANSFER", transfer(), nonce=2**53), "out_of_range"),
        ("fee -1", signed("TRANSFER", transfer(), fee=-1), "out_of_range"),
        ("fee 2^53", signed("TRANSFER", transfer(), fee=2**53), "out_of_range"),
        ("fee as float", text.replace('"fee": 10', '"fee": 10.0'), "float_not_allowed"),
        ("fee as text", changed(fee="10"), "wrong_type"),
        ("fee as truth", changed(fee=True), "wrong_type"),
        ("fee null", changed(fee=None), "wrong_type"),
        ("payload is a list", changed(payload=[]), "wrong_type"),
        ("payload is a text", changed(payload=base.payload.decode()), "wrong_type"),
        *[(f"without {name}", without(name), "missing_field") for name in ("type", "sender", "nonce", "fee", "payload", "sig")],
        ("without pubkey, key unknown to the chain", without("pubkey"), "pubkey_required"),
        ("unknown field", changed(gas=1), "unknown_field"),
        ("a key twice", text.replace('"fee": 10', '"fee": 10, "fee": 10'), "duplicate_key"),
        ("a payload key twice", text.replace('"amount": 25000000', '"amount": 25000000, "amount": 1'), "duplicate_key"),
        ("float in the payload", text.replace("25000000", "2.5e7"), "float_not_allowed"),
        ("sig with an odd digit", changed(sig=plain["sig"][:-1]), "bad_hex"),
        ("sig in capitals", changed(sig=plain["sig"].upper()), "bad_hex"),
        ("sig with 0x", changed(sig="0x" + plain["sig"]), "bad_hex"),
        ("sig with a line break", changed(sig=plain["sig"] + "\n"), "bad_hex"),
        ("sig empty", changed(sig=""), "bad_signature"),
        ("sig of 63 bytes", changed(sig=plain["sig"][2:]), "bad_signature"),
        ("sig with a bit flipped", changed(sig=f"{int(plain['sig'][0], 16) ^ 1:x}" + plain["sig"][1:]), "bad_signature"),
        ("sig too long", changed(sig="00" * 4_097), "too_large"),
        ("pubkey of 31 bytes", changed(pubkey=plain["pubkey"][2:]), "bad_hex"),
        ("pubkey with its scheme named", changed(pubkey="ed25519:" + plain["pubkey"]), "unknown_scheme"),
        ("pubkey of an unknown scheme", changed(pubkey="p256:02" + plain["pubkey"]), "unknown_scheme"),
        ("another key", changed(pubkey=keys()["bob"].text), "bad_signature"),
        ("nonce changed after signing", changed(nonce=2), "bad_signature"),
        ("fee changed after signing", changed(fee=11), "bad_signature"),
        ("payload changed after signing", changed(payload=transfer(amount=1)), "bad_signature"),
        ("signed for another chain", signed("TRANSFER", transfer(), genesis_hash=h("another genesis")), "bad_signature"),
        ("witness where none belongs", signed("TRANSFER", transfer(), witness={}), "unexpected_witness"),
        ("TRANSFER with a default spelled out", signed("TRANSFER", transfer(data="")), "not_canonical"),
        ("TRANSFER to a wrong checksum", signed("TRANSFER", transfer(to=wrong_checksum)), "bad_address"),
        ("TRANSFER to nobody", signed("TRANSFER", transfer(to="")), "bad_address"),
        ("TRANSFER of nothing", signed("TRANSFER", transfer(amount=0)), "out_of_range"),
        ("TRANSFER of 2^53", json.dumps(base.plain()).replace("25000000", str(2**53)), "out_of_range"),
        ("TRANSFER with 1,025 characters of data", signed("TRANSFER", transfer(data="x" * 1_025)), "out_of_range"),
        ("TRANSFER with an unknown field", signed("TRANSFER", transfer(memo="x")), "unknown_field"),
        ("TRANSFER without amount", signed("TRANSFER", {"to": plain["payload"]["to"]}), "missing_field"),
        ("JOB_LOCK with a default spelled out", signed("JOB_LOCK", job_lock(tasks=1)), "not_canonical"),
        ("JOB_LOCK for 0 tasks", signed("JOB_LOCK", job_lock(tasks=0)), "out_of_range"),
        ("JOB_LOCK for 4,097 tasks", signed("JOB_LOCK", job_lock(tasks=4_097)), "out_of_range"),
        ("JOB_LOCK without a name", signed("JOB_LOCK", job_lock(job_id="")), "out_of_range"),
        ("JOB_LOCK with a name of 129 characters", signed("JOB_LOCK", job_lock(job_id="x" * 129)), "out_of_range"),
        ("JOB_LOCK with a hash in capitals", signed("JOB_LOCK", job_lock(request_hash=sha("request").upper())), "wrong_type"),
        ("JOB_LOCK with a bare hash", signed("JOB_LOCK", job_lock(request_hash=sha("request")[7:])), "wrong_type"),
        ("JOB_LOCK with a line break after the hash", signed("JOB_LOCK", job_lock(request_hash=sha("request") + "\n")), "wrong_type"),
        ("JOB_LOCK to a wrong checksum", signed("JOB_LOCK", job_lock(hub=wrong_checksum)), "bad_address"),
        ("REFUND of half an id", signed("REFUND", {"lock": lock[:32]}), "wrong_type"),
        ("REFUND with a line break after the id", signed("REFUND", {"lock": lock + "\n"}), "wrong_type"),
        ("REGISTER for an unknown role", signed("REGISTER", register(role="validator")), "wrong_type"),
        ("REGISTER with a model twice", signed("REGISTER", register(models=[offer(), offer()])), "duplicate_key"),
        ("REGISTER with 65 models", signed("REGISTER", register(models=[offer(model=str(i)) for i in range(65)])), "out_of_range"),
        ("REGISTER with a negative price", signed("REGISTER", register(models=[offer(price_per_kilounit=-1)])), "out_of_range"),
        ("REGISTER with a default in an offer", signed("REGISTER", register(models=[offer(digest="")])), "not_canonical"),
        ("REGISTER with a default spelled out", signed("REGISTER", register(endpoint="")), "not_canonical"),
        ("REGISTER with a bad payout address", signed("REGISTER", register(payout="ait1")), "bad_address"),
        ("REGISTER with an endpoint of 257 characters", signed("REGISTER", register(endpoint="x" * 257)), "out_of_range"),
        ("REGISTER of more than 16 KiB", signed("REGISTER", register(models=long_names)), "too_large"),
        ("REGISTER with half a countersignature", signed("REGISTER", register(), witness={"hub": wrong_checksum}), "missing_field"),
        ("REGISTER countersigned by no address", signed("REGISTER", register(), witness={"hub": wrong_checksum, "sig": ""}), "not_canonical"),
        ("FAUCET of nothing", signed("FAUCET", {"to": plain["payload"]["to"], "amount": 0}), "out_of_range"),
    ]  # fmt: skip
    return cases + _refused_claims()


def _refused_claims() -> list[tuple[str, str, str]]:
    def text(payload: Json, witness: Json) -> str:
        return json.dumps(Envelope("provider", "RECEIPT_CLAIM", payload, nonce=2, witness=witness).plain())

    def with_attested(**more: Json) -> str:
        return json.dumps(claim(**more).plain())

    good, witness = claim_payload(core()), witness_of(attestation(core()))
    cases = [
        ("CLAIM without attestation", text(good, None), "attestation_missing"),
        ("CLAIM with another receipt's id", text(good | {"receipt_id": "rcpt_" + "0" * 64}, witness), "receipt_id_mismatch"),
        ("CLAIM with units changed after the id", text(good | {"compute_units": 1_901}, witness), "receipt_id_mismatch"),
        ("CLAIM with a bare id", text(good | {"receipt_id": good["receipt_id"][5:]}, witness), "wrong_type"),
        ("CLAIM with miner_sig in capitals", text(good | {"miner_sig": good["miner_sig"].upper()}, witness), "bad_hex"),
        ("CLAIM with a client that is no address", text(claim_payload(core(client_addr="client")), witness), "bad_address"),
        ("CLAIM of 0 units", text(claim_payload(core(compute_units=0)), witness), "out_of_range"),
        ("CLAIM of 10^12 + 1 units", text(claim_payload(core(compute_units=10**12 + 1)), witness), "out_of_range"),
        ("CLAIM of task 4096", text(claim_payload(core(task=4_096)), witness), "out_of_range"),
        ("CLAIM of attempt 256", text(claim_payload(core(attempt=256)), witness), "out_of_range"),
        ("CLAIM with a default spelled out", text(claim_payload(core()) | {"task": 0}, witness), "not_canonical"),
        ("CLAIM with an empty lock spelled out", text(claim_payload(seed_core()) | {"lock": ""}, witness_of(attestation(seed_core()))), "not_canonical"),
        ("CLAIM with a line break after output_hash", text(claim_payload(core(output_hash=sha("output") + "\n")), witness), "wrong_type"),
        ("CLAIM with an unknown field in the witness", text(good, witness | {"x": 1}), "unknown_field"),
        ("CLAIM with an unknown field in the attestation", text(good, {"attestation": witness["attestation"] | {"x": 1}, "sig": ""}), "unknown_field"),
        ("CLAIM with a default in the attestation", text(good, {"attestation": witness["attestation"] | {"candidates_hash": ""}, "sig": ""}), "not_canonical"),
        ("CLAIM routed by nobody", text(good, {"attestation": witness["attestation"] | {"routed": "fixed"}, "sig": ""}), "wrong_type"),
        ("CLAIM attested with a signature that is no hexadecimal", text(good, witness | {"sig": "zz"}), "bad_hex"),
        ("CLAIM of more units than attested", with_attested(units=1_899), "units_above_attested"),
        ("CLAIM with a lock, attested as synthetic", with_attested(routed="synthetic"), "attestation_mismatch"),
        ("CLAIM without a lock, attested as routed", json.dumps(claim(seed_core(), routed="random").plain()), "attestation_mismatch"),
    ]  # fmt: skip
    others: dict[str, Json] = {
        "receipt_id": "rcpt_" + "0" * 64,
        "lock": "0" * 64,
        "job_id": "job-other",
        "client": keys()["bob"].address,
        "provider": keys()["bob"].address,
        "task": 1,
        "attempt": 2,
        "units": 1_901,
        "price": 1,
        "output_hash": sha("another output"),
    }
    mismatches = [
        (f"CLAIM attested for another {name}", with_attested(**{name: value}), "attestation_mismatch")
        for name, value in others.items()
    ]
    return cases + mismatches


def _refused_wire() -> list[tuple[str, bytes, str]]:
    base = Envelope("alice", "TRANSFER", transfer(), fee=10)
    array, wire = base.array(), book.msgpack(base.array())
    to = base.plain()["payload"]["to"]
    nonce_at = wire.index(base.sender.encode()) + len(base.sender)
    assert wire[nonce_at] == 1

    def packed(payload: Json = None, **more: Any) -> bytes:
        return book.msgpack(Envelope("alice", "TRANSFER", payload or transfer(), **more).array())

    return [
        ("nothing", b"", "malformed"),
        ("cut short", wire[:-1], "malformed"),
        ("a byte too many", wire + b"\x00", "malformed"),
        ("seven elements", book.msgpack(array[:7]), "not_canonical"),
        ("nine elements", book.msgpack([*array, b""]), "malformed"),
        ("a map", b"\x80", "malformed"),
        ("nonce in two bytes", wire[:nonce_at] + b"\xcc\x01" + wire[nonce_at + 1 :], "not_canonical"),
        ("long form of the array", b"\xdc\x00\x08" + wire[1:], "not_canonical"),
        ("sender as bytes", book.msgpack([array[0], base.sender.encode(), *array[2:]]), "malformed"),
        ("payload as text", book.msgpack([*array[:4], base.payload.decode(), *array[5:]]), "malformed"),
        ("nonce nil", book.msgpack([*array[:2], None, *array[3:]]), "malformed"),
        ("nonce -1", book.msgpack([*array[:2], -1, *array[3:]]), "out_of_range"),
        ("nonce 2^64 - 1", packed(nonce=2**64 - 1), "out_of_range"),
        ("fee -1", book.msgpack([*array[:3], -1, *array[4:]]), "out_of_range"),
        ("no key", packed(pubkey=b""), "pubkey_required"),
        ("a scheme nobody knows", packed(pubkey=b"\x7f" + base.pubkey[1:]), "unknown_scheme"),
        ("a key of 31 bytes", packed(pubkey=base.pubkey[:-1]), "out_of_range"),
        ("a signature of 4,097 bytes", packed(sig=bytes(4_097)), "too_large"),
        ("a payload of 16,385 bytes", packed(book.jcs(transfer()).ljust(16_385)), "too_large"),
        ("space in the payload", packed(f'{{"amount": 1,"to":"{to}"}}'.encode()), "not_canonical"),
        ("payload keys out of order", packed(f'{{"to":"{to}","amount":1}}'.encode()), "not_canonical"),
        ("a payload key twice", packed(f'{{"amount":1,"amount":1,"to":"{to}"}}'.encode()), "not_canonical"),
        ("a payload that is no JSON", packed(b"{"), "malformed"),
        ("an empty object as witness", packed(witness=b"{}"), "unexpected_witness"),
        ("a witness out of order", _claim_wire_with_unsorted_witness(), "not_canonical"),
        ("no signature", packed(sig=b""), "bad_signature"),
    ]


def _claim_wire_with_unsorted_witness() -> bytes:
    witness = witness_of(attestation(core()))
    raw = f'{{"sig":"{witness["sig"]}","attestation":{book.jcs_text(witness["attestation"])}}}'.encode()
    return book.msgpack(Envelope("provider", "RECEIPT_CLAIM", claim_payload(core()), witness=raw).array())


def receipts() -> Json:
    exports = [
        details(),
        details(units=1_000, started_ms=NOW_MS, finished_ms=NOW_MS + 1),
        details(units=1, model="name with \"quotes\" and é", started_ms=NOW_MS + 10, finished_ms=NOW_MS + 110),
    ]  # fmt: skip
    return {
        "spec": "docs/spec/receipts.md",
        "genesis_hash": genesis_hash().hex(),
        "cores": [_core_vector("paid from a lock", core()), _core_vector("the seed's fields only", seed_core()),
                  _core_vector("at the edges", core(compute_units=10**12, price=0, task=4_095, attempt=255, nonce="x" * 64, job_id="\U0001f600" * 128))],
        "details": [
            {"json": fields, "jcs": book.jcs(fields).hex(), "details_hash": book.hash_text(book.jcs(fields))}
            for fields in (details(), details(kind="chat", counts={"in": 17, "out": 42}, notes={}, status="partial"))
        ],
        "attestations": [_attestation_vector(attestation(core())), _attestation_vector(attestation(core(), routed="chosen")),
                         _attestation_vector(attestation(seed_core()))],
        "countersignature": {
            "provider": keys()["provider"].address,
            "hub": keys()["hub"].address,
            "digest": book.countersignature_digest(keys()["provider"].address, keys()["hub"].address, genesis_hash()).hex(),
            "seed": keys()["hub"].seed.hex(),
            "sig": countersignature()["sig"],
        },
        "seed003": [
            {
                "details": fields,
                "json": book.seed003(fields).decode(),
                "sha256": sha256(book.seed003(fields)).hexdigest(),
                "keccak256": book.keccak256(book.seed003(fields)).hex(),
            }
            for fields in exports
        ],
    }  # fmt: skip


def _core_vector(name: str, fields: dict[str, Json]) -> Json:
    digest = book.receipt_digest(fields, genesis_hash())
    return {
        "name": name,
        "json": fields,
        "jcs": book.jcs(fields).hex(),
        "preimage": book.preimage("aitbc/receipt/1", genesis_hash(), book.jcs(fields)).hex(),
        "digest": digest.hex(),
        "receipt_id": "rcpt_" + digest.hex(),
        "seed": keys()["provider"].seed.hex(),
        "miner_sig": keys()["provider"].sign(digest).hex(),
    }


def _attestation_vector(statement: dict[str, Json]) -> Json:
    signer = next(key for key in keys().values() if key.address == statement["hub"])
    return {
        "json": statement,
        "jcs": book.jcs(statement).hex(),
        "digest": book.attestation_digest(statement, genesis_hash()).hex(),
        "seed": signer.seed.hex(),
        "sig": witness_of(statement)["sig"],
    }
