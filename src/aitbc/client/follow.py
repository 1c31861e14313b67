"""Follow what happens on a node: `Follower` and, with the same names, `AsyncFollower`.

    with Follower("http://127.0.0.1:8080", ["block"]) as follower:
        for event in follower:
            print(event)

A lost connection is made again, as long as it takes. What was missed meanwhile is asked for again where the node can
say it, and else told as a `Gap`: nothing is left out in silence. docs/spec/rpc.md, "Following"
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aitbc.client.errors import ApiError, Unreachable
from aitbc.client.http import checked_url

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection as AsyncConnection
    from websockets.sync.client import ClientConnection

Json = dict[str, Any]

MAX_MESSAGE_BYTES = 1024 * 1024
"""As much as a node lets wait for one reader."""
OPEN_S = 10.0
RETRY_S, MAX_RETRY_S = 0.2, 5.0
MET_AGAIN_S = 0.2
"""Before a connection is made again that has told something: a server that closes each time is not dialled at once."""
SAME_AS = {"new_blocks": "block", "new_transactions": "tx", "consensus_events": "consensus"}
"""The stream whose numbers a name has, where it is another one."""
KEYED = ("address", "job")
"""Streams that pick from one that is numbered as a whole: a number that is missing is no loss."""


@dataclass(frozen=True)
class Event:
    stream: str
    """As it was asked for: `block`, `new_blocks`, `address:ait1…`."""
    number: int
    """Of the stream, from 1 since the node began."""
    data: Json


@dataclass(frozen=True)
class Gap:
    """Events that this reader has not got: look what became of them by `NodeClient`."""

    stream: str
    first: int | None
    """None: the node began anew, and it is not known how many there were."""
    last: int | None


Happening = Event | Gap


class Record:
    """What was heard, and what follows from a message; the readers below only differ in who waits."""

    def __init__(self, streams: Sequence[str]) -> None:
        self.streams = tuple(streams)
        self._heard: dict[str, int] = {}
        """Stream → newest number that was told or given up."""
        self._run: str | None = None
        self.order: Json | None = None
        """What is to be said to the node before anything else is read."""

    def take(self, text: str | bytes) -> list[Happening]:
        """Raises ApiError when the node refuses to be followed."""
        try:
            message: Json = json.loads(text)
            kind = message["type"]
        except (ValueError, KeyError, TypeError):
            raise ApiError("bad_answer", "the node sent what is no message", "use another node") from None
        if kind == "hello":
            return self._greeted(message)
        if kind == "subscribed":
            return []
        if kind == "error":
            return self._refused(message)
        return self._happened(f"{kind}:{message['key']}" if "key" in message else kind, message)

    def _greeted(self, hello: Json) -> list[Happening]:
        """Nothing is followed yet, so that nothing is told before what is asked for. The first time: from now on.
        Later: what came since is asked for, or is a gap."""
        run, known, is_first = hello.get("run"), self._run, not self._heard
        self._run, self.order = run, {"type": "subscribe", "streams": list(self.streams)}
        goes_on = run is not None and run == known  # without its name nobody knows whose numbers they are
        if not goes_on:
            self._heard = {stream: _newest(hello["seq"], stream) for stream in self.streams}
        if run is not None:
            self.order |= {"run": run, "after": dict(self._heard)}
        return [] if is_first or goes_on else [Gap(stream, None, None) for stream in self.streams]

    def _refused(self, error: Json) -> list[Happening]:
        stream, oldest = error.get("stream"), error.get("oldest")
        if error.get("code") == "too_old" and isinstance(stream, str):
            first = self._heard.get(stream, 0) + 1
            last = oldest - 1 if isinstance(oldest, int) else None
            self._heard[stream] = last or self._heard.get(stream, 0)
            return [Gap(stream, first, last)]
        if error.get("code") in ("too_slow", "node_stopped"):
            return []  # the connection ends now, and is made again
        if error.get("code") == "too_busy":
            raise ConnectionError(
                str(error.get("detail"))
            )  # nothing is followed: come again, later each time
        raise ApiError(str(error.get("code")), str(error.get("detail")), str(error.get("fix") or ""), 400)

    def _happened(self, stream: str, message: Json) -> list[Happening]:
        number = int(message["seq"])
        heard = self._heard.get(stream, number - 1)
        if number <= heard:
            return []
        found: list[Happening] = []
        if number > heard + 1 and stream.partition(":")[0] not in KEYED:
            found.append(Gap(stream, heard + 1, number - 1))
        self._heard[stream] = number
        found.append(Event(stream, number, message["data"]))
        return found


def _newest(numbers: Mapping[str, int], stream: str) -> int:
    """In a node's words: an account's and a job's are of one stream of all outcomes."""
    own = "outcome" if stream.partition(":")[0] in KEYED else SAME_AS.get(stream, stream)
    return numbers.get(stream, numbers.get(own, 0))


