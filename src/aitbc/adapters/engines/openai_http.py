"""An engine before any server that speaks OpenAI's protocol: vLLM, Ollama, llama.cpp, another hub.

The server computes; this counts again, stops by hanging up, tries again only while nothing has come, and tells nobody
its key. Which servers and models: docs/howto/engines.md.
"""

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from aitbc.adapters.engines.openai_client import (
    Answer,
    Broken,
    Piece,
    Server,
    Vectors,
    connect,
)
from aitbc.adapters.engines.settings import (
    EngineSettings,
    RemoteModel,
    RemoteServer,
    read_settings,
    secret_of,
)
from aitbc.adapters.engines.steps import run_alone
from aitbc.core.jobs.reasons import Refused
from aitbc.core.jobs.requests import check_normalised
from aitbc.core.jobs.units import ChatProfile, EmbeddingProfile, profile_of
from aitbc.ports import EngineError, EngineOutput, Estimate, ModelCard, StepRun

STEP_S = 0.05
"""The longest that a step waits for something to happen: a cancel is heard as soon."""
CLOSE_S = 0.3
"""How long hanging up may take; the connection is dropped after it."""
MEMORY_BYTES = 24 * 1024 * 1024
"""Text, pieces on their way and the HTTP client; measured 9 MiB. The model's memory is the server's."""
MAX_TEXT_BYTES = 1024 * 1024
"""Far above what a profile's tokens can spell; a server that sends more is broken."""
ENGINE_NONCE = "0" * 32
"""Requests are checked in their canonical form, whose nonce engines never see."""


@dataclass(kw_only=True)
class RemoteRun:
    """A request under way at the server."""

    remote: RemoteModel
    request: dict[str, Any]
    total: int
    """Tokens or texts at most, for progress."""
    shape: str = "any"
    over: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)
    answer: Answer = field(default_factory=Answer)
    vectors: Vectors | None = None
    failure: EngineError | None = None
    task: "asyncio.Task[None] | None" = None

    @property
    def position(self) -> str:
        return f"{self.answer.pieces} pieces of text"


class OpenAiHttp:
    """All models of all servers that the settings name. Runs its own event loop, only while it is asked to advance."""

    name = "openai_http"

    def __init__(self, settings: EngineSettings | None = None) -> None:
        servers = (settings if settings is not None else read_settings()).openai_http
        self._remotes: dict[str, tuple[RemoteModel, RemoteServer]] = {}
        for server in servers:
            for remote in server.models:
                if remote.model in self._remotes:
                    raise EngineError("failed", f"{remote.model} is listed twice")
                self._remotes[remote.model] = remote, server
        self._servers: dict[str, Server] = {}
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()

    def models(self) -> list[ModelCard]:
        return [_card(remote) for remote, _ in self._remotes.values()]

    def load(self, model: str) -> None:
        """Ask the server whether it has the model: better now than at the first job."""
        remote, server = self._remote(model)
        if server.url not in self._servers:
            self._servers[server.url] = connect(server, secret_of(server))
        self._loop.run_until_complete(_translated(self._servers[server.url].check_model(remote.upstream)))

    def estimate(self, model: str, request: Mapping[str, Any]) -> Estimate:
        self._checked(model, request)
        return Estimate(counts=_most_counts(model, request), memory_bytes=MEMORY_BYTES)

    def run(
        self,
        model: str,
        request: Mapping[str, Any],
        emit: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool],
    ) -> EngineOutput:
        return run_alone(self, model, request, emit, cancelled)

    def begin(self, model: str, request: Mapping[str, Any]) -> RemoteRun:
        remote, server = self._checked(model, request)
        if server.url not in self._servers:
            self.load(model)
        counts = _most_counts(model, request)
        run = RemoteRun(remote=remote, request=dict(request), total=counts.get("out") or counts["inputs"])
        run.task = self._loop.create_task(self._follow(run, self._servers[server.url]))
        return run

    def advance(self, runs: Sequence[StepRun]) -> None:
        """Let the network work until something has come for one of them."""
        self._loop.run_until_complete(self._until_something(runs))

    def finish(self, run: StepRun) -> EngineOutput:
        assert isinstance(run, RemoteRun) and run.over, "a run is finished when it is over"
        if run.failure is not None:
            raise run.failure
        return _text_output(run) if run.vectors is None else _vector_output(run, run.vectors)

    def stop(self, run: StepRun) -> EngineOutput | None:
        """Hang up: a server that speaks this protocol stops computing then. What was told is worth its tokens."""
        assert isinstance(run, RemoteRun) and run.task is not None, "a run is one that `begin` made"
        run.task.cancel()
        self._loop.run_until_complete(asyncio.wait([run.task], timeout=CLOSE_S))
        if run.vectors is not None or run.failure is not None or not run.answer.told_bytes:
            return None
        return _text_output(run, partial=True)

    # inside

    async def _until_something(self, runs: Sequence[StepRun]) -> None:
        if any(run.over or run.events for run in runs):
            await asyncio.sleep(0)
            return
        self._changed.clear()
        try:
            async with asyncio.timeout(STEP_S):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _follow(self, run: RemoteRun, server: Server) -> None:
        try:
            if run.remote.api == "embeddings":
                run.vectors = await server.embed(run.remote, run.request)
                run.events.append({"progress": [run.total, run.total]})
            else:
                async for piece in server.complete(run.remote, run.request):
                    self._hear(run, piece)
                run.events.append({"progress": [run.total, run.total]})
        except Broken as broken:
            run.failure = EngineError(broken.reason, broken.message)
        except EngineError as error:
            run.failure = error
        finally:
            run.over = True
            self._changed.set()

    def _hear(self, run: RemoteRun, piece: Piece) -> None:
        run.answer.add(piece)
        if run.answer.told_bytes > MAX_TEXT_BYTES:
            raise EngineError("failed", f"the server told more than {MAX_TEXT_BYTES} bytes")
        if piece.text:
            run.events.append({"text": piece.text})
            run.events.append({"progress": [min(run.answer.pieces, run.total - 1), run.total]})
            self._changed.set()

    def _remote(self, model: str) -> tuple[RemoteModel, RemoteServer]:
        if model not in self._remotes:
            raise EngineError("bad_request", f"no server here has the model {model!r}")
        return self._remotes[model]

    def _checked(self, model: str, request: Mapping[str, Any]) -> tuple[RemoteModel, RemoteServer]:
        found = self._remote(model)
        try:
            check_normalised(profile_of(model), {**request, "nonce": ENGINE_NONCE})
        except Refused as error:
            raise EngineError("bad_request", error.message) from None
        return found


