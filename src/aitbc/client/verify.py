"""Check a receipt file offline, from the bytes of the picture down to the certificate of its block.

Nothing is asked of anybody: the file carries the genesis document, the receipt, the attestation, the claim
and its proofs. What it cannot prove by itself is that its genesis is the chain you mean: pin it with
`trusted_genesis_hash`. docs/spec/receipts.md
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from aitbc.client.known_chains import KNOWN_CHAINS
from aitbc.core.codec.canonical import convert, jcs, plain_json, unhex
from aitbc.core.codec.digests import (
    attestation_digest,
    candidate_id,
    details_hash_of,
    envelope_id,
    genesis_hash_of,
    header_hash,
    outcome_leaf,
    receipt_core_digest,
    receipt_id_of,
    transaction_id,
    validators_hash,
    vote_digest,
)
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.codec.views import (
    certificate_to_plain,
    header_from_plain,
    header_to_plain,
    outcome_to_plain,
    transaction_from_plain,
    transaction_to_plain,
)
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.crypto.merkle import ListProof, check_item
from aitbc.core.crypto.schemes import verify
from aitbc.core.types.amounts import MAX_SIGNED, format_ait
from aitbc.core.types.blocks import Candidate, Certificate, Header, Validator
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.receipts import Attestation, ReceiptCore, ReceiptDetails
from aitbc.core.types.transactions import Outcome, Transaction

BUNDLE_VERSION = 1

SELF_DECLARED = "self-declared"
"""How the genesis check's message begins when nothing but the file names the chain."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was found."""

    name: str
    ok: bool
    message: str
    warning: bool = False
    """It holds, but the reader must know the limit that the message names."""


class _Authority(msgspec.Struct, frozen=True):
    pubkey: str


class _GenesisParams(msgspec.Struct, frozen=True):
    hubs: list[str] = []
    devnet: int = 0
    synthetic_attester: str = ""


class _Genesis(msgspec.Struct, frozen=True):
    """What the checks need of genesis.json; its hash covers all of it."""

    chain_id: str
    authorities: list[_Authority]
    params: _GenesisParams


class _Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: int
    count: int
    path: list[str]


class _ClaimForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    tx: dict[str, Any]
    outcome: dict[str, Any]
    header: dict[str, Any]
    certificate: dict[str, Any]
    tx_proof: _Position
    outcome_proof: _Position


