"""Vectors of what version 2 of the protocol adds: its transactions, digests, fees, parameters and versions."""

import json
from functools import cache
from typing import Any

import batches
import by_the_book as book
import schemes
import transactions as v1
from fixtures import AIT, NOW_MS, genesis_hash, h, keys, sha
from transactions import Envelope

Json = Any

CHAIN_ID = "ait-devnet"
MOST = 2**53 - 1


# What is signed


def rotation_preimage(address: str, new_key: bytes) -> bytes:
    return book.preimage("aitbc/rotate/1", genesis_hash(), address.encode(), new_key)


def update_preimage(payload: Json) -> bytes:
    return book.preimage("aitbc/param-update/1", genesis_hash(), book.jcs(payload))


def calibration_nonce_preimage(epoch: int, seed: str, provider: str) -> bytes:
    return book.preimage(
        "aitbc/calibration/1", genesis_hash(), book.u64(epoch), seed.encode(), provider.encode()
    )


def offence_preimage(kind: str, offender: str, *what: str) -> bytes:
    return book.preimage(
        "aitbc/offence/1", kind.encode(), offender.encode(), *[part.encode() for part in what]
    )


def countersign_preimage(provider: str, hub: str) -> bytes:
    return book.preimage("aitbc/countersign/1", genesis_hash(), provider.encode(), hub.encode())


def compute_for_preimage(provider: str, validator: str) -> bytes:
    return book.preimage("aitbc/compute-for/1", genesis_hash(), provider.encode(), validator.encode())


def vote_preimage(kind: str, epoch: int, slot: int, candidate: str) -> bytes:
    return book.preimage(
        "aitbc/vote/1",
        CHAIN_ID.encode(),
        genesis_hash(),
        kind.encode(),
        book.u64(epoch),
        book.u64(slot),
        bytes.fromhex(candidate),
    )


def _digest(preimage: bytes) -> bytes:
    return book.sha256(preimage).digest()


# Payloads


def rotation(new: book.Key | schemes.Owner, sender: str = "alice", **more: Json) -> Json:
    proof = new.sign(_digest(rotation_preimage(keys()[sender].address, new.auth)))
    return {"pubkey": new.text, "sig": proof.hex()} | more


def approvals(payload: Json, members: list[book.Key | schemes.Owner], bitmap: int) -> Json:
    digest = _digest(update_preimage(payload))
    return {
        "bitmap": bitmap,
        "sigs": [owner.sign(digest).hex() for i, owner in enumerate(members) if bitmap >> i & 1],
    }


def update(payload: Json, members: list[book.Key | schemes.Owner] | None = None, bitmap: int = 1) -> Envelope:
    signed = approvals(payload, [keys()["validator"]] if members is None else members, bitmap)
    return Envelope("bob", "PARAM_UPDATE", payload, nonce=9, witness=signed)


def candidates() -> tuple[str, str]:
    """Ids of two candidates, the lower one first."""
    first, second = sorted(h(f"candidate {i}").hex() for i in range(2))
    return first, second


def vote(kind: str, candidate: str, **more: Json) -> Json:
    sig = keys()["validator"].sign(_digest(vote_preimage(kind, 7, 31, candidate)))
    return {"kind": kind, "candidate": candidate, "sig": sig.hex()} | more


def votes(first: Json, second: Json, **more: Json) -> Json:
    base = {"validator": keys()["validator"].address, "epoch": 7, "slot": 31}
    return {"votes": base | {"first": first, "second": second} | more}


@cache
def _cores() -> tuple[Json, Json]:
    """Two receipts of one attempt, the one with the lower id first."""
    first, second = sorted((v1.core(), v1.core(output_hash=sha("another output"))), key=v1.receipt_id)
    return first, second


BLOCK_HEADER: dict[str, Any] = {
    "version": 2, "chain_id": CHAIN_ID, "height": 31, "parent": h("parent"), "timestamp_ms": NOW_MS,
    "proposer": keys()["validator"].address, "txs_root": b"", "outcomes_root": h("outcomes"), "state_root": h("state"),
    "next_validators_hash": h("validators"), "history_root": h("history"), "extra": b"", "seal": b"",
}  # fmt: skip
"""Of the block in `bad_block`, which gives it its `txs_root`."""


def forged() -> Envelope:
    """A transfer that nobody has signed."""
    return Envelope("alice", "TRANSFER", v1.transfer(), sig=BAD_SIG)


def bad_block(
    tx: Envelope | None = None,
    *,
    count: int = 5,
    index: int = 2,
    header: Json = None,
    leaf: bytes = b"",
    **more: Json,
) -> Json:
    """Evidence of a candidate in whose block `tx` stands at `index`; `more` fields say otherwise than it is."""
    tx = tx or forged()
    wids = [h(f"wid {place}") for place in range(count)]
    wids[index] = leaf or tx.wid
    head = BLOCK_HEADER | {"txs_root": book.list_root(wids)} | (header or {})
    sound_head = {name: max(0, value) if isinstance(value, int) else value for name, value in head.items()}
    candidate = {
        "epoch": 7,
        "slot": 31,
        "parent_slot": 29,
        "parent_id": h("parent's candidate"),
        "block_hash": book.header_hash(sound_head),
    }
    digest = book.vote_digest("candidate", candidate, CHAIN_ID, genesis_hash())
    said = {
        "validator": keys()["validator"].address,
        **{name: candidate[name] for name in ("epoch", "slot", "parent_slot")},
        "parent_id": candidate["parent_id"].hex(),
        "sig": keys()["validator"].sign(digest).hex(),
        "header": book.msgpack([head[name] for name in book.HEADER_FIELDS]).hex(),
        "tx": book.msgpack(tx.array()).hex(),
        "index": index,
        "count": count,
        "path": [node.hex() for node in book.list_path(wids, index)],
    }
    return {"block": said | more}


def attestations(first: Json | None = None, second: Json | None = None) -> Json:
    """Evidence of two attestations: by default of two receipts for one attempt."""
    a, b = _cores()
    one = v1.witness_of(v1.attestation(a)) if first is None else first
    two = v1.witness_of(v1.attestation(b)) if second is None else second
    return {"attestations": {"first": one, "second": two}}


def calibration_core(epoch: int = 5, **more: Json) -> Json:
    """The job that the chain drew for the devnet's provider."""
    provider = keys()["provider"].address
    nonce = _digest(calibration_nonce_preimage(epoch, h("seed of the epoch").hex(), provider)).hex()
    base = {
        "job_id": f"calibration:{epoch}:{provider}",
        "client_addr": keys()["hub"].address,
        "miner_addr": provider,
        "compute_units": 9_000,
        "price": 0,
        "output_hash": sha("calibration output"),
        "nonce": nonce,
    }
    return base | more


def calibration_witness(core: Json, **more: Json) -> Json:
    hub = keys()["hub"].address
    return v1.witness_of(v1.attestation(core, hub=hub, routed="calibration", **more))


def validator_signature() -> str:
    digest = _digest(compute_for_preimage(keys()["provider"].address, keys()["validator"].address))
    return keys()["validator"].sign(digest).hex()


def register(**more: Json) -> Json:
    return v1.register(validator=keys()["validator"].address) | more


# transactions.json


@cache
def batch_of(count: int) -> Envelope:
    payload = {"root": batches.root_of(count).hex(), "count": count}
    return Envelope("hub", "RECEIPT_BATCH", payload, nonce=count, fee=20)


def settled(count: int, start: int, stop: int) -> Json:
    return batches.settle(count, start, stop, batch_of(count).id.hex())


_LEAST: dict[str, Json] = {
    "base_fee": 0, "fee_per_kib": 0, "fee_burn_bp": 0, "mint_per_unit": 0, "coordinator_ratio_bp": 0,
    "treasury_ratio_bp": 0, "treasury": "", "mint_price_cap_bp": 1, "hubs": [], "max_lock_ms": 60_000,
    "fee_ed25519": 0, "fee_secp256k1": 0, "fee_rsa_pss": 0, "hub_bond": 0, "hub_mint_per_bond_bp": 0,
    "mint_budget_per_day": 0, "calibration_budget": 0, "calibration_until_ms": 0, "calibration_units": 0,
    "lock_retention_ms": 60_000, "receipt_retention_ms": 60_000, "unbonding_ms": 60_000, "governance_threshold": 0,
    "slash_bp": 0, "jail_ms": 0, "evidence_epochs": 1, "min_validator_stake": 1, "max_validators": 1,
    "score_decay_bp": 0, "score_units_per_provider": 0,
}  # fmt: skip
"""What params.md lets an update set each parameter to at least; `activations` has rules of its own."""

