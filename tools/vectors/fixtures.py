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
VERSION_2_PARAMS: dict[str, Json] = DEFAULT_PARAMS | {
    "activations": [{"version": 2, "height": 0}],
    "fee_ed25519": 1,
    "fee_secp256k1": 6,
    "fee_rsa_pss": 2,
    "hub_bond": 0,
    "hub_mint_per_bond_bp": 10_000,
    "mint_budget_per_day": 0,
    "calibration_budget": 0,
    "calibration_until_ms": 0,
    "calibration_units": 10_000,
    "lock_retention_ms": 604_800_000,
    "receipt_retention_ms": 604_800_000,
    "unbonding_ms": 1_209_600_000,
    "governance_threshold": 0,
    "slash_bp": 500,
    "jail_ms": 86_400_000,
    "evidence_epochs": 100,
    "min_validator_stake": 1_000 * AIT,
    "max_validators": 50,
    "score_decay_bp": 8_750,
    "score_units_per_provider": 0,
}
CONSENSUS: dict[str, Json] = {"mode": "poa", "block_time_ms": 1_000, "idle_ms": 10_000, "epoch_length": 600}


@cache
def _devnet_document(version: int) -> bytes:
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
    defaults = (
        DEFAULT_PARAMS
        if version == 1
        else VERSION_2_PARAMS | {"unbonding_ms": 60_000, "hub_mint_per_bond_bp": 0}
    )
    params = defaults | {
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


def devnet_document(version: int = 2) -> bytes:
    """The devnet's genesis document as its canonical bytes; version 1 is that of release 0.1.0."""
    return _devnet_document(version)


def genesis_hash_of(document: bytes) -> bytes:
    return book.tagged("aitbc/genesis/1", document)


def genesis_hash() -> bytes:
    return genesis_hash_of(devnet_document())
