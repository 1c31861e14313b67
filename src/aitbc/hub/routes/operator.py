"""What an operator looks at: Prometheus metrics and the figures of `aitbc hub status`. docs/spec/hub.md"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitbc.hub.http import Route, json_answer
from aitbc.hub.hub import Hub
from aitbc.hub.metrics import exposition, models_of


class ModelStatus(msgspec.Struct, frozen=True):
    model: str
    providers: int
    free_slots: int
    queued: int


class HubStatus(msgspec.Struct, frozen=True):
    requests_per_second: float
    """Of the last minute, as the next figure; event streams are left out."""
    p95_ms: float
    jobs_under_way: int
    queued: int
    open_claims: int
    models: list[ModelStatus]


async def metrics(request: Request) -> Response:
    """Prometheus text format."""
    hub: Hub = request.app.state.hub
    text, media_type = exposition(hub)
    return Response(text, media_type=media_type)


async def status(request: Request) -> Response:
    """How busy the hub is."""
    hub: Hub = request.app.state.hub
    per_second, p95_s = hub.measures.recent()
    models = [
        ModelStatus(
            model,
            figures["aitbc_hub_model_providers"],
            figures["aitbc_hub_model_free_slots"],
            figures["aitbc_hub_model_queue"],
        )
        for model, figures in models_of(hub).items()
    ]
    return json_answer(
        HubStatus(
            requests_per_second=round(per_second, 2),
            p95_ms=round(p95_s * 1000, 1),
            jobs_under_way=hub.jobs.under_way,
            queued=len(hub.matcher),
            open_claims=hub.claims.open,
            models=models,
        )
    )


ROUTES = [
    Route("GET", "/metrics", metrics, "Prometheus metrics", "text/plain"),
    Route("GET", "/v1/status", status, "How busy the hub is", HubStatus),
]
