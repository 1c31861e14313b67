"""One request of an engine that works in steps, from beginning to end; and steps of several spread over the cores."""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aitbc.adapters.machine import cores
from aitbc.ports import EngineError, EngineOutput, StepRun, Stepwise

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = 16
"""More cores than this find no work in a batch of eight."""


def run_alone(
    engine: Stepwise,
    model: str,
    request: Mapping[str, Any],
    emit: Callable[[dict[str, Any]], None],
    cancelled: Callable[[], bool],
) -> EngineOutput:
    """`Engine.run` for whoever is `Stepwise`."""
    run = engine.begin(model, request)
    while not run.over:
        if cancelled():
            stopped = engine.stop(run)
            if stopped is None:
                raise EngineError("cancelled", f"cancelled after {run.position}")
            return stopped
        engine.advance([run])
        tell(run, emit)
    return engine.finish(run)


def tell(run: StepRun, emit: Callable[[dict[str, Any]], None]) -> None:
    """Emit what has happened since the last time."""
    events, run.events = run.events, []
    for event in events:
        emit(event)


def spread(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results in order. Each item is computed by one thread, as it would be alone, so its bytes are the same;
    what is gained is the other cores, because numpy leaves Python's lock while it computes."""
    if len(items) == 1 or cores() == 1:
        return [work(item) for item in items]
    return list(_pool().map(work, items))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(cores(), MAX_THREADS), thread_name_prefix="steps")
