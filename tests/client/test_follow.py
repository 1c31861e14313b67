"""Following a node: numbers, gaps, resuming, and a real node that is killed meanwhile."""

import asyncio
import contextlib
import itertools
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from aitbc.client.errors import ApiError, Unreachable
from aitbc.client.follow import AsyncFollower, Event, Follower, Gap, Happening, Record
from aitbc.client.node import NodeClient
from aitbc.client.outbox import wish_of_transfer
from aitbc.client.sender import Account
from aitbc.client.signing import KeySigner
from support.lone_node import lone_node

ALICE = KeySigner(b"\x02" * 32)


def take(record: Record, type: str, **fields: Any) -> list[Happening]:
    return record.take(json.dumps({"type": type, **fields}))


def block(number: int) -> dict[str, Any]:
    return {"seq": number, "data": {"height": number}}


def test_the_first_greeting_is_the_beginning() -> None:
    record = Record(["block"])
    assert take(record, "hello", seq={"block": 7}) == []
    assert take(record, "block", **block(8)) == [Event("block", 8, {"height": 8})]
    assert take(record, "block", **block(8)) == [], "told once"


def test_a_number_that_is_missing_is_told() -> None:
    record = Record(["block"])
    take(record, "hello", seq={"block": 7})
    assert take(record, "block", **block(10)) == [Gap("block", 8, 9), Event("block", 10, {"height": 10})]


def test_a_node_that_remembers_is_asked_for_it() -> None:
    """The numbers belong to a run of the node."""
    record = Record(["new_blocks"])
    take(record, "hello", run="r1", seq={"new_blocks": 7})
    take(record, "new_blocks", **block(8))
    assert take(record, "hello", run="r1", seq={"new_blocks": 11}) == []
    assert record.order == {
        "type": "subscribe",
        "streams": ["new_blocks"],
        "run": "r1",
        "after": {"new_blocks": 8},
    }
    assert take(record, "subscribed", run="r1", seq={"new_blocks": 11}) == []
    assert take(record, "new_blocks", **block(9)) == [Event("new_blocks", 9, {"height": 9})]


def test_numbers_are_told_by_the_nodes_names() -> None:
    """A hello counts `block` and `outcome`, whatever a reader calls them: nothing was missed at the beginning."""
    record = Record(["new_blocks", "address:ait1x", "tx"])
    assert take(record, "hello", run="r1", seq={"block": 7, "tx": 2, "outcome": 40}) == []
    assert record.order is not None
    assert record.order["after"] == {"new_blocks": 7, "address:ait1x": 40, "tx": 2}
    assert take(record, "new_blocks", **block(8)) == [Event("new_blocks", 8, {"height": 8})]