_GREATEST: dict[str, int] = {
    "base_fee": 1_000_000, "fee_per_kib": 1_000_000, "fee_burn_bp": 10_000, "mint_per_unit": 1_000_000_000,
    "coordinator_ratio_bp": 5_000, "treasury_ratio_bp": 5_000, "mint_price_cap_bp": 100_000,
    "max_lock_ms": 31_536_000_000, "fee_ed25519": 1_000_000, "fee_secp256k1": 1_000_000, "fee_rsa_pss": 1_000_000,
    "hub_bond": MOST, "hub_mint_per_bond_bp": 10_000_000, "mint_budget_per_day": MOST, "calibration_budget": MOST,
    "calibration_until_ms": MOST, "calibration_units": 1_000_000, "lock_retention_ms": 31_536_000_000,
    "receipt_retention_ms": 31_536_000_000, "unbonding_ms": 31_536_000_000, "governance_threshold": 50,
    "slash_bp": 10_000, "jail_ms": 31_536_000_000, "evidence_epochs": 1_000_000, "min_validator_stake": MOST,
    "max_validators": 50, "score_decay_bp": 10_000, "score_units_per_provider": MOST,
}  # fmt: skip


def transactions() -> Json:
    """Version 1's file with version 2's cases at the end of each list."""
    everything = v1.transactions()
    everything["good"] = [case | {"since": 1} for case in everything["good"]]
    everything["good"] += [_later(name, envelope) for name, envelope in _good().items()]
    everything["refused_json"] += [v1.refused_json(*case) for case in _refused_json()]
    everything["refused_wire"] += [
        {"name": n, "wire": w.hex(), "reason": why} for n, w, why in _refused_wire()
    ]
    return everything


def _later(name: str, envelope: Envelope) -> Json:
    """Without its preimage, which the others show and which would hold the payload once more."""
    return _without(v1.transaction(name, envelope), "preimage") | {"since": _SINCE.get(name, 2)}


_SINCE = {"RECEIPT_CLAIM attested by no address with no signature, for the state to refuse": 1}


def _good() -> dict[str, Envelope]:
    """Each with something that version 1 has not."""
    people, others = keys(), schemes.owners()
    four: list[book.Key | schemes.Owner] = [
        people["validator"],
        people["alice"],
        others["secp256k1"],
        people["carol"],
    ]
    low, high = candidates()
    hub, carol = people["hub"], people["carol"]
    vouched = v1.countersignature()
    everything = _LEAST | _GREATEST | {"treasury": carol.address, "hubs": [hub.address, carol.address]}
    members = [
        {"address": carol.address},
        {"address": others["2 of 3"].address, "pubkey": others["2 of 3"].text},
    ]
    upgrade = {"activations": [{"version": 2, "height": 0}, {"version": 3, "height": 1_201}]}
    named_hub = {"pubkey": hub.text}
    return {
        "JOB_LOCK, a session": Envelope("alice", "JOB_LOCK", v1.job_lock(job_id="session", tasks=4_096, session=True)),
        "RECEIPT_CLAIM with the hub's key": Envelope("provider", "RECEIPT_CLAIM", v1.claim_payload(v1.core()), witness=v1.witness_of(v1.attestation(v1.core())) | named_hub),
        "RECEIPT_CLAIM attested by no address with no signature, for the state to refuse": Envelope("provider", "RECEIPT_CLAIM", v1.claim_payload(v1.core(), miner_sig=""), witness={"attestation": v1.attestation(v1.core(), hub="hub", candidates_hash=sha("x")), "sig": ""}),
        "RECEIPT_CLAIM of a calibration": Envelope("provider", "RECEIPT_CLAIM", v1.claim_payload(calibration_core()), witness=calibration_witness(calibration_core())),
        "REGISTER with a validator's word": Envelope("provider", "REGISTER", register(), witness={"validator_sig": validator_signature()}),
        "REGISTER with the hub's key": Envelope("provider", "REGISTER", v1.register(), fee=0, witness=vouched | named_hub),
        "REGISTER with everything in its witness": Envelope("provider", "REGISTER", register(), fee=0, witness=vouched | named_hub | {"validator_sig": validator_signature()}),
        "RECEIPT_BATCH of 3": batch_of(3),
        "RECEIPT_BATCH of 1,000": batch_of(1_000),
        "RECEIPT_BATCH of 2^20": Envelope("hub", "RECEIPT_BATCH", {"root": h("root").hex(), "count": 2**20}),
        "SETTLE, all of a batch of 3": Envelope("bob", "SETTLE", settled(3, 0, 3), fee=40),
        "SETTLE, the middle of a batch of 1,000": Envelope("provider", "SETTLE", settled(1_000, 483, 507), fee=400),
        "SETTLE, the last place there can be": Envelope("bob", "SETTLE", settled(3, 0, 1) | {"start": 2**20 - 1}),
        **{f"STAKE as {role}": Envelope("validator", "STAKE", {"role": role, "amount": 1_000 * AIT}) for role in ("validator", "provider", "hub")},
        "STAKE of the most": Envelope("validator", "STAKE", {"role": "validator", "amount": MOST}),
        "UNSTAKE as provider": Envelope("provider", "UNSTAKE", {"role": "provider", "amount": 1}),
        "WITHDRAW as hub": Envelope("hub", "WITHDRAW", {"role": "hub"}),
        "PARAM_UPDATE by one authority": update({"number": 1, "set": {"base_fee": 3}}),
        "PARAM_UPDATE of every parameter": update({"number": 3, "set": everything}, four, 0b1011),
        "PARAM_UPDATE of the versions": update({"number": 4, "set": upgrade}, four, 0b0110),
        "PARAM_UPDATE of the authorities": update({"number": MOST, "authorities": members}, four, 0b1101),
        "PARAM_UPDATE of values and authorities": update({"number": 6, "set": {"treasury": ""}, "authorities": members[:1]}, four, 0b1111),
        "PARAM_UPDATE approved by others than its bits, for the state to refuse": Envelope("bob", "PARAM_UPDATE", {"number": 1, "set": {"hubs": []}}, witness={"bitmap": MOST, "sigs": [""] * 50}),
        "PARAM_UPDATE to no versions, for the state to refuse": update({"number": 1, "set": {"activations": []}}),
        "KEY_ROTATE to Ed25519": Envelope("alice", "KEY_ROTATE", rotation(carol)),
        **{f"KEY_ROTATE to {name}": Envelope("alice", "KEY_ROTATE", rotation(other)) for name, other in others.items() if name != "3 of 4, of every scheme"},
        "KEY_ROTATE with no proof, for the state to refuse": Envelope("alice", "KEY_ROTATE", rotation(carol, sig="")),
        "EVIDENCE of two proposals": Envelope("carol", "EVIDENCE", votes(vote("candidate", low), vote("candidate", high))),
        "EVIDENCE of two votes": Envelope("carol", "EVIDENCE", votes(vote("notar", low), vote("notar", high))),
        "EVIDENCE of two final votes": Envelope("carol", "EVIDENCE", votes(vote("final", low), vote("final", high))),
        "EVIDENCE of final and skip": Envelope("carol", "EVIDENCE", votes(vote("final", high), vote("skip", "00" * 32))),
        "EVIDENCE of two attestations, one with the hub's key": Envelope("carol", "EVIDENCE", attestations(*[v1.witness_of(v1.attestation(core)) | more for core, more in zip(_cores(), ({}, named_hub), strict=True)])),
        "EVIDENCE of a block with a forged transfer": Envelope("carol", "EVIDENCE", bad_block()),
        "EVIDENCE of a block with nothing but a forged transfer": Envelope("carol", "EVIDENCE", bad_block(count=1, index=0)),
        "EVIDENCE of a block, the last of 20,000": Envelope("carol", "EVIDENCE", bad_block(count=20_000, index=19_999)),
        "EVIDENCE of a block, by a signature of a multisig's": Envelope("carol", "EVIDENCE", bad_block(Envelope(others["2 of 3"], "TRANSFER", v1.transfer(), sig=BAD_SIG))),
        "EVIDENCE of a block with an unknown type": Envelope("carol", "EVIDENCE", bad_block(Envelope("alice", "THEFT", v1.transfer()))),
        "EVIDENCE of a block with a payload that is no JSON": Envelope("carol", "EVIDENCE", bad_block(Envelope("alice", "TRANSFER", b"{"))),
        "EVIDENCE of a block with a valid transfer, for the state to refuse": Envelope("carol", "EVIDENCE", bad_block(Envelope("alice", "TRANSFER", v1.transfer()))),
        "EVIDENCE of a block with no signature of its leader, for the state to refuse": Envelope("carol", "EVIDENCE", bad_block(sig="")),
        **{f"TRANSFER signed with {name}": Envelope(other, "TRANSFER", v1.transfer(), fee=40) for name, other in others.items()},
    }  # fmt: skip


