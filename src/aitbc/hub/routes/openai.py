"""OpenAI's routes: chat, completions, embeddings and pictures for the holders of an account. docs/spec/gateway.md"""

import base64
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitbc.adapters.http.problems import read_body
from aitbc.hub.gateway import prompts
from aitbc.hub.gateway.answers import aitbc_field, aitbc_fields, answer, finish_reason, usage_of, vectors_of
from aitbc.hub.gateway.errors import in_openai_shape
from aitbc.hub.gateway.openai import (
    BadParameter,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ImageRequest,
    read,
    refuse_unsupported,
)
from aitbc.hub.gateway.streams import Shape, StreamedAnswer, chat_choice, text_choice
from aitbc.hub.gateway.work import Asked, Delivered, Work, begin, or_hang_up
from aitbc.hub.http import Route
from aitbc.hub.hub import Hub
from aitbc.hub.records import Quote

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, IMAGES = "/v1/embeddings", "/v1/images/generations"

_REFUSALS = (400, 401, 402, 403, 404, 409, 413, 429, 503)


class OpenAiAnswer(msgspec.Struct, frozen=True):
    """OpenAI's answer of this route, and `aitbc`: job, receipt, units, price."""

    aitbc: Any


class Picture(msgspec.Struct, frozen=True):
    b64_json: str


class PictureList(msgspec.Struct, frozen=True):
    created: int
    data: list[Picture]
    aitbc: Any
    """One object for one picture, else a list in the order of `data`."""


@in_openai_shape
async def chat_completions(request: Request) -> Response:
    """OpenAI's chat completions, whole or streamed; hanging up stops the engine within a second."""
    hub, body = await _read(request)
    payer = await hub.accounts.payer(request, body)
    asked = read(body, ChatRequest)
    refuse_unsupported(asked)
    wanted = [Asked("chat", asked.model, prompts.chat_fields(asked))]
    (work,) = await begin(hub, request, payer, wanted, body=body, route=CHAT)
    quote = await work.quote()
    if asked.stream:
        return StreamedAnswer(hub, request, work, _chat_shape(asked, quote))
    (done,) = await or_hang_up(request, [work], _all([work]))
    message = {"role": "assistant", "content": done.data.decode(), "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": finish_reason(done.entry, max_tokens=quote.request["max_tokens"]),
    }
    base = _base(quote, "chatcmpl", "chat.completion")
    return _with_usage(hub, {**base, "choices": [choice]}, [done])


@in_openai_shape
async def completions(request: Request) -> Response:
    """OpenAI's completions: each prompt is a job."""
    hub, body = await _read(request)
    payer = await hub.accounts.payer(request, body)
    asked = read(body, CompletionRequest)
    refuse_unsupported(asked)
    wanted = [Asked("chat", asked.model, fields) for fields in prompts.completion_fields(asked)]
    if asked.stream and len(wanted) > 1:
        raise BadParameter("prompt", "a stream continues one prompt")
    works = await begin(hub, request, payer, wanted, body=body, route=COMPLETIONS)
    quote = await works[0].quote()
    most = quote.request["max_tokens"]
    if asked.stream:
        usage = bool(asked.stream_options and asked.stream_options.include_usage)
        base = _base(quote, "cmpl", "text_completion")
        return StreamedAnswer(hub, request, works[0], Shape(base, text_choice, False, usage, most))
    done = await or_hang_up(request, works, _all(works))
    choices = [
        {
            "index": index,
            "text": one.data.decode(),
            "logprobs": None,
            "finish_reason": finish_reason(one.entry, max_tokens=most),
        }
        for index, one in enumerate(done)
    ]
    return _with_usage(hub, {**_base(quote, "cmpl", "text_completion"), "choices": choices}, done)


@in_openai_shape
async def embeddings(request: Request) -> Response:
    """OpenAI's embeddings: all texts of a request are one job."""
    hub, body = await _read(request)
    payer = await hub.accounts.payer(request, body)
    asked = read(body, EmbeddingRequest)
    fields = prompts.embedding_fields(asked)
    wanted = [Asked("embedding", asked.model, fields)]
    (work,) = works = await begin(hub, request, payer, wanted, body=body, route=EMBEDDINGS)
    (done,) = await or_hang_up(request, works, _all(works))
    vectors = vectors_of(done.data, len(fields["input"]), asked.encoding_format or "float")
    data = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(vectors)]
    tokens = done.entry.delivery.details.counts.get("in", 0)
    answered = {
        "object": "list",
        "model": (await work.quote()).model,
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "aitbc": aitbc_field(hub, done.entry),
    }
    return answer(answered, [done])


@in_openai_shape
async def generate_images(request: Request) -> Response:
    """OpenAI's picture generation, as base64 PNG; `n` pictures are `n` jobs with seeds that follow one another."""
    hub, body = await _read(request)
    payer = await hub.accounts.payer(request, body)
    asked = read(body, ImageRequest)
    wanted = [
        Asked("image", asked.model, fields)
        for fields in prompts.image_fields(asked, most=hub.config.max_images)
    ]
    works = await begin(hub, request, payer, wanted, body=body, route=IMAGES)
    done = await or_hang_up(request, works, _all(works))
    created = (await works[0].quote()).created_ms // 1000
    pictures = [Picture(base64.b64encode(one.data).decode()) for one in done]
    view = aitbc_fields(hub, [one.entry for one in done])
    return answer({"created": created, "data": pictures, "aitbc": view}, done)


async def _read(request: Request) -> tuple[Hub, bytes]:
    hub: Hub = request.app.state.hub
    return hub, await read_body(request, hub.config.gateway_body_bytes)


async def _all(works: list[Work]) -> list[Delivered]:
    """In the order of the request; the first that comes to nothing ends it, and the others are told to stop."""
    return [await work.delivered() for work in works]


def _chat_shape(asked: ChatRequest, quote: Quote) -> Shape:
    usage = bool(asked.stream_options and asked.stream_options.include_usage)
    base = _base(quote, "chatcmpl", "chat.completion.chunk")
    return Shape(base, chat_choice, True, usage, quote.request["max_tokens"])


def _base(quote: Quote, prefix: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{quote.job_id}",
        "object": kind,
        "created": quote.created_ms // 1000,
        "model": quote.model,
        "system_fingerprint": None,
    }


def _with_usage(hub: Hub, body: dict[str, Any], done: list[Delivered]) -> Response:
    entries = [one.entry for one in done]
    usage = usage_of([entry.delivery.details for entry in entries])
    return answer({**body, "usage": usage, "aitbc": aitbc_fields(hub, entries)}, done)


ROUTES = [
    Route(
        "POST", CHAT, chat_completions, "Chat", OpenAiAnswer, body=ChatRequest, refusals=_REFUSALS, key=True
    ),
    Route(
        "POST",
        COMPLETIONS,
        completions,
        "Continue texts",
        OpenAiAnswer,
        body=CompletionRequest,
        refusals=_REFUSALS,
        key=True,
    ),
    Route(
        "POST",
        EMBEDDINGS,
        embeddings,
        "Texts as vectors",
        OpenAiAnswer,
        body=EmbeddingRequest,
        refusals=_REFUSALS,
        key=True,
    ),
    Route(
        "POST",
        IMAGES,
        generate_images,
        "Draw pictures",
        PictureList,
        body=ImageRequest,
        refusals=_REFUSALS,
        key=True,
    ),
]
