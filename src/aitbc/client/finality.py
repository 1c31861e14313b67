"""Whether a block is final, for whoever trusts a validator set and nothing else. docs/spec/light.md

Nothing is asked of anybody here, so `aitbc verify` needs no HTTP library; `aitbc.client.light` asks. The check of a
certificate is written a second time, from docs/spec/finality.md: of the core this uses types, codec and crypto, and
nothing of agreement or ledger (an import contract). Whatever an answer is, what it causes is a `Rejected`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any

import msgspec

from aitbc.core.codec.canonical import convert, jcs, plain_json, unhex
from aitbc.core.codec.digests import (
    candidate_id,
    genesis_hash_of,
    header_hash,
    validators_hash,
    vote_digest,
)
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.codec.views import certificate_to_plain, header_from_plain, header_to_plain
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import verify
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.blocks import PROTOCOL_VERSION, Candidate, Certificate, Header, Validator
from aitbc.core.types.reasons import Reason, Rejected

Json = dict[str, Any]

MAX_HEADERS = 64
"""In one answer; a node gives no more."""
MAX_VALIDATORS = 53
"""Bits of a certificate's bitmap, which is a JSON integer."""
MAX_ANSWER_BYTES = 256 * 1024
"""64 headers of 1.7 KB, 53 members with their signatures: 125 KB in all."""


@dataclass(frozen=True, kw_only=True)
class ChainName:
    """Which chain, and how long its epochs are: all of it follows from the genesis document."""

    chain_id: str
    genesis_hash: bytes
    epoch_length: int

    def epoch_of(self, height: int) -> int:
        return (height - 1) // self.epoch_length

    def closes_epoch(self, height: int) -> bool:
        return height % self.epoch_length == 0


@dataclass(frozen=True)
class Finality:
    """An answer of `GET /rpc/finality/{height}` of right form; nothing in it has been checked."""

    headers: list[Header]
    """The block's, then those of the blocks above it up to the one that the certificate names; never empty."""
    certificate: Certificate
    validators: list[Validator]

    @property
    def certified(self) -> Header:
        return self.headers[-1]


@dataclass(frozen=True)
class FinalBlock:
    """A block whose finality was checked."""

    header: Header
    hash: bytes
    certified: Header
    """The block itself or the one above it whose certificate makes it final."""
    signers: int
    members: int


@dataclass(frozen=True, kw_only=True)
class Trust:
    """The validator set that decides an epoch, by its hash: all that a light client keeps."""

    chain: ChainName
    epoch: int
    validators_hash: bytes

    def reaches(self, answer: Finality) -> bool:
        """Can this answer be checked with this set: is it of its epoch, or of a later one that has the same set?

        A header names the set that decides the block after it. Inside an epoch that is the set which decides the
        header's own block, so an honest quorum of the trusted set vouches for its own office; the last block of an
        epoch names the next set and vouches for nothing. Under version 1 the set never changed.
        """
        last = answer.certified
        if self.chain.epoch_of(last.height) <= self.epoch:
            return True
        return self._is(answer.validators) and (last.version == 1 or not self.chain.closes_epoch(last.height))

    def check(self, answer: Finality, *, height: int) -> FinalBlock:
        """The block at `height`, final by this answer. Refused in the order of docs/spec/light.md."""
        hashes = _check_headers(answer.headers, self.chain, height)
        self._check_set(answer)
        certificate = answer.certificate
        _check_statement(certificate, hashes[-1], self.chain.epoch_of(answer.certified.height))
        check_votes(
            certificate,
            answer.validators,
            chain_id=self.chain.chain_id,
            genesis_hash=self.chain.genesis_hash,
        )
        signers, members = len(certificate.signatures), len(answer.validators)
        return FinalBlock(answer.headers[0], hashes[0], answer.certified, signers, members)

    def after(self, block: FinalBlock) -> "Trust":
        """The set that decides the next block, as the header that this set has certified names it."""
        last = block.certified
        epoch = last.height // self.chain.epoch_length
        return replace(self, epoch=epoch, validators_hash=last.next_validators_hash)

    def within(self, block: FinalBlock) -> "Trust":
        """The same set in the epoch of a block that it has certified."""
        return replace(self, epoch=self.chain.epoch_of(block.header.height))

    def _is(self, validators: list[Validator]) -> bool:
        return validators_hash(validators) == self.validators_hash

    def _check_set(self, answer: Finality) -> None:
        epoch = self.chain.epoch_of(answer.certified.height)
        _require(
            epoch >= self.epoch,
            f"block {answer.headers[0].height} is of epoch {epoch}, and the trusted set of epoch {self.epoch}:"
            " prove it as an ancestor",
        )
        same = self._is(answer.validators)
        _require(same, f"the validators are not those that are trusted in epoch {self.epoch}")
        _require(
            self.reaches(answer),
            f"the last block of epoch {epoch} does not say who decides it; epochs from {self.epoch} on are missing",
        )
        for header in answer.headers:
            names_next = self.chain.closes_epoch(header.height) and header.version > 1
            _require(
                names_next or header.next_validators_hash == self.validators_hash,
                f"block {header.height} names another validator set than the one that signed",
            )