Refused = tuple[str, str, str]


def _text(type: str, payload: Json, *, signer: str | book.Key | schemes.Owner = "alice", **more: Any) -> str:
    return json.dumps(Envelope(signer, type, payload, **more).plain(), ensure_ascii=False)


def _refused_json() -> list[Refused]:
    return (
        _refused_small()
        + _refused_settles()
        + _refused_updates()
        + _refused_evidence()
        + _refused_witnesses()
    )


def _without(fields: Json, name: str) -> Json:
    return {key: value for key, value in fields.items() if key != name}


BAD_SIG = bytes(64)
"""No key's signature over anything: the last check of all would refuse it."""


def _refused_small() -> list[Refused]:
    """RECEIPT_BATCH, STAKE, UNSTAKE, WITHDRAW, KEY_ROTATE, sessions: the bounds of their fields."""
    root = h("root").hex()
    batch: Json = {"root": root, "count": 3}
    stake: Json = {"role": "provider", "amount": 1}
    rotate = rotation(keys()["carol"])
    off_curve = "secp256k1:02" + f"{5:064x}"
    return [
        ("JOB_LOCK with a default session", _text("JOB_LOCK", v1.job_lock(session=False)), "not_canonical"),
        ("JOB_LOCK with a session of 1", _text("JOB_LOCK", v1.job_lock(session=1)), "wrong_type"),
        ("BATCH with a root of 31 bytes", _text("RECEIPT_BATCH", batch | {"root": root[2:]}), "wrong_type"),
        ("BATCH with a root in capitals", _text("RECEIPT_BATCH", batch | {"root": root.upper()}), "wrong_type"),
        ("BATCH with a root of content", _text("RECEIPT_BATCH", batch | {"root": sha("root")}), "wrong_type"),
        ("BATCH of nothing", _text("RECEIPT_BATCH", batch | {"count": 0}), "out_of_range"),
        ("BATCH of 2^20 + 1", _text("RECEIPT_BATCH", batch | {"count": 2**20 + 1}), "out_of_range"),
        ("BATCH without a count", _text("RECEIPT_BATCH", {"root": root}), "missing_field"),
        ("BATCH with a hub", _text("RECEIPT_BATCH", batch | {"hub": keys()["hub"].address}), "unknown_field"),
        ("BATCH with a witness", _text("RECEIPT_BATCH", batch, witness={}), "unexpected_witness"),
        ("BATCH with a signature of nobody", _text("RECEIPT_BATCH", batch, sig=BAD_SIG), "bad_signature"),
        *[
            (f"{type} as {role}", _text(type, stake | {"role": role} if type != "WITHDRAW" else {"role": role}), "wrong_type")
            for type, roles in (("STAKE", ("", "client", "Provider", "provider\n")), ("UNSTAKE", ("client",)), ("WITHDRAW", ("client",)))
            for role in roles
        ],
        *[
            (f"{type} of {amount}", _text(type, stake | {"amount": amount}), "out_of_range")
            for type in ("STAKE", "UNSTAKE")
            for amount in (0, -1)
        ],
        *[
            (f"{type} of 2^53", _text(type, stake).replace('"amount": 1,', f'"amount": {2**53},'), "out_of_range")
            for type in ("STAKE", "UNSTAKE")
        ],
        ("STAKE with a witness", _text("STAKE", stake, witness={}), "unexpected_witness"),
        ("UNSTAKE with a witness", _text("UNSTAKE", stake, witness={}), "unexpected_witness"),
        ("WITHDRAW with a witness", _text("WITHDRAW", {"role": "hub"}, witness={}), "unexpected_witness"),
        ("WITHDRAW of an amount", _text("WITHDRAW", stake), "unknown_field"),
        ("ROTATE without a proof", _text("KEY_ROTATE", {"pubkey": rotate["pubkey"]}), "missing_field"),
        ("ROTATE without a key", _text("KEY_ROTATE", {"sig": rotate["sig"]}), "missing_field"),
        ("ROTATE with a witness", _text("KEY_ROTATE", rotate, witness={}), "unexpected_witness"),
        ("ROTATE to a key of 31 bytes", _text("KEY_ROTATE", rotate | {"pubkey": rotate["pubkey"][2:]}), "bad_hex"),
        ("ROTATE to no key", _text("KEY_ROTATE", rotate | {"pubkey": ""}), "bad_hex"),
        ("ROTATE to Ed25519 by name", _text("KEY_ROTATE", rotate | {"pubkey": "ed25519:" + rotate["pubkey"]}), "unknown_scheme"),
        ("ROTATE to a scheme that nobody knows", _text("KEY_ROTATE", rotate | {"pubkey": "p256:" + rotate["pubkey"]}), "unknown_scheme"),
        ("ROTATE to 32 bytes of secp256k1", _text("KEY_ROTATE", rotate | {"pubkey": "secp256k1:" + rotate["pubkey"]}), "out_of_range"),
        ("ROTATE to a key off the curve", _text("KEY_ROTATE", rotate | {"pubkey": off_curve}), "bad_key"),
        ("ROTATE with a proof in capitals", _text("KEY_ROTATE", rotate | {"sig": rotate["sig"].upper()}), "bad_hex"),
        ("ROTATE with half a byte of proof", _text("KEY_ROTATE", rotate | {"sig": "0"}), "bad_hex"),
        ("ROTATE to a bad key, the proof no hexadecimal", _text("KEY_ROTATE", {"pubkey": off_curve, "sig": "zz"}), "bad_key"),
        ("ROTATE to a bad key, signed by nobody", _text("KEY_ROTATE", rotate | {"pubkey": off_curve}, sig=BAD_SIG), "bad_key"),
    ]  # fmt: skip


def _refused_settles() -> list[Refused]:
    """The bounds of the fields, then the first check of each pair that batches.md names; leaves: batches.json."""
    good = settled(3, 0, 3)
    ids = [f"{i:064x}" for i in range(41)]
    nobody = good["providers"][0][:-1] + ("q" if good["providers"][0][-1] != "q" else "p")
    strangers = [nobody, *good["providers"][1:]]

    def text(**more: Any) -> str:
        envelope = {name: more.pop(name) for name in ("sig", "witness") if name in more}
        return _text("SETTLE", good | more, signer="bob", **envelope)

    return [
        ("SETTLE with a start of -1", text(start=-1), "out_of_range"),
        ("SETTLE with a start of 2^20", text(start=2**20), "out_of_range"),
        ("SETTLE of half a batch's id", text(batch=good["batch"][:32]), "wrong_type"),
        ("SETTLE without locks", text(locks=[]), "out_of_range"),
        ("SETTLE with a lock of 31 bytes", text(locks=[good["locks"][0][2:]]), "wrong_type"),
        ("SETTLE without providers", text(providers=[]), "out_of_range"),
        ("SETTLE with leaves as a list", text(leaves=[good["leaves"]]), "wrong_type"),
        ("SETTLE with 41 nodes", text(proof=ids), "out_of_range"),
        ("SETTLE with a node of 31 bytes", text(proof=[ids[0][2:]]), "wrong_type"),
        ("SETTLE without a proof", _text("SETTLE", _without(good, "proof")), "missing_field"),
        ("SETTLE with a stop", text(stop=3), "unknown_field"),
        ("SETTLE with a witness", text(witness={}), "unexpected_witness"),
        ("SETTLE with a witness, to no address", text(witness={}, providers=strangers), "unexpected_witness"),
        ("SETTLE to no address", text(providers=strangers), "bad_address"),
        ("SETTLE to no address, from locks out of order", text(providers=strangers, locks=good["locks"][::-1]), "bad_address"),
        ("SETTLE from locks out of order", text(locks=good["locks"][::-1]), "not_canonical"),
        ("SETTLE from locks out of order, of no leaf", text(locks=good["locks"][::-1], leaves=""), "not_canonical"),
        ("SETTLE to providers out of order", text(providers=good["providers"][::-1]), "not_canonical"),
        ("SETTLE of no leaf", text(leaves=""), "malformed"),
        ("SETTLE of no leaf, signed by nobody", text(leaves="", sig=BAD_SIG), "malformed"),
        ("SETTLE from a lock that no leaf names", text(locks=[ids[0], *good["locks"]]), "not_canonical"),
        ("SETTLE signed by nobody", text(sig=BAD_SIG), "bad_signature"),
    ]  # fmt: skip


