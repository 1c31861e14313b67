"""From settings to a node's configuration: files are read, keys opened, and what contradicts itself is refused."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from aitbc.adapters.config.loader import ConfigError, Value
from aitbc.client.signing import KeySigner
from aitbc.core.ledger.genesis import Genesis, parse_genesis
from aitbc.core.peer.addresses import numeric_where, split_where
from aitbc.core.peer.records import Endpoint
from aitbc.core.types.reasons import Rejected
from aitbc.node.config import NodeConfig
from aitbc.node.roles import role_of
from aitbc.node.settings import check_genesis, genesis_file

MAX_KEY_FILE_BYTES = 4096
_KEY = re.compile(r"(?:0x)?([0-9a-f]{64})\Z")

Values = Mapping[str, Value]


def node_config(values: Values) -> NodeConfig:
    """Raises ConfigError with the setting, where it stands and what to do."""
    discovery, announce = _services(values["discovery"]), _announced(values)
    document, genesis = _genesis(values)
    role = role_of(values, genesis)
    proposer = _signer(values, "proposer_key")
    _check_validator(values, proposer)
    return NodeConfig(
        genesis=document,
        named_role=role,
        data=Path(values["data"].value),
        database=values["database"].value,
        rpc_host=values["rpc_host"].value,
        rpc_port=values["rpc_port"].value,
        ws_port=values["ws_port"].value,
        metrics_port=values["metrics_port"].value,
        proposer=proposer,
        proposer_file=_file_of(values["proposer_key"].value),
        signer=_remote(values),
        mine_to=values["mine_to"].value,
        mining_processes=values["mining_processes"].value,
        extra=values["extra"].value.encode(),
        never_voted=values["never_voted"].value,
        p2p_host=values["p2p_host"].value,
        p2p_port=values["p2p_port"].value,
        peers=values["peers"].value,
        bootstrap=values["bootstrap"].value,
        discovery=discovery,
        announce=announce,
        timeout_ms=values["timeout"].value,
        verify_processes=values["verify_processes"].value,
        faucet=_signer(values, "faucet_key"),
        synthetic_attester=_signer(values, "synthetic_key"),
        attest_urls=values["attest_urls"].value,
        cors_origins=values["cors_origins"].value,
        admin_token=values["admin_token"].value,
        request_rate=(values["rpc_rate"].value, values["rpc_burst"].value),
        transaction_rate=(values["tx_rate"].value, values["tx_burst"].value),
        api_keys=values["rpc_keys"].value,
        wait_s=values["rpc_timeout"].value / 1000,
        otel_endpoint=values["otel_endpoint"].value,
    )


def _genesis(values: Values) -> tuple[bytes, Genesis]:
    """The document, and what it says."""
    path = genesis_file(values)
    try:
        document = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"genesis {path} ({values['genesis'].origin}) cannot be read: {error.strerror}; make one with"
            " `aitbc genesis make`, or name it (GENESIS)"
        ) from None
    try:
        genesis = parse_genesis(document)
    except Rejected as rejection:
        raise ConfigError(f"genesis {path} is none: {rejection.message}") from None
    check_genesis(values, genesis)
    return document, genesis


def _signer(values: Values, name: str) -> KeySigner | None:
    """A key's 64 hexadecimal digits, or a file that holds them and that nobody else can read."""
    written, origin = values[name]
    if not written:
        return None
    found = _KEY.match(written)
    if found is None:
        found = _KEY.match(_key_file(name, Path(written).expanduser(), origin))
    if found is None:
        raise ConfigError(
            f"{name} ({origin}) is neither 64 lower-case hexadecimal digits nor a file with them"
        )
    return KeySigner(bytes.fromhex(found[1]))


def _file_of(written: str) -> Path | None:
    return None if not written or _KEY.match(written) else Path(written).expanduser()


def _key_file(name: str, path: Path, origin: str) -> str:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others: chmod 600 {path}")
        with path.open("rb") as file:
            return file.read(MAX_KEY_FILE_BYTES).decode("utf-8", "replace").strip()
    except OSError as error:
        raise ConfigError(
            f"{name} ({origin}) is no key, and no file that can be read: {error.strerror}"
        ) from None


def _check_validator(values: Values, proposer: KeySigner | None) -> None:
    wanted, origin = values["validator_address"]
    if wanted and (proposer is None or proposer.address != wanted):
        has = proposer.address if proposer else "none"
        raise ConfigError(
            f"validator_address is {wanted} ({origin}), but the proposer key is {has}: set PROPOSER_KEY to"
            " that validator's key, or leave the address out"
        )


def _remote(values: Values) -> Path | None:
    where, origin = values["signer"]
    if where and (values["proposer_key"].value or values["never_voted"].value):
        raise ConfigError(
            f"signer ({origin}): with --signer, key and guard are the signer's; leave out --proposer-key and"
            " --never-voted"
        )
    return Path(where) if where else None


def _services(urls: Value) -> tuple[str, ...]:
    from aitbc.node.finder import MAX_SERVICES

    if len(urls.value) > MAX_SERVICES:
        raise ConfigError(
            f"discovery ({urls.origin}) names {len(urls.value)} services; at most {MAX_SERVICES}: one is enough"
        )
    for url in urls.value:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"discovery ({urls.origin}): {url} is no http:// or https:// URL")
    return tuple(url.rstrip("/") for url in urls.value)


def _announced(values: Values) -> Endpoint | None:
    where, origin = values["announce"]
    if not where:
        return None
    if values["p2p_port"].value is None:
        raise ConfigError(
            f"announce ({origin}): nobody can connect to a node without --p2p-port (P2P_PORT); set it, or leave"
            " announce out"
        )
    numeric = numeric_where(where)
    parts = split_where(numeric) if numeric else None
    if parts is None:
        raise ConfigError(
            f"announce ({origin}): {where} is no numeric address that others could dial; give it like 203.0.113.7:7070"
            " or [2001:db8::7]:7070: names are not told to others"
        )
    return Endpoint(host=parts[0], port=parts[1])
