"""An answer as server-sent events: chunks as OpenAI sends them, the receipt in the last one before `[DONE]`.

Without `stream_options.include_usage` the receipt is on the chunk that says why the text ended, because some clients
read `choices[0]` of every chunk; with it, it is on the usage chunk, whose `choices` is empty.
"""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from aitbc.hub.gateway.answers import REQUEST_ID_HEADER, aitbc_field, finish_reason, usage_of
from aitbc.hub.gateway.errors import JobEnded, error_body, problem_of_any
from aitbc.hub.gateway.work import Work

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"


class Shape(NamedTuple):
    """How one route writes its chunks."""

    base: Json
    """Fields of every chunk: id, object, created, model."""
    choice: Callable[[str | None, str | None], Json]
    """From new text (None: the first or last chunk) and finish reason to a choice."""
    opening: bool
    """A chunk before the first text."""
    include_usage: bool
    max_tokens: int


def chat_choice(text: str | None, finish: str | None) -> Json:
    if text is None:
        delta: Json = {} if finish else {"role": "assistant", "content": ""}
    else:
        delta = {"content": text}
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def text_choice(text: str | None, finish: str | None) -> Json:
    return {"index": 0, "text": text or "", "logprobs": None, "finish_reason": finish}


class StreamedAnswer(StreamingResponse):
    """Hangs up when the client has: at the end of the connection, whatever ended it."""

    def __init__(self, hub: "Hub", request: Request, work: Work, shape: Shape) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no", REQUEST_ID_HEADER: work.job_id}
        super().__init__(_chunks(hub, request, work, shape), headers=headers, media_type="text/event-stream")
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._work.hang_up()


async def _chunks(hub: "Hub", request: Request, work: Work, shape: Shape) -> AsyncIterator[bytes]:
    try:
        if shape.opening:
            yield _event({**shape.base, "choices": [shape.choice(None, None)]})
        async for text in work.texts():
            yield _event({**shape.base, "choices": [shape.choice(text, None)]})
        entry = await work.receipt()
    except JobEnded as error:
        yield _event({"error": error_body(error, problem_of_any(error))})
        return
    finish = shape.choice(None, finish_reason(entry, max_tokens=shape.max_tokens))
    proof = {"usage": usage_of([entry.delivery.details]), "aitbc": aitbc_field(hub, entry)}
    if shape.include_usage:
        yield _event({**shape.base, "choices": [finish]})
        yield _event({**shape.base, "choices": [], **proof})
    else:
        yield _event({**shape.base, "choices": [finish], **proof})
    yield DONE


def _event(body: Json) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"
