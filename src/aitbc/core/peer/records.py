"""What a node lets a discovery service tell about it: signed, numbered, soon expired. docs/spec/discovery.md

A node key cannot sign, so a record is signed by a second one, the *record key*. That it speaks for the node key is
not in the record: the node itself says so over a connection that only the node key can open.
"""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from aitbc.core.codec.canonical import jcs
from aitbc.core.crypto.hashing import tagged
from aitbc.core.crypto.schemes import ED25519, ed25519_auth_key, sign_ed25519, verify
from aitbc.core.peer.addresses import is_public, join_where, numeric_where
from aitbc.core.types.amounts import Milliseconds
from aitbc.core.types.receipts import HexHash

MAX_RECORD_BYTES = 2_048
"""Of a signed record in JSON; the longest is about 900."""
MAX_ENDPOINTS = 4
"""Two ways in, each by IPv4 and IPv6."""
MAX_SAMPLE = 16
"""In one answer: enough to find a network, too few to map a large one."""
MAX_LIFE_MS = 2 * 3_600_000
"""From signing to expiry. A node that has gone is forgotten after so long, and nothing older can come back."""
MAX_SKEW_MS = 30_000
"""As between nodes: who is further off could not take part anyway."""

Signature = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]
ChainId = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,63}\Z")]
Agent = Annotated[str, msgspec.Meta(pattern=r"\A[ -~]{0,64}\Z")]
"""Printable ASCII: it ends up on terminals."""


class RecordReason(StrEnum):
    """Why a discovery service does not do what it is asked; each value is a problem code over HTTP."""

    # the record as such
    WRONG_ID = "wrong_id"
    RECORD_EXPIRED = "record_expired"
    RECORD_FROM_FUTURE = "record_from_future"
    RECORD_LIVES_TOO_LONG = "record_lives_too_long"
    BAD_ENDPOINT = "bad_endpoint"
    PRIVATE_ENDPOINT = "private_endpoint"
    RECORD_FORGED = "record_forged"

    # against what is listed
    NOT_OWNER = "not_owner"
    STALE_SEQUENCE = "stale_sequence"
    UNKNOWN_NODE = "unknown_node"
    GROUP_FULL = "group_full"
    DIRECTORY_FULL = "directory_full"

    # the dial-back
    NODE_UNREACHABLE = "node_unreachable"
    NOT_VOUCHED = "not_vouched"

    # too much
    ASKED_TOO_OFTEN = "asked_too_often"
    TOO_MANY_CHECKS = "too_many_checks"