def check_votes(
    certificate: Certificate, validators: Sequence[Validator], *, chain_id: str, genesis_hash: bytes
) -> None:
    """Refuse a certificate that a quorum of the set has not signed; what it is about is for the caller to see."""
    signers = [v for position, v in enumerate(validators) if certificate.bitmap >> position & 1]
    _certifies(
        certificate.bitmap.bit_count() == len(signers) == len(certificate.signatures),
        "bitmap, validators and signatures do not match in number",
    )
    power = sum(signer.power for signer in signers)
    needed = 2 * sum(validator.power for validator in validators) // 3 + 1
    _certifies(power >= needed, f"signed by power {power}; {needed} are needed")
    about_a_block = certificate.kind in ("notar", "final")
    _certifies(about_a_block, f"{certificate.kind[:16]!r} certifies no candidate")
    candidate = certificate.candidate
    digest = vote_digest(
        kind=certificate.kind,
        epoch=candidate.epoch,
        slot=candidate.slot,
        candidate=candidate_id(candidate, chain_id, genesis_hash),
        chain_id=chain_id,
        genesis_hash=genesis_hash,
    )
    for signer, signature in zip(signers, certificate.signatures, strict=True):
        good = verify(signer.auth_key, digest, signature)
        _certifies(good, f"{signer.address[:64]} has not signed this certificate")


def _check_headers(headers: list[Header], chain: ChainName, height: int) -> list[bytes]:
    """The hashes of a chain of headers that begins at `height` and stays in one epoch."""
    hashes = [header_hash(header) for header in headers]
    for at, header in enumerate(headers, height):
        _refuse_unless(
            header.height == at, Reason.WRONG_HEIGHT, f"block {header.height} where {at} is needed"
        )
    for (_, above), parent in zip(pairwise(headers), hashes, strict=False):
        follows = above.parent == parent
        _refuse_unless(
            follows, Reason.WRONG_PARENT, f"block {above.height} has another parent than the one below"
        )
    for header in headers:
        ours = header.chain_id == chain.chain_id
        _refuse_unless(ours, Reason.WRONG_CHAIN, f"block {header.height} is of chain {header.chain_id[:64]}")
        known = header.version <= PROTOCOL_VERSION
        _refuse_unless(known, Reason.WRONG_VERSION, f"block {header.height} is of version {header.version}")
    _refuse_unless(
        height > 0, Reason.WRONG_HEIGHT, "block 0 follows from the genesis document; no vote decides it"
    )
    first, last = chain.epoch_of(height), chain.epoch_of(headers[-1].height)
    _require(first == last, f"the headers lead from epoch {first} into epoch {last}, which others decide")
    return hashes


def _check_statement(certificate: Certificate, block_hash: bytes, epoch: int) -> None:
    """What a finality certificate must be about."""
    final, candidate = certificate.kind == "final", certificate.candidate
    _certifies(final, f"a {certificate.kind[:16]} certificate is not final")
    _certifies(candidate.block_hash == block_hash, "the certificate is for another block")
    _certifies(
        candidate.epoch == epoch, f"the certificate is of epoch {candidate.epoch}, the block of {epoch}"
    )


# Where trust begins


class _Authority(msgspec.Struct, frozen=True):
    pubkey: str
    stake: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIGNED)] = 0


class _Consensus(msgspec.Struct, frozen=True):
    epoch_length: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class GenesisFacts(msgspec.Struct, frozen=True):
    """What finality needs of genesis.json; its hash covers all of it."""

    chain_id: str
    authorities: Annotated[list[_Authority], msgspec.Meta(min_length=1, max_length=MAX_VALIDATORS)]
    consensus: _Consensus

    def name(self, genesis_hash: bytes) -> ChainName:
        return ChainName(
            chain_id=self.chain_id, genesis_hash=genesis_hash, epoch_length=self.consensus.epoch_length
        )

    def validators(self) -> list[Validator]:
        """In set order; docs/spec/genesis.md."""
        keys = [(key_from_text(authority.pubkey), authority.stake) for authority in self.authorities]
        return [Validator(address_of(key), key, stake or 1) for key, stake in keys]

    def trust(self, genesis_hash: bytes) -> Trust:
        members = validators_hash(self.validators())
        return Trust(chain=self.name(genesis_hash), epoch=0, validators_hash=members)


