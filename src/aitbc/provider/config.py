"""Everything the owner of a machine can set about a provider, with the reason beside each default."""

from pathlib import Path
from typing import Any

import msgspec

from aitbc.core.types.amounts import AIT
from aitbc.ports import Signer


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    signer: Signer
    """Signs receipts, the link's handshake, registration and claims."""
    data_dir: Path
    hub_url: str = "http://127.0.0.1:8000"
    hub_address: str = ""
    """When given, a hub with another address is not worked for."""
    rpc_url: str = "http://127.0.0.1:8080"
    bind_host: str = "127.0.0.1"
    bind_port: int = 8090
    """Of the status page only; the provider needs no port that others can reach."""
    genesis: dict[str, Any] | None = None
    """The genesis document, when the caller has it; else the node is asked."""
    node_wait_s: float = 10

    engines: tuple[str, ...] = ()
    """`module:Class` of each engine; empty for all that are installed (entry point group `aitbc.engines`)."""
    engines_file: Path | None = None
    """Settings of engines that need some; docs/howto/engines.md."""
    models: tuple[str, ...] = ()
    """Serve only these; empty for all that the engines have."""
    warm_up: bool = True
    """Run a small request of each model before it is offered; what cannot do that is not served."""
    keep_warm_s: float = 0
    """Run it again when nothing was asked for so long: servers that unload what is idle keep it then. 0: never."""
    hours: str = ""
    """Work only then, by the machine's clock: `22:00-06:00`, several with commas; empty: always."""
    drain_s: float = 30
    """How long a stop waits for tasks that are under way."""
    slots: int = 1
    """Tasks at once. More than one is worth it for engines that work in steps; `aitbc provider init` measures."""
    price_per_kilounit: int = AIT
    """1 AIT for 1,000 units: one second of the reference card."""
    payout: str = ""
    """Where price and mint go; empty for the signer's own address."""
    validator: str = ""
    device: str = "cpu"
    region: str = ""
    """Where the machine is, such as `eu`: clients may ask for it."""
    policies: tuple[str, ...] = ()
    """What is promised to clients, such as `no-log`."""
    vram_mb: int = 0
    """Memory of the card as the hub is told; 0: what NVIDIA's meters say of the largest, if there are any."""
    check_locks: bool = True
    """Look at the client's lock on the chain before working."""

    engine_start_s: float = 30
    """Python, numpy and the weights' digests, on a slow disk."""
    engine_load_s: float = 60
    engine_stall_s: float = 30
    """An engine that shows no sign of life for so long hangs."""
    cancel_grace_s: float = 0.7
    """An engine that has not stopped by then is killed; cancel must reach it within a second."""
    engine_memory_bytes: int = 0
    """A child that holds more is killed, and what it did is `out_of_memory`; 0: only when the machine has none left."""
    engine_vram_bytes: int = 0
    """Likewise of a card's memory, where the meters tell: what the owner leaves to the engine; 0: all of it."""
    spare_memory_bytes: int = 256 * 1024 * 1024
    """With less left on the machine a child that holds more than this is killed before the kernel kills somebody."""
    claim_after_s: float = 20
    """An attested receipt that is not on the chain by then is claimed by the provider itself."""
    claim_poll_s: float = 2
    max_fee: int = AIT // 10
    """Base units that a claim or a registration may cost: both are below a thousand, and a node that names more than
    this lies or is on a chain that nobody agreed to. Nothing is signed then."""
    max_unclaimed: int = 10_000
    """With so many receipts waiting no new work is taken."""
    reconnect_most_s: float = 10
