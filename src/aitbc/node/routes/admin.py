"""Admin routes: they submit ordinary transactions and never edit state; devnet genesis and loopback only."""

import ipaddress
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter, Request

from aitbc.adapters.http.problems import Problem, read_body
from aitbc.core.codec.canonical import convert, jcs, plain_json
from aitbc.core.codec.digests import transaction_id
from aitbc.core.types.amounts import Amount
from aitbc.core.types.transactions import Transaction
from aitbc.node.routes.shared import service_of
from aitbc.node.service import NodeService
from aitbc.ports import Signer

router = APIRouter(tags=["admin"])
Json = dict[str, Any]
MAX_ADMIN_BYTES = 4096


class FaucetWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: str
    amount: Amount


@router.post("/admin/mintFaucet", summary="Devnet coins (seed 000 §22)")
@router.post("/admin/mint_faucet", include_in_schema=False)
async def mint_faucet(request: Request) -> Json:
    """Submits a FAUCET transaction signed with the devnet's faucet key."""
    service = service_of(request)
    signer = _faucet_signer(request, service)
    wish = convert(plain_json(await read_body(request, MAX_ADMIN_BYTES)), FaucetWish)
    payload = jcs({"to": wish.address, "amount": wish.amount})
    async with request.app.state.faucet_turn:
        nonce = service.account(signer.address)["nextNonce"]
        tx_id = await service.runtime.submit(_signed(service, signer, payload, nonce))
    return {"txHash": tx_id.hex()}


def _faucet_signer(request: Request, service: NodeService) -> Signer:
    if not _is_loopback(request):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "loopback_only",
            "admin routes answer on loopback only",
            "call from the machine",
        )
    if request.headers.get("origin"):
        raise Problem(
            HTTPStatus.FORBIDDEN, "no_browsers", "admin routes do not answer web pages", "use curl or the CLI"
        )
    if service.config.faucet is None or not service.runtime.executor.state.params.devnet:
        raise Problem(
            HTTPStatus.NOT_FOUND,
            "not_devnet",
            "this chain has no faucet",
            "earn or receive coins, or use a devnet",
        )
    return service.config.faucet


def _is_loopback(request: Request) -> bool:
    host = request.client.host if request.client else ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _signed(service: NodeService, signer: Signer, payload: bytes, nonce: int) -> Transaction:
    unsigned = Transaction("FAUCET", signer.address, nonce, 0, payload, signer.auth_key, b"")
    sig = signer.sign(transaction_id(unsigned, service.runtime.executor.loaded.hash))
    return msgspec.structs.replace(unsigned, sig=sig)
