"""Run one request on one engine in a process of its own: `python -m aitbc.adapters.engines.reference module:Class`.

A hub compares a newcomer's work with this. The request comes on standard input as JSON, the answer goes to standard
output as JSON: `{data, counts, transcript}` in hexadecimal, or `{error}`. docs/spec/audits.md "Calibration"
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

from aitbc.ports import Engine, EngineError, EngineOutput

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
    error: str = ""


async def run_reference(spec: str, request: Mapping[str, Any]) -> EngineOutput:
    """The engine's output; EngineError when there is none. A cancellation ends the process."""
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
            out, _ = await process.communicate(msgspec.json.encode(request))
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
    return EngineOutput(
        data=bytes.fromhex(answer.data),
        media_type="",
        counts=answer.counts,
        transcript=[bytes.fromhex(item) for item in answer.transcript],
        notes={},
    )


def main() -> None:
    os.nice(NICE)
    request = msgspec.json.decode(sys.stdin.buffer.read())
    module, _, name = sys.argv[1].partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), name)()
        engine.load(request["model"])
        output = engine.run(request["model"], request, lambda _event: None, lambda: False)
    except (EngineError, ImportError, AttributeError) as error:
        answer = Answer(error=f"{type(error).__name__}: {error}"[:400])
    else:
        transcript = [item.hex() for item in output.transcript]
        answer = Answer(data=output.data.hex(), counts=dict(output.counts), transcript=transcript)
    sys.stdout.buffer.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
