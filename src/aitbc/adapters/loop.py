"""The event loop of every program of ours: uvloop where there is one. A node spends a quarter less CPU on it."""

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

GARBAGE = (20_000, 20, 50)
"""Allocations before the collector looks at new objects, and how often it looks at older ones: a server's garbage is
mostly freed by counting references, and what it keeps for good is looked at in vain."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, for a program that serves until it is told to stop."""
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)


def loop_factory() -> Any:
    """What makes a loop; None: asyncio's own."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
