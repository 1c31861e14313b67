"""Run one request on one engine in a process of its own: `python -m aitbc.adapters.engines.reference module:Class`.

A hub compares a newcomer's work with this. `{request, claimed?}` comes on standard input as JSON; the answer goes to
standard output as JSON: `{data, counts, transcript}` in hexadecimal, of a claimed text `{replay}` (null when the engine
has none), or `{error}`. docs/spec/audits.md "Calibration"
"""

import os

# One BLAS thread, as in a provider: the same request gives the same bytes. Before anything imports numpy.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import asyncio
import contextlib
import importlib
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from aitbc.ports import Engine, EngineError, EngineOutput, Replay, Replaying

RUN_S = 300.0
"""A reference that takes longer is of no use: the job's deadline is over."""
NICE = 5
"""Clients' jobs on the same machine go first."""
MAX_ANSWER = 64 * 1024 * 1024

BUILT_IN = {
    "tiny-lm": "aitbc.adapters.engines.tiny_lm:TinyLm",
    "tiny-diffusion": "aitbc.adapters.engines.tiny_diffusion:TinyDiffusion",
    "tiny-embed": "aitbc.adapters.engines.tiny_embed:TinyEmbed",
}
"""Models whose weights are in the package, so that every hub can run them."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    data: str = ""
    counts: dict[str, int] = {}
    transcript: list[str] = []
    replay: Replay | None = None
    error: str = ""


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    request: dict[str, Any]
    claimed: str | None = None
    """A text in hexadecimal, to be followed token by token; None: run the request."""


async def run_reference(spec: str, request: Mapping[str, Any]) -> EngineOutput:
    """The engine's output; EngineError when there is none. A cancellation ends the process."""
    answer = await _ask(spec, Question(request=dict(request)))
    return EngineOutput(
        data=bytes.fromhex(answer.data),
        media_type="",
        counts=answer.counts,
        transcript=[bytes.fromhex(item) for item in answer.transcript],
        notes={},
    )


async def replay_reference(spec: str, request: Mapping[str, Any], data: bytes) -> Replay | None:
    """How far a text is what the engine tells; None when it cannot say."""
    return (await _ask(spec, Question(request=dict(request), claimed=data.hex()))).replay


async def _ask(spec: str, question: Question) -> Answer:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aitbc.adapters.engines.reference",
        spec,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_ANSWER,
    )
    try:
        async with asyncio.timeout(RUN_S):
            out, _ = await process.communicate(msgspec.json.encode(question))
    except TimeoutError:
        raise EngineError("failed", f"the reference gave no answer within {RUN_S:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        answer = msgspec.json.decode(out, type=Answer)
    except msgspec.DecodeError:
        raise EngineError("failed", f"the reference ended with code {process.returncode}") from None
    if answer.error:
        raise EngineError("failed", answer.error)
    return answer


def main() -> None:
    os.nice(NICE)
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    module, _, name = sys.argv[1].partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), name)()
        engine.load(question.request["model"])
        answer = _answer(engine, question)
    except (EngineError, ImportError, AttributeError) as error:
        answer = Answer(error=f"{type(error).__name__}: {error}"[:400])
    sys.stdout.buffer.write(msgspec.json.encode(answer))


def _answer(engine: Engine, question: Question) -> Answer:
    request = question.request
    if question.claimed is not None:
        claimed = bytes.fromhex(question.claimed)
        if not isinstance(engine, Replaying):
            return Answer()
        return Answer(replay=engine.replay(request["model"], request, claimed))
    output = engine.run(request["model"], request, lambda _event: None, lambda: False)
    transcript = [item.hex() for item in output.transcript]
    return Answer(data=output.data.hex(), counts=dict(output.counts), transcript=transcript)


if __name__ == "__main__":
    main()