def _refused_updates() -> list[Refused]:
    people = keys()
    carol, nobody = people["carol"].address, people["carol"].address[:-1] + "q"
    assert nobody != carol
    fifty = [{"address": book.bech32(i.to_bytes(20, "big"))} for i in range(51)]
    sound: Json = {"number": 1, "set": {"base_fee": 3}}
    signed = approvals(sound, [people["validator"]], 1)

    def text(payload: Json, witness: Json = signed, **more: Any) -> str:
        return _text("PARAM_UPDATE", {"number": 1} | payload, witness=witness, **more)

    def setting(**values: Json) -> str:
        return text({"set": values})

    def naming(*members: Json, **more: Any) -> str:
        return text({"authorities": list(members)}, **more)

    return [
        ("UPDATE number 0", _text("PARAM_UPDATE", sound | {"number": 0}, witness=signed), "out_of_range"),
        ("UPDATE without a number", _text("PARAM_UPDATE", _without(sound, "number"), witness=signed), "missing_field"),
        ("UPDATE with nothing set, spelled out", text({"set": {}, "authorities": [{"address": carol}]}), "not_canonical"),
        ("UPDATE with nobody named, spelled out", text(sound | {"authorities": []}), "not_canonical"),
        ("UPDATE that sets a list", text({"set": [["base_fee", 3]]}), "wrong_type"),
        ("UPDATE of nothing", text({}), "missing_field"),
        ("UPDATE of nothing, without approvals", text({}, None), "missing_field"),
        ("UPDATE of a parameter that nobody knows", setting(block_reward=1), "unknown_param"),
        *[(f"UPDATE of {name}", setting(**{name: value}), "unknown_param")
          for name, value in (("devnet", 1), ("faucet", ""), ("faucet_limit", 1), ("synthetic_attester", ""),
                              ("consensus.mode", "poa"), ("supply.minted", 1), ("", 1))],
        ("UPDATE to a text", setting(base_fee="3"), "wrong_type"),
        ("UPDATE to a truth", setting(base_fee=True), "wrong_type"),
        ("UPDATE to null", setting(base_fee=None), "wrong_type"),
        ("UPDATE to a list", setting(base_fee=[3]), "wrong_type"),
        ("UPDATE to a fraction", setting(base_fee=3).replace('"base_fee": 3', '"base_fee": 3.0'), "float_not_allowed"),
        ("UPDATE to 2^53", setting(hub_bond=3).replace('"hub_bond": 3', f'"hub_bond": {2**53}'), "out_of_range"),
        ("UPDATE of one parameter twice", setting(base_fee=3).replace('"base_fee": 3', '"base_fee": 3, "base_fee": 3'), "duplicate_key"),
        ("UPDATE of the hubs to one", setting(hubs=carol), "wrong_type"),
        ("UPDATE of the hubs to numbers", setting(hubs=[1]), "wrong_type"),
        ("UPDATE of the hubs, one twice", setting(hubs=[carol, carol]), "out_of_range"),
        ("UPDATE of the hubs to 101", setting(hubs=[book.bech32(i.to_bytes(20, "big")) for i in range(101)]), "out_of_range"),
        ("UPDATE of the hubs to no address", setting(hubs=[nobody]), "bad_address"),
        ("UPDATE of the treasury to no address", setting(treasury=nobody), "bad_address"),
        ("UPDATE of the treasury to a number", setting(treasury=0), "wrong_type"),
        ("UPDATE of the versions to a number", setting(activations=3), "wrong_type"),
        ("UPDATE of the versions to numbers", setting(activations=[3]), "wrong_type"),
        ("UPDATE of a value and of one that nobody knows", setting(base_fee=3, zzz=1), "unknown_param"),
        ("UPDATE of a bad value and of one that nobody knows", setting(base_fee=-1, zzz=1), "out_of_range"),
        ("UPDATE of one that nobody knows and of a bad value", setting(aaa=1, base_fee=-1), "unknown_param"),
        ("UPDATE of the hubs to no address twice", setting(hubs=[nobody, nobody]), "out_of_range"),
        ("UPDATE of a bad value and a bad list", text({"set": {"base_fee": -1}, "authorities": [{"address": nobody}]}), "out_of_range"),
        ("UPDATE to 51 authorities", naming(*fifty), "out_of_range"),
        ("UPDATE to an authority twice", naming({"address": carol}, {"address": carol}), "out_of_range"),
        ("UPDATE to no address twice", naming({"address": nobody}, {"address": nobody}), "out_of_range"),
        ("UPDATE to no address", naming({"address": nobody}), "bad_address"),
        ("UPDATE to no address with a key", naming({"address": nobody, "pubkey": people["bob"].text}), "bad_address"),
        ("UPDATE to an authority with another's key", naming({"address": carol, "pubkey": people["bob"].text}), "wrong_key"),
        ("UPDATE to an authority with another's key and to no address", naming({"address": carol, "pubkey": people["bob"].text}, {"address": nobody}), "wrong_key"),
        ("UPDATE to no address and an authority with another's key", naming({"address": nobody}, {"address": carol, "pubkey": people["bob"].text}), "bad_address"),
        ("UPDATE to an authority with a default key", naming({"address": carol, "pubkey": ""}), "not_canonical"),
        ("UPDATE to an authority with a key of 31 bytes", naming({"address": carol, "pubkey": people["carol"].text[2:]}), "bad_hex"),
        ("UPDATE to an authority without address", naming({"pubkey": people["carol"].text}), "missing_field"),
        ("UPDATE to an authority with power", naming({"address": carol, "power": 1}), "unknown_field"),
        ("UPDATE with another's key, without approvals", naming({"address": carol, "pubkey": people["bob"].text}, witness=None), "wrong_key"),
        ("UPDATE without approvals", _text("PARAM_UPDATE", sound), "not_enough_approvals"),
        ("UPDATE without approvals, signed by nobody", _text("PARAM_UPDATE", sound, sig=BAD_SIG), "not_enough_approvals"),
        ("UPDATE with an empty witness", text(sound, {}), "missing_field"),
        ("UPDATE with half a witness", text(sound, {"bitmap": 1}), "missing_field"),
        ("UPDATE with a field more in the witness", text(sound, signed | {"set": {}}), "unknown_field"),
        ("UPDATE with a bitmap of 0", text(sound, signed | {"bitmap": 0}), "out_of_range"),
        ("UPDATE with a bitmap of 2^53", text(sound).replace('"bitmap": 1,', f'"bitmap": {2**53},'), "out_of_range"),
        ("UPDATE with 51 approvals", text(sound, {"bitmap": 1, "sigs": [""] * 51}), "out_of_range"),
        ("UPDATE with a bitmap of -1", text(sound, signed | {"bitmap": -1}), "out_of_range"),
        ("UPDATE with a bitmap of text", text(sound, signed | {"bitmap": "1"}), "wrong_type"),
        ("UPDATE with an approval in capitals", text(sound, signed | {"sigs": [signed["sigs"][0].upper()]}), "bad_hex"),
        ("UPDATE with an approval of half a byte", text(sound, signed | {"sigs": [signed["sigs"][0], "0"]}), "bad_hex"),
        ("UPDATE with an approval that is no hexadecimal, signed by nobody", text(sound, signed | {"sigs": ["zz"]}, sig=BAD_SIG), "bad_hex"),
        ("UPDATE with approvals of more than 8 KiB", text(sound, {"bitmap": 2**50 - 1, "sigs": signed["sigs"] * 64}), "too_large"),
        ("UPDATE signed by nobody", text(sound, sig=BAD_SIG), "bad_signature"),
    ]  # fmt: skip


