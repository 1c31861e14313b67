"""POST /v1/generate-image: seed 003's route, paid from an account. docs/spec/gateway.md"""

import secrets

from starlette.requests import Request
from starlette.responses import Response

from aitbc.adapters.http.problems import read_body
from aitbc.adapters.http.seed003 import (
    GENERATE_IMAGE,
    GeneratedImage,
    GenerateImage,
    image_answer,
    invalid_api_key,
    read_generate_image,
    request_fields,
    too_many,
)
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.requests import MAX_SEED
from aitbc.hub.gateway.answers import RECEIPT_HEADER, aitbc_field
from aitbc.hub.gateway.errors import CLIENT_GONE, ClientGone, JobEnded
from aitbc.hub.gateway.prompts import MOST_DRAWN_SEED
from aitbc.hub.gateway.work import Asked, begin, or_hang_up
from aitbc.hub.http import Route, json_answer
from aitbc.hub.hub import Hub


async def generate_image(request: Request) -> Response:
    """A picture for an `api_key` of this hub; 401 `invalid api_key` for every other one."""
    hub: Hub = request.app.state.hub
    _slow_down(hub, request)
    body = await read_body(request, hub.config.gateway_body_bytes)
    asked = read_generate_image(body)
    try:
        payer = await hub.accounts.payer_of_key(asked.api_key, request)
    except Refused as refused:
        raise (invalid_api_key() if refused.reason == JobReason.INVALID_API_KEY else refused) from None
    seed = secrets.randbelow(MOST_DRAWN_SEED) if asked.seed is None else asked.seed % (MAX_SEED + 1)
    wanted = [Asked("image", "", request_fields(asked, seed=seed))]
    works = await begin(hub, request, payer, wanted, body=body, route=GENERATE_IMAGE)
    try:
        done = await or_hang_up(request, works, works[0].delivered())
    except ClientGone:
        return Response(status_code=CLIENT_GONE)
    except JobEnded as error:
        raise error.problem from None
    details = done.entry.delivery.details
    answered = image_answer(
        job_id=done.entry.job_id,
        data=done.data,
        duration_ms=hub.now_ms() - (await works[0].quote()).created_ms,
        gpu_ms=details.gpu_ms,
        aitbc=aitbc_field(hub, done.entry),
    )
    response = json_answer(answered)
    response.headers[RECEIPT_HEADER] = done.entry.receipt_id
    return response


def _slow_down(hub: Hub, request: Request) -> None:
    most = hub.config.seed003_per_minute
    address = request.client.host if request.client else "unknown"
    if most and not hub.seed003_rate.allow(address):
        raise too_many(most)


ROUTES = [
    Route(
        "POST",
        GENERATE_IMAGE,
        generate_image,
        "Generate image from text prompt",
        GeneratedImage,
        body=GenerateImage,
        refusals=(400, 401, 402, 403, 413, 422, 429, 503),
    )
]
