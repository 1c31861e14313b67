"""The node's side of discovery services: it says where it is, and asks for a few others. docs/spec/discovery.md

What a service says goes into the address book as a peer's word would, and never further. A service that is slow, silent
or hostile costs a bounded call now and then: every call has a timeout, every answer a size, every failure a pause.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from aitbc.core.codec.canonical import jcs
from aitbc.core.peer.addresses import LOCAL, group_of, join_where
from aitbc.core.peer.handshake import public_key_of
from aitbc.core.peer.kinds import PeerAddress
from aitbc.core.peer.records import (
    MAX_SAMPLE,
    Endpoint,
    Listed,
    NodeRecord,
    RecordRefused,
    Removal,
    Sample,
    SignedRecord,
    record_key_of,
    record_seed_of,
    sign_record,
    sign_removal,
    verify_record,
)
from aitbc.ports import Clock

log = logging.getLogger("aitbc.node")

MAX_SERVICES = 8
"""Asked independently; more say nothing new."""
ASK_TIMEOUT_S = 5.0
PUBLISH_TIMEOUT_S = 30.0
"""The service calls back before it answers, and others may wait before us."""
LEAVE_TIMEOUT_S = 1.0
"""A node that stops says so, but waits for nobody."""
MAX_ANSWER_BYTES = 64 * 1024
"""Sixteen of the longest records and what stands around them."""
LIFE_MS = 3_600_000
"""Of a record: a node that dies is forgotten by then, however a service checks."""
RENEW_S = 1_200.0
"""Two may fail before the record expires."""
ASK_ALONE_S = 5.0
ASK_S = 30.0
"""While there are fewer peers than half of the maximum."""
ASK_FULL_S = 600.0
BACK_OFF_S = 5.0
MAX_BACK_OFF_S = 600.0


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What this node says of itself."""

    chain_id: str
    genesis_hash: str
    static: bytes
    """Private node key."""
    endpoint: Endpoint | None
    """None: it only asks."""
    agent: str

    def __repr__(self) -> str:
        """Without the secret: logs and tracebacks write records out."""
        return f"Identity({self.node_key})"

    @property
    def node_key(self) -> str:
        return public_key_of(self.static).hex()

    @property
    def record_key(self) -> str:
        return record_key_of(self.static).hex()

    @property
    def seed(self) -> bytes:
        return record_seed_of(self.static)


class Neighbourhood(Protocol):
    """Who wants addresses."""

    @property
    def peers(self) -> int: ...

    @property
    def needs_more(self) -> bool: ...

    def hear_addresses(self, peers: Sequence[PeerAddress], *, source: str) -> None: ...


class Failed(Exception):
    """A service did not do what it was asked, for a reason that is worth one line."""


