"""Stage 1 of seed 003: a picture server of its own, without chain and hub. docs/spec/gateway.md "Seed 003"

One key, ten pictures a minute for an address, one picture at a time, one log line for each.
"""

import asyncio
import hmac
import os
import secrets
import shutil
import time
from collections import OrderedDict
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aitbc import __version__
from aitbc.adapters import loop
from aitbc.adapters.http.problems import Problem, on_bug, on_problem, read_body
from aitbc.adapters.http.seed003 import (
    GENERATE_IMAGE,
    HEALTH,
    GenerateImage,
    image_answer,
    invalid_api_key,
    openapi_document,
    read_generate_image,
    request_fields,
    too_many,
)
from aitbc.adapters.http.serving import QuietServer, http_settings, listen, stop_asked
from aitbc.client.signing import KeySigner
from aitbc.core.jobs.reasons import Refused
from aitbc.core.jobs.requests import MAX_SEED, engine_request, normalise_request, prompt_hash_of
from aitbc.core.jobs.units import ImageProfile, profile_of
from aitbc.ports import EngineError, EngineOutput
from aitbc.provider.config import ProviderConfig
from aitbc.provider.engine import EngineGone, EngineProcess
from aitbc.provider.joblog import JsonLog

TITLE = "AITBC Stage1 Server"
LOG_FILE = "serve.jsonl"
TEMPORARY = "tmp"
"""The engine's temporary folder, within the server's: emptied after each job."""
PER_MINUTE = 10
"""The seed's `@limiter.limit("10/minute")`, by address."""
MAX_ADDRESSES = 10_000
MAX_WAITING = 4
"""Pictures that wait for the one being made; more are sent away, because nobody waits five pictures long."""
MAX_BODY_BYTES = 64 * 1024
MOST_DRAWN_SEED = 2**31
PICTURE_S = 120.0
"""The seed's client gives up after this."""
STOP_S = 2


class AloneConfig(msgspec.Struct, frozen=True, kw_only=True):
    api_key: str
    data_dir: Path
    model: str = ""
    """Empty: the first picture model of the engines."""
    bind_host: str = "127.0.0.1"
    bind_port: int = 8000
    device: str = "cpu"
    engines: tuple[str, ...] = ()
    per_minute: int = PER_MINUTE


