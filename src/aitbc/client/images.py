"""Ask a server of seed 003 for a picture: a provider alone, or a hub. docs/spec/gateway.md"""

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from aitbc.client.http import Call, SyncHttp

PREFIX = "data:image/png;base64,"


@dataclass(frozen=True, kw_only=True)
class MadeImage:
    job_id: str
    data: bytes = field(repr=False)
    duration_ms: int
    gpu_seconds: float
    receipt: dict[str, Any] | None
    """A hub's receipt of it, not checked; None from a provider alone."""


def generate_image(url: str, *, api_key: str, fields: dict[str, Any], timeout: float = 120) -> MadeImage:
    """`fields`: prompt, and if wanted steps, guidance, width, height, seed. Raises ApiError when refused."""
    body = {"api_key": api_key, **fields}
    with SyncHttp(url, timeout) as server:
        return server.perform(Call(method="POST", path="/v1/generate-image", body=body, read=_made))


def _made(answer: dict[str, Any]) -> MadeImage:
    if not answer["image_base64"].startswith(PREFIX):
        raise ValueError("image_base64 is no PNG in base64")
    try:
        data = base64.b64decode(answer["image_base64"].removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    extra = answer.get("aitbc")
    return MadeImage(
        job_id=str(answer["job_id"]),
        data=data,
        duration_ms=int(answer["duration_ms"]),
        gpu_seconds=float(answer.get("gpu_seconds", 0)),
        receipt=extra.get("receipt") if isinstance(extra, dict) else None,
    )
