"""Every curl call in the README is run against a node, as it stands there."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import receipt_core_digest, receipt_id_of
from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.ledger.genesis import ConsensusSettings
from aitbc.core.types.receipts import ReceiptCore
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from support.chain import VERSION_2, Chain, genesis
from support.people import ALICE, BOB, FAUCET, PROVIDER, SYNTHETIC, VALIDATOR
from support.served import served

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
CALLS = [
    re.sub(r"\\\n\s+", "", call).strip() for call in re.findall(r"^    (curl (?:.*\\\n)*.*)$", README, re.M)
]
REFUSED = {"/admin/peers/add": "no_network"}
"""On a devnet of one node without a network."""
SEEDS = [
    "/rpc/sendTx", "/rpc/getTx/", "/rpc/getBlock/", "/rpc/getHead", "/rpc/getBalance/", "/rpc/estimateFee",
    "/rpc/submitReceipt", "/admin/paramSet", "/admin/peers/add", "/admin/mintFaucet", "/rpc/get_head", "/rpc/send_tx",
    "/rpc/get_balance/", "/rpc/get_block/", "/health", "/sync_status", "/rpc/peers", "/metrics",
]  # fmt: skip


class Shell(NamedTuple):
    port: str
    folder: Path
    tx_hash: str


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("curls")
    settings = ConsensusSettings(block_time_ms=0, idle_ms=600_000)
    chain = Chain(genesis(consensus=settings, activations=VERSION_2))
    config = NodeConfig(
        genesis=chain.document, data=folder / "node", proposer=VALIDATOR, never_voted=True, faucet=FAUCET,
        synthetic_attester=SYNTHETIC,
    )  # fmt: skip
    transfers = [
        transaction_to_plain(chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 12345}, nonce=nonce))
        for nonce in (1, 2, 3)
    ]
    (folder / "transfer.json").write_text(json.dumps(transfers[0]))
    (folder / "transfers.ndjson").write_text("\n".join(map(json.dumps, transfers)))
    (folder / "receipt_claim.json").write_text(json.dumps(claim(chain)))
    with served(create_app(config)) as url:
        port = url.rpartition(":")[2]
        sent = json.loads(
            run(["curl", "-sX", "POST", f"{url}/rpc/sendTx?wait=final", "-d", "@transfer.json"], folder)
        )
        assert sent["status"] == "final"
        yield Shell(port, folder, sent["txHash"])


def claim(chain: Chain) -> Any:
    """Seed 000 §18.2 for a synthetic job."""
    core = ReceiptCore(
        job_id="job_42", client_addr=ALICE.address, miner_addr=PROVIDER.address, compute_units=2500, price=50_000,
        output_hash="sha256:" + "ab" * 32,
    )  # fmt: skip
    payload = msgspec.json.decode(jcs(core))
    payload["receipt_id"] = receipt_id_of(core, chain.genesis_hash)
    payload["miner_sig"] = PROVIDER.sign(receipt_core_digest(core, chain.genesis_hash)).hex()
    return transaction_to_plain(chain.sign(PROVIDER, "RECEIPT_CLAIM", payload, nonce=1, fee=50))


def run(command: list[str] | str, folder: Path) -> str:
    done = subprocess.run(
        command, shell=isinstance(command, str), cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def test_every_path_of_the_seeds_has_its_call() -> None:
    assert [path for path in SEEDS if not any(path in call for call in CALLS)] == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("call", CALLS)
def test_a_call_of_the_readme_works(shell: Shell, call: str) -> None:
    line = call.replace("localhost:8080", f"localhost:{shell.port}")
    line = line.replace("ait1…", BOB.address).replace("9c1f…", shell.tx_hash)
    assert "…" not in line, "a placeholder that the test does not know"
    answer = run(line, shell.folder)
    refused = next((code for path, code in REFUSED.items() if path in call), None)
    if refused:
        assert json.loads(answer)["code"] == refused
    elif "/metrics" in call:
        assert "blockchain_blocks_total" in answer
    else:
        assert "code" not in json.loads(answer), answer
