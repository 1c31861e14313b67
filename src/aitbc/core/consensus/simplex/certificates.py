"""Certificates: votes of a quorum for one statement, checkable by anyone who knows the set. docs/spec/finality.md"""

from collections.abc import Callable, Mapping

from aitbc.core.codec.digests import candidate_id, vote_digest
from aitbc.core.crypto.schemes import verify
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.blocks import ZERO_HASH, Candidate, Certificate, Validator
from aitbc.core.types.reasons import Reason, Rejected

Verifier = Callable[[bytes, bytes, bytes], bool]
"""(auth key, digest, signature) → is it good."""


def quorum_of(validators: list[Validator]) -> int:
    """⌊2W/3⌋ + 1: two quorums share an honest voter when less than a third of the power is faulty."""
    return 2 * sum(validator.power for validator in validators) // 3 + 1


def skipped(epoch: int, slot: int) -> Candidate:
    """What stands in the place of a candidate when a slot is skipped."""
    return Candidate(epoch, slot, 0, ZERO_HASH, ZERO_HASH)


def assemble(kind: str, candidate: Candidate, signatures: Mapping[int, bytes]) -> Certificate:
    """The certificate of these signatures, by position; that they are good and enough is the caller's promise."""
    signers = sorted(signatures)
    bitmap = sum(1 << position for position in signers)
    return Certificate(kind, candidate, bitmap, [signatures[position] for position in signers])


def positions_of(certificate: Certificate) -> list[int]:
    """Who signed, in the order of the signatures."""
    return [place for place in range(certificate.bitmap.bit_length()) if certificate.bitmap >> place & 1]


def check_certificate(
    certificate: Certificate,
    validators: list[Validator],
    *,
    chain_id: str,
    genesis_hash: bytes,
    verifier: Verifier = verify,
) -> None:
    """Refuse a certificate of a candidate unless validators of quorum power signed its statement."""
    signers = _check_signers(certificate, validators)
    if certificate.kind not in ("notar", "final"):
        raise Rejected(Reason.BAD_CERTIFICATE, f"{certificate.kind[:20]!r} certifies no candidate")
    name = candidate_id(certificate.candidate, chain_id, genesis_hash)
    _check_signatures(certificate, signers, name, chain_id, genesis_hash, verifier)


def check_skip_certificate(
    certificate: Certificate,
    validators: list[Validator],
    *,
    chain_id: str,
    genesis_hash: bytes,
    verifier: Verifier = verify,
) -> None:
    """Refuse a certificate that a slot was skipped unless validators of quorum power signed that."""
    signers = _check_signers(certificate, validators)
    candidate = certificate.candidate
    if certificate.kind != "skip" or candidate != skipped(candidate.epoch, candidate.slot):
        raise Rejected(Reason.BAD_CERTIFICATE, "a skip certificate names a slot and nothing else")
    _check_signatures(certificate, signers, ZERO_HASH, chain_id, genesis_hash, verifier)


def _check_signers(certificate: Certificate, validators: list[Validator]) -> list[Validator]:
    _check_form(certificate)
    signers = [v for position, v in enumerate(validators) if certificate.bitmap >> position & 1]
    if certificate.bitmap >> len(validators) or len(signers) != len(certificate.signatures):
        raise Rejected(Reason.BAD_CERTIFICATE, "bitmap and signatures do not fit the validator set")
    power, quorum = sum(validator.power for validator in signers), quorum_of(validators)
    if power < quorum:
        raise Rejected(Reason.BAD_CERTIFICATE, f"power {power} is less than the quorum of {quorum}")
    return signers


def _check_signatures(
    certificate: Certificate,
    signers: list[Validator],
    candidate: bytes,
    chain_id: str,
    genesis_hash: bytes,
    verifier: Verifier,
) -> None:
    digest = vote_digest(
        kind=certificate.kind,
        epoch=certificate.candidate.epoch,
        slot=certificate.candidate.slot,
        candidate=candidate,
        chain_id=chain_id,
        genesis_hash=genesis_hash,
    )
    for validator, signature in zip(signers, certificate.signatures, strict=True):
        if not verifier(validator.auth_key, digest, signature):
            raise Rejected(Reason.BAD_CERTIFICATE, f"the signature of {validator.address} is not good")


def _check_form(certificate: Certificate) -> None:
    """Numbers fit their eight bytes and hashes have 32."""
    candidate = certificate.candidate
    numbers = (certificate.bitmap, candidate.epoch, candidate.slot, candidate.parent_slot)
    if not all(0 <= number <= MAX_SIGNED for number in numbers):
        raise Rejected(Reason.BAD_CERTIFICATE, "a number of the certificate is out of range")
    if len(candidate.parent_id) != 32 or len(candidate.block_hash) != 32:
        raise Rejected(Reason.BAD_CERTIFICATE, "a hash of the certificate has not 32 bytes")