def _refused_evidence() -> list[Refused]:
    low, high = candidates()
    a_core, b_core = _cores()
    a, b = v1.witness_of(v1.attestation(a_core)), v1.witness_of(v1.attestation(b_core))
    nobody, carol = keys()["validator"].address[:-1] + "q", keys()["carol"].text
    assert nobody != keys()["validator"].address
    sound = votes(vote("notar", low), vote("notar", high))

    def text(payload: Json, **more: Any) -> str:
        return _text("EVIDENCE", payload, signer="carol", **more)

    def attested(second: Json, first: Json = a) -> str:
        """Two attestations, put into the right order unless a case is about that."""
        both = sorted((first, second), key=lambda one: one["attestation"]["receipt_id"])
        return text(attestations(*both))

    def other(**more: Json) -> Json:
        return v1.witness_of(v1.attestation(b_core) | more)

    no_conflict = [
        ("the same vote twice", vote("notar", low), vote("notar", low)),
        ("the higher candidate first", vote("notar", high), vote("notar", low)),
        ("the same proposal twice", vote("candidate", low), vote("candidate", low)),
        ("the higher proposal first", vote("candidate", high), vote("candidate", low)),
        ("the same final vote twice", vote("final", low), vote("final", low)),
        ("the higher final vote first", vote("final", high), vote("final", low)),
        ("two skips", vote("skip", low), vote("skip", high)),
        ("skip before final", vote("skip", "00" * 32), vote("final", low)),
        ("notar and skip", vote("notar", low), vote("skip", "00" * 32)),
        ("notar and final", vote("notar", low), vote("final", high)),
        ("final and notar", vote("final", low), vote("notar", high)),
        ("candidate and notar", vote("candidate", low), vote("notar", high)),
        ("candidate and skip", vote("candidate", low), vote("skip", high)),
    ]
    return [
        ("EVIDENCE of nothing", text({}), "missing_field"),
        ("EVIDENCE of two kinds", text(sound | attestations()), "missing_field"),
        ("EVIDENCE of two kinds, one no conflict", text(votes(vote("notar", low), vote("notar", low)) | attestations()), "missing_field"),
        ("EVIDENCE with the other kind null", text(sound | {"attestations": None}), "not_canonical"),
        ("EVIDENCE with a witness", text(sound, witness={}), "unexpected_witness"),
        *[(f"EVIDENCE of votes: {name}", text(votes(first, second)), "no_conflict") for name, first, second in no_conflict],
        ("EVIDENCE of one vote", text({"votes": _without(sound["votes"], "second")}), "missing_field"),
        ("EVIDENCE of a vote of no kind", text(votes(vote("notar", low), vote("notarize", high))), "wrong_type"),
        ("EVIDENCE of a vote for half an id", text(votes(vote("notar", low), vote("notar", high) | {"candidate": high[:32]})), "wrong_type"),
        ("EVIDENCE of a vote without candidate", text(votes(vote("final", low), _without(vote("skip", high), "candidate"))), "missing_field"),
        ("EVIDENCE of epoch -1", text(votes(vote("notar", low), vote("notar", high), epoch=-1)), "out_of_range"),
        ("EVIDENCE of slot -1", text(votes(vote("notar", low), vote("notar", high), slot=-1)), "out_of_range"),
        ("EVIDENCE of slot 2^53", text(sound).replace('"slot": 31', f'"slot": {2**53}'), "out_of_range"),
        ("EVIDENCE against no address", text(votes(vote("notar", low), vote("notar", high), validator=nobody)), "bad_address"),
        ("EVIDENCE against no address, with a vote in capitals", text(votes(vote("notar", low), vote("notar", high, sig="AB"), validator=nobody)), "bad_address"),
        ("EVIDENCE of no conflict, with a vote in capitals", text(votes(vote("notar", low, sig="AB"), vote("notar", low))), "bad_hex"),
        ("EVIDENCE with a vote of 4,097 bytes", text(votes(vote("notar", low, sig="00" * 4_097), vote("notar", high))), "out_of_range"),
        ("EVIDENCE with a vote in capitals", text(votes(vote("notar", low), vote("notar", high, sig="AB"))), "bad_hex"),
        ("EVIDENCE of no conflict, signed by nobody", text(votes(vote("notar", low), vote("notar", low)), sig=BAD_SIG), "no_conflict"),
        ("EVIDENCE of attestations: one twice", text(attestations(a, a)), "no_conflict"),
        ("EVIDENCE of attestations: the higher id first", text(attestations(b, a)), "no_conflict"),
        ("EVIDENCE of attestations: another task", attested(other(task=1)), "no_conflict"),
        ("EVIDENCE of attestations: another attempt", attested(other(attempt=2)), "no_conflict"),
        ("EVIDENCE of attestations: another lock", attested(other(lock=h("another lock").hex())), "no_conflict"),
        ("EVIDENCE of attestations: another hub", attested(other(hub=keys()["carol"].address)), "no_conflict"),
        ("EVIDENCE of attestations: no lock", text(attestations(*[v1.witness_of(one["attestation"] | {"lock": ""}) for one in (a, b)])), "no_conflict"),
        ("EVIDENCE of attestations: one twice, in capitals", text(attestations(a, a | {"sig": a["sig"].upper()})), "bad_hex"),
        ("EVIDENCE of attestations: by no address, in capitals", text(attestations(*[{"attestation": one["attestation"] | {"hub": nobody}, "sig": "AB"} for one in (a, b)])), "bad_address"),
        ("EVIDENCE of attestations: one without signature", text(attestations(a, _without(b, "sig"))), "missing_field"),
        ("EVIDENCE of attestations: one in capitals", text(attestations(a, b | {"sig": b["sig"].upper()})), "bad_hex"),
        ("EVIDENCE of attestations: a default key", text(attestations(a, b | {"pubkey": ""})), "not_canonical"),
        ("EVIDENCE of attestations: a text that is no key", text(attestations(a | {"pubkey": "no key"}, b)), "bad_hex"),
        ("EVIDENCE of attestations: another's key", text(attestations(a, b | {"pubkey": carol})), "wrong_key"),
        ("EVIDENCE of attestations: another's key, in capitals", text(attestations(a | {"pubkey": carol, "sig": "AB"}, b)), "bad_hex"),
        ("EVIDENCE of attestations: another's key, the second in capitals", text(attestations(a | {"pubkey": carol}, b | {"sig": "AB"})), "wrong_key"),
        ("EVIDENCE of attestations: one twice, with another's key", text(attestations(a, a | {"pubkey": carol})), "wrong_key"),
        ("EVIDENCE of attestations: another hub, with its key", text(attestations(*sorted((a, other(hub=keys()["carol"].address) | {"pubkey": carol}), key=lambda one: one["attestation"]["receipt_id"]))), "no_conflict"),
        ("EVIDENCE of attestations: routed by nobody", text(attestations(a, b | {"attestation": b["attestation"] | {"routed": "fixed"}})), "wrong_type"),
        ("EVIDENCE signed by nobody", text(sound, sig=BAD_SIG), "bad_signature"),
    ] + [(f"EVIDENCE of a block: {name}", text(payload), reason) for name, payload, reason in _refused_blocks()]  # fmt: skip


def _refused_blocks() -> list[tuple[str, Json, str]]:
    said = bad_block()["block"]
    path, nobody = said["path"], said["validator"][:-1] + "q"
    other = Envelope("alice", "TRANSFER", v1.transfer(amount=1), sig=BAD_SIG)
    long_array = "dc0008" + said["tx"][2:]
    below = forged()
    below.nonce = -1
    return [
        ("and votes", bad_block() | votes(vote("notar", candidates()[0]), vote("notar", candidates()[1])), "missing_field"),
        ("and attestations", bad_block() | attestations(), "missing_field"),
        ("the other kinds null", bad_block() | {"votes": None}, "not_canonical"),
        *[(f"without its {name}", {"block": _without(said, name)}, "missing_field") for name in said],
        ("with a field more", bad_block(proposer=nobody), "unknown_field"),
        *[(f"{name} of -1", bad_block(**{name: -1}), "out_of_range") for name in ("epoch", "slot", "parent_slot")],
        ("index of -1", {"block": said | {"index": -1}}, "out_of_range"),
        ("count of -1", {"block": said | {"count": -1}}, "out_of_range"),
        ("a parent of half an id", bad_block(parent_id="ab" * 16), "wrong_type"),
        ("a signature of 4,097 bytes", bad_block(sig="00" * 4_097), "out_of_range"),
        ("a path of 41 nodes", bad_block(path=[h("node").hex()] * 41), "out_of_range"),
        ("a path of half a node", bad_block(path=[path[0][:32], *path[1:]]), "wrong_type"),
        ("a path in capitals", bad_block(path=[path[0].upper(), *path[1:]]), "wrong_type"),
        ("by no address", bad_block(validator=nobody), "bad_address"),
        ("by no address, signed in capitals", bad_block(validator=nobody, sig="AB"), "bad_address"),
        ("signed in capitals", bad_block(sig="AB"), "bad_hex"),
        ("signed in capitals, with no header", {"block": said | {"sig": "AB", "header": "80"}}, "bad_hex"),
        ("a header in capitals", {"block": said | {"header": said["header"].upper()}}, "bad_hex"),
        ("a header of twelve fields", {"block": said | {"header": "9c" + said["header"][2:]}}, "malformed"),
        ("a header with a byte too many", {"block": said | {"header": said["header"] + "00"}}, "malformed"),
        ("a header of no bytes", {"block": said | {"header": ""}}, "malformed"),
        ("a header whose version takes two bytes", {"block": said | {"header": "9dcc02" + said["header"][4:]}}, "not_canonical"),
        ("a header of height -1", bad_block(header={"height": -1}), "out_of_range"),
        ("a header of version -1", bad_block(header={"version": -1}), "out_of_range"),
        ("a header of height -1, with a transaction in capitals", {"block": bad_block(header={"height": -1})["block"] | {"tx": "AB"}}, "out_of_range"),
        ("a transaction in capitals", {"block": said | {"tx": said["tx"].upper()}}, "bad_hex"),
        ("a header that is a transaction", {"block": said | {"header": said["tx"]}}, "malformed"),
        ("a transaction that is a header", {"block": said | {"tx": said["header"]}}, "malformed"),
        ("a long form of the transaction's array", {"block": said | {"tx": long_array}}, "not_canonical"),
        ("a transaction with nonce -1", bad_block(below, leaf=h("wid")), "out_of_range"),
        ("a transaction too large for the payload", {"block": said | {"tx": "00" * 8_193}}, "too_large"),
        ("a transaction that is not in it", {"block": said | {"tx": bad_block(other)["block"]["tx"]}}, "bad_proof"),
        ("another root", bad_block(header={"txs_root": h("another root")}), "bad_proof"),
        ("a root of no bytes", bad_block(header={"txs_root": b""}), "bad_proof"),
        ("the place before it", {"block": said | {"index": 1}}, "bad_proof"),
        ("the place behind the last", {"block": said | {"index": 5}}, "bad_proof"),
        ("one more transaction", {"block": said | {"count": 6}}, "bad_proof"),
        ("no transactions", {"block": said | {"index": 0, "count": 0}}, "bad_proof"),
        ("2^53 - 1 transactions", {"block": said | {"count": MOST}}, "bad_proof"),
        ("a path that is too short", {"block": said | {"path": path[:-1]}}, "bad_proof"),
        ("a path that is too long", {"block": said | {"path": [*path, h("node").hex()]}}, "bad_proof"),
        ("a path from the root down", {"block": said | {"path": path[::-1]}}, "bad_proof"),
    ]  # fmt: skip


