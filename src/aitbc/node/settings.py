"""Everything a node can be told, with the seeds' names (000 §17, 001): one line a setting. docs/howto/configure.md"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aitbc.adapters.config.loader import Combined, ConfigError, Setting, Table, Value
from aitbc.adapters.config.values import (
    address,
    dialled,
    flag,
    integer,
    milliseconds,
    number,
    one_of,
    port,
    ratio,
    text,
    weighted,
    words,
)
from aitbc.core.ledger.genesis import Genesis
from aitbc.core.peer.addresses import split_where
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.node.roles import ROLES

LEVELS = ("debug", "info", "warning", "error", "critical")


def bound(host: str, port_name: str) -> Any:
    """`0.0.0.0:8080` as host and port."""

    def parts(value: Any) -> Mapping[str, Any]:
        found = split_where(text(value))
        if found is None:
            raise ValueError("host:port is wanted, such as 127.0.0.1:8080")
        return {host: found[0], port_name: found[1]}

    return parts


def database_file(value: Any) -> Mapping[str, Any]:
    return {"database": f"sqlite:///{text(value)}"}


NODE = Table(
    "node",
    (
        Setting("data", ("DATA_DIR",), text, "data", "Folder of database, log, guard and node key."),
        Setting("genesis", ("GENESIS",), text, "", "Genesis document; genesis.json in the data folder."),
        Setting("database", ("DATABASE_URL",), text, "", "postgresql://… or sqlite:///path.", secret=True),
        Setting("rpc_host", ("RPC_HOST",), text, "127.0.0.1", "Where RPC listens."),
        Setting("rpc_port", ("RPC_PORT",), port, 8080, "RPC over HTTP, and WebSockets."),
        Setting("ws_port", ("WS_PORT",), port, None, "A second port for WebSockets only."),
        Setting("metrics_port", ("METRICS_PORT",), port, None, "A port for /metrics and /health only."),
        Setting("role", ("ROLE",), one_of(*ROLES), "", "validator, relay, archive or discovery; else by the key."),
        Setting("proposer_key", ("PROPOSER_KEY",), text, "", "A validator's key, or its file.", secret=True),
        Setting("signer", ("SIGNER",), text, "", "Socket of a signer that holds key and guard."),
        Setting("mine_to", ("MINE_TO",), text, "", "Mode pow: who earns for this node's blocks."),
        Setting("mining_processes", ("MINERS",), integer(0, 256), 1, "Where work agrees: search nonces; 0: none."),
        Setting("extra", ("BLOCK_EXTRA",), text, "", "Where work agrees: what its blocks say."),
        Setting("validator_address", ("VALIDATOR_ADDRESS",), address, "", "Whose key it must be."),
        Setting("never_voted", ("NEVER_VOTED",), flag, False, "This key has not voted on this chain, anywhere."),
        Setting("p2p_host", ("P2P_HOST",), text, "127.0.0.1", "Where other nodes connect."),
        Setting("p2p_port", ("P2P_PORT",), port, None, "Without it nobody can connect to this node."),
        Setting("peers", ("PEERS",), dialled, (), "Nodes to stay connected to."),
        Setting("bootstrap", ("BOOTSTRAP_PEERS",), dialled, (), "Nodes to ask for others while alone."),
        Setting("discovery", ("DISCOVERY_URLS",), words, (), "Discovery services to ask for others."),
        Setting("announce", ("ANNOUNCE",), text, "", "Where others reach this node, numeric."),
        Setting("attest_urls", ("ATTEST_URLS",), words, (), "Hubs that may be asked for attestations."),
        Setting(
            "verify_processes", ("VERIFY_PROCESSES",), integer(0, 16), min(2, max(0, (os.cpu_count() or 1) - 1)),
            "Check signatures when many come; 0: the node itself.",
        ),
        Setting("timeout", ("CONSENSUS_TIMEOUT",), milliseconds(50, 60_000), 600, "Wait for a leader at first."),
        Setting("faucet_key", ("FAUCET_KEY",), text, "", "The devnet's faucet key, or its file.", secret=True),
        Setting("synthetic_key", ("SYNTHETIC_KEY",), text, "", "Its synthetic attester's, or its file.", secret=True),
        Setting("admin_token", ("ADMIN_TOKEN",), text, "", "Opens the admin routes; no need on a devnet.", secret=True),
        Setting("cors_origins", ("CORS_ORIGINS",), words, (), "Web pages of others that may read and follow."),
        Setting("rpc_rate", ("RPC_RATE",), number, 100.0, "Requests a second of one public address; 0: no limit."),
        Setting("rpc_burst", ("RPC_BURST",), integer(1, 10**6), 400, "At once."),
        Setting("tx_rate", ("TX_RATE",), number, 500.0, "Transactions a second of one public address; 0: no limit."),
        Setting("tx_burst", ("TX_BURST",), integer(1, 10**6), 5_000, "At once."),
        Setting("rpc_keys", ("RPC_KEYS",), weighted, {}, "X-Api-Key:times as much.", secret=True),
        Setting("rpc_timeout", ("RPC_TIMEOUT",), milliseconds(1_000, 60_000), 60_000, "Longest wait for finality."),
        Setting("log_level", ("LOG_LEVEL",), one_of(*LEVELS), "info", "What is logged."),
        Setting("otel_endpoint", ("OTEL_EXPORTER_OTLP_ENDPOINT",), text, "", "Traces go there; extra `otel`."),
        # what genesis decides: compared with it
        Setting("chain_id", ("CHAIN_ID",), text, "", "Genesis: name of the chain."),
        Setting("consensus_mode", ("CONSENSUS_MODE",), text, "", "Genesis: poa, cbp or hybrid."),
        Setting("block_time", ("BLOCK_TIME",), milliseconds(0, 3_600_000), None, "Genesis: least time between blocks."),
        Setting("mint_per_unit", ("MINT_PER_UNIT",), integer(0, MAX_SIGNED), None, "Genesis: base units a unit."),
        Setting("coordinator_ratio", ("COORDINATOR_RATIO",), ratio, None, "Genesis: the hub's part, 0.05."),
        # what comes later
        Setting(
            "block_cache_size", ("BLOCK_CACHE_SIZE",), text, "", "Later.",
            later="blocks are read from the database, whose own cache serves; a cache of ours is not built",
        ),
        Setting(
            "pruning", ("PRUNING",), text, "", "Later.", off=("false", "off", "none", "0", "no"),
            later="this release keeps every block; pruning is not built",
        ),
        Setting(
            "db_encryption_enabled", ("DB_ENCRYPTION_ENABLED",), text, "", "Later.", off=("false", "off", "0", "no"),
            later="the database is not encrypted by us yet; encrypt the disk",
        ),
        Setting(
            "db_encryption_key_path", ("DB_ENCRYPTION_KEY_PATH",), text, "", "Later.", secret=True,
            later="the database is not encrypted by us yet; encrypt the disk",
        ),
    ),
    (
        Combined("rpc_bind", ("RPC_BIND",), bound("rpc_host", "rpc_port"), "rpc_host:rpc_port."),
        Combined("p2p_bind", ("P2P_BIND",), bound("p2p_host", "p2p_port"), "p2p_host:p2p_port."),
        Combined("db_path", ("DB_PATH",), database_file, "The database's file."),
    ),
)  # fmt: skip


def check_genesis(values: Mapping[str, Value], genesis: Genesis) -> None:
    """A node whose settings say something else than its genesis is on another chain than its operator thinks. Raises
    ConfigError with all that differs."""
    has = {
        "chain_id": genesis.chain_id,
        "consensus_mode": genesis.consensus.mode,
        "block_time": genesis.consensus.block_time_ms,
        "mint_per_unit": genesis.params.mint_per_unit,
        "coordinator_ratio": genesis.params.coordinator_ratio_bp,
    }
    units = {"block_time": " ms", "coordinator_ratio": " basis points"}
    wrong = [
        f"{name} is {values[name].value}{units.get(name, '')} ({values[name].origin}), genesis has {found}"
        for name, found in has.items()
        if not values[name].is_default and values[name].value != found
    ]
    if wrong:
        raise ConfigError(
            f"settings differ from the genesis document: {'; '.join(wrong)}. Genesis decides: mend the settings, or"
            " make another chain (aitbc genesis make reads the same names)"
        )


def genesis_file(values: Mapping[str, Value]) -> Path:
    return Path(values["genesis"].value or Path(values["data"].value) / "genesis.json")
