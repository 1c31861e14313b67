"""A discovery service in this process, over its real application, with nodes that answer as a test decides."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from aitbc.core.codec.canonical import jcs
from aitbc.core.peer.records import Endpoint, NodeRecord
from aitbc.discovery.main import application
from aitbc.discovery.service import Discovery
from aitbc.discovery.store import RowStore
from support.listed_nodes import CHAIN, GENESIS, NOW_MS, ListedNode


class SetClock:
    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms


class World:
    """A service, its clock, and what is found at each address when it calls back."""

    def __init__(self, path: Path, *, allow_private: bool = False) -> None:
        self.path = path
        self.clock = SetClock()
        self.there: dict[str, ListedNode] = {}
        """Who answers where."""
        self.called: list[str] = []
        self.on_call: Callable[[], Awaitable[None]] | None = None
        self.allow_private = allow_private
        self.open()

    def open(self) -> None:
        """Also again, after `close`: a restart."""
        self.service = Discovery(
            RowStore(self.path),
            clock=self.clock,
            probe=self._probe,
            secret=bytes(32),
            allow_private=self.allow_private,
        )
        app = application(self.service)
        self.http = TestClient(app, client=("8.8.4.4", 50_000), raise_server_exceptions=False)

    def close(self) -> None:
        self.service._writer.shutdown()
        self.service._store.close()

    def later(self, ms: int) -> None:
        self.clock.ms += ms

    async def _probe(self, record: NodeRecord, endpoint: Endpoint) -> bytes | None:
        self.called.append(endpoint.where)
        if self.on_call is not None:
            await self.on_call()
        node = self.there.get(endpoint.where)
        return None if node is None or node.node_key != record.node_key else bytes.fromhex(node.record_key)

    # What nodes do

    def start(self, node: ListedNode) -> None:
        self.there[node.endpoint.where] = node

    def put(self, what: Any, *, id: str = "") -> tuple[int, Any]:
        id = id or what.record.node_key
        answer = self.http.put(f"/v1/nodes/{id}", content=jcs(what))
        return answer.status_code, answer.json()

    def publish(self, node: ListedNode, sequence: int = 0, **changes: Any) -> tuple[int, str]:
        """Status and code."""
        status, answer = self.put(node.signed(sequence or self.clock.ms, **changes))
        return status, answer.get("code", "listed")

    def remove(self, what: Any) -> tuple[int, str]:
        url = f"/v1/nodes/{what.removal.node_key}"
        answer = self.http.request("DELETE", url, content=jcs(what))
        return answer.status_code, answer.json().get("code", "removed")

    def sample(self, **query: Any) -> list[Any]:
        answer = self.http.get("/v1/nodes", params={"chain": CHAIN, "genesis": GENESIS, **query})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    def listed(self) -> set[str]:
        return {item["record"]["node_key"] for item in self.sample()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "discovery.db")
    yield world
    world.close()