class _BundleForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The receipt file, key by key."""

    version: Literal[1]
    genesis: dict[str, Any]
    details: ReceiptDetails
    core: ReceiptCore
    receipt_id: str
    provider_sig: str
    provider_pubkey: str
    attestation: Attestation
    attestation_sig: str
    hub_pubkey: str
    output_file: str = ""
    claim: _ClaimForm | None = None
    """None: the receipt was not claimed yet when the file was written."""


@dataclass(frozen=True)
class _Receipt:
    """A bundle of right form up to the attestation; nothing in it has been checked."""

    genesis: _Genesis
    genesis_hash: bytes
    details: ReceiptDetails
    core: ReceiptCore
    receipt_id: str
    provider_key: bytes
    provider_sig: bytes
    attestation: Attestation
    attestation_sig: bytes
    hub_key: bytes


@dataclass(frozen=True)
class _Claim:
    """The claim and its proofs, of right form; nothing in it has been checked."""

    tx: Transaction
    tx_id: bytes
    outcome: Outcome
    header: Header
    block_hash: bytes
    certificate: Certificate
    tx_proof: ListProof
    outcome_proof: ListProof


def verify_bundle(
    bundle: Any, *, output_bytes: bytes | None = None, trusted_genesis_hash: bytes | str | None = None
) -> list[Check]:
    """Every check by name, in order; the bundle holds when all are ok. Never raises, whatever it is given."""
    try:
        form = _read_form(bundle)
        receipt = _read_receipt(form)
        claim = _read_claim(form.claim, receipt.genesis_hash) if form.claim else None
    except Rejected as rejected:
        return [Check("form", False, f"not a receipt file of version {BUNDLE_VERSION}: {rejected.message}")]
    checks = [
        Check("form", True, f"a receipt file of version {BUNDLE_VERSION}"),
        _check_genesis(receipt, trusted_genesis_hash),
        *_receipt_checks(receipt, output_bytes),
    ]
    if claim is None:
        return [
            *checks,
            Check("claim", False, "the file has no claim: the receipt was not paid when it was written"),
        ]
    return checks + [_run(name, rule, receipt, claim) for name, rule in _CLAIM_RULES]


def verify_receipt(bundle: Any, *, output_bytes: bytes | None) -> list[Check]:
    """The checks that need no chain: receipt, signatures, attestation and output. Never raises."""
    try:
        receipt = _read_receipt(_read_form(bundle))
    except Rejected as rejected:
        return [Check("form", False, rejected.message)]
    return _receipt_checks(receipt, output_bytes)


def holds(checks: list[Check]) -> bool:
    return all(check.ok for check in checks)


# From anything to records


def _read_form(bundle: Any) -> _BundleForm:
    """The bundle as records; what is no JSON, or not this JSON, is refused."""
    try:
        plain = plain_json(msgspec.json.encode(bundle))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Rejected(Reason.MALFORMED, f"not JSON: {error}") from None
    form = convert(plain, _BundleForm)
    for name, record in (("details", form.details), ("core", form.core), ("attestation", form.attestation)):
        if jcs(record) != jcs(plain[name]):
            raise Rejected(Reason.NOT_CANONICAL, f"{name} is not in its canonical form")
    return form


def _read_receipt(form: _BundleForm) -> _Receipt:
    return _Receipt(
        genesis=convert(form.genesis, _Genesis),
        genesis_hash=genesis_hash_of(jcs(form.genesis)),
        details=form.details,
        core=form.core,
        receipt_id=form.receipt_id,
        provider_key=key_from_text(form.provider_pubkey),
        provider_sig=unhex(form.provider_sig),
        attestation=form.attestation,
        attestation_sig=unhex(form.attestation_sig),
        hub_key=key_from_text(form.hub_pubkey),
    )


def _read_claim(form: _ClaimForm, genesis_hash: bytes) -> _Claim:
    tx = transaction_from_plain(form.tx)
    header = header_from_plain(form.header)
    if not tx.pubkey:
        raise Rejected(Reason.PUBKEY_REQUIRED, "the claim transaction carries no public key")
    claim = _Claim(
        tx=tx,
        tx_id=transaction_id(tx, genesis_hash),
        outcome=_outcome_from_plain(form.outcome),
        header=header,
        block_hash=header_hash(header),
        certificate=_certificate_from_plain(form.certificate),
        tx_proof=_list_proof(form.tx_proof),
        outcome_proof=_list_proof(form.outcome_proof),
    )
    _require_same("transaction", transaction_to_plain(claim.tx), form.tx)
    _require_same("outcome", outcome_to_plain(claim.outcome), form.outcome)
    _require_same("header", header_to_plain(claim.header, claim.block_hash), form.header)
    _require_same("certificate", certificate_to_plain(claim.certificate), form.certificate)
    return claim


def _require_same(name: str, ours: dict[str, Any], given: dict[str, Any]) -> None:
    """What we read, written again, is what we were given: no field is ignored, none has a second spelling."""
    if ours != given or jcs(ours) != jcs(given):
        wrong = sorted(key for key in ours.keys() | given.keys() if ours.get(key) != given.get(key))
        raise Rejected(Reason.NOT_CANONICAL, f"{name}: {', '.join(wrong) or 'a number'} is not as it must be")


class _EventJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    key: str
    amount: int


class _OutcomeJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"tx_hash": "txHash"}):
    tx_hash: str
    status: Literal["ok", "failed"]
    reason: str
    message: str
    fee: int
    events: list[_EventJson]


def _outcome_from_plain(view: dict[str, Any]) -> Outcome:
    """`message` is for people and no root covers it, so a good outcome must not have one."""
    read = convert(view, _OutcomeJson)
    if read.status == "ok" and (read.message or read.reason):
        raise Rejected(Reason.MALFORMED, "outcome: a good outcome has neither reason nor message")
    return Outcome(
        tx_id=unhex(read.tx_hash, size=32),
        ok=read.status == "ok",
        reason=read.reason,
        message=read.message,
        fee=_natural(read.fee, "outcome fee"),
        events=[(event.kind, event.key, _natural(event.amount, "event amount")) for event in read.events],
    )


class _CertificateJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    kind: str
    epoch: int
    slot: int
    parent_slot: int
    parent_id: str
    block_hash: str
    bitmap: int
    signatures: list[str]


def _certificate_from_plain(view: dict[str, Any]) -> Certificate:
    read = convert(view, _CertificateJson)
    candidate = Candidate(
        epoch=_natural(read.epoch, "epoch"),
        slot=_natural(read.slot, "slot"),
        parent_slot=_natural(read.parent_slot, "parentSlot"),
        parent_id=unhex(read.parent_id),
        block_hash=unhex(read.block_hash, size=32),
    )
    signatures = [unhex(signature) for signature in read.signatures]
    return Certificate(read.kind, candidate, _natural(read.bitmap, "bitmap"), signatures)


def _list_proof(view: _Position) -> ListProof:
    index, count = _natural(view.index, "index"), _natural(view.count, "count")
    return ListProof(index, count, [unhex(node, size=32) for node in view.path])


def _natural(value: int, what: str) -> int:
    if not 0 <= value <= MAX_SIGNED:
        raise Rejected(Reason.OUT_OF_RANGE, f"{what} {value} is not from 0 to 2^53 - 1")
    return value


# The chain that the file speaks of


def _check_genesis(receipt: _Receipt, trusted: bytes | str | None) -> Check:
    found, chain = receipt.genesis_hash.hex(), receipt.genesis.chain_id
    if trusted is not None:
        wanted = trusted.hex() if isinstance(trusted, bytes) else trusted
        message = f"chain {chain} with genesis {found[:16]}…, "
        message += "the one you trust" if found == wanted else f"but you trust {wanted[:64]}"
        return Check("genesis", found == wanted, message)
    known = KNOWN_CHAINS.get(found)
    if known is not None:
        return Check("genesis", True, f"chain {chain}: {known}", warning=True)
    message = f"{SELF_DECLARED}: chain {chain}, genesis {found}; pin it with --genesis or --genesis-hash"
    return Check("genesis", True, message, warning=True)


# The receipt and its signatures

ReceiptRule = Callable[[_Receipt], str]
"""What was found, in one line; raises Rejected when it does not hold."""


def _receipt_checks(receipt: _Receipt, output_bytes: bytes | None) -> list[Check]:
    return [_run(name, rule, receipt) for name, rule in _RECEIPT_RULES] + [
        _check_output(receipt, output_bytes)
    ]


def _run(name: str, rule: Callable[..., str], *subjects: Any) -> Check:
    try:
        return Check(name, True, rule(*subjects))
    except Rejected as rejected:
        return Check(name, False, rejected.message)


def _receipt_id(receipt: _Receipt) -> str:
    wanted = receipt_id_of(receipt.core, receipt.genesis_hash)
    _require(receipt.receipt_id == wanted, f"the receipt's core has the id {wanted}")
    return wanted


def _details(receipt: _Receipt) -> str:
    core, details = receipt.core, receipt.details
    wanted = details_hash_of(details)
    _require(
        core.details_hash == wanted,
        f"the details hash to {wanted}, not to the core's",
    )
    pairs = {
        "chain_id": (details.chain_id, receipt.genesis.chain_id),
        "job_id": (details.job_id, core.job_id),
        "task": (details.task, core.task),
        "attempt": (details.attempt, core.attempt),
        "client": (details.client, core.client_addr),
        "provider": (details.provider, core.miner_addr),
        "hub": (details.hub, receipt.attestation.hub),
        "output_hash": (details.output_hash, core.output_hash),
        "units": (details.units, core.compute_units),
        "price": (details.price, core.price),
        "nonce": (details.nonce, core.nonce),
    }
    _require_pairs(pairs, "the details say", "the receipt says")
    return f"{details.model}, {details.units} compute units, {format_ait(details.price)}"


def _provider(receipt: _Receipt) -> str:
    address = receipt.core.miner_addr
    _require_key(receipt.provider_key, address, "provider")
    digest = receipt_core_digest(receipt.core, receipt.genesis_hash)
    good = verify(receipt.provider_key, digest, receipt.provider_sig)
    _require(good, f"provider_sig is not {address}'s over this receipt")
    return f"signed by {address}"


def _attestation(receipt: _Receipt) -> str:
    core, attestation = receipt.core, receipt.attestation
    pairs = {
        "receipt_id": (attestation.receipt_id, receipt.receipt_id),
        "lock": (attestation.lock, core.lock),
        "job_id": (attestation.job_id, core.job_id),
        "client": (attestation.client, core.client_addr),
        "provider": (attestation.provider, core.miner_addr),
        "task": (attestation.task, core.task),
        "attempt": (attestation.attempt, core.attempt),
        "units": (attestation.units, core.compute_units),
        "price": (attestation.price, core.price),
        "output_hash": (attestation.output_hash, core.output_hash),
        "candidates_hash": (attestation.candidates_hash, receipt.details.candidates_hash),
    }
    _require_pairs(pairs, "the attestation says", "the receipt says")
    synthetic = attestation.routed == "synthetic"
    _require(
        synthetic == (core.lock == ""),
        "a receipt without a lock is synthetic, and only such a receipt",
    )
    return f"routed: {attestation.routed}"


def _hub(receipt: _Receipt) -> str:
    """The hub may attest on this chain. That it is the lock's hub is what the claim's outcome proves."""
    hub, params = receipt.attestation.hub, receipt.genesis.params
    _require_key(receipt.hub_key, hub, "hub")
    digest = attestation_digest(receipt.attestation, receipt.genesis_hash)
    good = verify(receipt.hub_key, digest, receipt.attestation_sig)
    _require(good, f"attestation_sig is not {hub}'s over this attestation")
    if receipt.attestation.routed == "synthetic":
        allowed = params.devnet == 1 and hub == params.synthetic_attester
        _require(allowed, f"{hub} may not attest synthetic work on this chain")
        return f"synthetic devnet work, attested by {hub}"
    _require(hub in params.hubs, f"{hub} is not listed as a hub in genesis")
    return f"signed by {hub}, listed in genesis"


def _check_output(receipt: _Receipt, output_bytes: bytes | None) -> Check:
    if output_bytes is None:
        return Check("output", True, "not checked: the output file was not given", warning=True)
    found = hash_text(output_bytes)
    if found != receipt.core.output_hash:
        return Check(
            "output", False, f"the file hashes to {found}, the receipt is for {receipt.core.output_hash}"
        )
    return Check("output", True, f"{len(output_bytes)} bytes hash to {found}")


_RECEIPT_RULES: tuple[tuple[str, ReceiptRule], ...] = (
    ("receipt_id", _receipt_id),
    ("details", _details),
    ("provider", _provider),
    ("attestation", _attestation),
    ("hub", _hub),
)


# The claim, its block and the block's certificate

ClaimRule = Callable[[_Receipt, _Claim], str]


def _claim_content(receipt: _Receipt, claim: _Claim) -> str:
    payload = {
        **msgspec.to_builtins(receipt.core),
        "receipt_id": receipt.receipt_id,
        "miner_sig": receipt.provider_sig.hex(),
    }
    witness = {
        "attestation": msgspec.to_builtins(receipt.attestation),
        "sig": receipt.attestation_sig.hex(),
    }
    _require(claim.tx.type == "RECEIPT_CLAIM", f"a {claim.tx.type[:32]} claims no receipt")
    _require(claim.tx.payload == jcs(payload), "the claim is for another receipt")
    _require(claim.tx.witness == jcs(witness), "the claim has another attestation")
    return f"{claim.tx_id.hex()} carries this receipt and this attestation"


def _claim_signature(_receipt: _Receipt, claim: _Claim) -> str:
    """Keys cannot change yet; when they can, the sender's key is what txs_root commits to."""
    _require_key(claim.tx.pubkey, claim.tx.sender, "sender")
    good = verify(claim.tx.pubkey, claim.tx_id, claim.tx.sig)
    _require(good, f"the claim is not signed by {claim.tx.sender}")
    return f"sent by {claim.tx.sender}"