class RecordRefused(Exception):
    """A stranger's record or question is not taken; the message has the offending values."""

    def __init__(self, reason: RecordReason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class _Signed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Endpoint(_Signed, frozen=True, kw_only=True):
    """Where a node can be dialled."""

    host: Annotated[str, msgspec.Meta(min_length=2, max_length=45)]
    """Numeric: a name could lead somewhere else each time it is asked for."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]

    @property
    def where(self) -> str:
        return join_where(self.host, self.port)


class NodeRecord(_Signed, frozen=True, kw_only=True):
    """What is signed."""

    version: Literal[1] = 1
    chain_id: ChainId
    genesis_hash: HexHash
    node_key: HexHash
    """X25519: who answers the handshake. Names the record."""
    record_key: HexHash
    """Ed25519: who signs."""
    sequence: Milliseconds
    """When it was signed; of two records of a node the higher one counts."""
    expires_ms: Milliseconds
    endpoints: Annotated[list[Endpoint], msgspec.Meta(min_length=1, max_length=MAX_ENDPOINTS)]
    agent: Agent


class SignedRecord(_Signed, frozen=True, kw_only=True):
    """From anybody; `verify_record` says whether it is good."""

    record: NodeRecord
    sig: Signature


class Removal(_Signed, frozen=True, kw_only=True):
    """A node wants to be listed no more."""

    version: Literal[1] = 1
    node_key: HexHash
    record_key: HexHash
    sequence: Milliseconds
    """As a record's: nothing that was signed before comes back."""


class SignedRemoval(_Signed, frozen=True, kw_only=True):
    removal: Removal
    sig: Signature


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A record as a service tells it: its word for what answered, the node's for the rest."""

    record: NodeRecord
    sig: Signature
    answered: Annotated[int, msgspec.Meta(ge=0, lt=MAX_ENDPOINTS)]
    """Which endpoint."""
    checked_ms: Milliseconds


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/nodes`."""

    items: Annotated[list[Listed], msgspec.Meta(max_length=MAX_SAMPLE)]


class VerifiedRecord(msgspec.Struct, frozen=True):
    """Made by `verify_record` only: in time, of good endpoints, signed by its record key."""

    signed: SignedRecord

    @property
    def record(self) -> NodeRecord:
        return self.signed.record


class VerifiedRemoval(msgspec.Struct, frozen=True):
    """Made by `verify_removal` only."""

    removal: Removal


def record_seed_of(node_secret: bytes) -> bytes:
    """The record key's seed: it follows from the private node key, so a node keeps one file."""
    return tagged("aitbc/record-key/1", node_secret)


def record_key_of(node_secret: bytes) -> bytes:
    """The public half, as `p2p:record_key` names it."""
    return ed25519_auth_key(record_seed_of(node_secret))[1:]


def sign_record(record: NodeRecord, seed: bytes) -> SignedRecord:
    return SignedRecord(record=record, sig=sign_ed25519(seed, _record_digest(record)).hex())


def sign_removal(removal: Removal, seed: bytes) -> SignedRemoval:
    return SignedRemoval(removal=removal, sig=sign_ed25519(seed, _removal_digest(removal)).hex())


def verify_record(signed: SignedRecord, *, now_ms: int, allow_private: bool) -> VerifiedRecord:
    """Refuses, in this order: times, endpoints, signature."""
    record = signed.record
    _check_times(record, now_ms)
    for endpoint in record.endpoints:
        _check_endpoint(endpoint, allow_private=allow_private)
    _check_signature(record.record_key, _record_digest(record), signed.sig)
    return VerifiedRecord(signed)


def verify_removal(signed: SignedRemoval, *, now_ms: int) -> VerifiedRemoval:
    removal = signed.removal
    _check_sequence(removal.sequence, now_ms)
    _check_signature(removal.record_key, _removal_digest(removal), signed.sig)
    return VerifiedRemoval(removal)


def _record_digest(record: NodeRecord) -> bytes:
    return tagged("aitbc/node-record/1", jcs(record))


def _removal_digest(removal: Removal) -> bytes:
    return tagged("aitbc/node-removal/1", jcs(removal))


def _check_times(record: NodeRecord, now_ms: int) -> None:
    _check_sequence(record.sequence, now_ms)
    if record.expires_ms <= now_ms:
        raise RecordRefused(
            RecordReason.RECORD_EXPIRED, f"it expired at {record.expires_ms}, and it is {now_ms}"
        )
    if record.expires_ms - record.sequence > MAX_LIFE_MS:
        raise RecordRefused(
            RecordReason.RECORD_LIVES_TOO_LONG,
            f"{record.expires_ms - record.sequence} ms from sequence to expires_ms; at most {MAX_LIFE_MS}",
        )


def _check_sequence(sequence: int, now_ms: int) -> None:
    """A sequence is a time, so nobody can use up all the higher ones."""
    if sequence > now_ms + MAX_SKEW_MS:
        raise RecordRefused(RecordReason.RECORD_FROM_FUTURE, f"signed at {sequence}, and it is {now_ms}")


def _check_endpoint(endpoint: Endpoint, *, allow_private: bool) -> None:
    if numeric_where(endpoint.where) != endpoint.where:
        raise RecordRefused(
            RecordReason.BAD_ENDPOINT, f"{endpoint.where!r} is not the one spelling of a numeric address"
        )
    if not allow_private and not is_public(endpoint.where):
        raise RecordRefused(RecordReason.PRIVATE_ENDPOINT, f"{endpoint.where} cannot be reached in public")


def _check_signature(record_key: str, digest: bytes, sig: str) -> None:
    if not verify(bytes([ED25519]) + bytes.fromhex(record_key), digest, bytes.fromhex(sig)):
        raise RecordRefused(RecordReason.RECORD_FORGED, "the signature is not the record key's")
