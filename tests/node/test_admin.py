"""Admin routes: they only submit transactions, for who has the token, or this machine on a devnet; never for somebody's
web page."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from aitbc.core.codec.records import record_bytes
from aitbc.core.ledger.genesis import ConsensusSettings
from aitbc.core.types.amounts import AIT
from aitbc.core.types.records import Account
from aitbc.node.access import check_exposure
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app, open_node
from aitbc.ports import StorageError
from support.chain import VERSION_2, Chain, genesis
from support.ledger import people
from support.people import EVE, FAUCET, VALIDATOR

WISH = {"address": EVE.address, "amount": 5}
TOKEN = "correct horse battery staple"


@pytest.fixture
def chain() -> Chain:
    settings = ConsensusSettings(block_time_ms=0, idle_ms=600_000, epoch_length=2)
    return Chain(genesis(consensus=settings, activations=VERSION_2))


@contextmanager
def running(
    chain: Chain,
    folder: Path,
    *,
    client: str = "127.0.0.1",
    url: str = "http://127.0.0.1:8080",
    **options: Any,
) -> Iterator[TestClient]:
    config = NodeConfig(
        genesis=chain.document, data=folder, proposer=VALIDATOR, never_voted=True, faucet=FAUCET, **options
    )
    with TestClient(create_app(config), base_url=url, client=(client, 50_000)) as node:
        yield node


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "ok")


# Who may


def test_on_a_devnet_without_a_token_this_machine_may_and_others_may_not(
    chain: Chain, tmp_path: Path
) -> None:
    with running(chain, tmp_path, client="8.8.8.8") as far:
        assert code(far.post("/admin/mintFaucet", json=WISH)) == (403, "loopback_only")
        near = TestClient(far.app, base_url="http://127.0.0.1:8080", client=("127.0.0.1", 1))
        assert code(near.post("/admin/mintFaucet", json=WISH)) == (200, "ok")


@pytest.mark.parametrize("client", ["8.8.8.8", "127.0.0.1"])
def test_where_a_token_is_set_everybody_needs_it(chain: Chain, tmp_path: Path, client: str) -> None:
    """Also what comes from this machine: it may be a proxy that passes on what strangers ask."""
    with running(chain, tmp_path, client=client, admin_token=TOKEN) as node:
        for wrong in (
            {},
            {"authorization": "Bearer guess"},
            {"authorization": TOKEN},
            {"authorization": "Bearer"},
        ):
            answer = node.post("/admin/mintFaucet", json=WISH, headers=wrong)
            assert (code(answer), answer.headers["www-authenticate"]) == ((401, "bad_token"), "Bearer")
        right = {"authorization": f"Bearer {TOKEN}"}
        assert code(node.post("/admin/mintFaucet", json=WISH, headers=right)) == (200, "ok")


@pytest.mark.parametrize("path", ["mintFaucet", "paramSet", "peers/add"])
def test_attack_strangers_through_a_plain_proxy_reach_nothing_off_a_devnet(tmp_path: Path, path: str) -> None:
    """nginx's `proxy_pass http://127.0.0.1:8080`: from loopback, under a local Host, with no forwarding header."""
    chain = Chain(genesis(devnet=0, faucet="", faucet_limit=0, synthetic_attester=""))
    wish = {"key": "base_fee", "value": 3}
    with running(chain, tmp_path, p2p_port=0) as node:
        answer = node.post(f"/admin/{path}", json=wish)
        assert code(answer) == (403, "admin_token_unset")
        assert "ADMIN_TOKEN" in answer.json()["fix"]
        named = node.post(f"/admin/{path}", json=wish, headers={"authorization": "Bearer x"})
        assert code(named) == (403, "admin_token_unset")


LOCAL_TRICKS = [
    ({"origin": "https://evil.example"}, "no_browsers"),
    ({"origin": "null"}, "no_browsers"),
    ({"origin": "http://rebound.example:8080", "host": "rebound.example:8080"}, "no_browsers"),
    ({"host": "rebound.example:8080"}, "loopback_only"),
    ({"x-forwarded-for": "203.0.113.9"}, "loopback_only"),
    ({"forwarded": "for=203.0.113.9"}, "loopback_only"),
]


@pytest.mark.parametrize(("headers", "reason"), LOCAL_TRICKS)
def test_attack_a_stranger_asks_through_a_browser_or_a_proxy_of_this_machine(
    chain: Chain, tmp_path: Path, headers: dict[str, str], reason: str
) -> None:
    with running(chain, tmp_path) as node:
        assert code(node.post("/admin/mintFaucet", json=WISH, headers=headers)) == (403, reason)
        assert node.get("/rpc/supply").json()["faucet"] == 0


def test_the_nodes_own_page_on_this_machine_may(chain: Chain, tmp_path: Path) -> None:
    with running(chain, tmp_path, url="http://localhost:8080") as node:
        page = {"origin": "http://localhost:8080"}
        assert code(node.post("/admin/mintFaucet", json=WISH, headers=page)) == (200, "ok")


def test_a_devnet_is_not_served_to_the_world_without_a_token(chain: Chain, tmp_path: Path) -> None:
    open_to_all = NodeConfig(genesis=chain.document, data=tmp_path, rpc_host="0.0.0.0", never_voted=True)
    with pytest.raises(StorageError, match="ADMIN_TOKEN"):
        open_node(open_to_all)
    for host in ("127.0.0.1", "::1", "localhost"):
        check_exposure(NodeConfig(genesis=b"", data=tmp_path, rpc_host=host), devnet=True)
    for fine in ({"devnet": False}, {"devnet": True, "token": TOKEN}):
        config = NodeConfig(
            genesis=b"", data=tmp_path, rpc_host="0.0.0.0", admin_token=str(fine.get("token", ""))
        )
        check_exposure(config, devnet=bool(fine["devnet"]))