def _refused_witnesses() -> list[Refused]:
    """RECEIPT_CLAIM and REGISTER: what version 2 adds to their witnesses, and two faults at once."""
    hub, carol, nobody = keys()["hub"], keys()["carol"], keys()["hub"].address[:-1] + "q"
    good, witness = v1.claim_payload(v1.core()), v1.witness_of(v1.attestation(v1.core()))
    calibrated = v1.claim_payload(calibration_core())
    other_id = {"receipt_id": "rcpt_" + "0" * 64}
    unnamed = v1.claim_payload(v1.core(client_addr="client"))
    greedy = v1.witness_of(v1.attestation(v1.core(), units=1_899))
    vouched = v1.countersignature()

    def claim(payload: Json, given: Json, **more: Any) -> str:
        return _text("RECEIPT_CLAIM", payload, signer="provider", witness=given, **more)

    def registered(given: Json, *, sig: bytes | None = None, **more: Json) -> str:
        signed = {} if sig is None else {"sig": sig}
        return _text("REGISTER", register(**more), signer="provider", witness=given, **signed)

    def unnamed_word(given: Json) -> str:
        return _text("REGISTER", v1.register(), signer="provider", witness=given)

    return [
        ("CLAIM for no client, signed in capitals", claim(unnamed | {"miner_sig": "AB"}, witness), "bad_address"),
        ("CLAIM signed in capitals, of another id", claim(good | other_id | {"miner_sig": "AB"}, witness), "bad_hex"),
        ("CLAIM of another id, without attestation", claim(good | other_id, None), "receipt_id_mismatch"),
        ("CLAIM without attestation, sent by nobody", claim(good, None, sig=BAD_SIG), "attestation_missing"),
        ("CLAIM attested in capitals, of too many units", claim(good, greedy | {"sig": "AB"}), "bad_hex"),
        ("CLAIM of too many units, attested for another task", claim(good, v1.witness_of(v1.attestation(v1.core(), units=1_899, task=1))), "units_above_attested"),
        ("CLAIM attested for another task, sent by nobody", claim(good, v1.witness_of(v1.attestation(v1.core(), task=1)), sig=BAD_SIG), "attestation_mismatch"),
        ("CLAIM with a lock, attested as calibration", claim(good, v1.witness_of(v1.attestation(v1.core(), routed="calibration"))), "attestation_mismatch"),
        ("CLAIM of a calibration, attested as drawn", claim(calibrated, v1.witness_of(v1.attestation(calibration_core(), hub=hub.address, routed="random"))), "attestation_mismatch"),
        ("CLAIM of a calibration, attested for another price", claim(calibrated, calibration_witness(calibration_core(), price=1)), "attestation_mismatch"),
        ("CLAIM with a default key of the hub", claim(good, witness | {"pubkey": ""}), "not_canonical"),
        ("CLAIM with a hub's key of a number", claim(good, witness | {"pubkey": 1}), "wrong_type"),
        ("CLAIM with a hub's key that is no key", claim(good, witness | {"pubkey": "p256:"}), "unknown_scheme"),
        ("CLAIM with a hub's key of a scheme's wrong length", claim(good, witness | {"pubkey": "secp256k1:02"}), "out_of_range"),
        ("CLAIM with another's key for the hub", claim(good, witness | {"pubkey": carol.text}), "wrong_key"),
        ("CLAIM attested in capitals, with another's key for the hub", claim(good, witness | {"sig": "AB", "pubkey": carol.text}), "bad_hex"),
        ("CLAIM with another's key for the hub, of too many units", claim(good, greedy | {"pubkey": carol.text}), "wrong_key"),
        ("CLAIM attested by no address, with a key", claim(good, {"attestation": v1.attestation(v1.core(), hub="hub"), "sig": "", "pubkey": hub.text}), "wrong_key"),
        ("CLAIM attested as nothing", claim(good, {}), "missing_field"),
        ("REGISTER with an empty witness", registered({}), "missing_field"),
        ("REGISTER with a hub alone", registered({"hub": hub.address}), "missing_field"),
        ("REGISTER with a hub's signature alone", registered({"sig": vouched["sig"]}), "missing_field"),
        ("REGISTER with a hub's key alone", registered({"pubkey": hub.text}), "missing_field"),
        ("REGISTER with a hub's key and a validator's word", registered({"pubkey": hub.text, "validator_sig": validator_signature()}), "missing_field"),
        ("REGISTER with a hub and a validator's word", registered({"hub": hub.address, "validator_sig": validator_signature()}), "missing_field"),
        ("REGISTER with a hub's key that is no key", registered(vouched | {"pubkey": "00"}), "bad_hex"),
        ("REGISTER with another's key for the hub", registered(vouched | {"pubkey": carol.text}), "wrong_key"),
        ("REGISTER countersigned by no address, with another's key", registered(vouched | {"hub": nobody, "pubkey": carol.text}), "bad_address"),
        ("REGISTER with another's key for the hub, in capitals", registered({"hub": hub.address, "sig": "AB", "pubkey": carol.text}), "wrong_key"),
        ("REGISTER with a word for no validator", unnamed_word({"validator_sig": validator_signature()}), "unexpected_witness"),
        ("REGISTER with a word for no validator, in capitals", unnamed_word({"validator_sig": "AB"}), "unexpected_witness"),
        ("REGISTER with a word for no validator and half a witness", unnamed_word({"hub": hub.address, "validator_sig": validator_signature()}), "missing_field"),
        ("REGISTER with a word for no validator, countersigned by no address", unnamed_word({"hub": nobody, "sig": "AB", "validator_sig": "AB"}), "unexpected_witness"),
        ("REGISTER with a default word", registered(vouched | {"validator_sig": ""}), "not_canonical"),
        ("REGISTER with a word in capitals", registered({"validator_sig": validator_signature().upper()}), "bad_hex"),
        ("REGISTER with a hub's signature in capitals", registered(vouched | {"sig": vouched["sig"].upper()}), "bad_hex"),
        ("REGISTER countersigned by no address with a signature", registered(vouched | {"hub": nobody}), "bad_address"),
        ("REGISTER paid to no address, a model twice", registered(vouched, payout=nobody, models=[v1.offer(), v1.offer()]), "bad_address"),
        ("REGISTER for a validator that is no address", registered(vouched, validator=nobody), "bad_address"),
        ("REGISTER with a model twice and half a witness", registered({"hub": hub.address}, models=[v1.offer(), v1.offer()]), "duplicate_key"),
        ("REGISTER with half a witness, a word in capitals", registered({"sig": "AB", "validator_sig": "AB"}), "missing_field"),
        ("REGISTER countersigned by no address in capitals", registered({"hub": nobody, "sig": "AB"}), "bad_address"),
        ("REGISTER with a field more in the witness", registered(vouched | {"role": "hub"}), "unknown_field"),
        ("REGISTER with half a witness, signed by nobody", registered({"hub": hub.address}, sig=BAD_SIG), "missing_field"),
    ]  # fmt: skip


