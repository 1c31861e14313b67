"""The OpenAPI document is complete: every route, every answer's shape, and every refusal that it declares comes."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient

from aitbc.adapters.http import problems
from aitbc.core.codec.views import transaction_to_plain
from aitbc.node.config import NodeConfig
from aitbc.node.limits import Limits
from aitbc.node.main import create_app
from aitbc.node.routes import ROUTERS
from aitbc.node.routes.openapi import ANSWERS, UNCOUNTED, routes
from support.chain import VERSION_2, Chain, genesis
from support.people import ALICE, BOB, EVE, FAUCET, SYNTHETIC, VALIDATOR

Json = dict[str, Any]
ROUTES = routes()
CASES = [(method, path, name, status) for method, path, name in ROUTES for status in ANSWERS[name].refusals]


@pytest.fixture
def chain() -> Chain:
    from aitbc.core.ledger.genesis import ConsensusSettings

    return Chain(
        genesis(consensus=ConsensusSettings(block_time_ms=0, idle_ms=600_000), activations=VERSION_2)
    )


@pytest.fixture(scope="module")
def document() -> Json:
    made: Json = create_app(NodeConfig(genesis=b"", data=Path("nowhere"))).openapi()
    return made


def problem(answer: Any, document: Json) -> Json:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body: Json = answer.json()
    assert body["status"] == answer.status_code
    assert body["fix"] and body["detail"]
    assert_fits(body, {"$ref": "#/components/schemas/Problem"}, document)
    return body


def assert_fits(body: Any, schema: Json, document: Json) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(body)


# What there is


def test_every_route_is_described(document: Json) -> None:
    hidden = {"/", "/docs"}
    served = {
        (method.lower(), route.path)  # type: ignore[attr-defined]
        for router in ROUTERS
        for route in router.routes
        for method in getattr(route, "methods", None) or ()
    }
    described = {(method, path) for path, operations in document["paths"].items() for method in operations}
    assert {path for _, path in served - described} == hidden
    assert described <= served
    assert {name for _, _, name in ROUTES} == set(ANSWERS), "no answer is described that nobody gives"


def test_every_operation_has_its_own_name_a_summary_and_its_parameters(document: Json) -> None:
    names = []
    for path, operations in document["paths"].items():
        for operation in operations.values():
            names.append(operation["operationId"])
            assert operation["summary"]
            given = {parameter["name"] for parameter in operation.get("parameters", ())}
            assert set(re.findall(r"{(\w+)}", path)) <= given
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere(document: Json) -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [one for each in value.values() for one in references(each)]
        return [one for each in value for one in references(each)] if isinstance(value, list) else []

    found = references(document)
    assert found
    for reference in found:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_what_operations_are_linked_to_exists(document: Json) -> None:
    operations = [operation for found in document["paths"].values() for operation in found.values()]
    names = {operation["operationId"] for operation in operations}
    links = [
        link for operation in operations for link in operation["responses"]["200"].get("links", {}).values()
    ]
    assert len(links) >= 7
    assert {link["operationId"] for link in links} <= names


def test_the_reference_shows_everything_and_fetches_nothing(node: TestClient, document: Json) -> None:
    page = node.get("/docs").text
    for path in document["paths"]:
        assert path in page
    assert "<script" not in page
    targets = set(re.findall(r'(?:src|href)="?([^"> ]+)', page))
    assert {target for target in targets if target[0] != "#"} == {"/openapi.json"}


# What is answered


ASKED = [
    "/rpc/getHead", "/rpc/get_head", "/rpc/head", "/rpc/height", "/rpc/info", "/rpc/status", "/rpc/chains",
    "/rpc/getBlock/1", "/rpc/getBlock/1?full=1", "/rpc/blocks/1", "/rpc/getBlockCount", "/rpc/get_block_count",
    "/rpc/blocks", "/rpc/blocks-range?start=0&end=1", "/rpc/transactions", "/rpc/mempool", "/rpc/accounts",
    "/rpc/state/snapshot?limit=2", "/rpc/genesis_allocations", "/rpc/genesis", "/rpc/params", "/rpc/validators",
    "/rpc/supply", "/rpc/registry", "/rpc/jobs/job-1", "/rpc/receipts?job=job-1", "/rpc/finality/1",
    "/rpc/proof/history/0", "/rpc/consensus", "/rpc/peers", "/p2p/peers", "/sync_status", "/health", "/health/live",
    "/health/ready",
    *(f"/rpc/{name}/{ALICE.address}" for name in ("getBalance", "get_balance", "account", "accounts", "getAccount")),
    f"/rpc/account/{ALICE.address}/transactions", f"/rpc/proof/accounts/{ALICE.address}",
]  # fmt: skip


def test_answers_have_the_shapes_that_are_described(node: TestClient, chain: Chain, document: Json) -> None:
    tx = transaction_to_plain(chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5}, nonce=1))
    waiting = transaction_to_plain(chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5}, nonce=9))
    tx_hash = node.post("/rpc/sendTx?wait=final", json=tx).json()["txHash"]
    node.post("/rpc/sendTx", json=waiting)
    by_pattern = {
        re.compile(re.sub(r"{\w+}", "[^/?]+", path) + r"(\?.*)?"): operations["get"]
        for path, operations in document["paths"].items()
        if "get" in operations
    }
    for asked in [*ASKED, f"/rpc/getTx/{tx_hash}?proof=1", f"/rpc/transaction/{tx_hash}"]:
        answer = node.get(asked)
        assert answer.status_code == 200, (asked, answer.text)
        operation = next(found for pattern, found in by_pattern.items() if pattern.fullmatch(asked))
        assert_fits(
            answer.json(), operation["responses"]["200"]["content"]["application/json"]["schema"], document
        )


# What is refused


def url_of(path: str) -> str:
    return re.sub(r"{(\w+)}", lambda found: SAMPLES[found.group(1)], path)


SAMPLES = {
    "height_or_hash": "1", "address": ALICE.address, "tx_hash": "00" * 32, "lock_id": "00" * 32, "height": "1",
    "receipt_id": "rcpt_00", "job_id": "job-1", "store": "accounts", "key": ALICE.address,
}  # fmt: skip
GOOD_BODIES: dict[str, Any] = {
    "estimate_fee": {"type": "TRANSFER", "payload": {"to": BOB.address, "amount": 1}},
    "mint_faucet": {"address": EVE.address, "amount": 5},
    "param_set": {"key": "base_fee", "value": 3},
    "add_peer": {"addr": "203.0.113.7:7070"},
    "attest": {
        "job_id": "job_1000001", "client": ALICE.address, "miner": EVE.address, "price": 1, "compute_units": 1,
        "output_hash": "sha256:" + "ab" * 32,
    },
}  # fmt: skip
WRONG: dict[tuple[str, int], str] = {
    ("get_block", 400): "/rpc/getBlock/zz",
    ("get_block", 404): "/rpc/getBlock/99",
    ("get_block", 422): "/rpc/getBlock/1?limit=0",
    ("get_blocks", 400): "/rpc/blocks?cursor=x",
    ("get_blocks_range", 400): "/rpc/blocks-range?start=5&end=1",
    ("get_transactions", 400): "/rpc/transactions?cursor=x",
    ("get_mempool", 400): "/rpc/mempool?cursor=x",
    ("get_balance", 400): "/rpc/getBalance/bob",
    ("get_account", 400): "/rpc/account/bob",
    ("get_account_transactions", 400): "/rpc/account/bob/transactions",
    ("get_validators", 400): "/rpc/validators?height=0",
    ("get_validators", 422): "/rpc/validators?height=-1",
    ("get_job", 400): "/rpc/jobs/job-1?cursor=x",
    ("get_tx", 400): "/rpc/getTx/zz",
    ("get_tx", 404): "/rpc/getTx/" + "00" * 32,
    ("get_tx", 422): "/rpc/getTx/" + "00" * 32 + "?timeout=99",
    ("get_lock", 404): "/rpc/lock/" + "00" * 32,
    ("get_receipt", 404): "/rpc/receipts/rcpt_00",
    ("get_receipts", 400): "/rpc/receipts",
    ("finality_of_block", 400): "/rpc/finality/0",
    ("finality_of_block", 404): "/rpc/finality/99",
    ("finality_of_block", 422): "/rpc/finality/-1",
    ("proof_of_ancestor", 400): "/rpc/proof/history/99",
    ("proof_of_ancestor", 422): "/rpc/proof/history/-1",
    ("proof_of_record", 400): f"/rpc/proof/accounts/{ALICE.address}?height=99",
    ("proof_of_record", 422): "/rpc/proof/nothing/x",
    ("get_blocks_range", 422): "/rpc/blocks-range?start=x&end=1",
}
"""A request that is refused with this status; the rest are refused alike everywhere."""


QUERIES = {"get_receipts": "?job=job-1", "get_blocks_range": "?start=0&end=0"}
"""Without which a good request is none."""


def transfer(chain: Chain) -> Json:
    return transaction_to_plain(chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5}, nonce=1))


def good_body(name: str, chain: Chain) -> Any:
    if name in GOOD_BODIES:
        return GOOD_BODIES[name]
    if name == "send_txs":
        return [transfer(chain)]
    if name == "post_transaction":
        tx = transfer(chain)
        return {
            "from": tx["sender"], "nonce": tx["nonce"], "fee": tx["fee"], "payload": tx["payload"],
            "signature": tx["sig"], "pubkey": tx["pubkey"],
        }  # fmt: skip
    if name == "submit_receipt":
        payload, witness = chain.claim_parts(EVE, "00" * 32)
        return transaction_to_plain(chain.sign(ALICE, "RECEIPT_CLAIM", payload, nonce=1, witness=witness))
    return transfer(chain)


@pytest.fixture
def app(chain: Chain, tmp_path: Path) -> Any:
    return create_app(
        NodeConfig(
            genesis=chain.document, data=tmp_path / "node", proposer=VALIDATOR, never_voted=True, faucet=FAUCET,
            synthetic_attester=SYNTHETIC, admin_token="the token",
        )
    )  # fmt: skip


@pytest.fixture
def local(app: Any) -> Iterator[TestClient]:
    token = {"authorization": "Bearer the token"}
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1), headers=token) as client:
        while client.get("/rpc/getHead").json()["height"] < 1:
            threading.Event().wait(0.01)
        yield client


def provoke(client: TestClient, chain: Chain, name: str, method: str, path: str, status: int) -> Any:
    """A request that must be refused like this."""
    where, body = url_of(path) + QUERIES.get(name, ""), good_body(name, chain) if method == "POST" else None
    if (name, status) in WRONG:
        return client.get(WRONG[name, status])
    if status == 422:
        wrong = "?wait=soon" if method == "POST" else "?limit=0"
        return client.request(method, url_of(path) + wrong, json=body)
    if status == 413:
        return client.post(where, content=b"[" + b" " * 5_000_000)
    if status == 408:
        return late(client.app, where)
    if status == 503:
        return refused_by_a_stopped_node(client, method, where, body)
    if status == 403:
        return client.post(where, json=body, headers={"origin": "https://evil.example"})
    if status == 400:
        return client.post(where, content=b"nonsense")
    return client.request(method, where, json=body)


def refused_by_a_stopped_node(client: TestClient, method: str, where: str, body: Any) -> Any:
    stopped = client.app.state.service.runtime.stopped  # type: ignore[attr-defined]
    stopped.set()
    try:
        return client.request(method, where, json=body)
    finally:
        stopped.clear()


def late(app: Any, where: str) -> Any:
    """A body that begins and does not go on."""
    import httpx2

    sent: list[Json] = []

    async def receive() -> Json:
        if not sent:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, query = where.partition("?")
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer the token")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        "scheme": "http", "http_version": "1.1", "root_path": "", "app": app,
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    headers = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    return httpx2.Response(sent[0]["status"], headers=headers, content=sent[1]["body"])


def test_every_declared_refusal_comes(
    local: TestClient, chain: Chain, document: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problems, "BODY_S", 0.01)
    special: dict[tuple[str, int], Callable[[], Any]] = {
        ("mint_faucet", 404): lambda: without_keys(local, "/admin/mintFaucet", GOOD_BODIES["mint_faucet"]),
        ("param_set", 409): lambda: without_keys(local, "/admin/paramSet", GOOD_BODIES["param_set"]),
    }
    seen = {}
    for method, path, name, status in CASES:
        ask = special.get((name, status))
        answer = ask() if ask else provoke(local, chain, name, method, path, status)
        assert answer.status_code == status, (name, path, status, answer.status_code, answer.text)
        seen[name, status] = problem(answer, document)["code"]
    assert len(seen) > 90
    assert {"malformed", "too_slow", "too_large", "node_stopped", "bad_parameter", "unknown_block"} <= set(
        seen.values()
    )


def without_keys(client: TestClient, path: str, body: Json) -> Any:
    import msgspec

    service = client.app.state.service  # type: ignore[attr-defined]
    config = service.config
    service.config = msgspec.structs.replace(config, faucet=None, proposer=None)
    try:
        return client.post(path, json=body)
    finally:
        service.config = config


def test_every_counted_route_refuses_who_asks_too_often_or_with_a_wrong_key(
    local: TestClient, app: Any, document: Json
) -> None:
    far = TestClient(app, base_url="http://127.0.0.1", client=("8.8.8.8", 1))
    for method, path, name in ROUTES:
        limits = Limits(requests=(0.01, 1), transactions=(1, 1), keys={"gold": 2})
        app.state.limits, app.guard = limits, limits.guard
        codes = [far.request(method, url_of(path)) for _ in range(2)][-1]
        if name in UNCOUNTED:
            assert codes.status_code == 200
            continue
        assert problem(codes, document)["code"] == "rate_limited"
        assert int(codes.headers["retry-after"]) > 1
        wrong = far.request(method, url_of(path), headers={"x-api-key": "brass"})
        assert (wrong.status_code, problem(wrong, document)["code"]) == (401, "bad_token")


def test_a_stopped_node_says_so_to_probes(local: TestClient, document: Json) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        answer = refused_by_a_stopped_node(local, "GET", path, None)
        assert answer.status_code == 503
        schema = document["paths"][path]["get"]["responses"]["503"]["content"]["application/json"]["schema"]
        assert_fits(answer.json(), schema, document)
