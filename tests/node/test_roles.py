"""What a node is for: named or implied, never against its other settings, and told where it describes itself."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from aitbc.adapters.config.loader import ConfigError, load
from aitbc.adapters.network.book_file import load_book
from aitbc.cli.node import ROLES as CLI_ROLES
from aitbc.core.codec.canonical import jcs
from aitbc.core.ledger.genesis import genesis_document
from aitbc.core.peer.book import AddressBook
from aitbc.core.peer.kinds import PeerAddress
from aitbc.core.peer.peering import Peering
from aitbc.core.types.reasons import Rejected
from aitbc.node.book import BOOK_FILE, BookKeeper
from aitbc.node.config import NodeConfig
from aitbc.node.configured import node_config
from aitbc.node.lister_app import OpenLister, create_lister_app
from aitbc.node.main import create_app, open_program
from aitbc.node.roles import ROLES
from aitbc.node.runtime import SystemClock
from aitbc.node.settings import NODE
from aitbc.ports import StorageError
from support.chain import Chain
from support.people import ALICE, VALIDATOR
from support.work import work_genesis

KEY = {"PROPOSER_KEY": "0x" + VALIDATOR._seed.hex()}
SIGNER = {"SIGNER": "/run/signer.sock"}
MINER = {"MINE_TO": ALICE.address}


@pytest.fixture
def by_votes(tmp_path: Path, chain: Chain) -> dict[str, str]:
    (tmp_path / "genesis.json").write_bytes(chain.document)
    return {"GENESIS": str(tmp_path / "genesis.json"), "DATA_DIR": str(tmp_path / "data")}


@pytest.fixture
def by_work(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "work.json").write_bytes(genesis_document(work_genesis()))
    return {"GENESIS": str(tmp_path / "work.json"), "DATA_DIR": str(tmp_path / "data")}


def told(*environments: dict[str, str]) -> NodeConfig:
    whole = {name: value for said in environments for name, value in said.items()}
    return node_config(load(NODE, flags={}, environment=whole))


BY_VOTES: list[tuple[dict[str, str], str]] = [
    ({}, "relay"),
    (KEY, "validator"),
    (SIGNER, "validator"),
    ({"ROLE": "relay"}, "relay"),
    ({"ROLE": "Archive"}, "archive"),
    ({**KEY, "ROLE": "validator"}, "validator"),
    ({"ROLE": "discovery", "P2P_PORT": "7070"}, "discovery"),
]


@pytest.mark.parametrize(("said", "role"), BY_VOTES)
def test_the_role_is_what_was_named_or_what_the_key_says(
    by_votes: dict[str, str], said: dict[str, str], role: str
) -> None:
    assert told(by_votes, said).role == role


BY_WORK: list[tuple[dict[str, str], str]] = [
    ({}, "relay"),
    (KEY, "validator"),
    (MINER, "validator"),
    ({**MINER, "MINERS": "0"}, "relay"),
    ({**MINER, "ROLE": "validator"}, "validator"),
    ({"ROLE": "archive"}, "archive"),
]


@pytest.mark.parametrize(("said", "role"), BY_WORK)
def test_where_work_agrees_a_validator_is_who_mines(
    by_work: dict[str, str], said: dict[str, str], role: str
) -> None:
    assert told(by_work, said).role == role


WRONG: list[tuple[dict[str, str], str]] = [
    ({"ROLE": "sentry"}, "role (ROLE in the environment) cannot be 'sentry': one of validator, relay"),
    ({"ROLE": "validator"}, "set --proposer-key (PROPOSER_KEY), or --signer (SIGNER), or choose relay"),
    ({**KEY, "ROLE": "relay"}, "is relay, which never signs, but proposer_key is set (PROPOSER_KEY in the"),
    ({**KEY, "ROLE": "archive"}, "is archive, which never signs, but proposer_key is set"),
    (
        {**SIGNER, "ROLE": "relay"},
        "but signer is set (SIGNER in the environment): leave it out, or choose val",
    ),
    ({**MINER, "ROLE": "relay"}, "but mine_to is set"),
    ({"NEVER_VOTED": "true", "ROLE": "relay"}, "but never_voted is set"),
    ({**KEY, "ROLE": "discovery", "P2P_PORT": "7070"}, "is discovery, which never signs, but proposer_key"),
    ({"ROLE": "discovery"}, "nobody could ask this node: set --p2p-port"),
    ({"ROLE": "discovery", "P2P_PORT": "7070", "DATABASE_URL": "sqlite:///x"}, "has no chain, but database"),
    ({"ROLE": "discovery", "P2P_PORT": "7070", "ANNOUNCE": "203.0.113.7:7070"}, "in BOOTSTRAP_PEERS"),
]


@pytest.mark.parametrize(("said", "why"), WRONG)
def test_a_role_against_the_other_settings_says_what_to_do(
    by_votes: dict[str, str], said: dict[str, str], why: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        told(by_votes, said)


def test_a_validator_by_work_needs_somebody_to_mine_for(by_work: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=re.escape("--mine-to (MINE_TO), and mining processes")):
        told(by_work, {"ROLE": "validator"})
    with pytest.raises(ConfigError, match="mining processes"):
        told(by_work, {**MINER, "MINERS": "0", "ROLE": "validator"})


def test_the_command_line_has_the_same_roles() -> None:
    assert CLI_ROLES == ROLES


@pytest.mark.parametrize("role", ["relay", "archive"])
def test_a_node_says_its_role_where_it_describes_itself(chain: Chain, tmp_path: Path, role: str) -> None:
    config = NodeConfig(genesis=chain.document, data=tmp_path, named_role=role, p2p_port=None)
    with TestClient(create_app(config)) as node:
        assert node.get("/health").json()["role"] == role
        assert node.get("/rpc/consensus").json()["role"] == role
        assert f'role="{role}"' in node.get("/rpc/metrics").text


def test_hello_tells_an_archive_and_never_a_validator(chain: Chain, tmp_path: Path) -> None:
    """Who could tell validators from relays by their hello could flood the next leader."""

    def hello(folder: str, **changes: Any) -> tuple[str, ...]:
        config = NodeConfig(genesis=chain.document, data=tmp_path / folder, p2p_port=0, **changes)
        app = create_app(config)
        with TestClient(app):
            features: tuple[str, ...] = app.state.service.runtime.network._network._peering.settings.features
        return features

    assert hello("a", named_role="archive") == ("votes", "archive")
    assert hello("b", named_role="relay") == ("votes",)
    assert hello("c", proposer=VALIDATOR, never_voted=True) == ("votes",)


# Discovery only


@pytest.fixture
def kiosk(chain: Chain, tmp_path: Path) -> NodeConfig:
    return NodeConfig(genesis=chain.document, data=tmp_path / "kiosk", named_role="discovery", p2p_port=0)


def opened(config: NodeConfig) -> OpenLister:
    program = open_program(config)
    assert isinstance(program, OpenLister)
    return program


def test_a_discovery_only_node_has_no_chain_and_says_so(kiosk: NodeConfig) -> None:
    with TestClient(create_lister_app(kiosk, opened(kiosk), SystemClock())) as node:
        health = node.get("/health").json()
        assert health == {
            "status": "ok",
            "role": "discovery",
            "chainId": "ait-test",
            "addresses": 0,
            "answering": 0,
        }
        assert node.get("/health/live").json() == {"live": True}
        assert node.get("/health/ready").json() == {"ready": True, "why": ""}
        figures = node.get("/metrics").text
        assert 'role="discovery"' in figures
        assert 'blockchain_network_addresses{state="answering"} 0.0' in figures
        refused = node.get("/rpc/getHead")
        assert (refused.status_code, refused.json()["code"]) == (404, "discovery_only")
        assert node.post("/health").status_code == 405
    assert sorted(path.name for path in kiosk.data.iterdir()) == ["node.key", "node.lock", BOOK_FILE]


def test_its_folder_is_its_own(kiosk: NodeConfig) -> None:
    program = opened(kiosk)
    with pytest.raises(StorageError, match="another node is using"):
        open_program(kiosk)
    program.close()
    opened(kiosk).close()


def test_it_needs_a_genesis_document_that_is_one(kiosk: NodeConfig, tmp_path: Path) -> None:
    broken = NodeConfig(genesis=jcs({"chain_id": "x"}), data=tmp_path, named_role="discovery", p2p_port=0)
    with pytest.raises(Rejected):
        open_program(broken)


def test_a_mistake_in_it_stops_it(kiosk: NodeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_lister_app(kiosk, opened(kiosk), SystemClock())
    with TestClient(app) as node:
        monkeypatch.setattr(Peering, "tick", lambda self, now_ms: 1 // 0)
        lister = app.state.program

        async def stopped() -> None:
            async with asyncio.timeout(5):
                await lister.stopped.wait()

        node.portal.call(stopped)  # type: ignore[union-attr]
        assert node.get("/health").status_code == 503
        assert node.get("/health/live").json() == {"live": False}
        assert isinstance(lister.failure, ZeroDivisionError)


# The address book over a restart


def test_a_damaged_book_is_put_aside_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / BOOK_FILE).write_bytes(b"torn")
    assert BookKeeper(tmp_path).load() is None
    assert (tmp_path / (BOOK_FILE + ".damaged")).read_bytes() == b"torn"
    assert "begins anew" in caplog.text
    assert BookKeeper(tmp_path).load() is None


def test_a_book_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    BookKeeper(tmp_path / "missing").save(AddressBook(bytes(32)).to_record([]))
    assert "cannot be written" in caplog.text


def test_a_node_keeps_its_book(chain: Chain, tmp_path: Path) -> None:
    config = NodeConfig(genesis=chain.document, data=tmp_path, p2p_port=0)
    for _ in range(2):
        app = create_app(config)
        with TestClient(app):
            network = app.state.service.runtime.network
            known = network.known[0]
            network.hear_addresses([PeerAddress("203.0.114.9:7070", b"")], source="v4 203.0")
    assert known == 1, "of the first start"
    record = load_book(tmp_path / BOOK_FILE)
    assert record is not None and [entry.where for entry in record.entries] == ["203.0.114.9:7070"]
