"""A receipt in the JSON of seed 003, "Stage 2 Receipt", with its hash for contracts (keccak256) or any chain.

Units: 1,000 of ours are one second of the reference card, so they become `gpu_seconds`; milliseconds become
seconds with up to three decimals, so nothing is lost. docs/spec/receipts.md
"""

import json
from typing import Any, Literal

from aitbc.client.errors import ClientError
from aitbc.core.crypto.hashing import digest
from aitbc.core.types.receipts import ReceiptDetails

HashName = Literal["sha256", "keccak256"]


def seed003_receipt(details: ReceiptDetails) -> dict[str, Any]:
    """The seed's JSON receipt, field for field."""
    return {
        "job_id": details.job_id,
        "provider": details.provider,
        "client": details.client,
        "units": _thousandths(details.units),
        "unit_type": "gpu_seconds",
        "model": details.model,
        "prompt_hash": details.prompt_hash,
        "started_at": _thousandths(details.started_ms),
        "finished_at": _thousandths(details.finished_ms),
        "artifact_sha256": details.output_hash.removeprefix("sha256:"),
        "nonce": details.nonce,
        "hub_id": details.hub,
        "chain_id": details.chain_id,
    }


def seed003_bytes(receipt: dict[str, Any]) -> bytes:
    """The seed's canonical form: minified JSON, keys in alphabetical order, UTF-8."""
    return json.dumps(
        receipt, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def seed003_hash(receipt: dict[str, Any], algorithm: HashName = "sha256") -> str:
    """`receipt_hash` in hexadecimal; a contract wants it with `0x` in front."""
    data = seed003_bytes(receipt)
    return digest(data).hex() if algorithm == "sha256" else _keccak256(data).hex()


def _thousandths(value: int) -> int | float:
    """value ÷ 1,000: an integer where it is one, else the shortest decimal that reads back as it."""
    whole, rest = divmod(value, 1000)
    return whole if rest == 0 else value / 1000


def _keccak256(data: bytes) -> bytes:
    try:
        from Crypto.Hash import keccak
    except ImportError:
        raise ClientError(
            "missing_extra",
            "keccak256 needs the package pycryptodome",
            "install it with: pip install 'aitbc[evm]'",
        ) from None
    return keccak.new(digest_bits=256, data=data).digest()