class Hasty:
    """A node that tells what happens at the moment at which somebody comes, before it reads a word; at the first
    meeting it goes away after block 5, and then blocks 6 to 9 happen."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, link: ServerConnection) -> None:
        assert link.request is not None
        self.paths.append(link.request.path)
        is_first = len(self.paths) == 1
        newest = 4 if is_first else 8
        link.send(json.dumps({"type": "hello", "run": "r1", "seq": {"block": newest}}))
        if "streams=" in link.request.path:
            self._tell(link, range(newest + 1, newest + 2))
        order = json.loads(link.recv())
        link.send(json.dumps({"type": "subscribed", "run": "r1", "seq": {"block": newest + 1}}))
        self._tell(link, range(order["after"]["block"] + 1, newest + 2))
        if not is_first:
            link.recv()  # it stays until the reader goes

    @staticmethod
    def _tell(link: ServerConnection, numbers: range) -> None:
        for number in numbers:
            link.send(json.dumps({"type": "block", **block(number)}))


@contextlib.contextmanager
def serving(handler: Callable[[ServerConnection], None]) -> Iterator[str]:
    with serve(handler, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join(10)


def test_what_happens_before_the_order_is_read_comes_after_what_was_missed() -> None:
    node = Hasty()
    with serving(node) as url, Follower(url, ["block"]) as follower:
        told = list(itertools.islice(follower, 5))
    assert told == [Event("block", number, {"height": number}) for number in (5, 6, 7, 8, 9)]
    assert node.paths == ["/rpc/ws", "/rpc/ws"]


def test_a_server_that_closes_at_once_is_given_up() -> None:
    """A proxy whose node is away: it is there, and it is not."""
    dialled: list[float] = []
    ends: queue.Queue[BaseException] = queue.Queue()

    def listen(follower: Follower) -> None:
        try:
            next(iter(follower))
        except Unreachable as error:
            ends.put(error)

    with (
        serving(lambda _link: dialled.append(time.monotonic())) as url,
        Follower(url, ["block"], patience_s=0.5) as follower,
    ):
        threading.Thread(target=listen, args=(follower,), daemon=True).start()
        ends.get(timeout=10)
    assert len(dialled) <= 4, "pauses of 0.2, 0.4, 0.8 s"


def test_a_node_that_is_too_busy_is_asked_again_later_each_time() -> None:
    """Its greeting alone is no service: pauses grow through it."""
    dialled: list[float] = []

    def busy(link: ServerConnection) -> None:
        dialled.append(time.monotonic())
        link.send(json.dumps({"type": "hello", "run": "r1", "seq": {"block": 4}}))
        order = json.loads(link.recv())
        if len(dialled) < 3:
            link.send(json.dumps({"type": "error", "code": "too_busy", "detail": "too much is told again"}))
        else:
            link.send(json.dumps({"type": "subscribed", "run": "r1", "seq": {"block": 5}}))
            link.send(json.dumps({"type": "block", **block(order["after"]["block"] + 1)}))
        with contextlib.suppress(ConnectionClosed):
            link.recv()

    with serving(busy) as url, Follower(url, ["block"]) as follower:
        assert next(iter(follower)) == Event("block", 5, {"height": 5})
    first, second, third = dialled
    assert second - first >= 0.2 and third - second >= 0.4


def test_what_the_node_has_forgotten_is_a_gap() -> None:
    record = Record(["block"])
    take(record, "hello", run="r1", seq={"block": 7})
    take(record, "hello", run="r1", seq={"block": 5_000})
    assert take(record, "error", code="too_old", stream="block", oldest=4_001) == [Gap("block", 8, 4_000)]
    assert take(record, "block", **block(4_001)) == [Event("block", 4_001, {"height": 4_001})]


@pytest.mark.parametrize("runs", [("r1", "r2"), (None, None), ("r1", None)])
def test_a_node_that_began_anew_is_a_gap_of_unknown_size(runs: tuple[str | None, str | None]) -> None:
    """It may have counted beyond what was heard before: without a run's name numbers say nothing."""
    record = Record(["block"])
    take(record, "hello", run=runs[0], seq={"block": 7})
    assert take(record, "hello", run=runs[1], seq={"block": 9}) == [Gap("block", None, None)]
    assert take(record, "block", **block(10)) == [Event("block", 10, {"height": 10})]


def test_numbers_of_one_account_have_holes_by_right() -> None:
    record = Record(["address:ait1x"])
    take(record, "hello", run="r", seq={"address:ait1x": 3})
    event = take(record, "address", key="ait1x", seq=9, data={})
    assert event == [Event("address:ait1x", 9, {})]


BAD = ['"text"', "[]", "no json", '{"seq": 1}']


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_message_is_said_so(text: str) -> None:
    with pytest.raises(ApiError, match="no message"):
        Record(["block"]).take(text)


def test_a_refusal_is_raised_and_an_ending_is_not() -> None:
    record = Record(["block"])
    assert take(record, "error", code="too_slow", detail="", fix="") == []
    with pytest.raises(ApiError, match="no such stream"):
        take(record, "error", code="wrong_type", detail="no such stream", fix="")


def test_a_real_node_is_followed_through_its_death(tmp_path: Path) -> None:
    heard: queue.Queue[Happening] = queue.Queue()

    def listen() -> None:
        for happening in follower:
            heard.put(happening)

    with lone_node(tmp_path, b"\x01" * 32, {ALICE.address: 10}) as node:
        with NodeClient(node.rpc) as client, Follower(node.rpc, ["block"]) as follower:
            listener = threading.Thread(target=listen, daemon=True)
            listener.start()
            first = heard.get(timeout=20)
            assert isinstance(first, Event)
            account = Account(client, ALICE)
            paid = account.settle(wish_of_transfer(to=ALICE.address, amount=1))
            while not (
                isinstance(event := heard.get(timeout=20), Event) and event.data["height"] == paid["height"]
            ):
                pass
            node.kill()
            node.start(wait=False)
            while not isinstance(gap := heard.get(timeout=30), Gap):
                pass
            assert gap == Gap("block", None, None)
            after = heard.get(timeout=20)
            assert isinstance(after, Event) and after.data["height"] > first.data["height"]
            follower.close()
            listener.join(10)
            assert not listener.is_alive()

        async def main() -> None:
            async with AsyncFollower(node.rpc, ["block"]) as other:
                async for happening in other:
                    assert isinstance(happening, Event)
                    return

        asyncio.run(main())
        with pytest.raises(ApiError), Follower(node.rpc, ["nothing"]) as refused:
            next(iter(refused))
    with pytest.raises(Unreachable), Follower(node.rpc, ["block"], patience_s=0) as gone:
        next(iter(gone))
