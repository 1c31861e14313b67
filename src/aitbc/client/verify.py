"""Check a receipt file offline, from the bytes of the picture down to the certificate of its block.

Nothing is asked of anybody: the file carries the genesis document, the receipt, the attestation, the claim
and its proofs. What it cannot prove by itself is that its genesis is the chain you mean: pin it with
`trusted_genesis_hash`. docs/spec/receipts.md "Checking offline"
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from aitbc.client.finality import (
    FinalBlock,
    Finality,
    GenesisFacts,
    Trust,
    read_certificate,
    read_finality,
    read_header,
    require_same,
)
from aitbc.client.known_chains import KNOWN_CHAINS
from aitbc.client.outcomes import Position, list_proof, outcome_from_plain
from aitbc.client.verify_settled import Settled, difference, leaves_of, paid_with, refusal, settled_leaf
from aitbc.core.codec.canonical import convert, jcs, plain_json, unhex
from aitbc.core.codec.digests import (
    attestation_digest,
    details_hash_of,
    envelope_id,
    genesis_hash_of,
    outcome_leaf,
    receipt_core_digest,
    receipt_id_of,
    transaction_id,
    validators_hash,
)
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.codec.views import outcome_to_plain, transaction_from_plain, transaction_to_plain
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.crypto.merkle import ListProof, check_item
from aitbc.core.crypto.schemes import verify
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.blocks import Certificate, Header, Validator
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.receipts import Attestation, ReceiptCore, ReceiptDetails
from aitbc.core.types.transactions import Outcome, Transaction

BUNDLE_VERSION = 1

SELF_DECLARED = "self-declared"
"""How the genesis check's message begins when nothing but the file names the chain."""

NOT_PROVED = "not proved"
"""How the certificate check's message begins when votes are good and the file does not say who the voters are."""

MAX_EPOCHS = 4_096
"""Answers that lead from genesis to the claim's epoch: two for each change of the set, 5 ms to check each
when everybody has signed."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was found."""

    name: str
    ok: bool
    message: str
    warning: bool = False
    """It holds, but the reader must know the limit that the message names."""


class _GenesisParams(msgspec.Struct, frozen=True):
    hubs: list[str] = []
    devnet: int = 0
    synthetic_attester: str = ""


class _Genesis(GenesisFacts, frozen=True):
    """What the checks need of genesis.json; its hash covers all of it."""

    params: _GenesisParams


class _ClaimForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    tx: dict[str, Any]
    outcome: dict[str, Any]
    header: dict[str, Any]
    tx_proof: Position
    outcome_proof: Position
    certificate: dict[str, Any] | None = None
    """In files of 0.1.0: the block's own, signed by the genesis validators."""
    finality: dict[str, Any] | None = None
    """What the node answers at `/rpc/finality`."""
    epochs: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=MAX_EPOCHS)] = []
    """Such answers again: how trust goes from genesis to the epoch of `finality`."""
    batch: dict[str, Any] | None = None
    """Of a SETTLE: the RECEIPT_BATCH that it pays from, in this same form."""


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
    finality: Finality
    epochs: list[Finality]
    tx_proof: ListProof
    outcome_proof: ListProof
    batch: "_Claim | None" = None
    """Of a SETTLE: what it pays from."""


@dataclass(frozen=True)
class _Voucher:
    """The final block in which this receipt was paid, and whose signatures were checked before it could be."""

    header: Header
    provider: bool
    hub: bool


def verify_bundle(
    bundle: Any, *, output_bytes: bytes | None = None, trusted_genesis_hash: bytes | str | None = None
) -> list[Check]:
    """Every check by name, in order; the bundle holds when all are ok. Never raises, whatever it is given."""
    try:
        form = _read_form(bundle)
        receipt = _read_receipt(form)
        claim = _read_claim(form.claim, receipt) if form.claim else None
    except Rejected as rejected:
        return [Check("form", False, f"not a receipt file of version {BUNDLE_VERSION}: {rejected.message}")]
    claim_checks = _claim_checks(receipt, claim)
    vouched = _vouched(receipt, claim, claim_checks)
    return [
        Check("form", True, f"a receipt file of version {BUNDLE_VERSION}"),
        _check_genesis(receipt, trusted_genesis_hash),
        *_receipt_checks(receipt, output_bytes, vouched=vouched),
        *claim_checks,
    ]


def verify_receipt(bundle: Any, *, output_bytes: bytes | None) -> list[Check]:
    """The checks that need no chain: receipt, signatures, attestation and output. Never raises."""
    try:
        receipt = _read_receipt(_read_form(bundle))
    except Rejected as rejected:
        return [Check("form", False, rejected.message)]
    return _receipt_checks(receipt, output_bytes, vouched=None)


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