def _transaction_proof(_receipt: _Receipt, claim: _Claim) -> str:
    leaf = envelope_id(claim.tx_id, claim.tx)
    good = check_item(claim.header.txs_root, leaf, claim.tx_proof)
    _require(good, "the path does not lead from the claim to the block's txs_root")
    return f"transaction {claim.tx_proof.index + 1} of {claim.tx_proof.count} in block {claim.header.height}"


def _outcome_proof(_receipt: _Receipt, claim: _Claim) -> str:
    outcome, proof = claim.outcome, claim.outcome_proof
    good = check_item(claim.header.outcomes_root, outcome_leaf(outcome), proof)
    _require(good, "the path does not lead from the outcome to the block's outcomes_root")
    same = (proof.index, proof.count) == (claim.tx_proof.index, claim.tx_proof.count)
    _require(same and outcome.tx_id == claim.tx_id, "the outcome is another transaction's")
    return "the block records an outcome for this claim"


def _outcome(_receipt: _Receipt, claim: _Claim) -> str:
    outcome = claim.outcome
    _require(outcome.ok, f"the claim failed: {outcome.reason}")
    paid = sum(amount for kind, _, amount in outcome.events if kind == "paid")
    minted = sum(amount for kind, _, amount in outcome.events if kind == "minted")
    return f"{format_ait(paid)} paid from escrow, {format_ait(minted)} minted"