def _address(base_url: str) -> str:
    return f"ws{checked_url(base_url).removeprefix('http')}/rpc/ws"


class Follower:
    """Iterate over it; waits for what happens."""

    def __init__(self, base_url: str, streams: Sequence[str], *, patience_s: float | None = None) -> None:
        """`patience_s`: how long a node may be away before `Unreachable` is raised; None: for ever."""
        self._url, self._base_url = _address(base_url), base_url
        self._record, self._patience_s = Record(streams), patience_s
        self._link: ClientConnection | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Happening]:
        from websockets.sync.client import connect

        waits = _Waits(self._base_url, self._patience_s)
        while not self._closed:
            try:
                with connect(self._url, **_OPTIONS) as self._link:
                    while True:
                        happenings = self._record.take(self._link.recv())
                        if self._record.order is None:  # a greeting alone is no service
                            waits.heard()
                        yield from happenings
                        if self._record.order is not None:
                            self._link.send(json.dumps(self._record.order))
                            self._record.order = None
            except Exception as error:
                time.sleep(waits.after(error))

    def close(self) -> None:
        """From any thread; whoever iterates comes to an end."""
        self._closed = True
        if self._link is not None:
            self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncFollower:
    """`Follower` for an event loop: `async with`, `async for`."""

    def __init__(self, base_url: str, streams: Sequence[str], *, patience_s: float | None = None) -> None:
        self._url, self._base_url = _address(base_url), base_url
        self._record, self._patience_s = Record(streams), patience_s
        self._link: AsyncConnection | None = None
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[Happening]:
        from websockets.asyncio.client import connect

        waits = _Waits(self._base_url, self._patience_s)
        while not self._closed:
            try:
                async with connect(self._url, **_OPTIONS) as self._link:
                    while True:
                        happenings = self._record.take(await self._link.recv())
                        if self._record.order is None:  # a greeting alone is no service
                            waits.heard()
                        for happening in happenings:
                            yield happening
                        if self._record.order is not None:
                            await self._link.send(json.dumps(self._record.order))
                            self._record.order = None
            except Exception as error:
                await asyncio.sleep(waits.after(error))

    async def close(self) -> None:
        self._closed = True
        if self._link is not None:
            await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()


class _Waits:
    """Pauses between attempts, and when to give up."""

    def __init__(self, url: str, patience_s: float | None) -> None:
        self._url, self._patience_s = url, patience_s
        self._away_since: float | None = None
        self._pause_s = RETRY_S
        self._has_heard = False

    def heard(self) -> None:
        """The node does what it was asked for: who only accepts a connection is not there."""
        self._away_since, self._pause_s, self._has_heard = None, RETRY_S, True

    def after(self, error: Exception) -> float:
        """How long to wait before the next attempt; raises what the caller must know."""
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

        if isinstance(error, ConnectionClosed) and self._has_heard:
            self._has_heard = False
            return MET_AGAIN_S
        self._has_heard = False
        if isinstance(error, InvalidStatus) and error.response.status_code not in _PASSING:
            raise ApiError(
                f"http_{error.response.status_code}",
                f"{self._url} does not let this program follow it",
                "check the names of the streams, and that the URL is a node's",
                error.response.status_code,
            ) from None
        if not isinstance(error, ConnectionClosed | OSError | TimeoutError | InvalidHandshake | EOFError):
            raise error
        now = time.monotonic()
        self._away_since = self._away_since or now
        if self._patience_s is not None and now - self._away_since >= self._patience_s:
            what = str(error) or type(error).__name__
            raise Unreachable(self._url, "try again, or allow more time", what) from None
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, MAX_RETRY_S)
        return pause_s


_PASSING = (429, 502, 503, 504)
_OPTIONS: dict[str, Any] = {
    "max_size": MAX_MESSAGE_BYTES,
    "open_timeout": OPEN_S,
    "compression": None,
    "proxy": None,
}
