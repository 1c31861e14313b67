"""Health, metrics and the page a person sees at `/`."""

from html import escape
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from aitbc.adapters.http.reference import reference_page
from aitbc.core.sync.ranges import SyncState
from aitbc.core.types.amounts import format_ait
from aitbc.node.consensus_view import consensus_view
from aitbc.node.limits import Limits
from aitbc.node.metrics import exposition
from aitbc.node.routes.shared import service_of
from aitbc.node.work_runtime import WorkRuntime
from aitbc.node.work_view import work_view

router = APIRouter(tags=["status"])
Json = dict[str, Any]


@router.get("/health", summary="Is the node up, does it vote, and with how many others does it talk?")
async def health(request: Request, response: Response) -> Json:
    """503 and `stopped` once the runtime has ended itself; the process follows."""
    service = service_of(request)
    stopped = service.runtime.stopped.is_set()
    if stopped:
        response.status_code = 503
    return {
        "status": "stopped" if stopped else "ok",
        "role": service.config.role,
        "height": service.head()["height"],
        "authoring": service.runtime.is_author and not stopped,
        "validating": service.runtime.validates,
        "peers": service.runtime.neighbours.peers if service.runtime.neighbours else 0,
    }


@router.get("/health/live", summary="Does the process do its work?")
async def live(request: Request, response: Response) -> Json:
    """503 once the runtime has stopped itself: start it again."""
    stopped = service_of(request).runtime.stopped.is_set()
    response.status_code = 503 if stopped else 200
    return {"live": not stopped}


@router.get("/health/ready", summary="Should it be asked?")
async def ready(request: Request, response: Response) -> Json:
    """503 with the reason while the node catches up, or has stopped: ask another one meanwhile."""
    runtime = service_of(request).runtime
    view = runtime.sync_view()
    fetching = view is not None and view.state is not SyncState.LIVE
    why = "stopped" if runtime.stopped.is_set() else "catches_up" if fetching else ""
    response.status_code = 503 if why else 200
    return {"ready": not why, "why": why}


@router.get("/rpc/consensus", summary="How agreement goes, and who was slow")
async def consensus(request: Request) -> Json:
    service = service_of(request)
    runtime = service.runtime
    view = work_view(runtime) if isinstance(runtime, WorkRuntime) else consensus_view(runtime)
    return {"role": service.config.role, **view}


@router.get("/p2p/peers", summary="The nodes that this one talks to")
@router.get("/rpc/peers", summary="The same")
async def peers(request: Request) -> list[Json]:
    network = service_of(request).runtime.neighbours
    return [msgspec.to_builtins(peer) for peer in network.view()] if network else []


@router.get("/sync_status", summary="How far this node is behind what is proved to be final")
async def sync_status(request: Request) -> Json:
    runtime = service_of(request).runtime
    view = runtime.sync_view()
    height = runtime.executor.head.block.header.height
    return {
        "state": view.state if view else SyncState.LIVE,
        "height": height,
        "target": max(height, view.target) if view else height,
        "blocksPerSecond": view.blocks_per_s if view else None,
        "etaS": view.eta_s if view else None,
    }


@router.get("/rpc/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    limits: Limits = request.app.state.limits
    body, media_type = exposition(service_of(request), lambda: limits.refused)
    return Response(body, media_type=media_type)


@router.get("/", include_in_schema=False)
async def page(request: Request) -> HTMLResponse:
    """Head and supply as plain HTML that refreshes itself; no script, no request to anywhere else."""
    service = service_of(request)
    head, supply = service.head(), service.supply()
    rows = {
        "Chain": head["chainId"],
        "Height": f"{head['height']:,}",
        "Block": head["hash"],
        "Genesis": head["genesisHash"],
        **{name.capitalize(): format_ait(int(amount)) for name, amount in supply.items()},
    }
    cells = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    html = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>"
        "<title>AITBC node</title><style>body{font:16px system-ui;margin:2rem}th{text-align:left;padding-right:2rem}"
        "td{font-family:monospace;overflow-wrap:anywhere}</style>"
        f'<h1>AITBC node</h1><table>{cells}</table><p><a href="/docs">RPC reference</a>'
    )
    return HTMLResponse(html)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The OpenAPI document for people."""
    return HTMLResponse(reference_page(request.app.openapi()))
