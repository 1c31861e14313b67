"""What goes wrong in the middle of a job costs nobody their money."""

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import psutil

from support.devnet import AITBC, Network

Start = Callable[..., Network]
LONG_PICTURE = ["image", "a small green square on yellow", "--steps", "50", "--size", "512"]


def balance(network: Network, who: str) -> int:
    address = next(row["address"] for row in network.json("keys", "list") if row["name"] == who)
    with urllib.request.urlopen(f"{network.rpc}/rpc/getBalance/{address}", timeout=10) as answer:
        return int(json.loads(answer.read())["balance"])


def supply(network: Network) -> Any:
    with urllib.request.urlopen(f"{network.rpc}/rpc/supply", timeout=10) as answer:
        return json.loads(answer.read())


def begin_job(network: Network, out: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "AITBC_RPC": network.rpc, "AITBC_HUB": network.hub}
    return subprocess.Popen(
        [str(AITBC), *LONG_PICTURE, "-o", out, "--from", "alice", "--timeout", "30"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lock_in(text: str) -> str:
    """The escrow's id from what the client said."""
    words = [word.strip(".,;:)(") for word in text.split()]
    return next(word for word in words if len(word) == 64 and set(word) <= set("0123456789abcdef"))


def test_a_provider_that_dies_in_the_middle_costs_the_client_nothing_but_fees(
    devnet: Start, tmp_path: Any
) -> None:
    network = devnet("--block-time-ms", "0", "--deliver-s", "6", "--claim-s", "2")
    before = balance(network, "alice")
    (provider,) = network.pids()["provider"]
    for engine in psutil.Process(provider).children(recursive=True):
        engine.suspend()  # so that the job is in its middle for as long as it takes to look
    job = begin_job(network, str(tmp_path / "never.png"))
    while balance(network, "alice") == before:
        time.sleep(0.01)
    engines = psutil.Process(provider).children(recursive=True)
    os.kill(provider, signal.SIGKILL)
    for engine in engines:
        engine.kill()
    out, err = job.communicate(timeout=60)
    assert job.returncode != 0
    assert "Traceback" not in err
    assert any(word in err.lower() for word in ("provider", "deadline", "fail", "broke")), err
    lock = lock_in(out + err)
    time.sleep(max(0, 9))
    refund = network.cli("refund", lock, "--from", "bob", "--wait", "final")
    assert refund.returncode == 0
    assert 0 <= before - balance(network, "alice") < 100_000, "only the fee of the escrow is gone"
    assert supply(network)["minted"] == 0


def test_a_hub_that_dies_after_attesting_does_not_keep_the_provider_from_its_pay(
    devnet: Start, tmp_path: Any
) -> None:
    network = devnet("--block-time-ms", "0", "--deliver-s", "30", "--claim-s", "12")
    before = balance(network, "provider")
    job = begin_job(network, str(tmp_path / "out.png"))
    while not unclaimed(network):
        assert job.poll() is None, job.communicate()
        time.sleep(0.01)
    for pid in network.pids()["hub"]:
        os.kill(pid, signal.SIGKILL)
    job.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while balance(network, "provider") == before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert balance(network, "provider") > before


def unclaimed(network: Network) -> int:
    """Attested receipts that the provider holds and has not seen on the chain."""
    with urllib.request.urlopen(network.ready["provider"] + "/v1/health", timeout=10) as answer:
        return int(json.loads(answer.read())["unclaimed"])
