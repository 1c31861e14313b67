"""The thread that talks to the database. Calls are performed in their order; what waits together is one transaction.

Under load most of a call's cost is its transaction, so the thread takes all that has queued up meanwhile and commits
once. Calls for lists (`batched`) are merged: one statement for many jobs.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ParamSpec, TypeVar

from aitbc.hub.store.base import BaseStore
from aitbc.hub.store.database import ConnectionLost
from aitbc.ports import StorageError

log = logging.getLogger("aitbc.hub")

P = ParamSpec("P")
T = TypeVar("T")
I = TypeVar("I")  # noqa: E741

MOST_GROUPED = 1_000
"""Calls in one transaction: a group of this size takes some tens of milliseconds."""
RETRY_S = 30.0
"""A database that is being restarted is back by then; afterwards callers are told that it is gone."""
RETRY_LEAST_S, RETRY_MOST_S = 0.05, 2.0

Batch = Callable[[Sequence[I]], Sequence[T]]


class _Call:
    __slots__ = ("batch", "future", "item", "run")

    def __init__(self, run: Callable[[], Any] | None, batch: "Batch[Any, Any] | None", item: Any) -> None:
        self.run = run
        self.batch = batch
        self.item = item
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class DbThread:
    """Made on the event loop it answers to."""

    def __init__(self) -> None:
        self.store: BaseStore | None = None
        """Groups are transactions of this store; without one each call stands alone."""
        self._loop = asyncio.get_running_loop()
        self._calls: deque[_Call] = deque()
        self._news = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="hub-db", daemon=True)
        self._thread.start()

    def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        """Run it on the thread, after what was asked before."""
        return self._add(_Call(partial(call, *args, **kwargs), None, None))

    def batched(self, call: "Batch[I, T]", item: I) -> "asyncio.Future[T]":
        """The same for one item of a call that takes many; an answer for each."""
        return self._add(_Call(None, call, item))

    async def stop(self) -> None:
        """Perform what is waiting, then end."""
        with self._news:
            self._stopping = True
            self._news.notify()
        while self._thread.is_alive():
            await asyncio.sleep(0.005)

    def _add(self, call: _Call) -> "asyncio.Future[Any]":
        with self._news:
            if self._stopping:
                raise StorageError("the hub is stopping")
            self._calls.append(call)
            self._news.notify()
        return call.future

    # on the thread

    def _work(self) -> None:
        while True:
            with self._news:
                while not self._calls:
                    if self._stopping:
                        return
                    self._news.wait()
                group = [self._calls.popleft() for _ in range(min(len(self._calls), MOST_GROUPED))]
            answers = self._perform(group)
            try:
                self._loop.call_soon_threadsafe(_answer, answers)
            except RuntimeError:
                return  # the loop is closed: nobody waits for an answer

    def _perform(self, group: list[_Call]) -> "list[tuple[_Call, Any, BaseException | None]]":
        """Again and again while the connection is lost: every call of ours may be performed twice."""
        until = time.monotonic() + RETRY_S
        pause_s = RETRY_LEAST_S
        while True:
            try:
                return self._once(group)
            except ConnectionLost as error:
                if time.monotonic() > until or self._stopping:
                    gone = StorageError(str(error))
                    return [(call, None, gone) for call in group]
                log.warning("%s", error)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_MOST_S)

    def _once(self, group: list[_Call]) -> "list[tuple[_Call, Any, BaseException | None]]":
        if self.store is None or len(group) == 1:
            return [answer for steps in _steps(group) for answer in _run_step(steps)]
        try:
            answers: list[tuple[_Call, Any, BaseException | None]] = []
            with self.store.group(durable=any(_is_durable(call) for call in group)):
                for steps in _steps(group):
                    answers += _run_step(steps)
            return answers
        except ConnectionLost:
            raise
        except StorageError as error:  # the transaction as a whole: nothing of it has happened
            return [(call, None, error) for call in group]


def _is_durable(call: _Call) -> bool:
    function: Any = call.batch if call.batch is not None else call.run
    function = function.func if isinstance(function, partial) else function
    return bool(getattr(function, "durable", False))


def _steps(group: list[_Call]) -> list[list[_Call]]:
    """In order, with the items of one batched call brought together where it is asked for first."""
    steps: list[list[_Call]] = []
    open_batches: dict[Any, list[_Call]] = {}
    for call in group:
        if call.batch is None:
            steps.append([call])
        elif call.batch in open_batches:
            open_batches[call.batch].append(call)
        else:
            open_batches[call.batch] = [call]
            steps.append(open_batches[call.batch])
    return steps


def _run_step(step: list[_Call]) -> "list[tuple[_Call, Any, BaseException | None]]":
    first = step[0]
    try:
        if first.batch is None:
            assert first.run is not None, "a call is plain or batched"
            return [(first, first.run(), None)]
        answers = first.batch([call.item for call in step])
        return [(call, answer, None) for call, answer in zip(step, answers, strict=True)]
    except ConnectionLost:
        raise
    except Exception as error:
        if len(step) == 1:
            return [(first, None, error)]
        return [answer for call in step for answer in _run_step([call])]  # one of them: find out which


def _answer(answers: "list[tuple[_Call, Any, BaseException | None]]") -> None:
    for call, answer, error in answers:
        if call.future.cancelled():
            continue
        if error is not None:
            call.future.set_exception(error)
        else:
            call.future.set_result(answer)
