"""What a node is told at start."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from aitbc.core.peer.records import Endpoint
from aitbc.node.roles import RELAY, VALIDATOR
from aitbc.ports import Signer


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    genesis: bytes
    """The genesis document."""
    data: Path
    """Folder for the database and the lock; the node writes nowhere else unless `database` says so."""
    named_role: str = ""
    """What it is for, one of `ROLES`; empty: what its key says."""
    database: str = ""
    """`postgresql://…` or `sqlite:///path` (DATABASE_URL); empty: `chain.db` in the folder. May hold a password."""
    rpc_host: str = "127.0.0.1"
    rpc_port: int = 8080
    proposer: Signer | None = None
    """Votes and authors blocks while its key is in the validator set, or signs what it mines; None follows."""
    proposer_file: Path | None = None
    """Where its key stands, if in a file: one process votes with that at a time."""
    signer: Path | None = None
    """Socket of a signer that holds the proposer's key and its guard; then `proposer` is None."""
    mine_to: str = ""
    """`pow`: address that earns for this node's blocks; empty: the proposer's."""
    mining_processes: int = 1
    """Where work agrees: processes that search; 0: this node makes no blocks."""
    extra: bytes = b""
    """Where work agrees: what this node's blocks say in their header, at most 256 bytes."""
    never_voted: bool = False
    """The operator's word that the proposer's key has not voted on this chain, anywhere; asked for once, while there is
    no signer guard yet."""
    p2p_host: str = "127.0.0.1"
    p2p_port: int | None = None
    """Where other nodes connect; None: nobody does."""
    peers: tuple[str, ...] = ()
    """`host:port` of nodes to stay connected to: the other validators, or whom a follower follows."""
    bootstrap: tuple[str, ...] = ()
    """`host:port` of nodes to ask for others while there is nobody else (BOOTSTRAP_PEERS)."""

    discovery: tuple[str, ...] = ()
    """URLs of discovery services to ask for others (DISCOVERY_URLS)."""
    announce: Endpoint | None = None
    """Where others reach this node: told to peers and published at the discovery services."""

    @property
    def role(self) -> str:
        """One of `ROLES`."""
        signs = self.proposer or self.signer or self.mine_to
        return self.named_role or (VALIDATOR if signs else RELAY)

    @property
    def http_ports(self) -> tuple[int, ...]:
        """Where HTTP is listened to, RPC's first."""
        others = (self.ws_port, self.metrics_port)
        return (self.rpc_port, *(port for port in others if port is not None))

    @property
    def talks(self) -> bool:
        """Are there to be other nodes?"""
        return self.p2p_port is not None or bool(self.peers or self.bootstrap or self.discovery)

    timeout_ms: int = 600
    """How long a slot's leader is waited for at first: three network delays and the time to execute a block."""
    verify_processes: int = 0
    """How many processes check signatures once there are many; 0: the node does it itself."""
    faucet: Signer | None = None
    """Signs FAUCET transactions for /admin/mintFaucet; devnet only."""
    synthetic_attester: Signer | None = None
    """Answers for synthetic jobs; devnet only."""
    attest_urls: tuple[str, ...] = ()
    """The only places a claim without attestation may be looked up: hub base URLs (seed 000 §19 allow-list)."""
    cors_origins: tuple[str, ...] = ()
    """Web pages of others that may read here and follow, as browsers name them (`https://wallet.example`)."""
    admin_token: str = ""
    """Opens the admin routes (ADMIN_TOKEN), on this machine too; empty: to this machine on a devnet, else to nobody."""
    request_rate: tuple[float, int] = (100.0, 400)
    """Requests of one public address: a second, and at once. A page of the console makes ten; 0 a second: no limit."""
    transaction_rate: tuple[float, int] = (500.0, 5_000)
    """Transactions of one public address: a second, and at once. The chain takes thousands from all together."""
    api_keys: Mapping[str, int] = {}
    """X-Api-Key → how many times as much whoever sends it may."""
    ws_port: int | None = None
    """A second port that takes WebSockets only (WS_PORT)."""
    metrics_port: int | None = None
    """A port that answers /metrics and /health only (METRICS_PORT)."""
    wait_s: float = 60.0
    """Longest time that a request waits for finality (RPC_TIMEOUT)."""
    otel_endpoint: str = ""
    """Where traces go (OTLP over HTTP); empty: nothing is traced."""