def _certificate(receipt: _Receipt, claim: _Claim) -> str:
    certificate, header = claim.certificate, claim.header
    _require(
        certificate.kind == "final",
        f"a {certificate.kind[:16]} certificate is not final",
    )
    same_block = certificate.candidate.block_hash == claim.block_hash
    _require(same_block, "the certificate is for another block")
    chain_id = receipt.genesis.chain_id
    _require(header.chain_id == chain_id, f"the block is of chain {header.chain_id[:64]}")
    validators = _authorities(receipt.genesis)
    same_set = header.next_validators_hash == validators_hash(validators)
    _require(same_set, "the block names another validator set than genesis")
    power, needed = _signed_power(receipt, certificate, validators), _quorum(validators)
    _require(power >= needed, f"signed by power {power}; {needed} are needed")
    signers = f"{len(certificate.signatures)} of {len(validators)} authorities"
    return f"block {header.height} is final: signed by {signers}"


def _authorities(genesis: _Genesis) -> list[Validator]:
    """The validator set, in set order; it cannot change yet, so the genesis set is every block's."""
    keys = [key_from_text(authority.pubkey) for authority in genesis.authorities]
    return [Validator(address_of(key), key, 1) for key in keys]


def _quorum(validators: list[Validator]) -> int:
    return 2 * sum(validator.power for validator in validators) // 3 + 1