def _read_claim(form: _ClaimForm, receipt: _Receipt) -> _Claim:
    tx = transaction_from_plain(form.tx)
    if not tx.pubkey:
        raise Rejected(Reason.PUBKEY_REQUIRED, "the claim transaction carries no public key")
    claim = _Claim(
        tx=tx,
        tx_id=transaction_id(tx, receipt.genesis_hash),
        outcome=outcome_from_plain(form.outcome),
        header=read_header(form.header),
        finality=_read_finality(form, receipt),
        epochs=[read_finality(answer) for answer in form.epochs],
        tx_proof=list_proof(form.tx_proof),
        outcome_proof=list_proof(form.outcome_proof),
        batch=_read_batch(form.batch, receipt) if form.batch is not None else None,
    )
    require_same("transaction", transaction_to_plain(claim.tx), form.tx)
    require_same("outcome", outcome_to_plain(claim.outcome), form.outcome)
    return claim


def _read_batch(plain: dict[str, Any], receipt: _Receipt) -> _Claim:
    form = convert(plain, _ClaimForm)
    if form.batch is not None or form.certificate is not None:
        raise Rejected(Reason.MALFORMED, "a batch has `finality` and is paid from no other batch")
    return _read_claim(form, receipt)


def _read_finality(form: _ClaimForm, receipt: _Receipt) -> Finality:
    if (form.certificate is None) == (form.finality is None):
        raise Rejected(Reason.MALFORMED, "a claim has either a certificate or what makes its block final")
    if form.finality is not None:
        return read_finality(form.finality)
    assert form.certificate is not None, "one of the two is there"
    header, certificate = read_header(form.header), read_certificate(form.certificate)
    return Finality([header], certificate, _unnamed_voters(header, certificate, receipt))


def _unnamed_voters(header: Header, certificate: Certificate, receipt: _Receipt) -> list[Validator]:
    """Files of 0.1.0 name no voters: they are those of genesis where the header leaves no doubt, else nobody knows."""
    first, trust = receipt.genesis.validators(), receipt.genesis.trust(receipt.genesis_hash)
    decided = trust.chain.epoch_of(header.height) == 0 or (
        header.next_validators_hash == trust.validators_hash
        and trust.reaches(Finality([header], certificate, first))
    )
    return first if decided else []


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


@dataclass(frozen=True)
class _Note:
    """It holds, within the limit that the message names."""

    message: str


Finding = str | _Note
ReceiptRule = Callable[[_Receipt, _Voucher | None], Finding]
"""What was found, in one line; raises Rejected when it does not hold. The voucher is the final block in which this
receipt was paid: what its validators have checked as well; None when that is not proved."""


def _receipt_checks(
    receipt: _Receipt, output_bytes: bytes | None, *, vouched: _Voucher | None
) -> list[Check]:
    return [_run(name, rule, receipt, vouched) for name, rule in _RECEIPT_RULES] + [
        _check_output(receipt, output_bytes)
    ]


def _run(name: str, rule: Callable[..., Finding], *subjects: Any) -> Check:
    try:
        found = rule(*subjects)
    except Rejected as rejected:
        return Check(name, False, rejected.message)
    if isinstance(found, _Note):
        return Check(name, True, found.message, warning=True)
    return Check(name, True, found)


def _signed_by(auth_key: bytes, address: str, whose: str, vouched: Header | None) -> Finding:
    """That a key under which a signature is good is its signer's: it makes the address, or the chain says so.

    A key that was rotated makes another address. Under version 2 a claim is in a block only when both signatures are
    good under the keys that the chain had for these addresses, and its sender's likewise.
    """
    if address_of(auth_key) == address:
        return f"signed by {address}"
    if vouched is None or vouched.version < 2:
        raise Rejected(Reason.BAD_PROOF, f"the {whose}'s key is not the key of {address[:64]}")
    return _Note(
        f"signed by {address} with a key that is not its first: block {vouched.height} vouches for it"
    )


def _receipt_id(receipt: _Receipt, _vouched: _Voucher | None) -> str:
    wanted = receipt_id_of(receipt.core, receipt.genesis_hash)
    _require(receipt.receipt_id == wanted, f"the receipt's core has the id {wanted}")
    return wanted


def _details(receipt: _Receipt, _vouched: _Voucher | None) -> str:
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


