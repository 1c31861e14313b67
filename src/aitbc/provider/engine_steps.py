"""Runs that advance together inside the engine child: who joins, who leaves, and what happens when memory runs out.

docs/spec/engines.md "Steps"
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aitbc.ports import EngineError, EngineOutput, StepRun, Stepwise
from aitbc.provider.engine_messages import Run

log = logging.getLogger("aitbc.engine")

OnEnd = Callable[[Run, EngineOutput | BaseException, int], None]
"""The run, what it delivered or why not, and its share of the engine's time in milliseconds."""


@dataclass(kw_only=True)
class Active:
    run: Run
    engine: Stepwise
    step: StepRun
    share_ns: int = 0


class StepLoop:
    """Every run that is under way in an engine that works in steps. One call of `turn` is one step of each."""

    def __init__(
        self, *, tell: Callable[[Run, dict[str, Any]], None], cancelled: Callable[[str], bool], on_end: OnEnd
    ) -> None:
        self._tell = tell
        self._cancelled = cancelled
        self._on_end = on_end
        self._active: list[Active] = []

    def __len__(self) -> int:
        return len(self._active)

    def running(self, model: str) -> int:
        return sum(active.run.model == model for active in self._active)

    def join(self, run: Run, engine: Stepwise) -> None:
        """Raises what `begin` raises."""
        self._active.append(Active(run=run, engine=engine, step=engine.begin(run.model, run.request)))

    def turn(self) -> None:
        for active in [active for active in self._active if self._cancelled(active.run.run_id)]:
            self._stop(active)
        for group in self._groups():
            self._advance(group)
        for active in list(self._active):
            self._tell_events(active)
            if active.step.over:
                self._finish(active)

    def _groups(self) -> list[list[Active]]:
        groups: dict[tuple[str, str], list[Active]] = {}
        for active in self._active:
            groups.setdefault((active.run.model, active.step.shape), []).append(active)
        return list(groups.values())

    def _advance(self, group: list[Active]) -> None:
        began = time.monotonic_ns()
        try:
            group[0].engine.advance([active.step for active in group])
        except Exception as error:  # an engine is foreign code
            self._after_failure(group, error)
            return
        share_ns = (time.monotonic_ns() - began) // len(group)
        for active in group:
            active.share_ns += share_ns

    def _after_failure(self, group: list[Active], error: Exception) -> None:
        """Memory that is too little for many may do for half of them; anything else is the end of all."""
        if is_out_of_memory(error) and len(group) > 1:
            log.warning("no memory for %d requests at once; trying in halves", len(group))
            half = len(group) // 2
            self._advance(group[:half])
            self._advance(group[half:])
            return
        for active in group:
            self._end(active, error)

    def _stop(self, active: Active) -> None:
        try:
            output = active.engine.stop(active.step)
        except Exception as error:  # foreign code again
            self._end(active, error)
            return
        self._tell_events(active)
        self._end(active, output or EngineError("cancelled", f"cancelled after {active.step.position}"))

    def _finish(self, active: Active) -> None:
        began = time.monotonic_ns()
        try:
            output: EngineOutput | BaseException = active.engine.finish(active.step)
        except Exception as error:  # foreign code again
            output = error
        active.share_ns += time.monotonic_ns() - began
        self._end(active, output)

    def _tell_events(self, active: Active) -> None:
        events, active.step.events = active.step.events, []
        for event in events:
            self._tell(active.run, event)

    def _end(self, active: Active, how: EngineOutput | BaseException) -> None:
        self._active.remove(active)
        self._on_end(active.run, how, active.share_ns // 1_000_000)


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, EngineError) and error.reason == "out_of_memory"
    )
