"""What `aitbc discovery` and the node's options for it refuse before anything is started."""

import socket
from pathlib import Path

import pytest

from aitbc.cli import root
from aitbc.cli.errors import run


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(root, list(words)) != 0
    error = capsys.readouterr().err
    return error.splitlines()[-1]


@pytest.fixture
def genesis(tmp_path: Path) -> str:
    (tmp_path / "genesis.json").write_text("{}")
    return str(tmp_path / "genesis.json")


def test_a_service_in_public_does_not_knock_at_private_doors(capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, "discovery", "--host", "8.8.8.8", "--allow-private")
    assert error == (
        "error: 8.8.8.8 is public: with --allow-private anybody could have this service knock at the doors behind it;"
        " listen on a local address, or leave --allow-private out"
    )


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = refused(capsys, "discovery", "--port", str(port), "--data", str(tmp_path / "d"))
    assert f"127.0.0.1:{port} cannot be listened on" in error


def test_a_folder_that_cannot_be_used_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = refused(capsys, "discovery", "--port", str(port), "--data", str(tmp_path / "file" / "inside"))
    assert "choose another folder" in error


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--announce", "203.0.113.7:7070"], "nobody can connect to a node without --p2p-port"),
        (["--announce", "node.example:7070", "--p2p-port", "7070"], "is no numeric address"),
        (["--announce", "0.0.0.0:7070", "--p2p-port", "7070"], "is no numeric address"),
        (["--announce", "203.0.113.7", "--p2p-port", "7070"], "is no numeric address"),
        (["--discovery", "ftp://example"], "is no http:// or https:// URL"),
        (["--discovery", "http://a"] * 9, "at most 8"),
    ],
)
def test_what_a_node_cannot_announce_or_ask(
    options: list[str], told: str, genesis: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["node", "start", "--genesis", genesis, "--data", str(tmp_path / "node"), *options]
    assert told in refused(capsys, *words)
