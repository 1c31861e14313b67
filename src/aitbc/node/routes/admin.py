"""Admin routes: they submit ordinary transactions and never edit state; for who has the token."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request

from aitbc.adapters.http.problems import Problem, read_body
from aitbc.core.codec.canonical import convert, jcs, parse_jcs, plain_json
from aitbc.core.codec.digests import param_update_digest, transaction_id
from aitbc.core.ledger.fees import required_fee
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.param_update import Approvals, ParamUpdate, check
from aitbc.core.ledger.validators import validators_of
from aitbc.core.peer.addresses import numeric_where
from aitbc.core.types.amounts import Amount
from aitbc.core.types.blocks import Validator
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import MAX_SIGNATURE_BYTES, Transaction
from aitbc.node.access import check_admin
from aitbc.node.routes.shared import body_of, service_of
from aitbc.node.service import NodeService
from aitbc.ports import Signer

router = APIRouter(tags=["admin"])
Json = dict[str, Any]
MAX_ADMIN_BYTES = 4096
MAX_PARAMS_BYTES = 16 * 1024
MAX_APPROVALS = 53
"""As many as a validator set has members."""

log = logging.getLogger("aitbc.node")


class FaucetWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: str
    amount: Amount


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A validator's signature under an update, as `submit: false` answers it."""

    validator: Annotated[str, msgspec.Meta(max_length=64)]
    sig: Annotated[str, msgspec.Meta(max_length=2 * MAX_SIGNATURE_BYTES)]


class ParamWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One by `key` and `value`, or several in `set`."""

    key: Annotated[str, msgspec.Meta(max_length=64)] = ""
    value: Any = None
    set: dict[str, Any] = {}
    approvals: Annotated[list[Approval], msgspec.Meta(max_length=MAX_APPROVALS)] = []
    """Of other validators."""
    submit: bool = True
    """False: only sign, for whoever submits."""


class PeerWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    addr: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]


def _check(request: Request, service: NodeService) -> None:
    check_admin(request, service.config, devnet=bool(service.runtime.executor.loaded.genesis.params.devnet))


@router.post("/admin/mintFaucet", summary="Devnet coins (seed 000 §22)", openapi_extra=body_of(FaucetWish))
@router.post("/admin/mint_faucet", openapi_extra=body_of(FaucetWish))
async def mint_faucet(request: Request) -> Json:
    """Submits a FAUCET transaction signed with the devnet's faucet key."""
    service = service_of(request)
    _check(request, service)
    signer = _faucet_signer(service)
    wish = convert(plain_json(await read_body(request, MAX_ADMIN_BYTES)), FaucetWish)
    payload = jcs({"to": wish.address, "amount": wish.amount})
    return await _submit(request, signer, "FAUCET", payload, fee=0)


@router.post(
    "/admin/paramSet", summary="Change chain parameters (PARAM_UPDATE)", openapi_extra=body_of(ParamWish)
)
@router.post("/admin/param_set", openapi_extra=body_of(ParamWish))
async def param_set(request: Request) -> Json:
    """Submits a PARAM_UPDATE with the approval of this node's validator and those in `approvals`; with `submit: false`
    answers `{payload, approval}`, for the validator that collects them. It counts from the next epoch on."""
    service = service_of(request)
    _check(request, service)
    signer = _authority(service)
    wish = convert(plain_json(await read_body(request, MAX_PARAMS_BYTES)), ParamWish)
    changes = {**wish.set, **({wish.key: wish.value} if wish.key else {})}
    if not changes:
        raise Rejected(Reason.MISSING_FIELD, "give `key` and `value`, or `set`")
    state = service.runtime.executor.state
    payload = jcs({"number": Overlay(state).number("updates.count") + 1, "set": changes})
    check(parse_jcs(payload, ParamUpdate), Approvals(bitmap=1, sigs=[]), service.runtime.genesis_hash)
    own = signer.sign(param_update_digest(payload, service.runtime.genesis_hash)).hex()
    if not wish.submit:
        approval = {"validator": _member_of(service, signer).address, "sig": own}
        return {"payload": plain_json(payload), "approval": approval}
    given = {approval.validator: approval.sig for approval in wish.approvals}
    approvals = _approvals(service, {**given, _member_of(service, signer).address: own})
    sender = _payer(service, signer, payload)
    fee = required_fee(state.params, len(payload), sender.auth_key)
    return await _submit(request, sender, "PARAM_UPDATE", payload, fee=fee, witness=jcs(approvals))