# What they do


def test_a_parameter_is_changed_by_a_transaction_at_the_next_boundary(chain: Chain, tmp_path: Path) -> None:
    with running(chain, tmp_path) as node:
        poor = node.post("/admin/paramSet", json={"key": "base_fee", "value": 3})
        assert code(poor)[1] == "fee_not_covered"
        fund = node.post("/admin/mintFaucet", json={"address": VALIDATOR.address, "amount": AIT}).json()
        assert node.get(f"/rpc/getTx/{fund['txHash']}?wait=final").json()["status"] == "final"
        answer = node.post("/admin/paramSet", json={"key": "base_fee", "value": 3, "set": {"slash_bp": 1}})
        assert answer.status_code == 200, answer.text
        final = node.get(f"/rpc/getTx/{answer.json()['txHash']}?wait=final").json()
        assert (final["status"], final["tx"]["type"]) == ("final", "PARAM_UPDATE")
        last = node.post("/admin/mintFaucet", json=WISH).json()
        node.get(f"/rpc/getTx/{last['txHash']}?wait=final")
        params = node.get("/rpc/params").json()
        assert (params["base_fee"], params["slash_bp"]) == (3, 1)


def test_several_validators_approve_a_change_and_one_submits_it(tmp_path: Path) -> None:
    """With three of them two are needed; each signs on its own node."""
    settings = ConsensusSettings(block_time_ms=0, idle_ms=600_000, epoch_length=2)
    members = people("member", 3)
    chain = Chain(genesis(consensus=settings, activations=VERSION_2, authorities=tuple(members)))
    wish = {"key": "base_fee", "value": 3}

    def asked(place: int, body: dict[str, Any]) -> Any:
        folder = tmp_path / str(place)
        options = {
            "proposer": members[place],
            "never_voted": True,
            "faucet": FAUCET,
            "peers": ("127.0.0.1:1",),
        }
        config = NodeConfig(genesis=chain.document, data=folder, **options)  # type: ignore[arg-type]
        with TestClient(create_app(config), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as node:
            service = node.app.state.service  # type: ignore[attr-defined]
            service.runtime.executor.state.data["accounts"][members[place].address] = record_bytes(
                Account(AIT, 0, members[place].auth_key)
            )
            return node.post("/admin/paramSet", json=body)

    signed = asked(1, {**wish, "submit": False}).json()
    assert signed["payload"] == {"number": 1, "set": {"base_fee": 3}}
    assert signed["approval"]["validator"] == members[1].address
    assert code(asked(0, wish)) == (400, "not_enough_approvals")
    assert code(asked(0, {**wish, "value": 4, "approvals": [signed["approval"]]})) == (400, "bad_approval")
    unknown = {"key": "no_such", "value": 1, "submit": False}
    assert code(asked(1, unknown)) == (400, "unknown_param"), "nothing is signed that no update can set"
    stranger = {"validator": EVE.address, "sig": signed["approval"]["sig"]}
    assert code(asked(0, {**wish, "approvals": [stranger]})) == (400, "bad_approval")
    answer = asked(0, {**wish, "approvals": [signed["approval"]]})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["txHash"]) == 64


REFUSED: list[tuple[str, Any, int, str]] = [
    ("paramSet", {"key": "base_fee", "value": 10**9}, 400, "out_of_range"),
    ("paramSet", {"key": "devnet", "value": 0}, 400, "unknown_param"),
    ("paramSet", {}, 400, "missing_field"),
    ("paramSet", {"key": "base_fee", "value": 1.5}, 400, "float_not_allowed"),
    ("paramSet", {"base_fee": 3}, 400, "unknown_field"),
    ("paramSet", {"set": {"hubs": ["x" * 20_000]}}, 413, "too_large"),
    ("mintFaucet", {**WISH, "amount": 10**15}, 400, "faucet_limit"),
    ("peers/add", {"addr": "name.example:7070"}, 400, "bad_peer"),
    ("peers/add", {"addr": "203.0.113.7:7070"}, 409, "no_network"),
    ("peers/add", {"addr": ""}, 400, "out_of_range"),
]


@pytest.mark.parametrize(("path", "body", "status", "reason"), REFUSED)
def test_what_cannot_be_is_refused_with_what_to_do(
    chain: Chain, tmp_path: Path, path: str, body: Any, status: int, reason: str
) -> None:
    with running(chain, tmp_path) as node:
        answer = node.post(f"/admin/{path}", json=body)
        assert code(answer) == (status, reason)
        assert answer.json()["fix"]


def test_who_is_no_authority_cannot_approve(chain: Chain, tmp_path: Path) -> None:
    config = NodeConfig(genesis=chain.document, data=tmp_path)
    with TestClient(create_app(config), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as node:
        answer = node.post("/admin/paramSet", json={"key": "base_fee", "value": 3})
        assert code(answer) == (409, "not_authority")


def test_a_peer_that_is_named_is_dialled(chain: Chain, tmp_path: Path) -> None:
    with running(chain, tmp_path, p2p_port=0) as node:
        heard: list[str] = []
        network = node.app.state.service.runtime.network  # type: ignore[attr-defined]
        network.name_peer = heard.append
        answer = node.post("/admin/peers/add", json={"addr": "ws://203.0.113.7:7070/"})
        assert answer.json() == {"added": "203.0.113.7:7070"}
        assert heard == ["203.0.113.7:7070"]
