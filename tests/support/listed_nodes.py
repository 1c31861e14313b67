"""Nodes as a discovery service meets them: keys, records, and what answers when it calls back."""

from hashlib import sha256
from typing import Any

import msgspec

from aitbc.core.crypto.schemes import ed25519_auth_key
from aitbc.core.peer.handshake import public_key_of
from aitbc.core.peer.records import (
    Endpoint,
    NodeRecord,
    Removal,
    SignedRecord,
    SignedRemoval,
    record_seed_of,
    sign_record,
    sign_removal,
)

NOW_MS = 1_800_000_000_000
CHAIN = "test-chain"
GENESIS = "ab" * 32
HOUR_MS = 3_600_000


class ListedNode:
    """Somebody with a node key and the record key that follows from it."""

    def __init__(self, number: int, where: str = "") -> None:
        self.secret = sha256(str(number).encode()).digest()
        self.node_key = public_key_of(self.secret).hex()
        self.seed = record_seed_of(self.secret)
        self.record_key = ed25519_auth_key(self.seed)[1:].hex()
        host, _, port = (where or f"8.{number // 250}.{number % 250}.1:7070").rpartition(":")
        self.endpoint = Endpoint(host=host.strip("[]"), port=int(port))

    def record(self, sequence: int = NOW_MS, **changes: Any) -> NodeRecord:
        record = NodeRecord(
            chain_id=CHAIN,
            genesis_hash=GENESIS,
            node_key=self.node_key,
            record_key=self.record_key,
            sequence=sequence,
            expires_ms=sequence + HOUR_MS,
            endpoints=[self.endpoint],
            agent="aitbc/test",
        )
        return msgspec.structs.replace(record, **changes)

    def signed(self, sequence: int = NOW_MS, **changes: Any) -> SignedRecord:
        return sign_record(self.record(sequence, **changes), self.seed)

    def removal(self, sequence: int) -> SignedRemoval:
        removal = Removal(node_key=self.node_key, record_key=self.record_key, sequence=sequence)
        return sign_removal(removal, self.seed)
