"""`aitbc hub` and `aitbc provider`: what is wrong is one line with what to do, never a traceback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hub.market import LedgerNode, free_port, served

AITBC = [sys.executable, "-c", "from aitbc.cli import main; main()"]


def aitbc(*arguments: str, home: Path) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "AITBC_HOME": str(home)}
    return subprocess.run([*AITBC, *arguments], capture_output=True, text=True, env=env, timeout=30)


def one_line(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: "), done.stderr
    for word in words:
        assert word in last, last


@pytest.mark.parametrize("program", ["hub", "provider"])
def test_what_is_wrong_is_one_line(tmp_path: Path, program: str) -> None:
    node = LedgerNode()
    with served(node) as rpc, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        used, free = str(taken.getsockname()[1]), str(free_port())
        start = (program, "start", "--key", program, "--port")
        nowhere = f"http://127.0.0.1:{free_port()}"
        one_line(aitbc(*start, free, "--rpc", nowhere, home=tmp_path), "cannot be reached", "start one")
        one_line(aitbc(*start, used, "--rpc", rpc, home=tmp_path), used, "another port")
        file = tmp_path / "file"
        file.write_text("")
        one_line(aitbc(*start, free, "--rpc", rpc, "--data", str(file / "x"), home=tmp_path), str(file))
        nobody = (program, "start", "--key", "nobody", "--port", free, "--rpc", rpc)
        one_line(aitbc(*nobody, home=tmp_path), "no key named")


def test_a_provider_without_an_engine_says_so(tmp_path: Path) -> None:
    with served(LedgerNode()) as rpc:
        start = ("provider", "start", "--key", "provider", "--port", str(free_port()), "--rpc", rpc)
        done = aitbc(*start, "--engine", "hub.odd_engines:Broken", home=tmp_path)
        one_line(done, "no engine")
        assert "torch" in done.stderr, "the log line before names what is missing"


def test_a_hub_and_a_provider_from_the_command_line(tmp_path: Path) -> None:
    node = LedgerNode()
    with served(node) as rpc:
        hub_port, page_port = free_port(), free_port()
        hub_url = f"http://127.0.0.1:{hub_port}"
        common = ["--rpc", rpc, "--hub", hub_url]
        env = {**os.environ, "AITBC_HOME": str(tmp_path)}
        hub = subprocess.Popen(
            [*AITBC, "hub", "start", "--key", "hub", "--port", str(hub_port), *common],
            env=env,
            stderr=subprocess.DEVNULL,
        )
        provider = subprocess.Popen(
            [
                *AITBC,
                *("provider", "start", "--key", "provider", "--port", str(page_port)),
                *("--engine", "hub.odd_engines:StoryTeller", "--price", "2ait", *common),
            ],
            env=env,
            stderr=subprocess.DEVNULL,
        )
        try:
            view = wait_for(lambda: status(common, tmp_path), lambda view: view.get("providers") == 1)
            assert view["address"] == node.signers["hub"].address
            assert view["models"][0]["price_per_kilounit"] == 2_000_000
            page = aitbc("provider", "status", "--url", f"http://127.0.0.1:{page_port}", home=tmp_path)
            assert "tiny-lm" in page.stdout
            assert aitbc("hub", "status", *common, home=tmp_path).returncode == 0
            earned = aitbc("provider", "earnings", "--json", home=tmp_path)
            assert json.loads(earned.stdout)["receipts"] == 0
        finally:
            codes = []
            for process in (provider, hub):
                process.send_signal(signal.SIGINT)
                codes.append(process.wait(10))
        assert codes == [0, 0]


def test_earnings_of_no_provider(tmp_path: Path) -> None:
    one_line(aitbc("provider", "earnings", home=tmp_path), "no provider's folder", "--data")


def status(common: list[str], home: Path) -> dict[str, Any]:
    done = aitbc("hub", "status", "--json", *common, home=home)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def wait_for(ask: Any, good: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while True:
        view: dict[str, Any] = ask()
        if good(view):
            return view
        assert time.monotonic() < deadline, view
        time.sleep(0.1)


def test_keys_from_the_command_line(tmp_path: Path) -> None:
    """Make one, use it, give it credit, see what it spent, end it; all against a hub in a process of its own."""
    with served(LedgerNode()) as rpc:
        port, folder = free_port(), tmp_path / "hub"
        url = f"http://127.0.0.1:{port}"
        start = ("hub", "start", "--key", "hub", "--port", str(port), "--rpc", rpc, "--data", str(folder))
        env = {**os.environ, "AITBC_HOME": str(tmp_path / "home"), "AITBC_HUB": url}
        hub = subprocess.Popen([*AITBC, *start], env=env, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 30
            while aitbc("hub", "status", "--hub", url, home=tmp_path).returncode:
                assert time.monotonic() < deadline and hub.poll() is None
            keys = ("--hub", url, "--data", str(folder), "--json")

            def told(*arguments: str) -> Any:
                done = aitbc("hub", "key", *arguments, *keys, home=tmp_path)
                assert done.returncode == 0, done.stderr
                return json.loads(done.stdout)

            made = told(
                "new", "--label", "app", "--credit", "5ait", "--budget", "3ait", "--rpm", "7", "--days", "1"
            )
            assert made["api_key"].startswith("aitk_") and made["key"]["budget"] == 3_000_000
            account = made["key"]["account"]
            assert told("credit", account, "1ait", "--name", "gift")["free"] == 6_000_000
            assert told("credit", account, "1ait", "--name", "gift")["free"] == 6_000_000, "once"
            (listed,) = told("list", "--account", account)["keys"]
            assert (listed["label"], listed["rpm"], listed["revoked_ms"]) == ("app", 7, 0)
            assert told("usage", "--account", account) == {"rows": []}
            told("revoke", listed["id"])
            assert told("list")["keys"][0]["revoked_ms"] > 0
            one_line(aitbc("hub", "key", "list", "--hub", url, home=tmp_path / "x"), "admin.token", "--data")
            wrong = tmp_path / "wrong"
            wrong.mkdir()
            (wrong / "admin.token").write_text("guess")
            refused = aitbc("hub", "key", "list", "--hub", url, "--data", str(wrong), home=tmp_path)
            assert refused.returncode == 4
        finally:
            hub.send_signal(signal.SIGTERM)
            assert hub.wait(20) == 0


def test_a_hub_does_not_start_without_its_policy(tmp_path: Path) -> None:
    with served(LedgerNode()) as rpc:
        start = ("hub", "start", "--key", "hub", "--port", str(free_port()), "--rpc", rpc)
        one_line(aitbc(*start, "--policy", "nowhere:check", home=tmp_path), "policy", "nowhere")
