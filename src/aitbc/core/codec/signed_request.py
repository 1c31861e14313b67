"""What an account signs to ask a hub for something without an API key. docs/spec/accounts.md"""

from aitbc.core.crypto.hashing import digest, tagged, u64

MAX_AGE_MS = 60_000
"""A signed request is good this long before and after the hub's clock says its time; its nonce is remembered longer."""


def signed_request_digest(
    *,
    genesis_hash: bytes,
    hub: str,
    address: str,
    method: str,
    target: str,
    body: bytes,
    timestamp_ms: int,
    nonce: str,
) -> bytes:
    """Good for one hub, one chain, one route with its query, one body, and once. `nonce` is 64 hexadecimal digits."""
    return tagged(
        "aitbc/request/1",
        genesis_hash,
        hub.encode(),
        address.encode(),
        method.encode(),
        target.encode(),
        digest(body),
        u64(timestamp_ms),
        bytes.fromhex(nonce),
    )