class Finder:
    """`start`, then it works by itself until `stop`; nothing that it does fails its caller."""

    def __init__(
        self, urls: Sequence[str], *, network: Neighbourhood, identity: Identity, clock: Clock
    ) -> None:
        assert len(urls) <= MAX_SERVICES
        self._services = [_Service(url, network, identity, clock) for url in dict.fromkeys(urls)]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        for service in self._services:
            self._tasks += [loop.create_task(work) for work in service.duties()]
        for task in self._tasks:
            task.add_done_callback(_note_bug)

    async def stop(self) -> None:
        """Ends what is under way, and tells those that list this node, for a second at most."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*[service.leave() for service in self._services])


class _Service:
    """One URL."""

    def __init__(self, url: str, network: Neighbourhood, identity: Identity, clock: Clock) -> None:
        self._url = url.rstrip("/")
        self._network = network
        self._identity = identity
        self._clock = clock
        self._sequence = 0
        """Of the last record that was signed for this service."""
        self._listed = False

    def duties(self) -> list[Coroutine[Any, Any, None]]:
        duties = [_repeat(self._url, self.ask, self._pause_s)]
        if self._identity.endpoint is not None:
            duties.append(_repeat(self._url, self.publish, lambda: RENEW_S))
        return duties

    def _pause_s(self) -> float:
        if not self._network.needs_more:
            return ASK_FULL_S
        return ASK_S if self._network.peers else ASK_ALONE_S

    async def ask(self) -> None:
        """Put a sample into the address book."""
        query = {
            "chain": self._identity.chain_id,
            "genesis": self._identity.genesis_hash,
            "limit": str(MAX_SAMPLE),
        }
        raw = await _call("GET", f"{self._url}/v1/nodes", query=query, timeout_s=ASK_TIMEOUT_S)
        try:
            sample = msgspec.json.decode(raw, type=Sample)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Failed(f"its answer cannot be read ({str(error)[:200]})") from None
        found = [self._address_in(item) for item in sample.items]
        self._network.hear_addresses([address for address in found if address], source=source_of(self._url))

    def _address_in(self, item: Listed) -> PeerAddress | None:
        """Where a record says that its node is; None for one that is not good or of another chain. Local addresses are
        for the address book to judge, as with any other teller."""
        record = item.record
        chain = (self._identity.chain_id, self._identity.genesis_hash)
        try:
            signed = SignedRecord(record=record, sig=item.sig)
            verify_record(signed, now_ms=self._clock.now_ms(), allow_private=True)
        except RecordRefused:
            return None
        if (record.chain_id, record.genesis_hash) != chain or item.answered >= len(record.endpoints):
            return None
        return PeerAddress(record.endpoints[item.answered].where, bytes.fromhex(record.node_key))

    async def publish(self) -> None:
        """Sign a record and have it listed."""
        identity = self._identity
        assert identity.endpoint is not None
        sequence = self._next_sequence()
        record = NodeRecord(
            chain_id=identity.chain_id,
            genesis_hash=identity.genesis_hash,
            node_key=identity.node_key,
            record_key=identity.record_key,
            sequence=sequence,
            expires_ms=sequence + LIFE_MS,
            endpoints=[identity.endpoint],
            agent=identity.agent,
        )
        self._listed = True  # it may be, even when no answer comes
        body = jcs(sign_record(record, identity.seed))
        await _call("PUT", self._own_url(), body=body, timeout_s=PUBLISH_TIMEOUT_S)

    async def leave(self) -> None:
        """Take the record back, if there is one and the service is quick."""
        if not self._listed:
            return
        identity = self._identity
        removal = Removal(
            node_key=identity.node_key, record_key=identity.record_key, sequence=self._next_sequence()
        )
        body = jcs(sign_removal(removal, identity.seed))
        with contextlib.suppress(Failed):
            await _call("DELETE", self._own_url(), body=body, timeout_s=LEAVE_TIMEOUT_S)

    def _next_sequence(self) -> int:
        self._sequence = max(self._sequence + 1, self._clock.now_ms())
        return self._sequence

    def _own_url(self) -> str:
        return f"{self._url}/v1/nodes/{self._identity.node_key}"


def source_of(url: str) -> str:
    """Whose word a service's is in the address book: its address's network. One that is known by name may be anywhere,
    so it is nobody's neighbour and is not believed about local addresses."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return LOCAL if host == "localhost" else group_of(join_where(host, parts.port or 443))


async def _repeat(url: str, work: Callable[[], Awaitable[None]], pause_s: Callable[[], float]) -> None:
    """Do it again and again; after a failure less and less often, and say so once until it works again."""
    failures = 0
    while True:
        try:
            await work()
        except Failed as failure:
            if not failures:
                _log(logging.WARNING, "discovery_failed", f"discovery service {url}: {failure}")
            await asyncio.sleep(min(MAX_BACK_OFF_S, BACK_OFF_S * 2 ** min(failures, 8)))
            failures += 1
        else:
            if failures:
                _log(logging.INFO, "discovery_works", f"discovery service {url} works again")
            failures = 0
            await asyncio.sleep(pause_s())


def _note_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("a mistake of this program", exc_info=task.exception(), extra={"component": "p2p"})


def _log(level: int, event: str, text: str) -> None:
    log.log(level, "%s", text, extra={"component": "p2p", "event": event})


async def _call(
    method: str, url: str, *, timeout_s: float, query: dict[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """The body of a good answer; no redirects, a timeout for everything, a bounded size. Raises Failed."""
    import httpx2

    options: dict[str, Any] = {
        "timeout": timeout_s,
        "follow_redirects": False,
        "trust_env": source_of(url) != LOCAL,  # proxies are for far hosts
        "verify": urlsplit(url).scheme == "https",  # certificates are loaded only where they are used
        "headers": {
            "accept-encoding": "identity"
        },  # one compressed chunk of 64 KiB may be 64 MB when unpacked
    }
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx2.AsyncClient(**options) as client,
            client.stream(method, url, params=query, content=body) as response,
        ):
            raw = b""
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Failed("compresses its answer, which it was asked not to")
            async for chunk in response.aiter_raw():
                raw += chunk
                if len(raw) > MAX_ANSWER_BYTES:
                    raise Failed(f"sent more than {MAX_ANSWER_BYTES} bytes")
            if response.status_code != 200:
                raise Failed(f"answered {response.status_code} {_reason_in(raw)}".rstrip())
            return raw
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise Failed(f"no answer ({type(error).__name__})") from None
    except TimeoutError:
        raise Failed(f"no whole answer in {timeout_s:g} s") from None


def _reason_in(raw: bytes) -> str:
    """What a problem document says, for the log."""
    try:
        problem = msgspec.json.decode(raw, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    text = f"{problem.code}: {problem.detail}; {problem.fix}"
    return "".join(letter for letter in text[:300] if letter.isprintable())


class _Problem(msgspec.Struct, frozen=True):
    code: str
    detail: str = ""
    fix: str = ""
