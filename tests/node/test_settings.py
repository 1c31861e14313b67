"""What a node is told: the seeds' names and values, keys, and a genesis that has the last word."""

import re
from pathlib import Path
from typing import Any

import pytest

from aitbc.adapters.config.loader import ConfigError, load
from aitbc.hub.settings import HUB
from aitbc.node.config import NodeConfig
from aitbc.node.configured import node_config
from aitbc.node.settings import NODE
from support.chain import Chain
from support.people import ALICE, FAUCET, VALIDATOR

ROOT = Path(__file__).resolve().parents[2]
SEED_000 = {
    "CHAIN_ID": "ait-test",
    "DB_PATH": "./data/chain.db",
    "P2P_BIND": "0.0.0.0:7070",
    "RPC_BIND": "0.0.0.0:8080",
    "BOOTSTRAP_PEERS": "ws://host:7070,ws://other:7070",
    "MINT_PER_UNIT": "1000",
    "COORDINATOR_RATIO": "0.05",
}
SEED_001 = {
    "DATABASE_URL": "sqlite:///blockchain.db",
    "RPC_HOST": "0.0.0.0",
    "RPC_PORT": "9080",
    "WS_PORT": "9081",
    "CONSENSUS_MODE": "poa",
    "BLOCK_TIME": "1s",
    "METRICS_PORT": "9090",
    "LOG_LEVEL": "info",
}


@pytest.fixture
def files(tmp_path: Path, chain: Chain) -> dict[str, str]:
    (tmp_path / "genesis.json").write_bytes(chain.document)
    key = tmp_path / "validator.key"
    key.write_text(VALIDATOR._seed.hex() + "\n")
    key.chmod(0o600)
    return {"GENESIS": str(tmp_path / "genesis.json"), "PROPOSER_KEY": str(key)}


def told(environment: dict[str, str]) -> NodeConfig:
    return node_config(load(NODE, flags={}, environment=environment))


def test_every_name_and_value_of_seed_000(files: dict[str, str]) -> None:
    config = told({**files, **SEED_000})
    assert (config.rpc_host, config.rpc_port) == ("0.0.0.0", 8080)
    assert (config.p2p_host, config.p2p_port) == ("0.0.0.0", 7070)
    assert config.bootstrap == ("host:7070", "other:7070")
    assert config.database == "sqlite:///./data/chain.db"
    assert config.proposer is not None
    assert config.proposer.address == VALIDATOR.address


def test_every_name_and_value_of_seed_001(files: dict[str, str], tmp_path: Path) -> None:
    from aitbc.core.crypto.address import decode_address
    from aitbc.core.ledger.genesis import ConsensusSettings
    from support.chain import genesis

    document = Chain(genesis(consensus=ConsensusSettings(block_time_ms=1_000))).document
    (tmp_path / "genesis.json").write_bytes(document)
    hexadecimal = "0x" + decode_address(VALIDATOR.address).hex()
    config = told({**files, **SEED_001, "VALIDATOR_ADDRESS": hexadecimal})
    assert (config.rpc_host, config.http_ports) == ("0.0.0.0", (9080, 9081, 9090))
    assert config.database == "sqlite:///blockchain.db"


def test_seed_003s_names() -> None:
    hub = load(HUB, flags={}, environment={"BIND_HOST": "127.0.0.2", "BIND_PORT": "8000"})
    assert (hub["bind_host"].value, hub["bind_port"].value) == ("127.0.0.2", 8000)
    with pytest.raises(ConfigError, match="aitbc hub key"):
        load(HUB, flags={}, environment={"API_KEY": "CHANGE_ME_SUPERSECRET"})


DIFFERENT = [
    ("CHAIN_ID", "ait-other", "chain_id is ait-other (CHAIN_ID in the environment), genesis has ait-test"),
    ("MINT_PER_UNIT", "2000", "mint_per_unit is 2000"),
    ("COORDINATOR_RATIO", "0.06", "coordinator_ratio is 600 basis points"),
    ("CONSENSUS_MODE", "cbp", "consensus_mode is cbp"),
    ("BLOCK_TIME", "2s", "block_time is 2000 ms"),
]