def _signed_power(receipt: _Receipt, certificate: Certificate, validators: list[Validator]) -> int:
    """Power behind the certificate; refuses a bit or a signature that does not belong."""
    signers = [validator for i, validator in enumerate(validators) if certificate.bitmap >> i & 1]
    bits = certificate.bitmap.bit_count()
    counts_match = bits == len(signers) == len(certificate.signatures)
    _require(counts_match, "bitmap, validators and signatures do not match in number")
    chain_id, candidate = receipt.genesis.chain_id, certificate.candidate
    digest = vote_digest(
        kind="final",
        epoch=candidate.epoch,
        slot=candidate.slot,
        candidate=candidate_id(candidate, chain_id, receipt.genesis_hash),
        chain_id=chain_id,
        genesis_hash=receipt.genesis_hash,
    )
    for signer, signature in zip(signers, certificate.signatures, strict=True):
        good = verify(signer.auth_key, digest, signature)
        _require(good, f"{signer.address} has not signed this certificate")
    return sum(signer.power for signer in signers)


_CLAIM_RULES: tuple[tuple[str, ClaimRule], ...] = (
    ("claim", _claim_content),
    ("claim_signature", _claim_signature),
    ("transaction_proof", _transaction_proof),
    ("outcome_proof", _outcome_proof),
    ("outcome", _outcome),
    ("certificate", _certificate),
)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise Rejected(Reason.BAD_PROOF, message)


def _require_key(auth_key: bytes, address: str, whose: str) -> None:
    _require(
        address_of(auth_key) == address,
        f"the {whose}'s key is not the key of {address[:64]}",
    )


def _require_pairs(pairs: dict[str, tuple[object, object]], first: str, second: str) -> None:
    for name, (one, other) in pairs.items():
        message = f"{name}: {first} {one!r}, {second} {other!r}"
        _require(one == other, message)
