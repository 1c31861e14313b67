"""Opaque blocks for the engine alone: a body of bytes, a state that is a hash of all bodies, cheap signatures."""

from hashlib import sha256

import msgspec

from aitbc.core.codec.digests import header_hash
from aitbc.core.consensus.nakamoto.authors import Miner
from aitbc.core.consensus.nakamoto.work import is_enough, seal_of, search_digest, template_digest, work_hash
from aitbc.core.crypto.merkle import list_root
from aitbc.core.types.blocks import ZERO_HASH, Header
from aitbc.sim.keys import key_named

CHAIN_ID = "ait-work"
BAD = b"bad"
"""A body that begins so is one that the state refuses."""


class OpaqueBlock(msgspec.Struct, frozen=True):
    header: Header
    body: bytes

    @property
    def hash(self) -> bytes:
        return header_hash(self.header)


def miner_named(name: str) -> Miner:
    return Miner(name, key_named(name))


def sign(auth_key: bytes, digest: bytes) -> bytes:
    """Of the length of an Ed25519 signature; anybody could forge it, and nobody here tries."""
    return 2 * sha256(auth_key + digest).digest()


def verify(auth_key: bytes, digest: bytes, signature: bytes) -> bool:
    return signature == sign(auth_key, digest)


def genesis_header(timestamp_ms: int) -> Header:
    return Header(
        version=2,
        chain_id=CHAIN_ID,
        height=0,
        parent=ZERO_HASH,
        timestamp_ms=timestamp_ms,
        proposer="",
        txs_root=body_root(b""),
        outcomes_root=ZERO_HASH,
        state_root=ZERO_HASH,
        next_validators_hash=ZERO_HASH,
        history_root=ZERO_HASH,
        extra=b"",
        seal=b"",
    )


def body_root(body: bytes) -> bytes:
    return list_root([body] if body else [])


def state_after(parent: Header, body: bytes) -> bytes:
    return sha256(parent.state_root + body).digest()


def template(parent: Header, body: bytes, *, timestamp_ms: int, author: str) -> Header:
    """A whole header but for its seal."""
    return msgspec.structs.replace(
        parent,
        height=parent.height + 1,
        parent=header_hash(parent),
        timestamp_ms=timestamp_ms,
        proposer=author,
        txs_root=body_root(body),
        state_root=state_after(parent, body),
        seal=b"",
    )


def search(digest: bytes, target: int, first: int = 0) -> int:
    """A nonce that is enough; for the small difficulties of tests."""
    nonce = first
    while not is_enough(work_hash(digest, nonce), target):
        nonce += 1
    return nonce


def sealed(header: Header, target: int, *, auth_key: bytes | None = None) -> Header:
    """With work, and signed when a key is given."""
    digest = template_digest(header)
    signature = sign(auth_key, digest) if auth_key else b""
    nonce = search(search_digest(digest, signature), target)
    return msgspec.structs.replace(header, seal=seal_of(nonce, signature))
