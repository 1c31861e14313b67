"""FastAPI with a short way to the few routes that are asked for hundreds of times a second.

The framework's way through middleware, matching and parameters costs more than checking a signature; a route that reads
its request itself needs none of it. It stays declared as a route too: OpenAPI shows it and refuses other methods.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from aitbc.adapters.http.cors import Cors
from aitbc.adapters.http.problems import Problem, problem_response

Handler = Callable[[Request], Awaitable[Any]]


class HotApp(FastAPI):
    """`hot` names handlers by method and exact path; their answer is a JSON object or a response. Errors are those of
    the framework's way; `Exception` must have a handler.

    `guard` looks at every request, a WebSocket's too, before anything else does and refuses it by raising Problem: a
    WebSocket is not opened then. `cors` names the web pages that may read answers.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.hot: Mapping[tuple[str, str], Handler] = {}
        self.guard: Callable[[Scope], None] | None = None
        self.cors = Cors(())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and self.guard is not None:
            try:
                self.guard(scope)
            except Problem as problem:
                await WebSocket(scope, receive, send).send_denial_response(problem_response(problem))
                return
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        if self.cors:
            if await self.cors.answered(scope, send):
                return
            send = self.cors.wrap(scope, send)
        if self.guard is not None:
            try:
                self.guard(scope)
            except Problem as problem:
                await problem_response(problem)(scope, receive, send)
                return
        handler = self.hot.get((scope["method"], scope["path"]))
        if handler is None:
            await super().__call__(scope, receive, send)
        else:
            await self._hot(handler, scope, receive, send)

    async def _hot(self, handler: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        request = Request(scope, receive)
        try:
            answer = await handler(request)
            if not isinstance(answer, Response):
                answer = Response(msgspec.json.encode(answer), media_type="application/json")
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception as error:
            kind = next(kind for kind in type(error).__mro__ if kind in self.exception_handlers)
            refusal: Response = await self.exception_handlers[kind](request, error)  # type: ignore[misc]
            await refusal(scope, receive, send)
            if kind is Exception:  # a bug: the server logs it
                raise
            return
        await answer(scope, receive, send)
