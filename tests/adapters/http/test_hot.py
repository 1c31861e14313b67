"""The short way past the framework: the same answers, the same refusals, and a bug that is logged."""

import asyncio
from typing import Any

import pytest
from fastapi import APIRouter
from starlette.requests import Request
from starlette.testclient import TestClient

from aitbc.adapters.http.hot import HotApp
from aitbc.adapters.http.problems import on_bug, on_rejection, read_body
from aitbc.core.types.reasons import Reason, Rejected


async def echo(request: Request) -> dict[str, Any]:
    body = await read_body(request, 100)
    if body == b"refuse":
        raise Rejected(Reason.FEE_TOO_LOW, "one more, please")
    return {"said": 1 // len(body)}


@pytest.fixture
def app() -> HotApp:
    app = HotApp()
    app.add_exception_handler(Rejected, on_rejection)
    app.add_exception_handler(Exception, on_bug)
    router = APIRouter()
    router.post("/framework")(echo)
    router.post("/hot")(echo)
    app.include_router(router)
    app.hot = {("POST", "/hot"): echo}
    return app


@pytest.mark.parametrize("body", [b"x", b"refuse"])
def test_both_ways_answer_alike(app: HotApp, body: bytes) -> None:
    with TestClient(app) as client:
        answers = [client.post(path, content=body) for path in ("/hot", "/framework")]
    first, second = [(a.status_code, a.json(), a.headers["content-type"]) for a in answers]
    assert first == second


def test_other_methods_are_refused_by_the_framework(app: HotApp) -> None:
    with TestClient(app) as client:
        assert client.get("/hot").status_code == 405
        assert "post" in client.get("/openapi.json").json()["paths"]["/hot"]


def test_a_bug_is_one_line_for_the_client_and_raised_for_the_log(app: HotApp) -> None:
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/hot", content=b"")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    with TestClient(app) as client, pytest.raises(ZeroDivisionError):
        client.post("/hot", content=b"")


def test_who_has_left_is_not_answered(app: HotApp) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/hot", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert sent == []