@pytest.mark.parametrize(("variable", "value", "why"), DIFFERENT)
def test_a_node_that_is_told_another_chain_than_its_genesis_refuses(
    files: dict[str, str], variable: str, value: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        told({**files, variable: value})


LATER = ["BLOCK_CACHE_SIZE", "PRUNING", "DB_ENCRYPTION_ENABLED", "DB_ENCRYPTION_KEY_PATH"]


@pytest.mark.parametrize("variable", LATER)
def test_what_comes_later_says_so(files: dict[str, str], variable: str) -> None:
    with pytest.raises(ConfigError, match="leave it out until then"):
        told({**files, variable: "true"})


WRONG: list[tuple[dict[str, str], str]] = [
    ({"GENESIS": "/nowhere/genesis.json"}, "genesis /nowhere/genesis.json .* `aitbc genesis make`"),
    ({"PROPOSER_KEY": "/nowhere/key"}, "proposer_key .* is no key, and no file"),
    ({"VALIDATOR_ADDRESS": ALICE.address}, "validator_address is .* but the proposer key is"),
    ({"ANNOUNCE": "203.0.113.7:7070"}, "nobody can connect to a node without --p2p-port"),
    ({"ANNOUNCE": "name.example:7070", "P2P_PORT": "7070"}, "is no numeric address"),
    ({"DISCOVERY_URLS": "ftp://x"}, "is no http:// or https:// URL"),
    (
        {
            "DISCOVERY_URLS": "http://a,http://b,http://c,http://d,http://e,http://f,http://g,http://h,http://i"
        },
        "at most",
    ),
]


@pytest.mark.parametrize(("said", "why"), WRONG)
def test_what_contradicts_itself_is_refused(files: dict[str, str], said: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        told({**files, **said})


def test_keys_in_the_environment_or_in_a_file_that_nobody_else_reads(
    files: dict[str, str], tmp_path: Path
) -> None:
    config = told({**files, "PROPOSER_KEY": "0x" + VALIDATOR._seed.hex(), "FAUCET_KEY": FAUCET._seed.hex()})
    assert config.faucet is not None
    assert (config.proposer.address, config.faucet.address) == (VALIDATOR.address, FAUCET.address)  # type: ignore[union-attr]
    Path(files["PROPOSER_KEY"]).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        told(files)
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("hunter2")
    nonsense.chmod(0o600)
    with pytest.raises(ConfigError, match="neither 64 lower-case") as caught:
        told({**files, "PROPOSER_KEY": str(nonsense)})
    assert "hunter2" not in str(caught.value)


def test_every_setting_is_documented_and_in_the_example() -> None:
    page = (ROOT / "docs" / "howto" / "configure.md").read_text()
    example = (ROOT / ".env.example").read_text()
    for table in (NODE, HUB):
        for setting in (*table.settings, *table.combined):
            assert f"`{setting.name}`" in page, setting.name
            for variable in setting.env:
                assert f"`{variable}`" in page, variable
    for variable in {
        *SEED_000,
        *SEED_001,
        "PROPOSER_KEY",
        "VALIDATOR_ADDRESS",
        "BIND_HOST",
        "BIND_PORT",
    }:
        assert re.search(rf"^#? ?{variable}=", example, re.M), variable


def test_the_example_can_be_used_as_it_is(files: dict[str, str], tmp_path: Path) -> None:
    values: Any = load(
        NODE,
        flags={"genesis": files["GENESIS"]},
        environment={},
        dotenv=ROOT / ".env.example",
        others={name for table in (HUB,) for name in table.variables()},
    )
    assert values["rpc_port"].value == 8080
    assert values["rpc_host"].value == "127.0.0.1"
