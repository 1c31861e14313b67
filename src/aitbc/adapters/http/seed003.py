"""The two routes of seed 003, stage 1, as its OpenAPI document has them; a provider alone and a hub both serve them.

The bounds are the seed's; a model may have narrower ones and then refuses by its own.
"""

import base64
from http import HTTPStatus
from typing import Annotated, Any

import msgspec

from aitbc.adapters.http.problems import Problem

GENERATE_IMAGE = "/v1/generate-image"
HEALTH = "/v1/health"

Steps = Annotated[int, msgspec.Meta(ge=5, le=100)]
Guidance = Annotated[float, msgspec.Meta(ge=0, le=25)]
Side = Annotated[int, msgspec.Meta(ge=256, le=1024)]


class GenerateImage(msgspec.Struct, frozen=True, kw_only=True):
    """The seed's request; fields that it does not have are ignored, as its server did."""

    api_key: str
    prompt: str
    steps: Steps = 30
    guidance: Guidance = 7.5
    width: Side = 512
    height: Side = 512
    seed: int | None = None


class GeneratedImage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    status: str
    job_id: str
    image_base64: str
    """`data:image/png;base64,…`"""
    duration_ms: int
    gpu_seconds: int | float
    aitbc: Any = None
    """A hub's answer: the receipt."""


def read_generate_image(body: bytes) -> GenerateImage:
    """Refuses with 422, as the seed's framework does."""
    try:
        return msgspec.json.decode(body, type=GenerateImage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fix = "see the OpenAPI document of seed 003: GET /openapi.json"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_request", str(error)[:300], fix) from None


def invalid_api_key() -> Problem:
    fix = "put the server's key into api_key"
    return Problem(HTTPStatus.UNAUTHORIZED, "invalid_api_key", "invalid api_key", fix)


def too_many(per_minute: int) -> Problem:
    """The seed's `@limiter.limit("10/minute")`."""
    detail = f"Rate limit exceeded: {per_minute} per 1 minute"
    headers = {"Retry-After": str(max(1, 60 // per_minute))}
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", detail, "wait a little", headers)


def request_fields(asked: GenerateImage, *, seed: int) -> dict[str, Any]:
    """As the fields of an image request."""
    return {
        "prompt": asked.prompt,
        "steps": asked.steps,
        "guidance_milli": round(asked.guidance * 1000),
        "width": asked.width,
        "height": asked.height,
        "seed": seed,
    }


def image_answer(
    *, job_id: str, data: bytes, duration_ms: int, gpu_ms: int, aitbc: Any = None
) -> GeneratedImage:
    return GeneratedImage(
        status="ok",
        job_id=job_id,
        image_base64="data:image/png;base64," + base64.b64encode(data).decode(),
        duration_ms=duration_ms,
        gpu_seconds=gpu_ms / 1000,
        aitbc=aitbc,
    )


def openapi_document(title: str, version: str) -> dict[str, Any]:
    """The seed's OpenAPI document, path for path."""
    text, number = {"type": "string"}, {"type": "integer"}
    asked = {
        "type": "object",
        "required": ["api_key", "prompt"],
        "properties": {
            "api_key": text,
            "prompt": text,
            "steps": {"type": "integer", "minimum": 5, "maximum": 100, "default": 30},
            "guidance": {"type": "number", "minimum": 0, "maximum": 25, "default": 7.5},
            "width": {"type": "integer", "minimum": 256, "maximum": 1024, "default": 512},
            "height": {"type": "integer", "minimum": 256, "maximum": 1024, "default": 512},
            "seed": {"type": "integer", "nullable": True},
        },
    }
    made = {"status": text, "job_id": text, "image_base64": text, "duration_ms": number}
    health = {"status": text, "gpu": text, "model": text}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": {
            HEALTH: {"get": {"summary": "Health check", "responses": {"200": _answer("OK", health)}}},
            GENERATE_IMAGE: {
                "post": {
                    "summary": "Generate image from text prompt",
                    "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
                    "responses": {"200": _answer("Image generated", made)},
                }
            },
        },
    }


def _answer(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
