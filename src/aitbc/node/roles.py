"""What a node is for: it votes, it passes on, it keeps everything, or it only says where others are. docs/spec/p2p.md
"Roles"
"""

from collections.abc import Mapping

from aitbc.adapters.config.loader import ConfigError, Value
from aitbc.core.ledger.genesis import Genesis

VALIDATOR, RELAY, ARCHIVE, DISCOVERY = "validator", "relay", "archive", "discovery"
ROLES = (VALIDATOR, RELAY, ARCHIVE, DISCOVERY)

SIGNING = ("proposer_key", "signer", "validator_address", "never_voted", "mine_to")
"""Settings of who makes blocks: a node that never signs for the chain has none of them."""
OF_THE_CHAIN = ("database", "attest_urls", "faucet_key", "synthetic_key", "ws_port", "otel_endpoint")
"""Settings that mean nothing to who has no chain."""

Values = Mapping[str, Value]


def role_of(values: Values, genesis: Genesis) -> str:
    """The role that was named, or the one that the other settings imply. Raises ConfigError when they contradict it."""
    named = values["role"]
    can_sign = _can_sign(values, genesis)
    if not named.value:
        return VALIDATOR if can_sign else RELAY
    if named.value == VALIDATOR:
        _check_validator(named, genesis, can_sign=can_sign)
    else:
        _check_silent(named, values)
    if named.value == DISCOVERY:
        _check_discovery(named, values)
    return str(named.value)


def _can_sign(values: Values, genesis: Genesis) -> bool:
    if genesis.consensus.work is None:
        return bool(values["proposer_key"].value or values["signer"].value)
    earns = values["proposer_key"].value or values["mine_to"].value
    return bool(earns and values["mining_processes"].value)


def _check_validator(named: Value, genesis: Genesis, *, can_sign: bool) -> None:
    if can_sign:
        return
    needs = (
        "--proposer-key (PROPOSER_KEY), or --signer (SIGNER)"
        if genesis.consensus.work is None
        else "--proposer-key (PROPOSER_KEY) or --mine-to (MINE_TO), and mining processes (MINERS above 0)"
    )
    raise ConfigError(
        f"role ({named.origin}) is validator, but there is nothing to make blocks with: set {needs}, or choose"
        " relay, which follows without a key"
    )


def _check_silent(named: Value, values: Values) -> None:
    for name in SIGNING:
        said = values[name]
        if said.value:
            raise ConfigError(
                f"role ({named.origin}) is {named.value}, which never signs, but {name} is set ({said.origin}):"
                " leave it out, or choose validator"
            )


def _check_discovery(named: Value, values: Values) -> None:
    for name in OF_THE_CHAIN:
        said = values[name]
        if said.value:
            raise ConfigError(
                f"role ({named.origin}) is discovery, which has no chain, but {name} is set ({said.origin}): leave it"
                " out, or choose relay"
            )
    if values["p2p_port"].value is None:
        raise ConfigError(
            f"role ({named.origin}) is discovery, but nobody could ask this node: set --p2p-port (P2P_PORT)"
        )
    if values["announce"].value:
        raise ConfigError(
            f"role ({named.origin}) is discovery, but announce is set ({values['announce'].origin}): services list"
            " nodes to sync from; others name this one in BOOTSTRAP_PEERS"
        )
