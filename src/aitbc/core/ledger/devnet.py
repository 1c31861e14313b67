"""The devnet's genesis: the same accounts, keys and hash on every machine. docs/spec/genesis.md

Its keys come from a published mnemonic; whoever runs it gives its coins to everybody.
"""

from collections.abc import Mapping, Sequence

from aitbc.core.codec.keytext import key_to_text
from aitbc.core.crypto.address import address_of
from aitbc.core.ledger.genesis import Authority, ConsensusSettings, Genesis, GenesisAccount
from aitbc.core.ledger.params import Activation, Params
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import PROTOCOL_VERSION
from aitbc.core.types.nakamoto import NakamotoSettings

CHAIN_ID = "ait-devnet"
TIMESTAMP = 1_760_000_000
"""9 October 2025, 08:53:20 UTC: fixed, so that the hash is."""
CLIENT_BALANCE = 1_000_000 * AIT
OPERATOR_BALANCE = 1_000 * AIT
FAUCET_LIMIT = 1_000_000 * AIT
UNBONDING_MS = 60_000
"""A minute, so that somebody who tries STAKE sees its coins again."""
CLIENTS = ("alice", "bob", "carol")


def devnet_genesis(
    keys: Mapping[str, bytes],
    *,
    validators: Sequence[bytes] = (),
    block_time_ms: int = 1_000,
    idle_ms: int = 10_000,
    work: NakamotoSettings | None = None,
) -> Genesis:
    """Genesis from the devnet's auth keys by name (`validator`, `faucet`, `hub`, `provider`, `alice`, …).

    `validators`: the whole set when there are several, each with coins to pay for evidence; one `validator`, without
    any, otherwise. `work`: the chain agrees by work instead, and nobody has coins for authoring its blocks.
    """
    addresses = {name: address_of(key) for name, key in keys.items()}
    balances = dict.fromkeys(CLIENTS, CLIENT_BALANCE) | {"hub": OPERATOR_BALANCE}
    unfunded = ("faucet",) if work else ("faucet", "synthetic-attester")
    accounts = [
        GenesisAccount(address=addresses[name], balance=balances.get(name, 0), pubkey=key_to_text(keys[name]))
        for name in (*CLIENTS, "hub", *unfunded)
    ]
    accounts += [
        GenesisAccount(address=address_of(key), balance=OPERATOR_BALANCE, pubkey=key_to_text(key))
        for key in validators
    ]
    params = Params(
        devnet=1,
        activations=[Activation(version=PROTOCOL_VERSION, height=0)],
        unbonding_ms=UNBONDING_MS,
        hub_mint_per_bond_bp=0,
        mint_price_cap_bp=0,
        hubs=[addresses["hub"]],
        faucet=addresses["faucet"],
        faucet_limit=FAUCET_LIMIT,
        synthetic_attester="" if work else addresses["synthetic-attester"],
        treasury=addresses["treasury"],
    )
    authors = (
        [] if work else [Authority(pubkey=key_to_text(key)) for key in validators or [keys["validator"]]]
    )
    return Genesis(
        chain_id=CHAIN_ID,
        timestamp=TIMESTAMP,
        accounts=accounts,
        params=params,
        authorities=authors,
        consensus=ConsensusSettings(mode="poa-pow" if work.miners else "pow", work=work)
        if work
        else ConsensusSettings(block_time_ms=block_time_ms, idle_ms=idle_ms),
    )