class Alone:
    """One engine child behind two routes."""

    def __init__(self, config: AloneConfig) -> None:
        self.config = config
        self.engine = EngineProcess(
            ProviderConfig(
                signer=KeySigner(secrets.token_bytes(32)),  # nothing is ever signed here
                data_dir=config.data_dir,
                engines=config.engines,
                models=(config.model,) if config.model else (),
            )
        )
        self.model = ""
        self._log = JsonLog(config.data_dir / LOG_FILE)
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._asked: OrderedDict[str, list[float]] = OrderedDict()

    async def start(self) -> None:
        """Raises EngineGone when no engine draws pictures by the model that is asked for."""
        await self.engine.start()
        pictures = sorted([card.model for card in self.engine.cards.values() if card.kind == "image"])
        if not pictures:
            await self.engine.stop()
            raise EngineGone(
                f"no engine here draws pictures{f' by {self.config.model}' if self.config.model else ''}"
            )
        self.model = pictures[0]

    async def generate(self, request: Request) -> Response:
        """Seed 003's POST /v1/generate-image."""
        self._slow_down(request.client.host if request.client else "unknown")
        asked = read_generate_image(await read_body(request, MAX_BODY_BYTES))
        if not hmac.compare_digest(asked.api_key.encode(), self.config.api_key.encode()):
            raise invalid_api_key()
        wanted = self._request(asked)
        if self._waiting > MAX_WAITING:
            raise _busy(f"{self._waiting} pictures are wanted already")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._make(wanted)
        finally:
            self._waiting -= 1

    def _request(self, asked: GenerateImage) -> dict[str, Any]:
        """The engine's request; a model may allow less than the seed."""
        profile = profile_of(self.model)
        assert isinstance(profile, ImageProfile), "only picture models are served"
        seed = secrets.randbelow(MOST_DRAWN_SEED) if asked.seed is None else asked.seed % (MAX_SEED + 1)
        try:
            return normalise_request(profile, request_fields(asked, seed=seed), nonce="0" * 32)
        except Refused as refused:
            fix = f"ask for what {self.model} can do"
            raise Problem(HTTPStatus.BAD_REQUEST, refused.reason, refused.message, fix) from None

    async def _make(self, wanted: dict[str, Any]) -> Response:
        began, job_id = time.monotonic(), f"{datetime.now(UTC):%Y-%m-%d}-{secrets.token_hex(6)}"
        output: EngineOutput | None = None
        engine_ms, exit_code = 0, "interrupted"
        try:
            async with asyncio.timeout(PICTURE_S):
                output, engine_ms = await self.engine.run(
                    run_id=job_id, model=self.model, request=engine_request(wanted), on_event=lambda _: None
                )
            exit_code = "ok"
        except TimeoutError:
            exit_code = "timeout"
            raise Problem(
                HTTPStatus.GATEWAY_TIMEOUT, "timeout", f"no picture in {PICTURE_S:g} s", "ask for fewer steps"
            ) from None
        except EngineError as error:
            exit_code = error.reason
            raise _busy(f"the engine made no picture: {error.message}"[:300]) from None
        finally:
            duration_ms = int((time.monotonic() - began) * 1000)
            self._write_log(job_id, wanted, output, duration_ms, engine_ms, exit_code)
            wipe(self.config.data_dir / TEMPORARY)
        answer = image_answer(job_id=job_id, data=output.data, duration_ms=duration_ms, gpu_ms=engine_ms)
        return Response(msgspec.json.encode(answer), media_type="application/json")

    def _write_log(
        self,
        job_id: str,
        wanted: dict[str, Any],
        output: EngineOutput | None,
        duration_ms: int,
        engine_ms: int,
        exit_code: str,
    ) -> None:
        """The seed's fields, to the file and to standard output."""
        entry = {
            "job_id": job_id,
            "duration_ms": duration_ms,
            "gpu_seconds": engine_ms / 1000,
            "bytes_out": len(output.data) if output else 0,
            "prompt_hash": prompt_hash_of(wanted),
            "exit_code": exit_code,
        }
        self._log.write(entry)
        print(msgspec.json.encode(entry).decode(), flush=True)

    def _slow_down(self, address: str) -> None:
        """A window that moves: no more than ten in any sixty seconds."""
        now = time.monotonic()
        times = [at for at in self._asked.pop(address, []) if now - at < 60]
        full = len(times) >= self.config.per_minute
        self._asked[address] = times if full else [*times, now]
        if len(self._asked) > MAX_ADDRESSES:
            self._asked.popitem(last=False)
        if full:
            raise too_many(self.config.per_minute)

    async def health(self, _request: Request) -> Response:
        """Seed 003's GET /v1/health."""
        body = {
            "status": "ok" if self.engine.ready else "degraded",
            "gpu": self.config.device,
            "model": self.model,
        }
        return Response(msgspec.json.encode(body), media_type="application/json")


def application(alone: Alone) -> Starlette:
    document = openapi_document(TITLE, __version__)

    async def openapi(_request: Request) -> Response:
        return Response(msgspec.json.encode(document), media_type="application/json")

    return Starlette(
        routes=[
            Route(HEALTH, alone.health),
            Route(GENERATE_IMAGE, alone.generate, methods=["POST"]),
            Route("/openapi.json", openapi),
        ],
        exception_handlers={Problem: on_problem, Exception: on_bug},
    )


def run(config: AloneConfig) -> int:
    """Serve until SIGINT or SIGTERM. Raises OSError for the port or folder, EngineGone when no engine works."""
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = config.data_dir / TEMPORARY
    temporary.mkdir(exist_ok=True, mode=0o700)
    wipe(temporary)
    os.environ["TMPDIR"] = str(temporary)  # the engine child takes it over
    return loop.run(_serve(config))


async def _serve(config: AloneConfig) -> int:
    with listen(config.bind_host, config.bind_port) as listener:
        stopping = stop_asked()
        alone = Alone(config)
        await alone.start()
        server = QuietServer(
            http_settings(application(alone), lifespan="off", ws="none", timeout_graceful_shutdown=STOP_S)
        )
        page = asyncio.create_task(server.serve(sockets=[listener]))
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait([page, stop], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            server.should_exit = True
            await page
            await alone.engine.stop()
    return 0


def wipe(folder: Path) -> None:
    """Everything in it, whatever an engine left there."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _busy(detail: str) -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, "try again in a moment", {"Retry-After": "2"}
    )
