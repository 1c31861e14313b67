"""uvicorn's fast HTTP protocol with the bounds that it lacks: on headers, on time and on connections.

Every refusal is a problem document, as everywhere else.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from aitbc.adapters.http.limits import owner_at
from aitbc.adapters.http.problems import problem_body

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers together; nginx allows 32 KiB."""
HEAD_S = 10.0
"""From the first byte of a request, or from the connection, to the end of its headers."""
WRITE_S = 30.0
"""A client that does not read for so long while an answer waits for it is left."""
MAX_CONNECTIONS = 2_000
MAX_CONNECTIONS_AT_OWNER = 128
"""From one public address, WebSockets among them: twenty browsers behind one router."""
RESERVED_FOR_LOCAL = 200
"""Of all connections: for this machine and its network, so that its own hub, wallet and operator get in."""
LAST_WORDS_S = 1.0
"""What a refused client still sends is read and thrown away for this long."""

_TOO_MUCH = (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", "send fewer headers")
_TOO_SLOW = (HTTPStatus.REQUEST_TIMEOUT, "too_slow", "send the whole request at once")
_TOO_MANY = (HTTPStatus.SERVICE_UNAVAILABLE, "too_many_connections", "try again in a moment")
_MALFORMED = (HTTPStatus.BAD_REQUEST, "malformed", "send an HTTP/1.1 request")


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._first_chunk = 0
        self._between = True
        self._in_head = True
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._over = False
        """Refused, or handed over to the WebSocket protocol: nothing here concerns us any more."""
        crowd = self._crowd()
        if crowd:
            self._refuse(_TOO_MANY, crowd)
        else:
            self._wait_for_head()

    def _crowd(self) -> str:
        """What there is too much of for one more connection; empty: it may stay. This one is counted already."""
        owner = _owner_of(self)
        most = MAX_CONNECTIONS - RESERVED_FOR_LOCAL if owner else MAX_CONNECTIONS
        if len(self.connections) > most:
            return f"more than {most} connections are open"
        if not owner or len(self.connections) <= MAX_CONNECTIONS_AT_OWNER:  # nobody can have more
            return ""
        if sum(_owner_of(other) == owner for other in self.connections) > MAX_CONNECTIONS_AT_OWNER:
            return f"more than {MAX_CONNECTIONS_AT_OWNER} connections are open at {owner}"
        return ""

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._first_chunk = len(data) if self._between else 0
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._over or self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(_TOO_MUCH, f"request line and headers exceed {MAX_HEAD_BYTES} bytes")
        elif self._head_timer is None and self._is_idle():
            self._wait_for_head()  # what came was no request, and it has ended uvicorn's own waiting

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def handle_websocket_upgrade(self) -> None:
        self._over = True
        self._stop_waiting()
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_head:  # another request on the same connection
            self._in_head, self._head_bytes = True, self._first_chunk
            self._wait_for_head()
        self._between = False

    def on_message_complete(self) -> None:
        self._between = True
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        size = len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])
        if size > MAX_HEAD_BYTES:
            self.app = _answer_too_large  # the parser still needs a request to give the body to
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(_MALFORMED, msg)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(HEAD_S, self._head_late)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        if self._over or self.transport.is_closing():
            return
        if not self._is_idle():
            self._wait_for_head()  # an answer is under way; what was pipelined behind it can wait
        elif not self._in_head:
            self.transport.close()  # the last answer is out, and nothing new has begun
        else:
            self._refuse(_TOO_SLOW, f"the headers were not complete after {HEAD_S:g} s")

    def _refuse(self, what: tuple[HTTPStatus, str, str], detail: str) -> None:
        """Answer and close, but listen a little longer: closing on unread bytes would take the answer back."""
        self._over = True
        self._stop_waiting()
        status, code, fix = what
        body = msgspec.json.encode(problem_body(status, code, detail, fix))
        later = "retry-after: 1\r\n" if status is HTTPStatus.SERVICE_UNAVAILABLE else ""
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\n{later}connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.loop.call_later(LAST_WORDS_S, self.transport.close)
        with contextlib.suppress(OSError):  # the peer may be gone
            self.transport.write_eof()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose other side must read: closing waits for that, and a socket that is never read would stay."""

    max_frames: ClassVar[Mapping[str, int]] = {}
    """Paths that take longer messages than the server's `ws_max_size`, in bytes."""

    def handle_connect(self, event: Request) -> None:
        longer = self.max_frames.get(event.path.partition("?")[0])
        if longer is not None:
            self.conn.max_message_size = longer
        super().handle_connect(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()  # or pings that it sends would pile up answers that it does not read
        self._write_timer = self.loop.call_later(WRITE_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._write_timer.cancel()
        if not self.read_paused:
            self.transport.resume_reading()
        super().resume_writing()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = (
                True  # a refusal is an answer, which uvicorn would log as an error of ours
            )

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self.loop.call_later(WRITE_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.writable.is_set():
            self._write_timer.cancel()
        super().connection_lost(exc)


def _owner_of(connection: Any) -> str:
    """Whom a connection of either protocol counts for; empty for local ones."""
    return owner_at(connection.client[0]) if connection.client else ""


async def _answer_too_large(_scope: Any, _receive: Any, send: Any) -> None:
    status, code, fix = _TOO_MUCH
    body = msgspec.json.encode(
        problem_body(status, code, f"request line and headers exceed {MAX_HEAD_BYTES} bytes", fix)
    )
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body})
