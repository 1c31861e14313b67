"""From OpenAI's requests to the fields of ours. docs/spec/gateway.md"""

import re
import secrets
from collections.abc import Sequence
from typing import Any

from aitbc.hub.gateway.openai import (
    BadParameter,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ImageRequest,
    Message,
    Number,
)

Fields = dict[str, Any]

MOST_DRAWN_SEED = 2**31
"""A seed that the client leaves to us fits every engine's."""

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})\Z")


def chat_fields(asked: ChatRequest) -> Fields:
    most = asked.max_completion_tokens if asked.max_completion_tokens is not None else asked.max_tokens
    return {"prompt": prompt_of(asked.messages), **_sampling(asked, most)}


def completion_fields(asked: CompletionRequest) -> list[Fields]:
    """One job for each prompt; a seed that was not given is drawn once for all."""
    prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
    sampling = _sampling(asked, asked.max_tokens)
    return [{"prompt": prompt, **sampling} for prompt in prompts]


def embedding_fields(asked: EmbeddingRequest) -> Fields:
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    return {"input": texts, **_given(dimensions=asked.dimensions)}


def image_fields(asked: ImageRequest, *, most: int) -> list[Fields]:
    """One job for each picture, with seeds that follow one another."""
    count = 1 if asked.n is None else asked.n
    if not 1 <= count <= most:
        raise BadParameter("n", f"n is {count}; allowed: 1 to {most}")
    seed = secrets.randbelow(MOST_DRAWN_SEED) if asked.seed is None else asked.seed
    common = {
        "prompt": asked.prompt,
        **_size(asked.size),
        **_given(steps=asked.steps, guidance_milli=_milli("guidance", asked.guidance)),
    }
    return [{**common, "seed": seed + index} for index in range(count)]


def prompt_of(messages: Sequence[Message]) -> str:
    """One message of a user is the prompt itself; a conversation is written down like a play."""
    if len(messages) == 1 and messages[0].role == "user":
        return _text(messages[0])
    lines = [f"{message.role}: {_text(message)}\n" for message in messages]
    return "".join(lines) + "assistant:"


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join([part.text for part in message.content])


def _sampling(asked: ChatRequest | CompletionRequest, max_tokens: int | None) -> Fields:
    seed = secrets.randbelow(MOST_DRAWN_SEED) if asked.seed is None else asked.seed
    return {
        "seed": seed,
        **_given(
            max_tokens=max_tokens,
            temperature_milli=_milli("temperature", asked.temperature),
            top_k=asked.top_k,
        ),
    }


def _milli(name: str, value: Number | None) -> int | None:
    """Thousandths; the nearest, because 0.7 has no exact binary form."""
    if value is None:
        return None
    if not -1e9 < value < 1e9:
        raise BadParameter(name, f"{name} is {value}")
    return round(value * 1000)


def _size(text: str | None) -> Fields:
    if text is None or text == "auto":
        return {}
    match = _SIZE.match(text)
    if match is None:
        raise BadParameter("size", "size must be like 512x512")
    return {"width": int(match[1]), "height": int(match[2])}


def _given(**values: Any) -> Fields:
    return {name: value for name, value in values.items() if value is not None}
