"""An engine that works in steps and does nothing in them but wait, leak on request, or ask for more than there is."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aitbc.adapters.engines.steps import run_alone
from aitbc.ports import EngineOutput, Estimate, ModelCard, StepRun

TOGETHER = 3


class Stroke:
    def __init__(self, request: Mapping[str, Any]) -> None:
        self.request = request
        self.done = 0
        self.most = 0
        self.shape = "any"
        self.events: list[dict[str, Any]] = []

    @property
    def over(self) -> bool:
        return self.done == int(self.request["steps"])

    @property
    def position(self) -> str:
        return f"{self.done} strokes"


class Brush:
    """Serves tiny-diffusion."""

    name = "brush"

    def __init__(self) -> None:
        self._leak: list[bytes] = []

    def models(self) -> list[ModelCard]:
        digest = "sha256:" + hashlib.sha256(b"brush").hexdigest()
        return [ModelCard(model="tiny-diffusion", kind="image", digest=digest, limits={}, together=TOGETHER)]

    def load(self, model: str) -> None:
        pass

    def estimate(self, model: str, request: Mapping[str, Any]) -> Estimate:
        return Estimate(counts={}, memory_bytes=2**60 if "huge" in request["prompt"] else 1024)

    def run(
        self,
        model: str,
        request: Mapping[str, Any],
        emit: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool],
    ) -> EngineOutput:
        return run_alone(self, model, request, emit, cancelled)

    def begin(self, model: str, request: Mapping[str, Any]) -> Stroke:
        return Stroke(request)

    def advance(self, runs: Sequence[StepRun]) -> None:
        time.sleep(0.01)
        for stroke in runs:
            assert isinstance(stroke, Stroke)
            stroke.done += 1
            stroke.most = max(stroke.most, len(runs))
            stroke.events.append({"progress": [stroke.done, stroke.request["steps"]]})
            if "leak" in stroke.request["prompt"]:
                self._leak.append(b"x" * (16 * 1024 * 1024))

    def finish(self, run: StepRun) -> EngineOutput:
        assert isinstance(run, Stroke)
        data = f"{run.done} strokes of {run.request['seed']}".encode()
        return EngineOutput(
            data=data,
            media_type="image/png",
            counts={},
            transcript=[bytes(32)],
            notes={"most": str(run.most)},
        )

    def stop(self, run: StepRun) -> EngineOutput | None:
        return None


class Clumsy(Brush):
    """Fails at its first stroke."""

    def advance(self, runs: Sequence[StepRun]) -> None:
        raise ZeroDivisionError("dropped the brush")