def _provider(receipt: _Receipt, vouched: _Voucher | None) -> Finding:
    address = receipt.core.miner_addr
    header = vouched.header if vouched and vouched.provider else None
    signed = _signed_by(receipt.provider_key, address, "provider", header)
    digest = receipt_core_digest(receipt.core, receipt.genesis_hash)
    good = verify(receipt.provider_key, digest, receipt.provider_sig)
    _require(good, f"provider_sig is not {address}'s over this receipt")
    return signed


def _attestation(receipt: _Receipt, _vouched: _Voucher | None) -> str:
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
    _require(
        (attestation.routed in ("synthetic", "calibration")) == (core.lock == ""),
        "a receipt without a lock is synthetic or calibration, and only such a receipt",
    )
    return f"routed: {attestation.routed}"


def _hub(receipt: _Receipt, vouched: _Voucher | None) -> Finding:
    """The hub may attest on this chain. That it is the lock's hub is what the claim's outcome proves."""
    hub = receipt.attestation.hub
    header = vouched.header if vouched and vouched.hub else None
    signed = _signed_by(receipt.hub_key, hub, "hub", header)
    digest = attestation_digest(receipt.attestation, receipt.genesis_hash)
    good = verify(receipt.hub_key, digest, receipt.attestation_sig)
    _require(good, f"attestation_sig is not {hub}'s over this attestation")
    standing = _standing(receipt, vouched)
    return signed if isinstance(signed, _Note) else standing


def _standing(receipt: _Receipt, vouched: _Voucher | None) -> Finding:
    """Hubs that registered after genesis are the chain's affair: nobody can lock money for what is no hub."""
    hub, params = receipt.attestation.hub, receipt.genesis.params
    if receipt.attestation.routed == "synthetic":
        allowed = params.devnet == 1 and hub == params.synthetic_attester
        _require(allowed, f"{hub} may not attest synthetic work on this chain")
        return f"synthetic devnet work, attested by {hub}"
    if hub in params.hubs:
        return f"signed by {hub}, listed in genesis"
    if vouched is None:
        raise Rejected(Reason.BAD_PROOF, f"{hub} is not listed as a hub in genesis")
    return _Note(f"signed by {hub}, not listed in genesis: block {vouched.header.height} vouches for it")


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


# The claim, its block and why the block is final

ClaimRule = Callable[[_Receipt, _Claim], str]


def _claim_checks(receipt: _Receipt, claim: _Claim | None) -> list[Check]:
    if claim is None:
        return [Check("claim", False, "the file has no claim: the receipt was not paid when it was written")]
    settles = claim.tx.type == "SETTLE"
    checks = [_run(name, rule, receipt, claim) for name, rule in (_SETTLE_RULES if settles else _CLAIM_RULES)]
    vouched = _vouched(receipt, claim, checks)
    header = vouched.header if vouched else None
    return [checks[0], _run("claim_signature", _claim_signature, claim, header), *checks[1:]]


def _vouched(receipt: _Receipt, claim: _Claim | None, checks: list[Check]) -> _Voucher | None:
    """The final block in which this receipt was paid, when all but the key of the claim's sender proves it.

    A claim is in no block unless both signatures are good. A SETTLE pays on the hub's word under its RECEIPT_BATCH:
    nobody has looked at the provider's signature, and of the hub the key that signed the batch is vouched for.
    """
    if claim is None or not all(check.ok for check in checks if check.name != "claim_signature"):
        return None
    if claim.batch is None:
        return _Voucher(claim.header, provider=True, hub=True)
    return _Voucher(claim.header, provider=False, hub=claim.batch.tx.pubkey == receipt.hub_key)


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
    offered = {**witness, "pubkey": key_to_text(receipt.hub_key)}
    _require(claim.tx.type == "RECEIPT_CLAIM", f"a {claim.tx.type[:32]} claims no receipt")
    _require(claim.batch is None, "a claim is paid from no batch")
    _require(claim.tx.payload == jcs(payload), "the claim is for another receipt")
    _require(claim.tx.witness in (jcs(witness), jcs(offered)), "the claim has another attestation")
    return f"{claim.tx_id.hex()} carries this receipt and this attestation"


def _claim_signature(claim: _Claim, vouched: Header | None) -> Finding:
    signed = _signed_by(claim.tx.pubkey, claim.tx.sender, "sender", vouched)
    good = verify(claim.tx.pubkey, claim.tx_id, claim.tx.sig)
    _require(good, f"the claim is not signed by {claim.tx.sender}")
    return signed


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


def _settled(receipt: _Receipt, claim: _Claim) -> Settled:
    return settled_leaf(claim.tx, receipt.receipt_id)


def _settle_content(receipt: _Receipt, claim: _Claim) -> str:
    settled = _settled(receipt, claim)
    differs = difference(settled, receipt.attestation)
    _require(not differs, differs)
    return f"{claim.tx_id.hex()} pays receipt {settled.place + 1} of batch {settled.batch}"