@router.post("/admin/peers/add", summary="Name a node to talk to", openapi_extra=body_of(PeerWish))
async def add_peer(request: Request) -> Json:
    """It is dialled at once, and goes into the address book."""
    service = service_of(request)
    _check(request, service)
    wish = convert(plain_json(await read_body(request, MAX_ADMIN_BYTES)), PeerWish)
    where = numeric_where(wish.addr.removeprefix("ws://").rstrip("/"))
    if where is None:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "bad_peer",
            f"{wish.addr} is no numeric address with a port",
            "give it like 203.0.113.7:7070 or [2001:db8::7]:7070",
        )
    network = service.runtime.neighbours
    if network is None:
        raise Problem(
            HTTPStatus.CONFLICT,
            "no_network",
            "this node talks to no others",
            "start it with --p2p-port, --peer or --bootstrap",
        )
    network.name_peer(where)
    log.info("peer named: %s", where, extra={"component": "admin", "event": "peer_added"})
    return {"added": where}


def _faucet_signer(service: NodeService) -> Signer:
    if service.config.faucet is None or not service.runtime.executor.state.params.devnet:
        raise Problem(
            HTTPStatus.NOT_FOUND,
            "not_devnet",
            "this chain has no faucet",
            "earn or receive coins, or use a devnet",
        )
    return service.config.faucet


def _authority(service: NodeService) -> Signer:
    """This node's key, while it is in the validator set."""
    signer = service.config.proposer
    members = [member.auth_key for member in validators_of(service.runtime.executor.state)]
    if signer is None or signer.auth_key not in members:
        raise Problem(
            HTTPStatus.CONFLICT,
            "not_authority",
            "this node has no key of the running validator set",
            "ask a validator's node",
        )
    return signer


def _member_of(service: NodeService, signer: Signer) -> Validator:
    """As which member of the set it signs: an account's key need not be the one that its address is made of."""
    members = validators_of(service.runtime.executor.state)
    return next(member for member in members if member.auth_key == signer.auth_key)


def _approvals(service: NodeService, given: Mapping[str, str]) -> Json:
    """In set order, as the witness wants them."""
    members = [member.address for member in validators_of(service.runtime.executor.state)]
    strangers = given.keys() - set(members)
    if strangers:
        raise Rejected(Reason.BAD_APPROVAL, f"{min(strangers)} is not in the validator set")
    places = [place for place, address in enumerate(members) if address in given]
    return {
        "bitmap": sum(1 << place for place in places),
        "sigs": [given[members[place]] for place in places],
    }


def _payer(service: NodeService, authority: Signer, payload: bytes) -> Signer:
    """Who can pay the fee: the validator, or the devnet's faucet account."""
    state = service.runtime.executor.state
    for signer in (authority, service.config.faucet):
        if signer is not None:
            fee = required_fee(state.params, len(payload), signer.auth_key)
            if state.account(signer.address).balance >= fee:
                return signer
    return authority


async def _submit(
    request: Request, signer: Signer, kind: str, payload: bytes, *, fee: int, witness: bytes = b""
) -> Json:
    """With the signer's next nonce; one after the other, so that no two take the same."""
    service = service_of(request)
    async with request.app.state.admin_turn:
        nonce = service.account(signer.address)["nextNonce"]
        unsigned = Transaction(kind, signer.address, nonce, fee, payload, signer.auth_key, b"", witness)
        sig = signer.sign(transaction_id(unsigned, service.runtime.genesis_hash))
        tx_id = await service.runtime.submit(msgspec.structs.replace(unsigned, sig=sig))
    log.info("%s submitted", kind, extra={"component": "admin", "event": "submitted", "tx": tx_id.hex()})
    return {"txHash": tx_id.hex()}
