"""Which web pages may read answers: those of the origins that the operator names, and nobody else's."""

from collections.abc import Collection

from starlette.types import Message, Scope, Send

MAX_AGE_S = 600
"""How long a browser may remember that it may ask: what Chrome and Safari remember at most."""
_ALLOW = (
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (b"access-control-allow-headers", b"authorization, content-type, x-api-key"),
    (b"access-control-max-age", str(MAX_AGE_S).encode()),
)
_EXPOSE = (b"access-control-expose-headers", b"retry-after, location, ait-genesis-hash")


def origin_of(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"origin":
            return bytes(value)
    return None


class Cors:
    """Adds what browsers ask for; other requests go by untouched."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = {origin.encode() for origin in origins}

    def __bool__(self) -> bool:
        return bool(self._origins)

    async def answered(self, scope: Scope, send: Send) -> bool:
        """Whether this was a browser's question in advance, which is answered now."""
        if scope["method"] != "OPTIONS" or not any(
            name == b"access-control-request-method" for name, _ in scope["headers"]
        ):
            return False
        origin = origin_of(scope)
        allowed = origin in self._origins
        headers = [*_ALLOW, (b"access-control-allow-origin", origin or b"")] if allowed else []
        status = 204 if allowed else 403
        await send(
            {"type": "http.response.start", "status": status, "headers": [*headers, (b"vary", b"origin")]}
        )
        await send({"type": "http.response.body", "body": b""})
        return True

    def wrap(self, scope: Scope, send: Send) -> Send:
        origin = origin_of(scope)
        if origin is None or origin not in self._origins:
            return send

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(b"access-control-allow-origin", origin), (b"vary", b"origin"), _EXPOSE]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        return sending
