"""What several vector files share: the devnet's keys and genesis, one hash of a request, one lock."""

from functools import cache
from hashlib import sha256
from typing import Any

import by_the_book as book

Json = Any

AIT = 1_000_000
NOW_MS = 1_760_000_100_000
"""A block time shortly after the devnet's genesis."""


@cache
def keys() -> dict[str, book.Key]:
    return book.devnet_keys()


def h(text: str) -> bytes:
    """A hash that stands for something else."""
    return sha256(text.encode()).digest()


def sha(text: str) -> str:
    return book.hash_text(text.encode())


DEFAULT_PARAMS: dict[str, Json] = {
    "devnet": 0,
    "base_fee": 2,
    "fee_per_kib": 64,
    "fee_burn_bp": 5_000,
    "mint_per_unit": 1_000,
    "coordinator_ratio_bp": 500,
    "treasury_ratio_bp": 0,
    "treasury": "",
    "mint_price_cap_bp": 10_000,
    "hubs": [],
    "faucet": "",
    "faucet_limit": 0,
    "synthetic_attester": "",
    "max_lock_ms": 2_592_000_000,
}
CONSENSUS: dict[str, Json] = {"mode": "poa", "block_time_ms": 1_000, "idle_ms": 10_000, "epoch_length": 600}


@cache
def _devnet_document() -> bytes:
    owners, named = keys(), ("alice", "bob", "carol", "hub", "faucet", "synthetic-attester")
    balances = {
        "alice": 1_000_000 * AIT,
        "bob": 1_000_000 * AIT,
        "carol": 1_000_000 * AIT,
        "hub": 1_000 * AIT,
    }
    accounts = [
        {"address": owners[name].address, "balance": balances.get(name, 0), "pubkey": owners[name].text}
        for name in named
    ]
    params = DEFAULT_PARAMS | {
        "devnet": 1,
        "mint_price_cap_bp": 0,
        "hubs": [owners["hub"].address],
        "faucet": owners["faucet"].address,
        "faucet_limit": 1_000_000 * AIT,
        "synthetic_attester": owners["synthetic-attester"].address,
        "treasury": owners["treasury"].address,
    }
    return book.jcs(
        {
            "chain_id": "ait-devnet",
            "timestamp": 1_760_000_000,
            "accounts": accounts,
            "params": params,
            "authorities": [{"pubkey": owners["validator"].text}],
            "consensus": CONSENSUS,
        }
    )


def devnet_document() -> bytes:
    """The devnet's genesis document as its canonical bytes."""
    return _devnet_document()


def genesis_hash_of(document: bytes) -> bytes:
    return book.tagged("aitbc/genesis/1", document)


def genesis_hash() -> bytes:
    return genesis_hash_of(devnet_document())
