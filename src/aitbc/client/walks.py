"""Questions that lead to one another, written once for clients that wait and for those on an event loop."""

from collections.abc import Generator
from typing import Any, Protocol, TypeVar

from aitbc.client.http import AsyncHttp, Call, SyncHttp

Json = dict[str, Any]
T = TypeVar("T")
Walk = Generator[Call[Json], Json, T]
"""Asks by yielding calls; the functions below only differ in who waits for the answers."""


class Performs(Protocol):
    """What is needed of `AsyncHttp`."""

    async def perform(self, call: Call[T]) -> T: ...


def perform(node: SyncHttp, walk: Walk[T]) -> T:
    try:
        call = next(walk)
        while True:
            call = walk.send(node.perform(call))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def perform_async(node: Performs | AsyncHttp, walk: Walk[T]) -> T:
    try:
        call = next(walk)
        while True:
            call = walk.send(await node.perform(call))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
