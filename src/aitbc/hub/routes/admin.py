"""The operator's routes: keys, credit, everybody's usage. docs/spec/accounts.md"""

import secrets
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitbc.adapters.http.problems import read_body
from aitbc.core.codec.canonical import parse_json
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.hub.accounts import ledger
from aitbc.hub.accounts.records import ApiKey
from aitbc.hub.admin import check_admin
from aitbc.hub.http import Route, json_answer
from aitbc.hub.hub import Hub
from aitbc.hub.routes.account import AccountView, UsageList, session_view, usage_answer

MAX_MODELS = 64

Positive = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIGNED)]
Name = Annotated[str, msgspec.Meta(max_length=128)]


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    account: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.-]{0,64}\Z")] = ""
    """An AIT address, or a name that the operator chooses; empty: a new name."""
    label: Name = ""
    budget: Positive | None = None
    rpm: Positive | None = None
    tpm: Positive | None = None
    models: Annotated[list[Name], msgspec.Meta(max_length=MAX_MODELS)] = []
    expires_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIGNED)] = 0


class KeyMade(msgspec.Struct, frozen=True):
    api_key: str
    """Shown once; the hub keeps its hash only."""
    key: ApiKey


class KeyList(msgspec.Struct, frozen=True):
    keys: list[ApiKey]


class KeyRevoked(msgspec.Struct, frozen=True):
    id: str


class CreditRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    amount: Annotated[int, msgspec.Meta(ge=-MAX_SIGNED, le=MAX_SIGNED)]
    """Base units; a negative amount takes back what is free."""
    name: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.-]{0,64}\Z")] = ""
    """Of this grant: the same name again changes nothing; empty: a new one."""


class Credited(msgspec.Struct, frozen=True):
    account: str
    name: str
    new: bool
    free: int


async def make_key(request: Request) -> Response:
    """A new API key; its text is in this answer and nowhere else."""
    hub = _hub(request)
    body = await read_body(request, hub.config.max_body_bytes)
    asked = parse_json(body, KeyRequest, limit=hub.config.max_body_bytes)
    key, text = await hub.accounts.make_key(
        account=asked.account or f"acct_{secrets.token_hex(8)}",
        label=asked.label,
        budget=asked.budget,
        rpm=asked.rpm,
        tpm=asked.tpm,
        models=asked.models,
        expires_ms=asked.expires_ms,
    )
    return json_answer(KeyMade(text, key), 201)


async def list_keys(request: Request) -> Response:
    """All keys, or those of `?account=`; never their texts."""
    hub = _hub(request)
    account = request.query_params.get("account", "")
    return json_answer(KeyList(await hub.accounts.db(hub.accounts.store.keys, account)))


async def revoke_key(request: Request) -> Response:
    """From now on the key is refused; jobs under way are finished."""
    hub = _hub(request)
    key_id = request.path_params["key_id"]
    await hub.accounts.revoke_key(key_id)
    return json_answer(KeyRevoked(key_id))


async def account_of(request: Request) -> Response:
    """Balance and sessions of an account."""
    hub = _hub(request)
    account = await hub.accounts.db(hub.accounts.store.account, request.path_params["account"])
    sessions = [session_view(session) for session in account.sessions]
    return json_answer(AccountView(account.account, account.free, account.held, sessions, None))


async def add_credit(request: Request) -> Response:
    """Give an account credit that the operator answers for: the hub's own coins pay the providers."""
    hub = _hub(request)
    body = await read_body(request, hub.config.max_body_bytes)
    asked = parse_json(body, CreditRequest, limit=hub.config.max_body_bytes)
    account, name = request.path_params["account"], asked.name or secrets.token_hex(8)
    store, db = hub.accounts.store, hub.accounts.db
    event = ledger.granted(name=f"{account}:{name}", account=account, amount=asked.amount)
    new = await db(store.post, event, at_ms=hub.now_ms())
    hub.accounts.keeper.needed = True
    return json_answer(Credited(account, name, new, (await db(store.account, account)).free))


async def all_usage(request: Request) -> Response:
    """Everybody's finished jobs, or those of `?account=`; JSON or `format=csv`."""
    hub = _hub(request)
    return await usage_answer(hub, request, account=request.query_params.get("account", ""))


def _hub(request: Request) -> Hub:
    hub: Hub = request.app.state.hub
    check_admin(request, hub.admin_token)
    return hub


_KEYS, _ACCOUNT = "/admin/keys", "/admin/accounts/{account}"

ROUTES = [
    Route(
        "POST",
        _KEYS,
        make_key,
        "Make an API key",
        KeyMade,
        body=KeyRequest,
        status=201,
        refusals=(400, 403, 413),
        admin=True,
    ),
    Route("GET", _KEYS, list_keys, "API keys", KeyList, refusals=(403,), admin=True),
    Route(
        "DELETE",
        _KEYS + "/{key_id}",
        revoke_key,
        "Revoke an API key",
        KeyRevoked,
        refusals=(403, 404),
        admin=True,
    ),
    Route("GET", _ACCOUNT, account_of, "An account", AccountView, refusals=(403,), admin=True),
    Route(
        "POST",
        _ACCOUNT + "/credit",
        add_credit,
        "Give credit",
        Credited,
        body=CreditRequest,
        refusals=(400, 402, 403, 413),
        admin=True,
    ),
    Route(
        "GET", "/admin/usage", all_usage, "Usage of all accounts", UsageList, refusals=(400, 403), admin=True
    ),
]
