"""Why a block is final and who decides it, over HTTP and where certificates are rare."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from aitbc.adapters.http.problems import Problem
from aitbc.client.finality import trust_genesis
from aitbc.client.light import LightClient
from aitbc.client.node import NodeClient
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.views import header_to_plain, transaction_to_plain
from aitbc.core.ledger.genesis import ConsensusSettings
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from aitbc.node.proofs import MAX_FINALITY_HEADERS, prove_final, validators_at
from support.chain import Chain, genesis
from support.ledger import people
from support.people import ALICE, EVE, VALIDATOR
from support.voters import Teller, VotedLedger

Json = dict[str, Any]
EPOCH = 4


@pytest.fixture
def chain() -> Chain:
    settings = ConsensusSettings(block_time_ms=0, idle_ms=600_000, epoch_length=EPOCH)
    return Chain(msgspec.structs.replace(genesis(), consensus=settings))


@pytest.fixture
def node(chain: Chain, tmp_path: Path) -> Iterator[TestClient]:
    config = NodeConfig(genesis=chain.document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True)
    with TestClient(create_app(config)) as client:
        for nonce in range(1, 11):
            tx = chain.sign(ALICE, "TRANSFER", {"to": EVE.address, "amount": 1}, nonce=nonce)
            tx_id = client.post("/rpc/sendTx", json=transaction_to_plain(tx)).json()["txHash"]
            assert client.get(f"/rpc/getTx/{tx_id}?wait=final&timeout=20").json()["status"] == "final"
        yield client


class OverHttp(NodeClient):
    """A client of the real application in this process."""

    def __init__(self, node: TestClient) -> None:
        super().__init__("http://127.0.0.1:8080")
        self.node = node

    def perform(self, call: Any) -> Any:
        answer = self.node.get(call.path, params=dict(call.query))
        assert answer.status_code == 200, answer.json()
        return call.read(answer.json())


def test_every_block_of_a_node_is_final_to_a_light_client(node: TestClient) -> None:
    document = node.get("/rpc/genesis").json()
    head = node.get("/rpc/getHead").json()
    for height in range(1, head["height"] + 1):
        light: Any = LightClient(trust_genesis(document))
        block = light.follow(OverHttp(node), height)
        assert block.hash.hex() == node.get(f"/rpc/getBlock/{height}").json()["hash"]
    record = light.record(OverHttp(node), "accounts", EVE.address)
    assert (int.from_bytes((record.data or b"")[:8], "big"), record.block.header.height) == (
        10,
        head["height"],
    )
    assert light.ancestor(OverHttp(node), 0).extra.hex() == head["genesisHash"]


def test_the_lines_of_the_howto_follow_this_node(
    node: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "check-a-node.md").read_text()
    code = page.split("```python\n")[2].split("```")[0]
    code = re.sub(r"ait1\w+", ALICE.address, code)
    (tmp_path / "genesis.json").write_bytes(node.get("/rpc/genesis").content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aitbc.client.node.NodeClient", lambda _url: OverHttp(node))
    exec(code, {})
    balance = node.get(f"/rpc/account/{ALICE.address}").json()["balance"]
    head = node.get("/rpc/getHead").json()["height"]
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [f"block {head} is signed by 1 of 1", f"alice has {balance} in block {head}"]
    assert said[2] == f"block 1 is of {node.get('/rpc/getBlock/1').json()['timestampMs']}"


def test_the_answer_has_the_header_the_certificate_and_the_set(node: TestClient) -> None:
    block = node.get("/rpc/getBlock/7").json()
    answer = node.get("/rpc/finality/7").json()
    for name in ("txs", "sig", "certificate", "next"):
        del block[name]
    assert answer["headers"] == [block]
    assert answer["certificate"]["blockHash"] == block["hash"]
    only = {"address": VALIDATOR.address, "pubkey": key_to_text(VALIDATOR.auth_key), "power": 1}
    assert answer["validators"] == [only]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/rpc/finality/0", 400, "out_of_range"),
        ("/rpc/finality/99", 404, "unknown_block"),
        ("/rpc/finality/9007199254740991", 404, "unknown_block"),
        ("/rpc/finality/9007199254740992", 422, "bad_parameter"),
        ("/rpc/finality/-1", 422, "bad_parameter"),
        ("/rpc/finality/head", 422, "bad_parameter"),
        ("/rpc/validators?height=0", 400, "out_of_range"),
        ("/rpc/validators?height=99", 400, "out_of_range"),
        ("/rpc/validators?height=x", 422, "bad_parameter"),
    ],
)
def test_what_cannot_be_answered(node: TestClient, path: str, status: int, code: str) -> None:
    answer = node.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_who_decides_a_block(node: TestClient) -> None:
    """Up to the last block of the running epoch."""
    head = node.get("/rpc/getHead").json()["height"]
    running = head // EPOCH
    end = (running + 1) * EPOCH
    for height, epoch in ((1, 0), (4, 0), (5, 1), (head + 1, running), (end, running)):
        answer = node.get("/rpc/validators", params={"height": height}).json()
        assert (answer["epoch"], answer["items"][0]["address"]) == (epoch, VALIDATOR.address)
    assert node.get("/rpc/validators").json() == node.get(f"/rpc/validators?height={head + 1}").json()
    beyond = node.get(f"/rpc/validators?height={end + 1}").json()
    assert f"follows from block {end}" in beyond["detail"]


def test_the_set_of_each_epoch_where_it_changes() -> None:
    ann, ben, cat = members = people("member", 3)
    chain = VotedLedger(voters=members, authorities=(ann, ben), more=members, epoch_length=3)
    named = [{"address": who.address, "pubkey": key_to_text(who.auth_key)} for who in (ann, cat)]
    assert chain.change((ann, ben), authorities=named) == "done"
    chain.go_to(7)

    def members_at(height: int | None) -> list[str]:
        answer = validators_at(chain.executor, chain.store, height)
        return [member["address"] for member in answer["items"]]

    assert members_at(3) == [ann.address, ben.address]
    assert members_at(4) == members_at(None) == members_at(9) == [ann.address, cat.address]
    boundary = prove_final(chain.executor, chain.store, 3)
    assert [member["address"] for member in boundary["validators"]] == [ann.address, ben.address]


def rare(certified: set[int], *, head: int, epoch_length: int = 1_000) -> VotedLedger:
    chain = VotedLedger(epoch_length=epoch_length)
    while chain.height < head:
        chain.block(certified=chain.height + 1 in certified)
    return chain


def test_a_block_without_a_certificate_is_final_through_the_next_one_that_has_one() -> None:
    chain = rare({1, 5, 6}, head=6)
    for height, last in ((1, 1), (2, 5), (4, 5), (5, 5), (6, 6)):
        answer = prove_final(chain.executor, chain.store, height)
        expected = [chain.store.head_at(at) for at in range(height, last + 1)]
        assert answer["headers"] == [header_to_plain(found.header, found.hash) for found in expected if found]


def test_64_headers_are_the_most() -> None:
    """Block 66 has the first certificate: block 3 is 64 headers from it, block 2 is too far."""
    assert MAX_FINALITY_HEADERS == 64
    chain = rare({1, 66}, head=66)
    answer = prove_final(chain.executor, chain.store, 3)
    assert len(answer["headers"]) == 64
    light: Any = LightClient(chain.trust)
    assert light.follow(Teller(chain), 3).certified.height == 66
    with pytest.raises(Problem) as caught:
        prove_final(chain.executor, chain.store, 2)
    assert (caught.value.status, caught.value.code) == (404, "no_certificate")
    assert light.ancestor(Teller(chain), 2).height == 2, "the way that the answer names"


def test_headers_do_not_leave_their_epoch() -> None:
    """What a chain never does: an epoch's last block without a certificate. The answer is no long chain."""
    chain = rare({1}, head=3, epoch_length=4)
    chain.block()
    chain.block()
    honest = chain.store.head_at
    chain.store.head_at = lambda height: (  # type: ignore[method-assign,return-value,assignment]
        msgspec.structs.replace(honest(height), certificate=None) if height == 4 else honest(height)  # type: ignore[type-var]
    )
    with pytest.raises(Problem, match="none of the 2 blocks from 3 on") as caught:
        prove_final(chain.executor, chain.store, 3)
    assert caught.value.code == "no_certificate"


def test_block_0_needs_no_votes() -> None:
    chain = rare({1}, head=1)
    with pytest.raises(Rejected, match="follows from genesis") as caught:
        prove_final(chain.executor, chain.store, 0)
    assert caught.value.reason == Reason.OUT_OF_RANGE