def trust_genesis(document: object, *, genesis_hash: bytes | None = None) -> Trust:
    """Begin with the genesis document; whoever got it from a stranger gives the hash that it must have."""
    plain = plain_answer(document, limit=None)
    found = genesis_hash_of(jcs(plain))
    known = genesis_hash in (None, found)
    _refuse_unless(known, Reason.WRONG_CHAIN, f"the document is that of chain {found.hex()}")
    return convert(plain, GenesisFacts).trust(found)


def trust_header(header: object, *, block_hash: bytes, chain: ChainName) -> Trust:
    """Begin with a block whose hash is known from elsewhere: its header names the set that decides the next one.

    The hash must be younger than the time for which stake stays bound: who has taken it out has nothing to lose by
    signing another past.
    """
    read = read_header(plain_answer(header, limit=MAX_ANSWER_BYTES))
    same = header_hash(read) == block_hash
    _require(same, f"the header is not that of block {block_hash.hex()}")
    _refuse_unless(read.chain_id == chain.chain_id, Reason.WRONG_CHAIN, f"a block of {read.chain_id[:64]}")
    epoch = read.height // chain.epoch_length
    return Trust(chain=chain, epoch=epoch, validators_hash=read.next_validators_hash)


# From anything to records


class _MemberJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: str
    pubkey: str
    power: Annotated[int, msgspec.Meta(ge=1, le=MAX_SIGNED)]


class _FinalityJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    headers: Annotated[list[Json], msgspec.Meta(min_length=1, max_length=MAX_HEADERS)]
    certificate: Json
    validators: Annotated[list[_MemberJson], msgspec.Meta(min_length=1, max_length=MAX_VALIDATORS)]


def read_finality(answer: object) -> Finality:
    """An answer as records: no field is ignored, and none has a second spelling."""
    read = convert(plain_answer(answer, limit=MAX_ANSWER_BYTES), _FinalityJson)
    return Finality(
        headers=[read_header(header) for header in read.headers],
        certificate=read_certificate(read.certificate),
        validators=[
            Validator(member.address, key_from_text(member.pubkey), member.power)
            for member in read.validators
        ],
    )


def read_header(view: Json) -> Header:
    header = header_from_plain(view)
    require_same("header", header_to_plain(header, header_hash(header)), view)
    return header


def header_in(proof: Json, name: str) -> Header:
    """A header inside of an answer."""
    if name not in proof:
        raise Rejected(Reason.MISSING_FIELD, f"the proof has no {name}")
    return read_header(plain_answer(proof[name], limit=MAX_ANSWER_BYTES))


class _CertificateJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    kind: str
    epoch: int
    slot: int
    parent_slot: int
    parent_id: str
    block_hash: str
    bitmap: int
    signatures: Annotated[list[str], msgspec.Meta(max_length=MAX_VALIDATORS)]


def read_certificate(view: Json) -> Certificate:
    read = convert(view, _CertificateJson)
    candidate = Candidate(
        epoch=natural(read.epoch, "epoch"),
        slot=natural(read.slot, "slot"),
        parent_slot=natural(read.parent_slot, "parentSlot"),
        parent_id=unhex(read.parent_id, size=32),
        block_hash=unhex(read.block_hash, size=32),
    )
    signatures = [unhex(signature) for signature in read.signatures]
    certificate = Certificate(read.kind, candidate, natural(read.bitmap, "bitmap"), signatures)
    require_same("certificate", certificate_to_plain(certificate), view)
    return certificate


def require_same(name: str, ours: Json, given: Json) -> None:
    """What we read, written again, is what we were given: no field is ignored, none has a second spelling."""
    if ours != given or jcs(ours) != jcs(given):
        wrong = sorted(key for key in ours.keys() | given.keys() if ours.get(key) != given.get(key))
        raise Rejected(Reason.NOT_CANONICAL, f"{name}: {', '.join(wrong) or 'a number'} is not as it must be")


def natural(value: int, what: str) -> int:
    if not 0 <= value <= MAX_SIGNED:
        raise Rejected(Reason.OUT_OF_RANGE, f"{what} {value} is not from 0 to 2^53 - 1")
    return value


def plain_answer(value: object, *, limit: int | None) -> Any:
    """Anything as JSON of a bounded size; what is no JSON is refused."""
    try:
        raw = msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Rejected(Reason.MALFORMED, f"not JSON: {error}") from None
    if limit is not None and len(raw) > limit:
        raise Rejected(Reason.TOO_LARGE, f"{len(raw)} bytes; an answer has at most {limit}")
    return plain_json(raw)


def _refuse_unless(condition: bool, reason: Reason, message: str) -> None:
    if not condition:
        raise Rejected(reason, message)


def _require(condition: bool, message: str) -> None:
    _refuse_unless(condition, Reason.BAD_PROOF, message)


def _certifies(condition: bool, message: str) -> None:
    _refuse_unless(condition, Reason.BAD_CERTIFICATE, message)
