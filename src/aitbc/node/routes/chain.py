"""Reads of the chain: head, blocks, accounts, parameters (seed 000 §9.1; seed 001's spelling beside it)."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response

from aitbc.core.crypto.address import check_address
from aitbc.node.history import MAX_PAGE, account_page
from aitbc.node.registry import registered, registry_page
from aitbc.node.routes.shared import built_beside, service_of

router = APIRouter(tags=["chain"])
MAX_BLOCK_PAGE = 1_000
"""Transaction ids in one answer; few blocks hold more. Those of a block with more than a usual page take 40 ms, so they
wait with whoever else reads much."""
Json = dict[str, Any]
AFTER = Query(max_length=64)
PageLimit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


@router.get("/rpc/getHead", summary="The newest final block")
async def get_head(request: Request) -> Json:
    return service_of(request).head()


@router.get("/rpc/get_head", summary="The newest final block's header")
async def get_header(request: Request) -> Json:
    """What getHead says, and the whole header (seed 001)."""
    return service_of(request).header()


@router.get("/rpc/getBlock/{height_or_hash}", summary="A block by height or hash")
@router.get("/rpc/get_block/{height_or_hash}")
async def get_block(
    request: Request,
    height_or_hash: str,
    start: Annotated[int, Query(ge=0, le=2**53 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_BLOCK_PAGE)] = MAX_BLOCK_PAGE,
    full: bool = False,
) -> Response:
    """`txs` from position `start` on; `next` is the `start` of the page that follows. With `full` also the page's
    transactions and the accounts that they touched, a hundred transactions at most (seed 002)."""
    service, few = service_of(request), min(limit, MAX_PAGE)
    if full:
        view, touched = await service.runtime.read(
            lambda: service.whole_block(height_or_hash, start=start, limit=few)
        )
        view |= service.accounts_after(view["height"], touched)
        return Response(msgspec.json.encode(view), media_type="application/json")
    page = await service.runtime.read(lambda: service.block(height_or_hash, start=start, limit=few))
    if page["next"] is None or limit == few:
        return Response(msgspec.json.encode(page), media_type="application/json")
    return await built_beside(
        service.runtime.read_much, lambda: service.block(height_or_hash, start=start, limit=limit)
    )


@router.get("/rpc/getBalance/{address}", summary="Balance in base units and nonce")
@router.get("/rpc/get_balance/{address}")
async def get_balance(request: Request, address: str) -> Json:
    account = service_of(request).account(address)
    return {name: account[name] for name in ("address", "balance", "nonce")}


@router.get("/rpc/account/{address}", summary="An account with its key and its next nonce")
@router.get("/rpc/getAccount/{address}")
@router.get("/rpc/get_account/{address}")
async def get_account(request: Request, address: str) -> Json:
    return service_of(request).account(address)


@router.get("/rpc/account/{address}/transactions", summary="What an account did and what happened to it")
async def get_account_transactions(
    request: Request,
    address: str,
    cursor: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> Response:
    """The newest first; `next` is the `cursor` of the page that follows."""
    check_address(address)
    runtime = service_of(request).runtime
    return await built_beside(
        runtime.read, lambda: account_page(runtime.store, runtime.standing, address, cursor, limit)
    )


@router.get("/rpc/genesis", summary="The genesis document, in its canonical bytes")
async def get_genesis(request: Request) -> Response:
    loaded = service_of(request).runtime.executor.loaded
    headers = {"AIT-Genesis-Hash": loaded.hash.hex()}
    return Response(loaded.document, media_type="application/json", headers=headers)


@router.get("/rpc/params", summary="Chain parameters")
async def get_params(request: Request) -> Json:
    return service_of(request).params()


@router.get("/rpc/validators", summary="The validator set that decides a block")
async def get_validators(
    request: Request, height: Annotated[int | None, Query(ge=0, le=2**53 - 1)] = None
) -> Json:
    """By default of the next block."""
    return await service_of(request).validators(height)


@router.get("/rpc/supply", summary="Where every coin came from, in base units")
async def get_supply(request: Request) -> Json:
    return service_of(request).supply()


@router.get("/rpc/registry", summary="Registered providers or hubs")
async def get_registry(
    request: Request,
    role: Literal["provider", "hub"] = "provider",
    address: Annotated[str, Query(max_length=64)] = "",
    after: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> Response:
    """One by `address`, or a page in address order; `next` is the `after` of the page that follows."""
    state = service_of(request).runtime.executor.state
    found = registered(state, role, address=address, after=after, limit=limit + 1)
    return await built_beside(service_of(request).runtime.read, lambda: registry_page(role, found, limit))