def _settle_outcome(receipt: _Receipt, claim: _Claim) -> str:
    outcome, settled = claim.outcome, _settled(receipt, claim)
    _require(outcome.ok, f"the settlement failed: {outcome.reason}")
    skipped = refusal(settled, outcome)
    _require(not skipped, f"the settlement skipped this receipt: {skipped}")
    others = paid_with(settled, outcome) - 1
    return f"{format_ait(settled.leaf.price)} paid from escrow, with {others} other receipts"


def _batch(receipt: _Receipt, claim: _Claim) -> str:
    """The hub's batch holds this receipt. That it was in a block before is what the settlement's outcome proves, and
    `batch_block` shows it."""
    settled, batch = _settled(receipt, claim), claim.batch
    if batch is None:
        raise Rejected(Reason.BAD_PROOF, "the file does not carry the batch from which the receipt was paid")
    _require(batch.tx.type == "RECEIPT_BATCH", f"a {batch.tx.type[:32]} is no batch")
    _require(batch.tx_id.hex() == settled.batch, f"the settlement is of batch {settled.batch[:64]}")
    hub = receipt.attestation.hub
    _require(batch.tx.sender == hub, f"the batch is {batch.tx.sender}'s, the attestation {hub}'s")
    _require(verify(batch.tx.pubkey, batch.tx_id, batch.tx.sig), f"the batch is not signed by {hub}")
    return f"receipt {settled.place + 1} of {leaves_of(settled, batch.tx)} under the root that {hub} signed"


def _batch_block(receipt: _Receipt, claim: _Claim) -> str:
    batch = claim.batch
    if batch is None:
        raise Rejected(Reason.BAD_PROOF, "the file does not carry the batch's block")
    _transaction_proof(receipt, batch)
    _outcome_proof(receipt, batch)
    _require(batch.outcome.ok, f"the batch failed: {batch.outcome.reason}")
    return _certificate(receipt, batch)


def _certificate(receipt: _Receipt, claim: _Claim) -> str:
    """From the validators of genesis to those who made the claim's block final."""
    answer, height = claim.finality, claim.header.height
    same_block = answer.headers[0] == claim.header
    _require(same_block, f"the certificate is for block {answer.headers[0].height}, or another of its height")
    trust = receipt.genesis.trust(receipt.genesis_hash)
    for earlier in claim.epochs:
        trust = trust.after(trust.check(earlier, height=earlier.headers[0].height))
    if not trust.reaches(answer):
        raise Rejected(Reason.BAD_PROOF, _who_are_they(trust, answer, height))
    return _finality_of(trust.check(answer, height=height))


def _who_are_they(trust: Trust, answer: Finality, height: int) -> str:
    """Votes that are good under a set which only the file names: anybody can make one up."""
    ask = "ask a node with --rpc URL, and nothing that it says is believed unproved"
    if not answer.validators:
        return f"{NOT_PROVED}: the file does not say whose votes make block {height} final: {ask}"
    theirs = Trust(
        chain=trust.chain,
        epoch=trust.chain.epoch_of(height),
        validators_hash=validators_hash(answer.validators),
    )
    block = theirs.check(answer, height=height)
    return (
        f"{NOT_PROVED}: {_finality_of(block)}, but the file does not carry how they followed those of"
        f" epoch {trust.epoch}: {ask}"
    )


def _finality_of(block: FinalBlock) -> str:
    above = block.certified.height - block.header.height
    through = f" through block {block.certified.height}" if above else ""
    return f"block {block.header.height} is final{through}: signed by {block.signers} of {block.members} validators"


_CLAIM_RULES: tuple[tuple[str, ClaimRule], ...] = (
    ("claim", _claim_content),
    ("transaction_proof", _transaction_proof),
    ("outcome_proof", _outcome_proof),
    ("outcome", _outcome),
    ("certificate", _certificate),
)

_SETTLE_RULES: tuple[tuple[str, ClaimRule], ...] = (
    ("claim", _settle_content),
    ("transaction_proof", _transaction_proof),
    ("outcome_proof", _outcome_proof),
    ("outcome", _settle_outcome),
    ("certificate", _certificate),
    ("batch", _batch),
    ("batch_block", _batch_block),
)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise Rejected(Reason.BAD_PROOF, message)


def _require_pairs(pairs: dict[str, tuple[object, object]], first: str, second: str) -> None:
    for name, (one, other) in pairs.items():
        message = f"{name}: {first} {one!r}, {second} {other!r}"
        _require(one == other, message)
