"""A devnet starts clean, says what is wrong in one line, survives `kill -9` and leaves nothing behind."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.devnet import AITBC, Network, free_port_base

Start = Callable[..., Network]
CHAINS = json.loads((Path(__file__).parents[1] / "vectors" / "genesis.json").read_text())["chains"]
GENESIS_HASH = next(chain["genesis_hash"] for chain in CHAINS if chain["name"] == "devnet")


def head(network: Network) -> Any:
    with urllib.request.urlopen(network.rpc + "/rpc/getHead", timeout=10) as answer:
        return json.loads(answer.read())


def family(network: Network) -> list[psutil.Process]:
    return psutil.Process(network.process.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process], within_s: float = 12) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    return not alive


def test_a_devnet_is_the_same_everywhere_and_ctrl_c_ends_all_of_it(devnet: Start) -> None:
    network = devnet()
    assert head(network)["genesisHash"] == GENESIS_HASH
    processes = family(network)
    assert len(processes) >= 4, "node, hub, provider and its engine"
    network.process.send_signal(signal.SIGINT)
    assert network.process.wait(15) == 0
    assert all_gone(processes)


def test_kill_9_leaves_no_orphan(devnet: Start) -> None:
    network = devnet()
    processes = family(network)
    network.process.kill()
    network.process.wait(5)
    assert all_gone(processes, within_s=20)


def test_a_restart_goes_on_and_reset_begins_again(devnet: Start, tmp_path: Path) -> None:
    base, data = free_port_base(), tmp_path / "net"
    first = devnet("--block-time-ms", "0", data=data, base=base)
    sent = first.json("send", "bob", "1ait", "--from", "alice", "--wait", "final")
    before = head(first)
    first.process.send_signal(signal.SIGINT)
    first.process.wait(15)
    second = devnet("--block-time-ms", "0", data=data, base=base)
    assert head(second)["height"] >= before["height"]
    tx_id = sent.get("tx_id") or sent.get("txHash")
    assert second.json("tx", str(tx_id))["status"] == "final"
    second.process.send_signal(signal.SIGINT)
    second.process.wait(15)
    third = devnet("--block-time-ms", "0", "--reset", data=data, base=base)
    assert third.cli("tx", str(tx_id), check=False).returncode == 3


def test_what_was_reported_final_survives_kill_9_of_the_node(devnet: Start, tmp_path: Path) -> None:
    """Rounds of sending, killing at a random moment and starting again; no final transfer is ever missing."""
    base, data = free_port_base(), tmp_path / "net"
    final: list[str] = []
    for round_number in range(3):
        network = devnet("--block-time-ms", "0", data=data, base=base)
        for tx_id in final:
            assert network.json("tx", tx_id)["status"] == "final"
        deadline = time.monotonic() + 1.5 + round_number * 0.4
        while time.monotonic() < deadline:
            sent = network.json("send", "bob", "1ait", "--from", "alice", "--wait", "final")
            final.append(str(sent.get("tx_id") or sent.get("txHash")))
        processes = family(network)
        for pid in network.pids()["node"]:
            os.kill(pid, signal.SIGKILL)
        assert network.process.wait(30) == 1, "a devnet without a node says so and ends"
        assert all_gone(processes)
    assert len(final) >= 3


def run(*options: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([str(AITBC), "devnet", *options], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in result.stderr, result.stderr
    return result


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    base = free_port_base()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base + 200))
        taken.listen()
        result = run("--port-base", str(base), "--data", str(tmp_path / "x"))
    assert result.returncode == 1
    assert str(base + 200) in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--data", "/dev/null/x"], "/dev/null/x"),
        (["--reset"], "--data"),
        (["--validators", "0"], "validators"),
        (["--block-time-ms", "-1"], "block-time-ms"),
    ],
)
def test_wrong_options_are_one_line(options: list[str], word: str) -> None:
    result = run("--port-base", str(free_port_base()), *options)
    assert result.returncode != 0
    assert word in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_folder_of_something_else_is_never_written_to(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "thesis.tex").write_text("years of work")
    (thesis / "genesis.json").write_text("{}")
    for options in ([], ["--reset"]):
        result = run("--port-base", str(free_port_base()), "--data", str(thesis), *options)
        assert result.returncode == 1
        assert "is not empty and holds no devnet" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert sorted(path.name for path in thesis.iterdir()) == ["genesis.json", "thesis.tex"]
    assert (thesis / "genesis.json").read_text() == "{}"


def test_reset_removes_what_a_devnet_made_and_nothing_else(devnet: Start, tmp_path: Path) -> None:
    base, data, elsewhere = free_port_base(), tmp_path / "net", tmp_path / "elsewhere"
    first = devnet(data=data, base=base)
    sent = first.json("send", "bob", "1ait", "--from", "alice", "--wait", "final")
    first.process.send_signal(signal.SIGINT)
    first.process.wait(15)
    (data / "keep").mkdir()
    (data / "keep" / "mine.txt").write_text("mine")
    elsewhere.mkdir()
    (elsewhere / "old.log").write_text("also mine")
    shutil.rmtree(data / "logs")
    (data / "logs").symlink_to(elsewhere)
    second = devnet("--reset", data=data, base=base)
    assert second.cli("tx", sent["txHash"], check=False).returncode == 3
    second.process.send_signal(signal.SIGINT)
    second.process.wait(15)
    assert second.process.stderr is not None
    assert f"left in {data}, because no devnet made it: keep\n" in second.process.stderr.read()
    assert (data / "keep" / "mine.txt").read_text() == "mine"
    assert (elsewhere / "old.log").read_text() == "also mine"


def test_a_running_devnet_keeps_its_folder(devnet: Start, tmp_path: Path) -> None:
    network = devnet(data=tmp_path / "net")
    before = sorted(path for path in (tmp_path / "net").rglob("*") if not path.name.startswith("chain.db-"))
    for options in ([], ["--reset"]):
        result = run("--port-base", str(free_port_base()), "--data", str(network.data), *options)
        assert result.returncode == 1
        assert f"a program is still running in {network.data}; nothing was changed" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    after = sorted(path for path in (tmp_path / "net").rglob("*") if not path.name.startswith("chain.db-"))
    assert after == before
    network.cli("send", "bob", "1ait", "--from", "alice", "--wait", "final")


def test_a_program_that_was_started_by_hand_keeps_its_folder(devnet: Start, tmp_path: Path) -> None:
    base, data = free_port_base(), tmp_path / "net"
    first = devnet(data=data, base=base)
    first.process.send_signal(signal.SIGINT)
    first.process.wait(15)
    for lock in ("node/node.lock", "provider/provider.lock"):
        with (data / lock).open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            result = run("--port-base", str(base), "--data", str(data), "--reset")
        assert result.returncode == 1
        assert "a program is still running in" in result.stderr
        assert (data / "node" / "chain.db").exists()


def test_a_devnets_files_are_its_owners(devnet: Start, tmp_path: Path) -> None:
    devnet(data=tmp_path / "deep" / "net")
    made = [tmp_path / "deep", tmp_path / "deep" / "net", *(tmp_path / "deep" / "net").iterdir()]
    made += list((tmp_path / "deep" / "net" / "logs").iterdir())
    assert {path.name: oct(path.stat().st_mode & 0o077) for path in made if path.stat().st_mode & 0o077} == {}


def test_a_killed_node_is_said_to_be_killed(devnet: Start, tmp_path: Path) -> None:
    network = devnet(data=tmp_path / "net")
    for pid in network.pids()["node"]:
        os.kill(pid, signal.SIGKILL)
    assert network.process.wait(30) == 1
    assert network.process.stderr is not None
    said = network.process.stderr.read().strip().splitlines()[-1]
    assert said == "error: the node was killed by signal 9 (SIGKILL); with --data its whole log is in logs/"


def test_another_rhythm_on_an_old_folder_is_refused_with_what_to_do(devnet: Start, tmp_path: Path) -> None:
    base, data = free_port_base(), tmp_path / "net"
    first = devnet(data=data, base=base)
    first.process.send_signal(signal.SIGINT)
    first.process.wait(15)
    result = run("--no-demo", "--data", str(data), "--port-base", str(base), "--block-time-ms", "5")
    assert result.returncode == 1
    assert "genesis" in result.stderr


def test_nothing_is_written_outside_the_data_folder(devnet: Start, tmp_path: Path) -> None:
    network = devnet(data=tmp_path / "data")
    written = set()
    for process in [psutil.Process(network.process.pid), *family(network)]:
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            try:
                target = os.readlink(link)
                flags = int(Path(f"/proc/{process.pid}/fdinfo/{link.name}").read_text().split()[3], 8)
            except OSError:
                continue
            if flags & (os.O_WRONLY | os.O_RDWR) and target.startswith("/") and not target.startswith("/dev"):
                written.add(target.split(" ")[0])
    assert all(path.startswith((str(tmp_path), "/memfd")) for path in written), written
