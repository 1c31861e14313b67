"""Certificates: votes of a quorum for one statement, checkable by anyone who knows the set. docs/spec/finality.md"""

from aitbc.core.codec.digests import candidate_id, vote_digest
from aitbc.core.crypto.schemes import verify
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.blocks import Certificate, Validator
from aitbc.core.types.reasons import Reason, Rejected


def quorum_of(validators: list[Validator]) -> int:
    """⌊2W/3⌋ + 1: two quorums share an honest voter when less than a third of the power is faulty."""
    return 2 * sum(validator.power for validator in validators) // 3 + 1


def check_certificate(
    certificate: Certificate, validators: list[Validator], *, chain_id: str, genesis_hash: bytes
) -> None:
    """Refuse a certificate unless validators of quorum power signed its statement."""
    _check_form(certificate)
    signers = [v for position, v in enumerate(validators) if certificate.bitmap >> position & 1]
    if certificate.bitmap >> len(validators) or len(signers) != len(certificate.signatures):
        raise Rejected(Reason.BAD_CERTIFICATE, "bitmap and signatures do not fit the validator set")
    power, quorum = sum(validator.power for validator in signers), quorum_of(validators)
    if power < quorum:
        raise Rejected(Reason.BAD_CERTIFICATE, f"power {power} is less than the quorum of {quorum}")
    if certificate.kind not in ("notar", "final"):
        raise Rejected(Reason.BAD_CERTIFICATE, f"{certificate.kind[:20]!r} certifies no candidate")
    digest = vote_digest(
        kind=certificate.kind,
        epoch=certificate.candidate.epoch,
        slot=certificate.candidate.slot,
        candidate=candidate_id(certificate.candidate, chain_id, genesis_hash),
        chain_id=chain_id,
        genesis_hash=genesis_hash,
    )
    for validator, signature in zip(signers, certificate.signatures, strict=True):
        if not verify(validator.auth_key, digest, signature):
            raise Rejected(Reason.BAD_CERTIFICATE, f"the signature of {validator.address} is not good")


def _check_form(certificate: Certificate) -> None:
    """Numbers fit their eight bytes and hashes have 32."""
    candidate = certificate.candidate
    numbers = (certificate.bitmap, candidate.epoch, candidate.slot, candidate.parent_slot)
    if not all(0 <= number <= MAX_SIGNED for number in numbers):
        raise Rejected(Reason.BAD_CERTIFICATE, "a number of the certificate is out of range")
    if len(candidate.parent_id) != 32 or len(candidate.block_hash) != 32:
        raise Rejected(Reason.BAD_CERTIFICATE, "a hash of the certificate has not 32 bytes")
