"""What the holder of an account sees and does: balance, deposits, usage. docs/spec/accounts.md"""

import csv
import io
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitbc.adapters.http.problems import Problem, read_body
from aitbc.core.codec.canonical import parse_json
from aitbc.core.types.receipts import HexHash
from aitbc.hub.accounts.deposits import take_deposit
from aitbc.hub.accounts.records import ApiKey, Session, Usage
from aitbc.hub.http import Route, json_answer
from aitbc.hub.hub import Hub

MAX_USAGE = 10_000
"""Rows of one export; the next begins at the last one's `at_ms`."""


class SessionView(msgspec.Struct, frozen=True):
    lock: str
    free: int
    places_left: int
    deliver_by_ms: int
    claim_until_ms: int


class AccountView(msgspec.Struct, frozen=True):
    account: str
    free: int
    """Base units that may be spent; sessions have their own."""
    held: int
    """Set aside for jobs under way."""
    sessions: list[SessionView]
    key: ApiKey | None
    """The key that asks; None for a signed request."""


class DepositRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tx: HexHash
    """A final TRANSFER, or a session JOB_LOCK, from the account's address to this hub."""


class Deposited(msgspec.Struct, frozen=True):
    tx: str
    amount: int
    new: bool
    """False: it was counted before."""


class UsageList(msgspec.Struct, frozen=True):
    rows: list[Usage]


async def get_account(request: Request) -> Response:
    """Balance, sessions and the key that asks."""
    hub: Hub = request.app.state.hub
    payer = await hub.accounts.payer(request, b"")
    account = await hub.accounts.db(hub.accounts.store.account, payer.account)
    sessions = [session_view(session) for session in account.sessions]
    keys = await hub.accounts.db(hub.accounts.store.keys, payer.account) if payer.key else []
    key = next((key for key in keys if payer.key and key.id == payer.key.id), None)
    return json_answer(AccountView(account.account, account.free, account.held, sessions, key))


def session_view(session: Session) -> SessionView:
    return SessionView(
        lock=session.lock,
        free=session.amount - session.committed,
        places_left=session.places - session.next_place,
        deliver_by_ms=session.deliver_by_ms,
        claim_until_ms=session.claim_until_ms,
    )


async def add_deposit(request: Request) -> Response:
    """Count a payment that is final on the chain; the same one again changes nothing. Anybody may tell: the money goes
    to the account of the address that sent it."""
    hub: Hub = request.app.state.hub
    body = await read_body(request, hub.config.max_body_bytes)
    payer = await hub.accounts.payer(request, body)
    asked = parse_json(body, DepositRequest, limit=hub.config.max_body_bytes)
    amount, new = await take_deposit(hub, asked.tx, account=payer.account)
    return json_answer(Deposited(asked.tx, amount, new))


async def get_usage(request: Request) -> Response:
    """The account's finished jobs, oldest first; `format=csv` or JSON, `from_ms` and `until_ms` bound them."""
    hub: Hub = request.app.state.hub
    payer = await hub.accounts.payer(request, b"")
    return await usage_answer(hub, request, account=payer.account)


async def usage_answer(hub: Hub, request: Request, *, account: str) -> Response:
    from_ms, until_ms = _number(request, "from_ms", 0), _number(request, "until_ms", 2**62)
    rows = await hub.accounts.db(
        hub.accounts.store.usage, account=account, from_ms=from_ms, until_ms=until_ms, limit=MAX_USAGE
    )
    if request.query_params.get("format", "json") == "csv":
        return Response(_csv(rows), media_type="text/csv; charset=utf-8")
    return json_answer(UsageList(rows))


def _csv(rows: Sequence[Usage]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(Usage.__struct_fields__)
    writer.writerows([[_cell(getattr(row, name)) for name in Usage.__struct_fields__] for row in rows])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is told that it is a text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_request", f"{name} is {text[:40]!r}", "give milliseconds")
    return int(text)


ROUTES = [
    Route("GET", "/v1/account", get_account, "Balance and sessions", AccountView, refusals=(401,), key=True),
    Route(
        "POST",
        "/v1/account/deposits",
        add_deposit,
        "Count a payment on the chain",
        Deposited,
        body=DepositRequest,
        refusals=(400, 401, 409, 503),
        key=True,
    ),
    Route(
        "GET", "/v1/usage", get_usage, "Finished jobs, JSON or CSV", UsageList, refusals=(400, 401), key=True
    ),
]
