"""Names by which the public ancestor of this project knows what is here under the seeds' names. docs/spec/rpc.md"""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request, Response

from aitbc.adapters.http.problems import read_body
from aitbc.core.codec.canonical import convert, plain_json
from aitbc.core.codec.views import MAX_TRANSACTION_JSON, transaction_from_plain
from aitbc.core.ledger.elector import mode_of
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node.limits import Limits
from aitbc.node.routes import chain, status, transactions
from aitbc.node.routes.shared import body_of, built_beside, service_of

router = APIRouter(tags=["upstream"])
Json = dict[str, Any]

router.add_api_route("/rpc/head", chain.get_header, methods=["GET"], summary="As get_head")
router.add_api_route("/rpc/blocks/{height_or_hash}", chain.get_block, methods=["GET"], summary="As getBlock")
router.add_api_route("/rpc/transaction/{tx_hash}", transactions.get_tx, methods=["GET"], summary="As getTx")
router.add_api_route("/rpc/accounts/{address}", chain.get_account, methods=["GET"], summary="As account")
router.add_api_route("/metrics", status.metrics, methods=["GET"], summary="As /rpc/metrics")


class UpstreamTransaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Upstream's names of the fields; what is signed are this chain's bytes."""

    nonce: int
    fee: int
    signature: str
    sender: str = msgspec.field(name="from")
    to: str = ""
    amount: int = 0
    type: str = "TRANSFER"
    payload: dict[str, Any] = {}
    pubkey: str = ""
    chain_id: str = ""


@router.post(
    "/rpc/transaction",
    summary="Submit a transaction in upstream's shape",
    openapi_extra=body_of(UpstreamTransaction),
)
async def post_transaction(request: Request) -> Json:
    """`from, to, amount, fee, nonce, type, payload, signature, pubkey, chain_id`; `to` and `amount` make the payload of
    a TRANSFER when there is none."""
    service = service_of(request)
    wish = convert(plain_json(await read_body(request, MAX_TRANSACTION_JSON)), UpstreamTransaction)
    chain_id = service.head()["chainId"]
    if wish.chain_id not in ("", chain_id):
        raise Rejected(Reason.WRONG_CHAIN, f"this is {chain_id}, not {wish.chain_id[:64]}")
    plain = {
        "type": wish.type.upper(),
        "sender": wish.sender,
        "nonce": wish.nonce,
        "fee": wish.fee,
        "payload": wish.payload or {"to": wish.to, "amount": wish.amount},
        "sig": wish.signature.removeprefix("0x"),
        **({"pubkey": wish.pubkey} if wish.pubkey else {}),
    }
    limits: Limits = request.app.state.limits
    with limits.one_transaction(request):
        tx_id = await service.runtime.submit(transaction_from_plain(plain))
    return {"success": True, "transaction_hash": tx_id.hex(), "message": "it waits for a block"}


@router.get("/rpc/height", summary="Height of the newest final block")
async def get_height(request: Request) -> Json:
    return {"height": service_of(request).head()["height"]}


@router.get("/rpc/info", summary="Which chain, how far, with whom")
@router.get("/rpc/status", summary="The same")
async def get_info(request: Request) -> Json:
    from aitbc import __version__

    service = service_of(request)
    runtime = service.runtime
    return {
        **service.head(),
        "version": __version__,
        "mode": mode_of(runtime.executor.state),
        "peers": runtime.neighbours.peers if runtime.neighbours else 0,
        "mempool": len(runtime.replica.mempool),
        "validating": runtime.validates,
    }


@router.get("/rpc/chains", summary="The chains that this node has: one")
async def get_chains(request: Request) -> Json:
    head = service_of(request).head()
    return {
        "items": [
            {"chain_id": head["chainId"], "genesis_hash": head["genesisHash"], "height": head["height"]}
        ]
    }


@router.get("/rpc/genesis_allocations", summary="What genesis gave to whom")
async def get_genesis_allocations(
    request: Request,
    after: Annotated[str, chain.AFTER] = "",
    limit: chain.PageLimit = 50,
) -> Response:
    """In address order; `next` is the `after` of the page that follows."""
    runtime = service_of(request).runtime
    given = runtime.executor.loaded.genesis.accounts

    def page() -> Json:
        accounts = sorted(
            [account for account in given if account.address > after], key=lambda account: account.address
        )
        items = [{"address": one.address, "balance": one.balance} for one in accounts[:limit]]
        return {"items": items, "next": items[-1]["address"] if len(accounts) > limit else None}

    return await built_beside(runtime.read_much, page)
