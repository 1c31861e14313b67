"""`aitbc config`, and seed 001's two commands."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from aitbc.cli import root
from aitbc.cli.errors import run
from aitbc.core.ledger.genesis import parse_genesis


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("CHAIN_ID", "BLOCK_TIME", "RPC_PORT", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(root, ["config", "show", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_show_says_what_is_set_and_by_whom(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / ".env").write_text("RPC_PORT=9080\nADMIN_TOKEN=hunter2hunter2\nBIND_PORT=8123\n")
    (here / ".env").chmod(0o600)
    (here / "n.toml").write_text("[node.rpc]\nport = 1\nhost = '127.0.0.2'\n")
    monkeypatch.setenv("LOG_LEVEL", "warning")
    view = shown(capsys, "node", "--config", "n.toml")
    assert (view["rpc_port"]["value"], view["rpc_port"]["origin"]) == (9080, "RPC_PORT in .env")
    assert view["rpc_host"]["origin"] == "rpc_host in n.toml"
    assert view["log_level"]["origin"] == "LOG_LEVEL in the environment"
    assert view["tx_burst"]["origin"] == "default"
    assert view["admin_token"]["value"] == "(hidden)"
    assert run(root, ["config", "show", "--origin"]) == 0
    out = capsys.readouterr().out
    assert "hunter2" not in out
    assert "RPC_PORT in .env" in out
    assert shown(capsys, "hub")["bind_port"]["value"] == 8123


def test_a_mistake_is_one_line_with_its_place(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / ".env").write_text("RPC_PROT=1\n")
    assert run(root, ["node", "start"]) == 1
    assert capsys.readouterr().err == "error: .env: there is no setting RPC_PROT; did you mean RPC_PORT?\n"


@pytest.mark.parametrize(
    "name", ["AITBC_CHAIN", "AITBC_HOME", "AITBC_HUB", "AITBC_RPC", "AITBC_PASSWORD_FILE"]
)
def test_what_dotenv_does_not_say_is_refused_by_name(
    here: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (here / ".env").write_text(f"{name}=x\n")
    assert run(root, ["config", "show"]) == 1
    assert f".env: {name} has no effect here, it is read from the environment only" in capsys.readouterr().err


def test_genesis_make_reads_the_seeds_names_from_the_environment_and_from_dotenv(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aitbc.core.codec.keytext import key_to_text
    from support.people import VALIDATOR

    key = key_to_text(VALIDATOR.auth_key)
    (here / ".env").write_text("CHAIN_ID=ait-mine\nBLOCK_TIME=1s\nMINT_PER_UNIT=7\nRPC_PORT=1\n")
    monkeypatch.setenv("MINT_PER_UNIT", "9")
    monkeypatch.setenv("CONSENSUS_MODE", "cbp")
    make = ["genesis", "make", "--timestamp", "1760000000", "--authority", key]
    assert run(root, make) == 0
    made = parse_genesis((here / "genesis.json").read_bytes())
    assert (made.chain_id, made.consensus.block_time_ms, made.params.mint_per_unit) == ("ait-mine", 1_000, 9)
    assert made.consensus.mode == "cbp"
    for typed, expected in (("500", 500), ("3s", 3_000)):
        assert run(root, [*make, "--force", "--block-time-ms", typed]) == 0
        made = parse_genesis((here / "genesis.json").read_bytes())
        assert made.consensus.block_time_ms == expected
    monkeypatch.setenv("BLOCK_TIME", "2")
    assert run(root, [*make, "--force"]) == 0
    assert parse_genesis((here / "genesis.json").read_bytes()).consensus.block_time_ms == 2_000


def test_seed_001s_devnet_by_its_own_commands(here: Path) -> None:
    """`python -m blockchain.scripts.init_devnet`, then `python -m blockchain.main --config devnet.yaml`."""
    import socket

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [sys.executable, "-m", "blockchain.scripts.init_devnet", "--block-time-ms", "100"],
        check=True, cwd=here, env=environment, timeout=60, capture_output=True,
    )  # fmt: skip
    text = (here / "devnet.yaml").read_text()
    assert "port: 9080" in text
    ports = []
    for _ in range(3):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    for seeds_port, free in zip((9080, 9081, 9090), ports, strict=True):
        text = text.replace(str(seeds_port), str(free))
    (here / "devnet.yaml").write_text(text)
    node = subprocess.Popen(
        [sys.executable, "-m", "blockchain.main", "--config", "devnet.yaml"], cwd=here, env=environment,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        rpc, ws, metrics = ports
        assert answered(f"http://127.0.0.1:{rpc}/health")["status"] == "ok"
        wish = json.dumps({"address": "ait1" + "x" * 38, "amount": 1}).encode()
        assert answered(f"http://127.0.0.1:{rpc}/sync_status")["state"]
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=5) as page:
            assert b"blockchain_blocks_total" in page.read()
        for port, path in ((metrics, "/rpc/getHead"), (metrics, "/admin/mintFaucet"), (ws, "/rpc/getHead")):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data=wish, timeout=5)
            assert caught.value.code == 404
        from websockets.sync.client import connect

        with connect(f"ws://127.0.0.1:{ws}/?streams=new_blocks") as reader:
            assert json.loads(reader.recv(5))["streams"] == ["new_blocks"]
    finally:
        node.send_signal(signal.SIGINT)
        node.communicate(timeout=20)


def answered(url: str) -> Any:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
