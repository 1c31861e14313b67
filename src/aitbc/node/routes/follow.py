"""`WS /rpc/ws` and `/p2p/ws`: for programs and pages that follow a node. docs/spec/rpc.md "Following"

They read small orders and write events; nodes themselves talk over encrypted TCP.
"""

import asyncio
import contextlib
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from aitbc.adapters.http.problems import Problem, problem_of, problem_response
from aitbc.core.codec.canonical import parse_json
from aitbc.core.peer.kinds import Rate
from aitbc.core.peer.messages import Bucket
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node.routes.origins import check_origin
from aitbc.node.routes.shared import service_of
from aitbc.node.service import NodeService
from aitbc.node.subscriptions import Ended, Reader, TooOld
from aitbc.node.topics import Topic, in_order, topic_of

router = APIRouter(tags=["network"])
Json = dict[str, Any]

MAX_TOPICS = 16
"""Followed by one reader: a wallet's accounts, or a page's jobs."""
MAX_ORDER_BYTES = 4_096
"""Sixteen jobs with long names, and their numbers."""
ORDERS = Rate(5, 20)
"""Of one reader: a person changes a view so often, a mistake in a program more often. An order counts once for each
stream in its `after`."""
MAX_ERRORS = 8
"""Orders that were refused, after which a reader is left."""
SEND_S = 10.0
"""A reader that takes no message for so long is too slow, however little waits."""
PING_S = 20.0
"""Between pings of the server; who is gone is noticed without sending."""
PONG_S = 20.0
"""For the answer: a phone that changes networks needs some seconds."""
LAST_WORDS_S = 1.0

SEEDS_STREAMS = "block,tx,peer"
"""What seed 000 pushes; followed at /p2p/ws unless others are named."""
CLOSE_POLICY = 1008
CLOSE_STOPPED = 1001
CLOSE_SLOW = 1013
"""Try again later."""


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=160)]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a reader may say."""

    type: Literal["subscribe", "unsubscribe"]
    streams: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=MAX_TOPICS)]
    run: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """Of a `hello`: which run of the node the numbers are of."""
    after: dict[Name, Annotated[int, msgspec.Meta(ge=0, le=MAX_SIGNED)]] = {}
    """Of streams in `streams`: tell again what came after this number."""


@router.websocket("/p2p/ws")
async def follow_as_seed_000(websocket: WebSocket) -> None:
    await _follow(websocket, SEEDS_STREAMS)


@router.websocket("/")
@router.websocket("/rpc/ws")
async def follow(websocket: WebSocket) -> None:
    await _follow(websocket, "")


@router.websocket("/rpc/blocks")
async def follow_blocks(websocket: WebSocket) -> None:
    await _follow(websocket, "new_blocks")


@router.websocket("/rpc/transactions")
async def follow_transactions(websocket: WebSocket) -> None:
    await _follow(websocket, "new_transactions")


async def _follow(websocket: WebSocket, usual: str) -> None:
    """Tell a reader what happens until one of both has enough."""
    service = service_of(websocket)
    try:
        check_origin(websocket, service.config.cors_origins)
        topics = _topics_in(websocket.query_params.get("streams", usual))
        host = websocket.client.host if websocket.client else ""
        reader = service.runtime.subscriptions.join(topics, host=host)
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
        subscriptions = self._runtime.subscriptions
        view = {
            "type": type_,
            "run": subscriptions.run,
            "streams": [topic.name for topic in in_order(self._reader.topics)],
            "seq": subscriptions.numbers,
            "head": self._service.head(),
        }
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
        asked = {topic_of(name) for name in order.streams}
        wanted = self._wanted(order, asked)
        if len(wanted) > 1 and not self._orders.take(self._runtime.now_ms(), len(wanted) - 1):
            raise Rejected(
                Reason.TOO_BUSY, f"each stream in `after` is one of {ORDERS.per_second} orders a second"
            )
        self._runtime.subscriptions.count_again(self._reader, order.run, wanted)
        if order.type == "unsubscribe":
            self._runtime.subscriptions.follow(self._reader, self._reader.topics - asked)
            self._reader.tell(self._standing("subscribed"))
            return
        self._runtime.subscriptions.follow(self._reader, self._reader.topics | asked)
        self._reader.tell(self._standing("subscribed"))
        for topic, after in wanted.items():
            self._tell_again(topic, order.run, after)

    def _wanted(self, order: Order, asked: set[Topic]) -> dict[Topic, int]:
        """Numbers by what they are of; raises Rejected before anything is done."""
        wanted = {topic_of(name): after for name, after in order.after.items()}
        if set(wanted) - asked or (wanted and order.type == "unsubscribe"):
            raise Rejected(Reason.WRONG_TYPE, "`after` names streams that this order subscribes to")
        if wanted and not order.run:
            raise Rejected(Reason.MISSING_FIELD, "`run` of the hello whose numbers these are")
        if len(self._reader.topics | asked) > MAX_TOPICS:
            raise Rejected(Reason.OUT_OF_RANGE, f"at most {MAX_TOPICS} streams at once")
        return wanted

    def _tell_again(self, topic: Topic, run: str, after: int) -> None:
        try:
            for text in self._runtime.subscriptions.again(topic, run, after):
                if self._reader.ended is not None:
                    return  # nobody will read the rest
                self._reader.tell(text)
        except TooOld as error:
            why, fix = _TOO_OLD
            self._reader.tell(_error("too_old", why, fix, stream=error.stream, oldest=error.oldest))

    def _refuse(self, rejection: Rejected) -> None:
        problem = problem_of(rejection)
        self._reader.tell(_error(problem.code, problem.detail, problem.fix))
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self._reader.end(Ended.TOO_MANY_MISTAKES)


_TOO_OLD = (
    "what came after that number is not held any more",
    "read blocks or the account's history for the gap; the stream goes on from now",
)
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


def _error(code: str, detail: str, fix: str, **more: Any) -> str:
    view = {"type": "error", "code": str(code), "detail": detail[:400], "fix": fix, **more}
    return msgspec.json.encode(view).decode()


def _topics_in(text: str) -> set[Topic]:
    """Of the query; every one must be known."""
    names = text.split(",") if text else []
    if len(names) > MAX_TOPICS:
        raise Rejected(Reason.OUT_OF_RANGE, f"at most {MAX_TOPICS} streams at once")
    return {topic_of(name) for name in names}
