"""Every role in a process of its own, as operators start them."""

from pathlib import Path

import pytest

from aitbc.adapters.keystore import devnet_keys
from aitbc.client.signing import KeySigner
from aitbc.core.codec.canonical import jcs
from aitbc.core.ledger.devnet import devnet_genesis
from support.devnet import free_port_base
from support.processes import ask, end, start_node, wait_for

KEYS = devnet_keys()
AGAIN_S = 90
"""Who was refused is dialled again after a minute, and who was not there after 20 s and 40 s more: a first dial that is
lost costs no more than that."""


@pytest.mark.timeout(240)
def test_who_knows_a_discovery_only_node_alone_finds_the_others_and_syncs(tmp_path: Path) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_bytes(jcs(devnet_genesis({name: KeySigner(seed).auth_key for name, seed in KEYS.items()})))
    key = tmp_path / "author.key"
    key.touch(mode=0o600)
    key.write_text(KEYS["validator"].hex())
    base = free_port_base()
    kiosk, validator, archive, newcomer = range(base, base + 4)

    def start(name: str, port: int, *options: str) -> None:
        words = ["--p2p-port", str(port + 100), *options]
        if port != kiosk:
            words += ["--bootstrap", f"127.0.0.1:{kiosk + 100}"]
        running.append(start_node(tmp_path / name, genesis, port, *words))

    running = []  # type: ignore[var-annotated]
    try:
        start("kiosk", kiosk, "--role", "discovery")
        start("validator", validator, "--role", "validator", "--proposer-key", str(key), "--never-voted")
        start("archive", archive, "--role", "archive")
        wait_for(lambda: ask(kiosk, "/health")["answering"] == 2, AGAIN_S)
        start("newcomer", newcomer)
        wait_for(lambda: len(ask(newcomer, "/p2p/peers")) == 2)
        wait_for(lambda: ask(newcomer, "/health")["height"] >= 1)
        assert ask(newcomer, "/health")["role"] == "relay"
        assert sorted(peer["role"] for peer in ask(newcomer, "/p2p/peers")) == ["", "archive"]
        assert ask(kiosk, "/health")["status"] == "ok"
    finally:
        for process in running:
            end(process)
    logs = "".join(path.read_text() for path in tmp_path.glob("*/log"))
    assert "Traceback" not in logs and "a mistake of this program" not in logs, logs
