"""Ask a hub as an account, without an API key: headers that sign one request. docs/spec/accounts.md

headers = signed_headers(signer, hub=identity, method="GET", target="/v1/account", body=b"", now_ms=…)
"""

import secrets
from typing import Any

from aitbc.client.transactions import Signer
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.signed_request import signed_request_digest


def signed_headers(
    signer: Signer, *, hub: dict[str, Any], method: str, target: str, body: bytes, now_ms: int
) -> dict[str, str]:
    """`hub` is what `GET /v1/hub` answers: check its address and genesis hash before, because the signature is good for
    that hub and chain. `target` is path and query as they are sent."""
    nonce = secrets.token_hex(32)
    digest = signed_request_digest(
        genesis_hash=bytes.fromhex(hub["genesis_hash"]),
        hub=hub["address"],
        address=signer.address,
        method=method,
        target=target,
        body=body,
        timestamp_ms=now_ms,
        nonce=nonce,
    )
    return {
        "aitbc-address": signer.address,
        "aitbc-pubkey": key_to_text(signer.auth_key),
        "aitbc-nonce": nonce,
        "aitbc-timestamp": str(now_ms),
        "aitbc-signature": signer.sign(digest).hex(),
    }