def _refused_wire() -> list[tuple[str, bytes, str]]:
    """Keys of other schemes, second spellings, and two faults at once: the first of the order names the reason."""
    return _wire_pairs() + _wire_keys() + _wire_spellings()


def _wire_pairs() -> list[tuple[str, bytes, str]]:
    """Of an UNSTAKE, which takes no witness, and a PARAM_UPDATE, which needs one."""
    base = Envelope("alice", "UNSTAKE", {"role": "hub", "amount": 1}).array()
    own = book.jcs({"role": "hub", "amount": 0})
    faults: list[tuple[str, dict[int, Any], str]] = [
        ("a type that nobody knows", {0: "MINT"}, "unknown_type"),
        ("a sender of 41 characters", {1: base[1][:-1]}, "bad_address"),
        ("nonce 0", {2: 0}, "out_of_range"),
        ("a scheme that nobody knows", {5: b"\x04" + base[5][1:]}, "unknown_scheme"),
        ("a key off the curve", {5: b"\x01\x02" + (5).to_bytes(32, "big")}, "bad_key"),
        ("a payload that is no JSON", {4: b"{"}, "malformed"),
        ("an amount of 0", {4: own}, "out_of_range"),
        ("a witness that is no JSON", {7: b"{"}, "unexpected_witness"),
        ("signed by nobody", {6: BAD_SIG}, "bad_signature"),
    ]  # fmt: skip

    def packed(*changes: dict[int, Any]) -> bytes:
        array = list(base)
        for change in changes:
            for place, value in change.items():
                array[place] = value
        return book.msgpack(array)

    cases = [(f"UNSTAKE: {name}", packed(change), reason) for name, change, reason in faults]
    for i, (first, change, reason) in enumerate(faults):
        for second, more, other in faults[i + 1 :]:
            if change.keys() != more.keys() and reason != other:
                cases.append((f"UNSTAKE: {first}, {second}", packed(change, more), reason))
    large = {7: b" " * 4_097}
    cases += [
        ("UNSTAKE: a witness of 4,096 bytes", packed({7: b" " * 4_096}), "unexpected_witness"),
        ("UNSTAKE: a type that nobody knows, a witness of 4,097 bytes", packed(faults[0][1], large), "unknown_type"),
        ("UNSTAKE: a witness of 4,097 bytes, a sender of 41 characters", packed(large, faults[1][1]), "too_large"),
        ("UNSTAKE: a signature of 4,096 bytes", packed({6: bytes(4_096)}), "bad_signature"),
    ]  # fmt: skip
    good = update({"number": 1, "set": {"base_fee": 3}})
    spaced = b'{"number":1, "set":{"base_fee":3}}'
    none = book.jcs({"number": 1})
    pairs = [
        ("a payload that is no JSON, a witness with space", b"{", good.witness + b" ", "malformed"),
        ("a payload with space, a witness that is no JSON", spaced, b"{", "not_canonical"),
        ("nothing set, a witness with space", none, good.witness + b" ", "not_canonical"),
        ("nothing set, a witness that is no JSON", none, b"{", "malformed"),
        ("nothing set, no witness", none, b"", "missing_field"),
    ]
    for name, payload, witness, reason in pairs:
        array = [*good.array()[:4], payload, *good.array()[5:7], witness]
        cases.append((f"PARAM_UPDATE: {name}", book.msgpack(array), reason))
    return cases


def _wire_keys() -> list[tuple[str, bytes, str]]:
    """A TRANSFER by keys that break the rules of their scheme, or with signatures that do."""
    others = schemes.owners()
    secp, several = others["secp256k1"], others["2 of 3"]
    members = several.auth[3:]
    turned = several.auth[:3] + members[35:70] + members[:35] + members[70:]
    good = Envelope(secp, "TRANSFER", v1.transfer())
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high_s = good.sig[:32] + (order - int.from_bytes(good.sig[32:], "big")).to_bytes(32, "big")
    shared = Envelope(several, "TRANSFER", v1.transfer())
    one_only = b"\x00\x01" + shared.sig[2:68]

    def packed(owner: Any, **more: Any) -> bytes:
        return book.msgpack(Envelope(owner, "TRANSFER", v1.transfer(), **more).array())

    return [
        ("a key off the curve", packed("alice", pubkey=b"\x01\x02" + (5).to_bytes(32, "big")), "bad_key"),
        ("a secp256k1 key of 32 bytes", packed("alice", pubkey=secp.auth[:-1]), "out_of_range"),
        ("an RSA key that is even", packed("alice", pubkey=others["rsa-pss"].auth[:-1] + b"\x00"), "bad_key"),
        ("a multisig of members out of order", packed("alice", pubkey=turned), "bad_key"),
        ("a multisig of 4 of 3", packed("alice", pubkey=b"\x03\x04" + several.auth[2:]), "out_of_range"),
        ("a multisig of a multisig", packed("alice", pubkey=b"\x03\x01\x01\x00\x04\x03\x01\x01\x00"), "unknown_scheme"),
        ("an s above n/2", packed(secp, sig=high_s), "bad_signature"),
        ("one signature of two", packed(several, sig=one_only), "bad_signature"),
        ("a signature by Ed25519 under secp256k1", packed(secp, sig=keys()["alice"].sign(good.id)), "bad_signature"),
    ]  # fmt: skip


def _wire_spellings() -> list[tuple[str, bytes, str]]:
    """Payloads and witnesses whose JSON is right and not canonical."""
    carol = keys()["carol"].address
    good = update({"number": 1, "set": {"base_fee": 3}})
    witness = json.loads(good.witness)
    sig = witness["sigs"][0]

    def packed(type: str, payload: bytes, given: bytes = b"") -> bytes:
        return book.msgpack(Envelope("alice", type, payload, witness=given or None).array())

    def updated(payload: str, given: bytes = good.witness) -> bytes:
        return packed("PARAM_UPDATE", payload.encode(), given)

    settle = settled(3, 0, 3)
    unsorted = json.dumps(settle, separators=(",", ":"))
    assert unsorted.encode() != book.jcs(settle)
    return [
        ("PARAM_UPDATE: names of `set` out of order", updated('{"number":1,"set":{"fee_burn_bp":1,"base_fee":3}}'), "not_canonical"),
        ("PARAM_UPDATE: a name of `set` twice", updated('{"number":1,"set":{"base_fee":3,"base_fee":3}}'), "not_canonical"),
        ("PARAM_UPDATE: a value with a fraction", updated('{"number":1,"set":{"base_fee":3.0}}'), "float_not_allowed"),
        ("PARAM_UPDATE: a value of -0", updated('{"number":1,"set":{"base_fee":-0}}'), "not_canonical"),
        ("PARAM_UPDATE: a value of 2^53", updated(f'{{"number":1,"set":{{"hub_bond":{2**53}}}}}'), "out_of_range"),
        ("PARAM_UPDATE: space in a list", updated(f'{{"number":1,"set":{{"hubs":[ "{carol}"]}}}}'), "not_canonical"),
        ("PARAM_UPDATE: a version's fields out of order", updated('{"number":1,"set":{"activations":[{"version":2,"height":0}]}}'), "not_canonical"),
        ("PARAM_UPDATE: an empty `set`", updated(f'{{"authorities":[{{"address":"{carol}"}}],"number":1,"set":{{}}}}'), "not_canonical"),
        ("PARAM_UPDATE: an empty list of authorities", updated('{"authorities":[],"number":1,"set":{"base_fee":3}}'), "not_canonical"),
        ("PARAM_UPDATE: a witness out of order", updated('{"number":1,"set":{"base_fee":3}}', f'{{"sigs":["{sig}"],"bitmap":1}}'.encode()), "not_canonical"),
        ("JOB_LOCK: a default session", packed("JOB_LOCK", book.jcs(v1.job_lock(session=False))), "not_canonical"),
        ("SETTLE: fields out of order", packed("SETTLE", unsorted.encode()), "not_canonical"),
        ("EVIDENCE: a kind that is null", packed("EVIDENCE", book.jcs(attestations() | {"votes": None})), "not_canonical"),
        ("EVIDENCE: nothing", packed("EVIDENCE", b"{}"), "missing_field"),
        ("REGISTER: a default word", packed("REGISTER", book.jcs(register()), book.jcs(v1.countersignature() | {"validator_sig": ""})), "not_canonical"),
        ("REGISTER: an empty object as witness", packed("REGISTER", book.jcs(register()), b"{}"), "missing_field"),
    ]  # fmt: skip


