"""The RPC's OpenAPI document: what the framework knows of paths and parameters, with each answer's shape and each
refusal. A new route needs a line here; tests compare answers with it and provoke every refusal.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, get_args

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from aitbc.node.routes import ROUTERS, shapes

Json = dict[str, Any]
PLACE = "#/components/schemas/{name}"

COMMON = (401, 429)
"""Of every route but health: an X-Api-Key that is not known, and too many requests."""
BODY = (400, 408, 413)
READ = (503,)
PAGE = (400, 422, 503)


class Answer(NamedTuple):
    """What a route says."""

    shape: Any
    """A record, or the media type of a text."""
    refusals: Sequence[int] = ()
    others: Mapping[int, Any] = {}
    """Other answers by status that are no problem documents."""


ANSWERS: dict[str, Answer] = {
    "get_head": Answer(shapes.Head),
    "get_header": Answer(shapes.HeadHeader),
    "get_block": Answer(shapes.Block, (400, 404, 422, 503)),
    "get_block_count": Answer(shapes.Count),
    "get_blocks": Answer(shapes.HeaderPage, PAGE),
    "get_blocks_range": Answer(shapes.HeaderPage, PAGE),
    "get_transactions": Answer(shapes.TransactionPage, PAGE),
    "get_mempool": Answer(shapes.MempoolPage, PAGE),
    "get_balance": Answer(shapes.Account, (400,)),
    "get_account": Answer(shapes.WholeAccount, (400,)),
    "get_account_transactions": Answer(shapes.TransactionPage, PAGE),
    "get_accounts": Answer(shapes.AccountPage, (422, 503)),
    "get_genesis": Answer(shapes.Genesis),
    "get_genesis_allocations": Answer(shapes.AllocationPage, (422, 503)),
    "get_params": Answer(dict[str, Any]),
    "get_validators": Answer(shapes.Validators, PAGE),
    "get_supply": Answer(shapes.Supply),
    "get_registry": Answer(shapes.RegistryPage, (422, 503)),
    "get_job": Answer(shapes.Job, PAGE),
    "send_tx": Answer(
        shapes.TxHash | shapes.TransactionAnswer, (*BODY, 422, 503), {202: shapes.TransactionAnswer}
    ),
    "send_txs": Answer(shapes.Submitted, (*BODY, 503)),
    "get_tx": Answer(shapes.TransactionAnswer, (400, 404, 422, 503)),
    "estimate_fee": Answer(shapes.Fee, BODY),
    "submit_receipt": Answer(shapes.TxHash, (*BODY, 503)),
    "attest": Answer(shapes.Attested, (*BODY, 404)),
    "get_lock": Answer(shapes.Lock, (404,)),
    "get_receipt": Answer(shapes.Receipt, (404, 503)),
    "get_receipts": Answer(shapes.ReceiptPage, PAGE),
    "finality_of_block": Answer(shapes.Finality, (400, 404, 422, 503)),
    "proof_of_ancestor": Answer(shapes.AncestorProof, PAGE),
    "proof_of_record": Answer(shapes.RecordProof, PAGE),
    "mint_faucet": Answer(shapes.TxHash, (*BODY, 403, 404, 503)),
    "param_set": Answer(shapes.TxHash | shapes.SignedUpdate, (*BODY, 403, 409, 503)),
    "add_peer": Answer(shapes.PeerAdded, (*BODY, 403, 409)),
    "health": Answer(shapes.Health, (), {503: shapes.Health}),
    "live": Answer(shapes.Live, (), {503: shapes.Live}),
    "ready": Answer(shapes.Ready, (), {503: shapes.Ready}),
    "consensus": Answer(shapes.Consensus),
    "peers": Answer(list[shapes.Peer]),
    "sync_status": Answer(shapes.SyncStatus),
    "metrics": Answer("text/plain"),
    "post_transaction": Answer(shapes.UpstreamAnswer, (*BODY, 503)),
    "get_height": Answer(shapes.HeightAnswer),
    "get_info": Answer(shapes.Info),
    "get_chains": Answer(shapes.Chains),
}
"""By the name of the function that answers."""
LINKS: dict[str, tuple[str, str, str]] = {
    "send_tx": ("getTx", "tx_hash", "/txHash"),
    "mint_faucet": ("getTx", "tx_hash", "/txHash"),
    "param_set": ("getTx", "tx_hash", "/txHash"),
    "get_head": ("getBlock", "height_or_hash", "/hash"),
    "get_height": ("finality", "height", "/height"),
    "get_blocks": ("getBlocks", "cursor", "/next"),
    "get_transactions": ("getTransactions", "cursor", "/next"),
}
"""Function → (name of the operation that goes on from its answer, parameter, place in the answer)."""
LINKED = {
    "getTx": "get_tx_rpc_getTx__tx_hash__get",
    "getBlock": "get_block_rpc_getBlock__height_or_hash__get",
    "finality": "finality_of_block_rpc_finality__height__get",
    "getBlocks": "get_blocks_rpc_blocks_get",
    "getTransactions": "get_transactions_rpc_transactions_get",
}
UNCOUNTED = ("health", "live", "ready")
INTRODUCTION = (
    "A node's HTTP routes. Amounts are integers of base units (1 AIT = 1,000,000); totals above 2^53 - 1 are decimal"
    " strings. Errors are problem details (RFC 9457): `code` for programs, `fix` says what to do; docs/errors.md lists"
    " them. WebSockets are in docs/spec/rpc.md."
)


def describe(app: FastAPI) -> Callable[[], Json]:
    """A lazy `app.openapi`."""
    made: Json = {}

    def openapi() -> Json:
        if not made:
            made.update(document_of(app))
        return made

    return openapi


def document_of(app: FastAPI) -> Json:
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        description=INTRODUCTION,
        routes=app.routes,
    )
    schemas, components = _schemas()
    document["components"] = {
        "schemas": components,
        "securitySchemes": {
            "admin": {
                "type": "http",
                "scheme": "bearer",
                "description": "ADMIN_TOKEN; not needed by this machine on a devnet node that has none",
            },
            "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "for higher rates"},
        },
    }
    names = {(method, path): name for method, path, name in routes()}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(operation, names[method.upper(), path], path, schemas)
    return document


def routes() -> list[tuple[str, str, str]]:
    """(method, path, name of the function) of everything that is asked over HTTP and documented."""
    found = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    return [
        (method, route.path, route.name)
        for route in found
        if route.include_in_schema
        for method in sorted(route.methods or ())
    ]


def _complete(operation: Json, name: str, path: str, schemas: "Schemas") -> None:
    answer = ANSWERS[name]
    statuses = {200: answer.shape, **answer.others}
    responses = {
        str(status): {"description": _phrase(status), "content": _content(shape, schemas)}
        for status, shape in statuses.items()
    }
    common = () if name in UNCOUNTED else COMMON
    for status in sorted({*answer.refusals, *common}):
        if status in answer.others:
            continue
        responses[str(status)] = {
            "description": _phrase(status),
            "content": {"application/problem+json": {"schema": schemas(shapes.Problem)}},
        }
    if name in LINKS:
        target, parameter, place = LINKS[name]
        link = {"operationId": LINKED[target], "parameters": {parameter: f"$response.body#{place}"}}
        responses["200"]["links"] = {target: link}
    operation["responses"] = responses
    security: list[Json] = [{}, {"key": []}]
    operation["security"] = [*security, {"admin": []}] if path.startswith("/admin/") else security


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def _content(shape: Any, schemas: "Schemas") -> Json:
    if isinstance(shape, str):
        return {shape: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": schemas(shape)}}


Schemas = Callable[[Any], Json]

ALTERNATIVES = (shapes.TxHash | shapes.TransactionAnswer, shapes.TxHash | shapes.SignedUpdate)
"""Answers that have one of two shapes, by what was asked."""


def _schemas() -> tuple[Schemas, Json]:
    kinds: list[Any] = [shapes.Problem]
    for answer in ANSWERS.values():
        kinds += [kind for kind in (answer.shape, *answer.others.values()) if not isinstance(kind, str)]
    records = [
        kind for kind in vars(shapes).values() if isinstance(kind, type) and issubclass(kind, shapes.Shape)
    ]
    _, components = msgspec.json.schema_components([*records, *kinds_of(kinds)], ref_template=PLACE)

    def schema(kind: Any) -> Json:
        if kind in ALTERNATIVES:
            return {"anyOf": [schema(one) for one in get_args(kind)]}
        (found,), _ = msgspec.json.schema_components([kind], ref_template=PLACE)
        return dict(found)

    return schema, components


def kinds_of(kinds: Sequence[Any]) -> list[Any]:
    """Those that a schema can be made of as they are: a union of two records has no tag to tell them apart by."""
    return [kind for kind in kinds if kind not in ALTERNATIVES]
