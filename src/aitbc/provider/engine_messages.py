"""Between the provider and its engine child: length-prefixed msgpack over pipes, u32 big-endian in front."""

from typing import Any

import msgspec

from aitbc.ports import EngineOutput, ModelCard

MAX_FRAME_BYTES = 8 * 1024 * 1024
"""Twice the largest output that a hub takes; a child that sends more is killed."""


class _Msg(msgspec.Struct, frozen=True, kw_only=True, tag_field="op"):
    pass


# to the child


class Load(_Msg, frozen=True, tag="load"):
    model: str


class Run(_Msg, frozen=True, tag="run"):
    run_id: str
    model: str
    request: dict[str, Any]


class Cancel(_Msg, frozen=True, tag="cancel"):
    run_id: str


# from the child


class EngineProblem(msgspec.Struct, frozen=True):
    """An engine that could not be made: a missing extra, broken weights."""

    engine: str
    message: str


class Ready(_Msg, frozen=True, tag="ready"):
    models: list[ModelCard]
    problems: list[EngineProblem]


class Loaded(_Msg, frozen=True, tag="loaded"):
    model: str


class Emitted(_Msg, frozen=True, tag="emitted"):
    run_id: str
    event: dict[str, Any]
    """{"progress": [done, total]} or {"text": new characters}."""


class Alive(_Msg, frozen=True, tag="alive"):
    """Steps go on, though there is nothing to tell: a long step, a remote server that thinks."""


class Done(_Msg, frozen=True, tag="done"):
    run_id: str
    output: EngineOutput
    engine_ms: int


class Failed(_Msg, frozen=True, tag="failed"):
    run_id: str
    """Empty when a load failed."""
    reason: str
    message: str


ToChild = Load | Run | Cancel
FromChild = Ready | Loaded | Emitted | Alive | Done | Failed

_encoder = msgspec.msgpack.Encoder()


def encode_frame(message: ToChild | FromChild) -> bytes:
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body
