"""OpenAI's protocol from the asking side: one server, its streams of text and its vectors, everything bounded.

What a server sends is foreign: every line and every answer has a largest size, every wait an end.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from aitbc.adapters.engines.settings import RemoteModel, RemoteServer

if TYPE_CHECKING:
    import httpx2

MAX_LINE_BYTES = 1024 * 1024
"""Of a stream; a piece with twenty log-probabilities is 4 KiB."""
MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Of an answer that comes at once: 128 vectors of 4,096 numbers, written out, are 12 MiB."""
MAX_WORDS = 300
RETRY_LEAST_S, RETRY_MOST_S = 0.2, 5.0
WORTH_ANOTHER_TRY = (429, 502, 503, 504)

T = TypeVar("T")


class Broken(Exception):
    """The server could not be used; the reason is an engine's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message[:MAX_WORDS]


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class _Logprobs(msgspec.Struct, frozen=True):
    content: list[Any] | None = None
    tokens: list[Any] | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class _Vector(msgspec.Struct, frozen=True):
    embedding: list[float]
    index: int = 0


class _Embeddings(msgspec.Struct, frozen=True):
    data: list[_Vector]
    usage: _Usage | None = None


class _Model(msgspec.Struct, frozen=True):
    id: str


class _Models(msgspec.Struct, frozen=True):
    data: list[_Model]


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """What one event of a stream says."""

    text: str
    entries: int
    """Tokens with a log-probability; 0 when none were sent."""
    usage: tuple[int | None, int | None] | None


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[list[float]]
    told_tokens: int | None


@dataclass
class Answer:
    """A text as far as it has come."""

    said: list[str] = field(default_factory=list)
    told_bytes: int = 0
    pieces: int = 0
    """That held text: at most as many as tokens."""
    entries: int = 0
    told_tokens: tuple[int | None, int | None] = (None, None)
    """Prompt's and answer's, by the server."""

    @property
    def text(self) -> str:
        return "".join(self.said)

    def add(self, piece: Piece) -> None:
        if piece.text:
            self.said.append(piece.text)
            self.told_bytes += len(piece.text.encode())
            self.pieces += 1
        self.entries += piece.entries
        self.told_tokens = piece.usage or self.told_tokens


def connect(settings: RemoteServer, key: str) -> "Server":
    return Server(settings, key)


class Server:
    """One server. Its key leaves this object in a header and nowhere else."""

    def __init__(self, settings: RemoteServer, key: str) -> None:
        if not settings.url.startswith(("http://", "https://")):
            raise Broken("failed", f"{settings.url} is no http or https URL")
        import httpx2  # a fifth of a second, which children without such a server do not spend

        self._library = httpx2
        self._settings = settings
        self._key = key
        headers = {"accept-encoding": "identity", **({"authorization": f"Bearer {key}"} if key else {})}
        timeout = httpx2.Timeout(settings.first_byte_s, connect=settings.connect_s)
        self._http = httpx2.AsyncClient(
            base_url=settings.url.rstrip("/") + "/", headers=headers, timeout=timeout, follow_redirects=False
        )

    async def check_model(self, upstream: str) -> None:
        response = await self._sent("GET", "models", None)
        try:
            listed = _read(await self._whole(response), _Models)
        finally:
            await response.aclose()
        names = [model.id for model in listed.data]
        if upstream not in names:
            raise Broken(
                "failed", f"{self._settings.url} has no model {upstream}; it has {', '.join(names[:8])}"
            )

    async def complete(self, remote: RemoteModel, request: Mapping[str, Any]) -> AsyncIterator[Piece]:
        """The pieces of an answer. It is whole when the server says so; a stream that just ends is broken."""
        path = "chat/completions" if remote.api == "chat" else "completions"
        response = await self._sent("POST", path, _body(remote, request))
        finished = False
        try:
            async for line in self._lines(response):
                if not line.startswith(b"data:"):
                    continue
                said = line[5:].strip()
                if said == b"[DONE]":
                    finished = True
                    break
                chunk = _read(said, _Chunk)
                if chunk.error is not None:
                    raise Broken("failed", self._without_key(f"the server says: {chunk.error}"))
                finished = finished or any(choice.finish_reason for choice in chunk.choices)
                yield _piece(chunk)
        finally:
            await response.aclose()
        if not finished:
            raise Broken("failed", "the server broke off in the middle of its answer")

    async def embed(self, remote: RemoteModel, request: Mapping[str, Any]) -> Vectors:
        body = {"model": remote.upstream, "input": request["input"], "encoding_format": "float"}
        response = await self._sent("POST", "embeddings", body | {"dimensions": request["dimensions"]})
        try:
            answer = _read(await self._whole(response), _Embeddings)
        finally:
            await response.aclose()
        rows = [vector.embedding for vector in sorted(answer.data, key=lambda vector: vector.index)]
        return Vectors(rows=rows, told_tokens=answer.usage.prompt_tokens if answer.usage else None)

    async def close(self) -> None:
        await self._http.aclose()

    # inside

    async def _sent(self, method: str, path: str, body: Any) -> "httpx2.Response":
        """An answer whose headers are good and whose body is not read. Only here anything is tried again."""
        pause_s = RETRY_LEAST_S
        for left in range(self._settings.tries - 1, -1, -1):
            try:
                content = msgspec.json.encode(body) if body is not None else None
                headers = {"content-type": "application/json"} if body is not None else {}
                asked = self._http.build_request(method, path, content=content, headers=headers)
                response = await self._http.send(asked, stream=True)
            except self._library.TimeoutException as error:
                if not isinstance(error, self._library.ConnectTimeout) or not left:
                    raise Broken("failed", f"{self._settings.url} did not answer in time") from None
            except (self._library.TransportError, self._library.InvalidURL) as error:
                if not left:
                    text = f"{self._settings.url} cannot be reached: {type(error).__name__}: {error}"
                    raise Broken("failed", self._without_key(text)) from None
            else:
                if response.status_code == 200:
                    return response
                if not left or response.status_code not in WORTH_ANOTHER_TRY:
                    raise await self._refusal(response)
                pause_s = max(pause_s, _asked_pause_s(response))
                await response.aclose()
            await asyncio.sleep(min(pause_s, RETRY_MOST_S))
            pause_s *= 2
        raise AssertionError("the last try returns or raises")

    async def _refusal(self, response: "httpx2.Response") -> Broken:
        """A wrong request is the client's; everything else is ours or the server's."""
        try:
            said = (await self._whole(response))[:MAX_WORDS].decode(errors="replace")
        except Broken as broken:
            said = broken.message
        finally:
            await response.aclose()
        reason = "bad_request" if response.status_code in (400, 413, 422) else "failed"
        return Broken(reason, self._without_key(f"the server answers {response.status_code}: {said}"))

    async def _lines(self, response: "httpx2.Response") -> AsyncIterator[bytes]:
        rest = b""
        async for data in self._bytes(response):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise Broken("failed", f"the server sends a line of more than {MAX_LINE_BYTES} bytes")
            for line in lines:
                yield line.strip()
        yield rest.strip()

    async def _whole(self, response: "httpx2.Response") -> bytes:
        parts, size = [], 0
        async for data in self._bytes(response):
            parts.append(data)
            size += len(data)
            if size > MAX_ANSWER_BYTES:
                raise Broken("failed", f"the server sends more than {MAX_ANSWER_BYTES} bytes")
        return b"".join(parts)

    async def _bytes(self, response: "httpx2.Response") -> AsyncIterator[bytes]:
        """As they come: the first may take long, after it no pause is longer than the settings say."""
        stream = response.aiter_raw()
        wait_s = self._settings.first_byte_s
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    data = await anext(stream, None)
            except (TimeoutError, self._library.TimeoutException):
                raise Broken("failed", f"the server said nothing for {wait_s:g} s") from None
            except self._library.TransportError as error:
                raise Broken("failed", f"the server broke off: {type(error).__name__}") from None
            if data is None:
                return
            wait_s = self._settings.pause_s
            yield data

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _body(remote: RemoteModel, request: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": remote.upstream,
        "max_tokens": request["max_tokens"],
        "temperature": request["temperature_milli"] / 1000,
        "seed": request["seed"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if remote.top_k:
        body["top_k"] = request["top_k"]
    if remote.api == "completions":
        return body | {"prompt": request["prompt"]} | ({"logprobs": 1} if remote.logprobs else {})
    messages = [{"role": "user", "content": request["prompt"]}]
    return body | {"messages": messages} | ({"logprobs": True} if remote.logprobs else {})


def _piece(chunk: _Chunk) -> Piece:
    text = "".join([choice.text or choice.delta.content or "" for choice in chunk.choices[:1]])
    found = [choice.logprobs for choice in chunk.choices[:1] if choice.logprobs is not None]
    entries = sum([len(logprobs.content or logprobs.tokens or []) for logprobs in found])
    usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens) if chunk.usage is not None else None
    return Piece(text=text, entries=entries, usage=usage)


def _read(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Broken("failed", f"the server's answer cannot be read: {error}") from None


def _asked_pause_s(response: "httpx2.Response") -> float:
    said = response.headers.get("retry-after", "")
    return float(said) if said.isdecimal() and len(said) < 4 else 0.0
