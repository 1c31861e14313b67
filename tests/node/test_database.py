"""A node keeps its chain where DATABASE_URL says, and two nodes never share one."""

from pathlib import Path

import msgspec
import pytest
from starlette.testclient import TestClient

from aitbc.cli import root
from aitbc.cli.errors import run
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app, open_node
from aitbc.ports import StorageError
from support.chain import Chain
from support.people import ALICE, BOB, VALIDATOR

from .test_rpc import send


def config(chain: Chain, folder: Path, database: str = "") -> NodeConfig:
    return NodeConfig(
        genesis=chain.document, data=folder, database=database, proposer=VALIDATOR, never_voted=True
    )


def test_a_node_on_postgresql_goes_on_after_a_restart(
    chain: Chain, tmp_path: Path, postgres_url: str
) -> None:
    settings = config(chain, tmp_path / "node", postgres_url)
    with TestClient(create_app(settings)) as node:
        first = send(node, chain, ALICE, "TRANSFER", {"to": BOB.address, "amount": 5})
    with TestClient(create_app(settings)) as node:
        again = node.get(f"/rpc/getTx/{first['txHash']}").json()
        assert (again["status"], again["height"]) == ("final", first["height"])
        assert node.get(f"/rpc/getBlock/{first['height']}").json()["height"] == first["height"]
    assert not (tmp_path / "node" / "chain.db").exists()


def test_two_nodes_do_not_share_a_postgresql_database(
    chain: Chain, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitbc.adapters.storage.postgres.LOCK_WAIT_MS", 100)
    first = open_node(config(chain, tmp_path / "one", postgres_url))
    with pytest.raises(StorageError, match="another node is using"):
        open_node(config(chain, tmp_path / "two", postgres_url))
    first.close()
    open_node(config(chain, tmp_path / "two", postgres_url)).close()


def test_two_nodes_with_folders_of_their_own_do_not_share_a_file(chain: Chain, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared/chain.db"
    first = open_node(config(chain, tmp_path / "one", url))
    for other in (config(chain, tmp_path / "two", url), config(chain, tmp_path / "shared")):
        with pytest.raises(StorageError, match="another node is using"):
            open_node(other)
    first.close()
    open_node(config(chain, tmp_path / "two", url)).close()
    open_node(config(chain, tmp_path / "shared")).close()


def test_a_failed_start_leaves_no_lock(chain: Chain, tmp_path: Path) -> None:
    other = Chain(
        msgspec.structs.replace(msgspec.json.decode(chain.document, type=type(_genesis())), chain_id="x")
    )
    open_node(config(chain, tmp_path)).close()
    with pytest.raises(StorageError, match="belongs to the chain"):
        open_node(config(other, tmp_path))
    open_node(config(chain, tmp_path)).close()


def _genesis() -> msgspec.Struct:
    from support.chain import genesis

    return genesis()


@pytest.mark.parametrize("given", ["option", "environment"])
def test_the_command_line_refuses_a_wrong_url_without_repeating_it(
    chain: Chain,
    tmp_path: Path,
    given: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "genesis.json").write_bytes(chain.document)
    url = "mysql://node:S3cret@db/chain"
    line = [
        "node",
        "start",
        "--genesis",
        f"{tmp_path}/genesis.json",
        "--data",
        f"{tmp_path}/node",
        "--port",
        "18999",
    ]
    if given == "environment":
        monkeypatch.setenv("DATABASE_URL", url)
    else:
        line += ["--database", url]
    assert run(root, line) == 1
    said = capsys.readouterr()
    assert "DATABASE_URL names mysql" in said.err
    assert "S3cret" not in said.err + said.out