def _card(remote: RemoteModel) -> ModelCard:
    try:
        profile = profile_of(remote.model)
    except Refused as error:
        raise EngineError("failed", f"{remote.model} cannot be billed: {error.message}") from None
    wanted = EmbeddingProfile if remote.api == "embeddings" else ChatProfile
    if not isinstance(profile, wanted):
        raise EngineError("failed", f"{remote.model} is not served by the {remote.api} route")
    kind = "embedding" if remote.api == "embeddings" else "chat"
    return ModelCard(model=remote.model, kind=kind, digest=remote.digest, limits={}, together=remote.together)


def _most_counts(model: str, request: Mapping[str, Any]) -> dict[str, int]:
    profile = profile_of(model)
    if isinstance(profile, EmbeddingProfile):
        texts = request["input"]
        most = sum([len(text.encode()) + profile.input_overhead for text in texts])
        return {"in": most, "inputs": len(texts)}
    assert isinstance(profile, ChatProfile), "cards are made for these two kinds only"
    return {"in": len(request["prompt"].encode()) + profile.prompt_overhead, "out": request["max_tokens"]}


def _text_output(run: RemoteRun, *, partial: bool = False) -> EngineOutput:
    most, answer = _most_counts(run.remote.model, run.request), run.answer
    data = answer.text.encode()
    if not data:
        raise EngineError("failed", "the server's answer is empty")
    told_in, told_out = answer.told_tokens
    counted = answer.entries if run.remote.logprobs and answer.entries else told_out
    # No token is shorter than a byte, but for the one that ends the text; without any word of the server each piece of
    # text was one at least.
    out = min(answer.pieces if counted is None else counted, most["out"], len(data) + 1)
    notes = {} if told_in is not None else {"prompt_tokens": "the server did not say; none are billed"}
    if told_out is not None and told_out != out:
        notes["server_tokens"] = str(told_out)
    return EngineOutput(
        data=data,
        media_type="text/plain; charset=utf-8",
        counts={"in": min(told_in or 0, most["in"]), "out": out},
        transcript=[sha256(data).digest()],
        notes=notes,
        partial=partial,
    )


def _vector_output(run: RemoteRun, vectors: Vectors) -> EngineOutput:
    inputs, dimensions = len(run.request["input"]), run.request["dimensions"]
    sizes = {len(vector) for vector in vectors.rows}
    if len(vectors.rows) != inputs or sizes != {dimensions}:
        raise EngineError(
            "failed", f"{len(vectors.rows)} vectors of {sorted(sizes)} numbers for {inputs} of {dimensions}"
        )
    rows = [struct.pack(f"<{dimensions}f", *vector) for vector in vectors.rows]
    most = _most_counts(run.remote.model, run.request)["in"]
    silent = vectors.told_tokens is None
    return EngineOutput(
        data=b"".join(rows),
        media_type="application/octet-stream",
        counts={"in": min(vectors.told_tokens or 0, most), "inputs": inputs},
        transcript=[sha256(row).digest() for row in rows],
        notes={"prompt_tokens": "the server did not say; none are billed"} if silent else {},
    )


async def _translated(work: Any) -> None:
    try:
        await work
    except Broken as broken:
        raise EngineError(broken.reason, broken.message) from None
