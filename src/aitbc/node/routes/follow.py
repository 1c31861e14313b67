"""`WS /p2p/ws`: seed 000's gateway for programs and pages that follow a node. docs/spec/rpc.md "Following"

It reads small orders and writes events; nodes themselves talk over encrypted TCP.
"""

import asyncio
import contextlib
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from aitbc.adapters.http.problems import Problem, problem_of, problem_response
from aitbc.core.codec.canonical import parse_json
from aitbc.core.peer.kinds import Rate
from aitbc.core.peer.messages import Bucket
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node.routes.shared import service_of
from aitbc.node.service import NodeService
from aitbc.node.subscriptions import STREAMS, Ended, Reader, Stream

router = APIRouter(tags=["network"])
Json = dict[str, Any]

MAX_ORDER_BYTES = 1_024
"""An order names four streams at most."""
ORDERS = Rate(5, 20)
"""Of one reader: a person changes a view so often, a mistake in a program more often."""
MAX_ERRORS = 8
"""Orders that were refused, after which a reader is left."""
SEND_S = 10.0
"""A reader that takes no message for so long is too slow, however little waits."""
PING_S = 20.0
"""Between pings of the server; who is gone is noticed without sending."""
PONG_S = 20.0
"""For the answer: a phone that changes networks needs some seconds."""
LAST_WORDS_S = 1.0

SEEDS_STREAMS: tuple[Stream, ...] = ("block", "tx", "peer")
"""What seed 000 pushes; followed unless others are named."""
CLOSE_POLICY = 1008
CLOSE_STOPPED = 1001
CLOSE_SLOW = 1013
"""Try again later."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a reader may say."""

    type: Literal["subscribe", "unsubscribe"]
    streams: Annotated[list[Stream], msgspec.Meta(min_length=1, max_length=len(STREAMS))]


@router.websocket("/p2p/ws")
async def follow(websocket: WebSocket) -> None:
    """Tell a reader what happens until one of both has enough."""
    service = service_of(websocket)
    try:
        _check_origin(websocket)
        streams = _streams_in(websocket.query_params.get("streams"))
        host = websocket.client.host if websocket.client else ""
        reader = service.runtime.subscriptions.join(streams, host=host)
    except Rejected as rejection:
        await websocket.send_denial_response(problem_response(problem_of(rejection)))
        return
    except Problem as problem:
        await websocket.send_denial_response(problem_response(problem))
        return
    try:
        await _Follower(service, websocket, reader).run()
    finally:
        service.runtime.subscriptions.leave(reader)


class _Follower:
    """One connection from accept to close."""

    def __init__(self, service: NodeService, websocket: WebSocket, reader: Reader) -> None:
        self._service = service
        self._runtime = service.runtime
        self._websocket = websocket
        self._reader = reader
        self._orders = Bucket(ORDERS, self._runtime.now_ms())
        self._errors = 0

    async def run(self) -> None:
        self._reader.tell(self._standing("hello"))  # before anything that happens while it is let in
        await self._websocket.accept()
        writer = asyncio.create_task(self._write())
        listener = asyncio.create_task(self._listen())
        try:
            await asyncio.wait([writer, listener], return_when=asyncio.FIRST_COMPLETED)
            if not writer.done() and self._reader.ended is not None:
                await asyncio.wait([writer], timeout=LAST_WORDS_S)
        finally:
            for task in (writer, listener):
                task.cancel()
            await asyncio.wait([writer, listener])
        for task in (writer, listener):
            if not task.cancelled():
                task.result()  # raises what only a bug can have raised: the server logs it

    # Out

    async def _write(self) -> None:
        """Send what waits; when there is an end to it, say why."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):  # nobody is there any more
            try:
                while (text := await self._reader.next()) is not None:
                    async with asyncio.timeout(SEND_S):
                        await self._websocket.send_text(text)
            except TimeoutError:
                self._reader.end(Ended.TOO_SLOW)
            await self._say_why()

    async def _say_why(self) -> None:
        reason = self._reader.ended
        assert reason is not None, "only an end ends the queue"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._websocket.send_text(_error(reason, *_WHY[reason]))
                await self._websocket.close(_CODES[reason])

    def _standing(self, type_: str) -> str:
        """What is followed, and how far each stream is: events come from the next number on."""
        streams = [stream for stream in STREAMS if stream in self._reader.streams]
        numbers = self._runtime.subscriptions.numbers
        head = self._service.head()
        view = {"type": type_, "streams": streams, "seq": numbers, "head": head}
        return msgspec.json.encode(view).decode()

    # In

    async def _listen(self) -> None:
        """Take orders until the reader leaves or makes too many mistakes."""
        with contextlib.suppress(WebSocketDisconnect):
            while self._reader.ended is None:
                frame = await self._websocket.receive()
                if frame["type"] == "websocket.disconnect":
                    return
                try:
                    self._obey(frame.get("text"))
                except Rejected as rejection:
                    self._refuse(rejection)

    def _obey(self, text: str | None) -> None:
        if not self._orders.take(self._runtime.now_ms()):
            raise Rejected(Reason.TOO_BUSY, f"more than {ORDERS.per_second} orders a second")
        if text is None:
            raise Rejected(Reason.WRONG_TYPE, "orders are text")
        order = parse_json(text.encode(), Order, limit=MAX_ORDER_BYTES)
        asked = frozenset(order.streams)
        streams = self._reader.streams
        self._reader.streams = streams | asked if order.type == "subscribe" else streams - asked
        self._reader.tell(self._standing("subscribed"))

    def _refuse(self, rejection: Rejected) -> None:
        problem = problem_of(rejection)
        self._reader.tell(_error(problem.code, problem.detail, problem.fix))
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self._reader.end(Ended.TOO_MANY_MISTAKES)


_WHY = {
    Ended.TOO_SLOW: (
        "too much waited for this reader",
        "connect again, read faster or follow less; the numbers show what was missed",
    ),
    Ended.NODE_STOPPED: ("this node has stopped", "follow another, or this one when it runs again"),
    Ended.TOO_MANY_MISTAKES: (
        f"{MAX_ERRORS} orders were refused",
        "see docs/spec/rpc.md for what may be said",
    ),
}
_CODES = {
    Ended.TOO_SLOW: CLOSE_SLOW,
    Ended.NODE_STOPPED: CLOSE_STOPPED,
    Ended.TOO_MANY_MISTAKES: CLOSE_POLICY,
}


def _error(code: str, detail: str, fix: str) -> str:
    view = {"type": "error", "code": str(code), "detail": detail[:400], "fix": fix}
    return msgspec.json.encode(view).decode()


def _streams_in(text: str | None) -> tuple[Stream, ...]:
    """Of the query; every one must be known."""
    if text is None:
        return SEEDS_STREAMS
    names = text.split(",") if text else []
    unknown = [name for name in names if name not in STREAMS]
    if unknown:
        raise Rejected(Reason.WRONG_TYPE, f"{unknown[0][:40]!r} is no stream; there are {', '.join(STREAMS)}")
    return tuple(stream for stream in STREAMS if stream in names)


def _check_origin(websocket: WebSocket) -> None:
    """Browsers let every page open a WebSocket anywhere and say whose page it is: only this node's own may."""
    origin = websocket.headers.get("origin")
    if origin is None:
        return
    try:
        place = urlsplit(origin).netloc
    except ValueError:
        place = ""
    if not place or place.lower() != websocket.headers.get("host", "").lower():
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "no_browsers",
            f"a page of {origin[:80]} may not follow this node",
            "open the node's own page, or use a program that sends no Origin",
        )
