"""Everything an operator can set about a hub, with the reason beside each default."""

from pathlib import Path
from typing import Any

import msgspec

from aitbc.adapters.engines.reference import BUILT_IN
from aitbc.core.types.amounts import AIT
from aitbc.hub.providers import WEIGHTED
from aitbc.ports import Signer


class HubConfig(msgspec.Struct, frozen=True, kw_only=True):
    signer: Signer
    """Signs attestations, claims and countersignatures."""
    data_dir: Path
    rpc_url: str = "http://127.0.0.1:8080"
    bind_host: str = "127.0.0.1"
    bind_port: int = 8000
    genesis: dict[str, Any] | None = None
    """The genesis document, when the caller has it; else the node is asked."""
    database_url: str = ""
    """PostgreSQL for queue and accounts of several hub processes; empty: SQLite in the data folder."""
    matching: str = WEIGHTED
    """How providers are chosen: `weighted` (a draw that can be repeated) or `round_robin` (seed 003; mints nothing)."""
    hedging: bool = True
    """Ask a second provider when the first is slower than nearly all were."""
    node_wait_s: float = 10
    """How long to wait for the node to come up."""

    quote_s: int = 60
    deliver_s: int = 120
    """From the quote to the lock's deliver_by."""
    claim_s: int = 120
    """From deliver_by to the lock's claim_until."""
    dispatch_margin_ms: int = 1_000
    """Nothing is dispatched that could not be delivered any more."""
    lock_wait_s: float = 10
    """How long POST /v1/jobs waits for its lock to become final: ten blocks of a devnet."""

    accept_s: float = 5
    """A provider says within this time that it has begun."""
    lease_least_s: float = 20
    """Shortest time without progress after which an attempt is given up; longer jobs get three times their estimate."""
    retry_wait_s: float = 20
    """How long a job whose attempt failed waits for another provider to appear."""
    heartbeat_ms: int = 5_000
    hello_s: float = 5
    """An unauthenticated connection is closed after this time."""

    max_body_bytes: int = 64 * 1024
    """A quote with the longest prompt is below 10 KiB."""
    max_quotes: int = 10_000
    max_jobs: int = 200_000
    """Jobs that hold money: queued, leased, running. They wait on disk; 20,000 of a class and model in memory."""
    max_providers: int = 1_000
    max_handshakes: int = 256
    max_handshakes_per_address: int = 64
    """Connections that have not said hello; a handshake takes milliseconds, and addresses may share a proxy."""
    max_events_per_job: int = 4_096
    """One text and one progress event for each of 256 tokens in three attempts are 1,536."""
    max_followers: int = 1_000
    """Open event streams."""
    quotes_per_second: int = 20
    """Per address."""
    quotes_burst: int = 100
    retention_s: int = 24 * 3600
    """Finished jobs and their results are deleted after this time; receipts that are not settled never are."""

    unused_retention_s: int = 10 * 60
    """Quotes that nobody paid for are forgotten after this time, with their prompts."""

    spot_checks: bool = False
    """Have a drawn share of deliveries done again elsewhere before they are attested; needs money for a session."""
    spot_check_most_ppm: int = 1_000_000
    """The operator's bound on the share: below what the formula asks, a cheat may pay, and the log shows it."""
    calibrate: bool = True
    """Give newcomers the jobs that the chain draws, where genesis has a budget for it and lists this hub."""
    reference_engines: dict[str, str] = msgspec.field(default_factory=lambda: dict(BUILT_IN))
    """`module:Class` by model, of engines that this machine can run itself: calibration is compared with them."""
    refunds: bool = True
    """Send back what is left in locks whose time is over; each costs the hub a fee."""
    batch_s: float = 0.25
    """Receipts that are attested within this time go to the chain together; a busy hub takes a minute."""
    batch_least: int = 3
    """Fewer are claimed one by one: a batch is two transactions, and the hub pays for the first."""
    batch_most: int = 4_096
    """More do not wait for each other."""
    session_amount: int = 100 * AIT
    """The most that one lock of the hub's own sets aside for prepaid jobs or checks; less when the hub has less."""
    session_s: int = 6 * 3600
    """From opening a session to the last delivery that it pays; what it did not pay comes back after its claim time."""
    session_claim_s: int = 3600
    gateway_body_bytes: int = 256 * 1024
    """A conversation is longer than a prompt: the form around the texts, and texts that are then refused by name."""
    max_images: int = 10
    """Pictures in one request, as OpenAI's `n`; each is a job."""
    idempotency_s: int = 24 * 3600
    cors_origins: tuple[str, ...] = ()
    """Web pages from which browsers may ask; `*` for all. Keys in pages are readable by everybody who has the page."""
    policies: tuple[str, ...] = ()
    """`module:function` of content policies that every request must pass; docs/spec/gateway.md."""
    seed003_per_minute: int = 10
    """POST /v1/generate-image, per address, as seed 003 has it; 0 for no limit."""

    claim_retry_least_s: float = 0.5
    claim_retry_most_s: float = 30
    claims_in_flight: int = 32
    max_fee: int = AIT // 10
    """Base units that a claim may cost: a claim's fee is below a thousand, and a node that names more than this lies or
    is on a chain that nobody agreed to. Nothing is signed then."""
