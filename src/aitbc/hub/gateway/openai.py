"""What OpenAI's clients send, as far as engines here can do it. docs/spec/gateway.md

A field that changes nothing at its default is taken at its default; every other one is refused by name, because an
answer that ignores what was asked is worse than none.
"""

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from aitbc.core.jobs.reasons import JobReason, Refused

MAX_MESSAGES = 1_000
MAX_TEXTS = 2_048

Number = int | float
Texts = Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_TEXTS)]


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    include_usage: bool = False


class TextPart(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["text"]
    text: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """`name` and what else clients add to a message is not told to the model."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    type: str = "text"


class _Common(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every route takes and no engine hears of."""

    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class _Sampling(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_tokens: int | None = None
    temperature: Number | None = None
    top_k: int | None = None
    """Not OpenAI's; `extra_body` of its client carries it."""
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    top_p: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    logit_bias: dict[str, Number] | None = None
    stop: str | list[str] | None = None
    logprobs: bool | int | None = None


class ChatRequest(_Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: int | None = None
    response_format: ResponseFormat | None = None
    top_logprobs: int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    store: bool | None = None
    service_tier: str | None = None
    modalities: list[str] | None = None


class CompletionRequest(_Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str
    prompt: str | Texts
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None


class EmbeddingRequest(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str
    input: str | Texts
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None


class ImageRequest(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prompt: str
    model: str = ""
    n: int | None = None
    size: str | None = None
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png"] | None = None
    quality: Literal["auto", "standard"] | None = None
    background: Literal["auto", "opaque"] | None = None
    moderation: Literal["auto", "low"] | None = None
    stream: Literal[False] | None = None
    steps: int | None = None
    """These three are not OpenAI's."""
    guidance: Number | None = None
    seed: int | None = None


T = TypeVar("T")


class BadParameter(Refused):
    """A refusal that names the field."""

    def __init__(self, param: str | None, message: str, reason: JobReason = JobReason.BAD_REQUEST) -> None:
        super().__init__(reason, message)
        self.param = param


def read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _wrong(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadParameter(None, f"the body is no JSON: {error}"[:300]) from None


def _wrong(said: str) -> BadParameter:
    """msgspec names a field after `$.`, an unknown one between back quotes."""
    if "unknown field `" in said:
        name = said.partition("unknown field `")[2].partition("`")[0]
        return BadParameter(name, f"{name[:80]} is not supported here", JobReason.UNSUPPORTED_PARAMETER)
    named = said.partition("`$.")[2].partition("`")[0]
    return BadParameter(named or None, said[:300])


def refuse_unsupported(asked: _Sampling) -> None:
    """What no engine here does may only be there at the value at which it does nothing."""
    without_effect: dict[str, tuple[Any, ...]] = {
        "n": (1,),
        "top_p": (1,),
        "presence_penalty": (0,),
        "frequency_penalty": (0,),
        "logit_bias": ({},),
        "stop": ([], ""),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "best_of": (1,),
        "echo": (False,),
        "suffix": ("",),
        "modalities": (["text"],),
        "response_format": (ResponseFormat(),),
    }
    for name, allowed in without_effect.items():
        value = getattr(asked, name, None)
        if value is not None and value not in allowed:
            raise BadParameter(name, f"{name} is not supported here", JobReason.UNSUPPORTED_PARAMETER)
