"""A node in this process, answering over the real application."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from support.chain import Chain
from support.people import FAUCET, SYNTHETIC, VALIDATOR


@pytest.fixture
def chain() -> Chain:
    """Signs for the node's chain; the block interval is nought so that nothing waits."""
    import msgspec

    from aitbc.core.ledger.genesis import ConsensusSettings
    from support.chain import genesis

    document = msgspec.structs.replace(
        genesis(), consensus=ConsensusSettings(block_time_ms=0, idle_ms=600_000)
    )
    return Chain(document)


@pytest.fixture
def node(chain: Chain, tmp_path: Path) -> Iterator[TestClient]:
    config = NodeConfig(
        genesis=chain.document,
        data=tmp_path / "node",
        proposer=VALIDATOR,
        never_voted=True,
        faucet=FAUCET,
        synthetic_attester=SYNTHETIC,
    )
    with TestClient(
        create_app(config), base_url="http://127.0.0.1:8080", client=("127.0.0.1", 50_000)
    ) as client:
        yield client