# digests.json


def digests() -> Json:
    people, others = keys(), schemes.owners()
    provider, validator, hub = (people[name].address for name in ("provider", "validator", "hub"))
    lock = v1.the_lock().id.hex()
    seed = h("seed of the epoch").hex()
    updates: list[Json] = [
        {"number": 1, "set": {"base_fee": 3}},
        {"number": MOST, "authorities": [{"address": people["carol"].address}]},
        {"number": 2, "set": {"hubs": [hub], "activations": [{"version": 2, "height": 0}, {"version": 3, "height": 601}]}},
    ]  # fmt: skip
    kinds = [("notar", candidates()[0]), ("final", candidates()[1]), ("skip", "00" * 32)]
    return {
        "spec": "docs/spec/encoding.md",
        "genesis_hash": genesis_hash().hex(),
        "chain_id": CHAIN_ID,
        "rotations": [
            {"sender": people["alice"].address, "new_auth_key": new.auth.hex(), "key_text": new.text}
            | _signed(rotation_preimage(people["alice"].address, new.auth), new)
            for new in (people["carol"], others["secp256k1"], others["rsa-pss"], others["2 of 3"])
        ],
        "updates": [
            {"payload": payload} | _signed(update_preimage(payload), people["validator"])
            for payload in updates
        ],
        "votes": [
            {"kind": kind, "epoch": 7, "slot": 31, "candidate": candidate}
            | _signed(vote_preimage(kind, 7, 31, candidate), people["validator"])
            for kind, candidate in kinds
        ],
        "countersignatures": [
            {"provider": provider, "hub": hub} | _signed(countersign_preimage(provider, hub), people["hub"])
        ],
        "compute_for": [
            {"provider": provider, "validator": by}
            | _signed(compute_for_preimage(provider, by), people[name])
            for name, by in (("validator", validator), ("hub", hub))
        ],
        "calibrations": [
            {"epoch": epoch, "seed": text, "provider": provider, "job_id": f"calibration:{epoch}:{provider}"}
            | _hashed(calibration_nonce_preimage(epoch, text, provider))
            for epoch, text in ((0, ""), (5, seed), (MOST, seed))
        ],
        "offences": [
            {"kind": "votes", "offender": validator, "epoch": epoch}
            | _hashed(offence_preimage("votes", validator, str(epoch)))
            for epoch in (0, 7, MOST)
        ]
        + [
            {"kind": "attestations", "offender": hub, "lock": lock, "task": task, "attempt": attempt}
            | _hashed(offence_preimage("attestations", hub, lock, str(task), str(attempt)))
            for task, attempt in ((0, 1), (4_095, 255))
        ]
        + [
            {"kind": "block", "offender": validator, "epoch": epoch}
            | _hashed(offence_preimage("block", validator, str(epoch)))
            for epoch in (0, 7)
        ],
    }


def _hashed(preimage: bytes) -> Json:
    return {"preimage": preimage.hex(), "digest": _digest(preimage).hex()}


def _signed(preimage: bytes, owner: book.Key | schemes.Owner) -> Json:
    signature = owner.sign(_digest(preimage))
    assert schemes.verify(owner.auth, _digest(preimage), signature)
    return _hashed(preimage) | {"auth_key": owner.auth.hex(), "sig": signature.hex()}


# fees.json


def signature_fee(params: Json, auth_key: bytes) -> int:
    names = {"ed25519": "fee_ed25519", "secp256k1": "fee_secp256k1", "rsa-pss": "fee_rsa_pss"}
    checks = sum(params[names[scheme]] for scheme in schemes.verifications(auth_key))
    return int(max(0, checks - params["fee_ed25519"]))


def least_fee(params: Json, size: int, *auth_keys: bytes) -> int:
    """The sender's key, then the other keys."""
    by_size = -(-params["fee_per_kib"] * size // 1_024)
    return int(params["base_fee"] + by_size + sum(signature_fee(params, key) for key in auth_keys))


def fees() -> Json:
    charges = ("base_fee", "fee_per_kib", "fee_ed25519", "fee_secp256k1", "fee_rsa_pss")
    tariffs = {
        "the defaults": (2, 64, 1, 6, 2),
        "Ed25519 the dearest": (2, 64, 10, 6, 2),
        "nothing costs anything": (0, 0, 0, 0, 0),
        "by size alone": (0, 1, 0, 0, 0),
        "as dear as an update may make it": (1_000_000,) * 5,
        "dearer than that": (10**12,) * 5,
    }
    multisigs = schemes.multisigs()
    named = {"Ed25519": keys()["alice"].auth}
    named |= {name: schemes.owners()[name].auth for name in ("secp256k1", "rsa-pss")}
    named |= {f"multisig, {name}": multisigs[name] for name in multisigs if "RSA" not in name}
    sizes = (2, 16, 17, 69, 709, 1_024, 1_025, 16_384)
    return {
        "spec": "docs/spec/fees.md",
        "keys": [
            {"name": name, "auth_key": key.hex(), "verifications": schemes.verifications(key)}
            for name, key in named.items()
        ],
        "tariffs": [
            {
                "name": name,
                "params": (params := dict(zip(charges, values, strict=True))),
                "least": [
                    {"key": owner, "payload_bytes": size, "fee": least_fee(params, size, key)}
                    for owner, key in named.items()
                    for size in (sizes if owner in ("Ed25519", "secp256k1") else (69,))
                ],
                "signatures": [
                    {"key": owner, "fee": signature_fee(params, key)} for owner, key in named.items()
                ],
            }
            for name, values in tariffs.items()
        ],
        "splits": [
            {"fee": fee, "fee_burn_bp": part, "burned": fee * part // 10_000, "earned": fee - fee * part // 10_000}
            for fee in (0, 1, 7, 9_999, MOST)
            for part in (0, 1, 5_000, 10_000)
        ],
    }  # fmt: skip


# params.json


def params() -> Json:
    carol, hub = keys()["carol"].address, keys()["hub"].address
    many = [book.bech32(i.to_bytes(20, "big")) for i in range(100)]
    ladders: list[list[tuple[int, int]]] = [
        [],
        [(2, 0)],
        [(2, 0), (3, 601), (4, 1_201)],
        [(2, 0), (5, MOST)],
    ]
    heights = (0, 1, 600, 601, 602, 1_200, 1_201, MOST - 1, MOST)
    kept = [{"version": 2, "height": 0}]
    values: list[tuple[str, Json, str]] = []
    for name, most in _GREATEST.items():
        values += [(name, _LEAST[name], ""), (name, most, "")]
        values += [(name, _LEAST[name] - 1, "out_of_range"), (name, most + 1, "out_of_range")]
    values += [
        ("treasury", "", ""), ("treasury", carol, ""), ("treasury", carol[:-1] + "q", "bad_address"),
        ("hubs", [], ""), ("hubs", [hub, carol], ""), ("hubs", many[:100], ""), ("hubs", [hub, hub], "out_of_range"), ("hubs", [""], "bad_address"),
        ("activations", kept, ""), ("activations", [*kept, {"version": 3, "height": 601}], ""),
        ("activations", [{"version": 2}], "missing_field"), ("activations", [{"version": 2, "height": 0, "x": 0}], "unknown_field"),
        ("activations", [], ""), ("activations", [{"version": 1, "height": 0}], "out_of_range"), ("activations", [{"version": 2, "height": -1}], "out_of_range"), ("activations", [{"version": "2", "height": 0}], "wrong_type"),
        *[(name, 1, "unknown_param") for name in ("devnet", "faucet_limit")],
        *[(name, "", "unknown_param") for name in ("faucet", "synthetic_attester", "chain_id")],
    ]  # fmt: skip
    return {
        "spec": "docs/spec/params.md",
        "versions": [
            {
                "activations": [{"version": version, "height": height} for version, height in ladder],
                "of": [
                    [height, max((v for v, first in ladder if first <= height), default=1)] for height in heights
                ],
            }
            for ladder in ladders
        ],
        "updates": [
            {"name": f"{name} to {len(value)}" if isinstance(value, list) and len(value) > 2 else f"{name} to {json.dumps(value)}", "parameter": name, "value": value, "reason": reason}
            for name, value, reason in values
        ],
        "authorities": [{"name": "50", "authorities": [{"address": one} for one in many[:50]], "reason": ""}],
    }  # fmt: skip
