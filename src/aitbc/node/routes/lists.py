"""What is newest, what waits, and what is known of a job: pages. docs/spec/rpc.md"""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from aitbc.core.codec.views import big_integer, transaction_to_plain
from aitbc.core.crypto.address import check_address
from aitbc.core.ledger.state import State
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import Account, Lock
from aitbc.node.history import MAX_PAGE, blocks_between, newest_blocks, newest_transactions, receipts_page
from aitbc.node.routes.shared import built_beside, service_of
from aitbc.node.runtime import NodeRuntime

router = APIRouter(tags=["chain"])
Json = dict[str, Any]
Cursor = Annotated[str, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Height = Annotated[int, Query(ge=0, le=2**53 - 1)]


@router.get("/rpc/getBlockCount", summary="How many blocks there are, the first one too")
@router.get("/rpc/get_block_count")
async def get_block_count(request: Request) -> Json:
    return {"count": service_of(request).head()["height"] + 1}


@router.get("/rpc/blocks", summary="The newest blocks' headers")
async def get_blocks(request: Request, cursor: Cursor = "", limit: Limit = 20) -> Response:
    """The newest first; `next` is the `cursor` of the page that follows."""
    runtime = service_of(request).runtime
    height = runtime.executor.head.block.header.height
    return await built_beside(runtime.read, lambda: newest_blocks(runtime.store, height, cursor, limit))


@router.get("/rpc/blocks-range", summary="Headers from a height to another, at most a hundred")
async def get_blocks_range(request: Request, start: Height, end: Height) -> Response:
    runtime = service_of(request).runtime
    if not 0 <= end - start < MAX_PAGE:
        raise Rejected(Reason.OUT_OF_RANGE, f"end is from start to start + {MAX_PAGE - 1}")
    last = min(end, runtime.executor.head.block.header.height)
    return await built_beside(runtime.read, lambda: blocks_between(runtime.store, start, last))


@router.get("/rpc/transactions", summary="The newest transactions that are in blocks")
async def get_transactions(request: Request, cursor: Cursor = "", limit: Limit = 20) -> Response:
    """The newest block first, each block's in its own order."""
    runtime = service_of(request).runtime
    height = runtime.executor.head.block.header.height
    return await built_beside(
        runtime.read_much,
        lambda: newest_transactions(runtime.store, runtime.standing, height, cursor, limit),
    )


@router.get("/rpc/mempool", summary="Transactions that wait")
async def get_mempool(
    request: Request,
    sender: Annotated[str, Query(max_length=64)] = "",
    cursor: Cursor = "",
    limit: Limit = 50,
) -> Response:
    """By sender and nonce; `sender`: of one account only."""
    if sender:
        check_address(sender)
    runtime = service_of(request).runtime
    return await built_beside(runtime.read_much, lambda: mempool_page(runtime, sender, cursor, limit))


def mempool_page(runtime: NodeRuntime, sender: str, cursor: str, limit: int) -> Json:
    """Looks at every sender, so it waits with whoever else reads much."""
    pool = runtime.replica.mempool
    after, _, nonce = cursor.partition(".")
    if cursor and not (nonce.isascii() and nonce.isdigit() and len(nonce) <= 16):
        raise Rejected(Reason.MALFORMED, f"{cursor[:60]!r} is no cursor: send `next` of the page before")
    place = (after, int(nonce)) if cursor else ("", 0)
    if sender:
        waiting = [tx for tx in pool.lane(sender) if (sender, tx.tx.nonce) > place]
    else:
        waiting = pool.page(place, limit + 1)
    items = [{"txHash": tx.id.hex(), **transaction_to_plain(tx.tx)} for tx in waiting[:limit]]
    last = waiting[limit - 1].tx if len(waiting) > limit else None
    return {
        "count": len(pool),
        "bytes": pool.total_bytes,
        "items": items,
        "next": f"{last.sender}.{last.nonce}" if last else None,
    }


@router.get("/rpc/accounts", summary="Accounts of the head, in address order")
@router.get("/rpc/state/snapshot", summary="The same, by upstream's name")
async def get_accounts(
    request: Request, after: Annotated[str, Query(max_length=64)] = "", limit: Limit = 50
) -> Response:
    """`next` is the `after` of the page that follows. Each page is of the head that it names."""
    service = service_of(request)
    head, state = service.head(), service.runtime.executor.state
    return await built_beside(
        service.runtime.read_much,
        lambda: {
            "height": head["height"],
            "hash": head["hash"],
            "stateRoot": service.runtime.executor.head.block.header.state_root.hex(),
            **accounts_page(state, after, limit),
        },
    )


def accounts_page(state: State, after: str, limit: int) -> Json:
    """Looks at every address, so it waits with whoever else reads much."""
    keys = sorted([key for key in list(state.data["accounts"]) if key > after])[: limit + 1]
    items = []
    for key in keys[:limit]:
        account = state.get("accounts", key)
        if isinstance(account, Account):
            items.append({"address": key, "balance": big_integer(account.balance), "nonce": account.nonce})
    return {"items": items, "next": keys[limit - 1] if len(keys) > limit else None}


@router.get("/rpc/jobs/{job_id}", summary="What the chain knows of a job")
async def get_job(request: Request, job_id: str, cursor: Cursor = "", limit: Limit = 50) -> Response:
    """Its paid receipts, the newest first, and the escrows that paid them as long as the state has them."""
    runtime = service_of(request).runtime
    state = runtime.executor.state

    def page() -> Json:
        found = receipts_page(runtime.store, "job", job_id, cursor, limit)
        names = list(dict.fromkeys(receipt["lock"] for receipt in found["items"] if receipt["lock"]))
        locks = [(name, record) for name in names if isinstance(record := state.get("locks", name), Lock)]
        return {
            "job_id": job_id,
            "receipts": found["items"],
            "locks": [lock_view(name, record) for name, record in locks],
            "next": found["next"],
        }

    return await built_beside(runtime.read, page)


def lock_view(key: str, record: Lock) -> Json:
    return {"id": key, **msgspec.structs.asdict(record)}
