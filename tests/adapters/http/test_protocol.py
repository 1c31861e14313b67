"""A server under strangers' hands: what comes in is bounded in bytes, time and number, and refused by name."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.websockets import websockets_sansio_impl
from websockets.asyncio.client import connect

from aitbc.adapters.http import problems, protocol
from aitbc.adapters.http.problems import Problem, on_problem, read_body
from aitbc.adapters.http.serving import QuietServer, http_settings, listen

LONG = 50_000_000
GET = b"GET / HTTP/1.1\r\nhost: h\r\n"


async def echo(request: Request) -> JSONResponse:
    return JSONResponse({"bytes": len(await read_body(request, 1_000_000))})


async def now(_request: Request) -> JSONResponse:
    """Does not read its body."""
    return JSONResponse({})


async def long(_request: Request) -> Response:
    """More than the system's buffers hold."""
    return Response(b"x" * LONG)


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[int]:
    app = Starlette(
        routes=[
            Route("/", echo, methods=["GET", "POST"]),
            Route("/now", now),
            Route("/long", long),
            WebSocketRoute("/repeat", repeat),
        ],
        exception_handlers={Problem: on_problem},
    )
    server = QuietServer(
        http_settings(
            app, lifespan="off", ws="websockets-sansio", timeout_graceful_shutdown=1, timeout_keep_alive=1
        )
    )
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield port
        server.should_exit = True
        await running


async def say(port: int, *chunks: bytes, pause_s: float = 0.0) -> tuple[int, dict[str, Any]]:
    """Send, then read the one answer; (status, body)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(pause_s)
        return await answer(reader)
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    lines = head.decode().lower().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
    body = await asyncio.wait_for(reader.readexactly(length), 5)
    return int(lines[0].split()[1]), json.loads(body)


def run(story: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with served() as port:
            await story(port)

    asyncio.run(whole())


def test_a_request_in_bounds_is_answered() -> None:
    async def story(port: int) -> None:
        assert await say(port, GET + b"x: " + b"y" * 60_000 + b"\r\n\r\n") == (200, {"bytes": 0})
        body = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 900000\r\n\r\n" + b"z" * 900_000
        assert await say(port, body) == (200, {"bytes": 900_000}), "a long body is no long header"

    run(story)


def test_headers_have_a_size_in_one_piece_in_many_and_in_the_second_request() -> None:
    async def story(port: int) -> None:
        status, problem = await say(port, GET + b"x: " + b"y" * 200_000 + b"\r\n\r\n")
        assert (status, problem["code"]) == (431, "too_large")
        status, problem = await say(port, GET, *[b"a: b\r\n" * 1_000] * 100)
        assert (status, problem["code"]) == (431, "too_large")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(GET + b"x: " + b"y" * 40_000 + b"\r\n\r\n")
            assert (await answer(reader))[0] == 200, "each request counts for itself"
        writer.write(GET + b"x: " + b"y" * 70_000)
        assert (await answer(reader))[0] == 431
        writer.close()

    run(story)


def test_headers_have_a_time_from_the_connection_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)

    async def story(port: int) -> None:
        status, problem = await say(port)
        assert (status, problem["code"]) == (408, "too_slow"), "silence"
        status, problem = await say(port, *[b"G"] * 1, *[b"E"] * 20, pause_s=0.05)
        assert status in (400, 408), "a byte at a time"
        assert await say(port, GET + b"\r\n", pause_s=0.4) == (200, {"bytes": 0})

    run(story)


def test_a_body_has_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "BODY_S", 0.2)

    async def story(port: int) -> None:
        status, problem = await say(port, b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n", b"123")
        assert (status, problem["code"]) == (408, "too_slow")

    run(story)


def test_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 2)

    async def story(port: int) -> None:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        status, problem = await say(port, GET + b"\r\n")
        assert (status, problem["code"]) == (503, "too_many_connections")
        for _, writer in silent:
            writer.close()
        await asyncio.sleep(0.05)
        assert (await say(port, GET + b"\r\n"))[0] == 200

    run(story)


def test_attack_one_address_holds_its_share_of_connections_and_leaves_some_to_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever comes next comes from `host`; WebSockets count as the requests that they began as."""
    host = "9.9.9.9"
    for module in (httptools_impl, websockets_sansio_impl):
        monkeypatch.setattr(module, "get_remote_addr", lambda _transport: (host, 1))
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 6)
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS_AT_OWNER", 2)
    monkeypatch.setattr(protocol, "RESERVED_FOR_LOCAL", 2)

    async def story(port: int) -> None:
        nonlocal host

        async def refused() -> str:
            status, problem = await say(port, GET + b"\r\n")
            assert (status, problem["code"]) == (503, "too_many_connections")
            return str(problem["detail"])

        async with connect(f"ws://127.0.0.1:{port}/repeat"):
            _, silent = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.05)
            assert await refused() == "more than 2 connections are open at 9.9.9.9"
            host = "8.8.8.8"
            assert (await say(port, GET + b"\r\n"))[0] == 200
            two = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            host = "1.1.1.1"
            await asyncio.sleep(0.05)
            assert await refused() == "more than 4 connections are open"
            host = "127.0.0.1"
            assert (await say(port, GET + b"\r\n"))[0] == 200
            for writer in (silent, two[0][1], two[1][1]):
                writer.close()
        host = "9.9.9.9"
        await asyncio.sleep(0.05)
        assert (await say(port, GET + b"\r\n"))[0] == 200

    run(story)


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00", b"HELO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_no_http_is_told_so_in_a_problem_document(garbage: bytes) -> None:
    async def story(port: int) -> None:
        status, problem = await say(port, garbage)
        assert (status, problem["code"]) == (400, "malformed")

    run(story)


@pytest.mark.parametrize(
    "rest",
    [b"\r\n", b"", b"3\r\nabc\r\n"],
    ids=["a line break after the request", "a body that never comes", "a chunk and no end"],
)
def test_a_connection_with_nothing_to_say_is_ended(rest: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was sent after the last answer must not keep it open."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    heads = {
        b"\r\n": b"\r\n",
        b"": b"content-length: 100\r\n\r\n",
        b"3\r\nabc\r\n": b"transfer-encoding: chunked\r\n\r\n",
    }

    async def story(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /now HTTP/1.1\r\nhost: h\r\n" + heads[rest])
        assert (await answer(reader))[0] == 200
        writer.write(rest)
        assert await asyncio.wait_for(reader.read(), 6) == b""
        writer.close()

    run(story)


def test_a_client_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "WRITE_S", 0.3)

    async def story(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /long HTTP/1.1\r\nhost: h\r\n\r\n")
        await asyncio.sleep(3)  # ten times as long as it is waited for, because machines are busy
        received = 0
        with contextlib.suppress(ConnectionError):
            while data := await asyncio.wait_for(reader.read(65_536), 3):
                received += len(data)
        assert received < LONG, "what the buffers held, and no more"
        writer.close()

    run(story)


async def repeat(websocket: WebSocket) -> None:
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await websocket.receive_text())


def test_a_websocket_stays_open_for_longer_than_any_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider's link lasts for days."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.1)

    async def story(port: int) -> None:
        async with connect(f"ws://127.0.0.1:{port}/repeat", proxy=None) as link:
            for word in ("one", "two", "three"):
                await asyncio.sleep(0.3)
                await link.send(word)
                assert await asyncio.wait_for(link.recv(), 2) == word

    run(story)
