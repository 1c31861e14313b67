"""`WS /rpc/submit`: transactions in frames, answers in frames. docs/spec/rpc.md "Submitting"

A frame is taken when the one before is answered, so a sender that is too fast feels it in its socket.
"""

import asyncio
import contextlib
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from aitbc.adapters.http.problems import PASSING, Problem, problem_of, problem_response
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node.limits import Limits
from aitbc.node.routes.origins import check_origin
from aitbc.node.routes.shared import service_of
from aitbc.node.service import NodeService
from aitbc.node.submitting import MAX_ITEMS, RETRY_AFTER_S, items_of, take

router = APIRouter(tags=["transactions"])
Json = dict[str, Any]

PATH = "/rpc/submit"
MAX_FRAME_BYTES = 256 * 1024
"""Five hundred transfers."""
MAX_ERRORS = 8
"""Frames in a row that were refused as a whole for what does not pass."""
SEND_S = 10.0
CLOSE_POLICY = 1008
CLOSE_STOPPED = 1001


@router.websocket(PATH)
async def submit(websocket: WebSocket) -> None:
    service = service_of(websocket)
    try:
        check_origin(websocket, service.config.cors_origins)
        owner = service.senders.take(websocket.client.host if websocket.client else "")
    except (Rejected, Problem) as error:
        problem = problem_of(error) if isinstance(error, Rejected) else error
        await websocket.send_denial_response(problem_response(problem))
        return
    try:
        with contextlib.suppress(WebSocketDisconnect, OSError, TimeoutError):  # nobody is there any more
            await _serve(service, websocket)
    finally:
        service.senders.leave(owner)


async def _serve(service: NodeService, websocket: WebSocket) -> None:
    await websocket.accept()
    head = service.head()
    await _say(
        websocket,
        {
            "type": "hello",
            "chainId": head["chainId"],
            "genesisHash": head["genesisHash"],
            "maxItems": MAX_ITEMS,
            "maxBytes": MAX_FRAME_BYTES,
        },
    )
    number = wrong = 0
    stopped = asyncio.create_task(service.runtime.stopped.wait())
    try:
        while wrong < MAX_ERRORS:
            frame = asyncio.create_task(websocket.receive())
            await asyncio.wait([frame, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not frame.done():
                frame.cancel()
                await websocket.close(CLOSE_STOPPED)
                return
            message = frame.result()
            if message["type"] == "websocket.disconnect":
                return
            number += 1
            answer = await _answer(service, websocket, message)
            wrong = wrong + 1 if answer["type"] == "error" and "retryAfter" not in answer else 0
            await _say(websocket, {"type": answer.pop("type"), "frame": number, **answer})
        await websocket.close(CLOSE_POLICY)
    finally:
        stopped.cancel()


async def _answer(service: NodeService, websocket: WebSocket, message: Any) -> Json:
    try:
        text = message.get("text")
        if text is None:
            raise Rejected(Reason.WRONG_TYPE, "frames are text")
        items = items_of(text.encode())
        limits: Limits = websocket.app.state.limits
        limits.transactions(websocket, len(items))
        taken = await take(service.runtime, items)
        limits.bad_signatures(websocket, taken.bad_signatures)
    except Rejected as rejection:
        return _error(
            problem_of(rejection), retry_after_s=RETRY_AFTER_S if rejection.reason in PASSING else 0
        )
    except Problem as problem:
        wait = (problem.headers or {}).get("Retry-After")
        return _error(problem, retry_after_s=int(wait) if wait else 0)
    return {"type": "submitted", **taken.view}


def _error(problem: Problem, *, retry_after_s: int) -> Json:
    error = {"type": "error", "code": problem.code, "detail": problem.detail, "fix": problem.fix}
    return {**error, "retryAfter": retry_after_s} if retry_after_s else error


async def _say(websocket: WebSocket, message: Json) -> None:
    async with asyncio.timeout(SEND_S):
        await websocket.send_text(msgspec.json.encode(message).decode())
