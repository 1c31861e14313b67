"""Times every HTTP request of the hub, to the end of its answer, under the name of its route."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aitbc.hub.metrics import OTHER

EVENTS = "/events"
"""Streams of events last as long as jobs do and say nothing about the hub's own time."""


class Measured:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 499

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            hub = getattr(scope["app"].state, "hub", None)
            route = getattr(scope.get("route"), "path", OTHER)
            if hub is not None and not route.endswith(EVENTS):
                hub.measures.answered(route, status, time.monotonic() - began)
