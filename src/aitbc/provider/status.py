"""GET /v1/health: is the provider well, is it linked, what is it doing. For its owner; hubs never call it."""

from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from aitbc.provider.provider import Provider


def status_app(provider: "Provider") -> Starlette:
    async def health(_request: Request) -> Response:
        return Response(msgspec.json.encode(health_of(provider)), media_type="application/json")

    return Starlette(routes=[Route("/v1/health", health)])


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
        "jobs_done": provider.worker.jobs_done,
        "jobs_failed": provider.worker.jobs_failed,
        "engine_restarts": engine.restarts,
        "unclaimed": provider.claims.unclaimed if provider.claims is not None else 0,
    }
