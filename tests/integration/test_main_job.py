"""The main job as a stranger does it: pay for a picture and a text, see the mint, check the receipt offline."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from support.devnet import Network


def get(network: Network, path: str) -> Any:
    with urllib.request.urlopen(network.rpc + path, timeout=30) as answer:
        return json.loads(answer.read())


def post(network: Network, path: str, body: Any) -> Any:
    raw = json.dumps(body).encode()
    request = urllib.request.Request(network.rpc + path, raw, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return json.loads(error.read())


def test_the_ready_line_is_what_scripts_rely_on(network: Network) -> None:
    assert set(network.ready) == {"ready", "rpc", "hub", "provider", "console", "faucet_key"}
    assert network.ready["ready"] is True
    assert isinstance(network.ready["rpc"], list)
    assert Path(network.ready["faucet_key"]).stat().st_mode & 0o077 == 0
    with urllib.request.urlopen(network.ready["console"], timeout=10) as page:
        assert b"AITBC" in page.read()
    with urllib.request.urlopen(network.ready["provider"] + "/v1/health", timeout=10) as health:
        assert json.loads(health.read())["status"] == "ok"


def test_money_moves_and_always_has_its_unit(network: Network) -> None:
    before = network.json("balance", "bob")
    network.cli("send", "bob", "25ait", "--from", "alice", "--wait", "final")
    after = network.json("balance", "bob")
    moved = json.dumps(after), json.dumps(before)
    assert moved[0] != moved[1]
    shown = network.cli("balance", "bob").stdout
    assert "AIT" in shown
    bare = network.cli("send", "bob", "25", "--from", "alice", check=False)
    assert bare.returncode == 2
    assert "unit" in bare.stderr


def test_keys_and_head(network: Network) -> None:
    assert "alice" in network.cli("keys", "list").stdout
    assert get(network, "/rpc/getHead")["chainId"] == "ait-devnet"


def test_a_picture_is_paid_for_made_minted_for_and_verified(network: Network, tmp_path: Path) -> None:
    supply = get(network, "/rpc/supply")
    out = tmp_path / "out.png"
    network.cli("image", "a red circle on blue", "-o", str(out), "--from", "alice", "--seed", "3")
    assert out.read_bytes().startswith(b"\x89PNG")
    receipt = tmp_path / "out.png.receipt.json"
    bundle = json.loads(receipt.read_text())
    minted = [e["amount"] for e in bundle["claim"]["outcome"]["events"] if e["kind"] == "minted"]
    after = get(network, "/rpc/supply")
    assert sum(minted) == after["minted"] - supply["minted"] > 0
    verified = network.cli("verify", str(receipt))
    assert "✗" not in verified.stdout
    again = tmp_path / "again.png"
    network.cli("image", "a red circle on blue", "-o", str(again), "--from", "alice", "--seed", "3")
    assert again.read_bytes() == out.read_bytes(), "same seed, same picture"


def test_verify_needs_no_network_and_notices_every_lie(network: Network, tmp_path: Path) -> None:
    out = tmp_path / "story.txt"
    network.cli("chat", "Once upon", "--from", "alice", "--max-tokens", "24", "-o", str(out))
    receipt = tmp_path / "story.txt.receipt.json"
    offline = {"AITBC_RPC": "http://127.0.0.1:9", "AITBC_HUB": "http://127.0.0.1:9"}
    assert _verify(receipt, offline).returncode == 0
    bundle = json.loads(receipt.read_text())
    lies: list[tuple[str, ...]] = [
        ("core", "compute_units"), ("core", "price"), ("details", "model"), ("attestation", "units"),
        ("claim", "header", "height"), ("claim", "tx", "fee"), ("claim", "outcome", "fee"),
    ]  # fmt: skip
    for path in lies:
        lie = json.loads(json.dumps(bundle))
        place = lie
        for step in path[:-1]:
            place = place[step]
        value = place[path[-1]]
        place[path[-1]] = value + 1 if isinstance(value, int) else value + "x"
        receipt.write_text(json.dumps(lie))
        assert _verify(receipt, offline).returncode != 0, path
    receipt.write_text(json.dumps(bundle))
    out.write_text("something else")
    assert _verify(receipt, offline).returncode != 0


def _verify(receipt: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    from support.devnet import AITBC

    result = subprocess.run(
        [str(AITBC), "verify", str(receipt)], env={**environment, "PATH": ""}, capture_output=True, text=True
    )
    assert "Traceback" not in result.stderr, result.stderr
    return result


def test_a_text_streams_and_is_paid_for(network: Network) -> None:
    result = network.cli("chat", "Once upon", "--from", "alice", "--max-tokens", "32")
    assert len(result.stdout.split()) >= 5


def test_the_seeds_curl_snippets(network: Network) -> None:
    """Seed 000 §22 with addresses that exist."""
    bob = next(row["address"] for row in network.json("keys", "list") if row["name"] == "bob")
    before = get(network, f"/rpc/getBalance/{bob}")["balance"]
    tx = post(network, "/admin/mintFaucet", {"address": bob, "amount": 1_000_000})["txHash"]
    assert get(network, f"/rpc/getTx/{tx}?wait=final")["status"] == "final"
    assert get(network, f"/rpc/getBalance/{bob}")["balance"] == before + 1_000_000
    assert post(network, "/rpc/sendTx", {"type": "TRANSFER"})["code"] == "missing_field"
    assert post(network, "/rpc/submitReceipt", {"type": "RECEIPT_CLAIM"})["code"]


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_the_rpc_is_documented(network: Network, path: str) -> None:
    with urllib.request.urlopen(network.rpc + path, timeout=10) as page:
        assert page.status == 200


def test_the_python_of_the_howto_runs(network: Network, tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "howto" / "use-a-hub.md").read_text()
    program = page.partition("```python\n")[2].partition("```")[0]
    program = program.replace("http://127.0.0.1:8080", network.rpc).replace(
        "http://127.0.0.1:8000", network.hub
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    *text, height = done.stdout.split()
    assert len(text) >= 5 and int(height) > 0


def test_the_two_files_of_the_readme_are_transactions(network: Network, tmp_path: Path) -> None:
    dry = network.json("send", "bob", "1ait", "--from", "alice", "--dry-run")
    assert post(network, "/rpc/sendTx", dry["tx"]) == {"txHash": dry["txHash"]}
    assert get(network, f"/rpc/getTx/{dry['txHash']}?wait=final")["status"] == "final"
    out = tmp_path / "out.png"
    network.cli("image", "a red circle on blue", "-o", str(out), "--from", "alice")
    claim = json.loads((tmp_path / "out.png.receipt.json").read_text())["claim"]
    again = post(network, "/rpc/submitReceipt", claim["tx"])
    assert again == {"txHash": claim["outcome"]["txHash"], "known": True}, "the hub has claimed it"
