"""One HTTP call as a value, and the two ways to perform it: waiting or on an event loop.

What a call asks and how its answer is read is written once and shared by both kinds of clients.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from aitbc.client.errors import ApiError, Unreachable, bad_answer

T = TypeVar("T")

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Four times the largest result a hub may send in base64; a server that sends more is broken or hostile."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """What to ask and how to read the answer."""

    method: str
    path: str
    read: Callable[[Any], T]
    """From the decoded JSON to the result; a KeyError, TypeError or ValueError means an unusable answer."""
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Any = None
    """Sent as JSON; None for no body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    extra_s: float = 0
    """How much longer than the client's usual timeout the server may think (it was asked to wait)."""
    absent: frozenset[str] = frozenset()
    """Error codes that mean "there is none"; `read(None)` is the result then."""


class _Answer:
    """Status and body of a response as its pieces come in, with a limit."""

    def __init__(self, url: str, status: int) -> None:
        self.url = url
        self.status = status
        self.body = bytearray()

    def add(self, piece: bytes) -> None:
        self.body += piece
        if len(self.body) > MAX_ANSWER_BYTES:
            raise bad_answer(self.url, f"sent more than {MAX_ANSWER_BYTES} bytes")

    def conclude(self, call: Call[T]) -> T:
        """The call's result, or the error that the answer is."""
        if self.status >= 400:
            error = problem_of(self.status, bytes(self.body))
            if error.code not in call.absent:
                raise error
            return call.read(None)
        if self.status >= 300:
            raise bad_answer(self.url, f"redirects ({self.status}); redirects are not followed")
        try:
            return call.read(msgspec.json.decode(self.body))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise bad_answer(
                self.url, f"gave an answer to {call.path} that cannot be read ({error})"
            ) from None


def problem_of(status: int, body: bytes) -> ApiError:
    """The error inside an error answer: problem details if it has them, else what the status says."""
    try:
        problem = msgspec.json.decode(body)
        code = problem["code"]
        message = problem.get("detail") or problem.get("title") or code
        fix = problem.get("fix") or ""
        if not (isinstance(code, str) and isinstance(message, str) and isinstance(fix, str)):
            raise TypeError
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError, RecursionError):
        return ApiError(f"http_{status}", f"the server answered with HTTP status {status}", "", status)
    return ApiError(code, message, fix, status)


@contextmanager
def network_errors(url: str, timeout: float) -> Iterator[None]:
    """Turn every failure to get an answer into `Unreachable`."""
    try:
        yield
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
        raise Unreachable(url, "give a URL such as http://127.0.0.1:8080", "this is no HTTP URL") from None
    except httpx2.ConnectTimeout:
        raise Unreachable(url, _START, "no connection in time") from None
    except httpx2.ConnectError:
        raise Unreachable(url, _START, "nothing listens there") from None
    except httpx2.TimeoutException:
        raise Unreachable(url, "try again, or allow more time", f"no answer in {timeout:g} s") from None
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise Unreachable(url, "try again", str(error) or type(error).__name__) from None


_START = "start one with: aitbc devnet, or give its URL with --rpc or --hub"


def _options(base_url: str, timeout: float) -> dict[str, Any]:
    """Proxies from the environment are for far hosts; certificates are loaded only where they are used."""
    parts = urlsplit(base_url)
    return {
        "base_url": base_url,
        "timeout": timeout,
        "trust_env": parts.hostname not in _LOOPBACK,
        "verify": parts.scheme == "https",
        "follow_redirects": False,
    }


def checked_url(base_url: str) -> str:
    """The URL without a slash at its end; refuses what no HTTP client could use."""
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise Unreachable(base_url, "give a URL such as http://127.0.0.1:8080", "this is no HTTP URL")
    return base_url.rstrip("/")


class SyncHttp:
    """Performs calls and waits for them."""

    def __init__(
        self, base_url: str, timeout: float = 10, *, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self.base_url = checked_url(base_url)
        self.timeout = timeout
        self._client = httpx2.Client(**_options(self.base_url, timeout), transport=transport)

    def perform(self, call: Call[T]) -> T:
        timeout = self.timeout + call.extra_s
        with (
            network_errors(self.base_url, timeout),
            self._client.stream(**_request(call, timeout)) as response,
        ):
            answer = _Answer(self.base_url, response.status_code)
            for piece in response.iter_bytes():
                answer.add(piece)
        return answer.conclude(call)

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncHttp:
    """Performs calls on an event loop."""

    def __init__(
        self, base_url: str, timeout: float = 10, *, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self.base_url = checked_url(base_url)
        self.timeout = timeout
        self._client = httpx2.AsyncClient(**_options(self.base_url, timeout), transport=transport)

    async def perform(self, call: Call[T]) -> T:
        timeout = self.timeout + call.extra_s
        with network_errors(self.base_url, timeout):
            async with self._client.stream(**_request(call, timeout)) as response:
                answer = _Answer(self.base_url, response.status_code)
                async for piece in response.aiter_bytes():
                    answer.add(piece)
        return answer.conclude(call)

    async def close(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _request(call: Call[Any], timeout: float) -> dict[str, Any]:
    request: dict[str, Any] = {
        "method": call.method,
        "url": call.path,
        "params": dict(call.query),
        "headers": dict(call.headers),
        "timeout": timeout,
    }
    if call.body is not None:
        request["content"] = msgspec.json.encode(call.body)
        request["headers"] = {"content-type": "application/json", **call.headers}
    return request
