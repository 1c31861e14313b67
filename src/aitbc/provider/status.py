"""GET /v1/health: is the provider well, is it linked, what is it doing; GET /metrics for Prometheus. For its owner;
hubs never call it. docs/spec/provider.md"""

from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aitbc.provider.metrics import exposition

if TYPE_CHECKING:
    from aitbc.provider.provider import Provider


def status_app(provider: "Provider") -> Starlette:
    async def health(_request: Request) -> Response:
        return Response(msgspec.json.encode(health_of(provider)), media_type="application/json")

    async def metrics(_request: Request) -> Response:
        body, media_type = exposition(provider)
        return Response(body, headers={"content-type": media_type})

    return Starlette(routes=[Route("/v1/health", health), Route("/metrics", metrics)])


def health_of(provider: "Provider") -> dict[str, object]:
    """Seed 003's three fields and what else an owner wants to know."""
    engine, link = provider.engine, provider.link
    session = link.session if link is not None else None
    return {
        "status": "ok" if engine.ready and session is not None else "degraded",
        "gpu": provider.config.device,
        "model": ", ".join(sorted(engine.cards)),
        "address": provider.config.signer.address,
        "hub": session.hub if session is not None else "",
        "hub_url": provider.config.hub_url,
        "link_error": link.last_error if link is not None else "",
        "eligible": provider.eligible,
        "running": provider.worker.running,
        "closed_for": provider.worker.closed_for,
        "slots": provider.config.slots,
        "p95_ms": {
            model: round(durations.percentile(0.95) * 1000)
            for model, durations in provider.worker.measures.durations.items()
        },
        "jobs_done": provider.worker.jobs_done,
        "jobs_failed": provider.worker.jobs_failed,
        "engine_restarts": engine.restarts,
        "unclaimed": provider.claims.unclaimed if provider.claims is not None else 0,
    }
