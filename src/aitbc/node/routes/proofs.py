"""Proofs of records, of ancestors and of finality; `aitbc.client.state_proofs` and `aitbc.client.finality` check
them without the node's code."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request

from aitbc.node.proofs import prove_ancestor, prove_record
from aitbc.node.routes.shared import service_of

router = APIRouter(tags=["proofs"])
Json = dict[str, Any]
Height = Annotated[int, Path(ge=0, le=2**53 - 1)]


@router.get("/rpc/finality/{height}", summary="Why a block is final")
async def finality_of_block(request: Request, height: Height) -> Json:
    """The block's header and those above it up to the first one with a certificate, and the set that signed it."""
    return await service_of(request).finality(height)


@router.get("/rpc/proof/history/{height}", summary="Proof that a block is an ancestor of the head")
async def proof_of_ancestor(request: Request, height: Height) -> Json:
    runtime = service_of(request).runtime
    return await runtime.read(lambda: prove_ancestor(runtime.executor, runtime.store, height))


@router.get("/rpc/proof/{store}/{key}", summary="Proof of a record of the state, or of its absence")
async def proof_of_record(
    request: Request,
    store: Literal["accounts", "receipts", "locks", "validators", "registry", "params"],
    key: Annotated[str, Path(min_length=1, max_length=256)],
    height: Annotated[int | None, Query(ge=0, le=2**53 - 1)] = None,
) -> Json:
    """In the state of the head, or of a block at most 64 below it and not older than this node's start."""
    runtime = service_of(request).runtime
    return await runtime.on_state(lambda: prove_record(runtime.executor, runtime.store, store, key, height))
