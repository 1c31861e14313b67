"""An engine on another machine: reads requests from standard input, a line each, and writes what was made of them.

Which machine: OPENBLAS_CORETYPE and OPENBLAS_NUM_THREADS of its environment.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from aitbc.adapters.engines.tiny_diffusion import TinyDiffusion
from aitbc.adapters.engines.tiny_embed import TinyEmbed
from aitbc.adapters.engines.tiny_lm import TinyLm
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.crypto.merkle import list_root
from aitbc.core.jobs.audits import Delivered
from aitbc.ports import EngineOutput

Json = dict[str, Any]
ENGINES: Json = {"tiny-lm": TinyLm(), "tiny-diffusion": TinyDiffusion(), "tiny-embed": TinyEmbed()}


def make(request: Json) -> Delivered:
    """Of this process's own machine."""
    output: EngineOutput = ENGINES[request["model"]].run(
        request["model"], request, lambda _event: None, lambda: False
    )
    return Delivered(
        kind=request["kind"],
        data=output.data,
        output_hash=hash_text(output.data),
        transcript_root="sha256:" + list_root(output.transcript).hex(),
        counts=output.counts,
    )


def made_on(core: str, threads: int, requests: list[Json], *, within_s: float) -> list[Delivered]:
    """What a machine with this kernel makes of these requests."""
    environment = {
        **os.environ,
        "OPENBLAS_CORETYPE": core,
        "OPENBLAS_NUM_THREADS": str(threads),
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "hub.other_machine"],
        input="\n".join([json.dumps(request) for request in requests]),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=within_s,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [Delivered(**{**answer, "data": bytes.fromhex(answer["data"])}) for answer in answers]


def main() -> None:
    for line in sys.stdin:
        made = make(json.loads(line))
        answer = {name: getattr(made, name) for name in made.__struct_fields__}
        print(json.dumps({**answer, "data": made.data.hex()}), flush=True)


if __name__ == "__main__":
    main()
