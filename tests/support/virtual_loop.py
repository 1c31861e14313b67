"""An event loop whose time is virtual: nobody waits for anything, and the same work gives the same run.

A node's own threads are real and do real work, but the loop stands still until each piece of it is done: what would run
beside each other runs one after the other, in an order that only virtual time decides.
"""

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

WORK_S = 0.001
"""What a piece of work on a thread takes."""


class _Nobody(selectors.BaseSelector):
    """Waits by moving the clock."""

    def __init__(self) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}
        self.now_s = 0.0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, fileobj, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for what nobody will do"
        self.now_s += max(0.0, timeout)
        return []

    def get_map(self) -> dict[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._nobody = _Nobody()
        super().__init__(self._nobody)
        self._clock_resolution = 1e-6
        self._own_thread = threading.get_ident()
        self._handed: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        """What a working thread wants done on the loop; None: its work is over."""
        self._helper = ThreadPoolExecutor(1)

    def time(self) -> float:
        return self._nobody.now_s

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        if threading.get_ident() == self._own_thread:
            return self.call_soon(callback, *args, context=context)
        self._handed.put(lambda: callback(*args))
        return None

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> Any:  # type: ignore[override]
        """Done when this returns; told a little later."""
        work = (executor or self._helper).submit(func, *args)
        work.add_done_callback(lambda _: self._handed.put(None))
        while (asked := self._handed.get()) is not None:
            asked()
        told: asyncio.Future[T] = self.create_future()

        def tell() -> None:
            if told.cancelled():
                return
            error = work.exception()
            if error is None:
                told.set_result(work.result())
            else:
                told.set_exception(error)

        self.call_later(WORK_S, tell)
        return told

    def close(self) -> None:
        self._helper.shutdown()
        super().close()


def run_virtually(story: Callable[[], Coroutine[Any, Any, T]]) -> T:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(story())
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
